//! SERIALIZABLE: a load conflicts with a transaction that has read a range of an index that the load fills, also if the
//! range has moved to another page since.

use btc_ingest_kit::Tick;
use btc_ingest_kit::amcheck::must_be_sound;
use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::fixture::{Refusal, load};
use btc_ingest_kit::rows::{but, must_hold, ticks_of};
use btc_ingest_kit::sql::{execute, number, text};
use btc_ingest_kit::ticks::BUCKET_US;

use crate::fill_fixture::{COLUMNS, FillFixture, chunk, index};

both_ways!(
    a_load_conflicts_with_a_transaction_that_has_read_the_gap_it_fills,
    a_load_conflicts_with_a_reader_of_the_gap_whose_page_was_split_meanwhile,
    a_load_does_not_conflict_with_a_reader_of_other_pages,
);

/// Numbers of the gap in bucket 1, which hold no tick.
const GAP: std::ops::Range<i64> = 20_000..30_000;
const SYMBOL: &str = "BTCUSDT";

/// Returns the tick of a bucket with a number. Ids and event times grow with the numbers.
fn tick(bucket: i64, number: i64) -> Tick {
    but(&ticks_of(SYMBOL, 1, 1)[0], |tick| {
        tick.event_time_us += bucket * BUCKET_US + number * 1000;
        tick.trade_time_us = None;
        tick.trade_id = (1 + bucket) * 10_000_000 + number;
    })
}

fn ticks(bucket: i64, numbers: impl Iterator<Item = i64>) -> Vec<Tick> {
    numbers.map(|number| tick(bucket, number)).collect()
}

/// A chunk whose indexes have many pages. Bucket 1 has a gap in its middle, and bucket 3 is empty.
struct GapFixture {
    fixture: FillFixture,
    chunk: String,
    stored: Vec<Tick>,
}

impl GapFixture {
    fn new(fill: &str) -> GapFixture {
        let mut fixture = FillFixture::new(fill);
        fixture.load(&[tick(0, 0)]);
        let chunk = chunk(&mut fixture.client);
        let mut stored = vec![tick(0, 0)];
        for bucket in [0, 1, 2, 4] {
            let numbers = (1..GAP.start).chain(GAP.end..40_000).step_by(8);
            let all = ticks(bucket, numbers);
            fixture.load(&all);
            stored.extend(all);
        }
        execute(&mut fixture.client, "CREATE TABLE public.notes (note text)");
        execute(&mut fixture.client, "ANALYZE market_data.btc_ticks");
        GapFixture { fixture, chunk, stored }
    }

    /// Returns the condition of the gap that one of the indexes finds, and the bucket that fills it.
    fn gap(columns: &str) -> (String, i64) {
        let time = |number| format!("'epoch'::timestamptz + {} * interval '1 us'", tick(1, number).event_time_us);
        let bucket = |bucket| format!("'epoch'::timestamptz + {} * interval '1 us'", tick(bucket, 0).bucket_us());
        let (from, to) = (GAP.start + 1, GAP.end - 1);
        if columns == COLUMNS[0] {
            let ids = format!("trade_id BETWEEN {} AND {}", tick(1, from).trade_id, tick(1, to).trade_id);
            (format!("bucket_5m = {} AND symbol = '{SYMBOL}' AND {ids}", bucket(1)), 1)
        } else if columns == COLUMNS[1] {
            (format!("symbol = '{SYMBOL}' AND event_time BETWEEN {} AND {}", time(from), time(to)), 1)
        } else {
            (format!("bucket_5m = {}", bucket(3)), 3)
        }
    }

    /// Lets one transaction read where a condition finds nothing, and write a note; and another one look for notes, and
    /// load `filling`. `meanwhile` is loaded by a third session after the reading. Returns how many of the two failed
    /// with a serialization failure.
    fn write_skew(&mut self, columns: &str, condition: &str, meanwhile: &[Tick], filling: &[Tick]) -> usize {
        let (uri, other) = (self.fixture.put(filling), self.fixture.put(meanwhile));
        let (mut reader, mut loader) = (self.fixture.db.session(), self.fixture.db.session());
        execute(&mut loader, "LOAD 'btc_ingest'");
        execute(&mut loader, "BEGIN ISOLATION LEVEL SERIALIZABLE");
        let notes = number(&mut loader, "SELECT count(*) FROM public.notes");
        execute(&mut reader, "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off");
        execute(&mut reader, "BEGIN ISOLATION LEVEL SERIALIZABLE");
        let sql = format!("SELECT count(*) FILTER (WHERE price > 0) FROM ONLY {} WHERE {condition}", self.chunk);
        assert_eq!(number(&mut reader, &sql), 0);
        self.must_have_locked_pages(columns, backend_pid(&mut reader));
        execute(&mut reader, &format!("INSERT INTO public.notes VALUES ('{notes}')"));
        if !meanwhile.is_empty() {
            assert_eq!(load(&mut self.fixture.client, &other, "").unwrap().inserted, meanwhile.len() as i64);
            self.stored.extend_from_slice(meanwhile);
        }
        let mut failed = 0;
        let mut must_be_serialization = |error: postgres::Error| {
            assert_eq!(Refusal::from(error).sqlstate, "40001");
            failed += 1;
        };
        let loaded = load(&mut loader, &uri, "").map_err(&mut must_be_serialization).is_ok();
        reader.batch_execute("COMMIT").unwrap_or_else(&mut must_be_serialization);
        if loaded {
            match loader.batch_execute("COMMIT") {
                Ok(()) => self.stored.extend_from_slice(filling),
                Err(error) => must_be_serialization(error),
            }
        }
        must_hold(&mut self.fixture.client, &self.stored);
        must_be_sound(&mut self.fixture.client, "after the transactions");
        failed
    }

    /// Checks that a reader's predicate locks are on pages of the index, and not on the whole table.
    #[track_caller]
    fn must_have_locked_pages(&mut self, columns: &str, pid: u32) {
        let index = index(&mut self.fixture.client, &self.chunk, columns);
        let sql = format!(
            "SELECT string_agg(DISTINCT concat(relation::regclass, ' ', locktype), ', ') FROM pg_locks
              WHERE mode = 'SIReadLock' AND pid = {pid}"
        );
        assert_eq!(text(&mut self.fixture.client, &sql), format!("{index} page"));
    }
}

fn a_load_conflicts_with_a_transaction_that_has_read_the_gap_it_fills(fill: &str) {
    for columns in COLUMNS {
        let mut gap = GapFixture::new(fill);
        let (condition, bucket) = GapFixture::gap(columns);
        let middle = (GAP.start + GAP.end) / 2;
        let filling = ticks(bucket, middle - 500..middle + 500);
        assert_eq!(gap.write_skew(columns, &condition, &[], &filling), 1, "{columns}");
    }
}

fn a_load_conflicts_with_a_reader_of_the_gap_whose_page_was_split_meanwhile(fill: &str) {
    for columns in COLUMNS {
        for below in [true, false] {
            let mut gap = GapFixture::new(fill);
            let (condition, bucket) = GapFixture::gap(columns);
            // Many ticks on one side of what is loaded then, so that the pages of the gap are others.
            let meanwhile = match (bucket, below) {
                (1, true) => ticks(1, GAP.start + 1..GAP.start + 2500),
                (1, false) => ticks(1, GAP.end - 2500..GAP.end - 1),
                (_, true) => ticks(2, GAP.start + 1..GAP.start + 6000),
                (_, false) => ticks(4, GAP.start + 1..GAP.start + 6000),
            };
            let middle = (GAP.start + GAP.end) / 2;
            let filling = ticks(bucket, middle - 500..middle + 500);
            assert_eq!(gap.write_skew(columns, &condition, &meanwhile, &filling), 1, "{columns}, below: {below}");
        }
    }
}

fn a_load_does_not_conflict_with_a_reader_of_other_pages(fill: &str) {
    let mut gap = GapFixture::new(fill);
    for (columns, bucket) in COLUMNS.into_iter().zip([6, 7, 8]) {
        let (condition, _) = GapFixture::gap(columns);
        // Behind all that is stored, in each index.
        let filling = ticks(bucket, 0..1000);
        assert_eq!(gap.write_skew(columns, &condition, &[], &filling), 0, "{columns}");
    }
}
