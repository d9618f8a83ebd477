//! Ticks as columns: the output of decoding and the input of encoding.

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
/// Stands for null in [`TickBatch::trade_time`]. It is PostgreSQL's -infinity, which no tick can have.
pub const NO_TIME: i64 = i64::MIN;
/// The longest symbol or order id in bytes. A row with a longer one is a bad row.
pub const MAX_TEXT: usize = 255;
/// How many different symbols one object may hold.
pub const MAX_SYMBOLS: usize = 65_536;

/// The symbols of one load, each once. Ticks refer to a symbol by its number.
#[derive(Debug, Default, Clone)]
pub struct Symbols {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl Symbols {
    /// Returns the number of `name`. A new name gets the next number.
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

    /// Returns all names so far. A tick's symbol is an index into them.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }
}

/// The texts of one column end to end, in much less memory than a `Vec<Option<String>>`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TextColumn {
    bytes: Vec<u8>,
    /// Per value: where it ends in `bytes`, and whether it is not null.
    ends: Vec<(u32, bool)>,
}

impl TextColumn {
    /// Appends a value. `None` is SQL null.
    #[inline]
    pub fn push(&mut self, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.bytes.extend_from_slice(value);
        }
        self.ends.push((self.bytes.len() as u32, value.is_some()));
    }

    /// Returns the value at `index`, or `None` for null.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let (end, present) = self.ends[index];
        let start = if index == 0 { 0 } else { self.ends[index - 1].0 };
        present.then(|| &self.bytes[start as usize..end as usize])
    }

    /// Returns the number of values, with nulls.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the bytes in use.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<(u32, bool)>()
    }
}

/// Consecutive ticks of one object, column by column. Every vector has the same length.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct TickBatch {
    /// The row of the object that each tick comes from, counted from 0.
    pub row: Vec<u64>,
    /// Microseconds since 1970, UTC.
    pub event_time: Vec<i64>,
    /// Microseconds since 1970, UTC, or [`NO_TIME`].
    pub trade_time: Vec<i64>,
    /// Numbers in the load's [`Symbols`].
    pub symbol: Vec<u32>,
    /// The exchange's sequence number.
    pub trade_id: Vec<i64>,
    /// Units of 10^-8, above 0 and below [`PRICE_END`].
    pub price: Vec<i64>,
    /// Units of 10^-12, above 0 and below [`QUANTITY_END`].
    pub quantity: Vec<i128>,
    /// `None` if the file has no such column.
    pub buyer_order_id: Option<TextColumn>,
    /// `None` if the file has no such column.
    pub seller_order_id: Option<TextColumn>,
    /// Whether the buyer was the maker.
    pub is_market_maker: Vec<Option<bool>>,
}

impl TickBatch {
    /// Returns the number of ticks.
    pub fn len(&self) -> usize {
        self.row.len()
    }

    /// Returns whether there are no ticks.
    pub fn is_empty(&self) -> bool {
        self.row.is_empty()
    }

    /// Returns a tick's key: (bucket, symbol number, trade id). The bucket is in microseconds since 1970.
    #[inline]
    pub fn key(&self, index: usize) -> (i64, u32, i64) {
        (bucket_of(self.event_time[index]), self.symbol[index], self.trade_id[index])
    }
}

/// A row that is not a tick, as it goes to `landing.rejected_ticks`.
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    /// Its position in the object.
    pub position: RowPosition,
    /// Why it is no tick, e.g. `price is null`.
    pub reason: String,
    /// The row's mapped columns as text, by tick column name.
    pub values: serde_json::Map<String, serde_json::Value>,
}
