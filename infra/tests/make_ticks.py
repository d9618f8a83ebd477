"""Writes generated ticks as Parquet files: make_ticks.py FOLDER SYMBOL START FILES COUNT [MINUTES [CHANGED]]

START is like 2024-08-08T12:00. Each of FILES files spans MINUTES minutes, five unless said otherwise, and holds COUNT
ticks, spread evenly over its minutes. Ids go up from 1. The first CHANGED ticks of a file have another price than they
would have: such a file is a correction."""
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def ticks(symbol, start, first, count, minutes, changed):
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    begin = (start - epoch) // timedelta(microseconds=1)
    span = minutes * 60_000_000
    times = pa.array([begin + number * span // count for number in range(count)], pa.int64()).cast(
        pa.timestamp("us", tz="UTC"))
    prices = [Decimal("57000.5") + number for number in range(100)]
    return pa.table({
        "event_time": times,
        "trade_time": times,
        "symbol": pa.array([symbol] * count),
        "trade_id": pa.array(range(first, first + count), pa.int64()),
        "price": pa.array([prices[number % 100] + (number < changed) for number in range(count)], pa.decimal128(18, 8)),
        "quantity": pa.array([Decimal("0.25")] * count, pa.decimal128(24, 12)),
        "buyer_order_id": pa.nulls(count, pa.string()),
        "seller_order_id": pa.nulls(count, pa.string()),
        "is_market_maker": pa.array([number % 2 == 0 for number in range(count)]),
    })


def main(folder, symbol, start, files, count, minutes="5", changed="0"):
    begin, count, minutes = datetime.fromisoformat(start).replace(tzinfo=timezone.utc), int(count), int(minutes)
    for number in range(int(files)):
        time = begin + timedelta(minutes=minutes * number)
        file = Path(folder, symbol, f"{time:%Y/%m/%d}", f"{symbol}_{time:%Y%m%dT%H%M}Z.parquet")
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(ticks(symbol, time, number * count + 1, count, minutes, int(changed)), file)


if __name__ == "__main__":
    main(*sys.argv[1:])
