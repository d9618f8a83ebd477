//! Ticks in the format of COPY … (FORMAT binary), as the fastest client would send them.

use std::io::{self, Write};

use btc_ingest_kit::Tick;

/// Microseconds from 1970 to 2000, where PostgreSQL's timestamps begin.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const NO_FLAGS_NO_EXTENSION: [u8; 8] = [0; 8];
const COLUMNS: i16 = 10;
const END: i16 = -1;
/// Decimal digits per digit of a numeric.
const BASE_DIGITS: u32 = 4;
const BASE: i128 = 10_000;

/// A file that is being written.
#[derive(Debug)]
pub struct CopyFile<W: Write> {
    to: W,
    row: Vec<u8>,
}

impl<W: Write> CopyFile<W> {
    /// Writes the header.
    pub fn new(mut to: W) -> io::Result<Self> {
        to.write_all(SIGNATURE)?;
        to.write_all(&NO_FLAGS_NO_EXTENSION)?;
        Ok(Self { to, row: Vec::new() })
    }

    /// Writes one row, in the order of [`crate::servers::COLUMNS`].
    pub fn push(&mut self, tick: &Tick) -> io::Result<()> {
        let row = &mut self.row;
        row.clear();
        row.extend(COLUMNS.to_be_bytes());
        time(row, Some(tick.bucket_us()));
        time(row, Some(tick.event_time_us));
        time(row, tick.trade_time_us);
        field(row, Some(tick.symbol.as_bytes()));
        field(row, Some(&tick.trade_id.to_be_bytes()));
        numeric(row, tick.price.into(), 8);
        numeric(row, tick.quantity, 12);
        text(row, tick.buyer_order_id);
        text(row, tick.seller_order_id);
        field(row, Some(&[u8::from(tick.is_market_maker)]));
        self.to.write_all(row)
    }

    /// Writes the trailer.
    pub fn finish(mut self) -> io::Result<()> {
        self.to.write_all(&END.to_be_bytes())?;
        self.to.flush()
    }
}

fn field(row: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => row.extend((-1_i32).to_be_bytes()),
        Some(bytes) => {
            row.extend((bytes.len() as i32).to_be_bytes());
            row.extend(bytes);
        }
    }
}

fn time(row: &mut Vec<u8>, us: Option<i64>) {
    field(row, us.map(|us| (us - POSTGRES_EPOCH_US).to_be_bytes()).as_ref().map(<[u8; 8]>::as_slice));
}

fn text(row: &mut Vec<u8>, id: Option<i64>) {
    field(row, id.map(|id| id.to_string()).as_ref().map(String::as_bytes));
}

/// Writes `units` of 10^-`scale` as a numeric. The scale is a multiple of four, so that no digit of the numeric
/// stands on both sides of the point.
fn numeric(row: &mut Vec<u8>, units: i128, scale: u16) {
    let mut rest = units.unsigned_abs() as i128;
    // The lowest digit comes first; its weight follows from the scale.
    let mut weight = -i32::from(scale) / BASE_DIGITS as i32;
    let mut digits = Vec::with_capacity(10);
    while rest > 0 {
        let digit = (rest % BASE) as i16;
        // PostgreSQL writes no zeros at the end.
        if digit != 0 || !digits.is_empty() {
            digits.push(digit);
        }
        rest /= BASE;
        weight += 1;
    }
    let weight = if digits.is_empty() { 0 } else { (weight - 1) as i16 };
    let sign: u16 = if units < 0 { 0x4000 } else { 0 };
    row.extend((8 + 2 * digits.len() as i32).to_be_bytes());
    row.extend((digits.len() as i16).to_be_bytes());
    row.extend(weight.to_be_bytes());
    row.extend(sign.to_be_bytes());
    row.extend(scale.to_be_bytes());
    for digit in digits.iter().rev() {
        row.extend(digit.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what `numeric_send` returns, as 16-bit words.
    fn words(units: i128, scale: u16) -> Vec<i16> {
        let mut row = Vec::new();
        numeric(&mut row, units, scale);
        assert_eq!(i32::from_be_bytes([row[0], row[1], row[2], row[3]]) as usize, row.len() - 4);
        row[4..].chunks(2).map(|two| i16::from_be_bytes([two[0], two[1]])).collect()
    }

    #[test]
    fn numerics_are_digits_of_ten_thousand_without_zeros_at_the_end() {
        // 60000.12: 6·10^4, 0, .1200
        assert_eq!(words(6_000_012_000_000, 8), [3, 1, 0, 8, 6, 0, 1200]);
        // 0.00001: the second digit after the point.
        assert_eq!(words(10_000_000, 12), [1, -2, 0, 12, 1000]);
        assert_eq!(words(123_456_700_000_000, 8), [2, 1, 0, 8, 123, 4567]);
        assert_eq!(words(0, 8), [0, 0, 0, 8]);
        assert_eq!(words(-100_000_000, 8), [1, 0, 0x4000, 8, 1]);
    }

    #[test]
    fn a_file_has_a_signature_rows_and_an_end() {
        let mut file = Vec::new();
        CopyFile::new(&mut file).unwrap().finish().unwrap();
        assert_eq!(file.len(), 11 + 8 + 2);
        assert!(file.starts_with(b"PGCOPY\n\xff\r\n\0") && file.ends_with(&[0xff, 0xff]));
    }
}
