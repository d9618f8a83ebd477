//! Times that are far away from all others plan no chunks between.

use btc_ingest_kit::fixture::chunks::{chunk_fixture, put_weeks};
use btc_ingest_kit::rows::{but, ticks};
use btc_ingest_kit::ticks::time_us;

#[test]
fn an_object_over_thousands_of_chunks_plans_none_and_is_loaded_on_its_own() {
    let Some(mut fixture) = chunk_fixture() else { return };
    fixture.set("min_time", "");
    fixture.set("max_time_ahead", "2147483647");
    let mut all = put_weeks(&fixture, 0..2, 2);
    let far: Vec<_> = ["1970-01-01T00:00:01Z", "6000-01-01T00:00:01Z"]
        .into_iter()
        .zip(ticks(1, 2))
        .map(|(time, tick)| but(&tick, |tick| (tick.event_time_us, tick.trade_time_us) = (time_us(time), None)))
        .collect();
    // Its key tells no times. Its footer tells the first and the last one.
    fixture.put("Binance/BTCUSDT/far.parquet", &far);
    fixture.chunked(&[fixture.prefix("Binance/")], "parallel => 2");
    let units = fixture.units();
    assert!(units.len() == 2 && units.iter().all(|unit| unit.starts_with("attached ")), "{units:?}");
    all.extend(far);
    fixture.must_hold_chunks(&all);
}
