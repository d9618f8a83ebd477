//! Units of work: leased once, taken over, published once.

use std::thread;

use btc_ingest_kit::Tick;
use btc_ingest_kit::fixture::Refusal;
use btc_ingest_kit::rows::{but, ticks_of};
use btc_ingest_kit::sql::{Session, execute, number, texts};
use btc_ingest_kit::ticks::PRICE_UNIT;
use postgres::Client;

use crate::work_fixture::{DAY, OTHER, Unit, WorkFixture, lease, staging};

#[track_caller]
fn refused(client: &mut Client, sql: &str, sqlstate: &str) -> Refusal {
    match client.batch_execute(sql) {
        Ok(()) => panic!("{sql} should fail"),
        Err(error) => {
            let refusal = Refusal::from(error);
            assert_eq!(refusal.sqlstate, sqlstate, "{sql}: {refusal:?}");
            refusal
        }
    }
}

fn finish(unit: &Unit) -> String {
    format!("SELECT concat_ws(' ', outcome, slices, candles, vectors) FROM btc_ingest.finish_unit('{}')", unit.token)
}

/// Lets the leases end.
fn expire(fixture: &mut WorkFixture) {
    fixture.run("UPDATE ingestion.work_units SET leased_until = now() - interval '1 second' WHERE state = 'leased'");
}

#[test]
fn a_day_and_asset_is_one_unit_with_its_slices_and_objects() {
    let mut fixture = WorkFixture::with_slices(3);
    let sql = format!(
        "SELECT concat_ws(' ', asset, slices, objects, ticks, bytes > 0, attempt,
                          work -> 'objects' -> 0 -> 'buckets' = (work -> 'buckets') - 2 - 1,
                          work -> 'objects' -> 0 ->> 'etag' = (SELECT etag FROM ingestion.objects
                              WHERE s3_uri = work -> 'objects' -> 0 ->> 'uri'))
           FROM btc_ingest.work_units({DAY})"
    );
    assert_eq!(fixture.texts(&sql), ["BTCUSDT 3 3 15 t 1 t t", "ETHUSDT 1 1 3 t 1 t t"]);
    assert_eq!(fixture.texts(&sql), [""; 0], "nothing is left");
    assert_eq!(fixture.states(), ["BTCUSDT leased 1", "ETHUSDT leased 1"]);
    // By the hour, of one asset, of another kind: units of their own.
    let hours = fixture.lease("'2024-08-08 12:30Z', '2024-08-08 12:31Z', 'hour', 'candles', assets => '{BTCUSDT}'");
    assert_eq!(hours.iter().map(|unit| unit.slices).collect::<Vec<_>>(), [3]);
    assert_eq!(fixture.lease("'2024-08-08 13:00Z', '2024-08-08 14:00Z', 'hour', 'candles'"), []);
}

#[test]
fn a_registered_object_that_is_not_loaded_is_work_and_a_skipped_one_is_not() {
    let mut fixture = WorkFixture::with_slices(1);
    fixture.run(
        r#"INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, object_size_bytes, metadata)
           VALUES ('2024-08-08 13:00Z', 'SOLUSDT', 's3://landing/sol.parquet', 77, '{"rows": 9, "exchange": "x"}'),
                  ('2024-08-08 13:00Z', 'XRPUSDT', 's3://landing/xrp.parquet', 77, NULL);
           UPDATE landing.raw_blobs_5m SET status = 'skipped' WHERE asset = 'XRPUSDT'"#,
    );
    let sql = format!(
        "SELECT concat_ws(' ', asset, slices, ticks, bytes, work -> 'objects' -> 0 ->> 'exchange')
           FROM btc_ingest.work_units({DAY}, assets => '{{SOLUSDT,XRPUSDT}}')"
    );
    assert_eq!(fixture.texts(&sql), ["SOLUSDT 1 9 77 x"]);
}

#[test]
fn calls_at_the_same_time_lease_each_unit_once() {
    let mut fixture = WorkFixture::with_slices(1);
    fixture.run(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri)
         SELECT '2024-01-01Z'::timestamptz + n * interval '1 hour', 'SOLUSDT', 's3://landing/sol/' || n
           FROM generate_series(0, 399) AS n",
    );
    let db = &fixture.inner.db;
    let leased: Vec<i64> = thread::scope(|scope| {
        let call = || {
            let mut client = db.client();
            let args = "'2024-01-01', '2024-02-01', 'hour', most => 7";
            let mut mine = Vec::new();
            loop {
                let units = lease(&mut client, args);
                if units.is_empty() {
                    return mine;
                }
                mine.extend(units.iter().map(|unit| unit.unit));
            }
        };
        let calls: Vec<_> = (0..4).map(|_| scope.spawn(call)).collect();
        calls.into_iter().flat_map(|call| call.join().unwrap()).collect()
    });
    let mut once = leased.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!((once.len(), leased.len()), (400, 400));
}

#[test]
fn what_was_staged_is_published_once() {
    let mut fixture = WorkFixture::with_slices(3);
    let units = fixture.lease(DAY);
    let part = fixture.stage(&units[0]);
    let Unit { token, .. } = &units[0];
    fixture.run(&format!(
        "INSERT INTO ingestion.staged_candles (token, part, minute, open, high, low, close, volume, ticks)
         VALUES ('{token}', '{part}', '2024-08-08 12:00Z', 1, 2, 0.5, 1.5, 10, 5);
         UPDATE ingestion.staged_slices
            SET exchange = 'binance', feature_version = 'numpy 1', missing_ids = 2, first_trade_id = 1,
                feature_vector = ('[1' || repeat(',0', 255) || ']')::vector,
                objects = '[{{\"uri\": \"u\", \"etag\": \"e\"}}]'"
    ));
    assert_eq!(fixture.number("SELECT count(*) FROM ops.slice_digests"), 0);
    assert_eq!(fixture.texts(&finish(&units[0])), ["published 3 1 3"]);
    assert_eq!(fixture.texts(&finish(&units[0])), ["already published 3 1 3"]);
    assert_eq!(fixture.states(), ["BTCUSDT finished 1", "ETHUSDT leased 1"]);
    let published = "SELECT concat_ws(' ', kind, asset, to_char(bucket_5m AT TIME ZONE 'UTC', 'HH24:MI'), ticks,
                            missing_ids, first_trade_id, length(digest), objects -> 0 ->> 'etag', unit = $1)
                       FROM ops.slice_digests ORDER BY bucket_5m"
        .replace("$1", &units[0].unit.to_string());
    let line = |minute: &str| format!("verify BTCUSDT 12:{minute} 5 2 1 32 e t");
    assert_eq!(fixture.texts(&published), [line("00"), line("05"), line("10")]);
    let candle = "SELECT concat_ws(' ', asset, minute AT TIME ZONE 'UTC', open, high, low, close, volume, ticks)
                    FROM ops.slice_candles";
    assert_eq!(fixture.texts(candle), ["BTCUSDT 2024-08-08 12:00:00 1 2 0.5 1.5 10 5"]);
    let vectors = "SELECT concat_ws(' ', asset, exchange, feature_version, ticks) FROM signals.btc_embeddings";
    assert_eq!(fixture.texts(vectors), ["BTCUSDT binance numpy 1 5"; 3]);
    assert_eq!(fixture.number("SELECT count(*) FROM ingestion.staged_slices"), 0);
    assert_eq!(fixture.number("SELECT count(*) FROM ingestion.staged_candles"), 0);
}

#[test]
fn only_the_parts_that_count_are_published() {
    let mut fixture = WorkFixture::with_slices(2);
    let unit = fixture.lease(DAY).remove(0);
    let (first, second) = (fixture.stage(&unit), fixture.stage(&unit));
    fixture.run(&format!(
        "UPDATE ingestion.staged_slices SET digest = '{OTHER}' WHERE part = '{first}';
         INSERT INTO ingestion.staged_candles (token, part, minute) VALUES ('{}', '{first}', '2024-08-08 12:00Z')",
        unit.token
    ));
    let refusal = refused(fixture.client(), &finish(&unit), "TK061");
    assert!(refusal.message.contains("the slice of 2024-08-08 12:00 UTC is staged in 2 parts"), "{refusal:?}");
    let sql = format!(
        "SELECT concat_ws(' ', outcome, slices, candles) FROM btc_ingest.finish_unit('{}', '{{{second}}}')",
        unit.token
    );
    assert_eq!(fixture.texts(&sql), ["published 2 0"]);
    let wrong = format!("SELECT count(*) FROM ops.slice_digests WHERE digest = '{OTHER}'");
    assert_eq!(fixture.number(&wrong), 0);
}

#[test]
fn a_slice_that_is_missing_or_foreign_or_a_candle_without_one_is_refused() {
    let mut fixture = WorkFixture::with_slices(2);
    let unit = fixture.lease(DAY).remove(0);
    let part = fixture.stage(&unit);
    let cases = [
        ("DELETE FROM ingestion.staged_slices WHERE bucket_5m = '2024-08-08 12:05Z'", "12:05 UTC is not staged"),
        (
            "UPDATE ingestion.staged_slices SET bucket_5m = '2024-08-08 12:20Z' WHERE bucket_5m = '2024-08-08 12:05Z'",
            "12:20 UTC is none of its slices",
        ),
        (
            "INSERT INTO ingestion.staged_candles (token, part, minute)
             SELECT token, part, '2024-08-08 12:11Z' FROM ingestion.staged_slices LIMIT 1",
            "the candle of 2024-08-08 12:11 UTC",
        ),
    ];
    for (change, message) in cases {
        let mut transaction = fixture.client().transaction().unwrap();
        transaction.batch_execute(change).unwrap();
        let refusal = Refusal::from(transaction.batch_execute(&finish(&unit)).unwrap_err());
        assert_eq!(refusal.sqlstate, "TK061", "{refusal:?}");
        assert!(refusal.message.contains(message), "{refusal:?}");
    }
    assert_eq!(fixture.number("SELECT count(*) FROM ops.slice_digests"), 0);
    assert_eq!(fixture.texts(&finish(&unit)), ["published 2 0 0"], "{part}");
}

#[test]
fn a_token_that_was_taken_over_stages_and_publishes_nothing() {
    let mut fixture = WorkFixture::with_slices(2);
    let old = fixture.lease(DAY).remove(0);
    fixture.stage(&old);
    // The lease has ended, but no other call has taken the unit over.
    expire(&mut fixture);
    assert_eq!(fixture.states()[0], "BTCUSDT expired 1");
    let new = fixture.lease(DAY).remove(0);
    assert_eq!((new.unit, new.slices), (old.unit, old.slices));
    assert_ne!(new.token, old.token);
    assert_eq!(fixture.states()[0], "BTCUSDT leased 2");
    let refusal = refused(fixture.client(), &finish(&old), "TK060");
    assert!(refusal.message.contains(&old.token) && refusal.hint.contains("work_units()"), "{refusal:?}");
    let stage = staging(&old, "00000000-0000-0000-0000-000000000001", "d.digest");
    assert_eq!(refused(fixture.client(), &stage, "TK060").message, refusal.message);
    refused(fixture.client(), &format!("SELECT btc_ingest.fail_unit('{}', 'late')", old.token), "TK060");
    let extended = format!("SELECT btc_ingest.extend_units('{{{},{}}}')", old.token, new.token);
    assert_eq!(fixture.number(&extended), 1);
    // What the old token has staged is gone, and does not get in the way of the new one.
    assert_eq!(fixture.number("SELECT count(*) FROM ingestion.staged_slices"), 0);
    fixture.stage(&new);
    assert_eq!(fixture.texts(&finish(&new)), ["published 2 0 0"]);
    refused(fixture.client(), &finish(&old), "TK060");
}

#[test]
fn a_lease_that_has_ended_still_publishes_until_it_is_taken_over() {
    let mut fixture = WorkFixture::with_slices(1);
    let unit = fixture.lease(DAY).remove(0);
    fixture.stage(&unit);
    expire(&mut fixture);
    assert_eq!(fixture.texts(&finish(&unit)), ["published 1 0 0"]);
    assert_eq!(fixture.lease(DAY).len(), 1, "only ETHUSDT");
}

#[test]
fn sessions_that_finish_at_the_same_time_publish_once() {
    let mut fixture = WorkFixture::with_slices(2);
    let unit = fixture.lease(DAY).remove(0);
    fixture.stage(&unit);
    let db = &fixture.inner.db;
    let mut outcomes: Vec<String> = thread::scope(|scope| {
        let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| texts(&mut db.client(), &finish(&unit)).remove(0))).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    outcomes.sort();
    let again = "already published 2 0 0";
    assert_eq!(outcomes, [again, again, again, "published 2 0 0"]);
    assert_eq!(fixture.number("SELECT count(*) FROM ops.slice_digests"), 2);
}

#[test]
fn a_unit_that_is_given_back_comes_last_and_not_for_ever() {
    let mut fixture = WorkFixture::with_slices(1);
    let fail = |unit: &Unit| format!("SELECT btc_ingest.fail_unit('{}', 'S3 is down')", unit.token);
    let one = "'2024-08-08', '2024-08-09', most => 1, max_attempts => 2";
    let first = fixture.lease(one).remove(0);
    fixture.run(&fail(&first));
    assert_eq!(fixture.states(), ["BTCUSDT failed 1", "ETHUSDT open 0"]);
    let orders: Vec<String> = (0..2).map(|_| fixture.lease(one).remove(0).asset).collect();
    assert_eq!(orders, ["ETHUSDT", "BTCUSDT"]);
    expire(&mut fixture);
    assert_eq!(fixture.lease(one)[0].asset, "ETHUSDT");
    assert_eq!(fixture.lease(one), [], "BTCUSDT has had its attempts");
    let why = "SELECT last_error FROM btc_ingest.units WHERE asset = 'BTCUSDT'";
    assert_eq!(fixture.text(why), "S3 is down");
    // A new version makes it new.
    fixture.inner.load("b0", &ticks_of("BTCUSDT", 1, 6));
    assert_eq!(fixture.lease(one)[0].asset, "BTCUSDT");
}

#[test]
fn a_finished_unit_is_handed_out_again_when_an_object_changes() {
    let mut fixture = WorkFixture::with_slices(2);
    for unit in fixture.lease(DAY) {
        fixture.stage(&unit);
        fixture.run(&finish(&unit));
    }
    assert_eq!(fixture.lease(DAY), []);
    let changed: Vec<Tick> =
        ticks_of("BTCUSDT", 1, 5).iter().map(|tick| but(tick, |t| t.price += PRICE_UNIT)).collect();
    fixture.run("SET btc_ingest.max_conflict_fraction = 1");
    fixture.inner.load("b0", &changed);
    let again = fixture.lease(DAY);
    assert_eq!(again.iter().map(|unit| unit.asset.as_str()).collect::<Vec<_>>(), ["BTCUSDT"]);
    // While it is leased, the results of before stand; what is published then replaces them.
    assert_eq!(fixture.number("SELECT count(*) FROM ops.slice_digests"), 3);
    fixture.run(&staging(&again[0], "00000000-0000-0000-0000-000000000001", &format!("'{OTHER}'")));
    assert_eq!(fixture.texts(&finish(&again[0])), ["published 2 0 0"]);
    assert_eq!(fixture.number("SELECT count(*) FROM ops.slice_digests"), 3);
    let other = format!("SELECT count(*) FROM ops.slice_digests WHERE digest = '{OTHER}'");
    assert_eq!(fixture.number(&other), 2);
}

#[test]
fn an_archive_is_verified_by_a_join_of_digests() {
    let mut fixture = WorkFixture::with_slices(4);
    let unit = fixture.lease(DAY).remove(0);
    let part = fixture.stage(&unit);
    let verified = "SELECT concat_ws(' ', asset, to_char(bucket_5m AT TIME ZONE 'UTC', 'HH24:MI'), outcome,
                                     object_ticks, table_ticks, problem)
                      FROM btc_ingest.verify_archive('2024-08-08', '2024-08-09')";
    let unproven = "no finished unit has read the slice";
    let before = [
        format!("BTCUSDT 12:00 unproven 5 {unproven}"),
        format!("BTCUSDT 12:05 unproven 5 {unproven}"),
        format!("BTCUSDT 12:10 unproven 5 {unproven}"),
        format!("BTCUSDT 12:15 unproven 5 {unproven}"),
        format!("ETHUSDT 12:00 unproven 3 {unproven}"),
    ];
    assert_eq!(fixture.texts(verified), before);
    fixture.run(&format!(
        "UPDATE ingestion.staged_slices SET digest = '{OTHER}', objects = (SELECT jsonb_agg(jsonb_build_object(
             'uri', s3_uri, 'etag', 'newer')) FROM ingestion.objects WHERE s3_uri LIKE '%b1%')
          WHERE bucket_5m = '2024-08-08 12:05Z';
         UPDATE ingestion.staged_slices SET digest = NULL, ticks = 0, problem = 'it is gone'
          WHERE bucket_5m = '2024-08-08 12:10Z'"
    ));
    assert_eq!(fixture.texts(&finish(&unit)), ["published 4 0 0"], "{part}");
    fixture.run("DELETE FROM market_data.btc_ticks WHERE bucket_5m = '2024-08-08 12:15Z'");
    let found = fixture.texts(verified);
    assert_eq!(found[0], "BTCUSDT 12:00 equal 5 5");
    assert!(found[1].starts_with("BTCUSDT 12:05 different 5 5 s3://") && found[1].contains("etag newer"), "{found:?}");
    assert_eq!(found[2], "BTCUSDT 12:10 unproven 0 5 it is gone");
    assert_eq!(found[3], "BTCUSDT 12:15 not stored 5 0");
    // The digests are those of verify_range().
    let same = "SELECT count(*) FROM btc_ingest.slice_digests('BTCUSDT', '-infinity', 'infinity') d
                  JOIN btc_ingest.verify_range('BTCUSDT', '-infinity', 'infinity') v
                    ON (v.bucket_5m, v.table_digest, v.table_rows, v.table_quantity, v.table_amount)
                       = (d.bucket_5m, d.digest, d.ticks, d.quantity, d.amount)";
    assert_eq!(fixture.number(same), 3);
}

#[test]
fn vectors_of_other_writers_stay() {
    let mut fixture = WorkFixture::with_slices(2);
    fixture.run("SELECT btc_ingest.embed('2024-08-08 12:00Z', '2024-08-08 12:05Z', 'BTCUSDT')");
    let exchange = fixture.text("SELECT exchange FROM signals.btc_embeddings");
    let unit = fixture.lease(DAY).remove(0);
    fixture.stage(&unit);
    fixture.run(&format!(
        "UPDATE ingestion.staged_slices SET exchange = '{exchange}', feature_version = 'numpy 1',
                feature_vector = ('[1' || repeat(',0', 255) || ']')::vector"
    ));
    assert_eq!(fixture.texts(&finish(&unit)), ["published 2 0 1"]);
    let versions = "SELECT feature_version FROM signals.btc_embeddings WHERE asset = 'BTCUSDT' ORDER BY bucket";
    assert_eq!(fixture.texts(versions), ["btc_ingest 1", "numpy 1"]);
    let mine = "INSERT INTO ingestion.staged_slices (token, part, bucket_5m, feature_version)
                SELECT gen_random_uuid(), gen_random_uuid(), now(), 'btc_ingest 1'";
    refused(fixture.client(), mine, "23514");
}

#[test]
fn forgotten_units_are_handed_out_anew() {
    let mut fixture = WorkFixture::with_slices(2);
    let units = fixture.lease(DAY);
    fixture.stage(&units[0]);
    fixture.run(&finish(&units[0]));
    let forget = "SELECT btc_ingest.forget_units('verify', '2024-08-08', '2024-08-09')";
    assert_eq!(fixture.number("SELECT btc_ingest.forget_units('other', '2024-08-08', '2024-08-09')"), 0);
    assert_eq!(fixture.number("SELECT btc_ingest.forget_units('verify', '2024-08-08', '2024-08-08 23:00Z')"), 0);
    assert_eq!(fixture.number(forget), 2);
    assert_eq!(fixture.number("SELECT count(*) FROM ops.slice_digests"), 0);
    for unit in &units {
        refused(fixture.client(), &finish(unit), "TK060");
    }
    assert_eq!(fixture.lease(DAY).len(), 2);
}

#[test]
fn wrong_arguments_and_nulls_are_named() {
    let mut fixture = WorkFixture::with_slices(1);
    let calls = [
        ("work_units(NULL, '2024-08-09')", "\"from\" must not be null"),
        ("work_units('2024-08-08', NULL)", "\"to\" must not be null"),
        ("work_units('2024-08-09', '2024-08-08')", "the earlier one"),
        ("work_units('-infinity', '2024-08-08')", "finite"),
        ("work_units('2024-08-08', '2024-08-09', 'week')", "by must be 'day' or 'hour'"),
        ("work_units('2024-08-08', '2024-08-09', NULL)", "by must not be null"),
        ("work_units('2024-08-08', '2024-08-09', kind => NULL)", "kind must not be null"),
        ("work_units('2024-08-08', '2024-08-09', kind => ' ')", "kind must be a name"),
        ("work_units('2024-08-08', '2024-08-09', most => 101)", "most must be from 1 to 100"),
        ("work_units('2024-08-08', '2024-08-09', most => NULL)", "most must not be null"),
        ("work_units('2024-08-08', '2024-08-09', lease => '0')", "lease must be"),
        ("work_units('2024-08-08', '2024-08-09', lease => '8 days')", "lease must be"),
        ("work_units('2024-08-08', '2024-08-09', lease => NULL)", "lease must not be null"),
        ("work_units('2024-08-08', '2024-08-09', max_attempts => 0)", "max_attempts must be"),
        ("finish_unit(NULL)", "token must not be null"),
        ("fail_unit(NULL, 'why')", "token must not be null"),
        ("fail_unit(gen_random_uuid(), NULL)", "reason must say why"),
        ("extend_units(NULL)", "tokens must not be null"),
        ("forget_units(NULL, '2024-08-08', '2024-08-09')", "kind must not be null"),
        ("forget_units('verify', NULL, '2024-08-09')", "\"from\" must not be null"),
        ("slice_digests(NULL, '2024-08-08', '2024-08-09')", "asset must not be null"),
        ("slice_digests('BTCUSDT', NULL, '2024-08-09')", "\"from\" must not be null"),
        ("verify_archive(NULL, '2024-08-09')", "must not be null"),
        ("verify_archive('2024-08-08', 'infinity')", "must be finite"),
    ];
    for (call, message) in calls {
        let refusal = refused(fixture.client(), &format!("SELECT * FROM btc_ingest.{call}"), "TK031");
        assert!(refusal.message.contains(message), "{call}: {refusal:?}");
    }
    let units = fixture.lease("'2024-08-08', '2024-08-09', assets => '{NULL}'");
    assert_eq!(units, []);
    let none = "SELECT btc_ingest.extend_units('{NULL}')";
    assert_eq!(fixture.number(none), 0);
}

#[test]
fn a_loader_does_the_work_and_writes_nothing_else() {
    let mut fixture = WorkFixture::with_slices(1);
    let name = format!("executor_{}", fixture.inner.db.name());
    fixture.run(&format!("CREATE ROLE {name} LOGIN; GRANT btc_ingest_loader TO {name}"));
    let mut loader = fixture.inner.db.client_as(&name);
    let unit = lease(&mut loader, DAY).remove(0);
    execute(&mut loader, &staging(&unit, "00000000-0000-0000-0000-000000000001", "d.digest"));
    for table in ["ingestion.work_units", "ops.slice_digests", "ops.slice_candles"] {
        refused(&mut loader, &format!("INSERT INTO {table} DEFAULT VALUES"), "42501");
    }
    refused(&mut loader, "DELETE FROM ingestion.staged_slices", "42501");
    refused(&mut loader, "UPDATE ingestion.staged_slices SET ticks = 0", "42501");
    refused(&mut loader, "SELECT btc_ingest.forget_units('verify', '2024-08-08', '2024-08-09')", "42501");
    assert_eq!(texts(&mut loader, &finish(&unit)), ["published 1 0 0"]);
    let by = format!("SELECT count(*) FROM btc_ingest.units WHERE leased_by = '{name}'");
    assert_eq!(number(&mut loader, &by), 2);
}

#[test]
fn finish_runs_no_trigger_with_other_privileges_than_the_owners() {
    let mut fixture = WorkFixture::with_slices(1);
    let unit = fixture.lease(DAY).remove(0);
    fixture.stage(&unit);
    let name = format!("stranger_{}", fixture.inner.db.name());
    fixture.run(&format!(
        "CREATE ROLE {name}; GRANT CREATE ON SCHEMA public TO {name}; SET ROLE {name};
         CREATE FUNCTION public.stranger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; RESET ROLE;
         CREATE TRIGGER t BEFORE INSERT ON ops.slice_digests FOR EACH ROW EXECUTE FUNCTION public.stranger()"
    ));
    refused(fixture.client(), &finish(&unit), "42501");
}
