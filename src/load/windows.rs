//! The vectors of an object's slices, made while its ticks are in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::bucket::bucket_of;
use crate::model::tick::{PRICE_SCALE, QUANTITY_SCALE, Symbols, TickBatch};
use crate::model::window::{Trade, Window, WindowBuilder};

/// Bytes of a slice that is being gathered.
const SLICE_BYTES: u64 = 32 << 10;

/// Vectors by bucket (microseconds since 1970) and asset. A slice that is not there was not gathered.
pub type Windows = BTreeMap<(i64, Arc<str>), Window>;

/// Gathers the slices of one object, as long as their ticks come in the order of time and id, and as memory allows.
#[derive(Debug)]
pub struct WindowMaker {
    slices: BTreeMap<(i64, Arc<str>), Gathered>,
    most: usize,
}

#[derive(Debug, Default)]
struct Gathered {
    builder: WindowBuilder,
    /// Event time and id of the last tick.
    last: Option<(i64, i64)>,
    unordered: bool,
}

impl WindowMaker {
    /// Begins with no slice. An eighth of `memory` is for the slices.
    pub fn new(memory: u64) -> Self {
        WindowMaker { slices: BTreeMap::new(), most: (memory / 8 / SLICE_BYTES) as usize }
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

    fn add_run(&mut self, ticks: &TickBatch, run: std::ops::Range<usize>, key: (i64, Arc<str>)) {
        if self.slices.len() >= self.most && !self.slices.contains_key(&key) {
            (self.slices, self.most) = (BTreeMap::new(), 0);
            return;
        }
        let slice = self.slices.entry(key).or_default();
        for index in run {
            let key = (ticks.event_time[index], ticks.trade_id[index]);
            slice.unordered |= slice.last >= Some(key);
            slice.last = Some(key);
            if !slice.unordered {
                slice.builder.add(&trade(ticks, index));
            }
        }
    }

    /// Returns the vectors of the slices whose ticks came in order.
    pub fn finish(self) -> Windows {
        let ordered = self.slices.into_iter().filter(|(_, slice)| !slice.unordered);
        ordered.map(|(key, slice)| (key, slice.builder.finish())).collect()
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
