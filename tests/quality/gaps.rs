//! Gaps, conditions and completeness of hand-made objects.

use btc_ingest_kit::Tick;
use btc_ingest_kit::fixture::{BUCKET, loaded};
use btc_ingest_kit::rows::{but, ticks, ticks_of};
use btc_ingest_kit::sql::Session;

use crate::quality_fixture::QualityFixture;

const GAPS: &str = "SELECT concat_ws(' ', asset, first_trade_id || '-' || last_trade_id, missing, state,
                           to_char(before_time AT TIME ZONE 'UTC', 'HH24:MI:SS'),
                           to_char(after_time AT TIME ZONE 'UTC', 'HH24:MI:SS'), reason)
                      FROM btc_ingest.gaps ORDER BY asset, first_trade_id";

/// Returns the ticks with these ids out of ids 1 to 1,200, one per second from 12:00 on.
fn ids(ranges: &[std::ops::RangeInclusive<i64>]) -> Vec<Tick> {
    ticks(1, 1200).into_iter().filter(|tick| ranges.iter().any(|range| range.contains(&tick.trade_id))).collect()
}

#[test]
fn a_hole_within_a_slice_or_over_many_is_one_gap() {
    let mut fixture = QualityFixture::new();
    fixture.load("a", &ids(&[1..=100, 111..=250, 901..=1000]));
    assert_eq!(
        fixture.texts(GAPS),
        ["BTCUSDT 101-110 10 open 12:01:39 12:01:50", "BTCUSDT 251-900 650 open 12:04:09 12:15:00"]
    );
    let since = "SELECT count(*) FROM btc_ingest.gaps g
                  WHERE g.since = (SELECT max(s.loaded_at) FROM ingestion.object_slices s) AND g.filled_at IS NULL";
    assert_eq!(fixture.number(since), 2);
}

#[test]
fn a_first_tick_has_no_gap_before_it_and_assets_do_not_mix() {
    let mut fixture = QualityFixture::new();
    fixture.load("a", &ticks_of("BTCUSDT", 1_000_000, 100));
    fixture.load("b", &ticks_of("ETHUSDT", 5, 100));
    fixture.load("c", &ticks_of("BTCUSDT-PERP", 50, 100));
    assert_eq!(fixture.texts(GAPS), [] as [String; 0]);
}

#[test]
fn a_gap_is_there_with_the_transaction_that_stores_the_ticks_and_not_before() {
    let mut fixture = QualityFixture::new();
    fixture.load("a", &ids(&[1..=10]));
    fixture.run("BEGIN");
    fixture.load("b", &ids(&[21..=30]));
    let mut other = fixture.db.client();
    let count = "SELECT count(*) FROM btc_ingest.gaps";
    assert_eq!((fixture.number(count), btc_ingest_kit::sql::number(&mut other, count)), (1, 0));
    fixture.run("ROLLBACK");
    assert_eq!(fixture.number(count), 0);
}

#[test]
fn late_ticks_fill_and_split_what_was_noted() {
    let mut fixture = QualityFixture::new();
    fixture.load("a", &ids(&[1..=10, 21..=30, 41..=50]));
    assert_eq!(fixture.number("SELECT btc_ingest.report_gaps()"), 2);
    fixture.run("SELECT btc_ingest.explain_gap('BTCUSDT', 31, 40, 'maintenance')");
    fixture.load("late", &ids(&[13..=14, 31..=40]));
    assert_eq!(
        fixture.texts(GAPS),
        [
            "BTCUSDT 11-12 2 open 12:00:09 12:00:12",
            "BTCUSDT 13-14 2 filled 12:00:12 12:00:13",
            "BTCUSDT 15-20 6 open 12:00:13 12:00:20",
            "BTCUSDT 31-40 10 filled 12:00:30 12:00:39 maintenance",
        ]
    );
    // What is left of a hole that was reported is not reported again.
    assert_eq!(fixture.number("SELECT btc_ingest.report_gaps()"), 0);
}

#[test]
fn a_part_of_a_gap_can_be_explained() {
    let mut fixture = QualityFixture::new();
    fixture.load("a", &ids(&[1..=10, 21..=30]));
    assert_eq!(fixture.number("SELECT btc_ingest.explain_gap('BTCUSDT', 1, 1000, 'x')"), 1);
    assert_eq!(fixture.texts(GAPS), ["BTCUSDT 11-20 10 explained 12:00:09 12:00:20 x"]);
    let who =
        "SELECT count(*) FROM btc_ingest.gaps WHERE noted_by = session_user AND noted_at > now() - interval '1 hour'";
    assert_eq!(fixture.number(who), 1);
    let refusal = fixture.refused("SELECT btc_ingest.explain_gap('BTCUSDT', 1, 10, 'x')");
    assert_eq!(refusal.sqlstate, "TK002");
    assert!(refusal.message.contains("no trade id of BTCUSDT is missing from 1 to 10"), "{refusal:?}");
    for args in ["'BTCUSDT', 11, 20, ' '", "'BTCUSDT', NULL, 20, 'x'", "'', 11, 20, 'x'", "NULL, 11, 20, 'x'"] {
        assert_eq!(fixture.refused(&format!("SELECT btc_ingest.explain_gap({args})")).sqlstate, "TK002", "{args}");
    }
}

#[test]
fn incidents_explain_the_gaps_within_them() {
    let mut fixture = QualityFixture::new();
    fixture.load("a", &ids(&[1..=300, 601..=700, 801..=1200]));
    fixture.load(
        "b",
        &ticks_of("ETHUSDT", 1, 1200).into_iter().filter(|t| !(301..=600).contains(&t.trade_id)).collect::<Vec<_>>(),
    );
    let import = |text: &str| format!("SELECT btc_ingest.import_incidents('{text}')");
    let outage = r#"[{"from": "2024-08-08T12:05:00.000Z", "to": "2024-08-08T12:09:59.000Z", "status": "resolved",
                      "details": "the collector was down"}]"#;
    assert_eq!(fixture.number(&import(outage)), 2);
    assert_eq!(
        fixture.texts(GAPS),
        [
            "BTCUSDT 301-600 300 explained 12:04:59 12:10:00 resolved: the collector was down",
            "BTCUSDT 701-800 100 open 12:11:39 12:13:20",
            "ETHUSDT 301-600 300 explained 12:04:59 12:10:00 resolved: the collector was down",
        ]
    );
    let of_another = r#"[{"from": "2024-08-08T12:00:00Z", "to": "2024-08-08T13:00:00Z", "asset": "ETHUSDT"}]"#;
    assert_eq!(fixture.number(&import(of_another)), 1, "the one of ETHUSDT");
    for bad in ["{}", r#"[{"from": "yesterday", "to": "2024-08-08T13:00:00Z"}]"#] {
        assert_eq!(fixture.refused(&import(bad)).sqlstate, "TK002", "{bad}");
    }
    assert_eq!(fixture.refused("SELECT btc_ingest.import_incidents(NULL)").sqlstate, "TK002");
}

#[test]
fn an_asset_whose_ids_are_no_sequence_has_no_gaps_but_missing_slices() {
    let mut fixture = QualityFixture::new();
    fixture.load("a", &ids(&[1..=100, 301..=400, 901..=1000]));
    fixture.run("SELECT btc_ingest.declare_asset('BTCUSDT', false)");
    assert_eq!(fixture.texts(GAPS), [] as [String; 0]);
    let complete = "SELECT concat_ws(' ', complete, missing_slices, reason)
                      FROM btc_ingest.completeness('BTCUSDT', '2024-08-08 12:00Z', '2024-08-08 12:20Z')";
    assert_eq!(fixture.text(complete), "f 1 1 slices are missing");
    fixture.run("SELECT btc_ingest.declare_asset('BTCUSDT', true)");
    assert_eq!(fixture.texts(GAPS).len(), 2);
    assert_eq!(fixture.refused("SELECT btc_ingest.declare_asset(NULL, true)").sqlstate, "TK002");
}

#[test]
fn the_view_lag_tells_of_open_gaps_since_they_were_counted() {
    let mut fixture = QualityFixture::new();
    let told = "SELECT string_agg(concat_ws(' ', asset, open_gaps, missing_ids, gaps_counted_at IS NOT NULL), ', '
                                  ORDER BY asset) FROM btc_ingest.lag";
    fixture.load("a", &ids(&[1..=10, 21..=30, 41..=50]));
    fixture.load("b", &ticks_of("ETHUSDT", 1, 5));
    assert_eq!(fixture.text(told), "BTCUSDT f, ETHUSDT f");
    fixture.run("SELECT btc_ingest.report_gaps()");
    assert_eq!(fixture.text(told), "BTCUSDT 2 20 t, ETHUSDT 0 0 t");
    // A part of a hole is explained: it stays open.
    fixture.run("SELECT btc_ingest.explain_gap('BTCUSDT', 11, 15, 'x')");
    assert_eq!(fixture.text(told), "BTCUSDT 2 20 t, ETHUSDT 0 0 t");
    fixture.run("SELECT btc_ingest.explain_gap('BTCUSDT', 16, 20, 'x')");
    assert_eq!(fixture.text(told), "BTCUSDT 1 10 t, ETHUSDT 0 0 t");
    fixture.run("SELECT btc_ingest.declare_asset('BTCUSDT', true)");
    fixture.load("late", &ids(&[31..=40]));
    assert_eq!(fixture.text(told), "BTCUSDT 1 10 t, ETHUSDT 0 0 t", "before it is counted again");
    fixture.run("SELECT btc_ingest.report_gaps()");
    assert_eq!(fixture.text(told), "BTCUSDT 0 0 t, ETHUSDT 0 0 t");
    fixture.run("SELECT btc_ingest.declare_asset('BTCUSDT', false)");
    assert_eq!(fixture.text(told), "BTCUSDT f, ETHUSDT 0 0 t");
}

#[test]
fn a_producer_declares_by_metadata_or_a_load_by_its_option_that_ids_are_no_sequence() {
    let mut fixture = QualityFixture::new();
    let declared =
        "SELECT string_agg(concat_ws(' ', asset, sequential_ids, changed_by IS NOT NULL), ', ' ORDER BY asset)
                      FROM ingestion.assets";
    let uri = fixture.put("a", &ids(&[1..=10, 301..=310]));
    fixture.run(&format!(
        "SELECT btc_ingest.register_s3_slice('{uri}', 'BTCUSDT', '2024-08-08 12:00Z', '{{\"sequential_ids\": false}}')"
    ));
    loaded(&mut fixture.client, &uri, "");
    assert_eq!(fixture.text(declared), "BTCUSDT f f");
    assert_eq!(fixture.texts(GAPS), [] as [String; 0]);
    // The last load counts.
    let uri = fixture.put("b", &ids(&[601..=610]));
    loaded(&mut fixture.client, &uri, r#"options => '{"sequential_ids": true}'"#);
    assert_eq!(fixture.text(declared), "BTCUSDT t f");
    assert_eq!(fixture.texts(GAPS).len(), 2);
    // But not against a role.
    fixture.run("SELECT btc_ingest.declare_asset('BTCUSDT', true)");
    let uri = fixture.put("c", &ids(&[901..=910]));
    loaded(&mut fixture.client, &uri, r#"options => '{"sequential_ids": false}'"#);
    assert_eq!(fixture.text(declared), "BTCUSDT t t");
    assert_eq!(fixture.texts(GAPS).len(), 3);
    // A load that is rolled back declares nothing, and one without the option neither.
    let uri = fixture.put("d", &ticks_of("ETHUSDT", 1, 3));
    fixture.run("BEGIN");
    loaded(&mut fixture.client, &uri, r#"options => '{"sequential_ids": false}'"#);
    fixture.run("ROLLBACK");
    loaded(&mut fixture.client, &uri, "");
    assert_eq!(fixture.text(declared), "BTCUSDT t t");
}

#[test]
fn a_watch_declares_that_ids_are_no_sequence() {
    let mut fixture = QualityFixture::new();
    fixture.put("watched/a", &ids(&[1..=10, 21..=30]));
    let prefix = format!("s3://{BUCKET}/{}/watched/", fixture.db.name());
    fixture.run(&format!("SELECT btc_ingest.watch('{prefix}', '{{\"sequential_ids\": false}}')"));
    fixture.run("SELECT * FROM btc_ingest.discover()");
    fixture.run("SELECT btc_ingest.sweep(10)");
    assert_eq!(fixture.number("SELECT sum(ticks)::bigint FROM ingestion.object_slices"), 20);
    assert_eq!(fixture.texts(GAPS), [] as [String; 0]);
    assert_eq!(fixture.text("SELECT sequential_ids::text FROM ingestion.assets"), "false");
}

#[test]
fn listeners_are_told_of_new_gaps() {
    let mut fixture = QualityFixture::new();
    fixture.load("a", &ids(&[1..=10, 21..=30, 32..=40]));
    let mut listener = fixture.db.client();
    listener.batch_execute("LISTEN btc_ingest_gaps").unwrap();
    fixture.run("SELECT btc_ingest.report_gaps()");
    let mut told = listener.notifications();
    let mut wait = told.timeout_iter(std::time::Duration::from_secs(20));
    let notification = postgres::fallible_iterator::FallibleIterator::next(&mut wait).unwrap().unwrap();
    assert_eq!(notification.payload(), r#"{"asset" : "BTCUSDT", "gaps" : 2, "missing" : 11}"#);
}

#[test]
fn doctor_fails_from_one_open_gap_more_than_the_setting_allows() {
    let mut fixture = QualityFixture::new();
    let line = "SELECT concat_ws(' ', ok, detail, hint IS NOT NULL) FROM btc_ingest.doctor() WHERE name = 'gaps'";
    assert_eq!(fixture.text(line), "t none is open f");
    fixture.load("a", &ids(&[1..=10, 21..=30, 32..=40]));
    fixture.run("SET btc_ingest.max_open_gaps = 2");
    assert_eq!(fixture.text(line), "t 2 gaps are open, 11 trade ids are missing t");
    fixture.run("SET btc_ingest.max_open_gaps = 1");
    assert_eq!(fixture.text(line), "f 2 gaps are open, 11 trade ids are missing t");
    // A gap with a reason counts no more.
    fixture.run("SELECT btc_ingest.explain_gap('BTCUSDT', 31, 31, 'maintenance')");
    assert_eq!(fixture.text(line), "t 1 gaps are open, 10 trade ids are missing t");
}

#[test]
fn a_reloaded_slice_has_the_ids_of_its_objects_as_they_are_now() {
    let mut fixture = QualityFixture::new();
    fixture.load("a", &ids(&[1..=300]));
    fixture.load("b", &ids(&[301..=600]));
    // The second version lacks ticks; the stored ones stay until the slice is loaded again.
    let uri = fixture.put("a", &ids(&[1..=100, 201..=300]));
    loaded(&mut fixture.client, &uri, "");
    assert_eq!(fixture.texts(GAPS), [] as [String; 0]);
    fixture.run("SELECT * FROM btc_ingest.reload_slice('BTCUSDT', '2024-08-08 12:00Z')");
    assert_eq!(fixture.texts(GAPS), ["BTCUSDT 101-200 100 open 12:01:39 12:03:20"]);
}

#[test]
fn a_slice_that_is_far_from_a_sequence_is_kept_as_its_range() {
    let mut fixture = QualityFixture::new();
    let even: Vec<Tick> = (0..3000)
        .map(|n| but(&ticks(1, 1)[0], |tick| (tick.trade_id, tick.event_time_us) = (2 * n, tick.event_time_us + n)))
        .collect();
    fixture.load("a", &even);
    assert_eq!(fixture.texts(GAPS), [] as [String; 0]);
    let slices = "SELECT concat_ws(' ', ids IS NULL, missing_ids > 0, first_trade_id, last_trade_id)
                    FROM ingestion.object_slices";
    assert_eq!(fixture.text(slices), "t t 0 5998");
}

#[test]
fn a_slice_knows_its_ticks_out_of_order_and_its_time_skew() {
    let mut fixture = QualityFixture::new();
    let mut all = ticks(1, 10);
    all[4].event_time_us += 1_500_000;
    all[7].trade_time_us = Some(all[7].event_time_us - 7_000_000);
    all.push(all[2].clone());
    fixture.load("a", &all);
    let facts =
        "SELECT concat_ws(' ', ticks, ids, missing_ids, out_of_order, max_time_skew) FROM ingestion.object_slices";
    assert_eq!(fixture.text(facts), "11 {[1,11)} 0 1 00:00:07");
}

const CONDITIONS: &str =
    "SELECT concat_ws(' ', asset, day, condition, 'ticks', ticks, 'gaps', open_gaps, explained_gaps,
    'missing', missing_ids, missing_slices, 'objects', waiting, quarantined, 'rows', rejected, conflicting)
    FROM btc_ingest.conditions() ORDER BY asset, day";

/// Returns the ticks so many days later, with ids from `first_id` on.
fn on_day(day: i64, first_id: i64, count: usize) -> Vec<Tick> {
    let later = |tick: Tick| but(&tick, |tick| tick.event_time_us += day * 86_400_000_000);
    ticks(first_id, count).into_iter().map(later).collect()
}

#[test]
fn a_day_is_available_degraded_pending_or_missing() {
    let mut fixture = QualityFixture::new();
    fixture.load("0", &on_day(0, 1, 100));
    fixture.load("1", &on_day(1, 101, 100));
    fixture.load("3", &on_day(3, 301, 100));
    fixture.load("4", &on_day(4, 401, 100));
    let mut changed = on_day(4, 401, 100);
    changed[3].price += 1;
    fixture.load("again", &changed);
    let found = fixture.texts(CONDITIONS);
    assert_eq!(
        found,
        [
            "BTCUSDT 2024-08-08 available ticks 100 gaps 0 0 missing 0 0 objects 0 0 rows 0 0",
            "BTCUSDT 2024-08-09 degraded ticks 100 gaps 1 0 missing 100 143 objects 0 0 rows 0 0",
            "BTCUSDT 2024-08-10 missing ticks 0 gaps 0 0 missing 0 288 objects 0 0 rows 0 0",
            "BTCUSDT 2024-08-11 degraded ticks 100 gaps 0 0 missing 0 144 objects 0 0 rows 0 0",
            "BTCUSDT 2024-08-12 available ticks 100 gaps 0 0 missing 0 0 objects 0 0 rows 0 1",
        ]
    );
    // Its object is registered.
    let uri = fixture.put("2", &on_day(2, 201, 100));
    fixture.run(&format!("SELECT btc_ingest.register_s3_slice('{uri}', 'BTCUSDT', '2024-08-10 12:00Z')"));
    let found = fixture.texts(CONDITIONS);
    assert!(found[2].starts_with("BTCUSDT 2024-08-10 pending ticks 0"), "{found:?}");
    loaded(&mut fixture.client, &uri, "");
    let found = fixture.texts(CONDITIONS);
    assert!(found.len() == 5 && found.iter().all(|line| line.contains(" available ")), "{found:?}");
    let few = "SELECT count(*) FROM btc_ingest.conditions('2024-08-09 13:00Z', '2024-08-11')";
    assert_eq!(fixture.number(few), 2);
}

#[test]
fn the_report_is_text_for_a_mail() {
    let mut fixture = QualityFixture::new();
    assert_eq!(fixture.text("SELECT btc_ingest.quality_report()"), "nothing is loaded");
    fixture.load("a", &ids(&[1..=100, 111..=200]));
    fixture.load("b", &ticks_of("ETHUSDT", 1, 100));
    assert_eq!(
        fixture.text("SELECT btc_ingest.quality_report('2024-08-08', '2024-08-09')"),
        "BTCUSDT, 2024-08-08 to 2024-08-08: 0 days available, 1 degraded, 0 pending, 0 missing\n  \
         190 ticks, 1 open gaps (10 ids), 0 explained gaps, 0 rejected rows, 0 conflicting rows\n\
         ETHUSDT, 2024-08-08 to 2024-08-08: 1 days available, 0 degraded, 0 pending, 0 missing\n  \
         100 ticks, 0 open gaps (0 ids), 0 explained gaps, 0 rejected rows, 0 conflicting rows\n\
         BTCUSDT 2024-08-08: degraded, 1 open gaps, 10 missing ids (50000.0 per million), 0 missing slices, \
         0 objects wait, 0 are quarantined"
    );
}

#[test]
fn a_range_is_complete_if_nothing_waits_and_nothing_is_missing() {
    let mut fixture = QualityFixture::new();
    let complete = |from: &str, to: &str| {
        format!(
            "SELECT concat_ws(' ', complete, waiting, quarantined, open_gaps, missing_ids, reason)
               FROM btc_ingest.completeness('BTCUSDT', '2024-08-08 {from}Z', '2024-08-08 {to}Z')"
        )
    };
    assert_eq!(fixture.text(&complete("12:00", "12:05")), "f 0 0 0 0 nothing is loaded");
    fixture.load("a", &ids(&[1..=600, 701..=1200]));
    assert_eq!(fixture.text(&complete("12:00", "12:05")), "t 0 0 0 0");
    // The first of the missing ticks may have been a moment before 12:10.
    assert_eq!(fixture.text(&complete("12:00", "12:10")), "f 0 0 1 100 1 gaps are open");
    assert_eq!(fixture.text(&complete("12:00", "12:20")), "f 0 0 1 100 1 gaps are open");
    assert_eq!(fixture.text(&complete("12:15", "12:20")), "t 0 0 0 0");
    assert!(fixture.text(&complete("11:00", "12:05")).starts_with("f 0 0 0 0 the first tick is at"));
    assert!(fixture.text(&complete("12:15", "13:00")).starts_with("f 0 0 0 0 the last tick is at"));
    fixture.run("SELECT btc_ingest.explain_gap('BTCUSDT', 601, 700, 'x')");
    assert_eq!(fixture.text(&complete("12:00", "12:20")), "t 0 0 0 0");
    let uri = fixture.put("late", &ids(&[601..=700]));
    fixture.run(&format!("SELECT btc_ingest.register_s3_slice('{uri}', 'BTCUSDT', '2024-08-08 12:10Z')"));
    assert_eq!(fixture.text(&complete("12:00", "12:20")), "f 1 0 0 0 1 objects wait");
    assert_eq!(fixture.text(&complete("12:00", "12:10")), "t 0 0 0 0");
    loaded(&mut fixture.client, &uri, "");
    assert_eq!(fixture.text(&complete("12:00", "12:20")), "t 0 0 0 0");
}
