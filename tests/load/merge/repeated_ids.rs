//! One id twice in one object.

use super::*;

#[test]
fn equal_rows_of_one_object_are_duplicates_of_each_other() {
    let mut fixture = LoadFixture::new();
    let once = ticks(1, 20);
    let twice: Vec<Tick> = once.iter().chain(&once[5..15]).cloned().collect();
    let uri = fixture.put("a.parquet", &twice);
    assert_eq!(fixture.load(&uri, ABORT).counts(), [30, 20, 10, 0, 0, 0]);
    assert_eq!(fixture.load(&uri, KEEP).counts(), [30, 0, 30, 0, 0, 0]);
    must_hold(&mut fixture.client, &once);
}

#[test]
fn of_different_rows_with_one_id_the_first_is_kept() {
    let mut fixture = LoadFixture::new();
    let once = ticks(1, 100);
    let changed: Vec<Tick> = once[..3].iter().map(|tick| but(tick, |tick| tick.price += 1)).collect();
    let uri = fixture.put("a.parquet", &[&once[..], &changed].concat());
    assert_eq!(fixture.load(&uri, "").counts(), [103, 100, 0, 3, 0, 0]);
    must_hold(&mut fixture.client, &once);
    assert_eq!(fixture.rejected().iter().map(|(row, ..)| *row).collect::<Vec<_>>(), [100, 101, 102]);
}

#[test]
fn of_different_rows_with_one_id_the_last_replaces() {
    let mut fixture = LoadFixture::new();
    let once = ticks(1, 100);
    let changed: Vec<Tick> = once[..3].iter().map(|tick| but(tick, |tick| tick.price += 1)).collect();
    let uri = fixture.put("a.parquet", &[&once[..], &changed].concat());
    assert_eq!(fixture.load(&uri, REPLACE).counts(), [103, 100, 0, 0, 3, 0]);
    must_hold(&mut fixture.client, changed.iter().chain(&once[3..]));
    fixture.load(&uri, REPLACE);
    must_hold(&mut fixture.client, changed.iter().chain(&once[3..]));
}

#[test]
fn different_rows_with_one_id_abort() {
    let mut fixture = LoadFixture::new();
    let once = ticks(1, 100);
    let changed = but(&once[0], |tick| tick.quantity += 1);
    let uri = fixture.put("a.parquet", &[&once[..], &[changed]].concat());
    refused(&mut fixture.client, &uri, ABORT, "TK004");
    assert_eq!(fixture.rows_everywhere(), NOTHING);
}
