//! Prices at some horizons after each trade.

use std::collections::VecDeque;

use pgrx::Spi;

use super::read::{Stored, Tick, must_be_known, reaches, ticks};
use crate::error::{Error, Result};
use crate::pg::session::ffi::{ResultRows, Value};

/// A day. Trades wait in memory until the last horizon has passed.
const LONGEST: i64 = 86_400_000_000;
/// The most horizons.
const MOST: usize = 32;

/// Adds a row for each trade in a range and each horizon: time, id, price, quantity and flag of the trade, the horizon,
/// and the price of the last trade at or before it. Times are in microseconds since 2000. `memory` is how many bytes
/// trades may take that wait for their horizons.
pub fn markouts(
    symbol: &str,
    (from, end): (i64, i64),
    horizons: &[i64],
    memory: u64,
    rows: &mut ResultRows,
) -> Result<()> {
    if horizons.is_empty() || horizons.len() > MOST || horizons.iter().any(|horizon| !(1..=LONGEST).contains(horizon)) {
        let what = format!("horizons must be 1 to {MOST} intervals, each longer than 0 and at most 24 hours");
        return Err(Error::InvalidArgument { what });
    }
    let longest = horizons.iter().copied().max().unwrap_or_default();
    let mut pending = Pending::new(horizons, memory);
    Spi::connect(|client| {
        let mut found = false;
        let until = end.saturating_add(longest).saturating_add(1);
        ticks(client, symbol, from, until, |tick| {
            found = true;
            pending.resolve(tick.time);
            pending.emit(rows, false);
            if tick.price.is_some() {
                pending.current = tick.price;
            }
            pending.last_time = tick.time;
            if tick.time < end { pending.push(tick) } else { Ok(()) }
        })?;
        // Between the last tick that was read and a later one, no price changes.
        let known = if pending.waits.is_empty() || !reaches(client, symbol, until)? {
            pending.last_time.saturating_add(1)
        } else {
            i64::MAX
        };
        pending.resolve(known);
        pending.emit(rows, true);
        if found { Ok(()) } else { must_be_known(client, symbol) }
    })
}

/// A trade that waits for its horizons.
struct Wait {
    tick: Tick,
    /// The price at each horizon that has passed.
    later: Vec<Option<Stored>>,
}

/// The trades that wait, in the order of time.
struct Pending<'a> {
    horizons: &'a [i64],
    waits: VecDeque<Wait>,
    /// For each horizon the first trade that it has not passed, counted from the first that waits.
    next: Vec<usize>,
    /// The last price.
    current: Option<Stored>,
    last_time: i64,
    most: usize,
}

impl<'a> Pending<'a> {
    fn new(horizons: &'a [i64], memory: u64) -> Self {
        let size = size_of::<Wait>() + horizons.len() * size_of::<Option<Stored>>();
        let most = (memory / size as u64) as usize;
        let next = vec![0; horizons.len()];
        Pending { horizons, waits: VecDeque::new(), next, current: None, last_time: i64::MIN, most }
    }

    fn push(&mut self, tick: &Tick) -> Result<()> {
        if self.waits.len() >= self.most {
            let what = format!(
                "more than {} trades wait for the longest horizon: shorten it, or raise btc_ingest.memory_limit",
                self.most
            );
            return Err(Error::InvalidArgument { what });
        }
        self.waits.push_back(Wait { tick: *tick, later: vec![None; self.horizons.len()] });
        Ok(())
    }

    /// Gives the current price to each horizon that ends before a time.
    fn resolve(&mut self, time: i64) {
        for (place, (horizon, next)) in self.horizons.iter().zip(&mut self.next).enumerate() {
            while let Some(wait) = self.waits.get_mut(*next)
                && wait.tick.time.saturating_add(*horizon) < time
            {
                wait.later[place] = self.current;
                *next += 1;
            }
        }
    }

    /// Adds the rows of the trades whose horizons have all passed, or of all.
    fn emit(&mut self, rows: &mut ResultRows, all: bool) {
        let passed = self.next.iter().copied().min().unwrap_or_default();
        let count = if all { self.waits.len() } else { passed };
        for Wait { tick, later } in self.waits.drain(..count) {
            for (horizon, price) in self.horizons.iter().zip(&later) {
                rows.put(&[
                    Value::Int8(tick.time),
                    Value::Int8(tick.id),
                    number(&tick.price),
                    number(&tick.quantity),
                    tick.is_market_maker.map_or(Value::Null, Value::Bool),
                    Value::Interval(*horizon),
                    number(price),
                ]);
            }
        }
        self.next.iter_mut().for_each(|next| *next -= count.min(*next));
    }
}

fn number(stored: &Option<Stored>) -> Value<'_> {
    stored.as_ref().map_or(Value::Null, Stored::value)
}
