# shellcheck shell=bash
# Packages: from a bundle only, or from the sources that apt knows.

PACKAGES=(postgresql-15 postgresql-15-btc-ingest postgresql-15-pgvector)
CLIENT_PACKAGES=(python3-venv python3-pip python3-psycopg python3-tqdm)
# The vendor's package is the Community edition as a rule, Debian's and the bundle's own is the Apache edition.
TIMESCALEDB_PACKAGES=(timescaledb-2-postgresql-15 postgresql-15-timescaledb)
APT_OPTIONS=()
# shellcheck disable=SC2034
RESTART_NEEDED=

apt() { DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "${APT_OPTIONS[@]}" "$@"; }
has_candidate() {
    local policy
    policy=$(apt-cache "${APT_OPTIONS[@]}" policy "$1" 2>/dev/null)
    [[ $policy == *'Candidate: '[!\(]* ]]
}
version_of() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || true; }

# Leaves the directory of the bundle in BUNDLE_DIR, checked, and has apt see nothing else.
open_bundle() {
    BUNDLE_DIR=
    if [ -z "$BUNDLE" ]; then
        say 'No bundle: packages come from the sources that apt knows.'
        forget_vendor_repository
        quietly apt update
        add_vendor_repository
        return
    fi
    case $BUNDLE in
        s3://*) fetch_bundle ;;
        *) [ -d "$BUNDLE" ] || fail "there is no directory $BUNDLE"; BUNDLE_DIR=$(cd "$BUNDLE" && pwd) ;;
    esac
    check_bundle
    local lists=/var/lib/btc_ingest/apt
    mkdir -p "$lists/lists/partial" "$lists/parts"
    EDITION_REASON='the bundle has it'
    # Trusted, as every file was compared with its checksum. apt's own user may not read every directory.
    echo "deb [trusted=yes] file:$BUNDLE_DIR/debs ./" >"$lists/sources.list"
    APT_OPTIONS=(-o "Dir::Etc::sourcelist=$lists/sources.list" -o "Dir::Etc::sourceparts=$lists/parts"
                 -o "Dir::State::lists=$lists/lists" -o APT::Sandbox::User=root)
    quietly apt update
}

fetch_bundle() {
    local file=/var/lib/btc_ingest/bundle.tar
    BUNDLE_DIR=/var/lib/btc_ingest/bundle
    mkdir -p /var/lib/btc_ingest
    command -v python3 >/dev/null || fail 'python3 is needed to fetch the bundle' 'a bundle in a directory'
    [ -z "$S3_ENDPOINT" ] || export AWS_ENDPOINT_URL_S3=$S3_ENDPOINT
    say "fetching $BUNDLE"
    python3 "$here/lib/s3_get.py" --region "${S3_REGION:-us-east-1}" "$BUNDLE" "$file" ||
        fail "$BUNDLE cannot be fetched" 'the role of the instance, --region, the S3 endpoint of the VPC'
    rm -rf "$BUNDLE_DIR" && mkdir "$BUNDLE_DIR"
    tar -C "$BUNDLE_DIR" --no-same-owner -xf "$file"
    rm -f "$file"
}

# Every file has a checksum, and every checksum is right.
check_bundle() {
    [ -e "$BUNDLE_DIR/SHA256SUMS" ] || fail "$BUNDLE is no bundle: it has no SHA256SUMS" 'build_bundle.sh'
    (cd "$BUNDLE_DIR" && sha256sum --quiet --strict --check SHA256SUMS) ||
        fail "$BUNDLE is damaged: a checksum is wrong"
    local unknown
    unknown=$(cd "$BUNDLE_DIR" && comm -13 <(sed -E 's/^[0-9a-f]{64} [ *]//' SHA256SUMS | sort) \
        <(find debs -type f -printf '%p\n' | sort))
    [ -z "$unknown" ] || fail "$BUNDLE has packages without a checksum: $(echo "$unknown" | head -n 3)"
    say "bundle: every checksum of $(wc -l <"$BUNDLE_DIR/SHA256SUMS") files is right"
}

# First of all: they may be the way in, such as SSM's agent.
install_extra_packages() {
    local packages=()
    read -ra packages <<<"$EXTRA_PACKAGES"
    [ ${#packages[@]} -eq 0 ] || add_packages "${packages[@]}"
}

add_packages() { quietly apt install -y --no-install-recommends "$@"; }

install_packages() {
    local name timescaledb='' before after
    for name in "${TIMESCALEDB_PACKAGES[@]}"; do
        if [ -z "$timescaledb" ] && has_candidate "$name"; then timescaledb=$name; fi
    done
    for name in "${PACKAGES[@]}" "${timescaledb:-${TIMESCALEDB_PACKAGES[1]}}"; do
        has_candidate "$name" || fail "apt does not know the package $name" \
            'infra/database/scripts/build_bundle.sh makes a bundle with it; then: --bundle DIR'
    done
    # The cluster is made below, with the data directory on its disk.
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    before=$(versions "$timescaledb")
    add_packages "${PACKAGES[@]}" "$timescaledb"
    after=$(versions "$timescaledb")
    # shellcheck disable=SC2034
    [ "$before" = "$after" ] || RESTART_NEEDED=yes
    install_toolkit
    add_packages "${CLIENT_PACKAGES[@]}"
    for name in "${PACKAGES[@]}" "$timescaledb"; do
        say "$(printf '%-28s %s' "$name" "$(version_of "$name")")"
    done
    say "TimescaleDB's edition: $(edition), because $EDITION_REASON"
}

versions() { local name; for name in "${PACKAGES[@]}" "$1"; do version_of "$name"; echo; done; }

install_toolkit() {
    local name
    for name in timescaledb-toolkit-postgresql-15 postgresql-15-timescaledb-toolkit; do
        if has_candidate "$name"; then add_packages "$name"; return; fi
    done
}
