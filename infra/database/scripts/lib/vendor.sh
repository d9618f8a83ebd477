# shellcheck shell=bash
# TimescaleDB from its vendor's package repository, which has the Community edition, where it can be reached.

VENDOR_URL=https://packagecloud.io/timescale/timescaledb
VENDOR_PACKAGE='timescaledb-2-postgresql-15'
# Names of its own: the administrator may have followed the vendor's page, which says timescaledb.list.
VENDOR_LIST=/etc/apt/sources.list.d/btc_ingest-timescaledb.list
VENDOR_KEY=/etc/apt/keyrings/btc_ingest-timescaledb.asc
# Seconds after which the key, and then the lists of packages, are given up.
KEY_LIMIT=6 LISTS_LIMIT=14
# Why there is the edition that there is.
EDITION_REASON=''

# The line of sources.list for a key in a file.
vendor_line() {
    # shellcheck source=/dev/null
    (. /etc/os-release && echo "deb [signed-by=$1] $VENDOR_URL/$ID/ $VERSION_CODENAME main")
}

# Fetches the vendor's key into a file. Prints what is wrong if it cannot be had.
fetch_vendor_key() {
    local status=0
    command -v python3 >/dev/null || { echo 'python3 is needed to fetch the key'; return 1; }
    timeout "$KEY_LIMIT" python3 -c 'import http.client, sys, urllib.request
try:
    key = urllib.request.urlopen(sys.argv[1], timeout=5).read(100_000)
except (OSError, ValueError, http.client.HTTPException) as error:
    print(f"{sys.argv[1]}: {error}")
    sys.exit(1)
if not key.startswith(b"-----BEGIN PGP PUBLIC KEY BLOCK-----"):
    print(f"{sys.argv[1]} is no key of a package repository")
    sys.exit(1)
with open(sys.argv[2], "wb") as file:
    file.write(key)' "$VENDOR_URL/gpgkey" "$1" || status=$?
    [ $status -ne 124 ] || echo "$VENDOR_URL/gpgkey: no answer within $KEY_LIMIT seconds"
    return $status
}

# Whether a source has the package; that it is installed does not count.
is_offered() { [ -n "$(apt-cache "${APT_OPTIONS[@]}" madison "$VENDOR_PACKAGE" 2>/dev/null)" ]; }

wanted_line() {
    case ${TIMESCALEDB_REPOSITORY:-vendor} in
        none) ;;
        vendor) vendor_line "$VENDOR_KEY" ;;
        *) echo "$TIMESCALEDB_REPOSITORY" ;;
    esac
}

# Takes back the line of an earlier run, if another one is wanted now, or none.
forget_vendor_repository() {
    [ -e "$VENDOR_LIST" ] || return 0
    [ "$(<"$VENDOR_LIST")" != "$(wanted_line)" ] || return 0
    rm -f "$VENDOR_LIST" "$VENDOR_KEY"
    say "removed $VENDOR_LIST"
}

# Has apt know the vendor's package, if it does not know it yet. apt's own lists must be there.
add_vendor_repository() {
    local wanted=$TIMESCALEDB_REPOSITORY problem
    EDITION_REASON="apt knows the vendor's package"
    if is_offered && { [ -z "$wanted" ] || [ "$wanted" = none ] || [ -e "$VENDOR_LIST" ]; }; then return; fi
    if [ "$wanted" = none ]; then
        EDITION_REASON='TIMESCALEDB_REPOSITORY is none'
    elif [ -z "$wanted" ] && [ -n "$(version_of postgresql-15-timescaledb)" ]; then
        # Another edition is another license: no run takes it by itself.
        EDITION_REASON='it is installed already; TIMESCALEDB_REPOSITORY=vendor asks the vendor'
    elif problem=$(use_repository "$(wanted_line)"); then
        EDITION_REASON="the vendor's package repository is reached"
        say "wrote $VENDOR_LIST"
        return
    else
        EDITION_REASON="the vendor's package repository cannot be used"
        say "TimescaleDB's vendor: ${problem:-no answer}"
    fi
    ! has_candidate "$VENDOR_PACKAGE" || EDITION_REASON="the vendor's package was there before"
}

# Fetches the key, if it is the vendor's, and the lists; keeps the line if the package is there. If not, it prints why
# and leaves nothing behind.
use_repository() {
    local line=$1 scratch status=0
    scratch=$(mktemp -d)
    mkdir "$scratch/parts"
    echo "$line" >"$scratch/sources.list"
    try_repository "$line" "$scratch" || status=$?
    if [ $status -eq 0 ]; then
        mkdir -p "$(dirname "$VENDOR_LIST")"
        install -m 644 "$scratch/sources.list" "$VENDOR_LIST"
    else
        rm -f "$VENDOR_LIST" "$VENDOR_KEY"
    fi
    rm -rf "$scratch"
    return $status
}

# Only this repository is asked, and the lists of the others stay.
try_repository() {
    local line=$1 scratch=$2 status=0
    local APT_OPTIONS=(-o "Dir::Etc::sourcelist=$scratch/sources.list" -o "Dir::Etc::sourceparts=$scratch/parts")
    if [[ $line == *"$VENDOR_KEY"* ]]; then
        mkdir -p "$(dirname "$VENDOR_KEY")"
        fetch_vendor_key "$VENDOR_KEY" || return
        chmod 644 "$VENDOR_KEY"
    fi
    timeout "$LISTS_LIMIT" apt-get -q "${APT_OPTIONS[@]}" -o APT::Get::List-Cleanup=false -o Acquire::Retries=0 \
        -o Acquire::http::Timeout=5 -o Acquire::https::Timeout=5 update --error-on=any >"$scratch/log" 2>&1 || status=$?
    if [ $status -eq 124 ]; then
        echo "$line: no lists within $LISTS_LIMIT seconds"
    elif [ $status -ne 0 ]; then
        sed -n '/^[EW]: /{s///p;q}' "$scratch/log"
    elif ! is_offered; then
        echo "$line: it has no $VENDOR_PACKAGE for $(dpkg --print-architecture)"
        status=1
    fi
    return $status
}

# The edition that is installed. The name of the package does not tell: a library of its own has the Community edition.
edition() {
    local version
    version=$(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" /usr/share/postgresql/15/extension/timescaledb.control)
    if [ -e "/usr/lib/postgresql/15/lib/timescaledb-tsl-$version.so" ]; then
        echo Community
    else
        echo 'Apache (no compression, no continuous aggregates, no jobs)'
    fi
}
