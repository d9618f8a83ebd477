//! Commands about objects, views of them, and the roles that may use them.

use btc_ingest_kit::fixture::called::say;
use btc_ingest_kit::fixture::{Refusal, Report, load};
use btc_ingest_kit::rows::{must_hold, ticks_of};
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::{Fault, FaultProxy, Generator, ParquetFile, When};
use postgres::Client;

use crate::queue_fixture::{QueueFixture, SOON, Slice, TICKS, bucket, s3, text};

/// Runs a command and returns `object was became` of each object, without the common start of the uris.
#[track_caller]
fn said(queue: &mut QueueFixture, call: &str) -> String {
    let sql = format!(
        "SELECT coalesce(string_agg(concat_ws(' ', regexp_replace(object, '.*/', ''), was, became), ', '), '')
           FROM btc_ingest.{call}"
    );
    queue.text(&sql)
}

/// Returns the error of a statement that must fail.
#[track_caller]
fn refused(client: &mut Client, sql: &str) -> Refusal {
    Refusal::from(client.batch_execute(sql).expect_err(sql))
}

/// Registers five objects that S3 answers with a permanent error, in the buckets 0 to 4.
fn quarantined(proxy: &FaultProxy) -> (QueueFixture, Vec<Slice>) {
    proxy.on(When::any().key("USDT"), Fault::access_denied());
    let mut queue = QueueFixture::through(proxy, &[]);
    let mut slices = queue.register_slices("BTCUSDT", 0..3);
    slices.extend(queue.register_slices("ETHUSDT", 3..5));
    for slice in &slices {
        queue.wait_status(&slice.uri, "quarantined");
    }
    proxy.clear();
    (queue, slices)
}

#[test]
fn retry_takes_what_uri_asset_bucket_or_age_name_and_says_what_it_changed() {
    let proxy = FaultProxy::before(s3());
    let (mut queue, slices) = quarantined(&proxy);
    let uri = &slices[0].uri;
    assert_eq!(said(&mut queue, &format!("retry('{uri}')")), "00000.parquet quarantined pending");
    queue.wait_loaded(&slices[..1]);
    assert_eq!(queue.state(uri), "loaded loaded 1");
    assert_eq!(queue.history(uri), "quarantined S3005, loaded");
    // An object that is loaded is not retried.
    assert_eq!(said(&mut queue, &format!("retry('{uri}')")), "");
    assert_eq!(said(&mut queue, &format!("retry(asset => 'BTCUSDT', bucket_5m => '{}')", bucket(4))), "");
    // Any time within the bucket names it.
    let time = bucket(1).replace(":05:00Z", ":07:30Z");
    assert_eq!(
        said(&mut queue, &format!("retry(asset => 'BTCUSDT', bucket_5m => '{time}')")),
        "00001.parquet quarantined pending"
    );
    assert_eq!(
        said(&mut queue, "retry(asset => 'ETHUSDT')"),
        "00003.parquet quarantined pending, 00004.parquet quarantined pending"
    );
    assert_eq!(said(&mut queue, "retry(older_than => '1 hour')"), "");
    assert_eq!(said(&mut queue, "retry(older_than => '0')"), "00002.parquet quarantined pending");
    queue.wait_loaded(&slices);
    queue.must_hold(&slices);
}

#[test]
fn commands_that_name_nothing_are_refused() {
    let mut queue = QueueFixture::new();
    for call in [
        "retry()",
        "skip()",
        "skip(reason => 'all of it')",
        "retry(bucket_5m => '2024-08-08 12:00+00')",
        "skip(bucket_5m => '2024-08-08 12:00+00')",
    ] {
        let refusal = refused(&mut queue.client, &format!("SELECT * FROM btc_ingest.{call}"));
        assert_eq!(refusal.sqlstate, "TK002", "{call}: {refusal:?}");
    }
    assert_eq!(said(&mut queue, "requeue_failed()"), "");
    assert_eq!(said(&mut queue, "retry('s3://landing/not-registered.parquet')"), "");
}

#[test]
fn what_is_skipped_stays_so_until_retry_or_its_producer_says_otherwise() {
    let proxy = FaultProxy::before(s3());
    let (mut queue, slices) = quarantined(&proxy);
    let skip = format!("skip('{}', 'delisted')", slices[0].uri);
    assert_eq!(said(&mut queue, &skip), "00000.parquet quarantined skipped");
    assert_eq!(
        said(&mut queue, "skip(asset => 'ETHUSDT')"),
        "00003.parquet quarantined skipped, 00004.parquet quarantined skipped"
    );
    assert_eq!(queue.state(&slices[0].uri), "skipped skipped 1");
    let words = "SELECT string_agg(concat_ws(' ', regexp_replace(uri, '.*/', ''), message), ', ' ORDER BY uri)
                   FROM btc_ingest.failures WHERE status = 'skipped'";
    assert_eq!(
        queue.text(words),
        "00000.parquet delisted, 00003.parquet skipped by hand, 00004.parquet skipped by hand"
    );
    // requeue_failed() puts back only what failed.
    assert_eq!(said(&mut queue, "requeue_failed('1 hour')"), "");
    assert_eq!(
        said(&mut queue, "requeue_failed()"),
        "00001.parquet quarantined pending, 00002.parquet quarantined pending"
    );
    queue.wait_loaded(&slices[1..3]);
    assert_eq!(said(&mut queue, &format!("retry('{}')", slices[3].uri)), "00003.parquet skipped pending");
    queue.wait_loaded(&slices[3..4]);
    queue.run(&format!(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ('{}', 'BTCUSDT', '{}')
         ON CONFLICT (bucket_5m, asset) DO UPDATE SET s3_uri = excluded.s3_uri",
        slices[0].bucket, slices[0].uri
    ));
    queue.wait_loaded(&slices[..1]);
    assert_eq!(queue.state(&slices[4].uri), "skipped skipped 1");
    queue.must_hold(&slices[..4]);
    // An object that waits can be skipped, too.
    queue.run("SELECT btc_ingest.pause_ingest()");
    let waiting = queue.put("BTCUSDT", 8);
    queue.run(&format!("SELECT * FROM btc_ingest.register_s3_slice('{}', 'BTCUSDT')", waiting.uri));
    assert_eq!(said(&mut queue, &format!("skip('{}')", waiting.uri)), "00008.parquet pending skipped");
    queue.run("SELECT btc_ingest.resume_ingest()");
    let last = queue.register_slices("BTCUSDT", 9..10);
    queue.wait_loaded(&last);
    assert_eq!(queue.state(&waiting.uri), "skipped skipped 0");
}

#[test]
fn a_slice_that_is_reloaded_holds_what_its_objects_hold() {
    let mut queue = QueueFixture::new();
    let slice = queue.register_slices("BTCUSDT", 0..1).remove(0);
    let late = ticks_of("BTCUSDT", 5_000, 4);
    let second = queue.put_bytes("late.parquet", ParquetFile::new().bytes(&late));
    let neighbour = queue.register_slices("BTCUSDT", 1..2).remove(0);
    let other = queue.register_slices("ETHUSDT", 0..1).remove(0);
    queue.wait_loaded(&[slice.clone(), neighbour.clone(), other.clone()]);
    load(&mut queue.client, &second, "").unwrap();
    let all: Vec<_> = [&slice.ticks, &late, &neighbour.ticks, &other.ticks].into_iter().flatten().cloned().collect();
    must_hold(&mut queue.client, &all);

    // A client deletes some ticks, changes one and inserts one.
    queue.run(
        "DELETE FROM market_data.btc_ticks WHERE symbol = 'BTCUSDT' AND trade_id BETWEEN 3 AND 6;
         UPDATE market_data.btc_ticks SET price = 1 WHERE symbol = 'BTCUSDT' AND trade_id = 5001;
         INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id, price, quantity)
             VALUES ('2024-08-08 12:00+00', '2024-08-08 12:00+00', 'BTCUSDT', 999, 1, 1)",
    );
    let call = format!("SELECT * FROM btc_ingest.reload_slice('BTCUSDT', '{}')", bucket(0));
    let before = text(&mut queue.client, "SELECT count(*)::text FROM market_data.btc_ticks");
    queue.run(&format!("BEGIN; {call}; ROLLBACK"));
    assert_eq!(text(&mut queue.client, "SELECT count(*)::text FROM market_data.btc_ticks"), before);
    let reports: Vec<Report> = queue.client.query(&call, &[]).unwrap().into_iter().map(Report::from).collect();
    let found: Vec<_> =
        reports.iter().map(|report| (report.uri.clone(), report.inserted, report.outcome.clone())).collect();
    assert_eq!(found, [(slice.uri.clone(), TICKS as i64, "loaded".to_owned()), (second, 4, "loaded".to_owned())]);
    must_hold(&mut queue.client, &all);
    queue.must_hold_no_claims();

    let refusal =
        refused(&mut queue.client, &format!("SELECT * FROM btc_ingest.reload_slice('BTCUSDT', '{}')", bucket(50)));
    assert!(refusal.sqlstate == "TK002" && refusal.message.contains("nothing was deleted"), "{refusal:?}");
    // One object is gone meanwhile: the command changes all objects or none.
    queue.server.s3.delete("landing", slice.uri.strip_prefix("s3://landing/").unwrap());
    assert_eq!(refused(&mut queue.client, &call).sqlstate, "S3004");
    must_hold(&mut queue.client, &all);
}

#[test]
fn queue_and_lag_show_what_waits_and_how_far_each_asset_is() {
    let proxy = FaultProxy::before(s3());
    let mut queue = QueueFixture::through(&proxy, &[("retry_backoff", "1h"), ("retry_backoff_max", "1h")]);
    let done = queue.register_slices("BTCUSDT", 0..2);
    queue.wait_loaded(&done);
    proxy.on(When::get().key("ETHUSDT/00003"), Fault::slow_down());
    let failed = queue.register_slices("ETHUSDT", 3..4).remove(0);
    queue.wait_status(&failed.uri, "failed");
    queue.run("SELECT btc_ingest.pause_ingest()");
    let waiting = queue.register_slices("BTCUSDT", 4..6);
    queue.run(&format!("SELECT * FROM btc_ingest.register_s3_slice('{}', 'BTCUSDT')", waiting[1].uri));
    let rows = "SELECT string_agg(concat_ws(' ', asset, to_char(bucket_5m AT TIME ZONE 'UTC', 'HH24:MI'), status,
                        attempts, last_sqlstate,
                                   next_attempt_at > now() + interval '30 minutes',
                                       waiting BETWEEN '0' AND '1 minute'), ', ' ORDER BY bucket_5m, status)
                   FROM btc_ingest.queue";
    assert_eq!(
        queue.text(rows),
        "ETHUSDT 12:15 failed 1 S3009 t t, BTCUSDT 12:20 registered 0 t, BTCUSDT 12:25 pending 0 t"
    );
    let lag = "SELECT string_agg(concat_ws(' ', asset, to_char(newest_bucket AT TIME ZONE 'UTC', 'HH24:MI'),
                      lag > '1 year', waiting,
                                 to_char(oldest_waiting_bucket AT TIME ZONE 'UTC', 'HH24:MI'),
                                 oldest_waiting < '1 minute'), ', ' ORDER BY asset)
                 FROM btc_ingest.lag";
    assert_eq!(queue.text(lag), "BTCUSDT 12:05 t 2 12:20 t, ETHUSDT 1 12:15 t");
    proxy.clear();
    queue.run("SELECT btc_ingest.resume_ingest(); SELECT btc_ingest.requeue_failed()");
    queue.wait_loaded(&[vec![failed], waiting].concat());
    queue.wait_for("nothing in the queue", "NOT EXISTS (SELECT FROM btc_ingest.queue)");
    assert_eq!(queue.text(lag), "BTCUSDT 12:25 t 0, ETHUSDT 12:15 t 0");
}

#[test]
fn progress_shows_the_rows_of_a_load_before_it_commits() {
    let proxy = FaultProxy::before(s3());
    proxy.on(When::get().key("00000"), Fault::Hang);
    let mut queue = QueueFixture::through(&proxy, &[]);
    let slice = queue.register_slices("BTCUSDT", 0..1).remove(0);
    proxy.wait_until_stalled(SOON);
    let shown = format!(
        "EXISTS (SELECT FROM btc_ingest.progress
          WHERE uri = '{}' AND phase = 'opening' AND rows_done = 0 AND worker LIKE 'loader _' AND running > '0')",
        slice.uri
    );
    queue.wait_for("the load that hangs", &shown);
    proxy.release();
    queue.wait_loaded(&[slice]);

    // Another transaction that is open has a tick of the last batch: the batches before it are stored by then.
    let mut all = Vec::new();
    let mut generator =
        Generator::new(5, "ETHUSDT", btc_ingest_kit::ticks::time_us("2024-08-09T00:00:00Z"), 1).per_second(20.0);
    while all.len() < 40_000 {
        all.extend(generator.next_slice());
    }
    let last = all.last().unwrap().clone();
    let held = queue.put_bytes("held.parquet", ParquetFile::new().bytes(&[last]));
    let mut holder = queue.session();
    holder.batch_execute("BEGIN").unwrap();
    load(&mut holder, &held, "").unwrap();
    let big = queue.put_bytes("big.parquet", ParquetFile::new().bytes(&all));
    queue.register_uri(&big, "ETHUSDT", 200);
    let shown = format!(
        "EXISTS (SELECT FROM btc_ingest.progress
          WHERE uri = '{big}' AND phase = 'storing' AND rows_done BETWEEN 1000 AND {} AND rows_total = {}
              AND size_bytes > 100000 AND worker LIKE 'loader _')",
        all.len() - 1,
        all.len()
    );
    queue.wait_for("rows", &shown);
    assert_eq!(queue.number("SELECT count(*) FROM market_data.btc_ticks WHERE symbol = 'ETHUSDT'"), 0);
    holder.batch_execute("ROLLBACK").unwrap();
    queue.wait_status(&big, "loaded");
    queue.wait_for("nothing in work", "NOT EXISTS (SELECT FROM btc_ingest.progress)");
    assert_eq!(queue.number("SELECT count(*) FROM market_data.btc_ticks WHERE symbol = 'ETHUSDT'"), all.len() as i64);
}

#[test]
fn readers_see_loaders_load_and_only_admins_skip() {
    let proxy = FaultProxy::before(s3());
    let (mut queue, slices) = quarantined(&proxy);
    let database = queue.db.name().to_owned();
    queue.run(
        "CREATE ROLE flow_outsider LOGIN; CREATE ROLE flow_reader LOGIN IN ROLE btc_ingest_reader;
         CREATE ROLE flow_loader LOGIN IN ROLE btc_ingest_loader;
         CREATE ROLE flow_admin LOGIN IN ROLE btc_ingest_admin",
    );
    let uri = &slices[0].uri;
    let views =
        ["queue", "lag", "failures", "progress", "stats"].map(|view| format!("SELECT * FROM btc_ingest.{view}"));
    let loads = [
        format!("SELECT * FROM btc_ingest.retry('{uri}')"),
        "SELECT * FROM btc_ingest.requeue_failed('1 day')".to_owned(),
        "SELECT * FROM btc_ingest.sweep(1)".to_owned(),
        "CALL btc_ingest.run_sweep()".to_owned(),
    ];
    let administers = [
        format!("SELECT * FROM btc_ingest.skip('{}')", slices[4].uri),
        format!("SELECT * FROM btc_ingest.reload_slice('BTCUSDT', '{}')", bucket(0)),
        "SELECT btc_ingest.pause_ingest()".to_owned(),
        "SELECT btc_ingest.resume_ingest()".to_owned(),
    ];
    for (role, may) in [("flow_outsider", 0), ("flow_reader", 1), ("flow_loader", 2), ("flow_admin", 3)] {
        let mut client = queue.db.client_as(role);
        if role == "flow_admin" {
            queue.wait_loaded(&slices[..1]);
        }
        for (level, statements) in [&views[..], &loads[..], &administers[..]].into_iter().enumerate() {
            for sql in statements {
                match client.batch_execute(sql).map_err(Refusal::from) {
                    Ok(()) => assert!(level < may, "{role}: {sql} should be refused"),
                    Err(refusal) => assert!(level >= may && refusal.sqlstate == "42501", "{role}: {sql}: {refusal:?}"),
                }
            }
        }
    }
    queue.run(&format!(
        "REVOKE ALL ON DATABASE {database} FROM flow_outsider, flow_reader, flow_loader, flow_admin;
         DROP ROLE flow_outsider, flow_reader, flow_loader, flow_admin"
    ));
}

#[test]
fn a_command_that_changes_nothing_says_why() {
    let mut queue = QueueFixture::new();
    let slice = queue.register_slices("BTCUSDT", 0..1).remove(0);
    queue.wait_loaded(std::slice::from_ref(&slice));
    let connection = queue.db.connection_string();
    let uri = &slice.uri;
    for (command, severity, what) in [
        (format!("retry('{uri}x')"), "WARNING", format!("no object is known as \"{uri}x\"")),
        (format!("skip('{uri}x')"), "WARNING", format!("no object is known as \"{uri}x\"")),
        (
            format!("retry('{uri}')"),
            "NOTICE",
            format!("{uri} is loaded, and this command changes objects that are failed"),
        ),
        ("retry(asset => 'DOGEUSDT')".to_owned(), "NOTICE", "no object that is failed or quarantined".to_owned()),
        ("requeue_failed()".to_owned(), "NOTICE", "no object that is failed or quarantined fits".to_owned()),
    ] {
        let called = say(&connection, &format!("SELECT * FROM btc_ingest.{command}"));
        assert!(called.refusal.is_none() && called.said.len() == 1, "{command}: {called:?}");
        let (of, message) = &called.said[0];
        assert!(of == severity && message.starts_with("nothing was changed: "), "{command}: {called:?}");
        assert!(message.contains(&what), "{command}: {called:?}");
    }
}

#[test]
fn what_was_not_stored_of_a_loaded_object_is_counted_and_shown() {
    let mut queue = QueueFixture::new();
    let slice = queue.register_slices("BTCUSDT", 0..1).remove(0);
    queue.wait_loaded(std::slice::from_ref(&slice));
    assert_eq!(queue.number("SELECT count(*) FROM btc_ingest.conflicts"), 0);
    // The producer corrects a price, but does not say that the new value is to replace the old one.
    let mut corrected = slice.ticks.clone();
    corrected[3].price += 1;
    queue.put_bytes("BTCUSDT/00000.parquet", ParquetFile::new().bytes(&corrected));
    queue.run("UPDATE landing.raw_blobs_5m SET s3_uri = s3_uri");
    queue.wait_for("the new version", "(SELECT rows_conflicting = 1 AND status = 'loaded' FROM ingestion.objects)");
    let row = "SELECT concat_ws(' ', uri, rows_read, rows_conflicting, rows_rejected, rows_kept, example IS NOT NULL)
                 FROM btc_ingest.conflicts";
    assert_eq!(queue.text(row), format!("{} {TICKS} 1 0 1 t", slice.uri));
    let stats = "SELECT concat_ws(' ', loads, rows_conflicting, rows_replaced, rows_rejected) FROM btc_ingest.stats";
    assert_eq!(queue.text(stats), "2 1 0 0");
}
