"""Parquet to CSV to COPY … FROM STDIN; prints the seconds from the first read to the commit."""

import io
import sys
import time

import psycopg
import pyarrow.csv as csv

from ticks import COLUMNS, batches

path, connection = sys.argv[1:]
with psycopg.connect(connection) as client:
    start = time.monotonic()
    statement = f"COPY market_data.btc_ticks ({', '.join(COLUMNS)}) FROM STDIN (FORMAT csv)"
    with client.cursor().copy(statement) as copy:
        for table in batches(path):
            text = io.BytesIO()
            csv.write_csv(table, text, csv.WriteOptions(include_header=False))
            copy.write(text.getvalue())
    client.commit()
    print(time.monotonic() - start)
