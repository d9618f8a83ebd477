//! The canonical form of a tick, and sums over ticks that do not depend on their order. docs/use/verify.md describes
//! both to the byte, so that any program can compute them.

use sha2::{Digest, Sha256};

use super::tick::{PRICE_SCALE, QUANTITY_SCALE};

const MAKER: u8 = 1;
const NO_MAKER: u8 = 1 << 1;
const NO_TRADE_TIME: u8 = 1 << 2;
const NO_BUYER: u8 = 1 << 3;
const NO_SELLER: u8 = 1 << 4;
const NO_PRICE: u8 = 1 << 5;
const NO_QUANTITY: u8 = 1 << 6;

/// Quantities are split at their decimal point, because a price times a whole quantity may need more than 128 bits.
const SPLIT: i128 = 10_i128.pow(QUANTITY_SCALE);

/// A tick with every value that an object decides. A stored tick may have nulls that no load stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanonicalTick<'a> {
    /// The asset.
    pub symbol: &'a [u8],
    /// The exchange's sequence number.
    pub trade_id: i64,
    /// Microseconds since 1970.
    pub event_time: i64,
    /// Microseconds since 1970.
    pub trade_time: Option<i64>,
    /// Units of 10^-8.
    pub price: Option<i64>,
    /// Units of 10^-12.
    pub quantity: Option<i128>,
    /// The buyer's order.
    pub buyer_order_id: Option<&'a [u8]>,
    /// The seller's order.
    pub seller_order_id: Option<&'a [u8]>,
    /// Whether the buyer was the maker.
    pub is_market_maker: Option<bool>,
}

impl CanonicalTick<'_> {
    /// Returns the first 128 bits of the SHA-256 of the canonical form. `buffer` is only memory for it.
    pub fn digest(&self, buffer: &mut Vec<u8>) -> u128 {
        buffer.clear();
        self.write(buffer);
        let digest = Sha256::digest(&buffer[..]);
        digest.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut head = [0; 47];
        head[0] = self.flags();
        head[1..9].copy_from_slice(&self.trade_id.to_be_bytes());
        head[9..17].copy_from_slice(&self.event_time.to_be_bytes());
        head[17..25].copy_from_slice(&self.trade_time.unwrap_or(0).to_be_bytes());
        head[25..33].copy_from_slice(&self.price.unwrap_or(0).to_be_bytes());
        // 96 bits hold every quantity, and with them a usual tick fits into one block of SHA-256.
        head[33..45].copy_from_slice(&self.quantity.unwrap_or(0).to_be_bytes()[4..]);
        head[45..].copy_from_slice(&(self.symbol.len() as u16).to_be_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(self.symbol);
        for text in [self.buyer_order_id, self.seller_order_id].into_iter().flatten() {
            out.extend_from_slice(&(text.len() as u32).to_be_bytes());
            out.extend_from_slice(text);
        }
    }

    fn flags(&self) -> u8 {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        flag(self.is_market_maker == Some(true), MAKER)
            | flag(self.is_market_maker.is_none(), NO_MAKER)
            | flag(self.trade_time.is_none(), NO_TRADE_TIME)
            | flag(self.buyer_order_id.is_none(), NO_BUYER)
            | flag(self.seller_order_id.is_none(), NO_SELLER)
            | flag(self.price.is_none(), NO_PRICE)
            | flag(self.quantity.is_none(), NO_QUANTITY)
    }
}

/// Sums over ticks, the same in any order of the ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TickSums {
    /// The number of ticks.
    pub rows: i64,
    quantity: i128,
    /// Sum of price times whole units of quantity, and of price times the rest, in units of 10^-8 and 10^-20.
    amount: (i128, i128),
    /// Sum of the ticks' digests modulo 2^128. Unlike XOR, it notices a tick that occurs twice.
    digest: u128,
}

impl TickSums {
    /// Adds a tick with its digest.
    #[inline]
    pub fn add(&mut self, tick: &CanonicalTick<'_>, digest: u128) {
        let (price, quantity) = (i128::from(tick.price.unwrap_or(0)), tick.quantity.unwrap_or(0));
        self.rows += 1;
        self.quantity = self.quantity.wrapping_add(quantity);
        // Most quantities fit into 64 bits, in which a division is much cheaper.
        let (whole, rest) = match i64::try_from(quantity) {
            Ok(quantity) => (i128::from(quantity / SPLIT as i64), i128::from(quantity % SPLIT as i64)),
            Err(_) => (quantity / SPLIT, quantity % SPLIT),
        };
        self.amount.0 = self.amount.0.wrapping_add(price.wrapping_mul(whole));
        self.amount.1 = self.amount.1.wrapping_add(price.wrapping_mul(rest));
        self.digest = self.digest.wrapping_add(digest);
    }

    /// Adds the sums of other ticks.
    pub fn absorb(&mut self, other: &TickSums) {
        self.rows += other.rows;
        self.quantity = self.quantity.wrapping_add(other.quantity);
        self.amount.0 = self.amount.0.wrapping_add(other.amount.0);
        self.amount.1 = self.amount.1.wrapping_add(other.amount.1);
        self.digest = self.digest.wrapping_add(other.digest);
    }

    /// Returns the sum of the digests modulo 2^128, as 32 hexadecimal digits.
    pub fn digest_text(&self) -> String {
        format!("{:032x}", self.digest)
    }

    /// Returns the sum of the quantities as a decimal number.
    pub fn quantity_text(&self) -> String {
        decimal(self.quantity / SPLIT, self.quantity % SPLIT, 0)
    }

    /// Returns the sum of price times quantity as a decimal number.
    pub fn amount_text(&self) -> String {
        decimal(self.amount.0, self.amount.1, PRICE_SCALE as usize)
    }
}

/// Formats `whole` · 10^12 + `rest`, in units of 10^-(12 + `scale`).
fn decimal(whole: i128, rest: i128, scale: usize) -> String {
    let (mut whole, mut rest) = (whole.saturating_add(rest.div_euclid(SPLIT)), rest.rem_euclid(SPLIT));
    let negative = whole < 0;
    if negative {
        // The rest is never negative: -0.3 is -1 + 0.7.
        (whole, rest) = if rest == 0 { (-whole, 0) } else { (-(whole + 1), SPLIT - rest) };
    }
    let places = scale + QUANTITY_SCALE as usize;
    let digits = format!("{:0>width$}", format!("{whole}{rest:012}"), width = places + 1);
    let (before, after) = digits.split_at(digits.len() - places);
    let before = before.trim_start_matches('0');
    format!("{}{}.{after}", if negative { "-" } else { "" }, if before.is_empty() { "0" } else { before })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: CanonicalTick<'_> = CanonicalTick {
        symbol: b"BTCUSDT",
        trade_id: 1,
        event_time: 1_723_118_400_000_001,
        trade_time: None,
        price: Some(6_000_000_000_001),
        quantity: Some(1_500_000_000_000),
        buyer_order_id: Some(b"7"),
        seller_order_id: None,
        is_market_maker: Some(true),
    };

    fn digest(tick: &CanonicalTick<'_>) -> u128 {
        tick.digest(&mut Vec::new())
    }

    #[test]
    fn the_canonical_form_is_the_documented_one() {
        let mut bytes = Vec::new();
        TICK.write(&mut bytes);
        let parts: [&[u8]; 9] = [
            &[0b1_0101],
            &1i64.to_be_bytes(),
            &1_723_118_400_000_001_i64.to_be_bytes(),
            &[0; 8],
            &6_000_000_000_001_i64.to_be_bytes(),
            &[0, 0, 0, 0, 0, 0, 1, 0x5d, 0x3e, 0xf7, 0x98, 0],
            &[0, 7],
            b"BTCUSDT",
            &[0, 0, 0, 1, b'7'],
        ];
        assert_eq!(bytes, parts.concat());
    }

    #[test]
    fn every_value_counts() {
        let others = [
            CanonicalTick { symbol: b"BTCUSDU", ..TICK },
            CanonicalTick { trade_id: 2, ..TICK },
            CanonicalTick { event_time: 0, ..TICK },
            CanonicalTick { trade_time: Some(0), ..TICK },
            CanonicalTick { price: None, ..TICK },
            CanonicalTick { quantity: Some(0), ..TICK },
            CanonicalTick { quantity: None, ..TICK },
            CanonicalTick { buyer_order_id: None, ..TICK },
            CanonicalTick { buyer_order_id: None, seller_order_id: Some(b"7"), ..TICK },
            CanonicalTick { buyer_order_id: Some(b""), seller_order_id: Some(b"7"), ..TICK },
            CanonicalTick { is_market_maker: None, ..TICK },
            CanonicalTick { is_market_maker: Some(false), ..TICK },
        ];
        let mut digests: Vec<u128> = others.iter().chain([&TICK]).map(digest).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), others.len() + 1);
    }

    #[test]
    fn sums_do_not_depend_on_the_order_and_notice_a_tick_that_occurs_twice() {
        let ticks: Vec<CanonicalTick<'_>> = (0..5).map(|id| CanonicalTick { trade_id: id, ..TICK }).collect();
        let sums = |order: &[usize]| {
            let mut sums = TickSums::default();
            order.iter().for_each(|at| sums.add(&ticks[*at], digest(&ticks[*at])));
            sums
        };
        assert_eq!(sums(&[0, 1, 2, 3, 4]), sums(&[4, 2, 0, 1, 3]));
        assert_ne!(sums(&[0, 1, 2, 2]).digest, sums(&[0, 1, 1, 2]).digest);
        assert_ne!(sums(&[0, 1, 1]).digest, sums(&[0, 2, 2]).digest);
        let mut parts = sums(&[0, 1]);
        parts.absorb(&sums(&[2, 3, 4]));
        assert_eq!(parts, sums(&[0, 1, 2, 3, 4]));
    }

    #[test]
    fn sums_are_exact_up_to_the_largest_values() {
        let mut sums = TickSums::default();
        let large = CanonicalTick { price: Some(10i64.pow(18) - 1), quantity: Some(10i128.pow(24) - 1), ..TICK };
        (0..2).for_each(|_| sums.add(&large, 0));
        sums.add(&TICK, 0);
        assert_eq!(sums.quantity_text(), "2000000000001.499999999998");
        assert_eq!(sums.amount_text(), "20000000000000000069999.98000001500000000002");
        let negative = CanonicalTick { price: Some(-30_000_000), quantity: Some(1_500_000_000_000), ..TICK };
        let mut sums = TickSums::default();
        sums.add(&negative, 0);
        assert_eq!(sums.amount_text(), "-0.45000000000000000000");
        assert_eq!(TickSums::default().amount_text(), "0.00000000000000000000");
    }
}
