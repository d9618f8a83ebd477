//! Workers: what wakes them, what they say and show, and what they notice without a restart.

use std::time::Duration;

use btc_ingest_kit::fixture::BUCKET;
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::wait::{wait_for, wait_until};
use btc_ingest_kit::{Fault, FaultProxy, When};
use postgres::fallible_iterator::FallibleIterator;

use crate::queue_fixture::{QueueFixture, SOON, Slice, TICKS, bucket, register, s3, text, try_register};

/// The scheduler looks for gaps once a minute at least.
const LATER: Duration = Duration::from_secs(90);

#[test]
fn a_row_of_the_documented_columns_alone_is_loaded_at_its_commit() {
    let mut queue = QueueFixture::new();
    // One after the other: the second finds all workers asleep.
    for n in 0..3 {
        let slice = queue.put("BTCUSDT", n);
        queue.register(&slice);
        queue.wait_loaded(&[slice]);
    }
    let slice = queue.put("BTCUSDT", 3);
    let size = queue.server.s3.client().head("landing", slice.uri.strip_prefix("s3://landing/").unwrap()).unwrap().size;
    queue.run(&format!(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, object_size_bytes, ingested_tick_span, metadata,
                created_at)
         VALUES ('{}', 'BTCUSDT', '{}', {size}, tsrange('2024-08-08 12:15', '2024-08-08 12:20'),
             '{{\"exchange\": \"Binance\"}}', now())",
        slice.bucket, slice.uri
    ));
    queue.wait_loaded(std::slice::from_ref(&slice));
    assert_eq!(queue.state(&slice.uri), "loaded loaded 1");
    let all: Vec<_> = (0..4).map(|n| queue.put("BTCUSDT", n)).collect();
    queue.must_hold(&all);
    assert_eq!(
        queue.number("SELECT count(*) FROM landing.raw_blobs_5m WHERE status = 'loaded' AND loaded_at IS NOT NULL"),
        4
    );
    // Without an option, the key's folder names the exchange.
    let sources = format!("s3:Binance:BTCUSDT s3:{}:BTCUSDT", queue.db.name());
    assert_eq!(queue.text("SELECT string_agg(source, ' ' ORDER BY source) FROM ingestion.stream_offsets"), sources);
}

#[test]
fn a_row_that_commits_after_later_ones_is_loaded_at_its_commit() {
    let mut queue = QueueFixture::new();
    let (early, late) = (queue.put("BTCUSDT", 0), queue.put("BTCUSDT", 1));
    let mut slow = queue.session();
    let mut transaction = slow.transaction().unwrap();
    let sql = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ($1::text::timestamptz, $2, $3)";
    transaction.execute(sql, &[&early.bucket, &early.asset, &early.uri]).unwrap();
    queue.register(&late);
    queue.wait_loaded(std::slice::from_ref(&late));
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.objects"), 1);
    transaction.commit().unwrap();
    queue.wait_loaded(std::slice::from_ref(&early));
    queue.must_hold(&[early, late]);
}

#[test]
fn what_was_rolled_back_wakes_no_worker_and_what_was_not_is_loaded() {
    let mut queue = QueueFixture::new();
    let slices: Vec<_> = (0..6).map(|n| queue.put("BTCUSDT", n)).collect();
    let mut producer = queue.session();
    // Rows before a savepoint that is rolled back, after one, and in one that is released.
    for (n, (before, within)) in [("", "ROLLBACK TO s"), ("", "RELEASE s"), ("", "ROLLBACK TO s")].iter().enumerate() {
        let (outer, inner) = (&slices[2 * n], &slices[2 * n + 1]);
        producer.batch_execute(&format!("BEGIN; {before}")).unwrap();
        if n < 2 {
            register(&mut producer, outer);
        }
        producer.batch_execute("SAVEPOINT s").unwrap();
        register(&mut producer, inner);
        producer.batch_execute(within).unwrap();
        if n == 2 {
            register(&mut producer, outer);
        }
        producer.batch_execute("COMMIT").unwrap();
        queue.wait_loaded(std::slice::from_ref(outer));
    }
    // The same session, after a transaction that was rolled back.
    producer.batch_execute("BEGIN").unwrap();
    register(&mut producer, &slices[1]);
    producer.batch_execute("ROLLBACK").unwrap();
    register(&mut producer, &slices[5]);
    let kept = [0, 2, 3, 4, 5].map(|n| slices[n].clone());
    queue.wait_loaded(&kept);
    queue.must_hold(&kept);
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.objects"), 5);
}

#[test]
fn a_listening_session_hears_asset_bucket_and_rows_of_every_slice() {
    let mut queue = QueueFixture::new();
    let mut listener = queue.session();
    listener.batch_execute("LISTEN btc_ingest_loaded").unwrap();
    queue.register_slices("BTCUSDT", 0..1);
    queue.register_slices("ETHUSDT", 7..8);
    let mut heard: Vec<String> = listener
        .notifications()
        .timeout_iter(SOON)
        .take(2)
        .map(|notification| Ok(notification.payload().to_owned()))
        .collect()
        .unwrap();
    heard.sort();
    let said = |asset, n| format!(r#"{{"asset" : "{asset}", "bucket" : "{}", "rows" : {TICKS}}}"#, bucket(n));
    assert_eq!(heard, [said("BTCUSDT", 0), said("ETHUSDT", 7)]);
}

#[test]
fn listeners_are_told_of_new_gaps_without_a_call() {
    let mut queue = QueueFixture::new();
    let mut listener = queue.session();
    listener.batch_execute("LISTEN btc_ingest_gaps").unwrap();
    let slices = [queue.register_slices("BTCUSDT", 0..1), queue.register_slices("BTCUSDT", 2..3)].concat();
    queue.wait_loaded(&slices);
    // A new scheduler looks for gaps at once, the old one once a minute.
    queue.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'btc_ingest scheduler'");
    let told = listener.notifications().timeout_iter(LATER).next().unwrap().expect("a notification");
    assert_eq!(told.payload(), format!(r#"{{"asset" : "BTCUSDT", "gaps" : 1, "missing" : {TICKS}}}"#));
}

#[test]
fn every_load_is_one_line_of_the_log_unless_that_is_off() {
    let mut queue = QueueFixture::new();
    let poisoned = queue.put_bytes("poisoned.parquet", "no parquet, ".repeat(100));
    let slices = queue.register_slices("BTCUSDT", 0..2);
    queue.register_uri(&poisoned, "BTCUSDT", 9);
    queue.wait_loaded(&slices);
    queue.wait_status(&poisoned, "quarantined");
    for (uri, word) in
        [(&slices[0].uri, "loaded: 20 rows"), (&slices[1].uri, "loaded: 20 rows"), (&poisoned, "quarantined")]
    {
        let log = queue.db.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains(&format!("btc_ingest: {uri} "))).collect();
        assert_eq!(lines.len(), 1, "{uri}: {lines:#?}");
        assert!(lines[0].contains("LOG:  ") && lines[0].contains(word), "{}", lines[0]);
    }
    drop(queue);

    let mut queue = QueueFixture::with(&[("log_loads", "off")]);
    let slices = queue.register_slices("BTCUSDT", 0..1);
    let poisoned = queue.put_bytes("poisoned.parquet", "no parquet, ".repeat(100));
    queue.register_uri(&poisoned, "BTCUSDT", 9);
    queue.wait_loaded(&slices);
    queue.wait_status(&poisoned, "quarantined");
    assert_eq!(queue.db.log().matches(&format!("s3://landing/{}/", queue.db.name())).count(), 0);
}

#[test]
fn pg_stat_activity_shows_every_worker_and_what_it_loads() {
    let proxy = FaultProxy::before(s3());
    proxy.on(When::get(), Fault::Hang);
    let mut queue = QueueFixture::through(&proxy, &[]);
    let slice = queue.register_slices("BTCUSDT", 0..1).remove(0);
    queue.loader_of(&slice.uri);
    let all = "SELECT string_agg(DISTINCT concat_ws(' in ', backend_type, CASE
                 WHEN datname = current_database() THEN 'here' ELSE datname END), ', ')
                 FROM pg_stat_activity WHERE backend_type LIKE 'btc_ingest%'";
    assert_eq!(queue.text(all), "btc_ingest launcher, btc_ingest loader in here, btc_ingest scheduler in here");
    assert_eq!(
        queue.text("SELECT string_agg(DISTINCT regexp_replace(role, '\\d', 'N'), ', ') FROM btc_ingest.workers()"),
        "loader N, scheduler"
    );
    proxy.release();
    queue.wait_loaded(&[slice]);
    queue.wait_for(
        "idle loaders",
        "SELECT bool_and(state = 'idle' AND query = '') FROM pg_stat_activity WHERE backend_type = 'btc_ingest loader'",
    );
}

#[test]
fn an_extension_that_is_created_dropped_and_created_again_is_noticed() {
    let mut queue = QueueFixture::bare(&[]);
    queue.wait_for(
        "a scheduler",
        "EXISTS (SELECT FROM pg_stat_activity
          WHERE backend_type = 'btc_ingest scheduler' AND datname = current_database())",
    );
    // No worker polls: CREATE EXTENSION itself wakes the scheduler.
    let name = queue.db.name().to_owned();
    queue.server.cluster.install_extension(&name);
    let first = queue.register_slices("BTCUSDT", 0..1);
    queue.wait_loaded(&first);

    queue.set(&[("poll_interval", "100ms")]);
    queue.run("DROP EXTENSION btc_ingest");
    queue.wait_for("no loader", "NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'btc_ingest loader')");
    // One that has waited too long for the locks of DROP EXTENSION is started again.
    wait_until("a scheduler", SOON, || queue.pids("scheduler").len() == 1);
    let second = queue.register_slices("BTCUSDT", 1..2);
    queue.server.cluster.install_extension(&name);
    queue.wait_loaded(&second);
    queue.must_hold(&[first, second].concat());
}

#[test]
fn the_number_of_loaders_follows_the_setting_without_a_restart() {
    let proxy = FaultProxy::before(s3());
    proxy.on(When::get(), Fault::Hang);
    let mut queue = QueueFixture::through(&proxy, &[("workers", "1")]);
    let slices = queue.register_slices("BTCUSDT", 0..8);
    wait_until("one load", SOON, || proxy.stalled() > 0);
    assert_eq!(queue.pids("loader").len(), 1);
    queue.set(&[("workers", "3")]);
    wait_until("three loaders", SOON, || queue.pids("loader").len() == 3);
    queue.wait_for(
        "three loads",
        "SELECT count(*) = 3 FROM pg_stat_activity WHERE backend_type = 'btc_ingest loader' AND state = 'active'",
    );
    proxy.release();
    queue.wait_loaded(&slices);
    queue.set(&[("workers", "0")]);
    wait_until("no loader", SOON, || queue.pids("loader").is_empty());
    assert_eq!(queue.pids("scheduler").len(), 1);
    let more = queue.register_slices("BTCUSDT", 8..9);
    queue.set(&[("workers", "2")]);
    queue.wait_loaded(&more);
    queue.must_hold(&[slices, more].concat());
}

#[test]
fn the_queue_is_worked_off_from_the_end_that_the_setting_says() {
    let mut queue = QueueFixture::with(&[("workers", "1")]);
    let mut all = Vec::new();
    for (order, buckets, wanted) in [("oldest", 0..5, "0 1 2 3 4"), ("newest", 5..10, "9 8 7 6 5")] {
        queue.run("SELECT btc_ingest.pause_ingest()");
        queue.set(&[("queue_order", order)]);
        // Registered in neither order.
        let mut slices: Vec<_> = buckets.map(|n| queue.put("BTCUSDT", n)).collect();
        slices.swap(0, 3);
        slices.iter().for_each(|slice| queue.register(slice));
        queue.run("SELECT btc_ingest.resume_ingest()");
        queue.wait_loaded(&slices);
        let uris = slices.iter().map(|slice| format!("'{}'", slice.uri)).collect::<Vec<_>>().join(", ");
        let found = queue.text(&format!(
            "SELECT string_agg((substring(s3_uri FROM '(\\d+)\\.parquet'))::int::text, ' ' ORDER BY id)
               FROM ingestion.load_history WHERE s3_uri IN ({uris})"
        ));
        assert_eq!(found, wanted, "{order}");
        all.extend(slices);
    }
    queue.must_hold(&all);
}

#[test]
fn workers_move_to_the_database_that_the_setting_names() {
    let mut queue = QueueFixture::new();
    let first = queue.register_slices("BTCUSDT", 0..1);
    queue.wait_loaded(&first);
    let other = btc_ingest_kit::TestDb::with_extension(&queue.server.cluster);
    queue.set(&[("database", other.name())]);
    wait_until("the workers to end", SOON, || queue.pids("loader").is_empty() && queue.pids("scheduler").is_empty());
    let mut there = other.client();
    let moved = queue.put("BTCUSDT", 1);
    register(&mut there, &moved);
    wait_for("the other database", SOON, || {
        Some(text(&mut there, "SELECT count(*)::text FROM market_data.btc_ticks"))
            .filter(|ticks| *ticks == TICKS.to_string())
    });
    // No database, and back again: the workers wait for a database that does not exist yet.
    queue.set(&[("database", "")]);
    queue.wait_for(
        "no worker but the launcher",
        "SELECT string_agg(backend_type, ' ') = 'btc_ingest launcher'
                                                 FROM pg_stat_activity WHERE backend_type LIKE 'btc_ingest%'",
    );
    let second = queue.register_slices("BTCUSDT", 1..2);
    let name = queue.db.name().to_owned();
    queue.set(&[("database", "nowhere")]);
    wait_until("the log", SOON, || queue.db.log().contains("there is no database \"nowhere\" (btc_ingest.database)"));
    queue.set(&[("database", &name)]);
    queue.wait_loaded(&second);
    queue.must_hold(&[first, second].concat());
}

#[test]
fn a_pause_holds_for_all_workers_and_ends_with_resume() {
    let mut queue = QueueFixture::with(&[("poll_interval", "100ms")]);
    let first = queue.register_slices("BTCUSDT", 0..1);
    queue.wait_loaded(&first);
    queue.run("SELECT btc_ingest.pause_ingest()");
    let second = queue.register_slices("BTCUSDT", 1..5);
    queue.wait_looked();
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.objects"), 1);
    // A pause is not an end.
    assert_eq!(queue.pids("scheduler").len(), 1);
    queue.set(&[("poll_interval", "1h")]);
    queue.run("SELECT btc_ingest.resume_ingest()");
    queue.wait_loaded(&second);
    queue.must_hold(&[first, second].concat());
}

#[test]
fn tables_and_sql_that_do_not_fit_the_library_are_one_line_of_the_log() {
    let mut queue = QueueFixture::with(&[("poll_interval", "100ms")]);
    let version = queue.number("SELECT version::bigint FROM ingestion.schema_version");
    queue.run("UPDATE ingestion.schema_version SET version = version - 1");
    wait_until("the line", SOON, || queue.db.log().contains("btc_ingest loads nothing: "));
    let slices = queue.register_slices("BTCUSDT", 0..1);
    let looks = "SELECT max(state_change)::text FROM pg_stat_activity WHERE backend_type = 'btc_ingest scheduler'";
    for _ in 0..3 {
        let before = queue.text(looks);
        wait_until("the scheduler to look", SOON, || queue.text(looks) > before);
    }
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.objects"), 0);
    let log = queue.db.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("loads nothing")).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("TK011") && lines[0].contains("btc_ingest.migrate()"), "{lines:#?}");
    queue.run("SELECT btc_ingest.migrate()");
    queue.wait_loaded(&slices);
    assert_eq!(queue.number("SELECT version::bigint FROM ingestion.schema_version"), version);

    // SQL of another version than the library's.
    let own = queue.text("SELECT extversion FROM pg_extension WHERE extname = 'btc_ingest'");
    queue.run("UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'btc_ingest'");
    wait_until("the other line", SOON, || {
        queue.db.log().contains("the installed SQL 0.0.1: ALTER EXTENSION btc_ingest UPDATE")
    });
    let more = queue.register_slices("BTCUSDT", 1..2);
    queue.run(&format!("UPDATE pg_extension SET extversion = '{own}' WHERE extname = 'btc_ingest'"));
    queue.wait_loaded(&more);
    assert_eq!(queue.db.log().matches("loads nothing").count(), 2);
    queue.must_hold(&[slices, more].concat());
}

#[test]
fn slices_flow_on_while_timescaledb_is_updated_under_the_workers() {
    let mut queue = QueueFixture::bare(&[]);
    let older = queue.text(
        "SELECT coalesce(min(v.version), '') FROM pg_available_extension_versions v
           JOIN pg_available_extensions e USING (name)
          WHERE name = 'timescaledb' AND version <> default_version
            AND EXISTS (SELECT FROM pg_extension_update_paths('timescaledb') p
                         WHERE p.source = v.version AND p.target = e.default_version AND p.path IS NOT NULL)",
    );
    if older.is_empty() {
        println!("skipped: needs an older version of timescaledb beside the installed one");
        return;
    }
    // A session keeps one version of TimescaleDB's library until it ends.
    let script = |queue: &QueueFixture, sql: &str| queue.db.psql(sql).unwrap();
    script(&queue, &format!("CREATE EXTENSION timescaledb VERSION '{older}'; CREATE EXTENSION btc_ingest CASCADE;"));
    queue.client = queue.session();
    let mut all = queue.register_slices("BTCUSDT", 0..3);
    queue.wait_loaded(&all);
    let before = queue.pids("loader");
    // Some are registered before, some after, and the workers load all the time.
    let coming: Vec<_> = (3..60).map(|n| queue.put("BTCUSDT", n)).collect();
    let connection = queue.db.connection_string();
    let producer = std::thread::spawn({
        let coming = coming.clone();
        // TimescaleDB ends sessions that meet the update; a producer tries again.
        move || {
            coming.iter().for_each(|slice| wait_until("a producer's row", SOON, || try_register(&connection, slice)))
        }
    });
    queue.wait_loaded(&coming[..5]);
    script(&queue, "ALTER EXTENSION timescaledb UPDATE");
    producer.join().unwrap();
    queue.client = queue.session();
    queue.wait_loaded(&coming);
    let now = "SELECT extversion = default_version FROM pg_extension JOIN pg_available_extensions ON name = extname
                WHERE extname = 'timescaledb'";
    assert_eq!(queue.text(&format!("SELECT ({now})::text")), "true");
    let after = queue.pids("loader");
    assert!(!after.is_empty() && after.iter().all(|pid| !before.contains(pid)), "{before:?} {after:?}");
    all.extend(coming);
    queue.must_hold(&all);
    assert_eq!(queue.text("SELECT string_agg(DISTINCT status, ' ') FROM ingestion.objects"), "loaded");
}

#[test]
fn a_scheduler_that_is_woken_again_and_again_starts_each_worker_of_a_backfill_once() {
    let proxy = FaultProxy::before(s3());
    let hanging = proxy.on(When::list(), Fault::Hang);
    let mut queue = QueueFixture::through(&proxy, &[("max_backfill_workers", "8")]);
    // At this level the postmaster logs which process it starts.
    queue.run("ALTER SYSTEM SET log_min_messages = 'debug1'");
    queue.set(&[("max_backfill_workers", "8")]);
    let slices: Vec<Slice> = (0..8).map(|n| queue.put("BTCUSDT", n)).collect();
    let prefix = format!("s3://{BUCKET}/{}/", queue.db.name());
    queue.run(&format!("SELECT btc_ingest_internal.start_backfill(ARRAY['{prefix}'], NULL, NULL, 8, 'object')"));
    for _ in 0..300 {
        queue.run("SELECT btc_ingest_internal.wake_workers()");
    }
    queue.wait_for(
        "its workers",
        "SELECT count(*) = 8 FROM pg_stat_activity
                                    WHERE backend_type = 'btc_ingest backfill' AND datname = current_database()",
    );
    proxy.remove(hanging);
    proxy.release();
    queue.wait_loaded(&slices);
    queue.must_hold(&slices);
    let started = queue.db.log().matches("starting background worker process \"btc_ingest backfill 1 worker").count();
    assert_eq!(started, 8);
}
