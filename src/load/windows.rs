//! The vectors of an object's slices, made while its ticks are in memory.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use crate::model::bucket::bucket_of;
use crate::model::tick::{PRICE_SCALE, QUANTITY_SCALE, Symbols, TickBatch};
use crate::model::window::{Trade, Window, WindowBuilder};

/// Bytes of a slice that is being gathered.
const OPEN_BYTES: u64 = 32 << 10;
/// Bytes of a slice whose vector is made, with its key.
const CLOSED_BYTES: u64 = 2 << 10;

type Key = (i64, Arc<str>);

/// Vectors by bucket (microseconds since 1970) and asset. A slice that is not there was not gathered.
pub type Windows = BTreeMap<Key, Window>;

/// Gathers the slices of one object, as long as their ticks come in the order of time and id, and as memory allows.
/// When more slices are open than it allows, the vector of the one that was begun first is made.
#[derive(Debug)]
pub struct WindowMaker {
    slices: BTreeMap<Key, Slice>,
    /// The open slices in the order in which they were begun.
    open: VecDeque<Key>,
    most_open: usize,
    most: usize,
}

#[derive(Debug)]
enum Slice {
    Open(Box<Gathered>),
    Closed(Box<Window>),
    /// Its ticks did not come in order, or came after its vector was made.
    Unordered,
}

#[derive(Debug, Default)]
struct Gathered {
    builder: WindowBuilder,
    /// Event time and id of the last tick.
    last: Option<(i64, i64)>,
}

impl Gathered {
    /// Adds ticks. Returns `false` if one is not behind the one before it.
    fn add(&mut self, ticks: &TickBatch, run: Range<usize>) -> bool {
        for index in run {
            let key = Some((ticks.event_time[index], ticks.trade_id[index]));
            if self.last >= key {
                return false;
            }
            self.last = key;
            self.builder.add(&trade(ticks, index));
        }
        true
    }
}

impl WindowMaker {
    /// Begins with no slice. An eighth of `memory` is for the slices.
    pub fn new(memory: u64) -> Self {
        let (slices, open) = (BTreeMap::new(), VecDeque::new());
        let most_open = (memory / 16 / OPEN_BYTES).max(1) as usize;
        WindowMaker { slices, open, most_open, most: (memory / 16 / CLOSED_BYTES) as usize }
    }

    /// Adds the ticks of a batch. An object of more slices than memory has room for gets no vectors here.
    pub fn add(&mut self, ticks: &TickBatch, symbols: &Symbols) {
        let mut from = 0;
        while from < ticks.len() {
            if self.most == 0 {
                return;
            }
            let (bucket, symbol, _) = ticks.key(from);
            let same = |index: &usize| {
                let (other, number, _) = ticks.key(*index);
                (other, number) == (bucket, symbol)
            };
            let to = (from..ticks.len()).find(|index| !same(index)).unwrap_or(ticks.len());
            self.add_run(ticks, from..to, (bucket, symbols.names()[symbol as usize].clone()));
            from = to;
        }
    }

    fn add_run(&mut self, ticks: &TickBatch, run: Range<usize>, key: Key) {
        if !self.slices.contains_key(&key) && !self.begin(&key) {
            return;
        }
        let Some(slice) = self.slices.get_mut(&key) else { return };
        let in_order = match slice {
            Slice::Open(gathered) => gathered.add(ticks, run),
            Slice::Closed(_) | Slice::Unordered => false,
        };
        if !in_order && !matches!(slice, Slice::Unordered) {
            *slice = Slice::Unordered;
            self.open.retain(|open| *open != key);
        }
    }

    /// Begins a slice. Returns `false`, and forgets all of them, if there is no room.
    fn begin(&mut self, key: &Key) -> bool {
        if self.slices.len() >= self.most {
            (self.slices, self.open, self.most) = (BTreeMap::new(), VecDeque::new(), 0);
            return false;
        }
        if self.open.len() >= self.most_open
            && let Some(first) = self.open.pop_front()
            && let Some(slice) = self.slices.get_mut(&first)
            && let Slice::Open(gathered) = slice
        {
            *slice = Slice::Closed(Box::new(gathered.builder.finish()));
        }
        self.slices.insert(key.clone(), Slice::Open(Box::default()));
        self.open.push_back(key.clone());
        true
    }

    /// Returns the vectors of the slices whose ticks came in order.
    pub fn finish(self) -> Windows {
        let made = self.slices.into_iter().filter_map(|(key, slice)| match slice {
            Slice::Open(gathered) => Some((key, gathered.builder.finish())),
            Slice::Closed(window) => Some((key, *window)),
            Slice::Unordered => None,
        });
        made.collect()
    }
}

fn trade(ticks: &TickBatch, index: usize) -> Trade {
    let time = ticks.event_time[index];
    Trade {
        offset_us: time - bucket_of(time),
        price: ticks.price[index] as f64 / 10_f64.powi(PRICE_SCALE as i32),
        quantity: ticks.quantity[index] as f64 / 10_f64.powi(QUANTITY_SCALE as i32),
        taker_buys: ticks.is_market_maker[index].map(|maker| !maker),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bucket::BUCKET_US;

    const OPEN: i64 = 4;
    /// Memory for so many open slices.
    const MEMORY: u64 = OPEN as u64 * 16 * OPEN_BYTES;

    /// Adds ticks of one symbol, each as (number of its bucket, trade id); the id is also its place in the bucket.
    fn gather(maker: &mut WindowMaker, ticks: &[(i64, i64)]) {
        let (mut batch, mut symbols) = (TickBatch::default(), Symbols::default());
        let symbol = symbols.number("BTCUSDT").unwrap();
        for (bucket, id) in ticks {
            batch.row.push(0);
            batch.symbol.push(symbol);
            batch.trade_id.push(*id);
            batch.event_time.push(bucket * BUCKET_US + id);
            batch.price.push(100_000_000 + *id);
            batch.quantity.push(1);
            batch.is_market_maker.push(None);
        }
        maker.add(&batch, &symbols);
    }

    fn all(buckets: i64) -> Vec<(i64, i64)> {
        (0..buckets).flat_map(|bucket| (0..10).map(move |id| (bucket, bucket * 10 + id))).collect()
    }

    #[test]
    fn an_object_of_more_slices_than_may_be_open_gets_the_vector_of_each() {
        let mut few = WindowMaker::new(MEMORY);
        let mut many = WindowMaker::new(100 * MEMORY);
        gather(&mut few, &all(5 * OPEN));
        gather(&mut many, &all(5 * OPEN));
        let (few, many) = (few.finish(), many.finish());
        assert_eq!(few.len() as i64, 5 * OPEN);
        assert_eq!(few, many);
    }

    #[test]
    fn a_slice_that_gets_a_tick_after_its_vector_was_made_has_none() {
        let mut maker = WindowMaker::new(MEMORY);
        gather(&mut maker, &all(2 * OPEN));
        gather(&mut maker, &[(0, 9_999), (2 * OPEN - 1, 9_999)]);
        let made = maker.finish();
        let buckets: Vec<i64> = made.keys().map(|(bucket, _)| bucket / BUCKET_US).collect();
        assert_eq!(buckets, (1..2 * OPEN).collect::<Vec<_>>());
    }
}
