"""Writes one slice of generated ticks as a Parquet file: make_ticks.py FILE MINUTE FIRST_ID COUNT"""
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def ticks(minute, first, count):
    start = datetime(2024, 8, 8, 12, minute, tzinfo=timezone.utc)
    times = [start + timedelta(microseconds=100_000 * number) for number in range(count)]
    time = pa.timestamp("us", tz="UTC")
    return pa.table({
        "event_time": pa.array(times, time),
        "trade_time": pa.array(times, time),
        "symbol": pa.array(["BTCUSDT"] * count),
        "trade_id": pa.array(range(first, first + count), pa.int64()),
        "price": pa.array([Decimal("57000.5") + number % 100 for number in range(count)], pa.decimal128(18, 8)),
        "quantity": pa.array([Decimal("0.25")] * count, pa.decimal128(24, 12)),
        "buyer_order_id": pa.nulls(count, pa.string()),
        "seller_order_id": pa.nulls(count, pa.string()),
        "is_market_maker": pa.array([number % 2 == 0 for number in range(count)]),
    })


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(ticks(*map(int, sys.argv[2:])), file)
