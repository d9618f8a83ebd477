"""Triggers that wait for slices to be loaded: they LISTEN to btc_ingest and look into the registry when it speaks.

The triggerer runs them, many beside each other, and no worker waits. The channel btc_ingest_loaded gets a message with
the commit of every slice. A message may be lost while the triggerer is restarted, so the registry is also looked at
when nothing was heard for `look_again` seconds.
"""
import asyncio
import json
import time

import psycopg
from airflow.sdk import BaseHook
from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

CHANNEL = "btc_ingest_loaded"
# What waits or has failed of a range: by its bucket, or by its key where no bucket is known before the load.
WAITING = """
SELECT (SELECT count(*) FROM btc_ingest.queue q
         WHERE q.bucket_5m >= %(since)s::timestamptz AND q.bucket_5m < %(until)s::timestamptz
            OR q.bucket_5m IS NULL AND q.uri LIKE ANY (%(keys)s::text[])),
       (SELECT count(*) FROM btc_ingest.failures f
         WHERE f.status = 'quarantined'
           AND (f.bucket_5m >= %(since)s::timestamptz AND f.bucket_5m < %(until)s::timestamptz
                OR f.bucket_5m IS NULL AND f.uri LIKE ANY (%(keys)s::text[])))
"""


def parameters(connection):
    """Returns libpq's parameters of an Airflow connection."""
    named = {"host": connection.host, "port": connection.port, "user": connection.login,
             "password": connection.password, "dbname": connection.schema, "sslmode": connection.extra_dejson.get(
                 "sslmode")}
    return {name: value for name, value in named.items() if value}


async def connect(conn_id):
    connection = await asyncio.to_thread(BaseHook.get_connection, conn_id)
    return await psycopg.AsyncConnection.connect(**parameters(connection), autocommit=True)


class SlicesLoaded(BaseTrigger):
    """Fires once when no registered slice of a range waits any more, or when the time is over.

    keys: patterns for LIKE, of objects that count although no bucket is known of them before they are loaded."""

    def __init__(self, conn_id, since, until, keys=(), deadline=None, look_again=60.0):
        super().__init__()
        self.conn_id, self.since, self.until, self.keys = conn_id, since, until, list(keys)
        self.deadline, self.look_again = deadline, look_again

    def serialize(self):
        return ("btc_ingest_triggers.SlicesLoaded",
                {"conn_id": self.conn_id, "since": self.since, "until": self.until, "keys": self.keys,
                 "deadline": self.deadline, "look_again": self.look_again})

    async def run(self):
        try:
            async with await connect(self.conn_id) as connection:
                # First listen, then look: what commits in between is heard.
                await connection.execute(f"LISTEN {CHANNEL}")
                while True:
                    cursor = await connection.execute(
                        WAITING, {"since": self.since, "until": self.until, "keys": self.keys})
                    waiting, quarantined = await cursor.fetchone()
                    found = {"waiting": waiting, "quarantined": quarantined}
                    if not waiting:
                        yield TriggerEvent({"status": "loaded", **found})
                        return
                    if self.deadline is not None and time.time() > self.deadline:
                        yield TriggerEvent({"status": "late", **found})
                        return
                    async for _ in connection.notifies(timeout=self.look_again, stop_after=1):
                        pass
        except psycopg.Error as error:
            yield TriggerEvent({"status": "error", "message": str(error)})


class NewSlices(BaseEventTrigger):
    """Fires for new 5-minute buckets: an asset event with the slices that were loaded within `gather` seconds."""

    def __init__(self, conn_id, gather=5.0):
        super().__init__()
        self.conn_id, self.gather = conn_id, gather

    def serialize(self):
        return "btc_ingest_triggers.NewSlices", {"conn_id": self.conn_id, "gather": self.gather}

    async def run(self):
        while True:
            try:
                async with await connect(self.conn_id) as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    while True:
                        slices = [json.loads(heard.payload)
                                  async for heard in connection.notifies(timeout=60.0, stop_after=1)]
                        if slices:
                            slices += [json.loads(heard.payload)
                                       async for heard in connection.notifies(timeout=self.gather, stop_after=1000)]
                            once = {(one["asset"], one["bucket"]): one for one in slices}
                            yield TriggerEvent({"slices": list(once.values())})
            except psycopg.OperationalError as error:
                self.log.warning("btc_ingest is not reached: %s", error)
                await asyncio.sleep(10)
