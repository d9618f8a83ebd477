#!/usr/bin/env bash
# Runs the Spark job and the Airflow DAG of infra/ against a real server: `make test-fanout`. 2,000 registered slices,
# several executors with speculation, an executor and a driver that are killed, a task that hangs, objects that change.
# --quick takes 200 slices, and kills and hangs nothing. Needs root, Debian's package default-jre-headless and the
# packages of PyPI, and installs both; where it cannot, it says so in one line and ends.
set -euo pipefail
cd "$(dirname "$0")/../.."
quick='' only=''
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=--quick ;;
    --only) only=$2 && shift ;;
    *) echo "usage: test_fanout.sh [--quick] [--only spark|airflow]" >&2 && exit 2 ;;
    esac
    shift
done
pg_config=${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}
bin=$("$pg_config" --bindir)
out=$PWD/target/fanout
mkdir -p "$out"
step() { printf '\n== %s\n' "$*"; }
skip() { printf '   skipped: %s\n' "$*"; exit 0; }

# Makes a virtual environment, or keeps the one that has these requirements already.
environment() {
    local directory=$out/$1 requirements=infra/$1/requirements.txt
    if ! cmp -s "$requirements" "$directory/requirements.txt"; then
        rm -rf "$directory"
        # Chained, because bash does not end a function at its first failure where its result is asked for.
        python3 -m venv "$directory" &&
            "$directory/bin/pip" install --quiet --disable-pip-version-check -r "$requirements" &&
            cp "$requirements" "$directory/requirements.txt"
    fi
}

[ "$(id -u)" -eq 0 ] || skip 'make test-fanout needs root, for a server of its own under another user'
# Debian's own Java, as Spark needs one.
if ! command -v java >/dev/null; then
    step 'Java'
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        default-jre-headless; } >"$out/java.log" 2>&1 || skip "Java cannot be installed; the log is $out/java.log"
fi
step 'Environments'
for name in spark airflow; do
    environment $name || skip "the packages of infra/$name/requirements.txt cannot be installed"
done
cargo build -q -p btc_ingest_kit --bin btc-ingest-s3

step 'A server and an S3 server'
work=$(mktemp -d)
clean_up() {
    [ -z "${s3-}" ] || kill "$s3" 2>/dev/null || true
    (cd /tmp && as_postgres "$bin/pg_ctl" -D "$work/data" stop -m immediate >/dev/null 2>&1) || true
    rm -rf "$work"
}
trap clean_up EXIT
as_postgres() { runuser -u postgres -- "$@"; }
chown postgres:postgres "$work" && chmod 755 "$work"
export AWS_ACCESS_KEY_ID=KEY AWS_SECRET_ACCESS_KEY=secret AWS_EC2_METADATA_DISABLED=true
mkdir -p "$work/s3/landing"
target/debug/btc-ingest-s3 --root "$work/s3" --access-key KEY --secret-key secret --port 0 >"$work/s3.log" &
s3=$!
until endpoint=$(sed -n 's/^listening on //p' "$work/s3.log") && [ -n "$endpoint" ]; do sleep 0.1; done
port=$("$out/spark/bin/python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1])')
(
    cd /tmp
    as_postgres "$bin/initdb" -D "$work/data" --encoding UTF8 --locale C.UTF-8 -A trust >/dev/null
    cat >>"$work/data/postgresql.conf" <<END
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$work'
shared_preload_libraries = 'timescaledb'
timescaledb.telemetry_level = off
fsync = off
btc_ingest.s3_endpoint = '$endpoint'
btc_ingest.s3_force_path_style = on
btc_ingest.s3_region = 'us-east-1'
btc_ingest.allowed_prefixes = 's3://landing'
END
    as_postgres env AWS_ACCESS_KEY_ID=KEY AWS_SECRET_ACCESS_KEY=secret \
        "$bin/pg_ctl" -D "$work/data" -l "$work/log" -w start >/dev/null || { cat "$work/log" >&2; exit 1; }
    as_postgres "$bin/psql" -XAtq -v ON_ERROR_STOP=1 -h "$work" -p "$port" -d postgres \
        -c 'SET client_min_messages = warning; CREATE EXTENSION btc_ingest CASCADE' \
        -c 'CREATE ROLE executor LOGIN; GRANT btc_ingest_loader TO executor'
)
export FANOUT_DSN="host=127.0.0.1 port=$port dbname=postgres" FANOUT_ENDPOINT=$endpoint FANOUT_S3=$work/s3/landing
export FANOUT_WORK=$work

[ "$only" = airflow ] || "$out/spark/bin/python" infra/tests/fanout_spark.py $quick
[ "$only" = spark ] || "$out/airflow/bin/python" infra/tests/fanout_airflow.py $quick
