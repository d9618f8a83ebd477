//! Backfills by chunks that end while a chunk is being filled, objects that cannot be stored, and hypertables to
//! which no table can be attached as a chunk.

use std::thread::JoinHandle;

use btc_ingest_kit::cluster::try_client;
use btc_ingest_kit::fixture::backfill::{BackfillFixture, Called, MOST_ATTEMPTS, STATUSES, call};
use btc_ingest_kit::fixture::chunks::{chunk_fixture, chunk_fixture_alone, put_slice, put_weeks, some_ticks, week};
use btc_ingest_kit::fixture::{BUCKET, loaded, must_hold_sums};
use btc_ingest_kit::process::kill;
use btc_ingest_kit::sql::{Session, number};
use btc_ingest_kit::ticks::{BUCKET_US, slice_key};
use btc_ingest_kit::wait::{SOON, wait_for};
use btc_ingest_kit::{Cluster, Fault, FaultProxy, ParquetFile, TestDb, Tick, When};
use postgres::Client;

/// A backfill of two chunks whose worker has put two objects of four into the first one's table, and waits for the
/// third.
struct FillingFixture {
    fixture: BackfillFixture,
    proxy: FaultProxy,
    all: Vec<Tick>,
    call: Option<JoinHandle<Called>>,
}

impl FillingFixture {
    fn new(mut fixture: BackfillFixture) -> FillingFixture {
        let all = put_weeks(&fixture, 0..2, 4);
        let proxy = FaultProxy::before(&fixture.server.s3);
        fixture.through(&proxy);
        proxy.on(When::get().key("20240808T1210Z"), Fault::Hang);
        let call = fixture.begin(&fixture.by_bucket(), "mode => 'chunk', parallel => 1");
        let mut filling = FillingFixture { fixture, proxy, all, call: Some(call) };
        filling.wait_for_the_third();
        filling
    }

    fn wait_for_the_third(&mut self) {
        self.proxy.wait_until_stalled(SOON);
        self.fixture.wait_for(
            "the filling",
            "SELECT count(*) = 1 FROM pg_stat_activity
              WHERE datname = current_database() AND query = 'filling a chunk: 2 of 4 objects'",
        );
    }

    /// Returns what the call said until it ended, and opens a new session, because the server may have restarted.
    fn called(&mut self) -> Called {
        let called = self.call.take().unwrap().join().unwrap();
        self.fixture.client = wait_for("the server", SOON, || try_client(&self.fixture.db.connection_string()));
        called
    }

    /// Checks that no part of the chunk is left, and that nothing is in work.
    #[track_caller]
    fn must_be_nothing(&mut self) {
        self.fixture.must_have_no_stage();
        assert_eq!(self.fixture.number("SELECT count(*) FROM market_data.btc_ticks"), 0);
        assert_eq!(self.fixture.text(STATUSES), "pending");
    }

    /// Calls again, and releases the third object when the call watches.
    fn again(&mut self, args: &str) -> Called {
        let call = self.fixture.begin(&self.fixture.by_bucket(), &format!("mode => 'chunk', {args}"));
        self.fixture.wait_for(
            "the call",
            "SELECT count(*) = 1 FROM pg_stat_activity
              WHERE datname = current_database() AND query LIKE 'CALL btc_ingest.backfill%' AND wait_event = 'PgSleep'",
        );
        self.wait_for_the_third();
        self.proxy.release();
        let called = call.join().unwrap();
        assert_eq!(called.refusal, None, "{called:#?}");
        called
    }

    /// Checks that both chunks were attached, no tick is missing or stored twice, and no object is recorded as
    /// failed.
    #[track_caller]
    fn must_be_whole(&mut self) {
        let FillingFixture { fixture, all, .. } = self;
        fixture.must_hold_chunks(all);
        let first = all.iter().filter(|tick| tick.event_time_us < week(1)).count();
        assert_eq!(fixture.units(), [format!("attached {first}"), format!("attached {}", all.len() - first)]);
        assert_eq!(
            fixture.text("SELECT concat_ws(' ', count(*), max(attempts), sum(rows_inserted)) FROM ingestion.objects"),
            format!("8 1 {}", all.len())
        );
        let history = "SELECT concat_ws(' ', count(*), string_agg(DISTINCT outcome, ' ')) FROM ingestion.load_history";
        assert_eq!(fixture.text(history), "8 loaded");
    }
}

#[test]
fn after_a_worker_was_killed_while_filling_the_next_call_makes_the_chunks() {
    let Some(fixture) = chunk_fixture_alone() else { return };
    let mut filling = FillingFixture::new(fixture);
    kill(filling.fixture.workers()[0]);
    assert_eq!(filling.called().sqlstate(), "08006");
    let called = filling.again("parallel => 1");
    assert!(called.of("NOTICE")[0].contains("backfill 1 goes on where it stood"), "{called:#?}");
    filling.must_be_whole();
}

#[test]
fn after_a_crash_of_the_server_while_filling_the_next_call_makes_the_chunks() {
    let Some(fixture) = chunk_fixture_alone() else { return };
    let mut filling = FillingFixture::new(fixture);
    filling.fixture.server.cluster.crash();
    assert!(filling.called().refusal.is_some());
    filling.must_be_nothing();
    let called = filling.again("parallel => 2");
    assert!(called.of("NOTICE")[0].contains("backfill 1 goes on where it stood"), "{called:#?}");
    filling.must_be_whole();
}

#[test]
fn a_backfill_that_is_cancelled_while_filling_leaves_nothing_and_the_next_one_makes_the_chunks() {
    let Some(fixture) = chunk_fixture() else { return };
    let mut filling = FillingFixture::new(fixture);
    let answer = filling.fixture.text("SELECT btc_ingest.cancel_backfill(1)");
    assert!(answer.contains("1 workers were ended"), "{answer}");
    assert_eq!(filling.called().refusal, None);
    filling.must_be_nothing();
    let called = filling.again("parallel => 2");
    assert!(called.of("NOTICE")[0].contains("backfill 2 has begun"), "{called:#?}");
    filling.must_be_whole();
}

#[test]
fn a_worker_that_is_terminated_while_filling_comes_back_and_makes_the_chunks() {
    let Some(fixture) = chunk_fixture() else { return };
    let mut filling = FillingFixture::new(fixture);
    let pid = filling.fixture.workers()[0] as i32;
    filling.fixture.client.query_one("SELECT pg_terminate_backend($1)", &[&pid]).unwrap();
    filling.proxy.release();
    assert_eq!(filling.called().refusal, None);
    filling.must_be_whole();
}

#[test]
fn a_worker_whose_statement_is_cancelled_while_filling_makes_the_chunks_all_the_same() {
    let Some(fixture) = chunk_fixture() else { return };
    let mut filling = FillingFixture::new(fixture);
    let pid = filling.fixture.workers()[0] as i32;
    filling.fixture.client.query_one("SELECT pg_cancel_backend($1)", &[&pid]).unwrap();
    let noted = "SELECT bool_or(sqlstate = '57014') FROM ingestion.backfills";
    filling.fixture.wait_for("the note", noted);
    filling.proxy.release();
    assert_eq!(filling.called().refusal, None);
    filling.must_be_whole();
}

#[test]
fn an_object_that_is_replaced_while_a_chunk_is_being_filled_is_loaded_as_it_is_then() {
    let Some(fixture) = chunk_fixture() else { return };
    let mut filling = FillingFixture::new(fixture);
    let bucket = week(0) + 146 * BUCKET_US;
    let fresh: Vec<Tick> = some_ticks("BTCUSDT", bucket, 1).into_iter().skip(7).collect();
    put_slice(&filling.fixture, bucket, &fresh);
    filling.proxy.release();
    assert_eq!(filling.called().refusal, None);
    filling.all.retain(|tick| tick.bucket_us() != bucket);
    filling.all.extend(fresh);
    filling.fixture.must_hold_chunks(&filling.all);
}

#[test]
fn an_object_that_s3_does_not_hand_out_holds_up_no_other() {
    let Some(mut fixture) = chunk_fixture() else { return };
    let all = put_weeks(&fixture, 0..2, 4);
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    fixture.set("s3_max_attempts", "1");
    proxy.on(When::get().key("20240808T1210Z"), Fault::slow_down());
    fixture.chunked(&fixture.by_bucket(), "parallel => 2");
    let there: Vec<Tick> = all.iter().filter(|tick| tick.bucket_us() != week(0) + 146 * BUCKET_US).cloned().collect();
    must_hold_sums(&mut fixture.client, &there);
    fixture.must_have_no_stage();
    assert_eq!(
        fixture.text(
            "SELECT string_agg(concat_ws(' ', status, attempts, sqlstate), ', ') FROM btc_ingest.backfill_failures(1)"
        ),
        format!("quarantined {MOST_ATTEMPTS} S3009")
    );
    proxy.clear();
    fixture.chunked(&fixture.by_bucket(), "parallel => 2");
    fixture.must_hold_chunks(&all);
}

#[test]
fn a_column_that_is_added_while_a_chunk_is_being_filled_is_there_afterwards() {
    let Some(fixture) = chunk_fixture() else { return };
    let mut filling = FillingFixture::new(fixture);
    let mut other = filling.fixture.db.client();
    let change = std::thread::spawn(move || {
        other.batch_execute("ALTER TABLE market_data.btc_ticks ADD COLUMN remark text, ADD CHECK (price > 0)")
    });
    filling.fixture.wait_for(
        "the change",
        "SELECT count(*) = 1 FROM pg_stat_activity
          WHERE datname = current_database() AND query LIKE 'ALTER%'
              AND (wait_event_type = 'Lock' OR state <> 'active')",
    );
    filling.proxy.release();
    change.join().unwrap().unwrap();
    assert_eq!(filling.called().refusal, None);
    filling.fixture.must_hold_chunks(&filling.all);
    let units = filling.fixture.units();
    assert!(
        units[0].starts_with("attached ") && units[1].starts_with("objects: the hypertable's columns"),
        "{units:?}"
    );
    let columns = "SELECT string_agg(DISTINCT c.relnatts::text, ' ') FROM pg_class c
                    WHERE c.oid IN (SELECT show_chunks('market_data.btc_ticks'))";
    assert_eq!(filling.fixture.text(columns), "12");
}

/// Opens a transaction that writes and so keeps the worker from making a chunk of the filled table.
fn held_up(filling: &mut FillingFixture) -> Client {
    let mut writer = filling.fixture.db.client();
    writer.batch_execute("BEGIN; LOCK TABLE market_data.btc_ticks IN SHARE ROW EXCLUSIVE MODE").unwrap();
    filling.proxy.release();
    filling.fixture.wait_for(
        "the lock",
        "SELECT count(*) = 1 FROM pg_stat_activity
          WHERE datname = current_database() AND query = 'making a chunk of the filled table'
              AND wait_event_type = 'Lock'",
    );
    writer
}

#[test]
fn a_chunk_is_made_when_the_writer_before_it_has_ended() {
    let Some(fixture) = chunk_fixture() else { return };
    let mut filling = FillingFixture::new(fixture);
    let mut writer = held_up(&mut filling);
    writer.batch_execute("COMMIT").unwrap();
    assert_eq!(filling.called().refusal, None);
    filling.must_be_whole();
}

#[test]
fn a_backfill_that_is_cancelled_while_it_waits_for_the_hypertable_leaves_nothing() {
    let Some(fixture) = chunk_fixture() else { return };
    let mut filling = FillingFixture::new(fixture);
    let mut writer = held_up(&mut filling);
    filling.fixture.run("SELECT btc_ingest.cancel_backfill(1)");
    assert_eq!(filling.called().refusal, None);
    filling.must_be_nothing();
    writer.batch_execute("COMMIT").unwrap();
    filling.fixture.chunked(&filling.fixture.by_bucket(), "parallel => 2");
    filling.must_be_whole();
}

#[test]
fn a_chunk_whose_every_attempt_ended_with_its_worker_is_left_to_object_loads() {
    let Some(fixture) = chunk_fixture() else { return };
    let mut filling = FillingFixture::new(fixture);
    filling.fixture.run("UPDATE ingestion.backfill_chunks SET attempts = 3 WHERE attempts = 1");
    let pid = filling.fixture.workers()[0] as i32;
    filling.fixture.client.query_one("SELECT pg_terminate_backend($1)", &[&pid]).unwrap();
    filling.proxy.release();
    assert_eq!(filling.called().refusal, None);
    filling.fixture.must_hold_chunks(&filling.all);
    let units = filling.fixture.units();
    assert_eq!(units[0], "objects: 3 attempts ended without a chunk; see the server's log");
    assert!(units[1].starts_with("attached "), "{units:?}");
}

#[test]
fn the_apache_edition_makes_no_chunks() {
    let cluster = Cluster::builder()
        .setting("timescaledb.license", "apache")
        .setting("btc_ingest.allowed_prefixes", &format!("s3://{BUCKET}"))
        .start();
    let db = TestDb::with_extension(&cluster);
    let called = call(&db.connection_string(), &[format!("s3://{BUCKET}/a/")], "mode => 'chunk'");
    assert_eq!(called.sqlstate(), "TK014", "{called:#?}");
    assert_eq!(number(&mut db.client(), "SELECT count(*) FROM ingestion.backfills"), 0);
}

/// Backfills the objects of two chunks, of which the third one cannot be stored: checks its error, and that all
/// others are loaded.
fn one_is_quarantined(
    prepare: impl FnOnce(&mut BackfillFixture, i64, &[Tick]),
    fix: impl FnOnce(&mut BackfillFixture),
    sqlstate: &str,
) {
    let Some(mut fixture) = chunk_fixture() else { return };
    let all = put_weeks(&fixture, 0..2, 5);
    let bucket = week(0) + 146 * BUCKET_US;
    let (bad, good): (Vec<Tick>, Vec<Tick>) = all.iter().cloned().partition(|tick| tick.bucket_us() == bucket);
    assert!(bad.len() > 10);
    prepare(&mut fixture, bucket, &bad);
    let called = fixture.chunked(&fixture.by_bucket(), "parallel => 1");
    must_hold_sums(&mut fixture.client, &good);
    fixture.must_have_no_stage();
    let first = good.iter().filter(|tick| tick.event_time_us < week(1)).count();
    assert_eq!(fixture.units(), [format!("attached {first}"), format!("attached {}", good.len() - first)]);
    let failures = "SELECT string_agg(concat_ws(' ', right(uri, 22), status, attempts, sqlstate), ', ')
                      FROM btc_ingest.backfill_failures(1)";
    assert_eq!(fixture.text(failures), format!("20240808T1210Z.parquet quarantined 1 {sqlstate}"), "{called:#?}");
    assert_eq!(fixture.status("objects_total, objects_done, objects_failed, objects_waiting"), "10 9 1 0");
    assert_eq!(called.of("WARNING").len(), 1, "{called:#?}");

    fix(&mut fixture);
    put_weeks(&fixture, 0..1, 5);
    fixture.chunked(&fixture.by_bucket(), "parallel => 1");
    fixture.must_hold_chunks(&all);
}

#[test]
fn an_object_with_a_bad_row_is_quarantined_and_the_others_become_the_chunk() {
    let put = |fixture: &mut BackfillFixture, bucket: i64, ticks: &[Tick]| {
        let key = slice_key(&format!("{}/Binance", fixture.db.name()), "BTCUSDT", bucket);
        fixture.server.put(&key, ParquetFile::new().null("price", &[ticks.len() / 2]).bytes(ticks));
    };
    one_is_quarantined(put, |_| {}, "TK001");
}

#[test]
fn an_object_with_a_row_that_a_constraint_refuses_is_quarantined_and_the_others_become_the_chunk() {
    let forbid = |fixture: &mut BackfillFixture, _: i64, ticks: &[Tick]| {
        let id = ticks[ticks.len() / 2].trade_id;
        fixture.run(&format!("ALTER TABLE market_data.btc_ticks ADD CONSTRAINT not_this CHECK (trade_id <> {id})"));
    };
    let allow = |fixture: &mut BackfillFixture| {
        fixture.run("ALTER TABLE market_data.btc_ticks DROP CONSTRAINT not_this");
    };
    one_is_quarantined(forbid, allow, "23514");
}

/// Checks that every chunk is filled by loads of its objects, for this reason, and holds all of its ticks.
fn must_be_left_to_object_loads(prepare: &str, why: &str) {
    let Some(mut fixture) = chunk_fixture() else { return };
    fixture.run(prepare);
    let all = put_weeks(&fixture, 0..2, 3);
    fixture.chunked(&fixture.by_bucket(), "parallel => 2");
    fixture.must_hold_chunks(&all);
    let units = fixture.units();
    assert!(units.len() == 2 && units.iter().all(|unit| unit.starts_with(&format!("objects: {why}"))), "{units:#?}");
}

#[test]
fn a_trigger_on_the_hypertable_sees_every_tick() {
    must_be_left_to_object_loads(
        "CREATE FUNCTION market_data.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER mine BEFORE INSERT ON market_data.btc_ticks
             FOR EACH ROW EXECUTE FUNCTION market_data.nothing()",
        "the trigger mine would not see the ticks",
    );
}

#[test]
fn a_foreign_key_of_the_hypertable_is_kept() {
    must_be_left_to_object_loads(
        "CREATE TABLE market_data.assets (symbol text PRIMARY KEY);
         INSERT INTO market_data.assets VALUES ('BTCUSDT');
         ALTER TABLE market_data.btc_ticks ADD FOREIGN KEY (symbol) REFERENCES market_data.assets",
        "a foreign key stands on the hypertable",
    );
}

#[test]
fn a_column_more_is_left_to_object_loads() {
    must_be_left_to_object_loads(
        "ALTER TABLE market_data.btc_ticks ADD COLUMN remark text",
        "the hypertable's columns are not those of a new installation",
    );
}

#[test]
fn a_second_dimension_is_left_to_object_loads() {
    must_be_left_to_object_loads(
        "SELECT add_dimension('market_data.btc_ticks', 'symbol', number_partitions => 2)",
        "the hypertable has 2 dimensions",
    );
}

#[test]
fn a_chunk_that_exists_is_left_to_object_loads_and_the_others_are_made() {
    let Some(mut fixture) = chunk_fixture() else { return };
    let live = some_ticks("LIVE", week(0), 1);
    let uri = fixture.put("elsewhere/live.parquet", &live);
    loaded(&mut fixture.client, &uri, "");
    let all = [put_weeks(&fixture, 0..2, 3), live].concat();
    fixture.chunked(&fixture.by_bucket(), "parallel => 2");
    fixture.must_hold_chunks(&all);
    let units = fixture.units();
    assert!(units[0].starts_with("objects: the chunk exists already"), "{units:?}");
    assert!(units[1].starts_with("attached ") && !units[1].contains(": "), "{units:?}");
}
