//! Loads into compressed chunks, which are compressed again afterwards.

use std::time::Duration;

use btc_ingest_kit::Tick;
use btc_ingest_kit::fixture::chunks::{some_ticks, week};
use btc_ingest_kit::fixture::{loaded, must_hold_sums};
use btc_ingest_kit::rows::but;
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::ticks::PRICE_UNIT;
use btc_ingest_kit::wait::wait_until;

use crate::retention_fixture::RetentionFixture;

/// TimescaleDB's scheduler looks for jobs now and then.
const JOB: Duration = Duration::from_secs(60);
/// 1: compressed; 9: with rows beside that are not.
const STATUS: &str = "SELECT string_agg(c.status::text, ' ') FROM _timescaledb_catalog.chunk c
                        JOIN _timescaledb_catalog.hypertable h ON h.id = c.hypertable_id
                       WHERE h.table_name = 'btc_ticks'";

#[test]
fn late_and_replaced_ticks_are_loaded_into_compressed_chunks_which_are_compressed_again() {
    let Some(mut fixture) = RetentionFixture::of_community() else { return };
    // Each load would exceed it.
    fixture.run(&format!(
        "ALTER DATABASE {} SET timescaledb.max_tuples_decompressed_per_dml_transaction = 5",
        fixture.db.name()
    ));
    fixture.client = fixture.db.client();
    let all = some_ticks("BTCUSDT", week(0), 3);
    let (early, late): (Vec<Tick>, Vec<Tick>) = all.iter().cloned().partition(|tick| tick.trade_id % 3 != 0);
    let uri = fixture.put("early", &early);
    loaded(&mut fixture.client, &uri, "");
    fixture.run("UPDATE ops.retention_jobs SET enabled = true WHERE job_name = 'compress ticks'");
    wait_until("the policy", JOB, || fixture.text(STATUS) == "1");

    // Ticks between those that are compressed, the same ticks again, and one that is replaced.
    let uri = fixture.put("late", &late);
    loaded(&mut fixture.client, &uri, "");
    must_hold_sums(&mut fixture.client, &all);
    let uri = fixture.put("again", &all);
    let report = loaded(&mut fixture.client, &uri, "");
    assert_eq!(report.counts()[1], 0, "{report:?}");
    let mut right = all.clone();
    for tick in right.iter_mut().step_by(11) {
        *tick = but(tick, |tick| tick.price += PRICE_UNIT);
    }
    let uri = fixture.put("late", &right);
    loaded(&mut fixture.client, &uri, r#"options => '{"on_conflict": "replace"}'"#);
    must_hold_sums(&mut fixture.client, &right);

    let again = "SELECT alter_job(job_id, next_start => now()) FROM timescaledb_information.jobs
                  WHERE config ? 'btc_ingest'";
    fixture.run(again);
    wait_until("the policy again", JOB, || fixture.text(STATUS) == "1");
    must_hold_sums(&mut fixture.client, &right);
    // A compressed chunk is dropped and comes back as any other.
    fixture.drop_before(1);
    fixture.run(crate::retention_fixture::RUN);
    assert_eq!(fixture.lines(crate::retention_fixture::HELD), [""; 0]);
    assert_eq!(fixture.chunks(), [""; 0]);
    fixture.run("CALL btc_ingest.restore_range('BTCUSDT', '2024-08-08', '2024-08-09')");
    must_hold_sums(&mut fixture.client, &right);
}
