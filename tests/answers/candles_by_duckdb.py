"""Computes candles of Parquet files by DuckDB, and prints them as the test of the candles reads them from PostgreSQL.

Arguments: width in microseconds, the column of time, files.
"""

import sys
from fractions import Fraction

import duckdb

QUERY = """
SELECT epoch_us({time}) // {width} * {width} AS start, symbol,
       first(p ORDER BY {time}, trade_id)::VARCHAR, max(p)::VARCHAR, min(p)::VARCHAR,
       last(p ORDER BY {time}, trade_id)::VARCHAR,
       sum(q)::VARCHAR, sum(p * q)::VARCHAR, count(*),
       coalesce(sum(q) FILTER (WHERE NOT is_market_maker), 0)::VARCHAR,
       coalesce(sum(p * q) FILTER (WHERE NOT is_market_maker), 0)::VARCHAR, min(trade_id), max(trade_id)
  FROM (SELECT *, price::DECIMAL(16, 8) AS p, quantity::DECIMAL(20, 12) AS q FROM read_parquet(?)) AS ticks
 GROUP BY 1, 2 ORDER BY 1, 2
"""
BUCKET = 300_000_000
PLACES = 20


def quotient(value: str, volume: str) -> str:
    """Divides exactly, and rounds as PostgreSQL does: to the nearest, and away from zero between two."""
    units = Fraction(value) / Fraction(volume) * 10**PLACES
    digits = str(int(units + Fraction(1, 2))).rjust(PLACES + 1, "0")
    return f"{digits[:-PLACES]}.{digits[-PLACES:]}"


def plain(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number


def main() -> None:
    width, time, files = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    connection = duckdb.connect()
    rows = connection.execute(QUERY.format(width=width, time=time), [files]).fetchall()
    for start, symbol, first, high, low, last, volume, value, trades, taken, taken_value, low_id, high_id in rows:
        print(
            f"{start} in {start // BUCKET * BUCKET} {symbol}: {first} {high} {low} {last}, {volume} for {value}"
            f" in {trades}, taken {plain(taken)} for {plain(taken_value)}, at {quotient(value, volume)},"
            f" ids {low_id} to {high_id}"
        )


main()
