# shellcheck shell=bash
# Settings by memory and cores, by the formulas of timescaledb-tune, but with worker slots for btc_ingest, and with what
# was measured to make loads quicker: docs/use/operations.md. Pages of 2 MB are reserved in the kernel.

# At most so many loaders and backfill workers: the defaults of btc_ingest.workers and .max_backfill_workers.
LOADERS=2
BACKFILL_WORKERS=4
# TimescaleDB's own, of which 16 is timescaledb-tune's number.
TIMESCALEDB_WORKERS=16
HUGE_PAGES_FILE=/etc/sysctl.d/60-btc_ingest.conf
NR_HUGEPAGES=/proc/sys/vm/nr_hugepages

tuned_settings() {
    local memory=$1 cores=$2
    local per_gather=$((cores / 2)) half=$(((cores + 1) / 2)) maintenance=$((memory / 16)) locks=64
    [ $per_gather -ge 1 ] || per_gather=1
    [ $maintenance -le 2048 ] || maintenance=2048
    # 128 MB was measured; a small host gives a 128th of its memory, and none less than timescaledb-tune's 16 MB.
    local wal_buffers=$((memory / 128))
    [ $wal_buffers -ge 16 ] || wal_buffers=16
    [ $wal_buffers -le 128 ] || wal_buffers=128
    [ "$memory" -le 8192 ] || locks=128
    [ "$memory" -le 16384 ] || locks=256
    [ "$memory" -le 32768 ] || locks=512
    # The launcher and the scheduler of btc_ingest, its loaders and backfill workers, and three of PostgreSQL's own.
    local workers=$((3 + TIMESCALEDB_WORKERS + cores + 2 + LOADERS + BACKFILL_WORKERS))
    cat <<TEXT
shared_buffers = $((memory / 4))MB
huge_pages = try
effective_cache_size = $((memory * 3 / 4))MB
maintenance_work_mem = ${maintenance}MB
work_mem = $((memory * 64 / 10 / half))kB
max_connections = 100
max_worker_processes = $workers
timescaledb.max_background_workers = $TIMESCALEDB_WORKERS
max_parallel_workers = $cores
max_parallel_workers_per_gather = $per_gather
max_locks_per_transaction = $locks
wal_buffers = ${wal_buffers}MB
wal_compression = lz4
default_toast_compression = lz4
min_wal_size = 512MB
max_wal_size = 4GB
checkpoint_completion_target = 0.9
random_page_cost = 1.1
effective_io_concurrency = 256
autovacuum_max_workers = 10
autovacuum_naptime = 10s
default_statistics_target = 100
jit = off
TEXT
}

# Reserves as many huge pages as the server wants, now and at each boot. The server must be down: only then does it
# compute the number for settings that no server has read yet. It starts without them as well (huge_pages = try).
reserve_huge_pages() {
    local wanted before
    [ -e "$NR_HUGEPAGES" ] || return 0
    # If it does not accept its settings, its start says so.
    wanted=$(cd / && runuser -u postgres -- "$BIN/postgres" -D "$DATA" -c "config_file=$CONFIG/postgresql.conf" \
        -C shared_memory_size_in_huge_pages 2>/dev/null) || wanted=0
    before=$(<"$NR_HUGEPAGES")
    [ "$wanted" -gt 0 ] || return 0
    if [ ! -e "$HUGE_PAGES_FILE" ] && [ "$before" -gt 0 ]; then
        say "huge pages: $before are reserved by you, the server wants $wanted; vm.nr_hugepages is left alone"
        return
    fi
    printf '%s\n' '# Written by setup_timescale.sh: the shared memory of PostgreSQL 15/main.' \
        "vm.nr_hugepages = $wanted" |
        replace_file "$HUGE_PAGES_FILE" 644 root:root
    set_huge_pages "$wanted"
    if [ "$(<"$NR_HUGEPAGES")" -ge "$wanted" ]; then
        say "huge pages: $wanted are reserved"
    else
        # The server takes all of its memory from them or nothing, so fewer would only be lost to the host.
        set_huge_pages 0
        say "huge pages: the kernel cannot reserve $wanted now, so the server starts without them until the next boot"
    fi
}
set_huge_pages() { { echo "$1" >"$NR_HUGEPAGES"; } 2>/dev/null || true; }
