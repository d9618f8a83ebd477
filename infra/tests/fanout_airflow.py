"""The Airflow DAG against a real server: called by test_fanout.sh, which sets FANOUT_….

Puts objects under a prefix and runs the DAG by dag.test(), with a metadata database of its own: registered by a
listing, awaited by LISTEN while a session loads them, read, published, compared with the table, and made vectors of.
Then the same interval again, another one, one with an object that has changed, and new slices only."""
import asyncio
import os
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

HERE = Path(__file__).resolve().parent
INFRA = HERE.parent
WORK = Path(os.environ["FANOUT_WORK"])
DSN = os.environ["FANOUT_DSN"]
PORT = dict(part.split("=") for part in DSN.split())["port"]
PATHS = [INFRA / part for part in ("spark", "airflow/plugins", "airflow/dags", "database/scripts")] + [HERE]
os.environ.update(
    AIRFLOW_HOME=str(WORK / "airflow"), AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(INFRA / "airflow" / "dags"), AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING",
    AIRFLOW__CORE__PLUGINS_FOLDER=str(INFRA / "airflow" / "plugins"), NO_PROXY="127.0.0.1",
    AIRFLOW_CONN_BTC_INGEST=f"postgres://executor@127.0.0.1:{PORT}/postgres",
    BTC_INGEST_PREFIXES='["s3://landing/Airflow/{asset}/{yyyy}/{mm}/{dd}/"]',
    BTC_INGEST_S3_ENDPOINT=os.environ["FANOUT_ENDPOINT"], BTC_INGEST_REGION="us-east-1",
    PYTHONPATH=":".join(map(str, PATHS)))
sys.path[:0] = map(str, PATHS)

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

import make_ticks

QUICK = "--quick" in sys.argv
SLICES = 6 if QUICK else 48
scheme, _, address = os.environ["FANOUT_ENDPOINT"].partition("://")
s3 = fs.S3FileSystem(endpoint_override=address, scheme=scheme, region="us-east-1")
database = psycopg.connect(DSN + " user=postgres", autocommit=True)


def step(text):
    print(f"\n== {text}", flush=True)


def value(sql, *args):
    return database.execute(sql, args).fetchone()[0]


def must_be(what, found, wanted):
    if found != wanted:
        sys.exit(f"FAILED: {what}: found {found}, wanted {wanted}")
    print(f"   {what}: {found}", flush=True)


def put(day):
    """Uploads the slices of a day. The S3 server lists what came over its protocol."""
    for symbol in ("AAA", "BBB"):
        make_ticks.main(WORK / "made" / day, symbol, f"{day}T12:00", SLICES, 40)
    fs.copy_files(str(WORK / "made" / day), "landing/Airflow", fs.LocalFileSystem(), s3)


class Loading:
    """A session that loads what is registered, as a worker would, two seconds after it has appeared."""

    def __init__(self):
        self.ended, self.loaded_at = threading.Event(), None
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def run(self):
        with psycopg.connect(DSN + " user=postgres", autocommit=True) as session:
            waiting = "SELECT count(*) FROM ingestion.objects WHERE status = 'pending'"
            while not self.ended.wait(0.2):
                if session.execute(waiting).fetchone()[0]:
                    time.sleep(2)
                    session.execute("CALL btc_ingest.run_sweep()")
                    self.loaded_at = time.monotonic()


def run(day, state="success"):
    """Runs the DAG for a day. Returns the run's tasks with their results."""
    import btc_ingest_archive

    end = datetime.fromisoformat(day).replace(tzinfo=timezone.utc) + timedelta(days=1)
    begin = time.monotonic()
    with Loading() as loading:
        found = btc_ingest_archive.archive.test(logical_date=end)
        late = time.monotonic() - loading.loaded_at if loading.loaded_at else 0
    print(f"   {day}: {time.monotonic() - begin:.1f} s, {late:.1f} s of it after the load", flush=True)
    must_be(f"the run of {day}", found.state, state)
    return {(ti.task_id, ti.map_index): ti for ti in found.get_task_instances()}


def states(tasks):
    return {task: ti.state for (task, index), ti in tasks.items() if index < 1}


def check(day, slices):
    until = (datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat()
    must_be(f"slices of {day} by outcome", database.execute(
        "SELECT outcome, count(*) FROM btc_ingest.verify_archive(%s, %s, kind => 'airflow') GROUP BY 1",
        (day, until)).fetchall(), [("equal", slices)])
    must_be("its vectors", value("SELECT count(*) FROM signals.btc_embeddings WHERE bucket >= %s AND bucket < %s"
                                 " AND feature_version LIKE 'btc_ingest %%'", day, until), slices)


def main():
    begin = time.monotonic()
    step("A metadata database for Airflow")
    subprocess.run([Path(sys.executable).parent / "airflow", "db", "migrate"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    errors = subprocess.run([Path(sys.executable).parent / "airflow", "dags", "list-import-errors"],
                            capture_output=True, text=True)
    must_be("every DAG can be imported", "No data found" in errors.stdout or errors.stdout.strip() == "", True)

    step("A day: register, wait, verify, features")
    put("2024-10-01")
    tasks = run("2024-10-01")
    must_be("tasks", sorted(states(tasks).items()), [(name, "success") for name in
                                                     ("features", "lease", "read", "register", "verify", "wait")])
    check("2024-10-01", 2 * SLICES)
    published = value("SELECT array_agg(published_at ORDER BY bucket_5m, asset)::text FROM ops.slice_digests"
                      " WHERE kind = 'airflow'")

    step("The same day again")
    tasks = run("2024-10-01")
    must_be("states", {name: states(tasks)[name] for name in ("read", "verify", "features")},
            {"read": "skipped", "verify": "success", "features": "success"})
    must_be("what was published is untouched", value(
        "SELECT array_agg(published_at ORDER BY bucket_5m, asset)::text FROM ops.slice_digests"
        " WHERE kind = 'airflow'") == published, True)

    step("An earlier day, as a backfill does it")
    put("2024-09-20")
    run("2024-09-20")
    check("2024-09-20", 2 * SLICES)

    step("An object with another tick under a known id")
    file = "landing/Airflow/AAA/2024/09/20/AAA_20240920T1205Z.parquet"
    table = pq.read_table(file, filesystem=s3)
    prices = table.column("price").to_pylist()
    prices[5] += Decimal("0.01")
    kind = table.schema.field("price").type
    pq.write_table(table.set_column(table.schema.get_field_index("price"), table.schema.field("price"),
                                    pa.array(prices, kind)), file, filesystem=s3)
    must_be("states", {name: state for name, state in states(run("2024-09-20", "failed")).items()
                       if name in ("read", "verify", "features")},
            {"read": "success", "verify": "failed", "features": "upstream_failed"})
    must_be("what differs", database.execute(
        "SELECT asset, bucket_5m, outcome FROM btc_ingest.verify_archive('2024-09-20', '2024-09-21',"
        " kind => 'airflow') WHERE outcome <> 'equal'").fetchall(),
        [("AAA", datetime(2024, 9, 20, 12, 5, tzinfo=timezone.utc), "different")])

    step("A store that fails, and comes back")
    put("2024-12-01")
    import archive_job
    import btc_ingest_archive

    good = archive_job.run_task

    def bad(*_):
        raise OSError("the store is down")

    archive_job.run_task = bad
    btc_ingest_archive.archive.task_dict["read"].partial_kwargs["retries"] = 0
    must_be("states", {name: state for name, state in states(run("2024-12-01", "failed")).items()
                       if name in ("read", "verify")}, {"read": "failed", "verify": "upstream_failed"})
    must_be("units that were given back", database.execute(
        "SELECT state, last_error, count(*) FROM btc_ingest.units WHERE kind = 'airflow' AND from_time = '2024-12-01Z'"
        " GROUP BY 1, 2").fetchall(), [("failed", "OSError: the store is down", 2)])
    archive_job.run_task = good
    run("2024-12-01")
    check("2024-12-01", 2 * SLICES)

    step("Only new slices")
    must_be("slices of the event", asyncio.run(new_slices()), 2 * SLICES)
    print(f"\n== Airflow: done in {time.monotonic() - begin:.0f} s", flush=True)


async def new_slices():
    """Lets the trigger of the asset hear the loads of a day, and makes the vectors of what it has heard."""
    import btc_ingest_archive
    from btc_ingest_triggers import NewSlices

    put("2024-11-05")
    events = NewSlices("btc_ingest", gather=3.0).run()
    heard = asyncio.ensure_future(events.__anext__())
    await asyncio.sleep(2)
    database.execute("SELECT FROM btc_ingest.discover('s3://landing/Airflow/{asset}/2024/11/05/')")
    await asyncio.to_thread(database.execute, "CALL btc_ingest.run_sweep()")
    event = await asyncio.wait_for(heard, 60)
    await events.aclose()
    slices = event.payload["slices"]

    class Event:
        extra = {"payload": event.payload}

    made = await asyncio.to_thread(btc_ingest_archive.new_features_of, [Event()])
    must_be("vectors of the event", made, len(slices))
    return len(slices)


main()
