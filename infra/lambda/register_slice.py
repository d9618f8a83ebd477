"""Registers what was uploaded to S3, for an AWS Lambda function: an S3 event becomes rows of landing.raw_blobs_5m.

It knows the documented columns of that table and nothing else of btc_ingest, whose worker loads what is registered.
README.md says how to set it up.
"""

import json
import logging
import os
import re
from contextlib import closing
from datetime import datetime, timedelta, timezone
from urllib.parse import unquote_plus

try:
    import psycopg
except ImportError:
    import psycopg2 as psycopg

log = logging.getLogger(__name__)

FIELDS = {"yyyy": r"\d{4}", "mm": r"\d\d", "dd": r"\d\d", "hh": r"\d\d", "mi": r"\d\d", "asset": "[^/]+?", "*": ".*?"}

# S3 may deliver an event twice, and two events of one key in the wrong order. The sequencer says which one is later.
UPSERT = """
    INSERT INTO landing.raw_blobs_5m AS known (bucket_5m, asset, s3_uri, object_size_bytes, metadata)
    VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (bucket_5m, asset) DO UPDATE
       SET s3_uri = excluded.s3_uri, object_size_bytes = excluded.object_size_bytes, metadata = excluded.metadata
     WHERE known.s3_uri <> excluded.s3_uri
        OR known.metadata ->> 'sequencer' IS NULL
        OR excluded.metadata ->> 'sequencer' IS NULL
        OR rpad(known.metadata ->> 'sequencer', 64, '0') < rpad(excluded.metadata ->> 'sequencer', 64, '0')
"""


def compiled(pattern):
    """Compiles a key pattern, e.g. Binance/{asset}/{yyyy}/{mm}/{dd}/{asset}_{yyyy}{mm}{dd}T{hh}{mi}Z."""
    seen = set()

    def word(match):
        name = match[1]
        if name not in FIELDS:
            raise ValueError(f"{{{name}}} is no placeholder; there are {', '.join(FIELDS)}")
        if name == "*":
            return FIELDS[name]
        again = name in seen
        seen.add(name)
        return f"(?P={name})" if again else f"(?P<{name}>{FIELDS[name]})"

    parts = re.split(r"(\{[^}]*\})", pattern)
    text = "".join(re.sub(r"\{(.*)\}", word, part) if part.startswith("{") else re.escape(part) for part in parts)
    if missing := {"asset", "yyyy", "mm", "dd"} - seen:
        raise ValueError(f"the key pattern does not name {', '.join(sorted(missing))}")
    return re.compile(text)


def rows(event, pattern):
    """(bucket_5m, asset, s3_uri, object_size_bytes, metadata) of every object that an event says was created.

    The event comes from S3 itself, or through SQS. Keys that are not of the pattern are left out. An event of another
    shape is an error, so that Lambda delivers it again and finally puts it into its dead-letter queue.
    """
    if event.get("Event") == "s3:TestEvent":
        return
    for record in event["Records"]:
        if "body" in record:
            yield from rows(json.loads(record["body"]), pattern)
            continue
        if not record["eventName"].removeprefix("s3:").startswith("ObjectCreated:"):
            continue
        stored = record["s3"]["object"]
        key = unquote_plus(stored["key"])
        match = pattern.match(key)
        if not match:
            log.info("left out, as it is not of the key pattern: %s", key)
            continue
        named = match.groupdict()
        time = [int(named.get(part) or 0) for part in ("yyyy", "mm", "dd", "hh", "mi")]
        time = datetime(*time, tzinfo=timezone.utc)
        bucket = time - timedelta(minutes=time.minute % 5)
        metadata = {"etag": stored["eTag"], "sequencer": stored.get("sequencer")}
        uri = f"s3://{record['s3']['bucket']['name']}/{key}"
        yield bucket, named["asset"], uri, stored["size"], metadata


def handler(event, context):
    """What Lambda calls: all rows of an event in one transaction, or none."""
    found = list(rows(event, compiled(os.environ["KEY_PATTERN"])))
    if found:
        # Where to connect to is libpq's environment: PGHOST, PGDATABASE, PGUSER, PGPASSWORD, PGSSLMODE …
        with closing(psycopg.connect("", connect_timeout=5)) as connection:
            with connection.cursor() as cursor:
                for *columns, metadata in found:
                    cursor.execute(UPSERT, (*columns, json.dumps(metadata)))
            connection.commit()
    return {"registered": len(found)}
