"""Parquet through ADBC's bulk ingestion; prints the seconds from the first read to the commit."""

import sys
import time

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa

from ticks import batches

# ADBC copies in binary, so that the types must be the table's.
TYPES = {
    "price": pa.decimal128(18, 8),
    "quantity": pa.decimal128(24, 12),
    "buyer_order_id": pa.string(),
    "seller_order_id": pa.string(),
}


def cast(table):
    """The table with the types of market_data.btc_ticks."""
    for name, kind in TYPES.items():
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(kind))
    return table


path, connection = sys.argv[1:]
with adbc.connect(connection) as client:
    start = time.monotonic()
    tables = (cast(table) for table in batches(path))
    first = next(tables)

    def all_batches():
        yield from first.to_batches()
        for table in tables:
            yield from table.to_batches()

    reader = pa.RecordBatchReader.from_batches(first.schema, all_batches())
    with client.cursor() as cursor:
        cursor.adbc_ingest("btc_ticks", reader, mode="append", db_schema_name="market_data")
    client.commit()
    print(time.monotonic() - start)
