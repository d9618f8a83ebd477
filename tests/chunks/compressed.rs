//! Tables whose chunks can be compressed.

use btc_ingest_kit::fixture::chunks::{COMPRESSIBLE, chunk_fixture};
use btc_ingest_kit::sql::Session;

#[test]
fn migrate_runs_again_where_chunks_can_be_compressed() {
    let Some(mut fixture) = chunk_fixture() else { return };
    fixture.run(COMPRESSIBLE);
    // TimescaleDB passes a GRANT of columns on to the table of compressed chunks, which has none of that name.
    assert!(fixture.text("SELECT btc_ingest.migrate()").ends_with("nothing was missing"));
    fixture.run("DROP EXTENSION btc_ingest");
    fixture.run("CREATE EXTENSION btc_ingest");
    let may = "SELECT has_column_privilege('btc_ingest_monitor', 'market_data.btc_ticks', 'bucket_5m', 'SELECT')";
    assert_eq!(fixture.text(&format!("{may}::text")), "true");
}
