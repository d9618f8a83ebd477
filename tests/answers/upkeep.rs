//! The index on vectors that a worker makes anew.

use btc_ingest_kit::ServerFixture;
use btc_ingest_kit::fixture::backfill::{BackfillFixture, owned_by};
use btc_ingest_kit::fixture::{Refusal, cluster_of, server};
use btc_ingest_kit::sql::{Session, execute, wait_until_true};
use btc_ingest_kit::wait::{SOON, wait_until};
use postgres::Client;

/// The indexes on vectors, with what is stored of them.
const INDEXES: &str = "SELECT concat_ws('|', i.relname, x.indisvalid, array_to_string(i.reloptions, ','),
                              obj_description(i.oid, 'pg_class'))
                         FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
                        WHERE x.indrelid = 'signals.btc_embeddings'::regclass AND i.relname NOT LIKE '%pkey'
                        ORDER BY 1";
const NOTE: &str = "made by rebuild_embedding_index() over 0 vectors";
const DOCTOR: &str = "SELECT string_agg(detail || coalesce(hint, ''), E'\\n') FROM btc_ingest.doctor()
                       WHERE name = 'windows'";
const PROCESS: &str = "SELECT FROM pg_stat_activity WHERE backend_type = 'btc_ingest index upkeep'";
const WAITS: &str = "EXISTS (SELECT FROM pg_stat_progress_create_index
                              WHERE command = 'CREATE INDEX CONCURRENTLY' AND phase LIKE 'waiting for writers%')";

/// Makes a database that workers serve, in a cluster of its own. Its vectors have three numbers.
fn with_workers() -> BackfillFixture {
    let s3 = server();
    let cluster = cluster_of(&s3.endpoint()).preload("btc_ingest").start();
    // Lives until this process ends, as the shared one does.
    let server: &'static ServerFixture = Box::leak(Box::new(ServerFixture { cluster, s3 }));
    let mut fixture = BackfillFixture::of(server);
    let name = fixture.db.name().to_owned();
    fixture.run("SELECT btc_ingest.set_embedding_dimensions(3, discard => true)");
    fixture.run(&format!("ALTER SYSTEM SET btc_ingest.database = '{name}'"));
    fixture.run("ALTER SYSTEM SET btc_ingest.poll_interval = '300ms'");
    fixture.run("SELECT pg_reload_conf()");
    fixture
}

/// Stores so many vectors that the index is outgrown.
fn outgrow(fixture: &mut BackfillFixture) {
    fixture.run(
        "INSERT INTO signals.btc_embeddings (bucket, exchange, asset, feature_vector, feature_version)
         SELECT '2024-08-08Z'::timestamptz + n * interval '5 minutes', 'x', 'BTCUSDT',
                ARRAY[random(), random(), random()]::real[]::vector, 'mine 1' FROM generate_series(1, 10500) AS n",
    );
    fixture.run("ANALYZE signals.btc_embeddings");
}

/// Stores one vector more.
fn insert(client: &mut Client, asset: &str, first: i32) {
    execute(
        client,
        &format!(
            "INSERT INTO signals.btc_embeddings (bucket, exchange, asset, feature_vector, feature_version)
             VALUES ('2024-08-08Z', 'x', '{asset}', '[{first},0,0]', 'mine 1')"
        ),
    );
}

/// Waits until the scheduler has done all of its work twice.
fn wait_for_turns(fixture: &mut BackfillFixture) {
    for _ in 0..2 {
        let now = fixture.text("SELECT clock_timestamp()::text");
        let turned = format!(
            "EXISTS (SELECT FROM pg_stat_activity
                      WHERE backend_type = 'btc_ingest scheduler' AND state_change > '{now}')"
        );
        wait_until_true(&mut fixture.client, "a turn of the scheduler", &turned);
    }
}

/// Turns the upkeep on. If it was on, the next look comes at once.
fn turn_on(fixture: &mut BackfillFixture) {
    fixture.run("ALTER SYSTEM SET btc_ingest.embedding_index_upkeep = off");
    fixture.run("SELECT pg_reload_conf()");
    wait_for_turns(fixture);
    fixture.run("ALTER SYSTEM SET btc_ingest.embedding_index_upkeep = on");
    fixture.run("SELECT pg_reload_conf()");
}

/// Waits until the worker has ended and there is only the new index.
#[track_caller]
fn wait_for_the_index(fixture: &mut BackfillFixture, name: &str) {
    let wanted = [format!("{name}|t|lists=21|made by embedding_index_upkeep over 10500 vectors")];
    wait_until("the index", SOON, || {
        fixture.texts(INDEXES) == wanted && fixture.text(&format!("SELECT (NOT EXISTS ({PROCESS}))::text")) == "true"
    });
}

#[test]
fn a_worker_makes_an_outgrown_index_anew_while_vectors_are_written() {
    let mut fixture = with_workers();
    fixture.run("ALTER INDEX signals.btc_embeddings_feature_vector_idx RENAME TO \"My index\"");
    outgrow(&mut fixture);
    let old = [format!("My index|t|lists=10|{NOTE}")];
    wait_for_turns(&mut fixture);
    assert_eq!(fixture.texts(INDEXES), old, "the setting is off");
    let told = fixture.text(DOCTOR);
    assert!(told.contains("made over 0 vectors, and there are 10500 now"), "{told}");

    // The build waits for this one, and no other session waits for the build.
    let mut writer = fixture.db.client();
    execute(&mut writer, "BEGIN");
    insert(&mut writer, "EARLY", 11);
    turn_on(&mut fixture);
    wait_until_true(&mut fixture.client, "a build that waits", WAITS);
    let mut other = fixture.db.client();
    execute(&mut other, "SET statement_timeout = '10s'");
    insert(&mut other, "LATE", 12);
    execute(&mut other, "UPDATE signals.btc_embeddings SET feature_vector = '[13,0,0]' WHERE asset = 'LATE'");
    execute(&mut other, "SELECT btc_ingest.similar_to('{1,1,1}', version => 'mine 1')");
    let told = fixture.text(DOCTOR);
    assert!(told.contains("A worker makes it anew") && !told.contains("was ended"), "{told}");
    let error = other.batch_execute("SELECT btc_ingest.rebuild_embedding_index()").unwrap_err();
    assert_eq!(Refusal::from(error).sqlstate, "TK058", "by hand at the same time");
    execute(&mut writer, "COMMIT");

    wait_for_the_index(&mut fixture, "My index");
    let told = fixture.text(DOCTOR);
    assert_eq!(told, "10502 vectors with an ivfflat index");
    fixture.run("SET enable_seqscan = off; SET ivfflat.probes = 21");
    let nearest = "SELECT asset FROM signals.btc_embeddings ORDER BY feature_vector <-> '[14,0,0]' LIMIT 2";
    assert!(fixture.texts(&format!("EXPLAIN {nearest}")).concat().contains("My index"));
    assert_eq!(fixture.texts(nearest), ["LATE", "EARLY"], "what was written meanwhile is in the index");
    assert!(fixture.db.log().contains("the index on vectors was made anew: ivfflat with 21 lists over 10500 vectors"));
}

#[test]
fn what_an_ended_attempt_has_left_is_dropped_by_the_next_one() {
    const NAME: &str = "btc_embeddings_feature_vector_idx";
    let mut fixture = with_workers();
    fixture.run(&owned_by("upkeep_owner"));
    outgrow(&mut fixture);
    turn_on(&mut fixture);
    wait_for_turns(&mut fixture);
    assert_eq!(fixture.texts(INDEXES), [format!("{NAME}|t|lists=10|{NOTE}")], "the owner may not log in");
    let told = fixture.text(DOCTOR);
    assert!(told.contains("ALTER ROLE upkeep_owner LOGIN;"), "{told}");
    fixture.run("ALTER ROLE upkeep_owner LOGIN");

    let mut writer = fixture.db.client();
    for (end, what) in [("pg_cancel_backend", "canceling statement"), ("pg_terminate_backend", "")] {
        execute(&mut writer, "BEGIN");
        insert(&mut writer, "OTHER", 11);
        turn_on(&mut fixture);
        if end == "pg_cancel_backend" {
            wait_until_true(&mut fixture.client, "a build that waits", WAITS);
        } else {
            // The drop of what is left waits for the same session.
            let waits = format!("EXISTS ({PROCESS} AND wait_event = 'virtualxid')");
            wait_until_true(&mut fixture.client, "a drop that waits", &waits);
        }
        let roles = PROCESS.replace("SELECT", "SELECT usename::text");
        assert_eq!(fixture.texts(&roles), ["upkeep_owner"], "no superuser");
        fixture.run(&PROCESS.replace("SELECT", &format!("SELECT {end}(pid)")));
        wait_until_true(&mut fixture.client, "its end", &format!("NOT EXISTS ({PROCESS})"));
        execute(&mut writer, "ROLLBACK");
        let left = fixture.texts(INDEXES);
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left[1].starts_with("btc_embeddings_upkeep_new|f|"), "{left:?}");
        let told = fixture.text(DOCTOR);
        assert!(told.contains("has left btc_embeddings_upkeep_new"), "{told}");
        let told = "SELECT detail FROM btc_ingest.doctor() WHERE name = 'last error of a worker'";
        assert!(fixture.text(told).contains(what));
    }
    let logged = fixture.db.log().matches("the index on vectors was not made anew: canceling").count();
    assert_eq!(logged, 1);

    turn_on(&mut fixture);
    wait_for_the_index(&mut fixture, NAME);
    assert_eq!(fixture.text(DOCTOR), "10500 vectors with an ivfflat index");
    let of_index = format!("SELECT concat_ws(' ', oid, relowner::regrole) FROM pg_class WHERE relname = '{NAME}'");
    let made = fixture.text(&of_index);
    assert!(made.ends_with(" upkeep_owner"), "{made}");

    // An attempt that was ended after its index had taken the place of the earlier one.
    fixture.run("CREATE INDEX btc_embeddings_upkeep_old ON signals.btc_embeddings USING ivfflat (feature_vector)");
    turn_on(&mut fixture);
    wait_for_the_index(&mut fixture, NAME);
    assert_eq!(fixture.text(&of_index), made, "it was not due");
}
