//! What nbtree changes of a page without WAL: a standby has other values than its primary then. A load in runs sets
//! them in its record, so that the standby has the page that was logged, which PostgreSQL compares.

use btc_ingest_kit::Cluster;
use btc_ingest_kit::amcheck::must_be_sound;
use btc_ingest_kit::sql::{execute, number, text};
use postgres::Client;

use crate::fill_fixture::{COLUMNS, DATABASE, FillFixture, chunk, index};
use crate::pages::Page;
use crate::paused_vacuum::PausedVacuum;
use crate::random_ticks::insert;
use crate::replayed::{COMPARED, must_be_calm, wait_for};
use crate::vacuumed::ticks;

both_ways!(a_standby_has_the_hints_of_a_page_that_a_load_has_logged);

/// What a load of a few rows, of which there are three, takes on a page, and the part that the fillfactor keeps free.
const ROOM: u16 = 3000;
/// Rows of such a load.
const FEW: i64 = 20;

/// An index of a primary that a standby follows.
struct Followed {
    fixture: FillFixture,
    standby: Cluster,
    index: String,
    /// The number of the next tick of the symbol in the middle.
    next: i64,
}

impl Followed {
    /// Returns the page with the last entry of the symbol in the middle: its block.
    fn block(&mut self) -> usize {
        let sql = format!(
            "SELECT block
               FROM generate_series(1, pg_relation_size('{0}') / current_setting('block_size')::int - 1) block,
                    bt_page_stats('{0}', block) page, bt_page_items('{0}', block) item
              WHERE page.type = 'l' AND item.htid = (SELECT ctid FROM {1} WHERE symbol = 'CCC'
                                                      ORDER BY trade_id DESC LIMIT 1)",
            self.index,
            chunk(&mut self.fixture.client)
        );
        number(&mut self.fixture.client, &sql) as usize
    }

    /// Inserts ticks as a client does, one by one.
    fn insert(&mut self, count: i64) {
        insert(&mut self.fixture.client, "market_data.btc_ticks", &ticks("CCC", self.next..self.next + count));
        self.next += count;
    }

    /// Loads a few ticks, which all go into one page, and returns how many entries the page has more.
    fn load_into(&mut self, block: usize) -> usize {
        let before = self.page(block).items();
        self.fixture.load(&ticks("CCC", self.next..self.next + FEW));
        self.next += FEW;
        self.page(block).items() - before
    }

    fn page(&mut self, block: usize) -> Page {
        Page::all_of(&mut self.fixture.client, &self.index).swap_remove(block)
    }

    /// Returns the vacuum that a page knows of, on the primary and on the standby when it has replayed everything.
    #[track_caller]
    fn cycles(&mut self, block: usize) -> (u16, u16) {
        wait_for(&self.standby, &mut self.fixture.client);
        must_be_calm(&self.standby);
        let mut client: Client = self.standby.client(DATABASE);
        let replayed = Page::all_of(&mut client, &self.index).swap_remove(block);
        (self.page(block).cycle(), replayed.cycle())
    }
}

fn a_standby_has_the_hints_of_a_page_that_a_load_has_logged(fill: &str) {
    let settings: Vec<_> = COMPARED.into_iter().chain([("autovacuum", "off")]).collect();
    let mut fixture = FillFixture::alone(fill, &settings);
    execute(&mut fixture.client, "CREATE EXTENSION pageinspect");
    let standby = fixture.db.cluster().standby();
    fixture.load(&ticks("BBB", 0..1500));
    fixture.load(&ticks("DDD", 0..1500));
    execute(&mut fixture.client, "DELETE FROM market_data.btc_ticks WHERE symbol = 'BBB' AND trade_id = 100");
    let chunk = chunk(&mut fixture.client);
    let columns = COLUMNS[0];
    let index = index(&mut fixture.client, &chunk, columns);
    let vacuum = PausedVacuum::start(&mut fixture, &chunk, &index, columns, "BBB");
    let mut followed = Followed { fixture, standby, index, next: 0 };

    // nbtree splits the page between the symbols.
    followed.insert(1);
    let block = loop {
        followed.insert(1);
        let block = followed.block();
        let page = followed.page(block);
        if page.cycle() != 0 && page.free() > ROOM {
            break block;
        }
        assert!(followed.next < 1000, "no page with room");
    };
    let cycle = followed.page(block).cycle();
    assert_eq!(followed.cycles(block), (cycle, 0), "recovery does not know of the VACUUM");
    assert_eq!(followed.load_into(block), FEW as usize);
    assert_eq!(followed.cycles(block), (cycle, 0), "after the load");

    // The first change of a page after a checkpoint logs all of it, as it is on the primary.
    execute(&mut followed.fixture.client, "CHECKPOINT");
    followed.insert(1);
    assert_eq!(followed.block(), block);
    assert_eq!(followed.cycles(block), (cycle, cycle));
    vacuum.end();
    assert_eq!(followed.cycles(block), (0, cycle), "VACUUM forgets itself without WAL");
    assert_eq!(followed.load_into(block), FEW as usize);
    // nbtree's own records leave the standby its value, and the comparison of pages knows that.
    let replayed = if fill == "runs" { 0 } else { cycle };
    assert_eq!(followed.cycles(block), (0, replayed), "after the second load");

    must_be_sound(&mut followed.fixture.client, "on the primary");
    wait_for(&followed.standby, &mut followed.fixture.client);
    must_be_sound(&mut followed.standby.client(DATABASE), "on the standby");
    must_be_calm(&followed.standby);
    let count = "SELECT count(*)::text FROM market_data.btc_ticks";
    assert_eq!(text(&mut followed.fixture.client, count), (2999 + followed.next).to_string());
}
