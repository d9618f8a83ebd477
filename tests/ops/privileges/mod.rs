//! What each role may do. A load gives no role more privileges than it has.

mod attacks;
mod foreign_tables;
mod matrix;
mod producers;
mod roles;
mod settings;
mod transactions;

use btc_ingest_kit::fixture::{BUCKET, Refusal, load, loaded, refused, session, stored, traces};
use btc_ingest_kit::ticks::time_us;
use btc_ingest_kit::{Cluster, FaultProxy, Generator, ParquetFile, ServerFixture, SilentEndpoint, Sums, TestDb};
use postgres::Client;

/// Every table of the contract.
const TABLES: [&str; 29] = [
    "landing.raw_blobs_5m",
    "landing.rejected_ticks",
    "market_data.btc_ticks",
    "signals.btc_embeddings",
    "ingestion.stream_offsets",
    "ingestion.objects",
    "ingestion.object_slices",
    "ingestion.id_sets",
    "ingestion.gap_notes",
    "ingestion.assets",
    "ingestion.verifications",
    "ingestion.verification_findings",
    "ingestion.load_history",
    "ingestion.backfills",
    "ingestion.backfill_workers",
    "ingestion.backfill_chunks",
    "ingestion.control",
    "ingestion.outages",
    "ingestion.candles",
    "ingestion.schema_version",
    "ops.retention_jobs",
    "ops.dropped_ranges",
    "ops.retention_checks",
    "ops.chunk_drops",
    "ingestion.work_units",
    "ingestion.staged_slices",
    "ingestion.staged_candles",
    "ops.slice_digests",
    "ops.slice_candles",
];
const SCHEMAS: [&str; 5] = ["landing", "market_data", "signals", "ingestion", "ops"];

/// Stores an object and returns its uri and sums.
fn object(key: &str) -> (String, Sums) {
    let ticks = Generator::new(1, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).per_second(2.0).next_slices(2);
    (
        ServerFixture::shared().put(&format!("privileges/{key}.parquet"), ParquetFile::new().bytes(&ticks)),
        Sums::of(&ticks),
    )
}

/// Makes a login role of this database's own, a member of these roles, and returns its name.
fn user(db: &TestDb<'_>, name: &str, roles: &[&str]) -> String {
    let user = format!("{name}_{}", db.name());
    let mut client = db.client();
    client.batch_execute(&format!("CREATE ROLE {user} LOGIN")).unwrap();
    for role in roles {
        client.batch_execute(&format!("GRANT {role} TO {user}")).unwrap();
    }
    user
}

#[track_caller]
fn denied(client: &mut Client, sql: &str) -> Refusal {
    match client.batch_execute(sql) {
        Ok(()) => panic!("{sql} should be denied"),
        Err(error) => {
            let refusal = Refusal::from(error);
            assert_eq!(refusal.sqlstate, "42501", "{sql}: {refusal:?}");
            refusal
        }
    }
}

/// Returns the first column of every row.
fn column(client: &mut Client, sql: &str) -> Vec<String> {
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

fn truth(client: &mut Client, sql: &str) -> bool {
    client.query_one(sql, &[]).unwrap().get(0)
}

/// Opens a superuser's session that would ask here, and not wait long for an answer.
fn silent_session(endpoint: &SilentEndpoint, db: &TestDb<'_>) -> Client {
    let settings = [("btc_ingest.s3_read_timeout", "200ms"), ("btc_ingest.s3_max_attempts", "1")];
    session(db, &endpoint.endpoint(), &settings)
}
