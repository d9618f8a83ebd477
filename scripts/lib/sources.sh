# shellcheck shell=bash
# Sourced: TimescaleDB and pgvector from the sources of later Debian releases, which build against PostgreSQL 15.
# Needs `work`, a directory of its own, PG_CONFIG, and in `as_root` what lets `install` write where it is to write.
# shellcheck disable=SC2119,SC2120

# Before it, indexes of the kind hnsw have faults.
OLDEST_PGVECTOR=0.8.4

# The source list is the machine's own main suite with the name of another release, so that mirrors and proxies keep
# working. sid has no suite of updates and none of security.
source_list() {
    local file release=$1 parts=$2
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -e "$file" ] || continue
        awk -v RS= '/(^|\n)Types:[^\n]*deb/ && /(^|\n)Suites:([^\n]* )?bookworm( |\n|$)/ { print $0 "\n" }' "$file" |
            sed -E "s/^Types:.*/Types: deb-src/; s/^Suites:.*/Suites: $release/" > "$parts/$(basename "$file")"
    done
    if [ -s /etc/apt/sources.list ]; then
        grep -hE '^deb .* bookworm ' /etc/apt/sources.list |
            sed -E "s/^deb /deb-src /; s/ bookworm / $release /" > "$parts/machine.list" || true
    fi
    find "$parts" -type f -empty -delete
    ls "$parts"/* >/dev/null 2>&1 || fail 'no apt source list was found' 'ls /etc/apt/sources.list.d'
}

# Downloads the source package NAME of RELEASE into $work/NAME/source.
fetch_source() {
    local parts=$work/parts-$2 lists=$work/lists-$2
    local options=(-o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$parts"
                   -o "Dir::State::lists=$lists" -o "APT::Sandbox::User=root")
    mkdir -p "$parts" "$lists/partial"
    source_list "$2" "$parts"
    rm -rf "${work:?}/${1:?}"
    mkdir "$work/$1"
    cd "$work/$1" || return
    # A caller may try another release, so nothing here relies on `set -e`.
    apt-get "${options[@]}" update && apt-get "${options[@]}" source --download-only "$1" &&
        dpkg-source -x ./*.dsc source
}

# Each builds in $work/NAME/source; `make install` with DESTDIR or without is the caller's.
build_timescaledb() (
    fetch_source timescaledb trixie
    cd source || return
    # The Apache edition is what Debian may ship: everything essential here works on it.
    BUILD_FORCE_REMOVE=true ./bootstrap -DAPACHE_ONLY=1 -DREGRESS_CHECKS=OFF -DWARNINGS_AS_ERRORS=OFF \
        -DCMAKE_BUILD_TYPE=Release -DSEND_TELEMETRY_DEFAULT=OFF -DPG_CONFIG="$PG_CONFIG"
    make -C build -j"$(nproc)"
)
has_built_timescaledb() { compgen -G "$work/timescaledb/source/build/src/timescaledb-*.so" >/dev/null; }
install_timescaledb() { "${as_root[@]}" make -C "$work/timescaledb/source/build" install "$@"; }

build_pgvector() (
    # sid changes daily, and a mirror may have its index and not its files.
    fetch_source pgvector sid || fetch_source pgvector trixie
    cd source || return
    # Without its -march=native: another host may run it.
    make -j"$(nproc)" OPTFLAGS= PG_CONFIG="$PG_CONFIG"
)
has_built_pgvector() {
    [ -e "$work/pgvector/source/vector.so" ] && is_new_pgvector "$work/pgvector/source/vector.control"
}
# Whether the control file of an extension is that of a pgvector without known faults.
is_new_pgvector() {
    [ -e "$1" ] && printf '%s\n' "$OLDEST_PGVECTOR" "$(control_version "$1")" | sort -CV
}
control_version() { sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" "$1"; }
install_pgvector() { "${as_root[@]}" make -C "$work/pgvector/source" install OPTFLAGS= PG_CONFIG="$PG_CONFIG" "$@"; }
