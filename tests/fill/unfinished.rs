//! Splits that a crash has left unfinished: the right page is not in the parent yet. The next load that comes by
//! finishes them.

use btc_ingest_kit::Tick;
use btc_ingest_kit::amcheck::must_be_sound;
use btc_ingest_kit::rows::{but, must_hold, ticks_of};
use btc_ingest_kit::sql::{execute, number, text};

use crate::fill_fixture::{COLUMNS, FillFixture, chunk, index};
use crate::pages::Page;

both_ways!(a_split_that_a_crash_has_left_unfinished_is_finished_by_the_next_load);

/// Numbers of all ticks. Even ones are stored first.
const NUMBERS: i64 = 16_000;
/// The entry of the parent that is taken away: the downlink of the right page of the split.
const DOWNLINK: usize = 7;

/// Returns the tick with a number. Ids and event times grow with the numbers.
fn tick(number: i64) -> Tick {
    but(&ticks_of("BTCUSDT", 1, 1)[0], |tick| {
        tick.event_time_us += number * 1000;
        tick.trade_id = 1 + number;
    })
}

fn a_split_that_a_crash_has_left_unfinished_is_finished_by_the_next_load(fill: &str) {
    for columns in &COLUMNS[..2] {
        for backwards in [false, true] {
            let mut fixture = FillFixture::alone(fill, &[("autovacuum", "off")]);
            fixture.load(&[tick(0)]);
            let even: Vec<Tick> = (2..NUMBERS).step_by(2).map(tick).collect();
            fixture.load(&even);
            execute(&mut fixture.client, "CREATE EXTENSION pageinspect");
            let chunk = chunk(&mut fixture.client);
            let index = index(&mut fixture.client, &chunk, columns);
            let left = leave_unfinished(&mut fixture, &index);
            let flags = format!("SELECT (btpo_flags & 128)::bigint FROM bt_page_stats('{index}', {left})");
            assert_eq!(number(&mut fixture.client, &flags), 128);
            must_be_sound(&mut fixture.client, "with an unfinished split");

            let mut odd: Vec<Tick> = (1..NUMBERS).step_by(2).map(tick).collect();
            if backwards {
                odd.reverse();
            }
            for ticks in odd.chunks(700) {
                fixture.load(ticks);
            }
            assert_eq!(number(&mut fixture.client, &flags), 0, "{columns}: the split is still unfinished");
            must_be_sound(&mut fixture.client, "after the loads");
            must_hold(&mut fixture.client, &(0..NUMBERS).map(tick).collect::<Vec<_>>());
        }
    }
}

/// Makes the split of a leaf unfinished, as a crash between its two records does. Returns the left page.
fn leave_unfinished(fixture: &mut FillFixture, index: &str) -> u64 {
    let root = number(&mut fixture.client, &format!("SELECT root FROM bt_metap('{index}')"));
    let level = format!("SELECT btpo_level::bigint FROM bt_page_stats('{index}', {root})");
    assert_eq!(number(&mut fixture.client, &level), 1, "a root above the leaves");
    let downlink = |item: usize| {
        format!("SELECT (ctid::text::point)[0]::bigint FROM bt_page_items('{index}', {root}) WHERE itemoffset = {item}")
    };
    let left = number(&mut fixture.client, &downlink(DOWNLINK - 1)) as u64;
    let right = number(&mut fixture.client, &downlink(DOWNLINK));
    let next = format!("SELECT btpo_next::bigint FROM bt_page_stats('{index}', {left})");
    assert_eq!(number(&mut fixture.client, &next), right);
    let file = text(&mut fixture.client, &format!("SELECT pg_relation_filepath('{index}')"));
    let path = fixture.db.cluster().data_dir().join(file);
    fixture.db.cluster().stop();
    let (mut parent, mut page) = (Page::read(&path, root as u64), Page::read(&path, left));
    parent.remove(DOWNLINK);
    parent.write(&path, root as u64);
    page.set_incomplete_split();
    page.write(&path, left);
    fixture.start_again();
    left
}
