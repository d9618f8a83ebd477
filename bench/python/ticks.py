"""The day's object as Arrow tables with the columns of market_data.btc_ticks, some rows at a time."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROWS = 65_536
COLUMNS = [
    "bucket_5m", "event_time", "trade_time", "symbol", "trade_id", "price", "quantity",
    "buyer_order_id", "seller_order_id", "is_market_maker",
]


def batches(path):
    """One table per ROWS rows, all but the bucket as the file has it."""
    for batch in pq.ParquetFile(path).iter_batches(ROWS):
        table = pa.Table.from_batches([batch])
        bucket = pc.floor_temporal(table["event_time"], 5, "minute")
        yield table.append_column("bucket_5m", bucket).select(COLUMNS)
