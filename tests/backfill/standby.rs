//! Backfills on a server with a standby: what the standby does before its promotion, which is nothing, and after it.

use btc_ingest_kit::fixture::backfill::{Called, loaded, say, server, statement};
use btc_ingest_kit::fixture::doomed::DoomedFixture;
use btc_ingest_kit::fixture::refused;
use btc_ingest_kit::sql::{number, text};
use btc_ingest_kit::wait::{SOON, wait_until};
use btc_ingest_kit::{Cluster, Fault, FaultProxy, When};
use postgres::Client;

/// Counts the processes of btc_ingest on the whole server.
const OURS: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'btc\\_ingest%'";

/// A primary that stops after some objects, and its standby, which reaches S3 through another proxy.
struct StandbyFixture {
    doomed: DoomedFixture,
    standby: Cluster,
    proxy: FaultProxy,
}

impl StandbyFixture {
    fn new(folder: &str, preloaded: bool) -> StandbyFixture {
        let doomed = DoomedFixture::new(folder, preloaded);
        doomed.proxy.on(When::get().key("Binance/BTC").from(15), Fault::Hang);
        let standby = doomed.cluster.standby();
        let proxy = FaultProxy::before(&server().s3);
        let endpoint = proxy.endpoint();
        let settings = format!(
            "LOAD 'btc_ingest'; ALTER SYSTEM SET btc_ingest.s3_endpoint = '{endpoint}'; SELECT pg_reload_conf();"
        );
        standby.psql("postgres", &settings).unwrap();
        StandbyFixture { doomed, standby, proxy }
    }

    fn on_the_standby(&self) -> Client {
        self.standby.client("doomed")
    }

    /// Waits until the standby has replayed what the primary has written.
    fn follow(&self, sql: &str) {
        let (mut there, mut here) = (self.doomed.client(), self.on_the_standby());
        wait_until(sql, SOON, || text(&mut here, sql) == text(&mut there, sql));
    }

    /// Kills the primary and promotes the standby. Returns what the call on the primary said.
    fn take_over(mut self, call: std::thread::JoinHandle<Called>) -> (DoomedFixture, FaultProxy) {
        assert_eq!(number(&mut self.on_the_standby(), OURS), 0);
        assert_eq!(self.proxy.requests().len(), 0, "requests of the standby");
        self.doomed.cluster.kill();
        assert_eq!(call.join().unwrap().sqlstate(), "08006");
        self.standby.promote();
        self.doomed.cluster = self.standby;
        (self.doomed, self.proxy)
    }
}

/// Waits for the middle of the backfill, on both servers.
fn in_the_middle(folder: &str, preloaded: bool) -> (StandbyFixture, std::thread::JoinHandle<Called>) {
    let pair = StandbyFixture::new(folder, preloaded);
    let call = pair.doomed.begin();
    wait_until("the standby", SOON, || loaded(&mut pair.on_the_standby()) >= 8);
    (pair, call)
}

#[test]
fn a_promoted_standby_goes_on_with_a_backfill_by_itself() {
    let (pair, call) = in_the_middle("promoted-preloaded", true);
    let (doomed, proxy) = pair.take_over(call);
    doomed.wait_for_the_end();
    doomed.must_be_whole(2);
    assert!(proxy.count("GET") >= 40 - 14, "{} reads after the promotion", proxy.count("GET"));
}

#[test]
fn on_a_promoted_standby_that_has_not_preloaded_the_library_the_next_call_ends_the_backfill() {
    let (pair, call) = in_the_middle("promoted-plain", false);
    let (doomed, proxy) = pair.take_over(call);
    assert_eq!(number(&mut doomed.client(), OURS), 0);
    assert_eq!(proxy.requests().len(), 0);
    let called = doomed.call("parallel => 2").join().unwrap();
    assert_eq!(called.refusal, None, "{called:#?}");
    assert!(called.of("NOTICE")[0].contains("backfill 1 goes on where it stood"), "{called:#?}");
    doomed.must_be_whole(2);
}

#[test]
fn a_chunk_that_the_lost_primary_was_filling_is_made_by_the_promoted_standby() {
    let mut pair = StandbyFixture::new("promoted-chunk", true);
    // So that no request for a footer is sent.
    pair.doomed.prefixes[0].push_str("{asset}/{yyyy}/{mm}/{dd}/{*}_{yyyy}{mm}{dd}T{hh}{mi}Z");
    let mut primary = pair.doomed.client();
    if text(&mut primary, "SHOW timescaledb.license") != "timescale" {
        println!("skipped: needs the Community edition");
        return;
    }
    let call = pair.doomed.call("mode => 'chunk', parallel => 1");
    let filling = "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^filling a chunk: [1-9][0-9]* of 40 objects'";
    wait_until("the filling", SOON, || number(&mut primary, filling) == 1);
    pair.follow("SELECT string_agg(chunk_from || status || attempts, ' ') FROM ingestion.backfill_chunks");
    let (doomed, _proxy) = pair.take_over(call);
    doomed.wait_for_the_end();
    doomed.must_be_whole(0);
    let mut client = doomed.client();
    let units = "SELECT string_agg(concat_ws(' ', status, rows, note), ', ') FROM ingestion.backfill_chunks";
    assert_eq!(text(&mut client, units), format!("attached {}", doomed.all.len()));
    let staged = "SELECT count(*) FROM pg_class
                   WHERE relkind = 'r' AND relnamespace = 'ingestion'::regnamespace AND relname LIKE 'btc\\_ticks%'";
    assert_eq!(number(&mut client, staged), 0);
}

#[test]
fn a_standby_loads_nothing_and_says_where_to_load() {
    let pair = StandbyFixture::new("standby", true);
    let uri = format!("{}BTCUSDT/2024/08/08/BTCUSDT_20240808T1200Z.parquet", pair.doomed.prefixes[0]);
    let mut client = pair.on_the_standby();
    let refusal = refused(&mut client, &uri, "", "25006");
    assert_eq!(refusal.message, format!("{uri}: cannot load in a read-only transaction"));
    assert_eq!(refusal.hint, "Load on the primary, in a read-write transaction.");
    let connection = pair.standby.connection_string("doomed");
    let register = format!("SELECT btc_ingest.register_s3_slice('{uri}', 'BTCUSDT', '2024-08-08 12:00+00')");
    for sql in [
        &statement(&pair.doomed.prefixes, ""),
        &statement(&pair.doomed.prefixes, "mode => 'chunk'"),
        &statement(&pair.doomed.prefixes, "dry_run => true"),
        &register,
        "SELECT btc_ingest_internal.start_backfill_workers(1)",
        "SELECT btc_ingest.pause_ingest()",
        "SELECT btc_ingest.resume_ingest()",
        "SELECT btc_ingest.cancel_backfill(1)",
    ] {
        let called = say(&connection, sql);
        assert_eq!(called.sqlstate(), "25006", "{sql}: {called:#?}");
    }
    assert_eq!(number(&mut client, OURS), 0);
    assert_eq!(pair.proxy.requests().len(), 0);

    // Statements that only read are allowed.
    let looked = format!("SELECT row_count FROM btc_ingest.inspect_s3('{uri}')");
    assert!(number(&mut client, &looked) > 0);
    let found = "SELECT string_agg(detail, ', ') FROM btc_ingest.doctor() WHERE NOT ok AND name <> 'free disk'";
    assert_eq!(text(&mut client, found), "null", "to be a standby is no fault");
}
