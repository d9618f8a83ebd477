//! Units of work with registered slices, and what a job would stage of them.

use btc_ingest_kit::rows::{moved, ticks_of};
use btc_ingest_kit::sql::Session;
use postgres::Client;

use crate::quality_fixture::QualityFixture;

/// Arguments of `work_units()` for the day of the tests.
pub const DAY: &str = "'2024-08-08', '2024-08-09'";
/// A digest that no slice has.
pub const OTHER: &str = "0123456789abcdef0123456789abcdef";

pub struct WorkFixture {
    pub inner: QualityFixture,
}

/// A leased unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub unit: i64,
    pub token: String,
    pub asset: String,
    pub slices: i64,
}

impl Session for WorkFixture {
    fn client(&mut self) -> &mut Client {
        &mut self.inner.client
    }
}

impl WorkFixture {
    /// Returns a database in which one object per bucket is loaded: 12:00, 12:05 … of BTCUSDT and one of ETHUSDT.
    pub fn with_slices(count: i64) -> WorkFixture {
        let mut inner = QualityFixture::new();
        for bucket in 0..count {
            let ticks: Vec<_> =
                ticks_of("BTCUSDT", 1000 * bucket + 1, 5).iter().map(|tick| moved(tick, bucket)).collect();
            inner.load(&format!("b{bucket}"), &ticks);
        }
        inner.load("eth", &ticks_of("ETHUSDT", 7, 3));
        WorkFixture { inner }
    }

    /// Leases units and returns them in the order of the answer.
    #[track_caller]
    pub fn lease(&mut self, args: &str) -> Vec<Unit> {
        lease(self.client(), args)
    }

    /// Stages what the table holds of every slice of a unit, in one part, and returns the part.
    #[track_caller]
    pub fn stage(&mut self, unit: &Unit) -> String {
        let part = self.text("SELECT gen_random_uuid()::text");
        self.run(&staging(unit, &part, "d.digest"));
        part
    }

    /// Returns the state of every unit.
    #[track_caller]
    pub fn states(&mut self) -> Vec<String> {
        self.texts("SELECT concat_ws(' ', asset, state, attempts) FROM btc_ingest.units ORDER BY asset, from_time")
    }
}

/// Leases units and returns them in the order of the answer.
#[track_caller]
pub fn lease(client: &mut Client, args: &str) -> Vec<Unit> {
    let sql = format!("SELECT unit, token::text, asset, slices FROM btc_ingest.work_units({args})");
    let rows = client.query(&sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let unit =
        |row: &postgres::Row| Unit { unit: row.get(0), token: row.get(1), asset: row.get(2), slices: row.get(3) };
    rows.iter().map(unit).collect()
}

/// Returns the statement that stages all stored slices of a unit's asset in one part, with this digest.
pub fn staging(unit: &Unit, part: &str, digest: &str) -> String {
    let Unit { token, asset, .. } = unit;
    format!(
        "INSERT INTO ingestion.staged_slices (token, part, bucket_5m, ticks, quantity, amount, digest)
         SELECT '{token}', '{part}', d.bucket_5m, d.ticks, d.quantity, d.amount, {digest}
           FROM btc_ingest.slice_digests('{asset}', '2024-08-08', '2024-08-09') d"
    )
}
