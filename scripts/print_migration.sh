#!/usr/bin/env bash
# Writes infra/database/migrations/001_init.sql anew from sql/tables.sql and sql/indexes.sql, on a throw-away server.
# Run it after a change of tables, columns or indexes.
set -euo pipefail
cd "$(dirname "$0")/.."
migrations=$PWD/infra/database/migrations
bin=$("${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}" --bindir)
scratch=$(mktemp -d)
# PostgreSQL refuses to run as root.
if [ "$(id -u)" -eq 0 ]; then as=(runuser -u postgres --); chown postgres "$scratch"; else as=(); fi
trap '(cd /tmp && "${as[@]}" "$bin/pg_ctl" -D "$scratch/data" -m immediate stop >/dev/null 2>&1) || true
    rm -rf "$scratch"' EXIT
(
    cd /tmp
    "${as[@]}" "$bin/initdb" -D "$scratch/data" -U postgres -A trust --no-locale -E UTF8 >/dev/null
    "${as[@]}" "$bin/pg_ctl" -w -D "$scratch/data" -l "$scratch/log" start -o "-c shared_preload_libraries=timescaledb \
        -c listen_addresses= -c unix_socket_directories=$scratch -c timescaledb.telemetry_level=off" >/dev/null
)
psql=("$bin/psql" -XqAt -v ON_ERROR_STOP=1 -h "$scratch" -U postgres -d postgres)
PGOPTIONS='--client-min-messages=error' "${psql[@]}" -c 'CREATE EXTENSION timescaledb' -c 'CREATE EXTENSION vector'
"${psql[@]}" -f scripts/lib/print_init.sql >"$scratch/printed"
cp "$scratch/printed" "$migrations/001_init.sql"
