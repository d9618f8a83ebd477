#!/usr/bin/env bash
# Makes one file with everything that a database host needs and cannot download: all packages of PostgreSQL 15,
# TimescaleDB, pgvector and btc_ingest, the packages that they depend on, and these scripts, each with a checksum.
# Run it on Debian 12 with the sources of btc_ingest; the host may then have no network at all.
set -euo pipefail
cd "$(dirname "$0")/../../.."
here=$PWD/infra/database/scripts
# shellcheck source=lib/say.sh
. "$here"/lib/say.sh
# shellcheck source=lib/packages.sh
. "$here"/lib/packages.sh
# shellcheck source=lib/vendor.sh
. "$here"/lib/vendor.sh

usage() {
    cat <<'TEXT'
usage: infra/database/scripts/build_bundle.sh [--debug] [--revision N] [--extra FILE.deb]… [--out DIR]

  --extra FILE.deb   one more package, such as amazon-ssm-agent; may be given several times
  --package FILE.deb the package of btc_ingest, if it is built already
  --debug            package the development build of btc_ingest, for tests
  --revision N       the Debian revision of btc_ingest's package (1)
  --out DIR          where the bundle is made (target/bundle)

TimescaleDB is the vendor's package (Community edition) if apt knows timescaledb-2-postgresql-15, and is built from
Debian's sources (Apache edition) if not. TIMESCALEDB_REPOSITORY makes apt know it for this run: vendor, for the
vendor's public package repository, or a line of sources.list. Without it no further repository is asked.
TEXT
}

out=target/bundle options=() extra=() ours=''
while [ $# -gt 0 ]; do
    case $1 in
        --debug) options+=(--debug) ;;
        --revision) options+=(--revision "$2"); shift ;;
        --package) ours=$2; shift ;;
        --extra) extra+=("$2"); shift ;;
        --out) out=$2; shift ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done
mkdir -p "$out"
out=$(cd "$out" && pwd)
bundle=$out/bundle
work=${XDG_CACHE_HOME:-$HOME/.cache}/btc_ingest-bootstrap
PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config
export PG_CONFIG
as_root=()
# shellcheck source=../../../scripts/lib/sources.sh
. scripts/lib/sources.sh

# apt with lists of its own, and as if no package were installed, so that all dependencies are downloaded.
apt_state=$out/apt
prepare_apt() {
    mkdir -p "$apt_state/lists/partial" "$apt_state/parts" "$bundle/debs/partial"
    cp -a /etc/apt/sources.list.d/. "$apt_state/parts/"
    add_repository
    : >"$apt_state/status"
    APT_OPTIONS=(-o "Dir::Etc::sourceparts=$apt_state/parts" -o "Dir::State::lists=$apt_state/lists"
                 -o "Dir::State::status=$apt_state/status" -o "Dir::Cache::archives=$bundle/debs"
                 -o Debug::NoLocking=1 -o APT::Sandbox::User=root -o Acquire::Retries=3)
    quietly apt update
}

# Unlike on a host, what was asked for must be there.
add_repository() {
    local problem list=$apt_state/parts/timescaledb.list key=$apt_state/timescaledb.asc
    case ${TIMESCALEDB_REPOSITORY:-none} in
        none) ;;
        vendor)
            problem=$(fetch_vendor_key "$key") || fail "the vendor's key cannot be had: $problem"
            vendor_line "$key" >"$list" ;;
        *) echo "$TIMESCALEDB_REPOSITORY" >"$list" ;;
    esac
}

# Makes a package of what `make install` writes below a directory.
pack() {
    local name=$1 version=$2 depends=$3 description=$4 conflicts=${5-} tree=$out/tree arch
    arch=$(dpkg --print-architecture)
    find "$tree" -name '*.so' -exec strip --strip-unneeded {} +
    # The files for the planner of LLVM name the compiler's version, and nothing here uses them.
    rm -rf "$tree/usr/lib/postgresql/15/lib/bitcode" "$tree/usr/include"
    mkdir -p "$tree/DEBIAN"
    cat >"$tree/DEBIAN/control" <<TEXT
Package: $name
Version: $version
Architecture: $arch
Maintainer: btc_ingest developers <btc_ingest@localhost>
Depends: $depends${conflicts:+
Conflicts: $conflicts}
Section: database
Priority: optional
Description: $description
TEXT
    quietly dpkg-deb --root-owner-group --build "$tree" "$bundle/debs/${name}_${version}_$arch.deb"
    rm -rf "$tree"
}

# Builds NAME unless the bootstrap has built it, and installs it below a directory of its own.
stage() {
    rm -rf "$out/tree"
    "has_built_$1" || quietly "build_$1"
    quietly "install_$1" "DESTDIR=$out/tree"
}
# The version of an extension that was staged.
staged_version() {
    sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" "$out/tree/usr/share/postgresql/15/extension/$1.control"
}

add_timescaledb() {
    if has_candidate timescaledb-2-postgresql-15; then
        packages+=(timescaledb-2-postgresql-15)
        if has_candidate timescaledb-toolkit-postgresql-15; then packages+=(timescaledb-toolkit-postgresql-15); fi
        return
    fi
    stage timescaledb
    pack postgresql-15-timescaledb "$(staged_version timescaledb)-1" \
        'postgresql-15, libc6, libssl3, libgssapi-krb5-2, libpq5' 'TimescaleDB, Apache edition, for PostgreSQL 15' \
        'timescaledb-2-postgresql-15, timescaledb-2-loader-postgresql-15'
}

add_pgvector() {
    if has_candidate postgresql-15-pgvector; then packages+=(postgresql-15-pgvector); return; fi
    stage pgvector
    pack postgresql-15-pgvector "$(staged_version vector)-1" 'postgresql-15, libc6' 'pgvector for PostgreSQL 15'
}

# The name of a package does not tell its edition: a library of its own has the Community edition.
read_edition() {
    local file
    edition=Apache
    for file in "$bundle"/debs/*timescaledb*.deb; do
        [[ $(dpkg-deb --contents "$file") != */timescaledb-tsl-* ]] || edition=Community
    done
}

# The scripts as they are in the checkout, without what git does not know.
add_repo() {
    git ls-files -z --cached --others --exclude-standard infra docs/use README.md LICENSE CHANGELOG.md |
        xargs -0 cp --parents -t "$bundle/repo"
}

write_manifest() {
    local file
    {
        echo "btc_ingest: $(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)"
        echo "commit: $(git rev-parse HEAD)$([ -z "$(git status --porcelain)" ] || echo ', with changes')"
        echo "TimescaleDB edition: $edition"
        echo "made: $(date -u +%FT%TZ), for Debian 12, $(dpkg --print-architecture)"
        echo 'packages:'
        # shellcheck disable=SC2016
        for file in "$bundle"/debs/*.deb; do dpkg-deb -W --showformat '  ${Package} ${Version}\n' "$file"; done
    } >"$bundle/MANIFEST"
}

step 'btc_ingest'
[ -n "$ours" ] || ours=$(scripts/deb.sh "${options[@]}")
say "$(basename "$ours")"
step 'Packages'
rm -rf "$bundle" && mkdir -p "$bundle/repo"
prepare_apt
packages=(postgresql-15 pgbackrest prometheus-postgres-exporter "${CLIENT_PACKAGES[@]}")
add_timescaledb
add_pgvector
cp "$ours" "${extra[@]}" "$bundle/debs/"
quietly apt install -y --no-install-recommends --download-only "${packages[@]}"
# apt copies no package of a file: repository, for one.
for name in "${packages[@]}"; do
    compgen -G "$bundle/debs/${name}_*.deb" >/dev/null || fail "apt has not downloaded $name" 'copy: instead of file:'
done
read_edition
say "TimescaleDB: $edition edition"
rm -rf "$bundle/debs/partial" "$bundle/debs/lock" "$apt_state"
(cd "$bundle/debs" && dpkg-scanpackages --multiversion . >Packages 2>/dev/null)
say "$(find "$bundle/debs" -name '*.deb' | wc -l) packages"
step 'Bundle'
add_repo
write_manifest
(cd "$bundle" && find . -type f -printf '%P\0' | sort -z | xargs -0 sha256sum) >"$out/SHA256SUMS"
mv "$out/SHA256SUMS" "$bundle/"
tar -C "$bundle" --owner=0 --group=0 --sort=name -cf "$out/btc_ingest-bundle.tar" .
say "$out/btc_ingest-bundle.tar ($(du -h "$out/btc_ingest-bundle.tar" | cut -f1)), and the same files in $bundle"
