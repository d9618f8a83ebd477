#!/usr/bin/env bash
# Installs what only `make lint` needs: cargo-deny, and the sources of all dependencies. What is there is kept.
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=0.20.2
if [ "$(cargo deny --version 2>/dev/null | awk '{print $2}')" != "$wanted" ]; then
    printf '== cargo-deny %s: compiles for about three minutes\n' "$wanted"
    # The debug build compiles faster than the release build and is fast enough.
    cargo install --quiet --debug --locked --force cargo-deny --version "$wanted"
fi
# cargo-deny reads the sources of all dependencies, those for other systems among them.
cargo fetch --quiet --locked
