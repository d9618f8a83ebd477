#!/usr/bin/env bash
# Sets up everything that building, testing and the demo need on Debian 12: PostgreSQL 15 with TimescaleDB and
# pgvector, cargo-pgrx, and pgrx's configuration. Safe to run again: what is installed already is kept.
#
# Needs: Debian 12, Rust, and root (or sudo) for the packages.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }
have() { printf '   %-22s %s\n' "$1" "$2"; }
fail() { printf '\nbootstrap: %s\n' "$1" >&2; [ $# -lt 2 ] || printf '  try: %s\n' "$2" >&2; exit 1; }

# Builds print pages of text; a person wants a line, and the text only when it goes wrong.
work=${XDG_CACHE_HOME:-$HOME/.cache}/btc_ingest-bootstrap
mkdir -p "$work"
quietly() {
    local log=$work/$1.log; shift
    printf '   …'
    "$@" >"$log" 2>&1 &
    local job=$! seconds=0
    while kill -0 "$job" 2>/dev/null; do
        sleep 1; seconds=$((seconds + 1))
        [ $((seconds % 10)) -ne 0 ] || printf ' %ss' "$seconds"
    done
    if wait "$job"; then printf ' done\n'; return; fi
    printf ' failed\n'
    tail -n 30 "$log" >&2
    fail "the step above failed; its log is $log"
}

root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
        fail 'packages can only be installed by root' "su -c 'apt-get install sudo' and add yourself to sudoers"
    root=sudo
fi
apt() { $root env DEBIAN_FRONTEND=noninteractive apt-get "$@"; }

step 'Rust'
command -v cargo >/dev/null || fail 'cargo is not on the PATH' 'install Rust 1.95 or later with rustup, then: make demo'
have cargo "$(cargo --version)"

step 'Debian packages'
command -v apt-get >/dev/null || fail 'this is not Debian' 'run it on Debian 12'
packages=(postgresql-15 postgresql-server-dev-15 libclang-dev clang build-essential cmake pkg-config libssl-dev
          libkrb5-dev dpkg-dev sudo openssl ca-certificates python3-psycopg2)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    have missing "${missing[*]}"
    quietly apt-update apt update
    # The test and demo clusters are our own; Debian's would only take a port.
    $root mkdir -p /etc/postgresql-common
    settings=/etc/postgresql-common/createcluster.conf
    [ -e "$settings" ] || echo 'create_main_cluster = false' | $root tee "$settings" >/dev/null
    quietly apt-install apt install -y --no-install-recommends "${missing[@]}"
fi
# Debian's own pg_config wrapper picks the newest version; ours is 15.
PG_CONFIG=${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}
[ -x "$PG_CONFIG" ] || fail "no pg_config of PostgreSQL 15 at $PG_CONFIG" "PG_CONFIG=/path/to/pg_config make test"
case $("$PG_CONFIG" --version) in *' 15'*) ;; *) fail "$PG_CONFIG is not PostgreSQL 15" ;; esac
have PostgreSQL "$("$PG_CONFIG" --version)"
extensions=$("$PG_CONFIG" --sharedir)/extension

# Neither is packaged for PostgreSQL 15 in Debian 12.
as_root=(${root:+"$root"})
. scripts/lib/sources.sh
make_timescaledb() { build_timescaledb; install_timescaledb; }
make_pgvector() { build_pgvector; install_pgvector; }
version_of() { control_version "$extensions/$1.control"; }

step 'TimescaleDB'
if [ ! -e "$extensions/timescaledb.control" ]; then quietly timescaledb make_timescaledb; fi
have timescaledb "$(version_of timescaledb)"
step 'pgvector'
if ! is_new_pgvector "$extensions/vector.control"; then quietly pgvector make_pgvector; fi
have vector "$(version_of vector)"
is_new_pgvector "$extensions/vector.control" ||
    have '' "its hnsw indexes have faults before $OLDEST_PGVECTOR, and sid's sources were not to be had"

step 'cargo-pgrx'
wanted=$(sed -n 's/^pgrx = { version = "=\([0-9.]*\)".*/\1/p' Cargo.toml)
if [ "$(cargo pgrx --version 2>/dev/null | awk '{print $2}')" != "$wanted" ]; then
    # Its debug build compiles in half the time and does the same.
    quietly cargo-pgrx cargo install --debug --locked --force cargo-pgrx --version "$wanted"
fi
have cargo-pgrx "$wanted"
pgrx_home=${PGRX_HOME:-$HOME/.pgrx}
if ! grep -q "^pg15 *= *\"$PG_CONFIG\"" "$pgrx_home/config.toml" 2>/dev/null; then
    quietly pgrx-init cargo pgrx init --pg15 "$PG_CONFIG"
fi
have 'pgrx configuration' "$pgrx_home"
