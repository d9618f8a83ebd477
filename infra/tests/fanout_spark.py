"""The Spark job against a real server: called by test_fanout.sh, which sets FANOUT_….

Registers slices, loads them, and runs infra/spark/archive_job.py on a Spark cluster of two hosts. A task hangs, an
executor is killed, and so is a driver. Then every unit must be published once, with the digests of SQL, the candles
of SQL and the vectors of the library. At last objects change, and are found."""
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import make_ticks

QUICK = "--quick" in sys.argv
ASSETS, SLICES, TICKS = (2, 100, 30) if QUICK else (4, 500, 60)
DSN, ENDPOINT, FOLDER = os.environ["FANOUT_DSN"], os.environ["FANOUT_ENDPOINT"], Path(os.environ["FANOUT_S3"])
WORK = Path(os.environ["FANOUT_WORK"])
START = datetime(2024, 8, 8, tzinfo=timezone.utc)
RANGE = ("2024-08-08", "2024-08-11")
SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"][:ASSETS]
database = psycopg.connect(DSN + " user=postgres", autocommit=True)


def step(text):
    print(f"\n== {text}", flush=True)


def value(sql, *args):
    return database.execute(sql, args).fetchone()[0]


def must_be(what, found, wanted):
    if found != wanted:
        sys.exit(f"FAILED: {what}: found {found}, wanted {wanted}")
    print(f"   {what}: {found}", flush=True)


def must(what, condition):
    if not condition:
        sys.exit(f"FAILED: {what}")
    print(f"   {what}", flush=True)


class Cluster:
    """A master and two workers, each with a loopback address of its own: Spark runs a speculative task only on another
    host. Executors are their children."""

    def __init__(self):
        self.programs, self.sessions = [], []

    def start(self):
        self.program("master", "127.0.0.1", "master.Master", "--host", "127.0.0.1", "--port", "0",
                     "--webui-port", "0")
        found = r"Starting Spark master at (spark://\S+)"
        self.url = until("the master", lambda: re.search(found, log_of("master"))).group(1)
        for number in (2, 3):
            host = f"127.0.0.{number}"
            self.sessions.append(self.program(f"worker{number}", host, "worker.Worker", "--host", host, "--cores", "1",
                                              "--memory", "1g", "--webui-port", "0", self.url))
            until(f"the worker on {host}", lambda: "Successfully registered" in log_of(f"worker{number}"))
        return self.url

    def program(self, name, host, kind, *options):
        environment = dict(environment_of_spark(), SPARK_LOCAL_IP=host, SPARK_DAEMON_MEMORY="200m")
        log = open(WORK / f"{name}.log", "w")
        started = subprocess.Popen([spark_home() / "bin" / "spark-class", f"org.apache.spark.deploy.{kind}", *options],
                                   env=environment, stdout=log, stderr=log, start_new_session=True)
        self.programs.append(started)
        return started.pid

    def stop(self):
        for program in self.programs:
            end_group(program)


def environment_of_spark():
    return dict(os.environ, SPARK_HOME=str(spark_home()), PYSPARK_PYTHON=sys.executable, SPARK_LOCAL_IP="127.0.0.1",
                SPARK_LOCAL_DIRS=str(WORK / "spark"), SPARK_WORKER_DIR=str(WORK / "worker"))


def spark(*options, name="job", kind="verify"):
    """Starts the job: on the cluster with speculation, or for a quick test within the driver."""
    settings = {"spark.log.level": "INFO", "spark.ui.enabled": "false", "spark.executor.memory": "700m",
                "spark.driver.memory": "700m", "spark.driver.host": "127.0.0.1", "spark.speculation": "true",
                "spark.speculation.multiplier": "2", "spark.speculation.quantile": "0.5",
                "spark.speculation.minTaskRuntime": "2s"}
    command = [spark_home() / "bin" / "spark-submit", "--master", master]
    command += [part for pair in settings.items() for part in ("--conf", "=".join(pair))]
    job = ["--py-files", "infra/database/scripts/window_features.py", "infra/spark/archive_job.py",
           "--dsn", DSN + " user=executor", "--s3-endpoint", ENDPOINT, "--region", "us-east-1",
           "--from", RANGE[0], "--to", RANGE[1], "--kind", kind, *options]
    print(f"   spark-submit --master {master} … " + " ".join(job[2:]), flush=True)
    log = open(WORK / f"{name}.log", "w")
    return subprocess.Popen([*map(str, command), *job], env=environment_of_spark(), stdout=log, stderr=log,
                            start_new_session=True)


def spark_home():
    import pyspark
    return Path(pyspark.__file__).parent


def log_of(name):
    return (WORK / f"{name}.log").read_text(errors="replace")


def wait(process, name, wanted=0, limit=900):
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        code = "no end"
    if code != wanted:
        end_group(process)
        print("\n".join(log_of(name).splitlines()[-60:]))
        sys.exit(f"FAILED: the job ended with {code}, wanted {wanted}")
    print("   " + [line for line in log_of(name).splitlines() if " units finished" in line][-1], flush=True)


def end_group(process):
    """Ends the driver and its executors, which are in its group, without a word to them."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def processes(group, pattern):
    """Returns the processes of a group whose command line has the pattern."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and os.getsid(int(folder.name)) == group:
                if re.search(pattern, (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")):
                    found.append(int(folder.name))
        except (OSError, ProcessLookupError):
            pass
    return sorted(found)


def until(what, condition, limit=180):
    end = time.monotonic() + limit
    while not (found := condition()):
        if time.monotonic() > end:
            sys.exit(f"FAILED: {what} does not happen")
        time.sleep(0.05)
    return found


# ── what is registered ──

def key(symbol, number):
    begin = START + timedelta(minutes=5 * number)
    return f"Binance/{symbol}/{begin:%Y/%m/%d}/{symbol}_{begin:%Y%m%dT%H%M}Z.parquet"


def register():
    step(f"{ASSETS * SLICES} registered slices of {TICKS} ticks")
    for symbol in SYMBOLS:
        make_ticks.main(FOLDER / "Binance", symbol, f"{START:%Y-%m-%dT%H:%M}", SLICES, TICKS)
    # An object of an hour that holds ticks of twelve slices again, a changed one among them, and new ones.
    symbol, begin = SYMBOLS[0], START + timedelta(hours=2)
    ticks = pa.concat_tables([pq.read_table(FOLDER / key(symbol, number)) for number in range(24, 36)])
    extra = make_ticks.ticks(symbol, begin + timedelta(minutes=7), 10_000_000, 5, 30, 0)
    prices = ticks.column("price").to_pylist()
    prices[3] += Decimal("1")
    place = ticks.schema.get_field_index("price")
    ticks = ticks.set_column(place, ticks.schema.field("price"), pa.array(prices, ticks.schema.field("price").type))
    pq.write_table(pa.concat_tables([ticks, extra]), FOLDER / "hour.parquet")
    # The same ticks in Binance's short form: strings, milliseconds without a unit, ids of orders.
    table = pq.read_table(FOLDER / key(SYMBOLS[1], 0))
    short = pa.table({
        "E": pa.array([int(time.timestamp() * 1000) for time in table.column("event_time").to_pylist()], pa.int64()),
        "T": pa.array([int(time.timestamp() * 1000) for time in table.column("event_time").to_pylist()], pa.int64()),
        "s": table.column("symbol"), "t": table.column("trade_id"),
        "p": pa.array([f"{price:f}" for price in table.column("price").to_pylist()]),
        "q": pa.array([0.1 + number / 8 for number in range(len(table))]),
        "b": pa.array([f"buyer-{number}" if number % 3 else None for number in range(len(table))]),
        "a": pa.array(range(len(table)), pa.int64()),
        "m": pa.array([["true", "f", None][number % 3] for number in range(len(table))])})
    pq.write_table(short, FOLDER / key(SYMBOLS[1], 0))
    with database.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata) VALUES (%s, %s, %s, %s::jsonb)",
            [(START + timedelta(minutes=5 * number), symbol, f"s3://landing/{key(symbol, number)}",
              '{"time_unit": "ms"}' if (symbol, number) == (SYMBOLS[1], 0) else "{}")
             for symbol in SYMBOLS for number in range(SLICES)])
    begin = time.monotonic()
    database.execute("CALL btc_ingest.run_sweep()")
    loaded = "SELECT rows_inserted, rows_conflicting FROM btc_ingest.load_s3_slice('s3://landing/hour.parquet')"
    must_be("new and conflicting ticks of the object of an hour", database.execute(loaded).fetchone(), (5, 1))
    must_be("registry rows that are not loaded", database.execute(
        "SELECT b.s3_uri, o.last_error FROM landing.raw_blobs_5m b JOIN ingestion.objects o ON o.s3_uri = b.s3_uri"
        " WHERE b.status <> 'loaded'").fetchall(), [])
    print(f"   loaded in {time.monotonic() - begin:.0f} s")


# ── what is published ──

def check_published(kind, slices):
    must_be("units that are not finished",
            value("SELECT count(*) FROM btc_ingest.units WHERE kind = %s AND state <> 'finished'", kind), 0)
    must_be("published slices", value("SELECT count(*) FROM ops.slice_digests WHERE kind = %s", kind), slices)
    must_be("slices that are equal by digest", database.execute(
        "SELECT outcome, count(*) FROM btc_ingest.verify_archive(%s, %s, kind => %s) GROUP BY 1",
        (*RANGE, kind)).fetchall(), [("equal", slices)])
    must_be("slices with other sums than the table", value(
        """SELECT count(*) FROM ops.slice_digests d
             FULL JOIN (SELECT a AS asset, t.* FROM unnest(%s::text[]) AS a,
                               btc_ingest.slice_digests(a, '-infinity', 'infinity') AS t) AS t
               ON (t.asset, t.bucket_5m) = (d.asset, d.bucket_5m)
            WHERE d.kind = %s AND (d.ticks, d.quantity, d.amount) IS DISTINCT FROM (t.ticks, t.quantity, t.amount)""",
        SYMBOLS, kind), 0)
    must_be("slices with other ids than the ledger", value(
        """SELECT count(*) FROM ops.slice_digests d
             LEFT JOIN (SELECT a AS asset, l.* FROM unnest(%s::text[]) AS a, btc_ingest.slice_ledger(a) AS l) AS l
               ON (l.asset, l.bucket_5m) = (d.asset, d.bucket_5m)
            WHERE d.kind = %s AND (d.first_trade_id, d.last_trade_id, d.missing_ids)
                                  IS DISTINCT FROM (l.first_trade_id, l.last_trade_id, l.missing_inside)""",
        SYMBOLS, kind), 0)
    must_be("objects that were read in another version than the loaded one, or in none", value(
        "SELECT count(*) FROM ops.slice_digests d CROSS JOIN jsonb_to_recordset(d.objects) AS r (uri text, etag text)"
        " LEFT JOIN ingestion.objects o ON o.s3_uri = r.uri WHERE d.kind = %s AND o.etag IS DISTINCT FROM r.etag",
        kind), 0)
    must_be("conflicting ticks",
            value("SELECT sum(conflicts) FROM ops.slice_digests WHERE kind = %s", kind), Decimal(1))
    must_be("what is left in the staging tables",
            value("SELECT (SELECT count(*) FROM ingestion.staged_slices)"
                  " + (SELECT count(*) FROM ingestion.staged_candles)"), 0)
    said = [unit for name in ("killed", "second", "third", "quick") if (WORK / f"{name}.log").exists()
            for unit in re.findall(r"^unit (\d+): .* slices, ", log_of(name), re.MULTILINE)]
    must("no driver has finished a unit that another one had finished", said and len(said) == len(set(said)))


def check_candles(kind):
    must_be("candles that differ from those of SQL", value(
        """WITH made AS (
               SELECT symbol, date_bin('1 minute', event_time, 'epoch'::timestamptz) AS minute,
                      (array_agg(price ORDER BY event_time, trade_id))[1] AS open, max(price) AS high,
                      min(price) AS low, (array_agg(price ORDER BY event_time DESC, trade_id DESC))[1] AS close,
                      sum(quantity) AS volume, sum(price * quantity) AS amount,
                      coalesce(sum(quantity) FILTER (WHERE NOT is_market_maker), 0) AS buys, count(*) AS ticks
                 FROM market_data.btc_ticks GROUP BY 1, 2)
           SELECT count(*) FROM made m FULL JOIN (SELECT * FROM ops.slice_candles WHERE kind = %s) AS c
               ON (c.asset, c.minute) = (m.symbol, m.minute)
            WHERE (m.open, m.high, m.low, m.close, m.volume, m.amount, m.buys, m.ticks) IS DISTINCT FROM
                  (c.open, c.high, c.low, c.close, c.volume, c.amount, c.taker_buy_volume, c.ticks)""", kind), 0)


def check_vectors(slices):
    vectors = "SELECT count(*) FROM signals.btc_embeddings WHERE feature_version = 'numpy 1' AND exchange = 'binance'"
    must_be("vectors", value(vectors), slices)
    database.execute("CREATE TABLE made AS SELECT * FROM signals.btc_embeddings; TRUNCATE signals.btc_embeddings")
    for symbol in SYMBOLS:
        database.execute("SELECT btc_ingest.embed(%s, %s, %s)", (*RANGE, symbol))
    far = value("SELECT max(m.feature_vector <-> e.feature_vector) FROM made m JOIN signals.btc_embeddings e"
                " ON (e.bucket, e.asset) = (m.bucket, m.asset)")
    must(f"the largest distance to a vector of the library is {far:.1e}", far < 1e-4)
    must_be("vectors of both", value("SELECT count(*) FROM made m JOIN signals.btc_embeddings e"
                                     " ON (e.bucket, e.asset) = (m.bucket, m.asset)"), slices)


# ── runs ──

def run_with_trouble(slices):
    step("A run in which the driver is killed after the first units")
    options = ("--by", "hour", "--slices-per-task", "4", "--candles", "--vectors", "--lease", "20")
    process = spark(*options, name="killed")
    finished = "SELECT count(*) FROM btc_ingest.units WHERE state = 'finished'"
    until("the first unit", lambda: value(finished))
    end_group(process)
    first = value(finished)
    must(f"{first} units are finished, and {value('SELECT count(*) FROM btc_ingest.units')} were leased", first > 0)

    step("A run in which a task hangs and an executor is killed")
    process = spark(*options, name="second")
    until("further units", lambda: value(finished) > first + 2)
    hanging, other = cluster.sessions
    worker = until("a task", lambda: processes(hanging, r"pyspark.daemon"))[-1]
    os.kill(worker, signal.SIGSTOP)
    marked, again = r"Marking task (\d+) in stage (\S+) \(on 127.0.0.2\) as speculatable", None

    def repeated():
        found = re.search(marked, log_of("second"))
        wanted = rf"Starting task {found[1]}\.\d+ in stage {found[2]} .*\(127.0.0.3" if found else "$^"
        return re.search(wanted, log_of("second"))
    must("a task hangs, and Spark has started it on the other host as well", until("a speculative task", repeated))
    executor = until("an executor", lambda: processes(other, r"CoarseGrainedExecutorBackend"))[-1]
    os.kill(executor, signal.SIGKILL)
    until("the loss of an executor", lambda: re.search(r"Lost executor", log_of("second")))
    must(f"an executor was killed, and Spark has lost it: process {executor}", True)
    try:
        os.kill(worker, signal.SIGCONT)
    except ProcessLookupError:
        pass
    wait(process, "second")
    left = value("SELECT count(*) FROM btc_ingest.units WHERE state <> 'finished'")
    if left:
        wait(spark(*options, name="third"), "third")
    must_be("units", value("SELECT count(*) FROM btc_ingest.units"), ASSETS * -(-SLICES // 12))
    check_published("verify", slices)
    check_candles("verify")
    check_vectors(slices)


def run_quick(slices):
    step("A run of two tasks at a time")
    wait(spark("--by", "day", "--candles", "--vectors", name="quick"), "quick")
    check_published("verify", slices)
    check_candles("verify")
    check_vectors(slices)


def run_changed():
    step("Objects that change, are damaged and vanish are found")
    gone, damaged, changed = (key(SYMBOLS[-1], number) for number in (1, 2, 3))
    (FOLDER / gone).unlink()
    (FOLDER / damaged).write_bytes((FOLDER / damaged).read_bytes()[:-9])
    table = pq.read_table(FOLDER / changed)
    prices = table.column("price").to_pylist()
    prices[7] += Decimal("0.00000001")
    place = table.schema.get_field_index("price")
    table = table.set_column(place, table.schema.field("price"), pa.array(prices, table.schema.field("price").type))
    pq.write_table(table, FOLDER / changed)
    wait(spark("--assets", SYMBOLS[-1], name="again", kind="again"), "again")
    found = database.execute("SELECT bucket_5m, outcome, problem FROM btc_ingest.verify_archive(%s, %s, %s, 'again')"
                             " WHERE outcome <> 'equal' ORDER BY 1", (*RANGE, SYMBOLS[-1])).fetchall()
    wanted = [(START + timedelta(minutes=5 * number), outcome) for number, outcome in
              ((1, "unproven"), (2, "unproven"), (3, "different"))]
    must_be("slices that are not equal", [row[:2] for row in found], wanted)
    for row, (name, words) in zip(found, ((gone, "is gone"), (damaged, "no readable Parquet file"),
                                          (changed, "is loaded"))):
        must(row[2], name in row[2] and words in row[2])
    must("the new etag is named", hashlib.md5((FOLDER / changed).read_bytes()).hexdigest() in found[2][2])
    # Two runs are compared by a join, without the table.
    differing = value("SELECT count(*) FROM ops.slice_digests a JOIN ops.slice_digests b USING (asset, bucket_5m)"
                      " WHERE a.kind = 'verify' AND b.kind = 'again' AND a.digest IS DISTINCT FROM b.digest")
    must_be("slices whose digest has changed since the first run", differing, 3)
    must_be("nothing is done twice: units of a further run",
            len(database.execute("SELECT FROM btc_ingest.work_units(%s, %s, kind => 'again', assets => %s)",
                                 (*RANGE, [SYMBOLS[-1]])).fetchall()), 0)


begun = time.monotonic()
os.chdir(HERE.parent.parent)
cluster = Cluster()
try:
    register()
    stored = value("SELECT count(DISTINCT (asset, bucket_5m)) FROM ingestion.object_slices")
    master = "local[2]" if QUICK else cluster.start()
    (run_quick if QUICK else run_with_trouble)(stored)
    run_changed()
finally:
    cluster.stop()
print(f"\n== Spark: done in {time.monotonic() - begun:.0f} s", flush=True)
