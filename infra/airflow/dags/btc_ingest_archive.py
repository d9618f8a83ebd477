"""register → wait → verify → features over the registry of btc_ingest: per data interval, or for new slices.

btc_ingest_archive works on the slices of its data interval. Every step may be repeated: registering finds objects
known, units that are finished are not handed out again, and vectors are the same. So a run may be cleared, and
`airflow backfill create --dag-id btc_ingest_archive` does years.

btc_ingest_new_slices runs when slices were loaded, for these slices only.

Needs a connection of the type postgres, by default named btc_ingest, whose role has btc_ingest_loader;
infra/spark/archive_job.py on PYTHONPATH; and btc_ingest_triggers.py in the folder of plugins.
"""
import json
import os
import re
import time
from datetime import datetime, timedelta, timezone

from airflow.exceptions import AirflowException
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk import Asset, AssetWatcher, BaseSensorOperator, CronDataIntervalTimetable, dag, task
from btc_ingest_triggers import NewSlices, SlicesLoaded

CONN_ID = os.environ.get("BTC_INGEST_CONN", "btc_ingest")
# Prefixes that register() lists, as btc_ingest.discover() takes them; {yyyy}, {mm} and {dd} become the day of the data
# interval. Without any, the registry is filled by producers, by watches or by the Lambda function.
PREFIXES = json.loads(os.environ.get("BTC_INGEST_PREFIXES", "[]"))
S3_ENDPOINT, REGION = os.environ.get("BTC_INGEST_S3_ENDPOINT"), os.environ.get("BTC_INGEST_REGION")
KIND = "airflow"
# Far below the 1,024 tasks that Airflow maps by default.
MOST_UNITS = 24
# How long the last object of an interval may take to be loaded.
PATIENCE = timedelta(hours=2)

loaded_slices = Asset("x-btc-ingest://slices", watchers=[
    AssetWatcher(name="btc_ingest_loaded", trigger=NewSlices(conn_id=CONN_ID))])
published = Asset("x-btc-ingest://slice-digests")


def database():
    return PostgresHook(postgres_conn_id=CONN_ID)


def query(sql, *parameters):
    """Runs a statement in a transaction of its own and returns its rows."""
    with database().get_conn() as connection, connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def bounds(context):
    return context["data_interval_start"].isoformat(), context["data_interval_end"].isoformat()


def settings():
    """Returns the settings of archive_job, with the database of the Airflow connection."""
    import archive_job
    from btc_ingest_triggers import parameters
    from psycopg.conninfo import make_conninfo

    found = parameters(database().get_connection(CONN_ID))
    password = found.pop("password", None)
    return archive_job.Settings(make_conninfo(**found), password, S3_ENDPOINT, REGION, True, False)


class WaitForSlices(BaseSensorOperator):
    """Waits in the triggerer until no registered slice of the data interval waits to be loaded."""

    def execute(self, context):
        since, until = bounds(context)
        keys = context["ti"].xcom_pull(task_ids="register")
        trigger = SlicesLoaded(CONN_ID, since, until, keys, time.time() + PATIENCE.total_seconds())
        self.defer(trigger=trigger, method_name="heard")

    def heard(self, context, event):
        if event["status"] != "loaded":
            raise AirflowException(f"the slices are not loaded: {event}")
        if event["quarantined"]:
            raise AirflowException(f"{event['quarantined']} slices could not be loaded: SELECT * FROM "
                                   "btc_ingest.failures;")


@task(retries=2, retry_delay=timedelta(seconds=30))
def register(**context):
    """Registers the objects of the interval, where no producer does. Objects that are known stay as they are.

    Returns patterns of their keys for LIKE."""
    day = context["data_interval_start"]
    listed = {prefix.replace("{yyyy}", f"{day:%Y}").replace("{mm}", f"{day:%m}").replace("{dd}", f"{day:%d}")
              for prefix in PREFIXES}
    for prefix in sorted(listed):
        new, changed, problem = query(
            "SELECT registered_new, changed, problem FROM btc_ingest.discover(%s)", prefix)[0]
        if problem:
            raise AirflowException(f"{prefix} cannot be listed: {problem}")
        print(f"{prefix}: {new} new objects, {changed} changed ones")
    return [re.sub(r"\{[^}]*\}", "%", prefix.replace("_", r"\_")) + "%" for prefix in sorted(listed)]


@task(retries=2, retry_delay=timedelta(seconds=30))
def lease(**context):
    """Leases the units of the interval. A unit that is finished, and has not changed since, is none."""
    since, until = bounds(context)
    rows = query("SELECT unit, token::text, asset, work::text FROM btc_ingest.work_units(%s::timestamptz, "
                 "%s::timestamptz, 'day', %s, %s, '1 hour')", since, until, KIND, MOST_UNITS)
    return [{"unit": unit, "token": token, "asset": asset, "work": json.loads(work)}
            for unit, token, asset, work in rows]


@task(max_active_tis_per_dagrun=4, retries=2, retry_delay=timedelta(seconds=30))
def read(unit, ti=None):
    """Reads the objects of a unit and publishes what they hold. A repetition stages a part of its own."""
    import archive_job

    whole = archive_job.Unit(unit["unit"], unit["token"], unit["asset"], None, 0, unit["work"])
    try:
        parts = [archive_job.run_task(part, settings())[0] for part in archive_job.tasks_of(whole, 288)]
        outcome, slices = query("SELECT outcome, slices FROM btc_ingest.finish_unit(%s::uuid, %s::uuid[])",
                                unit["token"], parts)[0]
    except Exception as error:
        # After the last repetition the unit is given back, so that the next run need not wait for its lease to end.
        if ti.try_number > ti.max_tries:
            query("SELECT btc_ingest.fail_unit(%s::uuid, %s)", unit["token"], f"{type(error).__name__}: {error}"[:2000])
        raise
    return f"{unit['asset']}: {outcome}, {slices} slices"


# Also if no unit was left to be read: the table may have changed since.
@task(outlets=[published], trigger_rule="none_failed")
def verify(finished, **context):
    """Compares the digests of the objects with the table, for all slices of the interval."""
    since, until = bounds(context)
    rows = query("SELECT outcome, count(*), min(problem) FROM btc_ingest.verify_archive(%s::timestamptz, "
                 "%s::timestamptz, kind => %s) GROUP BY outcome", since, until, KIND)
    wrong = [f"{count} slices are {outcome}: {problem or 'see btc_ingest.verify_archive()'}"
             for outcome, count, problem in rows if outcome != "equal"]
    if wrong:
        raise AirflowException("; ".join(wrong))
    return sum(count for _, count, _ in rows)


@task(retries=2, retry_delay=timedelta(seconds=30))
def features(equal, **context):
    """Makes the vectors of the interval in the database."""
    since, until = bounds(context)
    return query("SELECT btc_ingest.embed(%s::timestamptz, %s::timestamptz)", since, until)[0][0]


@dag(schedule=CronDataIntervalTimetable("@daily", timezone="UTC"), start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
     catchup=False, max_active_runs=4, doc_md=__doc__, tags=["btc_ingest"])
def btc_ingest_archive():
    registered = register()
    waited = WaitForSlices(task_id="wait")
    units = lease()
    registered >> waited >> units
    features(verify(read.expand(unit=units)))


def new_features_of(events):
    """Makes the vectors of the slices that asset events name. An event has the payload of NewSlices."""
    slices = {(one["asset"], one["bucket"]) for event in events
              for one in ((event.extra or {}).get("payload") or {}).get("slices", [])}
    return sum(query("SELECT btc_ingest.embed(%s::timestamptz, %s::timestamptz + interval '5 minutes', %s)",
                     bucket, bucket, asset)[0][0] for asset, bucket in sorted(slices))


@task
def new_features(triggering_asset_events=None):
    return new_features_of([event for events in (triggering_asset_events or {}).values() for event in events])


@dag(schedule=[loaded_slices], start_date=datetime(2024, 1, 1, tzinfo=timezone.utc), catchup=False,
     tags=["btc_ingest"])
def btc_ingest_new_slices():
    new_features()


archive = btc_ingest_archive()
new_slices = btc_ingest_new_slices()
