//! The order of loads decides in chunk mode as it does everywhere.

use btc_ingest_kit::fixture::chunks::chunk_fixture;
use btc_ingest_kit::fixture::history::{History, PATTERN};

#[test]
fn any_history_ends_with_the_same_ticks_after_a_backfill_by_chunks() {
    for seed in 100..106 {
        let Some(fixture) = chunk_fixture() else { return };
        let mut history = History::new(seed, fixture);
        for parallel in [3, 1] {
            history.drop_chunks();
            let prefix = [history.fixture.prefix(PATTERN)];
            history.fixture.chunked(&prefix, &format!("parallel => {parallel}, force => true"));
            history.must_be_rebuilt(&format!("a backfill by chunks by {parallel} workers"));
            let units = history.fixture.units();
            assert!(units.iter().any(|unit| unit.starts_with("attached")), "{units:?}");
        }
    }
}
