//! The order of loads decides which object wins where objects contradict each other, on every way back from S3.

use btc_ingest_kit::fixture::backfill::BackfillFixture;
use btc_ingest_kit::fixture::history::{History, PATTERN};
use btc_ingest_kit::fixture::{loaded, refused};
use btc_ingest_kit::rows::{but, moved, must_hold, ticks};
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::{ParquetFile, Tick};

const REPLACE: &str = r#"options => '{"on_conflict": "replace"}'"#;
const RELOAD: &str = "SELECT count(*) FROM btc_ingest.reload_slice('BTCUSDT', '2024-08-08 12:00+00')";
const DROP: &str = "SELECT drop_chunks('market_data.btc_ticks', older_than => '2100-01-01'::timestamptz)";
const RECORDED: &str = "SELECT concat_ws(' ', o.rows_read, o.rows_inserted, o.on_conflict, o.load_order,
                                         (SELECT count(*) FROM ingestion.object_slices)) FROM ingestion.objects o";

fn dearer(ticks: &[Tick], by: i64) -> Vec<Tick> {
    ticks.iter().map(|tick| but(tick, |tick| tick.price += by)).collect()
}

/// Stores two objects, of which the second, loaded with replace, corrects the first.
fn corrected() -> (BackfillFixture, [String; 2], Vec<Tick>) {
    let mut fixture = BackfillFixture::new();
    let wrong = ticks(1, 20);
    let right = dearer(&wrong[5..10], 7);
    let uris = [fixture.put("a/z.parquet", &wrong), fixture.put("a/b.parquet", &right)];
    fixture.run("SET btc_ingest.max_conflict_fraction = 1");
    loaded(&mut fixture.client, &uris[0], "");
    assert_eq!(loaded(&mut fixture.client, &uris[1], REPLACE).replaced, 5);
    fixture.run("RESET btc_ingest.max_conflict_fraction");
    let stored = wrong[..5].iter().chain(&right).chain(&wrong[10..]).cloned().collect();
    (fixture, uris, stored)
}

#[test]
fn a_correction_outlasts_the_reload_of_its_slice() {
    let (mut fixture, uris, stored) = corrected();
    for _ in 0..2 {
        assert_eq!(fixture.number(RELOAD), 2);
        must_hold(&mut fixture.client, &stored);
    }
    // So it does when one of them is read again by hand, in any order, also after all is lost.
    for force in [[0, 1], [1, 0]] {
        fixture.run(DROP);
        for at in force {
            loaded(&mut fixture.client, &uris[at], "force => true");
        }
        must_hold(&mut fixture.client, &stored);
    }
}

#[test]
fn a_correction_outlasts_the_loss_of_its_chunk() {
    let (mut fixture, _, stored) = corrected();
    for parallel in [1, 3] {
        fixture.run(DROP);
        fixture.done(&[fixture.prefix("a/")], &format!("parallel => {parallel}, force => true"));
        must_hold(&mut fixture.client, &stored);
    }
}

#[test]
fn an_object_keeps_its_place_when_it_is_loaded_again() {
    let mut fixture = BackfillFixture::new();
    fixture.run("SET btc_ingest.max_conflict_fraction = 1");
    let first = ticks(1, 10);
    let uri = fixture.put("z.parquet", &first);
    let later = fixture.put("a.parquet", &dearer(&first, 5));
    loaded(&mut fixture.client, &uri, "");
    loaded(&mut fixture.client, &later, "");
    loaded(&mut fixture.client, &uri, "force => true");
    fixture.run(RELOAD);
    must_hold(&mut fixture.client, &first);
    // Also at a new version.
    let more = ticks(1, 12);
    fixture.put("z.parquet", &more);
    loaded(&mut fixture.client, &uri, "");
    fixture.run(RELOAD);
    must_hold(&mut fixture.client, &more);
    let places = "SELECT string_agg(regexp_replace(s3_uri, '.*/', '') || ' ' || on_conflict, ', ' ORDER BY load_order)
                    FROM ingestion.objects";
    assert_eq!(fixture.text(places), "z.parquet keep, a.parquet keep");
    loaded(&mut fixture.client, &uri, &format!("force => true, {REPLACE}"));
    assert_eq!(fixture.text(places), "a.parquet keep, z.parquet replace");
}

#[test]
fn the_reload_of_a_slice_leaves_the_other_slices_of_its_objects_alone() {
    let mut fixture = BackfillFixture::new();
    let own = ticks(1, 10);
    let other: Vec<Tick> = ticks(101, 10).iter().map(|tick| moved(tick, 1)).collect();
    let uri = fixture.put("a.parquet", &[own.clone(), other.clone()].concat());
    loaded(&mut fixture.client, &uri, REPLACE);
    let before = fixture.text(RECORDED);
    // What an administrator changed by hand.
    fixture.run("UPDATE market_data.btc_ticks SET quantity = 3 WHERE trade_id = 105");
    fixture.run("DELETE FROM market_data.btc_ticks WHERE trade_id IN (4, 106)");
    let counts = "SELECT concat_ws(' ', rows_read, rows_inserted, rows_duplicate, rows_conflicting, rows_replaced)
                    FROM btc_ingest.reload_slice('BTCUSDT', '2024-08-08 12:04+00')";
    assert_eq!(fixture.text(counts), "20 10 10 0 0");
    let edited: Vec<Tick> = other
        .iter()
        .filter(|tick| tick.trade_id != 106)
        .map(|tick| {
            but(tick, |tick| {
                if tick.trade_id == 105 {
                    tick.quantity = 3_000_000_000_000
                }
            })
        })
        .collect();
    must_hold(&mut fixture.client, own.iter().chain(&edited));
    let after = fixture.text(RECORDED);
    assert_eq!(after, before);
    assert_eq!(fixture.text("SELECT bool_or(reload)::text FROM ingestion.objects"), "false");
}

#[test]
fn an_object_with_bad_rows_is_loaded_again_as_it_was() {
    let mut fixture = BackfillFixture::new();
    let all = ticks(1, 10);
    let uri = fixture.put_bytes("a/a.parquet", ParquetFile::new().null("price", &[3]).bytes(&all));
    refused(&mut fixture.client, &uri, "", "TK001");
    assert_eq!(loaded(&mut fixture.client, &uri, "on_bad_row => 'reject'").rejected, 1);
    let good: Vec<Tick> = all.iter().filter(|tick| tick.trade_id != 4).cloned().collect();
    fixture.run(RELOAD);
    must_hold(&mut fixture.client, &good);
    fixture.run(DROP);
    fixture.done(&[fixture.prefix("a/")], "force => true");
    must_hold(&mut fixture.client, &good);
    assert_eq!(fixture.number("SELECT count(*) FROM landing.rejected_ticks"), 1);
}

#[test]
fn any_history_ends_with_the_same_ticks_after_reloads_and_after_a_backfill_of_dropped_chunks() {
    for seed in 0..6 {
        let mut history = History::new(seed, BackfillFixture::new());
        for slice in history.slices() {
            let call = format!("SELECT count(*) FROM btc_ingest.reload_slice('BTCUSDT', {slice})");
            let holds = format!(
                "SELECT count(*) FROM ingestion.object_slices
                  WHERE bucket_5m = date_bin('5 minutes', {slice}, 'epoch'::timestamptz)"
            );
            if history.fixture.number(&holds) > 0 {
                history.fixture.run(&call);
            }
        }
        history.must_be_rebuilt("reload_slice");
        for parallel in [3, 1] {
            history.drop_chunks();
            let prefix = [history.fixture.prefix(PATTERN)];
            history.fixture.done(&prefix, &format!("parallel => {parallel}, force => true"));
            history.must_be_rebuilt(&format!("a backfill by {parallel} workers"));
        }
    }
}
