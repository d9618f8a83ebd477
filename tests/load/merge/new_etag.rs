//! An object with a new etag is merged with what is stored.

use super::*;

#[test]
fn a_new_etag_is_merged_tick_by_tick_and_what_is_stored_stays() {
    let mut fixture = LoadFixture::new();
    let (old, new) = old_and_new();
    let uri = fixture.put("a.parquet", &old);
    fixture.load(&uri, "");
    assert_eq!(fixture.put("a.parquet", &new), uri);
    let report = fixture.load(&uri, "");
    assert_eq!((report.counts(), report.outcome.as_str()), ([70, 50, 15, 5, 0, 0], "loaded"));
    must_hold(&mut fixture.client, old.iter().chain(&new[20..]));

    let rejected = fixture.rejected();
    assert_eq!(rejected.iter().map(|(row, ..)| *row).collect::<Vec<_>>(), [15, 16, 17, 18, 19]);
    let (_, reason, data) = &rejected[0];
    assert!(reason.contains("BTCUSDT 46") && reason.contains("60045.00000045"), "{reason}");
    assert!(reason.contains("60045.00000046"), "{reason}");
    assert!(data.contains(r#""trade_id": 46"#) && data.contains(r#""price": 60045.00000046"#), "{data}");
    let kept = fixture.text("SELECT string_agg(DISTINCT s3_uri || ' ' || etag, ',') FROM landing.rejected_ticks");
    assert_eq!(kept, format!("{uri} {}", report.etag));
    assert_eq!(fixture.load(&uri, "").outcome, "already loaded");
}

#[test]
fn replace_stores_the_objects_values_of_what_differs() {
    let mut fixture = LoadFixture::new();
    let (old, new) = old_and_new();
    let uri = fixture.put("a.parquet", &old);
    fixture.load(&uri, "");
    fixture.put("a.parquet", &new);
    let report = fixture.load(&uri, r#"options => '{"on_conflict": "replace"}'"#);
    assert_eq!(report.counts(), [70, 50, 15, 0, 5, 0]);
    must_hold(&mut fixture.client, old[..30].iter().chain(&new));
    assert_eq!(fixture.rejected(), []);
}

#[test]
fn abort_fails_on_the_first_conflict_and_changes_nothing() {
    let mut fixture = LoadFixture::new();
    let (old, new) = old_and_new();
    let uri = fixture.put("a.parquet", &old);
    fixture.load(&uri, "");
    let before = fixture.rows_everywhere();
    fixture.put("a.parquet", &new);
    let refusal = refused(&mut fixture.client, &uri, r#"options => '{"on_conflict": "abort"}'"#, "TK004");
    assert!(refusal.message.contains("5 ticks conflict") && refusal.message.contains(&uri), "{refusal:?}");
    assert!(refusal.detail.contains("BTCUSDT 46"), "{refusal:?}");
    assert!(refusal.hint.contains("on_conflict"), "{refusal:?}");
    assert_eq!(fixture.rows_everywhere(), before);
    must_hold(&mut fixture.client, &old);
    // The old version is still what is loaded, so the new one loads when the caller says how.
    assert_eq!(fixture.load(&uri, "").counts(), [70, 50, 15, 5, 0, 0]);
}

#[test]
fn an_object_without_conflicts_loads_under_abort() {
    let mut fixture = LoadFixture::new();
    let all = ticks(1, 100);
    let uri = fixture.put("a.parquet", &all[..50]);
    fixture.load(&uri, r#"options => '{"on_conflict": "abort"}'"#);
    fixture.put("a.parquet", &all[40..]);
    assert_eq!(fixture.load(&uri, r#"options => '{"on_conflict": "abort"}'"#).counts(), [60, 50, 10, 0, 0, 0]);
    must_hold(&mut fixture.client, &all);
}

#[test]
fn order_ids_and_event_time_within_the_bucket_are_no_conflict() {
    let mut fixture = LoadFixture::new();
    let old = ticks(1, 10);
    let new: Vec<Tick> = old
        .iter()
        .map(|tick| {
            but(tick, |tick| {
                tick.event_time_us += 3;
                tick.buyer_order_id = None;
                tick.seller_order_id = Some(1);
            })
        })
        .collect();
    let uri = fixture.put("a.parquet", &old);
    fixture.load(&uri, "");
    fixture.put("a.parquet", &new);
    assert_eq!(fixture.load(&uri, REPLACE).counts(), [10, 0, 10, 0, 0, 0]);
    must_hold(&mut fixture.client, &old);
}

#[test]
fn null_on_either_side_is_no_conflict() {
    let mut fixture = LoadFixture::new();
    let ticks = ticks(1, 10);
    let half: Vec<usize> = (0..5).collect();
    let nulls = || ParquetFile::new().null("trade_time", &half).null("is_market_maker", &half);
    let with = fixture.put("with.parquet", &ticks);
    let without = fixture.put_as("without.parquet", nulls(), &ticks);
    // Stored with values, then compared with nulls.
    fixture.load(&with, "");
    assert_eq!(fixture.load(&without, ABORT).counts(), [10, 0, 10, 0, 0, 0]);
    // Stored with nulls, then compared with values.
    fixture.run("TRUNCATE market_data.btc_ticks");
    assert_eq!(fixture.load(&without, ABORT).counts(), [10, 10, 0, 0, 0, 0]);
    assert_eq!(fixture.text("SELECT count(trade_time)::text FROM market_data.btc_ticks"), "5");
    assert_eq!(fixture.load(&with, ABORT).counts(), [10, 0, 10, 0, 0, 0]);
    // A null hides no other difference: one price has changed.
    let mut changed = ticks.clone();
    changed[0].price += 1;
    let changed = fixture.put_as("changed.parquet", nulls(), &changed);
    assert_eq!(fixture.load(&changed, "").counts(), [10, 0, 9, 1, 0, 0]);
    // A stored price that is null conflicts with no price.
    fixture.run("UPDATE market_data.btc_ticks SET price = NULL, quantity = NULL WHERE trade_id = 1");
    assert_eq!(fixture.load(&changed, KEEP).counts(), [10, 0, 10, 0, 0, 0]);
}

#[test]
fn only_max_kept_rejects_conflicts_are_kept_and_all_are_counted() {
    let mut fixture = LoadFixture::new();
    let old = ticks(1, 200);
    let new: Vec<Tick> = old.iter().map(|tick| but(tick, |tick| tick.price += 5)).collect();
    let uri = fixture.put("a.parquet", &old);
    fixture.load(&uri, "");
    fixture.put("a.parquet", &new);
    fixture.run(ANY_CONFLICTS);
    fixture.run("SET btc_ingest.max_kept_rejects = 20");
    assert_eq!(fixture.load(&uri, "").counts(), [200, 0, 0, 200, 0, 0]);
    assert_eq!(fixture.rejected().len(), 20);
    // The same version again: its rejects replace the earlier ones.
    fixture.run("SET btc_ingest.max_kept_rejects = 30");
    assert_eq!(fixture.load(&uri, KEEP).counts(), [200, 0, 0, 200, 0, 0]);
    assert_eq!(fixture.rejected().len(), 30);
    fixture.run("SET btc_ingest.max_kept_rejects = 0");
    assert_eq!(fixture.load(&uri, KEEP).counts(), [200, 0, 0, 200, 0, 0]);
    assert_eq!(fixture.rejected().len(), 0);
    must_hold(&mut fixture.client, &old);
}

#[test]
fn conflicts_and_bad_rows_share_one_limit_of_kept_rejects() {
    let mut fixture = LoadFixture::new();
    let old = ticks(1, 20);
    let new: Vec<Tick> = old.iter().map(|tick| but(tick, |tick| tick.price += 5)).collect();
    let uri = fixture.put("a.parquet", &old);
    fixture.load(&uri, "");
    fixture.put_as("a.parquet", ParquetFile::new().null("price", &[0, 1, 2, 3]), &new);
    fixture.run(ANY_CONFLICTS);
    fixture.run("SET btc_ingest.max_kept_rejects = 6");
    let report = fixture.load(&uri, "on_bad_row => 'reject'");
    assert_eq!(report.counts(), [20, 0, 0, 16, 0, 4]);
    assert_eq!(fixture.rejected().iter().map(|(row, ..)| *row).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn too_many_conflicts_fail_the_load_and_nothing_is_kept() {
    let mut fixture = LoadFixture::new();
    let all = ticks(1, 200);
    let uri = fixture.put("a.parquet", &all[..100]);
    fixture.load(&uri, "");
    let before = fixture.rows_everywhere();
    let with_conflicts = |count: usize| -> Vec<Tick> {
        let changed = all[..count].iter().map(|tick| but(tick, |tick| tick.price += 1));
        changed.chain(all[100..200 - count].iter().cloned()).collect()
    };
    fixture.put("a.parquet", &with_conflicts(11));
    for args in ["", r#"options => '{"on_conflict": "replace"}'"#] {
        let refusal = refused(&mut fixture.client, &uri, args, "TK005");
        assert!(refusal.message.contains("11 of 100 ticks conflict"), "{refusal:?}");
        assert!(refusal.detail.contains("max_conflict_fraction is 0.1"), "{refusal:?}");
        assert!(refusal.detail.contains("BTCUSDT 1 in bucket"), "an example: {refusal:?}");
        assert!(refusal.hint.contains(r#"options '{"symbol""#), "{refusal:?}");
        assert_eq!(fixture.rows_everywhere(), before);
    }
    must_hold(&mut fixture.client, &all[..100]);
    // A fraction that equals the limit is allowed.
    fixture.put("a.parquet", &with_conflicts(10));
    assert_eq!(fixture.load(&uri, "").counts(), [100, 90, 0, 10, 0, 0]);
}

#[test]
fn too_many_conflicts_with_a_neighbouring_bucket_show_an_example_too() {
    let mut fixture = LoadFixture::new();
    let old = ticks(1, 20);
    let uri = fixture.put("a.parquet", &old);
    fixture.load(&uri, "");
    let later: Vec<Tick> = old.iter().map(|tick| moved(tick, 1)).collect();
    fixture.put("a.parquet", &later);
    let refusal = refused(&mut fixture.client, &uri, "", "TK005");
    assert!(refusal.detail.contains("neighbouring bucket"), "{refusal:?}");
}
