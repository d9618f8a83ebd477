//! What a load does with ticks that are there already, and what it writes beside the ticks.

mod ledger;
mod many_rows;
mod neighbouring_buckets;
mod new_etag;
mod options;
mod repeated_ids;
mod same_object;
mod transactions;

use std::sync::Arc;

use arrow::array::{BooleanArray, TimestampMicrosecondArray};
use arrow::datatypes::TimeUnit;
use btc_ingest_kit::fixture::{BUCKET, Report, refused};
use btc_ingest_kit::parquet::Time;
use btc_ingest_kit::rows::{but, moved, must_hold, stored_lines, ticks, ticks_of};
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::ticks::{BUCKET_US, PRICE_UNIT, Random, Tick, time_us};
use btc_ingest_kit::{FaultProxy, Generator, ParquetFile, ServerFixture, TestDb, fixture};
use postgres::{Client, IsolationLevel};

/// One test's objects and database.
struct LoadFixture {
    server: &'static ServerFixture,
    db: TestDb<'static>,
    client: Client,
}

impl Session for LoadFixture {
    fn client(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl LoadFixture {
    fn new() -> LoadFixture {
        let server = ServerFixture::shared();
        let db = server.db();
        let client = db.client();
        LoadFixture { server, db, client }
    }

    /// Stores ticks under a key of this test's own.
    fn put(&self, key: &str, ticks: &[Tick]) -> String {
        self.put_as(key, ParquetFile::new(), ticks)
    }

    fn put_as(&self, key: &str, file: ParquetFile, ticks: &[Tick]) -> String {
        self.server.put(&format!("{}/{key}", self.db.name()), file.bytes(ticks))
    }

    /// Loads an object and checks that the counts add up.
    #[track_caller]
    fn load(&mut self, uri: &str, args: &str) -> Report {
        loads(&mut self.client, uri, args)
    }

    /// Returns how many rows each table has that a load writes.
    fn rows_everywhere(&mut self) -> String {
        self.text(
            "SELECT concat_ws(' ',
                 'ticks', (SELECT count(*) FROM market_data.btc_ticks),
                 'registry', (SELECT count(*) FROM landing.raw_blobs_5m),
                 'rejected', (SELECT count(*) FROM landing.rejected_ticks),
                 'objects', (SELECT count(*) FROM ingestion.objects),
                 'slices', (SELECT count(*) FROM ingestion.object_slices),
                 'offsets', (SELECT count(*) FROM ingestion.stream_offsets),
                 'history', (SELECT count(*) FROM ingestion.load_history))",
        )
    }

    /// Returns (row, reason, row_data) of all kept rejects.
    fn rejected(&mut self) -> Vec<(i64, String, String)> {
        let sql = "SELECT row_number, reason, row_data::text FROM landing.rejected_ticks ORDER BY id";
        self.client.query(sql, &[]).unwrap().iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }
}

#[track_caller]
fn loads(client: &mut Client, uri: &str, args: &str) -> Report {
    let report = fixture::loaded(client, uri, args);
    let [read, parts @ ..] = report.counts();
    assert_eq!(read, parts.iter().sum::<i64>(), "counts that do not add up: {report:?}");
    assert!(parts.iter().all(|count| *count >= 0), "a count below zero: {report:?}");
    report
}

const NOTHING: &str = "ticks 0 registry 0 rejected 0 objects 0 slices 0 offsets 0 history 0";
const KEEP: &str = "force => true";
const REPLACE: &str = r#"force => true, options => '{"on_conflict": "replace"}'"#;
const ABORT: &str = r#"force => true, options => '{"on_conflict": "abort"}'"#;
/// For tests in which most rows conflict.
const ANY_CONFLICTS: &str = "SET btc_ingest.max_conflict_fraction = 1";

/// Makes fifty ticks to store, and seventy of a new object: ids 31 to 45 are the same, 46 to 50 have changed, 51 to
/// 100 are new.
fn old_and_new() -> (Vec<Tick>, Vec<Tick>) {
    let all = ticks(1, 100);
    let old = all[..50].to_vec();
    let mut new = all[30..].to_vec();
    for (n, tick) in new[15..20].iter_mut().enumerate() {
        match n {
            0 => tick.price += 1,
            1 => tick.quantity += 1,
            2 => tick.trade_time_us = tick.trade_time_us.map(|time| time - 1),
            3 => tick.is_market_maker = !tick.is_market_maker,
            _ => {
                tick.price += PRICE_UNIT;
                tick.event_time_us += 7;
                tick.buyer_order_id = Some(4711);
                tick.seller_order_id = None;
            }
        }
    }
    (old, new)
}
