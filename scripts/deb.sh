#!/usr/bin/env bash
# Makes target/deb/postgresql-15-btc-ingest_VERSION_ARCH.deb by the conventions of PGDG's packages. --debug packages the
# development build, which tests use. --revision N is the last part of the package's version.
# --built DIR packages what `cargo pgrx package` has left there.
set -euo pipefail
cd "$(dirname "$0")/.."
PG_CONFIG=${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}
export CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS-} CARGO_TERM_COLOR=never
profile='' revision=1 package=''
while [ $# -gt 0 ]; do
    case $1 in
        --debug) profile=--debug ;;
        --revision) revision=$2; shift ;;
        --built) package=$2; shift ;;
        *) echo "usage: deb.sh [--debug] [--revision N] [--built DIR]" >&2; exit 2 ;;
    esac
    shift
done
[ "$("$PG_CONFIG" --pkglibdir)" = /usr/lib/postgresql/15/lib ] ||
    { echo "deb: $PG_CONFIG is not Debian's PostgreSQL 15, whose directories the package is for" >&2; exit 1; }

name=postgresql-15-btc-ingest
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)-$revision
arch=$(dpkg --print-architecture)
out=$PWD/target/deb
built=$out/built
tree=$out/tree
rm -rf "$built" "$tree"
mkdir -p "$tree/DEBIAN" "$tree/usr/share/doc/$name"
if [ -z "$package" ]; then
    package=$built
    cargo pgrx package ${profile:+"$profile"} --package btc_ingest --pg-config "$PG_CONFIG" --out-dir "$built" \
        >"$out/package.log" 2>&1 || { tail -n 40 "$out/package.log" >&2; exit 1; }
fi
cp -a "$package/usr" "$tree/"
library=$tree/usr/lib/postgresql/15/lib/btc_ingest.so
strip --strip-unneeded "$library"
find "$tree/usr" -type d -exec chmod 755 {} +
find "$tree/usr" -type f -exec chmod 644 {} +

# What the library links against, as dpkg-shlibdeps reads it from the installed packages.
mkdir -p "$out/debian"
printf 'Source: btc-ingest\n\nPackage: %s\nArchitecture: any\n' "$name" >"$out/debian/control"
libraries=$(cd "$out" && dpkg-shlibdeps -O "$library" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
date=$(git log -1 --format=%cD 2>/dev/null || date -R)
maintainer="${DEBFULLNAME:-btc_ingest developers} <${DEBEMAIL:-btc_ingest@localhost}>"

cat >"$tree/DEBIAN/control" <<TEXT
Package: $name
Source: btc-ingest
Version: $version
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $(du -sk --exclude=DEBIAN "$tree" | cut -f1)
Depends: postgresql-15, timescaledb-2-postgresql-15 | postgresql-15-timescaledb, postgresql-15-pgvector, $libraries
Section: database
Priority: optional
Description: Bitcoin trade ticks from Parquet in S3 into TimescaleDB, exactly once
 btc_ingest is an extension of PostgreSQL 15. Inside the database it fetches
 Parquet objects of trades from S3 and stores every tick exactly once in a
 hypertable: by a call, as registered objects arrive, or whole prefixes.
TEXT

cat >"$tree/DEBIAN/postinst" <<'TEXT'
#!/bin/sh
set -e
# Says what is left to do, and changes nothing: which cluster and which database are the administrator's decision.
if [ "$1" = configure ] && [ -z "$2" ]; then
    cat <<'MESSAGE'
btc_ingest is installed, but no server loads it yet. Add to postgresql.conf, keep the libraries that stand there,
and restart the server:
    shared_preload_libraries = 'timescaledb,btc_ingest'
    btc_ingest.database = 'market'
Then, as superuser in that database:
    CREATE EXTENSION btc_ingest CASCADE;
MESSAGE
elif [ "$1" = configure ]; then
    cat <<'MESSAGE'
btc_ingest was upgraded. Running processes keep the library that they have. Restart the server, and in every database
that has the extension:
    ALTER EXTENSION btc_ingest UPDATE;
MESSAGE
fi
TEXT
chmod 755 "$tree/DEBIAN/postinst"

cat >"$tree/usr/share/doc/$name/copyright" <<TEXT
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: btc_ingest

Files: *
Copyright: ${date:12:4} btc_ingest developers
License: Apache-2.0
 On Debian systems, the full text of the Apache License 2.0 is in
 /usr/share/common-licenses/Apache-2.0.
TEXT
printf 'btc-ingest (%s) unstable; urgency=medium\n\n  * %s\n\n -- %s  %s\n' "$version" \
    'What changed is in CHANGELOG.md of the sources.' "$maintainer" "$date" |
    gzip -9n >"$tree/usr/share/doc/$name/changelog.Debian.gz"
chmod 644 "$tree/usr/share/doc/$name"/*
(cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"

# The development build is for tests: it need not be small.
compression=(-Zxz)
[ -z "$profile" ] || compression=(-Zgzip -z1)
dpkg-deb "${compression[@]}" --root-owner-group --build "$tree" "$out/${name}_${version}_$arch.deb" >/dev/null
rm -rf "$tree" "$built" "$out/debian"
echo "$out/${name}_${version}_$arch.deb"
