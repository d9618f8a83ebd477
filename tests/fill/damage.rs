//! Indexes and tables that are damaged on purpose: the checks that all other tests here rely on report each damage.

use std::path::PathBuf;

use btc_ingest_kit::amcheck::{findings, must_be_sound};
use btc_ingest_kit::rows::ticks_of;
use btc_ingest_kit::sql::{execute, number, text};

use crate::fill_fixture::{COLUMNS, FillFixture, chunk, index};
use crate::pages::{PAGE, Page};

both_ways!(the_checks_report_an_index_or_a_table_that_is_damaged_on_purpose);

/// A way to damage a page.
type Damage = (&'static str, fn(&mut Page));

/// The first item of an inner leaf is its high key; the second one is its first entry.
const OF_LEAVES: [Damage; 4] = [
    ("two entries change places", |page| page.swap(5, page.items())),
    ("the last entry is gone", |page| page.remove(page.items())),
    ("an entry is there twice", |page| page.repeat(8, 9)),
    // The last column has eight bytes, in both indexes whose entries are single ones.
    ("a bit of a key is another", |page| {
        let end = page.item(9).end;
        page.0[end - 3] ^= 0x10;
    }),
];

/// A bit of the transaction that has inserted the first row: it lies in the future then.
const OF_TABLES: Damage = ("a row is of a transaction that has not begun", |page| {
    let begin = page.item(1).start;
    page.0[begin + 3] ^= 0x10;
});

/// Damages a relation while the server is stopped, checks that this is found, and undoes it.
fn must_be_found(fixture: &mut FillFixture, relation: &str, fits: fn(&Page) -> bool, (what, how): Damage) {
    let path = path(fixture, relation);
    fixture.db.cluster().stop();
    let pages = path.metadata().unwrap().len() / PAGE as u64;
    // The first page of a B-tree is its meta page, and of a table it is as good as any.
    let found = (1..pages).map(|number| (number, Page::read(&path, number))).find(|(_, page)| fits(page));
    let (number, sound) = found.unwrap_or_else(|| panic!("{relation}: none of {pages} pages fits"));
    let mut damaged = sound.clone();
    how(&mut damaged);
    assert!(damaged != sound, "{relation}, {what}: nothing has changed");
    damaged.write(&path, number);
    fixture.start_again();
    let found = findings(&mut fixture.client);
    println!("{relation}, {what}: {found:#?}");
    assert!(found.iter().any(|finding| finding.starts_with(relation)), "{relation}, {what}: {found:#?}");
    fixture.db.cluster().stop();
    sound.write(&path, number);
    fixture.start_again();
}

/// Returns the file of a relation.
fn path(fixture: &mut FillFixture, relation: &str) -> PathBuf {
    let file = text(&mut fixture.client, &format!("SELECT pg_relation_filepath('{relation}')"));
    fixture.db.cluster().data_dir().join(file)
}

fn the_checks_report_an_index_or_a_table_that_is_damaged_on_purpose(fill: &str) {
    let mut fixture = FillFixture::alone(fill, &[("autovacuum", "off")]);
    for symbol in ["BTCUSDT", "ETHUSDT"] {
        fixture.load(&ticks_of(symbol, 1, 3000));
    }
    must_be_sound(&mut fixture.client, "before any damage");
    // So that no hint bit is set between a damage and its repair.
    execute(&mut fixture.client, "VACUUM market_data.btc_ticks");
    assert_eq!(number(&mut fixture.client, "SELECT count(*) FROM market_data.btc_ticks"), 6000);

    let chunk = chunk(&mut fixture.client);
    for (at, columns) in COLUMNS.into_iter().enumerate() {
        let index = index(&mut fixture.client, &chunk, columns);
        // Entries of (bucket_5m) are lists of rows.
        let damages = if at == 2 { &OF_LEAVES[..2] } else { &OF_LEAVES[..] };
        for damage in damages {
            must_be_found(&mut fixture, &index, Page::is_inner_leaf, *damage);
        }
    }
    must_be_found(&mut fixture, &chunk, |page| page.items() > 0, OF_TABLES);
    must_be_sound(&mut fixture.client, "after every damage was undone");
}
