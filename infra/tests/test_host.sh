#!/usr/bin/env bash
# Sets a host up from nothing, for real: `make test-host`. A Debian 12 that debootstrap has made, in a network namespace
# of its own that has nothing but loopback; the bundle, the role of the instance and S3 are served inside.
# Needs root, as it mounts. BTC_INGEST_HOST_BUNDLE names a bundle that is built already, BTC_INGEST_HOST_NEXT one of the
# next version. TIMESCALEDB_REPOSITORY makes both with TimescaleDB's Community edition: build_bundle.sh.
# With --vendor only the part without a bundle.
# With --quick only the first part: a damaged bundle, the setup, clients, one slice. It then says in one line what this
# machine lacks, and fails only by what it finds. With --times it tests nothing: it measures how long a host takes from
# nothing, and from its backup, with TICKS ticks; `make time-host`.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$PWD/target/host
only=${1-}
TICKS=${TICKS:-6000000}
export TICKS
step() { printf '\n== %s\n' "$*"; }
skip() { printf '   skipped: %s\n\n0 passed, 0 failed, 1 skipped\n' "$*"; exit 0; }
# Ends the run because of this machine: that is a failure, but for the quick form.
lacks() { [ "$only" != --quick ] || skip "$1"; printf '\nFAILED: %s\n' "$1" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || skip 'a host is set up by root only'
mkdir -p "$out"
# shellcheck disable=SC2016
unshare --net --mount --pid --fork --ipc --uts --kill-child bash -euc '
    mkdir -p "$1/probe" && mount -t tmpfs tmpfs "$1/probe" && cd "$1/probe" && mkdir lower upper work root proc
    mount -t proc proc proc && hostname probe
    mkdir -p "$1/probe-upper" "$1/probe-work"
    mount -t overlay overlay -o "lowerdir=$1/probe/lower,upperdir=$1/probe-upper,workdir=$1/probe-work" root
    touch root/file' bash "$out" >/dev/null 2>&1 || skip 'this machine allows no namespaces, or no mounts in them'
rm -rf "$out"/probe*

install_debootstrap() {
    set -- -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 debootstrap
    apt-get install "$@" && return
    # The lists of packages may be missing or old.
    apt-get update -q && apt-get install "$@"
}

step 'What is to be installed'
bundle=${BTC_INGEST_HOST_BUNDLE:-}
# With lists of its own, as the bundle is built.
downloads() (
    cd "$(mktemp -d)" && mkdir -p lists/partial || return
    set -- -qq -o "Dir::State::lists=$PWD/lists" -o APT::Sandbox::User=root
    apt-get "$@" update && apt-get "$@" download hostname
)
if [ -z "$bundle" ]; then
    downloads >/dev/null 2>&1 || lacks 'packages of Debian cannot be downloaded'
    bundle=$PWD/target/host-bundle/bundle
    infra/database/scripts/build_bundle.sh --debug --out target/host-bundle
fi
next=${BTC_INGEST_HOST_NEXT:-}
if [ -z "$only$next" ]; then
    infra/tests/next_version.sh target/host-next "$bundle"
    next=$PWD/target/host-next/bundle/bundle
fi
cargo build -q -p btc_ingest_kit --bin btc-ingest-s3
cp target/debug/btc-ingest-s3 "$out/"
# shellcheck source=python.sh
. infra/tests/python.sh || lacks 'pyarrow cannot be installed'

step 'A bare Debian 12'
if [ ! -e "$out/base/.complete" ]; then
    command -v debootstrap >/dev/null || install_debootstrap >"$out/debootstrap.log" 2>&1 ||
        lacks 'there is no debootstrap'
    rm -rf "$out/base"
    # The mirror that this machine itself uses, in either form of apt's sources.
    mirror=$(cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null |
        sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb +(\[[^]]*\] +)?([^ ]+) bookworm main.*/\2/p' | head -n 1 || true)
    # It mounts /proc below its target; with mounts of its own nothing stays mounted there.
    timeout 1200 unshare --mount debootstrap --variant=minbase --include=python3,ca-certificates,sudo,procps,iproute2 \
        bookworm "$out/base" "$mirror" >"$out/debootstrap.log" 2>&1 ||
        { tail -n 20 "$out/debootstrap.log" >&2; lacks 'debootstrap does not make a Debian 12 here'; }
    rm -rf "$out"/base/var/cache/apt/archives/*.deb "$out"/base/etc/apt/sources.list*
    touch "$out/base/.complete"
fi

step 'Buckets'
buckets=$out/buckets
rm -rf "$buckets" "$out/backup-s3" && mkdir -p "$buckets/artifacts" "$buckets/landing-zone"
tar -C "$bundle" --owner=0 --group=0 -cf "$buckets/artifacts/btc_ingest-bundle.tar" .
make_ticks() { "$python" infra/tests/make_ticks.py "$buckets/landing-zone/$1" "${@:2}"; }
case $only in
    --times)
        # 28 days in hourly objects.
        make_ticks Binance BTCUSDT 2024-08-01T00:00 672 $((TICKS / 672)) 60
        TICKS=$((TICKS / 672 * 672))
        next=$bundle
        ;;
    --quick | --vendor) make_ticks Binance BTCUSDT 2024-08-08T12:00 3 500 ;;
    *)
        make_ticks Binance BTCUSDT 2024-08-08T12:00 3 500
        make_ticks Binance ETHUSDT 2024-08-09T00:00 1000 200
        # Loaded one after another between backups, and a correction of the first forty ticks of a slice.
        for symbol in SOLUSDT ADAUSDT DOTUSDT; do make_ticks Binance $symbol 2024-08-10T00:00 12 500; done
        make_ticks Corrections BTCUSDT 2024-08-08T12:00 1 500 5 40
        ;;
esac

step 'The host'
exec unshare --net --mount --pid --fork --ipc --uts --kill-child \
    infra/tests/test_host_inside.sh "$out" "$bundle" "$next" "$only"
