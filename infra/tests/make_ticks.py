"""Writes slices of generated ticks as Parquet files, one file a slice: make_ticks.py BUCKET SYMBOL START SLICES COUNT

START is like 2024-08-08T12:00; ids go up from 1, COUNT of them a slice."""
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def ticks(symbol, start, first, count):
    times = [start + timedelta(microseconds=100_000 * number) for number in range(count)]
    time = pa.timestamp("us", tz="UTC")
    return pa.table({
        "event_time": pa.array(times, time),
        "trade_time": pa.array(times, time),
        "symbol": pa.array([symbol] * count),
        "trade_id": pa.array(range(first, first + count), pa.int64()),
        "price": pa.array([Decimal("57000.5") + number % 100 for number in range(count)], pa.decimal128(18, 8)),
        "quantity": pa.array([Decimal("0.25")] * count, pa.decimal128(24, 12)),
        "buyer_order_id": pa.nulls(count, pa.string()),
        "seller_order_id": pa.nulls(count, pa.string()),
        "is_market_maker": pa.array([number % 2 == 0 for number in range(count)]),
    })


def main(bucket, symbol, start, slices, count):
    begin = datetime.fromisoformat(start).replace(tzinfo=timezone.utc)
    for number in range(int(slices)):
        time = begin + timedelta(minutes=5 * number)
        file = Path(bucket, "Binance", symbol, f"{time:%Y/%m/%d}", f"{symbol}_{time:%Y%m%dT%H%M}Z.parquet")
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(ticks(symbol, time, number * int(count) + 1, int(count)), file)


if __name__ == "__main__":
    main(*sys.argv[1:])
