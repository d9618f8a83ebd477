#!/usr/bin/env bash
# Makes the next version of btc_ingest from the last commit, and a bundle of it: next_version.sh OUT OLD_BUNDLE
# It has one more column and one more function. scripts/update_script.py prints its upgrade script, as for a release.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(realpath -m "$1") old_bundle=$2
export PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config CARGO_TARGET_DIR=$PWD/target
export CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS-} CARGO_TERM_COLOR=never
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
next=0.999.0
rm -rf "$out" && mkdir -p "$out"
git clone -q . "$out/src"
cd "$out/src"
sed -i "0,/^version = .*/s//version = \"$next\"/" Cargo.toml
sed -i "0,/^    ('ingestion.object_slices', 's3_uri'/s//    ('ingestion.objects', 'priority', 'integer', 'NOT NULL \
DEFAULT 0', true, 'Higher ones first'),\n&/" sql/tables.sql
cat >>sql/settings.sql <<'SQL'

CREATE FUNCTION btc_ingest.next_version() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT 'next'::text $$;
COMMENT ON FUNCTION btc_ingest.next_version() IS 'New in the next version';
REVOKE ALL ON FUNCTION btc_ingest.next_version() FROM PUBLIC;
SQL
cargo pgrx package --debug --package btc_ingest --pg-config "$PG_CONFIG" --out-dir "$out/package" \
    >"$out/package.log" 2>&1 || { tail -n 40 "$out/package.log" >&2; exit 1; }
extension=usr/share/postgresql/15/extension
dpkg-deb -x "$old_bundle"/debs/postgresql-15-btc-ingest_*.deb "$out/old"
scripts/update_script.py "$out/old/$extension/btc_ingest--$version.sql" \
    "$out/package/$extension/btc_ingest--$next.sql" >"$out/package/$extension/btc_ingest--$version--$next.sql"
infra/database/scripts/build_bundle.sh --package "$(scripts/deb.sh --debug --built "$out/package")" --out "$out/bundle"
