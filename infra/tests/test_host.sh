#!/usr/bin/env bash
# Sets a host up from nothing, for real: `make test-host`. A Debian 12 that debootstrap has made, in a network namespace
# of its own that has nothing but loopback; the bundle, the role of the instance and S3 are served inside.
# Needs root, as it mounts. BTC_INGEST_HOST_BUNDLE names a bundle that is built already.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$PWD/target/host
step() { printf '\n== %s\n' "$*"; }
skip() { printf '   skipped: %s\n\n0 passed, 0 failed, 1 skipped\n' "$*"; exit 0; }
[ "$(id -u)" -eq 0 ] || skip 'make test-host needs root'
unshare --net --mount true 2>/dev/null || skip 'this machine allows no namespaces'
mkdir -p "$out"

step 'What is to be installed'
bundle=${BTC_INGEST_HOST_BUNDLE:-}
if [ -z "$bundle" ]; then
    bundle=$PWD/target/host-bundle/bundle
    infra/database/scripts/build_bundle.sh --debug --out target/host-bundle
fi
infra/tests/next_version.sh target/host-next "$bundle"
next=$PWD/target/host-next/bundle/bundle
cargo build -q -p btc_ingest_kit --bin btc-ingest-s3
cp target/debug/btc-ingest-s3 "$out/"
if [ ! -x "$out/python/bin/python" ]; then
    python3 -m venv "$out/python"
    "$out/python/bin/pip" install --quiet --disable-pip-version-check -r infra/tests/requirements-host.txt
fi

step 'A bare Debian 12'
if [ ! -e "$out/base/.complete" ]; then
    command -v debootstrap >/dev/null || apt-get install -y -q --no-install-recommends debootstrap >/dev/null
    rm -rf "$out/base"
    # The mirror that this machine itself uses, in either form of apt's sources.
    mirror=$(cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null |
        sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb +(\[[^]]*\] +)?([^ ]+) bookworm main.*/\2/p' | head -n 1 || true)
    debootstrap --variant=minbase --include=python3,ca-certificates,sudo,procps,iproute2 bookworm "$out/base" \
        "$mirror" >"$out/debootstrap.log" 2>&1 || { tail -n 20 "$out/debootstrap.log" >&2; exit 1; }
    rm -rf "$out"/base/var/cache/apt/archives/*.deb "$out"/base/etc/apt/sources.list*
    touch "$out/base/.complete"
fi

step 'Buckets'
buckets=$out/buckets
rm -rf "$buckets" && mkdir -p "$buckets/artifacts" "$buckets/landing-zone"
tar -C "$bundle" --owner=0 --group=0 -cf "$buckets/artifacts/btc_ingest-bundle.tar" .
make_ticks() { "$out/python/bin/python" infra/tests/make_ticks.py "$buckets/landing-zone" "$@"; }
make_ticks BTCUSDT 2024-08-08T12:00 3 500
make_ticks ETHUSDT 2024-08-09T00:00 1000 200

step 'The host'
exec unshare --net --mount --pid --fork --ipc --uts --kill-child \
    infra/tests/test_host_inside.sh "$out" "$bundle" "$next"
