//! Ticks value by value: small hand-made ones, and the stored ones as lines to compare with them.

use postgres::Client;

use crate::ticks::{BUCKET_US, PRICE_UNIT, QUANTITY_UNIT, Tick, decimal_text, time_us};

/// Where [`ticks`] begin: the start of a bucket.
pub const START: &str = "2024-08-08T12:00:00Z";

/// A week in microseconds.
const WEEK_US: i64 = 7 * 86_400 * 1_000_000;

/// Makes `count` ticks of BTCUSDT, one per second from [`START`] on, with ids from `first_id` on and no two alike.
pub fn ticks(first_id: i64, count: usize) -> Vec<Tick> {
    ticks_of("BTCUSDT", first_id, count)
}

/// Makes such ticks of any symbol.
pub fn ticks_of(symbol: &str, first_id: i64, count: usize) -> Vec<Tick> {
    let start = time_us(START);
    (0..count as i64)
        .map(|n| Tick {
            event_time_us: start + n * 1_000_000 + 1,
            trade_time_us: Some(start + n * 1_000_000),
            symbol: symbol.into(),
            trade_id: first_id + n,
            price: (60_000 + n) * PRICE_UNIT + n,
            quantity: QUANTITY_UNIT + i128::from(n),
            buyer_order_id: Some(2 * (first_id + n)),
            seller_order_id: Some(2 * (first_id + n) + 1),
            is_market_maker: n % 2 == 0,
        })
        .collect()
}

/// Returns a changed copy of a tick.
pub fn but(tick: &Tick, change: impl FnOnce(&mut Tick)) -> Tick {
    let mut changed = tick.clone();
    change(&mut changed);
    changed
}

/// Returns a copy of a tick, so many buckets later.
pub fn moved(tick: &Tick, buckets: i64) -> Tick {
    but(tick, |tick| tick.event_time_us += buckets * BUCKET_US)
}

/// Makes one tick of a symbol in each of so many weeks from a time on, so that each lies in a chunk of its own.
pub fn weekly(symbol: &str, first_id: i64, from: &str, weeks: usize) -> Vec<Tick> {
    let first = &ticks_of(symbol, first_id, 1)[0];
    (0..weeks as i64)
        .map(|week| {
            but(first, |tick| {
                tick.event_time_us = time_us(from) + week * WEEK_US;
                tick.trade_time_us = Some(tick.event_time_us);
                tick.trade_id = first_id + week;
            })
        })
        .collect()
}

/// Returns everything that a table must hold of a tick, as text.
pub fn line(tick: &Tick) -> String {
    let text = |value: Option<i64>| value.map_or("null".to_owned(), |value| value.to_string());
    format!(
        "{} {} in {} at {} traded {}: {} x {}, orders {} {}, maker {}",
        tick.symbol,
        tick.trade_id,
        tick.bucket_us(),
        tick.event_time_us,
        text(tick.trade_time_us),
        decimal_text(tick.price.into(), 8, 8),
        decimal_text(tick.quantity, 12, 12),
        text(tick.buyer_order_id),
        text(tick.seller_order_id),
        tick.is_market_maker,
    )
}

/// Returns every stored tick as [`line()`] would write it, in the order of the lines.
pub fn stored_lines(client: &mut Client) -> Vec<String> {
    let sql = "SELECT format('%s %s in %s at %s traded %s: %s x %s, orders %s %s, maker %s', symbol, trade_id,
                             (extract(epoch FROM bucket_5m) * 1000000)::bigint,
                             (extract(epoch FROM event_time) * 1000000)::bigint,
                             coalesce(((extract(epoch FROM trade_time) * 1000000)::bigint)::text, 'null'),
                             price, quantity, coalesce(buyer_order_id, 'null'), coalesce(seller_order_id, 'null'),
                             CASE is_market_maker WHEN true THEN 'true' WHEN false THEN 'false' ELSE 'null' END)
                 FROM market_data.btc_ticks";
    let mut lines: Vec<String> = client.query(sql, &[]).expect("the ticks").iter().map(|row| row.get(0)).collect();
    lines.sort();
    lines
}

/// Checks that the table holds exactly these ticks, each once, with every value of each.
#[track_caller]
pub fn must_hold<'a>(client: &mut Client, ticks: impl IntoIterator<Item = &'a Tick>) {
    let mut wanted: Vec<String> = ticks.into_iter().map(line).collect();
    wanted.sort();
    let found = stored_lines(client);
    if found != wanted {
        let missing: Vec<_> = wanted.iter().filter(|line| found.binary_search(line).is_err()).take(5).collect();
        let extra: Vec<_> = found.iter().filter(|line| wanted.binary_search(line).is_err()).take(5).collect();
        panic!("{} ticks wanted, {} stored; missing {missing:#?}, too many {extra:#?}", wanted.len(), found.len());
    }
}
