#!/usr/bin/env bash
# Gives the installed library a new file with the same content. Running processes keep the old file mapped, so that
# `cargo pgrx test`, which overwrites the library in place, does not crash them.
set -euo pipefail
cd "$(dirname "$0")/.."
directory=$("${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}" --pkglibdir)
[ -e "$directory/btc_ingest.so" ] || exit 0
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -p "$directory/btc_ingest.so" "$copy/"
scripts/place.sh "$copy" "$directory"
