//! A VACUUM that is in the middle of an index while a load splits pages of it. What moves to a page that the VACUUM has
//! passed already is found by it all the same, as nbtree promises: both halves of a split know of the VACUUM.

use btc_ingest_kit::Tick;
use btc_ingest_kit::amcheck::must_be_sound;
use btc_ingest_kit::rows::{but, must_hold, ticks_of};
use btc_ingest_kit::sql::{execute, number};

use crate::fill_fixture::{COLUMNS, FillFixture, chunk, index};
use crate::pages::Page;
use crate::paused_vacuum::PausedVacuum;
use crate::scans;

both_ways!(a_vacuum_finds_the_entries_that_a_load_moves_to_pages_that_it_has_passed);

/// Returns ticks of one bucket. Ids and event times grow with the numbers.
pub fn ticks(symbol: &str, numbers: std::ops::Range<i64>) -> Vec<Tick> {
    let first = &ticks_of(symbol, 1, 1)[0];
    let of = |number: i64| {
        but(first, |tick| {
            tick.event_time_us += number * 1000;
            tick.trade_id += number;
        })
    };
    numbers.map(of).collect()
}

fn a_vacuum_finds_the_entries_that_a_load_moves_to_pages_that_it_has_passed(fill: &str) {
    for columns in &COLUMNS[..2] {
        let mut fixture = FillFixture::alone(fill, &[("autovacuum", "off")]);
        execute(&mut fixture.client, "CREATE EXTENSION pageinspect");
        let (first, last) = (ticks("BBB", 0..1500), ticks("DDD", 0..1500));
        for ticks in [&ticks("AAA", 0..1), &ticks("AAA", 1..6000), &first, &last] {
            fixture.load(ticks);
        }
        let chunk = chunk(&mut fixture.client);
        let index = index(&mut fixture.client, &chunk, columns);
        leave_free_pages(&mut fixture, &chunk);
        // Entries that the load will move, because it comes before them.
        execute(&mut fixture.client, "DELETE FROM market_data.btc_ticks WHERE symbol = 'DDD' AND trade_id % 2 = 0");

        let vacuum = PausedVacuum::start(&mut fixture, &chunk, &index, columns, "BBB");
        let before = Page::all_of(&mut fixture.client, &index);
        let middle = ticks("CCC", 0..1500);
        fixture.load(&middle);
        let after = Page::all_of(&mut fixture.client, &index);

        let waited_for = vacuum.block;
        vacuum.end();
        let kept = last.iter().filter(|tick| tick.trade_id % 2 != 0);
        must_hold(&mut fixture.client, ticks("AAA", 0..1).iter().chain(&first).chain(&middle).chain(kept));
        must_be_sound(&mut fixture.client, "after the VACUUM");
        let rows = scans::must_agree(&mut fixture.client, &chunk, "true");
        assert_eq!(entries(&mut fixture, &index), rows, "{columns}: entries of deleted rows are left");

        let is_new = |block: &usize| after[*block].is_leaf() && !before.get(*block).is_some_and(Page::is_leaf);
        let new: Vec<usize> = (1..after.len()).filter(is_new).collect();
        let cycles = |block: usize| (after[after[block].previous() as usize].cycle(), after[block].cycle());
        let passed = new.iter().filter(|block| {
            let (left, right) = (after[**block].previous(), **block as u64);
            right < waited_for && waited_for < left
        });
        assert!(passed.count() > 0, "{columns}: no page behind block {waited_for} was split: {new:?}");
        let wanted = cycles(new[0]).1;
        assert!(wanted != 0, "{columns}: page {} does not know of the VACUUM", new[0]);
        for block in new {
            assert_eq!(cycles(block), (wanted, wanted), "{columns}: page {block} and the one to its left");
        }
    }
}

/// Deletes most rows of the first symbol, and lets VACUUM free the pages of their entries.
fn leave_free_pages(fixture: &mut FillFixture, chunk: &str) {
    let delete = "DELETE FROM market_data.btc_ticks WHERE symbol = 'AAA' AND trade_id > 1";
    execute(&mut fixture.client, delete);
    // A page is free as soon as no transaction can see it, for which another one must have begun.
    for _ in 0..2 {
        execute(&mut fixture.client, &format!("VACUUM (INDEX_CLEANUP on) {chunk}"));
        execute(&mut fixture.client, "SELECT txid_current()");
    }
}

/// Counts the entries of an index.
fn entries(fixture: &mut FillFixture, index: &str) -> i64 {
    let sql = format!(
        "SELECT sum(coalesce(array_length(item.tids, 1), 1))::bigint
           FROM generate_series(1, pg_relation_size('{index}') / current_setting('block_size')::int - 1) block,
                bt_page_stats('{index}', block) page, bt_page_items('{index}', block) item
          WHERE page.type = 'l' AND (page.btpo_next = 0 OR item.itemoffset > 1)"
    );
    number(&mut fixture.client, &sql)
}
