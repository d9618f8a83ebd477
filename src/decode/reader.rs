//! From row groups to batches of ticks, in steps of a few thousand rows, column by column.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use parquet::arrow::FieldLevels;
use parquet::file::metadata::RowGroupMetaData;
use serde_json::{Map, Value};

use super::chunk::{self, Chunk};
use super::codec::Codec;
use super::column::{Bad, Price, Quantity, amounts, flags, order_ids, render, symbols, times, trade_ids};
use super::damage::damaged;
use super::footer::FileMeta;
use super::need;
use super::page::{Budget, Pages};
use super::parts::{parts, within};
use super::schema::{Column, Mapping, Tick};
use crate::error::{Error, Result};
use crate::model::options::{LoadOptions, OnBadRow};
use crate::model::source::{ByteStream, Groups, ObjectSource};
use crate::model::tick::{NO_TIME, Reject, Symbols, TextColumn, TickBatch};
use crate::model::time_range::TimeRange;

/// The limits of one reader, and its treatment of rows that are no ticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeSettings {
    /// `btc_ingest.memory_limit` in bytes. Pages get three eighths of it, or half of it with `OnBadRow::Reject`.
    pub memory_limit: u64,
    /// Fail, or leave the row out.
    pub on_bad_row: OnBadRow,
    /// The plausible times. A row with another time is no tick.
    pub times: TimeRange,
    /// How many rejects are kept. Further ones are only counted.
    pub max_kept_rejects: usize,
    /// The most rows of a batch.
    pub max_batch_rows: usize,
    /// The most rows of the first batch, if it is in order. Each further batch may have eight times as many, so
    /// that the backend, which waits for the first one, can start soon.
    pub first_batch_rows: usize,
    /// A batch takes no further rows once it has this many bytes.
    pub max_batch_bytes: usize,
}

impl DecodeSettings {
    /// Returns the eighths of the memory that pages get.
    fn pages_share(&self) -> u64 {
        if self.on_bad_row == OnBadRow::Reject { 4 } else { 3 }
    }
}

/// A batch of decoded rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The rows that are ticks.
    pub ticks: TickBatch,
    /// The rows that are no ticks and are kept.
    pub rejects: Vec<Reject>,
    /// How many rows are no ticks, kept or not.
    pub rejected: u64,
}

/// Reads an object's ticks in the file's order.
pub struct TickReader {
    /// The bytes of the columns, row group by row group.
    groups: Groups,
    meta: Arc<FileMeta>,
    mapping: Mapping,
    levels: [Option<FieldLevels>; 9],
    symbol: Option<String>,
    settings: DecodeSettings,
    budget: Budget,
    step: usize,
    batch_rows: usize,
    next_group: usize,
    open: Option<Group>,
    next_row: u64,
    kept: usize,
    failed: Option<Error>,
}

/// A row group that is being read.
struct Group {
    index: usize,
    chunks: [Option<Chunk>; 9],
    rows_left: u64,
}

/// Rows that are decoded at once. Their pages stay in memory until all columns have been read.
const STEP: usize = 8192;
/// How many times as many rows a batch may have as the one before. Decoding takes less than an eighth of the time that
/// storing takes, so a batch is ready when the one before is stored.
const GROWTH: usize = 8;
/// The most rows of a first batch whose trade ids do not ascend. A batch is sorted as a whole: ids that come in later
/// batches and lie among stored ones are compared with these, which costs more than to wait for a larger batch.
const UNORDERED_ROWS: usize = 16_384;

impl TickReader {
    /// Makes the reader. Nothing is fetched yet.
    pub fn new(
        source: &dyn ObjectSource,
        meta: Arc<FileMeta>,
        mapping: Mapping,
        options: &LoadOptions,
        settings: DecodeSettings,
    ) -> Result<Self> {
        let mut levels = [const { None }; 9];
        for tick in Tick::ALL {
            levels[tick as usize] = mapping.column(tick).map(chunk::levels).transpose()?;
        }
        // Rejects are rendered after all columns of a step are read. Until then each column of texts holds all pages
        // of the step, which takes up to half as much memory again (measured on files with usual pages). Bytes that are
        // fetched in advance take a quarter of the memory, or an eighth of it with `reject`, and the batches three
        // eighths. `reject` gets the remaining half as a whole, so that it seldom needs a higher limit than `abort`.
        let share = settings.pages_share();
        Ok(TickReader {
            groups: source.streams(parts(&meta, &mapping)?),
            meta,
            mapping,
            levels,
            symbol: options.symbol.clone(),
            budget: Budget::new((settings.memory_limit / 8).saturating_mul(share)),
            step: STEP,
            batch_rows: settings.first_batch_rows,
            settings,
            next_group: 0,
            open: None,
            next_row: 0,
            kept: 0,
            failed: None,
        })
    }

    /// Returns the next batch, or `None` at the end of the object. After an error, every call returns that error.
    pub fn next(&mut self, symbols: &mut Symbols, cancelled: &dyn Fn() -> bool) -> Result<Option<Decoded>> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let batch = self.batch(symbols, cancelled).map_err(|error| self.with_enough_memory(error));
        self.batch_rows = self.batch_rows.saturating_mul(GROWTH).min(self.settings.max_batch_rows);
        if let Err(error) = &batch {
            self.failed = Some(error.clone());
            self.open = None;
        }
        batch
    }

    fn batch(&mut self, symbols: &mut Symbols, cancelled: &dyn Fn() -> bool) -> Result<Option<Decoded>> {
        let mut decoded = Decoded { ticks: self.empty(), rejects: Vec::new(), rejected: 0 };
        let mut read = 0;
        loop {
            if cancelled() {
                return Err(Error::Cancelled);
            }
            let rows = self.due()?;
            if rows == 0 {
                return Ok((read > 0).then_some(decoded));
            }
            if read + rows > self.batch_rows && self.batch_rows < UNORDERED_ROWS && !ascend(&decoded.ticks) {
                self.batch_rows = UNORDERED_ROWS.min(self.settings.max_batch_rows);
            }
            let full = read + rows > self.batch_rows || size(&decoded.ticks) >= self.settings.max_batch_bytes;
            if read > 0 && full {
                return Ok(Some(decoded));
            }
            self.decode(rows, symbols, cancelled, &mut decoded)?;
            read += rows;
        }
    }

    /// Adds to an error about memory which limit is enough.
    fn with_enough_memory(&self, error: Error) -> Error {
        let Error::TooLarge { what, needed, limit, .. } = error else { return error };
        let pages = need::pages_at_most(&self.meta, &self.mapping).map(|most| most.max(needed));
        let suffices = pages.and_then(|pages| Some(pages.checked_mul(8)?.div_ceil(self.settings.pages_share())));
        Error::TooLarge { what, needed, limit, suffices }
    }

    /// Returns how many rows the next step has, and opens the next row group if necessary. Returns 0 at the end.
    fn due(&mut self) -> Result<usize> {
        loop {
            match &self.open {
                Some(group) if group.rows_left > 0 => return Ok(group.rows_left.min(self.step as u64) as usize),
                _ => self.open = None,
            }
            if self.next_group == self.meta.row_groups() {
                return Ok(0);
            }
            self.open = Some(self.group(self.next_group)?);
            self.next_group += 1;
        }
    }

    /// Returns the rows of a step in a row group.
    fn step_of(&self, index: usize, rows: u64) -> usize {
        let most = self.settings.max_batch_rows.max(1);
        // The backend waits for the first step. In a large row group, small steps would cost more than they save.
        let step =
            if index == 0 && rows <= most as u64 { STEP.min(self.settings.first_batch_rows.max(1)) } else { STEP };
        step.min(most)
    }

    fn group(&mut self, index: usize) -> Result<Group> {
        let mut streams = self.groups.next().unwrap_or_default().into_iter();
        let rows_left = self.meta.metadata().row_group(index).num_rows() as u64;
        self.step = self.step_of(index, rows_left);
        let group = self.meta.metadata().row_group(index);
        let mut chunks = [const { None }; 9];
        for tick in Tick::ALL {
            let (Some(column), Some(levels)) = (self.mapping.column(tick), &self.levels[tick as usize]) else {
                continue;
            };
            if let Some(bytes) = streams.next() {
                let chunk = self.chunk(group, column, levels, bytes).map_err(|error| within(tick, index, error))?;
                chunks[tick as usize] = Some(chunk);
            }
        }
        Ok(Group { index, chunks, rows_left })
    }

    fn chunk(
        &self,
        group: &RowGroupMetaData,
        column: &Column,
        levels: &FieldLevels,
        bytes: Box<dyn ByteStream>,
    ) -> Result<Chunk> {
        let codec = Codec::try_from(group.column(column.leaf).compression())?;
        let pages = Pages::new(bytes, codec, column, group.num_rows() as u64, self.budget.clone());
        Chunk::new(pages, levels, self.meta.shared(), self.step)
    }

    fn decode(
        &mut self,
        rows: usize,
        symbols: &mut Symbols,
        cancelled: &dyn Fn() -> bool,
        decoded: &mut Decoded,
    ) -> Result<()> {
        let Some(group) = &mut self.open else { return Ok(()) };
        let keeps = self.settings.on_bad_row == OnBadRow::Reject && self.kept < self.settings.max_kept_rejects;
        let mut arrays: [Option<ArrayRef>; 9] = [const { None }; 9];
        let mut block = Block::default();
        let range = self.settings.times;
        for tick in Tick::ALL {
            let (Some(chunk), Some(column)) = (&mut group.chunks[tick as usize], self.mapping.column(tick)) else {
                block.absent(tick, rows, self.symbol.as_deref(), symbols)?;
                continue;
            };
            let within = |error| within(tick, group.index, error);
            let array = chunk.read(rows, cancelled).map_err(within)?;
            match tick {
                Tick::EventTime => times(tick, column, range, &array, &mut block.event_time, &mut block.bad),
                Tick::TradeTime => times(tick, column, range, &array, &mut block.trade_time, &mut block.bad),
                Tick::Symbol => self::symbols(&array, symbols, &mut block.symbol, &mut block.bad),
                Tick::TradeId => trade_ids(column, &array, &mut block.trade_id, &mut block.bad),
                Tick::Price => amounts::<Price>(column, &array, &mut block.price, &mut block.bad),
                Tick::Quantity => amounts::<Quantity>(column, &array, &mut block.quantity, &mut block.bad),
                Tick::BuyerOrderId => order_ids(tick, column, &array, &mut block.buyer_order_id, &mut block.bad),
                Tick::SellerOrderId => order_ids(tick, column, &array, &mut block.seller_order_id, &mut block.bad),
                Tick::IsMarketMaker => flags(column, &array, &mut block.is_market_maker, &mut block.bad),
            }
            .map_err(within)?;
            if keeps {
                arrays[tick as usize] = Some(array);
            }
        }
        let first = self.next_row;
        self.next_row += rows as u64;
        group.rows_left -= rows as u64;
        if block.bad.is_empty() {
            block.append_all(first, rows, &mut decoded.ticks);
            return Ok(());
        }
        self.append_with_rejects(block, &arrays, first, rows, decoded)
    }

    /// Appends a step that has bad rows: its good rows as ticks, its bad rows as rejects. With `OnBadRow::Abort` it
    /// returns the first bad row as an error.
    fn append_with_rejects(
        &mut self,
        mut block: Block,
        arrays: &[Option<ArrayRef>; 9],
        first: u64,
        rows: usize,
        decoded: &mut Decoded,
    ) -> Result<()> {
        let bad = block.bad.take();
        if let (OnBadRow::Abort, Some((row, reason))) = (self.settings.on_bad_row, bad.first()) {
            return Err(Error::BadRow {
                position: self.meta.position(first + u64::from(*row)),
                reason: reason.clone(),
            });
        }
        block.append_good(first, rows, &bad, &mut decoded.ticks);
        decoded.rejected += bad.len() as u64;
        for (row, reason) in bad.into_iter().take(self.settings.max_kept_rejects - self.kept) {
            let position = self.meta.position(first + u64::from(row));
            decoded.rejects.push(Reject { position, reason, values: self.values(arrays, row as usize) });
            self.kept += 1;
        }
        Ok(())
    }

    fn values(&self, arrays: &[Option<ArrayRef>; 9], row: usize) -> Map<String, Value> {
        let shown = |tick: Tick| {
            let value = render(self.mapping.column(tick)?, arrays[tick as usize].as_ref()?, row);
            Some((tick.name().to_owned(), value))
        };
        Tick::ALL.into_iter().filter_map(shown).collect()
    }

    fn empty(&self) -> TickBatch {
        let text = |tick| self.mapping.column(tick).map(|_| TextColumn::default());
        TickBatch {
            buyer_order_id: text(Tick::BuyerOrderId),
            seller_order_id: text(Tick::SellerOrderId),
            ..TickBatch::default()
        }
    }
}

/// Returns whether the trade ids of each symbol ascend.
fn ascend(ticks: &TickBatch) -> bool {
    let mut last = HashMap::new();
    ticks
        .symbol
        .iter()
        .zip(&ticks.trade_id)
        .all(|(symbol, id)| last.insert(*symbol, *id).is_none_or(|last| last <= *id))
}

/// Returns the memory that a batch takes.
fn size(ticks: &TickBatch) -> usize {
    let texts = [&ticks.buyer_order_id, &ticks.seller_order_id];
    // Row, two times, symbol, id, price, quantity and flag.
    ticks.len() * (8 + 16 + 4 + 8 + 8 + 16 + 1) + texts.into_iter().flatten().map(TextColumn::size).sum::<usize>()
}

/// The rows of one step, with the bad ones.
#[derive(Default)]
struct Block {
    event_time: Vec<i64>,
    trade_time: Vec<i64>,
    symbol: Vec<u32>,
    trade_id: Vec<i64>,
    price: Vec<i64>,
    quantity: Vec<i128>,
    buyer_order_id: TextColumn,
    seller_order_id: TextColumn,
    is_market_maker: Vec<Option<bool>>,
    bad: Bad,
}

impl Block {
    /// Fills in the values of a column that the file does not have.
    fn absent(&mut self, tick: Tick, rows: usize, symbol: Option<&str>, symbols: &mut Symbols) -> Result<()> {
        match tick {
            Tick::TradeTime => self.trade_time.resize(rows, NO_TIME),
            Tick::Symbol => self.symbol.resize(rows, symbols.number(symbol.unwrap_or_default())?),
            Tick::IsMarketMaker => self.is_market_maker.resize(rows, None),
            Tick::BuyerOrderId | Tick::SellerOrderId => {}
            Tick::EventTime | Tick::TradeId | Tick::Price | Tick::Quantity => {
                return Err(damaged("a required column is missing"));
            }
        }
        Ok(())
    }

    fn append_all(self, first: u64, rows: usize, ticks: &mut TickBatch) {
        ticks.row.extend(first..first + rows as u64);
        ticks.event_time.extend(self.event_time);
        ticks.trade_time.extend(self.trade_time);
        ticks.symbol.extend(self.symbol);
        ticks.trade_id.extend(self.trade_id);
        ticks.price.extend(self.price);
        ticks.quantity.extend(self.quantity);
        ticks.is_market_maker.extend(self.is_market_maker);
        append_text(&mut ticks.buyer_order_id, &self.buyer_order_id, 0..rows);
        append_text(&mut ticks.seller_order_id, &self.seller_order_id, 0..rows);
    }

    fn append_good(&self, first: u64, rows: usize, bad: &[(u32, String)], ticks: &mut TickBatch) {
        let mut bad = bad.iter().map(|(row, _)| *row as usize).peekable();
        let good: Vec<usize> = (0..rows).filter(|row| bad.next_if_eq(row).is_none()).collect();
        ticks.row.extend(good.iter().map(|row| first + *row as u64));
        ticks.event_time.extend(good.iter().map(|row| self.event_time[*row]));
        ticks.trade_time.extend(good.iter().map(|row| self.trade_time[*row]));
        ticks.symbol.extend(good.iter().map(|row| self.symbol[*row]));
        ticks.trade_id.extend(good.iter().map(|row| self.trade_id[*row]));
        ticks.price.extend(good.iter().map(|row| self.price[*row]));
        ticks.quantity.extend(good.iter().map(|row| self.quantity[*row]));
        ticks.is_market_maker.extend(good.iter().map(|row| self.is_market_maker[*row]));
        append_text(&mut ticks.buyer_order_id, &self.buyer_order_id, good.iter().copied());
        append_text(&mut ticks.seller_order_id, &self.seller_order_id, good.iter().copied());
    }
}

fn append_text(out: &mut Option<TextColumn>, block: &TextColumn, rows: impl Iterator<Item = usize>) {
    if let Some(out) = out {
        rows.for_each(|row| out.push(block.get(row)));
    }
}
