#!/usr/bin/env bash
# Loads in a process group that is limited to the memory of a t3.medium: `make test-memory`. The server has the settings
# that the setup makes for 4 GB and 2 cores. It loads a day of 3,000,000 ticks as one object, backfills 28 days of as
# many ticks in hourly objects, and compresses them where TimescaleDB is the Community edition.
# Needs root, for the group. Prints the most memory of each step; S3 is outside of the group.
# MEMORY_MB is the limit and what is tuned for, TICKS the ticks of the day and of the backfill.
set -euo pipefail
cd "$(dirname "$0")/../.."
MEMORY_MB=${MEMORY_MB:-4096} CORES=2 TICKS=${TICKS:-3000000}
pg_config=${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}
bin=$("$pg_config" --bindir)
lib=infra/database/scripts/lib
# shellcheck source=../database/scripts/lib/say.sh
. $lib/say.sh
# shellcheck source=../database/scripts/lib/tuning.sh
. $lib/tuning.sh
# shellcheck source=../database/scripts/lib/cluster.sh
. $lib/cluster.sh
# shellcheck source=../database/scripts/lib/backup.sh
. $lib/backup.sh
skip() { printf '   skipped: %s\n' "$*"; exit 0; }

# ── the group ──

[ "$(id -u)" -eq 0 ] || skip 'make test-memory needs root'
limit=$((MEMORY_MB * 1048576)) name=btc_ingest-memory-$$
# Leaves the directory of a new group in `group`, and in `anonymous` and `shared` the lines of its memory.stat.
make_group() {
    if [ -w /sys/fs/cgroup/memory/cgroup.procs ]; then
        group=/sys/fs/cgroup/memory/$name anonymous=total_rss shared=total_shmem
        mkdir "$group" && echo $limit >"$group/memory.limit_in_bytes"
    elif grep -qw memory /sys/fs/cgroup/cgroup.controllers; then
        group=/sys/fs/cgroup/$name anonymous=anon shared=shmem
        echo +memory >/sys/fs/cgroup/cgroup.subtree_control && mkdir "$group" && echo $limit >"$group/memory.max"
    else
        return 1
    fi
} 2>/dev/null
make_group || skip 'this machine has no process groups whose memory could be limited'

work=$(mktemp -d)
clean_up() {
    local process
    for process in "${watcher-}" "${s3-}"; do [ -z "$process" ] || kill "$process" 2>/dev/null || true; done
    as_postgres "$bin/pg_ctl" -D "$work/data" stop -m immediate >/dev/null 2>&1 || true
    rm -rf "$work"
    # A group goes when its last process has gone.
    for _ in $(seq 100); do rmdir "$group" 2>/dev/null && break; sleep 0.1; done
}
trap clean_up EXIT
as_postgres() { runuser -u postgres -- env PGHOST="$work" PGDATABASE=market "$@"; }
query() { as_postgres "$bin/psql" -XAtq -v ON_ERROR_STOP=1 <<<"$1"; }

# Anonymous and shared memory: what no page of a file can make room for.
used() {
    awk -v a="$anonymous" -v s="$shared" '$1 == a || $1 == s { sum += $2 } END { print sum }' "$group/memory.stat"
}
watch_memory() {
    local most=0 now
    while :; do
        now=$(used)
        if [ "$now" -gt "$most" ]; then most=$now; echo "$most" >"$work/most"; fi
        sleep 0.1
    done
}
killed() { cat "$group"/memory.oom_control "$group"/memory.events 2>/dev/null | awk '$1 == "oom_kill" { print $2 }'; }

# Runs a step and prints its time and the most memory; $2 is a statement, $3 what it must answer.
step_of() {
    local begin=$SECONDS answer
    echo 0 >"$work/most"
    watch_memory &
    watcher=$!
    answer=$(query "$2" 2>"$work/step.log") || { cat "$work/step.log" "$work/log" >&2; fail "$1"; }
    kill $watcher
    wait $watcher 2>/dev/null || true
    watcher=
    [ "$answer" = "$3" ] || fail "$1" "found $answer, wanted $3"
    say "$(printf '%-46s %5d MB at most, %4d s' "$1" $(($(cat "$work/most") / 1048576)) $((SECONDS - begin)))"
}
must_be() { [ "$2" = "$3" ] || fail "$1: found $2, wanted $3"; say "$1: $2"; }

# ── the server ──

step "A server for $MEMORY_MB MB and $CORES cores, in a group of as much"
cargo build -q -p btc_ingest_kit --bin btc-ingest-s3
# shellcheck source=python.sh
. infra/tests/python.sh
"$python" infra/tests/make_ticks.py "$work/s3/landing/Binance" BTCUSDT 2024-08-08T00:00 1 "$TICKS" 1440
"$python" infra/tests/make_ticks.py "$work/s3/landing/Binance" ETHUSDT 2024-09-01T00:00 672 $((TICKS / 672)) 60
backfilled=$((TICKS / 672 * 672))
target/debug/btc-ingest-s3 --root "$work/s3" --access-key KEY --secret-key secret --port 0 >"$work/s3.log" &
s3=$!
chown postgres:postgres "$work" && chmod 755 "$work"
as_postgres "$bin/initdb" -D "$work/data" --data-checksums --encoding UTF8 --locale C.UTF-8 -A trust >/dev/null
# As the setup writes it; the last file has what differs because this is no host of its own.
CONFIG=$work/data DATABASE=market CLIENT_NETWORK='' LOGICAL_REPLICATION='' BACKUP=''
ALLOW=s3://landing S3_REGION=us-east-1
until S3_ENDPOINT=$(sed -n 's/^listening on //p' "$work/s3.log") && [ -n "$S3_ENDPOINT" ]; do sleep 0.1; done
install -d -o postgres -g postgres "$CONFIG/conf.d"
echo "include_dir = 'conf.d'" >>"$CONFIG/postgresql.conf"
make_certificate
write_settings
printf "listen_addresses = ''\nunix_socket_directories = '%s'\n" "$work" >"$CONFIG/conf.d/60-test.conf"
(
    echo $BASHPID >"$group/cgroup.procs"
    cores=$(taskset -cp $BASHPID | sed 's/.*: //' | tr ',' '\n' | head -n $CORES | paste -sd,)
    [[ $cores == *-* ]] || taskset -cp "$cores" $BASHPID >/dev/null
    export AWS_ACCESS_KEY_ID=KEY AWS_SECRET_ACCESS_KEY=secret
    as_postgres "$bin/pg_ctl" -D "$work/data" -l "$work/log" -w start >/dev/null
) || { cat "$work/log" >&2; fail 'the server does not start'; }
as_postgres "$bin/createdb" market
query 'CREATE EXTENSION btc_ingest CASCADE' 2>/dev/null
edition=$(query 'SHOW timescaledb.license')

# ── what is loaded ──

step "$TICKS ticks and as many again, in $MEMORY_MB MB"
object=s3://landing/Binance/BTCUSDT/2024/08/08/BTCUSDT_20240808T0000Z.parquet
step_of 'a day as one object' "SELECT rows_inserted FROM btc_ingest.load_s3_slice('$object')" "$TICKS"
step_of '28 days by a backfill of two workers' "CALL btc_ingest.backfill('s3://landing/Binance/ETHUSDT/');
    SELECT status, objects_done FROM btc_ingest.backfill_status()" 'done|672'
if [ "$edition" = timescale ]; then
    query "ALTER TABLE market_data.btc_ticks SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol',
        timescaledb.compress_orderby = 'event_time DESC, trade_id')"
    chunks=$(query "SELECT count(*) FROM show_chunks('market_data.btc_ticks')")
    step_of 'the compression of all chunks' "SELECT count(compress_chunk(chunk))
        FROM show_chunks('market_data.btc_ticks') chunk" "$chunks"
else
    say 'skipped: compression needs the Community edition of TimescaleDB'
fi
# What make_ticks.py writes: prices go from 57000.5 to 57099.5 and round again within each file.
stored() { query "SELECT count(*), count(DISTINCT trade_id), bool_and(quantity = 0.25
    AND price = 57000.5 + mod(mod(trade_id - 1, $2), 100)) FROM market_data.btc_ticks WHERE symbol = '$1'"; }
must_be 'ticks of the day, their ids, whether all are right' "$(stored BTCUSDT "$TICKS")" "$TICKS|$TICKS|t"
must_be 'ticks of the backfill, their ids, whether all are right' "$(stored ETHUSDT $((TICKS / 672)))" \
    "$backfilled|$backfilled|t"
must_be 'processes that the kernel has ended for want of memory' "$(killed)" 0
must_be 'errors of memory in the log' \
    "$(grep -ciE 'out of memory|terminated by signal|cannot allocate' "$work/log" || true)" 0
