//! Objects that take more locks than there are, or for which resources run out: the backfill goes on without them.

use btc_ingest_kit::fixture::backfill::{BackfillFixture, MOST_ATTEMPTS};
use btc_ingest_kit::fixture::must_hold_sums;
use btc_ingest_kit::rows::{ticks_of, weekly};
use btc_ingest_kit::sql::Session;

/// Lets every tick of which the condition is true fail as PostgreSQL does when its table of locks is full.
fn short(condition: &str) -> String {
    format!(
        "CREATE FUNCTION public.is_short() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF {condition} THEN RAISE 'out of shared memory' USING ERRCODE = '53200'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER is_short BEFORE INSERT ON market_data.btc_ticks
             FOR EACH ROW EXECUTE FUNCTION public.is_short()"
    )
}

#[test]
fn an_object_in_two_thousand_weeks_is_given_up_and_stops_no_backfill() {
    let mut fixture = BackfillFixture::new();
    fixture.set("min_time", "1970-01-01");
    let all = fixture.put_small(8);
    fixture.put("Binance/BTCUSDT/2024/08/08/far.parquet", &weekly("FARUSDT", 1, "1980-01-06T00:00:00Z", 2_000));
    fixture.done(&[fixture.prefix("Binance/")], "parallel => 2");
    assert_eq!(fixture.status("status, objects_total, objects_done, objects_failed"), "done 9 8 1");
    let failures =
        "SELECT string_agg(concat_ws(' ', status, attempts, sqlstate), ', ') FROM btc_ingest.backfill_failures(1)";
    assert_eq!(fixture.text(failures), "quarantined 1 TK033");
    must_hold_sums(&mut fixture.client, &all);
}

#[test]
fn an_object_for_which_resources_run_out_while_others_load_stops_no_backfill() {
    let mut fixture = BackfillFixture::new();
    fixture.run(&short("NEW.symbol = 'FULLUSDT'"));
    let all = fixture.put_small(8);
    // It comes first.
    fixture.put("Binance/BTCUSDT/2024/08/08/a.parquet", &ticks_of("FULLUSDT", 1, 10));
    fixture.done(&[fixture.prefix("Binance/")], "parallel => 1");
    assert_eq!(fixture.status("status, objects_total, objects_done, objects_failed"), "done 9 8 1");
    let failures =
        "SELECT string_agg(concat_ws(' ', status, attempts, sqlstate), ', ') FROM btc_ingest.backfill_failures(1)";
    assert_eq!(fixture.text(failures), format!("quarantined {MOST_ATTEMPTS} 53200"));
    must_hold_sums(&mut fixture.client, &all);
}

#[test]
fn a_lack_of_resources_that_strikes_every_object_stops_the_backfill_and_counts_against_none() {
    let mut fixture = BackfillFixture::new();
    fixture.run(&short("true"));
    let all = fixture.put_small(8);
    let called = fixture.call(&[fixture.prefix("Binance/")], "parallel => 2");
    assert_eq!(called.sqlstate(), "53200", "{called:#?}");
    assert_eq!(fixture.status("status, sqlstate, objects_failed"), "stopped 53200 0");
    // A worker that had begun an attempt takes it back when it ends.
    fixture.wait_for("no attempt", "(SELECT coalesce(max(attempts), 0) = 0 FROM ingestion.objects)");
    fixture.run("DROP TRIGGER is_short ON market_data.btc_ticks");
    fixture.done(&[fixture.prefix("Binance/")], "");
    must_hold_sums(&mut fixture.client, &all);
}
