//! From a batch of ticks to tuples in key order, with a summary of each slice in the batch.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use super::numeric;
use super::pool::{BufferPool, PoolHandle};
use super::{TupleWriter, Tuples, Value};
use crate::model::bucket::{BUCKET_US, POSTGRES_EPOCH_US};
use crate::model::ids::Ids;
use crate::model::ledger_switch;
use crate::model::tick::{NO_TIME, Reject, Symbols, TextColumn, TickBatch};

/// The part of one slice (bucket and asset) in one batch: consecutive tuples in trade-id order.
#[derive(Debug, Clone, PartialEq)]
pub struct SliceRun {
    /// Start of the bucket, microseconds since 1970.
    pub bucket: i64,
    /// The asset.
    pub symbol: Arc<str>,
    /// Index of the first tuple.
    pub start: usize,
    /// Number of tuples.
    pub len: usize,
    /// Lowest trade id.
    pub first_id: i64,
    /// Highest trade id.
    pub last_id: i64,
    /// Earliest event time, microseconds since 1970.
    pub first_time: i64,
    /// Latest event time, microseconds since 1970.
    pub last_time: i64,
    /// Event time of the tick with the highest trade id, microseconds since 1970.
    pub time_of_last_id: i64,
    /// Event time of the tick with the lowest trade id, microseconds since 1970.
    pub time_of_first_id: i64,
    /// Whether a trade id occurs twice in a batch.
    pub repeats: bool,
    /// The trade ids.
    pub ids: Ids,
    /// Ticks whose event time is before that of the tick with the next lower trade id.
    pub out_of_order: i64,
    /// The largest difference of event time and trade time in microseconds, if there are trade times.
    pub max_skew: Option<i64>,
    /// Ticks whose event time and trade time differ by more than the limit.
    pub skewed: i64,
    /// Ticks that were stored already with the same values. Storing counts them.
    pub duplicates: i64,
    /// Ticks that were stored already with other values, or in a neighbouring bucket. Storing counts them.
    pub conflicts: i64,
}

/// One batch, ready to be inserted.
#[derive(Debug, Default)]
pub struct EncodedBatch {
    /// In key order (bucket, symbol, trade id).
    pub tuples: Tuples,
    /// The row of the object that each tuple comes from.
    pub rows: Vec<u64>,
    /// Its slices, in key order.
    pub runs: Vec<SliceRun>,
    /// Indices of tuples whose trade id also occurs in the bucket before, within this batch.
    pub misplaced: Vec<usize>,
    /// The rows that were no ticks, up to the number that is kept.
    pub rejects: Vec<Reject>,
    /// How many rows were no ticks.
    pub rejected: u64,
    handle: PoolHandle,
}

impl Drop for EncodedBatch {
    fn drop(&mut self) {
        self.handle.put_back(std::mem::take(&mut self.tuples));
    }
}

impl EncodedBatch {
    /// Writes the rows' numbers into the last column again.
    pub fn restore_rows(&mut self) {
        let rows = &self.rows;
        self.tuples.set_last(|index| rows[index] as i64);
    }

    /// Returns the run that a tuple belongs to.
    pub fn run_of(&mut self, tuple: usize) -> Option<&mut SliceRun> {
        let behind = self.runs.partition_point(|run| run.start <= tuple);
        self.runs.get_mut(behind.checked_sub(1)?)
    }
}

/// Sorts the ticks by key if they are not sorted, and encodes them. The buffer comes from `pool` and returns there
/// when the batch is dropped. Event times that are more than `skew_limit` microseconds away from the trade time are
/// counted.
pub fn encode(ticks: &TickBatch, symbols: &Symbols, pool: &BufferPool, skew_limit: i64) -> EncodedBatch {
    let order = key_order(ticks, symbols);
    let at = |position: usize| order.as_ref().map_or(position, |order| order[position] as usize);

    let mut writer = TupleWriter::with_capacity(pool.take(), ticks.len(), 128);
    let mut runs: Vec<SliceRun> = Vec::new();
    let mut run_key = None;
    for position in 0..ticks.len() {
        let tick = at(position);
        let (bucket, symbol, trade_id) = ticks.key(tick);
        let event_time = ticks.event_time[tick];
        match runs.last_mut() {
            Some(run) if run_key == Some((bucket, symbol)) => run.extend(trade_id, event_time),
            _ => {
                run_key = Some((bucket, symbol));
                let symbol = symbols.names()[symbol as usize].clone();
                runs.push(SliceRun::new(bucket, symbol, position, trade_id, event_time));
            }
        }
        if let Some(run) = runs.last_mut() {
            run.compare_times(event_time, ticks.trade_time[tick], skew_limit);
        }
        writer.push(&tuple(ticks, tick, bucket, symbols.names()[symbol as usize].as_bytes()));
    }
    let misplaced = misplaced(&runs, |position| ticks.trade_id[at(position)]);
    let rows = (0..ticks.len()).map(|position| ticks.row[at(position)]).collect();
    let tuples = writer.finish();
    EncodedBatch { tuples, rows, runs, misplaced, rejects: Vec::new(), rejected: 0, handle: pool.handle() }
}

impl SliceRun {
    fn new(bucket: i64, symbol: Arc<str>, start: usize, id: i64, time: i64) -> Self {
        SliceRun {
            bucket,
            symbol,
            start,
            len: 1,
            first_id: id,
            last_id: id,
            first_time: time,
            last_time: time,
            time_of_last_id: time,
            time_of_first_id: time,
            repeats: false,
            ids: Ids::of(id),
            out_of_order: 0,
            max_skew: None,
            skewed: 0,
            duplicates: 0,
            conflicts: 0,
        }
    }

    /// Adds another batch's run of the same slice.
    pub fn absorb(&mut self, other: &SliceRun) {
        self.len += other.len;
        // Of runs whose ids do not interleave, the last id of one is the next lower one of the other's first.
        let follows = other.first_id > self.last_id && other.time_of_first_id < self.time_of_last_id;
        let precedes = other.last_id < self.first_id && self.time_of_first_id < other.time_of_last_id;
        self.out_of_order += other.out_of_order + i64::from(follows || precedes);
        self.max_skew = self.max_skew.max(other.max_skew);
        self.skewed += other.skewed;
        self.duplicates += other.duplicates;
        self.conflicts += other.conflicts;
        self.ids.absorb(&other.ids);
        if other.first_id < self.first_id {
            self.first_id = other.first_id;
            self.time_of_first_id = other.time_of_first_id;
        }
        if other.last_id > self.last_id {
            self.last_id = other.last_id;
            self.time_of_last_id = other.time_of_last_id;
        }
        self.first_time = self.first_time.min(other.first_time);
        self.last_time = self.last_time.max(other.last_time);
    }

    fn extend(&mut self, id: i64, time: i64) {
        self.repeats |= id == self.last_id;
        if ledger_switch::is_on() {
            self.out_of_order += i64::from(time < self.time_of_last_id);
            self.ids.push(id);
        }
        self.len += 1;
        self.last_id = id;
        self.time_of_last_id = time;
        self.first_time = self.first_time.min(time);
        self.last_time = self.last_time.max(time);
    }

    fn compare_times(&mut self, event_time: i64, trade_time: i64, limit: i64) {
        if trade_time != NO_TIME && ledger_switch::is_on() {
            let skew = event_time.abs_diff(trade_time).try_into().unwrap_or(i64::MAX);
            self.max_skew = self.max_skew.max(Some(skew));
            self.skewed += i64::from(skew > limit);
        }
    }
}

/// Returns the order of the ticks by (bucket, symbol name, trade id, row), or `None` if they are in that order already.
fn key_order(ticks: &TickBatch, symbols: &Symbols) -> Option<Vec<u32>> {
    let rank = ranks(symbols);
    let key = |index: usize| {
        let (bucket, symbol, id) = ticks.key(index);
        (bucket, rank[symbol as usize], id)
    };
    let sorted = (1..ticks.len()).all(|index| key(index - 1) <= key(index));
    if sorted {
        return None;
    }
    let mut order: Vec<u32> = (0..ticks.len() as u32).collect();
    // The sort is stable: of two ticks with one key, the one that comes first in the file is stored.
    order.sort_by_key(|&index| key(index as usize));
    Some(order)
}

/// Returns the rank of each symbol number among the names in byte order, which is the order of `COLLATE "C"`.
fn ranks(symbols: &Symbols) -> Vec<u32> {
    let names = symbols.names();
    let mut by_name: Vec<u32> = (0..names.len() as u32).collect();
    by_name.sort_by(|a, b| names[*a as usize].cmp(&names[*b as usize]));
    let mut rank = vec![0; names.len()];
    for (place, number) in by_name.into_iter().enumerate() {
        rank[number as usize] = place as u32;
    }
    rank
}

fn tuple<'a>(ticks: &'a TickBatch, tick: usize, bucket: i64, symbol: &'a [u8]) -> [Value<'a>; 11] {
    let text = |column: &'a Option<TextColumn>| match column.as_ref().and_then(|column| column.get(tick)) {
        Some(bytes) => Value::Varlena(bytes),
        None => Value::Null,
    };
    let trade_time = match ticks.trade_time[tick] {
        NO_TIME => Value::Null,
        time => Value::Int8(time - POSTGRES_EPOCH_US),
    };
    [
        Value::Int8(bucket - POSTGRES_EPOCH_US),
        Value::Int8(ticks.event_time[tick] - POSTGRES_EPOCH_US),
        trade_time,
        Value::Varlena(symbol),
        Value::Int8(ticks.trade_id[tick]),
        Value::Numeric(numeric::price(ticks.price[tick])),
        Value::Numeric(numeric::quantity(ticks.quantity[tick])),
        text(&ticks.buyer_order_id),
        text(&ticks.seller_order_id),
        ticks.is_market_maker[tick].map_or(Value::Null, Value::Bool),
        Value::Int8(ticks.row[tick] as i64),
    ]
}

/// Finds the tuples whose trade id also occurs in the bucket before, by a merge of neighbouring runs whose ids overlap.
fn misplaced(runs: &[SliceRun], trade_id: impl Fn(usize) -> i64) -> Vec<usize> {
    let by_key: HashMap<(i64, &str), &SliceRun> = runs.iter().map(|run| ((run.bucket, &*run.symbol), run)).collect();
    let mut found = Vec::new();
    for later in runs {
        let Some(earlier) = by_key.get(&(later.bucket - BUCKET_US, &*later.symbol)) else { continue };
        if earlier.last_id < later.first_id || later.last_id < earlier.first_id {
            continue;
        }
        let (mut a, mut b) = (earlier.start, later.start);
        while a < earlier.start + earlier.len && b < later.start + later.len {
            match trade_id(a).cmp(&trade_id(b)) {
                Ordering::Less => a += 1,
                Ordering::Greater => b += 1,
                Ordering::Equal => {
                    found.push(b);
                    b += 1;
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes ticks of (symbol, bucket number, id).
    fn batch(rows: &[(&str, i64, i64)]) -> (TickBatch, Symbols) {
        let mut symbols = Symbols::default();
        let mut ticks = TickBatch::default();
        for (row, (symbol, bucket, id)) in rows.iter().enumerate() {
            ticks.row.push(row as u64);
            ticks.event_time.push(bucket * BUCKET_US + row as i64);
            ticks.trade_time.push(NO_TIME);
            ticks.symbol.push(symbols.number(symbol).unwrap());
            ticks.trade_id.push(*id);
            ticks.price.push(1);
            ticks.quantity.push(1);
            ticks.is_market_maker.push(None);
        }
        (ticks, symbols)
    }

    fn encoded(rows: &[(&str, i64, i64)]) -> EncodedBatch {
        let (ticks, symbols) = batch(rows);
        encode(&ticks, &symbols, &BufferPool::default(), 0)
    }

    #[test]
    fn runs_follow_bucket_symbol_and_id_in_any_order_of_the_rows() {
        let found = encoded(&[("B", 0, 5), ("A", 1, 9), ("A", 0, 2), ("B", 0, 4), ("A", 0, 1)]);
        let runs: Vec<_> = found
            .runs
            .iter()
            .map(|r| (r.bucket / BUCKET_US, &*r.symbol, r.start, r.len, r.first_id, r.last_id))
            .collect();
        assert_eq!(runs, [(0, "A", 0, 2, 1, 2), (0, "B", 2, 2, 4, 5), (1, "A", 4, 1, 9, 9)]);
        assert_eq!(found.tuples.len(), 5);
    }

    #[test]
    fn ticks_in_key_order_are_not_sorted_again() {
        let (ticks, symbols) = batch(&[("A", 0, 1), ("A", 0, 2), ("A", 1, 3)]);
        assert_eq!(key_order(&ticks, &symbols), None);
    }

    #[test]
    fn a_dropped_batch_leaves_its_buffer_to_the_next() {
        let (ticks, symbols) = batch(&[("A", 0, 1), ("A", 0, 2)]);
        let pool = BufferPool::default();
        let place = encode(&ticks, &symbols, &pool, 0).tuples.words(0).as_ptr();
        let (next, another) = (encode(&ticks, &symbols, &pool, 0), encode(&ticks, &symbols, &pool, 0));
        assert_eq!(next.tuples.words(0).as_ptr(), place);
        assert_ne!(another.tuples.words(0).as_ptr(), place);
    }

    #[test]
    fn a_repeated_key_is_noticed() {
        assert!(encoded(&[("A", 0, 1), ("A", 0, 2), ("A", 0, 1)]).runs[0].repeats);
        assert!(!encoded(&[("A", 0, 1), ("A", 1, 1)]).runs[0].repeats);
    }

    #[test]
    fn a_run_knows_its_ids_and_the_ticks_out_of_the_order_of_time() {
        // The n-th row has the n-th microsecond of its bucket.
        let found = encoded(&[("A", 0, 9), ("A", 0, 2), ("A", 0, 3), ("A", 0, 5), ("A", 0, 5)]);
        let run = &found.runs[0];
        assert_eq!(run.ids.multirange().unwrap(), "{[2,4),[5,6),[9,10)}");
        assert_eq!((run.ids.missing(), run.out_of_order, run.max_skew), (4, 1, None));
        let mut earlier = encoded(&[("A", 0, 0), ("A", 0, 1)]).runs[0].clone();
        earlier.absorb(run);
        assert_eq!((earlier.ids.multirange().unwrap().as_str(), earlier.out_of_order), ("{[0,4),[5,6),[9,10)}", 1));
        let mut later = run.clone();
        later.absorb(&encoded(&[("A", 0, 10)]).runs[0]);
        assert_eq!(later.out_of_order, 1, "both have the first microsecond");
    }

    #[test]
    fn a_run_counts_the_ticks_whose_times_are_further_apart_than_the_limit() {
        let (mut ticks, symbols) = batch(&[("A", 0, 1), ("A", 0, 2), ("A", 0, 3), ("A", 0, 4)]);
        ticks.trade_time = [10, -9, NO_TIME, -1_000_000].to_vec();
        let encoded = encode(&ticks, &symbols, &BufferPool::default(), 10);
        let run = &encoded.runs[0];
        assert_eq!((run.max_skew, run.skewed), (Some(1_000_003), 1));
        let mut both = run.clone();
        both.absorb(run);
        assert_eq!(both.skewed, 2);
    }

    #[test]
    fn a_tuple_has_the_run_that_it_stands_in() {
        let mut found = encoded(&[("A", 0, 1), ("A", 0, 2), ("A", 1, 3)]);
        let bucket = |found: &mut EncodedBatch, tuple| found.run_of(tuple).map(|run| run.bucket / BUCKET_US);
        assert_eq!([0, 1, 2].map(|tuple| bucket(&mut found, tuple)), [Some(0), Some(0), Some(1)]);
        assert_eq!(bucket(&mut EncodedBatch::default(), 0), None);
    }

    #[test]
    fn an_id_in_two_neighbouring_buckets_is_misplaced_the_second_time() {
        assert_eq!(encoded(&[("A", 0, 1), ("A", 0, 3), ("A", 1, 2), ("A", 1, 3)]).misplaced, [3]);
        assert_eq!(encoded(&[("A", 0, 3), ("B", 1, 3)]).misplaced, [] as [usize; 0]);
        assert_eq!(encoded(&[("A", 0, 3), ("A", 2, 3)]).misplaced, [] as [usize; 0]);
    }
}
