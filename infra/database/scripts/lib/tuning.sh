# shellcheck shell=bash
# Settings by memory and cores, by the formulas of timescaledb-tune, but with worker slots for btc_ingest.

# At most so many loaders and backfill workers: the defaults of btc_ingest.workers and .max_backfill_workers.
LOADERS=2
BACKFILL_WORKERS=4
# TimescaleDB's own, of which 16 is timescaledb-tune's number.
TIMESCALEDB_WORKERS=16

tuned_settings() {
    local memory=$1 cores=$2
    local per_gather=$((cores / 2)) half=$(((cores + 1) / 2)) maintenance=$((memory / 16)) locks=64
    [ $per_gather -ge 1 ] || per_gather=1
    [ $maintenance -le 2048 ] || maintenance=2048
    [ "$memory" -le 8192 ] || locks=128
    [ "$memory" -le 16384 ] || locks=256
    [ "$memory" -le 32768 ] || locks=512
    # The launcher and the scheduler of btc_ingest, its loaders and backfill workers, and three of PostgreSQL's own.
    local workers=$((3 + TIMESCALEDB_WORKERS + cores + 2 + LOADERS + BACKFILL_WORKERS))
    cat <<TEXT
shared_buffers = $((memory / 4))MB
effective_cache_size = $((memory * 3 / 4))MB
maintenance_work_mem = ${maintenance}MB
work_mem = $((memory * 64 / 10 / half))kB
max_connections = 100
max_worker_processes = $workers
timescaledb.max_background_workers = $TIMESCALEDB_WORKERS
max_parallel_workers = $cores
max_parallel_workers_per_gather = $per_gather
max_locks_per_transaction = $locks
wal_buffers = 16MB
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
