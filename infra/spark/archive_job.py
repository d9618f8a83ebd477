#!/usr/bin/env python3
"""Reads the objects of an archive with Spark, and publishes what they hold of each slice: digest, sums, ids, candles.

The work list comes from btc_ingest.work_units(). Executors read the objects from S3 and never the database's ticks,
and stage their results by COPY under the token of the unit, each attempt in a part of its own. The driver finishes a
unit with the parts of the attempts that have succeeded. So tasks that are killed, repeated or run twice publish
nothing twice. If the driver is killed, leases end and the next run takes the units over.

It runs with spark-submit, on EMR, and as a Glue job. The role needs btc_ingest_loader.

Exit codes: 0 every unit is finished; 1 units have failed, and the view btc_ingest.units says why; 2 wrong arguments;
3 the database refused, or is not reached.
"""
import argparse
import concurrent.futures
import hashlib
import re
import struct
import sys
import threading
import time
import uuid
from collections import namedtuple
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import numpy as np

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
BUCKET_US, MINUTE_US = 300_000_000, 60_000_000
# Times before it, or more than a day ahead, make a bad row, as with btc_ingest's own settings by default.
MIN_TIME_US, AHEAD_US = 1_230_940_800_000_000, 86_400_000_000
PRICE_PLACES, QUANTITY_PLACES = 8, 12
PRICE_END, QUANTITY_END = 10 ** 18, 10 ** 24
COLUMNS = {"event_time": "E", "trade_time": "T", "symbol": "s", "trade_id": "t", "price": "p", "quantity": "q",
           "buyer_order_id": "b", "seller_order_id": "a", "is_market_maker": "m"}
REQUIRED = ("event_time", "trade_id", "price", "quantity")
MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
FEATURE_VERSION = "numpy 1"
SLICES = ("token", "part", "bucket_5m", "ticks", "first_trade_id", "last_trade_id", "missing_ids", "conflicts",
          "quantity", "amount", "digest", "objects", "problem", "exchange", "feature_version", "feature_vector")
CANDLES = ("token", "part", "minute", "open", "high", "low", "close", "volume", "amount", "taker_buy_volume", "ticks")

# The settings of a task, which Spark sends to the executors.
Settings = namedtuple("Settings", "dsn password endpoint region candles vectors")


class Unreadable(Exception):
    """What another attempt would find again: the slices of the object get this as their problem."""


# ── ticks of an object ──

class Ticks:
    """Ticks as columns. Prices and quantities are whole numbers of the smallest unit; texts are bytes or None."""
    FIELDS = ("event_time", "trade_time", "no_trade_time", "trade_id", "price", "quantity", "maker", "buyer", "seller")

    def __init__(self, **columns):
        for name in self.FIELDS:
            setattr(self, name, columns[name])

    def __len__(self):
        return len(self.trade_id)

    def take(self, rows):
        return Ticks(**{name: getattr(self, name)[rows] for name in self.FIELDS})

    @staticmethod
    def join(parts):
        return Ticks(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in Ticks.FIELDS})


def column_names(found, options):
    """Returns the file's column for each tick column, as btc_ingest finds them (docs/use/files.md)."""
    def named(name):
        same = [column for column in found if column == name]
        if not same and len(name) > 1:
            same = [column for column in found if column.lower() == name.lower()]
        if len(same) > 1:
            raise Unreadable(f"two columns match {name}: {same[0]} and {same[1]}")
        return same[0] if same else None

    short = "p" in found and "q" in found and not any(column.lower() in COLUMNS for column in found)
    if options.get("aggregate_trades"):
        raise Unreadable("it holds aggregate trades, which this job does not read")
    given, names = options.get("columns") or {}, {}
    for tick, other in COLUMNS.items():
        if tick == "symbol" and options.get("symbol"):
            continue
        if tick in given:
            names[tick] = named(given[tick]) if given[tick] else None
        else:
            names[tick] = named(tick) or (named(other) if short else None)
        if names[tick] is None and (tick in REQUIRED or tick == "symbol"):
            raise Unreadable(f"the column {tick} is missing")
    return names


def scaled(array, places):
    """Returns numbers in units of 10^-places, of 64 bits if all fit, else Python's: None for what is none."""
    import pyarrow as pa

    kind = array.type
    if pa.types.is_decimal128(kind) and 0 <= kind.scale <= places and not array.null_count:
        words = np.frombuffer(array.buffers()[1], np.int64)[2 * array.offset:2 * (array.offset + len(array))]
        low, high, factor = words[::2], words[1::2], 10 ** (places - kind.scale)
        if len(low) and (high == low >> 63).all() and np.abs(low).max() < 2 ** 62 // factor:
            return low * factor
    if pa.types.is_int64(kind) and places == 0 and not array.null_count:
        return array.to_numpy()
    if pa.types.is_floating(kind):
        # The shortest decimal that reads back as the same number.
        values = [None if value is None else repr(value) for value in array.to_pylist()]
        if not pa.types.is_float64(kind):
            values = [None if value is None else str(value) for value in array.to_numpy(zero_copy_only=False)]
    else:
        values = array.to_pylist()
    return np.array([whole(value, places) for value in values] + [None], dtype=object)[:-1]


def within(values, low, high):
    """Returns which values are numbers from `low` to below `high`."""
    if values.dtype != object:
        return (values >= low) & (values <= min(high - 1, 2 ** 63 - 1))
    return np.array([value is not None and low <= value < high for value in values], bool)


PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")


def whole(value, places):
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if value is None or isinstance(value, str) and not PLAIN.fullmatch(value):
        return None
    sign, digits, exponent = Decimal(value).as_tuple()
    number, exponent = int("".join(map(str, digits))), exponent + places
    if exponent < 0:
        number, rest = divmod(number, 10 ** -exponent)
        if rest:
            return None
    else:
        number *= 10 ** exponent
    return -number if sign else number


def times(array, unit, column):
    """Returns microseconds since 1970, and which are null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    nulls = array.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_timestamp(array.type):
        name = array.type.unit
        numbers = pc.fill_null(array.cast(pa.int64()), 0).to_numpy()
    elif unit is None:
        raise Unreadable(f"the column {column} has no unit of time, and options.time_unit names none")
    else:
        name = unit
        values = scaled(array, 0)
        nulls = ~within(values, -2 ** 63, 2 ** 63)
        numbers = np.where(nulls, 0, values).astype(np.int64)
    if name == "ns":
        return numbers // 1000, nulls
    factor = MICROSECONDS[name]
    far = np.abs(numbers) > 2 ** 62 // factor
    return np.where(far, -1, numbers) * factor, nulls


def texts(array):
    """Returns texts as bytes; None for null. Numbers become their digits."""
    import pyarrow as pa

    if array.null_count == len(array):
        return np.full(len(array), None, dtype=object)
    if pa.types.is_floating(array.type):
        array = [None if value is None or value != value else int(value) for value in array.to_pylist()]
    else:
        array = array.to_pylist()
    byte = [value if value is None or isinstance(value, bytes) else str(value).encode() for value in array]
    return np.array(byte + [None], dtype=object)[:-1]


MAKER = {True: 1, False: 0, 1: 1, 0: 0, "1": 1, "0": 0, "true": 1, "false": 0, "t": 1, "f": 0}


def makers(array):
    """Returns 1, 0, -1 for null, and -2 for what is none of these."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_boolean(array.type):
        return pc.fill_null(array.cast(pa.int8()), -1).to_numpy(zero_copy_only=False)
    found = []
    for value in array.to_pylist():
        value = value.decode("ascii", "replace") if isinstance(value, bytes) else value
        value = value.lower() if isinstance(value, str) else value
        found.append(-1 if value is None or value != value else MAKER.get(value, -2))
    return np.array(found, np.int8)


def decode(data, asset, options):
    """Returns the ticks of an asset in a Parquet file. Rows that are no ticks are passed over, as by verify()."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        names = column_names(file.schema_arrow.names, options)
        table = file.read(columns=sorted({name for name in names.values() if name})).unify_dictionaries()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Unreadable(f"no readable Parquet file: {error}") from error
    rows = table.num_rows

    def column(tick):
        name = names.get(tick)
        if name is None:
            return None
        found = table.column(name)
        found = found.cast(found.type.value_type) if pa.types.is_dictionary(found.type) else found
        return found.combine_chunks() if found.num_chunks != 1 else found.chunk(0)

    event_time, bad = times(column("event_time"), options.get("time_unit"), "event_time")
    trade_time, no_trade_time = np.zeros(rows, np.int64), np.ones(rows, bool)
    if names.get("trade_time"):
        trade_time, no_trade_time = times(column("trade_time"), options.get("time_unit"), "trade_time")
    now = time.time() * 1e6 + AHEAD_US
    for stamps, without in ((event_time, bad), (trade_time, no_trade_time)):
        bad = bad | ~without & ((stamps < MIN_TIME_US) | (stamps > now))
    ids, price, quantity = (scaled(column(tick), places) for tick, places in
                            (("trade_id", 0), ("price", PRICE_PLACES), ("quantity", QUANTITY_PLACES)))
    bad = bad | ~(within(ids, -2 ** 63, 2 ** 63) & within(price, 1, PRICE_END) & within(quantity, 1, QUANTITY_END))
    if not options.get("symbol"):
        symbol = column("symbol").cast(pa.binary())
        bad = bad | ~pc.fill_null(pc.equal(symbol, asset.encode()), False).to_numpy(zero_copy_only=False)
    maker = makers(column("is_market_maker")) if names.get("is_market_maker") else np.full(rows, -1, np.int8)
    none = np.full(rows, None, dtype=object)
    buyer, seller = (texts(column(tick)) if names.get(tick) else none for tick in ("buyer_order_id", "seller_order_id"))
    keep = np.flatnonzero(~bad & (maker != -2))
    return Ticks(event_time=event_time[keep], trade_time=np.where(no_trade_time, 0, trade_time)[keep],
                 no_trade_time=no_trade_time[keep], trade_id=ids[keep].astype(np.int64), price=price[keep],
                 quantity=quantity[keep], maker=maker[keep], buyer=buyer[keep], seller=seller[keep])


# ── results of a slice ──

def digests(ticks, symbol):
    """Returns the digest of each tick as 16 bytes: docs/use/verify.md has the canonical form."""
    rows, symbol = len(ticks), symbol.encode()
    missing = {name: np.array([text is None for text in getattr(ticks, name)], bool) for name in ("buyer", "seller")}
    head = np.zeros((rows, 47 + len(symbol)), np.uint8)
    head[:, 0] = ((ticks.maker == 1) + 2 * (ticks.maker == -1) + 4 * ticks.no_trade_time
                  + 8 * missing["buyer"] + 16 * missing["seller"])
    words = (ticks.trade_id, ticks.event_time, ticks.trade_time, ticks.price.astype(np.int64))
    for place, word in zip((1, 9, 17, 25), words):
        head[:, place:place + 8] = word.astype(">i8").view(np.uint8).reshape(rows, 8)
    if ticks.quantity.dtype == object:
        low = np.array([quantity & 2 ** 64 - 1 for quantity in ticks.quantity], np.uint64)
        high = np.array([quantity >> 64 for quantity in ticks.quantity], np.int32)
    else:
        low, high = ticks.quantity.astype(np.uint64), np.zeros(rows, np.int32)
    head[:, 33:37] = high.astype(">i4").view(np.uint8).reshape(rows, 4)
    head[:, 37:45] = low.astype(">u8").view(np.uint8).reshape(rows, 8)
    head[:, 45:47] = np.frombuffer(struct.pack(">H", len(symbol)), np.uint8)
    head[:, 47:] = np.frombuffer(symbol, np.uint8)
    data, width, found = head.tobytes(), head.shape[1], []
    for row in range(rows):
        form = data[row * width:(row + 1) * width]
        for text in (ticks.buyer[row], ticks.seller[row]):
            form += b"" if text is None else struct.pack(">I", len(text)) + text
        found.append(hashlib.sha256(form).digest()[:16])
    return found


def total(found):
    """Returns the sum of digests modulo 2^128 as 32 hexadecimal digits."""
    return f"{sum(int.from_bytes(digest, 'big') for digest in found) % 2 ** 128:032x}"


def number(units, places):
    """Returns a whole number of units of 10^-places as an exact Decimal."""
    return Decimal((int(units < 0), tuple(map(int, str(abs(units)))), -places))


def merge(parts):
    """Joins the ticks of a slice's objects, which come with the winner first, and counts each trade id once.

    Returns the ticks with their digests, and how many trade ids have several values."""
    ticks = Ticks.join([ticks for ticks, _ in parts])
    found = [digest for _, part in parts for digest in part]
    ids, rows = np.unique(ticks.trade_id, return_index=True)
    conflicts = 0
    if len(ids) < len(ticks):
        values = {}
        for id, digest in zip(ticks.trade_id.tolist(), found):
            values.setdefault(id, set()).add(digest)
        conflicts = sum(len(one) > 1 for one in values.values())
    return ticks.take(rows), [found[row] for row in rows], conflicts


def candles(ticks):
    """Returns minute, open, high, low, close, volume, amount, taker buys and count of each minute with trades."""
    order = np.lexsort((ticks.trade_id, ticks.event_time))
    minutes = ticks.event_time[order] // MINUTE_US
    for rows in np.split(order, np.flatnonzero(np.diff(minutes)) + 1):
        prices, sizes = ticks.price[rows].tolist(), ticks.quantity[rows].tolist()
        buys = sum(size for size, maker in zip(sizes, ticks.maker[rows]) if maker == 0)
        amount = sum(price * size for price, size in zip(prices, sizes))
        yield (when(ticks.event_time[rows[0]] // MINUTE_US * MINUTE_US),
               *(number(price, PRICE_PLACES) for price in (prices[0], max(prices), min(prices), prices[-1])),
               number(sum(sizes), QUANTITY_PLACES), number(amount, PRICE_PLACES + QUANTITY_PLACES),
               number(buys, QUANTITY_PLACES), len(rows))


def vector(ticks, bucket):
    """Returns the 256 numbers of infra/database/scripts/window_features.py."""
    import window_features

    order = np.lexsort((ticks.trade_id, ticks.event_time))
    prices = ticks.price[order].astype(float) / 10 ** PRICE_PLACES
    sizes = ticks.quantity[order].astype(float) / 10 ** QUANTITY_PLACES
    maker = ticks.maker[order]
    sides = np.where(maker < 0, np.nan, np.where(maker == 1, 0.0, 1.0))
    return window_features.features(ticks.event_time[order] - bucket, prices, sizes, sides)


def exchange_of(objects, asset):
    """Returns the exchange as btc_ingest.embed() names it: by the metadata, else by the key before the asset."""
    found = set()
    for item in objects:
        segments = item["uri"][5:].split("/")
        place = segments.index(asset) if asset in segments else 0
        name = item.get("exchange") or (segments[place - 1] if place > 1 else "")
        found.add(name.lower() or None)
    found.discard(None)
    return "mixed" if len(found) > 1 else found.pop() if found else "unknown"


def when(us):
    return EPOCH + timedelta(microseconds=int(us))


# ── a task: some slices of a unit ──

def read(files, uri):
    """Returns the bytes of an object and its etag. The etag is asked for before and after, so both belong together."""
    def etag(stream):
        # Without an etag, nothing tells two versions apart: a KeyError fails the unit.
        return stream.metadata()["ETag"].decode().strip('"')

    for _ in range(5):
        try:
            with files.open_input_stream(uri[5:]) as stream:
                before, data = etag(stream), stream.read()
            with files.open_input_stream(uri[5:]) as stream:
                if etag(stream) == before:
                    return data, before
        except FileNotFoundError as error:
            raise Unreadable(f"{uri} is gone") from error
    raise OSError(f"{uri} changes faster than it is read")


def summarise(task, settings, files):
    """Returns the rows for the two staging tables, without token and part."""
    asset, wanted = task["asset"], task["buckets"]
    slices, problems = {bucket: {} for bucket in wanted}, {bucket: [] for bucket in wanted}
    etags = {}
    for place, item in enumerate(task["objects"]):
        try:
            data, etags[place] = read(files, item["uri"])
            # What the object was loaded with counts; of one that was not loaded, what its producer says.
            options = {**(item.get("metadata") or {}), **(item.get("options") or {})}
            ticks = decode(data, asset, options)
        except Unreadable as error:
            for bucket in set(item["buckets"]) & set(wanted):
                problems[bucket].append(str(error) if item["uri"] in str(error) else f"{item['uri']}: {error}")
            continue
        if item.get("replaces"):
            ticks = ticks.take(np.arange(len(ticks))[::-1])
        buckets = ticks.event_time // BUCKET_US * BUCKET_US
        # Only slices that it is registered or loaded for: the result must not depend on what else is in the task.
        for bucket in set(buckets.tolist()) & set(wanted) & set(item["buckets"]):
            part = ticks.take(np.flatnonzero(buckets == bucket))
            slices[bucket][place] = (part, digests(part, asset))
    # Ticks of objects that replace win, the last first; then those of the others, the first first.
    replacing = [place for place, item in enumerate(task["objects"]) if item.get("replaces")]
    order = replacing[::-1] + [place for place in range(len(task["objects"])) if place not in replacing]
    rows, minutes = [], []
    for bucket in wanted:
        places = [place for place, item in enumerate(task["objects"])
                  if place in etags and (place in slices[bucket] or bucket in item["buckets"])]
        used = [{"uri": task["objects"][place]["uri"], "etag": etags[place]} for place in places]
        row = one_slice(bucket, asset, [slices[bucket][place] for place in order if place in slices[bucket]],
                        used, "; ".join(problems[bucket]) or None)
        ticks = row.pop("ticks_found")
        if settings.vectors and ticks is not None and row["problem"] is None:
            row.update(exchange=exchange_of([task["objects"][place] for place in places], asset),
                       feature_version=FEATURE_VERSION, feature_vector=vector(ticks, bucket))
        if settings.candles and ticks is not None and row["problem"] is None:
            minutes += candles(ticks)
        rows.append(row)
    return rows, minutes


def one_slice(bucket, asset, parts, used, problem):
    row = {"bucket_5m": when(bucket), "ticks": 0, "first_trade_id": None, "last_trade_id": None, "missing_ids": 0,
           "conflicts": 0, "quantity": Decimal(0), "amount": Decimal(0), "digest": total([]), "objects": used,
           "problem": problem, "exchange": None, "feature_version": None, "feature_vector": None, "ticks_found": None}
    if parts:
        ticks, found, conflicts = merge(parts)
        prices, sizes = ticks.price.tolist(), ticks.quantity.tolist()
        first, last = int(ticks.trade_id[0]), int(ticks.trade_id[-1])
        row.update(ticks=len(ticks), first_trade_id=first, last_trade_id=last, conflicts=conflicts,
                   missing_ids=min(last - first + 1 - len(ticks), 2 ** 63 - 1),
                   quantity=number(sum(sizes), QUANTITY_PLACES), digest=total(found), ticks_found=ticks,
                   amount=number(sum(p * q for p, q in zip(prices, sizes)), PRICE_PLACES + QUANTITY_PLACES))
    if problem:
        row["digest"] = None
    return row


def connect(settings):
    import psycopg

    password = {"password": settings.password} if settings.password else {}
    return psycopg.connect(settings.dsn, autocommit=True, connect_timeout=30, **password)


class Vector:
    """A vector of pgvector in its binary form."""

    def __init__(self, numbers):
        self.data = struct.pack(">HH", len(numbers), 0) + np.asarray(numbers, ">f4").tobytes()


def stage(connection, token, part, rows, minutes):
    """Stages the results in one transaction: all of the part, or nothing."""
    from psycopg.adapt import Dumper
    from psycopg.pq import Format
    from psycopg.types import TypeInfo
    from psycopg.types.json import Jsonb

    found = TypeInfo.fetch(connection, "vector") or TypeInfo.fetch(connection, "public.vector")

    class VectorDumper(Dumper):
        format, oid = Format.BINARY, found.oid

        def dump(self, value):
            return value.data

    connection.adapters.types.add(found)
    connection.adapters.register_dumper(Vector, VectorDumper)
    kinds = {"token": "uuid", "part": "uuid", "bucket_5m": "timestamptz", "minute": "timestamptz", "digest": "text",
             "objects": "jsonb", "problem": "text", "exchange": "text", "feature_version": "text",
             "feature_vector": found.oid, "ticks": "int8", "first_trade_id": "int8", "last_trade_id": "int8",
             "missing_ids": "int8", "conflicts": "int8"}
    with connection.transaction(), connection.cursor() as cursor:
        for table, columns, values in (("slices", SLICES, rows), ("candles", CANDLES, minutes)):
            if not values:
                continue
            statement = f"COPY ingestion.staged_{table} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
            with cursor.copy(statement) as copy:
                copy.set_types([kinds.get(column, "numeric") for column in columns])
                for row in values:
                    if table == "slices":
                        row = dict(row, objects=Jsonb(row["objects"]))
                        if row["feature_vector"] is not None:
                            row["feature_vector"] = Vector(row["feature_vector"])
                        row = [row[column] for column in SLICES[2:]]
                    copy.write_row([token, part, *row])


def run_task(task, settings):
    """Runs in an executor. Returns the part under which the results are staged, and how many ticks there were."""
    from pyarrow import fs

    options = {"region": settings.region} if settings.region else {}
    if settings.endpoint:
        scheme, options["endpoint_override"] = settings.endpoint.split("://")
        options.update(scheme=scheme, force_virtual_addressing=False)
    rows, minutes = summarise(task, settings, fs.S3FileSystem(**options))
    part = uuid.uuid4()
    with connect(settings) as connection:
        stage(connection, uuid.UUID(task["token"]), part, rows, minutes)
    return str(part), sum(row["ticks"] for row in rows)


# ── the driver ──

Unit = namedtuple("Unit", "unit token asset from_time slices work")


def tasks_of(unit, most):
    """Splits a unit into tasks of at most `most` slices, unless slices share objects. No slice is in two tasks."""
    groups = {bucket: {bucket} for bucket in unit.work["buckets"]}
    for item in unit.work["objects"]:
        touched = [groups[bucket] for bucket in item["buckets"] if bucket in groups]
        joined = set().union(*touched)
        for bucket in joined:
            groups[bucket] = joined
    distinct = sorted({id(group): sorted(group) for group in groups.values()}.values())
    tasks, buckets = [], []
    for group in distinct + [None]:
        if buckets and (group is None or len(buckets) + len(group) > most):
            wanted = set(buckets)
            objects = [item for item in unit.work["objects"] if wanted & set(item["buckets"])]
            tasks.append({"token": str(unit.token), "asset": unit.asset, "buckets": sorted(buckets),
                          "objects": objects})
            buckets = []
        buckets += group or []
    return tasks


class Driver:
    def __init__(self, spark, args):
        self.context, self.args = spark.sparkContext, args
        password = open(args.password_file, encoding="utf-8").read().strip() if args.password_file else None
        self.settings = Settings(args.dsn, password, args.s3_endpoint, args.region, args.candles, args.vectors)
        self.leased, self.lock, self.ended = set(), threading.Lock(), threading.Event()

    def query(self, sql, values):
        """Runs a statement that may be repeated: when the connection is lost, it is."""
        import psycopg

        for attempt in range(5):
            try:
                with connect(self.settings) as connection:
                    return connection.execute(sql, values).fetchall()
            except psycopg.OperationalError:
                if attempt == 4:
                    raise
                time.sleep(2 ** attempt)

    def lease(self):
        args = self.args
        rows = self.query(
            "SELECT unit, token, asset, from_time, slices, work FROM btc_ingest.work_units(%s::timestamptz, "
            "%s::timestamptz, %s, %s, %s, %s::interval, %s::text[], %s)",
            (args.since, args.until, args.by, args.kind, args.most, f"{args.lease} seconds", args.assets,
             args.max_attempts))
        units = [Unit(*row) for row in rows]
        with self.lock:
            self.leased |= {unit.token for unit in units}
        return units

    def keep_leases(self):
        while not self.ended.wait(self.args.lease / 3):
            with self.lock:
                tokens = list(self.leased)
            try:
                self.query("SELECT btc_ingest.extend_units(%s::uuid[], %s::interval)",
                           (tokens, f"{self.args.lease} seconds"))
            except Exception as error:
                print(f"the leases could not be extended: {error}", file=sys.stderr)

    def work(self, unit):
        """Runs the tasks of a unit and finishes it. Returns the ticks, or None if the unit has failed."""
        settings, tasks = self.settings, tasks_of(unit, self.args.slices_per_task)
        try:
            results = self.context.parallelize(tasks, max(len(tasks), 1)).map(
                lambda task: run_task(task, settings)).collect()
            parts = [part for part, _ in results]
            self.query("SELECT outcome FROM btc_ingest.finish_unit(%s, %s::uuid[])", (unit.token, parts))
            ticks = sum(count for _, count in results)
            print(f"unit {unit.unit}: {unit.asset} {unit.from_time:%Y-%m-%dT%H:%MZ}, {unit.slices} slices, "
                  f"{ticks} ticks", flush=True)
            return ticks
        except Exception as error:
            reason = reason_of(error)
            print(f"unit {unit.unit}: {unit.asset} {unit.from_time:%Y-%m-%dT%H:%MZ} has failed: {reason}", flush=True)
            try:
                self.query("SELECT btc_ingest.fail_unit(%s, %s)", (unit.token, reason))
            except Exception as other:
                print(f"unit {unit.unit} could not be given back: {other}", file=sys.stderr)
            return None
        finally:
            with self.lock:
                self.leased.discard(unit.token)

    def run(self):
        """Works until no unit is left. Returns how many units have failed."""
        threading.Thread(target=self.keep_leases, daemon=True).start()
        begin, done, failed, ticks = time.monotonic(), 0, 0, 0
        with concurrent.futures.ThreadPoolExecutor(self.args.parallel) as pool:
            while not failed:
                units = self.lease()
                if not units:
                    break
                for result in pool.map(self.work, units):
                    failed += result is None
                    done += result is not None
                    ticks += result or 0
        self.ended.set()
        seconds = time.monotonic() - begin
        print(f"{done} units finished, {failed} failed, {ticks} ticks in {seconds:.1f} s", flush=True)
        return failed


def reason_of(error):
    """Returns the last line of a failure that says what it was, without Spark's stack."""
    lines = [line.strip() for line in str(error).splitlines() if re.match(r"\s*[\w.]*(Error|Exception)\b.*: ", line)]
    return (lines[0] if lines else f"{type(error).__name__}: {error}")[:2000]


def arguments(argv=None):
    summary, rest = __doc__.split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsn", default="", help="libpq's; executors connect with it as well")
    parser.add_argument("--password-file", help="a file on the driver with the password")
    parser.add_argument("--from", dest="since", metavar="TIME", required=True, help="a time in the first unit")
    parser.add_argument("--to", dest="until", metavar="TIME", required=True, help="end (exclusive)")
    parser.add_argument("--by", choices=["day", "hour"], default="day", help="width of a unit (%(default)s)")
    parser.add_argument("--kind", default="verify", help="name under which results are published (%(default)s)")
    parser.add_argument("--assets", type=lambda text: text.split(","), help="only these, separated by commas")
    parser.add_argument("--candles", action="store_true", help="publish candles of one minute as well")
    parser.add_argument("--vectors", action="store_true", help=f"publish vectors as well, as '{FEATURE_VERSION}'")
    parser.add_argument("--most", type=int, default=100, help="units that are leased at once (%(default)s)")
    parser.add_argument("--parallel", type=int, default=8, help="units that run at once (%(default)s)")
    parser.add_argument("--slices-per-task", type=int, default=24, help="(%(default)s)")
    parser.add_argument("--lease", type=int, default=900, help="seconds; the driver extends it (%(default)s)")
    parser.add_argument("--max-attempts", type=int, default=5, help="leases of a unit (%(default)s)")
    parser.add_argument("--s3-endpoint", help="e.g. http://127.0.0.1:9000; without it, AWS")
    parser.add_argument("--region", help="of the bucket; without it, what the AWS SDK finds")
    # A Glue job gets further arguments, such as --JOB_NAME.
    args, _ = parser.parse_known_args(argv)
    if min(args.parallel, args.slices_per_task, args.lease) < 1:
        parser.error("--parallel, --slices-per-task and --lease must be above 0")
    return args


def main(argv=None):
    args = arguments(argv)
    import psycopg
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.appName("btc_ingest archive").getOrCreate()
    try:
        return 1 if Driver(spark, args).run() else 0
    except psycopg.Error as error:
        print(f"the database: {error}", file=sys.stderr)
        return 3
    finally:
        spark.stop()


if __name__ == "__main__":
    code = main()
    # Glue takes every SystemExit for a failure.
    if code:
        sys.exit(code)
