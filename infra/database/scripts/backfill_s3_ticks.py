#!/usr/bin/env python3
"""Loads everything under a prefix of an S3 bucket into market_data.btc_ticks, and shows how far it is.

The database does the work: this calls btc_ingest.backfill(), whose background workers fetch and load the objects, and
watches them. Ending this program does not end the backfill, unless you say so. The same call again watches the same
backfill, and after its end a new one loads what is new or failed.

Exit codes: 0 everything is loaded; 1 some objects could not be loaded; 2 wrong arguments; 3 the database refused, or is
not reached; 4 the backfill has stopped and an administrator must act; 5 it was cancelled; 130 interrupted, and the
backfill goes on.
"""
import argparse
import signal
import sys
import threading
import time

import psycopg
from tqdm import tqdm

TABLE = "market_data.btc_ticks"
DONE, FAILED, USAGE, REFUSED, STOPPED, CANCELLED, DETACHED = 0, 1, 2, 3, 4, 5, 130
STATUS = """
SELECT status, objects_total, objects_known, objects_done, objects_failed, rows_inserted, message
  FROM btc_ingest.backfill_status(%s)
"""


def arguments(argv=None):
    summary, codes = __doc__.split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=summary, epilog=codes, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--s3-bucket", required=True, help="the bucket's name, without s3://")
    parser.add_argument("--s3-prefix", default="", help="keys that begin so; may have btc_ingest's {placeholders}")
    parser.add_argument("--table", default=TABLE, help=f"only {TABLE}")
    parser.add_argument("--dsn", default="", help="libpq's; without a password in it, PGPASSWORD or ~/.pgpass count")
    parser.add_argument("--from", dest="since", metavar="TIME", help="only objects that may hold a time from it on")
    parser.add_argument("--to", dest="until", metavar="TIME", help="only objects that may hold a time before it")
    parser.add_argument("--parallel", type=int, default=2, help="background workers (%(default)s)")
    parser.add_argument("--mode", choices=["object", "chunk"], default="object", help="chunk: whole empty chunks")
    parser.add_argument("--dry-run", action="store_true", help="only say what it would take")
    parser.add_argument("--on-interrupt", choices=["ask", "leave", "cancel"], default="ask",
                        help="what Ctrl-C or SIGTERM does with the backfill; without a terminal, ask means leave")
    args = parser.parse_args(argv)
    if args.table != TABLE:
        parser.error(f"--table {args.table}: btc_ingest loads into {TABLE} and no other table")
    if "/" in args.s3_bucket or not args.s3_bucket:
        parser.error(f"--s3-bucket {args.s3_bucket}: the name of a bucket, without s3:// and without a key")
    if args.s3_prefix.startswith("/"):
        parser.error("--s3-prefix begins without a slash")
    return args


def call(connection, args, problems):
    """Calls the procedure. It returns when the backfill has ended, or when this call is cancelled."""
    prefix = f"s3://{args.s3_bucket}/{args.s3_prefix}"
    try:
        connection.execute(
            "CALL btc_ingest.backfill(ARRAY[%s::text], %s::timestamptz, %s::timestamptz, %s::int, %s::text, %s::bool)",
            (prefix, args.since, args.until, args.parallel, args.mode, args.dry_run))
    except psycopg.Error as error:
        problems.append(error)


class Watch:
    """What is known of the backfill that the call has begun."""

    def __init__(self, connection):
        self.connection = connection
        self.id = None

    def heard(self, notice):
        """Takes the number of the backfill from the first notice of the call; prints what the bar does not show."""
        text = notice.message_primary or ""
        words = text.replace(":", "").split()
        if self.id is None and words[:1] == ["backfill"] and len(words) > 1 and words[1].isdigit():
            self.id = int(words[1])
        if notice.severity_nonlocalized == "WARNING" or self.id is None:
            tqdm.write(text, file=sys.stderr)

    def status(self):
        if self.id is None:
            return None
        with self.connection.cursor(row_factory=psycopg.rows.namedtuple_row) as cursor:
            return cursor.execute(STATUS, (self.id,)).fetchone()

    def cancel(self):
        self.connection.execute("SELECT btc_ingest.cancel_backfill(%s)", (self.id,))


def show(bar, status):
    """Moves the bar, which counts objects; the rows and their rate stand behind it."""
    bar.total = status.objects_total or None
    bar.update((status.objects_known or 0) + (status.objects_done or 0) + (status.objects_failed or 0) - bar.n)
    rate = (status.rows_inserted or 0) / max(time.monotonic() - bar.begun, 0.001)
    text = f"{status.rows_inserted or 0:,} ticks, {rate:,.0f}/s"
    bar.set_postfix_str(f"{text}, {status.message}" if status.message else text)


def follow(args, session, watch):
    """Runs the call in a thread and shows the bar until it returns. Returns the errors of the call."""
    problems = []
    thread = threading.Thread(target=call, args=(session, args, problems), daemon=True)
    thread.start()
    with tqdm(unit="object", desc=f"s3://{args.s3_bucket}/{args.s3_prefix}", disable=args.dry_run) as bar:
        bar.begun = time.monotonic()
        while thread.is_alive():
            thread.join(1)
            status = watch.status()
            if status:
                show(bar, status)
    return problems


def asks_for_cancel(args, watch):
    """Returns whether the backfill is to be cancelled. Another Ctrl-C leaves it running."""
    if args.on_interrupt != "ask" or not sys.stdin.isatty():
        return args.on_interrupt == "cancel"
    print(f"\nBackfill {watch.id}: cancel it? Otherwise it goes on in the database. [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def interrupted(args, session, watch):
    """Ends the watching, and cancels the backfill if that is wanted."""
    cancel = watch.id is not None and args.on_interrupt == "cancel"
    try:
        session.cancel()
        cancel = watch.id is not None and asks_for_cancel(args, watch)
    except KeyboardInterrupt:
        print(file=sys.stderr)
    # What is decided is carried out: no further interrupt stops it halfway.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if cancel:
        watch.cancel()
        print(f"Backfill {watch.id} is cancelled; what was loaded stays.", file=sys.stderr)
        return CANCELLED
    if watch.id is None:
        print("Interrupted before a backfill was seen: SELECT * FROM btc_ingest.backfill_status()", file=sys.stderr)
    else:
        print(f"Backfill {watch.id} goes on: SELECT * FROM btc_ingest.backfill_status({watch.id})", file=sys.stderr)
    return DETACHED


def verdict(status, problems):
    """Returns the exit code and prints one line."""
    for error in problems:
        hint = error.diag.message_hint
        print(f"{error.sqlstate or 'connection'}: {error.diag.message_primary or error}", file=sys.stderr)
        if hint:
            print(f"hint: {hint}", file=sys.stderr)
    if status is None:
        return REFUSED if problems else DONE
    print(f"{status.status}: {status.objects_done} objects loaded, {status.objects_known} loaded before, "
          f"{status.objects_failed} failed, {status.rows_inserted:,} ticks")
    if status.status == "done":
        return FAILED if status.objects_failed else DONE
    if status.status == "stopped":
        print(status.message, file=sys.stderr)
        return STOPPED
    return CANCELLED if status.status == "cancelled" else REFUSED


def terminated(_signal, _frame):
    raise KeyboardInterrupt


def main(argv=None):
    args = arguments(argv)
    signal.signal(signal.SIGTERM, terminated)
    try:
        session = psycopg.connect(args.dsn, autocommit=True, application_name="backfill_s3_ticks")
        side = psycopg.connect(args.dsn, autocommit=True, application_name="backfill_s3_ticks")
    except psycopg.Error as error:
        print(error, file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("Interrupted before anything was begun.", file=sys.stderr)
        return DETACHED
    watch = Watch(side)
    session.add_notice_handler(watch.heard)
    try:
        problems = follow(args, session, watch)
        return verdict(watch.status(), problems)
    except KeyboardInterrupt:
        return interrupted(args, session, watch)
    except psycopg.Error as error:
        print(f"{error}\nThe backfill itself goes on.", file=sys.stderr)
        return REFUSED


if __name__ == "__main__":
    sys.exit(main())
