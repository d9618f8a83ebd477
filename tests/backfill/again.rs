//! What is loaded and gone: it is shown, and loaded again if that is asked for.

use btc_ingest_kit::fixture::backfill::BackfillFixture;
use btc_ingest_kit::fixture::chunks::{put_slice, some_ticks, week};
use btc_ingest_kit::sql::{Session, text};
use btc_ingest_kit::ticks::BUCKET_US;
use btc_ingest_kit::{Fault, FaultProxy, Tick, When};

const GONE: &str = "
    SELECT coalesce(string_agg(concat_ws(' ', asset, to_char(from_bucket AT TIME ZONE 'UTC', 'MM-DD HH24:MI'),
                                         to_char(to_bucket AT TIME ZONE 'UTC', 'MM-DD HH24:MI'), slices, ticks,
                                         objects, chunks), '; ' ORDER BY from_bucket), '')
      FROM btc_ingest.gone";
const DOCTOR: &str = "
    SELECT concat_ws(' ', ok, detail, '|', hint) FROM btc_ingest.doctor() WHERE name = 'loaded slices'";

/// Loads two slices at noon of the first day of each of three weeks, and returns their ticks by week.
fn three_weeks() -> (BackfillFixture, Vec<Vec<Tick>>) {
    let fixture = BackfillFixture::new();
    let weeks = (0..3).map(|number| {
        let start = week(number) + 144 * BUCKET_US;
        let slices = [some_ticks("BTCUSDT", start, 1), some_ticks("BTCUSDT", start + BUCKET_US, 1)];
        put_slice(&fixture, start, &slices[0]);
        put_slice(&fixture, start + BUCKET_US, &slices[1]);
        slices.concat()
    });
    let weeks: Vec<Vec<Tick>> = weeks.collect();
    fixture.done(&fixture.by_bucket(), "");
    (fixture, weeks)
}

/// Drops the chunk of a week.
fn drop_week(fixture: &mut BackfillFixture, number: i64) {
    let (from, to) = (week(number) / 1_000_000, week(number + 1) / 1_000_000);
    fixture.run(&format!(
        "SELECT drop_chunks('market_data.btc_ticks', older_than => to_timestamp({to}),
                            newer_than => to_timestamp({from}))"
    ));
}

#[test]
fn a_forced_backfill_loads_again_what_was_dropped_by_mistake() {
    let (mut fixture, weeks) = three_weeks();
    drop_week(&mut fixture, 1);
    let call = fixture.done(&fixture.by_bucket(), "");
    assert!(call.of("NOTICE").last().unwrap().contains("0 objects loaded, 6 loaded before"), "{call:#?}");
    let call = fixture.done(&fixture.by_bucket(), "force => true, \"from\" => '2024-08-15', \"to\" => '2024-08-22'");
    assert!(call.of("NOTICE").last().unwrap().contains("2 objects loaded, 0 loaded before"), "{call:#?}");
    fixture.must_hold(&weeks.concat());
    // Everything again: nothing is doubled, and the same call is a new backfill.
    for _ in 0..2 {
        let call = fixture.done(&fixture.by_bucket(), "force => true, parallel => 3");
        assert!(call.of("NOTICE").last().unwrap().contains("6 objects loaded, 0 loaded before"), "{call:#?}");
    }
    fixture.must_hold(&weeks.concat());
    assert_eq!(fixture.text("SELECT bool_or(reload)::text FROM ingestion.objects"), "false");
    let dry = fixture.done(&fixture.by_bucket(), "force => true, dry_run => true");
    assert!(dry.of("NOTICE")[0].contains("6 objects, 0 of them loaded already"), "{dry:#?}");
}

#[test]
fn an_object_that_two_prefixes_of_a_forced_backfill_name_is_loaded_once() {
    let (mut fixture, _) = three_weeks();
    let prefixes = [fixture.prefix("Binance/BTCUSDT/"), fixture.prefix("Binance/")];
    fixture.run("TRUNCATE ingestion.load_history");
    fixture.done(&prefixes, "force => true");
    assert_eq!(fixture.number("SELECT count(*) FROM ingestion.load_history"), 6);
}

#[test]
fn objects_that_a_cancelled_forced_backfill_leaves_are_loaded_again_all_the_same() {
    let (mut fixture, weeks) = three_weeks();
    drop_week(&mut fixture, 2);
    let proxy = FaultProxy::before(&fixture.server.s3);
    proxy.on(When::get().key("20240822"), Fault::Hang);
    fixture.through(&proxy);
    let call = fixture.begin(&fixture.by_bucket(), "force => true, parallel => 1");
    proxy.wait_until_stalled(btc_ingest_kit::wait::SOON);
    fixture.run("SELECT btc_ingest.cancel_backfill(max(id)) FROM ingestion.backfills");
    call.join().unwrap();
    proxy.clear();
    proxy.release();
    fixture.done(&fixture.by_bucket(), "");
    fixture.must_hold(&weeks.concat());
}

#[test]
fn slices_that_are_loaded_and_gone_are_shown_and_the_doctors_line_brings_them_back() {
    let (mut fixture, weeks) = three_weeks();
    let ticks = |number: usize| weeks[number].len();
    assert_eq!(fixture.text(GONE), "");
    assert_eq!(fixture.text(DOCTOR), "t their chunks exist, or are recorded as dropped |");
    // Within the history.
    drop_week(&mut fixture, 1);
    assert_eq!(fixture.text(GONE), format!("BTCUSDT 08-15 12:00 08-15 12:05 2 {} 2 before and after", ticks(1)));
    let said = fixture.text(DOCTOR);
    let (detail, fix) = said.split_once(" | ").unwrap();
    assert_eq!(detail, "f their ticks are gone with their chunks: BTCUSDT 2024-08-15 12:00+00 to 2024-08-15 12:10+00");
    fixture.run(fix);
    fixture.must_hold(&weeks.concat());
    // All of it.
    fixture.run("SELECT drop_chunks('market_data.btc_ticks', older_than => '2100-01-01'::timestamptz)");
    let all = ticks(0) + ticks(1) + ticks(2);
    assert_eq!(fixture.text(GONE), format!("BTCUSDT 08-08 12:00 08-22 12:05 6 {all} 6 none"));
    let said = fixture.text(DOCTOR);
    assert!(said.starts_with("f "), "{said}");
    fixture.run(said.split_once(" | ").unwrap().1);
    fixture.must_hold(&weeks.concat());
    // The oldest, as by age: this is only something to know.
    drop_week(&mut fixture, 0);
    assert_eq!(fixture.text(GONE), format!("BTCUSDT 08-08 12:00 08-08 12:05 2 {} 2 after", ticks(0)));
    let said = fixture.text(DOCTOR);
    assert!(said.starts_with("t their ticks are gone") && said.contains("dropped by age"), "{said}");
    let mut reader = fixture.db.client();
    reader.batch_execute("SET ROLE btc_ingest_reader").unwrap();
    assert_eq!(text(&mut reader, "SELECT count(*)::text FROM btc_ingest.gone"), "1");
}

#[test]
fn one_prefix_may_be_given_as_text_and_an_array_as_a_literal() {
    let mut fixture = BackfillFixture::new();
    let all = fixture.put_small(3);
    let prefix = fixture.prefix("Binance/");
    fixture.run(&format!("CALL btc_ingest.backfill('{prefix}', parallel => 1)"));
    fixture.must_hold(&all);
    fixture.run(&format!("CALL btc_ingest.backfill('{prefix}'::text, NULL, NULL, 1)"));
    fixture.run(&format!("CALL btc_ingest.backfill('{{{prefix},{prefix}BTCUSDT/}}', force => true)"));
    fixture.must_hold(&all);
    assert_eq!(fixture.status("cardinality(prefixes), objects_done"), "2 3");
}

#[test]
fn a_dry_run_says_the_time_in_a_unit_that_fits() {
    let mut fixture = BackfillFixture::new();
    fixture.put_small(3);
    let call = fixture.done(&[fixture.prefix("Binance/")], "dry_run => true, parallel => 3");
    assert_eq!(call.of("NOTICE").last().unwrap(), &"time: about a second with parallel => 3");
    for (seconds, said) in
        [(0.0, "a second"), (42.3, "42 seconds"), (250.0, "4 minutes"), (9_000.0, "2.5 hours"), (216_000.0, "2.5 days")]
    {
        assert_eq!(fixture.text(&format!("SELECT btc_ingest_internal.duration_text({seconds})")), said);
    }
}
