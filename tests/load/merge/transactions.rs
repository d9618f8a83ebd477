//! Loads in transactions, savepoints and exception blocks.

use super::*;

#[test]
fn a_load_that_rolls_back_leaves_nothing_at_all() {
    let mut fixture = LoadFixture::new();
    let uri = fixture.put("Binance/BTCUSDT/a.parquet", &ticks(1, 400));
    let conflicting: Vec<Tick> = ticks(1, 20).iter().map(|tick| but(tick, |tick| tick.price += 1)).collect();
    let other = fixture.put("b.parquet", &conflicting);
    let mut transaction = fixture.client.transaction().unwrap();
    transaction.batch_execute(ANY_CONFLICTS).unwrap();
    for uri in [&uri, &other] {
        transaction.query_one("SELECT btc_ingest.load_s3_slice($1)", &[uri]).unwrap();
    }
    let inside: i64 = transaction.query_one("SELECT count(*) FROM market_data.btc_ticks", &[]).unwrap().get(0);
    assert_eq!(inside, 400);
    transaction.rollback().unwrap();
    assert_eq!(fixture.rows_everywhere(), NOTHING);
    assert_eq!(fixture.load(&uri, "").counts(), [400, 400, 0, 0, 0, 0]);
}

#[test]
fn several_loads_in_one_transaction_see_each_other() {
    let mut fixture = LoadFixture::new();
    let all = ticks(1, 400);
    let (a, b) = (fixture.put("a.parquet", &all[..300]), fixture.put("b.parquet", &all[200..]));
    fixture.run("BEGIN");
    assert_eq!(fixture.load(&a, "").counts(), [300, 300, 0, 0, 0, 0]);
    assert_eq!(fixture.load(&b, "").counts(), [200, 100, 100, 0, 0, 0]);
    assert_eq!(fixture.load(&a, "").outcome, "already loaded");
    fixture.run("COMMIT");
    must_hold(&mut fixture.client, &all);
    let sql = format!(
        "SELECT sum((btc_ingest.load_s3_slice(u, force => true)).rows_duplicate)::text
                         FROM unnest(ARRAY['{a}', '{b}']) AS u"
    );
    assert_eq!(fixture.text(&sql), "500");
}

#[test]
fn a_load_works_in_savepoints_and_after_them() {
    let mut fixture = LoadFixture::new();
    let all = ticks(1, 100);
    let uri = fixture.put("a.parquet", &all);
    let other = fixture.put("b.parquet", &ticks(1, 120));
    let bad = fixture.put("bad.parquet", &[]);
    fixture.server.put(bad.trim_start_matches("s3://landing/"), "this is not Parquet, and long enough to see it");
    fixture.run("BEGIN; SAVEPOINT one");
    assert_eq!(fixture.load(&uri, "").counts(), [100, 100, 0, 0, 0, 0]);
    fixture.run("ROLLBACK TO SAVEPOINT one");
    assert_eq!(fixture.text("SELECT count(*)::text FROM market_data.btc_ticks"), "0");
    assert_eq!(fixture.load(&uri, "").counts(), [100, 100, 0, 0, 0, 0]);
    fixture.run("SAVEPOINT two");
    refused(&mut fixture.client, &bad, "", "PQ002");
    fixture.run("ROLLBACK TO SAVEPOINT two");
    assert_eq!(fixture.load(&other, "").counts(), [120, 20, 100, 0, 0, 0]);
    fixture.run("COMMIT");
    must_hold(&mut fixture.client, &ticks(1, 120));
}

#[test]
fn a_load_works_in_and_after_an_exception_block() {
    let mut fixture = LoadFixture::new();
    let all = ticks(1, 100);
    let uri = fixture.put("a.parquet", &all);
    let conflicting: Vec<Tick> = all.iter().map(|tick| but(tick, |tick| tick.price += 1)).collect();
    let other = fixture.put("b.parquet", &conflicting);
    fixture.run(&format!(
        "DO $$
         DECLARE report btc_ingest.load_report; tries integer := 0;
         BEGIN
             BEGIN
                 PERFORM btc_ingest.load_s3_slice('{uri}');
                 RAISE division_by_zero;
             EXCEPTION WHEN division_by_zero THEN tries := tries + 1;
             END;
             ASSERT NOT EXISTS (SELECT FROM market_data.btc_ticks), 'the block was rolled back';
             BEGIN
                 report := btc_ingest.load_s3_slice('{uri}');
             EXCEPTION WHEN OTHERS THEN RAISE;
             END;
             ASSERT report.rows_inserted = 100, report::text;
             BEGIN
                 PERFORM btc_ingest.load_s3_slice('{other}');
             EXCEPTION WHEN SQLSTATE 'TK005' THEN tries := tries + 1;
             END;
             BEGIN
                 PERFORM btc_ingest.load_s3_slice('{other}', options => '{{\"on_conflict\": \"abort\"}}');
             EXCEPTION WHEN SQLSTATE 'TK004' THEN tries := tries + 1;
             END;
             ASSERT tries = 3, tries::text;
             ASSERT (SELECT count(*) FROM ingestion.objects) = 1, 'failed loads leave no object';
             report := btc_ingest.load_s3_slice('{uri}', force => true);
             ASSERT report.rows_duplicate = 100, report::text;
         END $$"
    ));
    must_hold(&mut fixture.client, &all);
    assert_eq!(fixture.load(&uri, "").outcome, "already loaded");
}

#[test]
fn a_repeatable_read_caller_loads_and_is_told_to_retry_when_its_snapshot_is_too_old() {
    let mut fixture = LoadFixture::new();
    let all = ticks(1, 100);
    let uri = fixture.put("a.parquet", &all);
    let mut other = fixture.db.client();
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM market_data.btc_ticks";

    fixture.run(begin);
    assert_eq!(fixture.load(&uri, "").counts(), [100, 100, 0, 0, 0, 0]);
    assert_eq!(fixture.load(&uri, KEEP).counts(), [100, 0, 100, 0, 0, 0]);
    fixture.run("ROLLBACK");

    fixture.run(begin);
    loads(&mut other, &uri, "");
    refused(&mut fixture.client, &uri, "", "40001");
    fixture.run("ROLLBACK");

    // In a new snapshot the retry finds what is there.
    let mut transaction =
        fixture.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().unwrap();
    let outcome = "SELECT outcome FROM btc_ingest.load_s3_slice($1)";
    assert_eq!(transaction.query_one(outcome, &[&uri]).unwrap().get::<_, String>(0), "already loaded");
    transaction.commit().unwrap();
    let mut transaction =
        fixture.client.build_transaction().isolation_level(IsolationLevel::Serializable).start().unwrap();
    let duplicates = "SELECT rows_duplicate FROM btc_ingest.load_s3_slice($1, force => true)";
    assert_eq!(transaction.query_one(duplicates, &[&uri]).unwrap().get::<_, i64>(0), 100);
    transaction.commit().unwrap();
    must_hold(&mut fixture.client, &all);
}
