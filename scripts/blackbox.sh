#!/usr/bin/env bash
# Runs the black-box tests: all of them, also after one has failed.
#
# A test that fails is run once more, by itself. Deadlines of tests are generous, but a machine that others use too
# can pass over them without a fault of the product. What passes then is named as unsteady, so that it is seen and
# mended; what fails twice fails the run, and so does a run with more than eight failures.
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
failed=$(mktemp)
trap 'rm -f "$log" "$failed"' EXIT

if cargo test --no-fail-fast -p btc_ingest_kit -p btc_ingest_tests 2>&1 | tee "$log"; then exit 0; fi

# After a binary that failed, cargo says with which arguments it is run again: one line "NAME<tab>ARGUMENTS" a test.
awk '
    /^ +Running .*\(.*\)$|^ +Doc-tests / { count = 0 }
    /^test .* \.\.\. FAILED$/ { names[count++] = $2 }
    /^error: test failed, to rerun pass `/ {
        split($0, parts, "`")
        if (count == 0) print "-\t" parts[2]
        for (i = 0; i < count; i++) print names[i] "\t" parts[2]
        count = 0
    }' "$log" >"$failed"
many=$(wc -l <"$failed")
if [ "$many" -eq 0 ] || [ "$many" -gt 8 ] || grep -q '^-' "$failed"; then
    printf '\nThe black-box tests failed: %s tests.\n' "$many" >&2
    exit 1
fi
status=0
while IFS=$'\t' read -r name arguments; do
    # shellcheck disable=SC2086 # The arguments are cargo's own, several words.
    if cargo test $arguments -- --exact "$name" </dev/null; then
        printf 'unsteady: %s (%s) passed when it was run again by itself\n' "$name" "$arguments"
    else
        printf 'failed twice: %s (%s)\n' "$name" "$arguments" >&2
        status=1
    fi
done <"$failed"
exit $status
