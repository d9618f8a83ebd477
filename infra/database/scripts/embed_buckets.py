#!/usr/bin/env python3
"""Makes vectors of stored ticks or candles outside the database, and stores them in signals.btc_embeddings.

A frame for features of your own: put them in the place of window_features.features(). Each transaction stores the
vectors of some buckets, by a binary COPY, together with the offset in ingestion.stream_offsets. So a run that is killed
loses nothing and stores nothing twice: the next one goes on behind the last bucket that was stored. Rows of another
feature version stay as they are.

The role needs btc_ingest_loader. The offset belongs to the role that has written it first.

Exit codes: 0 done; 2 wrong arguments; 3 the database refused, or is not reached.
"""
import argparse
import datetime
import json
import struct
import sys

import numpy as np
import psycopg
from psycopg import sql

import window_features

EPOCH_2000_US = 946_684_800_000_000
BUCKET = datetime.timedelta(minutes=5)
TICKS = """
COPY (SELECT (extract(epoch FROM event_time) * 1000000)::bigint, price::float8, quantity::float8,
             CASE WHEN is_market_maker THEN 0 WHEN NOT is_market_maker THEN 1 END::float8
        FROM market_data.btc_ticks
       WHERE symbol = {asset} AND bucket_5m >= {since} AND bucket_5m < {until} AND price > 0
       ORDER BY event_time, trade_id) TO STDOUT (FORMAT BINARY)
"""
CANDLES = """
COPY (SELECT (extract(epoch FROM bucket) * 1000000)::bigint, close::float8, volume::float8,
             (2 * taker_buy_volume >= volume)::int::float8
        FROM {candles} WHERE symbol = {asset} AND bucket_5m >= {since} AND bucket_5m < {until} AND close > 0
       ORDER BY bucket) TO STDOUT (FORMAT BINARY)
"""
STORE = """
INSERT INTO {table} AS e (bucket, exchange, asset, feature_vector, feature_version, ticks)
SELECT * FROM embedded
    ON CONFLICT (bucket, exchange, asset) DO UPDATE SET feature_vector = excluded.feature_vector, ticks = excluded.ticks
 WHERE e.feature_version = excluded.feature_version
"""
OFFSET = "SELECT btc_ingest.set_embedding_offset(%s, %s, %s)"


def arguments(argv=None):
    summary, codes = __doc__.split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=summary, epilog=codes, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsn", default="", help="libpq's; without a password in it, PGPASSWORD or ~/.pgpass count")
    parser.add_argument("--asset", required=True, help="symbol as stored, e.g. BTCUSDT")
    parser.add_argument("--exchange", required=True, help="what the column exchange gets")
    parser.add_argument("--from", dest="since", metavar="TIME", required=True, help="first bucket")
    parser.add_argument("--to", dest="until", metavar="TIME", required=True, help="end (exclusive)")
    parser.add_argument("--version", default="numpy 1", help="feature_version of the rows (%(default)s)")
    parser.add_argument("--dimensions", type=int, default=256, help="numbers of a vector (%(default)s)")
    parser.add_argument("--table", default="signals.btc_embeddings", help="a table with the same columns (%(default)s)")
    parser.add_argument("--candles", help="read these candles of market_data instead of ticks, e.g. btc_ohlcv_1s")
    parser.add_argument("--batch", type=int, default=48, help="buckets of one transaction (%(default)s)")
    args = parser.parse_args(argv)
    args.since, args.until = (aligned(parser, time) for time in (args.since, args.until))
    if args.version.startswith("btc_ingest "):
        parser.error("--version: names that begin with btc_ingest are the library's own")
    if not 1 <= args.dimensions <= 16_000 or args.batch < 1:
        parser.error("--dimensions must be 1 to 16000, and --batch above 0")
    return args


def aligned(parser, text):
    """Returns the bucket in which a time lies. A time without a zone is in UTC."""
    try:
        time = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        parser.error(f"{text}: a time such as 2024-08-08T12:00Z")
    time = time if time.tzinfo else time.replace(tzinfo=datetime.timezone.utc)
    return datetime.datetime.fromtimestamp(time.timestamp() // 300 * 300, datetime.timezone.utc)


def projection(dimensions):
    """Returns what turns the 256 numbers into others: nothing, a random projection, or zeros behind them."""
    size = window_features.DIMENSIONS
    if dimensions >= size:
        return np.eye(size, dimensions, dtype=np.float32)
    return np.random.default_rng(dimensions).normal(size=(size, dimensions)).astype(np.float32)


def identifier(name):
    return sql.Identifier(*name.split("."))


def read(connection, args, since, until):
    """Returns time, price, quantity and side of each trade as one array with a row each."""
    query = sql.SQL(CANDLES if args.candles else TICKS).format(
        asset=sql.Literal(args.asset), since=sql.Literal(since), until=sql.Literal(until),
        candles=identifier(f"market_data.{args.candles}"))
    with connection.cursor().copy(query) as copy:
        data = b"".join(copy)
    header = 11 + 4 + 4 + int.from_bytes(data[15:19], "big")
    rows, place = [], header
    while struct.unpack_from(">h", data, place)[0] == 4:
        place += 2
        row = []
        for kind in ("q", "d", "d", "d"):
            length = struct.unpack_from(">i", data, place)[0]
            row.append(struct.unpack_from(f">{kind}", data, place + 4)[0] if length >= 0 else float("nan"))
            place += 4 + max(length, 0)
        rows.append(row)
    return rows


def vectors(rows, matrix):
    """Yields the bucket in microseconds since 1970, the number of trades and the vector of each slice."""
    times = np.array([row[0] for row in rows], np.int64)
    numbers = np.array([row[1:] for row in rows], float).reshape(-1, 3)
    buckets = times // window_features.BUCKET_US * window_features.BUCKET_US
    starts = np.flatnonzero(np.diff(buckets, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(buckets)]):
        part = slice(start, end)
        vector = window_features.features(times[part] - buckets[start], *numbers[part].T) @ matrix
        yield int(buckets[start]), int(end - start), vector / np.linalg.norm(vector)


def binary(args, made):
    """Returns the rows in the format of a binary COPY."""
    exchange, asset, version = (text.encode() for text in (args.exchange, args.asset, args.version))
    parts = [b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)]
    for bucket, ticks, vector in made:
        # pgvector sends the number of dimensions, two bytes that are not used, and the numbers.
        stored = struct.pack(">hh", len(vector), 0) + vector.astype(">f4").tobytes()
        fields = [struct.pack(">q", bucket - EPOCH_2000_US), exchange, asset, stored, version, struct.pack(">q", ticks)]
        parts.append(struct.pack(">h", len(fields)) + b"".join(struct.pack(">i", len(f)) + f for f in fields))
    return b"".join(parts) + struct.pack(">h", -1)


def store(connection, args, source, since, until, matrix):
    """Stores the vectors of some buckets and the offset, in one transaction. Returns how many slices there were."""
    with connection.transaction():
        made = list(vectors(read(connection, args, since, until), matrix))
        table = identifier(args.table)
        connection.execute(sql.SQL(
            "CREATE TEMPORARY TABLE embedded ON COMMIT DROP AS "
            "SELECT bucket, exchange, asset, feature_vector, feature_version, ticks FROM {} LIMIT 0").format(table))
        with connection.cursor().copy("COPY embedded FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(binary(args, made))
        connection.execute(sql.SQL(STORE).format(table=table))
        connection.execute(OFFSET, (source, until, json.dumps({"version": args.version, "table": args.table})))
        return len(made)


def main(argv=None):
    args = arguments(argv)
    source = f"embed:{args.version}:{args.exchange}:{args.asset}"
    matrix = projection(args.dimensions)
    try:
        with psycopg.connect(args.dsn, autocommit=True) as connection:
            row = connection.execute(
                "SELECT last_ts FROM ingestion.stream_offsets WHERE source = %s", (source,)).fetchone()
            since = max(args.since, row[0]) if row else args.since
            while since < args.until:
                until = min(since + args.batch * BUCKET, args.until)
                count = store(connection, args, source, since, until, matrix)
                print(f"{since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}: {count} vectors", flush=True)
                since = until
    except psycopg.Error as error:
        print(f"{source}: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
