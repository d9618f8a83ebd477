//! Ticks as columns: what decoding makes and encoding takes.

use std::collections::HashMap;
use std::sync::Arc;

use super::bucket::bucket_of;
use crate::error::{Error, Result, RowPosition};

/// Decimal places of `market_data.btc_ticks.price`, numeric(18,8).
pub const PRICE_SCALE: u32 = 8;
/// Decimal places of `market_data.btc_ticks.quantity`, numeric(24,12).
pub const QUANTITY_SCALE: u32 = 12;
/// The first price in units of 10^-8 that numeric(18,8) cannot hold.
pub const PRICE_END: i64 = 1_000_000_000_000_000_000;
/// The first quantity in units of 10^-12 that numeric(24,12) cannot hold.
pub const QUANTITY_END: i128 = 1_000_000_000_000_000_000_000_000;
/// Stands for "no trade time" in [`TickBatch::trade_time`]; PostgreSQL's -infinity, which no tick can have.
pub const NO_TIME: i64 = i64::MIN;
/// The longest symbol or order id that is taken, in bytes; a longer one is a bad row.
pub const MAX_TEXT: usize = 255;
/// How many different symbols one object may hold.
pub const MAX_SYMBOLS: usize = 65_536;

/// The symbols of one load, each once; ticks hold its number.
#[derive(Debug, Default, Clone)]
pub struct Symbols {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl Symbols {
    /// The number of `name`, given now if it is new.
    pub fn number(&mut self, name: &str) -> Result<u32> {
        if let Some(&number) = self.numbers.get(name) {
            return Ok(number);
        }
        if self.names.len() == MAX_SYMBOLS {
            return Err(Error::TooManySymbols { limit: MAX_SYMBOLS });
        }
        let number = self.names.len() as u32;
        let name: Arc<str> = name.into();
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        Ok(number)
    }

    /// All names so far; a tick's symbol is an index into it.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }
}

/// Texts of one column end to end; much lighter than a `Vec<Option<String>>`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TextColumn {
    bytes: Vec<u8>,
    /// Per value: where it ends in `bytes`, and whether it is there at all.
    ends: Vec<(u32, bool)>,
}

impl TextColumn {
    /// Appends a value; `None` is SQL null.
    #[inline]
    pub fn push(&mut self, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.bytes.extend_from_slice(value);
        }
        self.ends.push((self.bytes.len() as u32, value.is_some()));
    }

    /// The value at `index`, or `None` for null.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let (end, present) = self.ends[index];
        let start = if index == 0 { 0 } else { self.ends[index - 1].0 };
        present.then(|| &self.bytes[start as usize..end as usize])
    }

    /// Number of values, nulls included.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes in use.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<(u32, bool)>()
    }
}

/// A run of ticks of one object, column by column; every vector has the same length.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct TickBatch {
    /// The rows of the object they come from, counted from 0.
    pub row: Vec<u64>,
    /// Microseconds since 1970, UTC.
    pub event_time: Vec<i64>,
    /// Microseconds since 1970, UTC, or [`NO_TIME`].
    pub trade_time: Vec<i64>,
    /// Numbers in the load's [`Symbols`].
    pub symbol: Vec<u32>,
    /// The exchange's sequence.
    pub trade_id: Vec<i64>,
    /// Units of 10^-8, above 0 and below [`PRICE_END`].
    pub price: Vec<i64>,
    /// Units of 10^-12, above 0 and below [`QUANTITY_END`].
    pub quantity: Vec<i128>,
    /// `None` when the file has no such column.
    pub buyer_order_id: Option<TextColumn>,
    /// `None` when the file has no such column.
    pub seller_order_id: Option<TextColumn>,
    /// Whether the buyer was the maker.
    pub is_market_maker: Vec<Option<bool>>,
}

impl TickBatch {
    /// Number of ticks.
    pub fn len(&self) -> usize {
        self.row.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.row.is_empty()
    }

    /// What orders ticks in the table: (bucket, symbol number, trade id). Bucket in microseconds since 1970.
    #[inline]
    pub fn key(&self, index: usize) -> (i64, u32, i64) {
        (bucket_of(self.event_time[index]), self.symbol[index], self.trade_id[index])
    }
}

/// A row that is not a tick, as it goes to `landing.rejected_ticks`.
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    /// Where it stands.
    pub position: RowPosition,
    /// Why it was refused, e.g. `price is null`.
    pub reason: String,
    /// The row's mapped columns as text, by tick column name.
    pub values: serde_json::Map<String, serde_json::Value>,
}
