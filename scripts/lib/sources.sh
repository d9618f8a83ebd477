# shellcheck shell=bash
# Sourced: TimescaleDB and pgvector from the sources of the next Debian release, which build against PostgreSQL 15.
# Needs `work`, a directory of its own, PG_CONFIG, and in `as_root` what lets `install` write where it is to write.
# shellcheck disable=SC2119,SC2120

# The source list is the machine's own with the release's name replaced, so that mirrors and proxies keep working.
source_list() {
    local file
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -e "$file" ] || continue
        sed -E 's/^Types:.*/Types: deb-src/; s/bookworm/trixie/g' "$file" > "$work/parts/$(basename "$file")"
    done
    if [ -s /etc/apt/sources.list ]; then
        grep -hE '^deb ' /etc/apt/sources.list |
            sed -E 's/^deb /deb-src /; s/bookworm/trixie/g' > "$work/parts/machine.list" || true
    fi
    ls "$work"/parts/* >/dev/null 2>&1 || fail 'no apt source list was found' 'ls /etc/apt/sources.list.d'
}

fetch_source() {
    local options=(-o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$work/parts"
                   -o "Dir::State::lists=$work/lists" -o "APT::Sandbox::User=root")
    mkdir -p "$work/parts" "$work/lists/partial"
    source_list
    apt-get "${options[@]}" update
    rm -rf "${work:?}/${1:?}"
    mkdir "$work/$1"
    cd "$work/$1" || return
    apt-get "${options[@]}" source --download-only "$1"
    dpkg-source -x ./*.dsc source
}

# Each builds in $work/NAME/source; `make install` with DESTDIR or without is the caller's.
build_timescaledb() (
    fetch_source timescaledb
    cd source || return
    # The Apache edition is what Debian may ship: everything essential here works on it.
    BUILD_FORCE_REMOVE=true ./bootstrap -DAPACHE_ONLY=1 -DREGRESS_CHECKS=OFF -DWARNINGS_AS_ERRORS=OFF \
        -DCMAKE_BUILD_TYPE=Release -DSEND_TELEMETRY_DEFAULT=OFF -DPG_CONFIG="$PG_CONFIG"
    make -C build -j"$(nproc)"
)
has_built_timescaledb() { compgen -G "$work/timescaledb/source/build/src/timescaledb-*.so" >/dev/null; }
install_timescaledb() { "${as_root[@]}" make -C "$work/timescaledb/source/build" install "$@"; }

build_pgvector() (
    fetch_source pgvector
    cd source || return
    # Without its -march=native: another host may run it.
    make -j"$(nproc)" OPTFLAGS= PG_CONFIG="$PG_CONFIG"
)
has_built_pgvector() { [ -e "$work/pgvector/source/vector.so" ]; }
install_pgvector() { "${as_root[@]}" make -C "$work/pgvector/source" install OPTFLAGS= PG_CONFIG="$PG_CONFIG" "$@"; }
