-- Questions that one ordered pass over the ticks of a symbol answers. The functions run with the privileges of their
-- caller, and return all of their rows in one call, beyond work_mem by a file.

CREATE FUNCTION btc_ingest.prices_at(symbol text, times timestamptz[], tolerance interval DEFAULT NULL)
RETURNS TABLE (at timestamptz, event_time timestamptz, trade_id bigint, price numeric, age interval)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'prices_at_wrapper';
COMMENT ON FUNCTION btc_ingest.prices_at(text, timestamptz[], interval) IS
'For each time the last trade of a symbol at or before it, by event time and trade id.

symbol: symbol as stored, e.g. BTCUSDT.
times: times in any order.
tolerance: greatest age of the trade. Default null: no limit.

Returns one row per time, in the order of time; the other columns are null where there is no such trade:
at: the time.
event_time: time of the trade.
trade_id: its number.
price: its price.
age: time from the trade to the given time.';

CREATE FUNCTION btc_ingest.markouts(symbol text, "from" timestamptz, "to" timestamptz, horizons interval[])
RETURNS TABLE (event_time timestamptz, trade_id bigint, price numeric, quantity numeric, is_market_maker boolean,
               horizon interval, later_price numeric)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'markouts_wrapper';
COMMENT ON FUNCTION btc_ingest.markouts(text, timestamptz, timestamptz, interval[]) IS
'For each trade of a symbol the price at some horizons after it.

symbol: symbol as stored, e.g. BTCUSDT.
from: first event time of the trades.
to: end (exclusive) of their event times. Ticks are read until the longest horizon behind it.
horizons: up to 32 intervals, each longer than 0 and at most 24 hours.

Returns one row per trade and horizon, in the order of the trades:
event_time: time of the trade.
trade_id: its number.
price: its price.
quantity: its quantity.
is_market_maker: true if the buyer was the maker.
horizon: the horizon.
later_price: price of the last trade at or before the horizon''s end; null where the stored ticks do not reach it.';

CREATE FUNCTION btc_ingest.bars(
    symbol text, "from" timestamptz, "to" timestamptz, kind text, size numeric, after bigint DEFAULT NULL
)
RETURNS TABLE (opened_at timestamptz, closed_at timestamptz, open numeric, high numeric, low numeric, close numeric,
               volume numeric, quote_volume numeric, trades bigint, taker_buy_volume numeric,
               taker_buy_quote_volume numeric, first_trade_id bigint, last_trade_id bigint, complete boolean)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'bars_wrapper';
COMMENT ON FUNCTION btc_ingest.bars(text, timestamptz, timestamptz, text, numeric, bigint) IS
'Bars of a fixed size of a symbol''s trades, in the order of event time and trade id. A trade is not split: it closes
the bar whose size it reaches.

symbol: symbol as stored, e.g. BTCUSDT.
from: first event time.
to: end (exclusive) of the event times.
kind: "tick" (trades), "volume" (quantity) or "value" (price * quantity).
size: how much of it a bar holds at least.
after: at the first event time, only trades with a higher id. With from => closed_at and after => last_trade_id of a
  complete bar, the bars that follow it are the same as in one call. Default null: all.

Returns one row per bar:
opened_at: event time of the first trade.
closed_at: event time of the last trade.
open: price of the first trade.
high: highest price.
low: lowest price.
close: price of the last trade.
volume: sum of quantity.
quote_volume: sum of price * quantity.
trades: number of trades.
taker_buy_volume: sum of quantity of the trades whose taker bought.
taker_buy_quote_volume: sum of price * quantity of these trades.
first_trade_id: number of the first trade.
last_trade_id: number of the last trade.
complete: false for the last bar if it has not reached its size.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    btc_ingest.prices_at(text, timestamptz[], interval),
    btc_ingest.markouts(text, timestamptz, timestamptz, interval[]),
    btc_ingest.bars(text, timestamptz, timestamptz, text, numeric, bigint)
TO btc_ingest_reader;
