# shellcheck shell=bash
# Sourced by test_host_inside.sh: a host that is set up without a bundle. apt knows the bundle's packages as a source of
# its own; TimescaleDB's vendor is not reached, does not answer, or is served on loopback: with a line of sources.list,
# and under its own name, by TLS and with a signed list.
# shellcheck disable=SC2034,SC2154,SC2016

vendor_list=/etc/apt/sources.list.d/btc_ingest-timescaledb.list
vendor_key=/etc/apt/keyrings/btc_ingest-timescaledb.asc
vendor_scripts=/bundle/repo/infra/database/scripts
pool=$out/vendor
apache='Apache (no compression, no continuous aggregates, no jobs)'

set_up_without_bundle() {
    local log=$1
    shift
    runs 'the setup runs without a bundle' "$log" $vendor_scripts/setup_timescale.sh --no-password --memory 900 \
        --cores 2 "$@" market mlops
}
edition_in() { sed -n "s/^ *TimescaleDB's edition: //p" "$out/$1"; }
# The functions of the setup by themselves, up to the lists of packages; $1 is bash that comes before.
lists_of_packages() {
    in_host bash -euo pipefail -c "cd $vendor_scripts; for part in say packages vendor; do . lib/\$part.sh; done
        here=\$PWD BUNDLE='' TIMESCALEDB_REPOSITORY=''
        $1
        open_bundle; echo \"\$EDITION_REASON\"" >"$out/lists.log" 2>&1 ||
        wrong 'the lists of packages are read' "$(cat "$out/lists.log")"
}
# What a vendor that is not reached may leave: a line, a key. And whether apt is content without it.
left_behind() {
    in_host ls $vendor_list $vendor_key 2>/dev/null || true
    in_host apt-get -q update --error-on=any >"$out/update.log" 2>&1 || cat "$out/update.log"
}

# The vendor's repository: the bundle's own TimescaleDB under the vendor's name, as Debian lays repositories out.
make_vendor() {
    local tree=$out/vendor-tree dist=$pool/timescale/timescaledb/debian/dists/bookworm
    rm -rf "$pool" "$tree" && mkdir -p "$pool/flat" "$dist/main/binary-$(dpkg --print-architecture)"
    dpkg-deb -R "$bundle"/debs/postgresql-15-timescaledb_*.deb "$tree"
    sed -i -e 's/^Package: .*/Package: timescaledb-2-postgresql-15/' \
        -e 's/^Conflicts: .*/Conflicts: postgresql-15-timescaledb/' "$tree/DEBIAN/control"
    dpkg-deb -Zgzip -z1 --root-owner-group --build "$tree" "$pool/flat/timescaledb.deb" >/dev/null
    (cd "$pool/flat" && dpkg-scanpackages . >Packages 2>/dev/null)
    cp "$pool/flat/timescaledb.deb" "$dist/../../"
    (cd "$dist/../.." && dpkg-scanpackages . >"$dist/main/binary-$(dpkg --print-architecture)/Packages" 2>/dev/null)
    (cd "$dist" && {
        printf 'Origin: test\nSuite: bookworm\nComponents: main\nArchitectures: %s\nDate: %s\nSHA256:\n' \
            "$(dpkg --print-architecture)" "$(LC_ALL=C date -u '+%a, %d %b %Y %T UTC')"
        find main -type f -exec sh -c 'printf " %s %s %s\n" "$(sha256sum "$1" | cut -c -64)" \
            "$(stat -c %s "$1")" "$1"' sh {} \;
    } >Release)
}
# Signs it, and has the host trust a certificate for the vendor's name, under which it is served.
sign_vendor() {
    local keys=$out/vendor-keys dist=$pool/timescale/timescaledb/debian/dists/bookworm
    rm -rf "$keys" && mkdir -m 700 "$keys"
    gpg --homedir "$keys" --batch --quiet --passphrase '' --quick-generate-key test@localhost rsa2048 sign never
    gpg --homedir "$keys" --batch --quiet --clearsign -o "$dist/InRelease" "$dist/Release"
    gpg --homedir "$keys" --batch --armor --export >"$pool/timescale/timescaledb/gpgkey"
    gpgconf --homedir "$keys" --kill all
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=packagecloud.io \
        -addext subjectAltName=DNS:packagecloud.io -keyout "$keys/tls.key" -out "$keys/tls.crt" 2>/dev/null
    cp "$keys/tls.crt" "$root/usr/local/share/ca-certificates/vendor.crt"
    in_host update-ca-certificates >/dev/null 2>&1
    echo '127.0.0.1 packagecloud.io' >>"$root/etc/hosts"
    serve 443 "$keys/tls.crt" "$keys/tls.key"
}
# Serves the repository on a port of loopback: PORT [CERTIFICATE KEY]
serve() {
    python3 - "$pool" "$@" >/dev/null 2>&1 <<'PYTHON' &
import functools, http.server, ssl, sys
folder, port, *tls = sys.argv[1:]
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), handler)
if tls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
PYTHON
    wait_for_port "$1"
}
wait_for_port() { until (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do sleep 0.1; done; }

vendor_is_not_reached() {
    local begin
    set_up_without_bundle vendor.log
    must_be 'without the vendor the setup takes the Apache edition, and says why' "$(edition_in vendor.log)" \
        "$apache, because the vendor's package repository cannot be used"
    must_be 'it says in one line what it has tried' \
        "$(grep -c "TimescaleDB's vendor: https://packagecloud.io/timescale/timescaledb/gpgkey: " "$out/vendor.log")" 1
    must_be 'and leaves nothing behind' "$(left_behind)" ''
    must_be 'without --allow the last line says what remains' "$(tail -n 1 "$out/vendor.log")" \
        '   Nothing may be loaded yet. Run this again with: --allow s3://BUCKET/PREFIX --region REGION'
    huge_pages_are_used
    # One that takes connections and never answers: first the list, then the key.
    python3 -c 'import socket, time
server = socket.create_server(("127.0.0.1", 8766))
time.sleep(3600)' &
    wait_for_port 8766
    begin=$SECONDS
    lists_of_packages 'TIMESCALEDB_REPOSITORY="deb [trusted=yes] http://127.0.0.1:8766 ./"'
    must_be 'a repository that does not answer is given up in time, without a trace' \
        "$((SECONDS - begin <= 25)), $(tail -n 1 "$out/lists.log"), $(left_behind)" \
        "1, the vendor's package repository cannot be used, "
    begin=$SECONDS
    lists_of_packages 'TIMESCALEDB_REPOSITORY=vendor VENDOR_URL=http://127.0.0.1:8766'
    must_be 'so is a key that does not come' \
        "$((SECONDS - begin <= 25)), $(grep -c 'timed out\|no answer' "$out/lists.log"), $(left_behind)" '1, 1, '
}

vendor_is_reached() {
    local before line='deb [trusted=yes] http://127.0.0.1:8765/flat ./'
    make_vendor
    serve 8765
    lists_of_packages 'TIMESCALEDB_REPOSITORY=vendor VENDOR_URL=http://127.0.0.1:8765/nothing'
    must_be 'a key that is not there is named' \
        "$(grep -c 'nothing/gpgkey: HTTP Error 404' "$out/lists.log"), $(left_behind)" '1, '
    lists_of_packages ''
    must_be 'a host with the Apache edition keeps it, unless it is told otherwise' "$(tail -n 1 "$out/lists.log")" \
        'it is installed already; TIMESCALEDB_REPOSITORY=vendor asks the vendor'
    set_up_without_bundle vendor.log --timescaledb-repository "$line" --allow s3://nowhere/ --region us-east-1 \
        --endpoint http://127.0.0.1:9000
    must_be 'the package comes from the repository that the setup is told' \
        "$(in_host dpkg-query -W -f '${db:Status-Abbrev}' timescaledb-2-postgresql-15), $(<"$root$vendor_list")" \
        "ii , $line"
    must_be 'the edition is that of the files and not of the name' "$(edition_in vendor.log)" \
        "$apache, because the vendor's package repository is reached"
    before=$(state)
    set_up_without_bundle vendor.log
    must_be 'the next run knows the repository, and changes nothing' "$(state), $(edition_in vendor.log)" \
        "$before, $apache, because apt knows the vendor's package"
    touch "$root/usr/lib/postgresql/15/lib/timescaledb-tsl-$(sql "SELECT default_version
        FROM pg_available_extensions WHERE name = 'timescaledb'").so"
    must_be 'with the library of the Community edition it says Community' \
        "$(in_host bash -c ". $vendor_scripts/lib/vendor.sh; edition")" Community
    lists_of_packages 'TIMESCALEDB_REPOSITORY=none'
    must_be 'none takes the repository back' "$(tail -n 1 "$out/lists.log"), $(left_behind)" \
        "the vendor's package was there before, "
}

# The line and the key that the setup has for the vendor, as they are.
vendor_by_name() {
    if ! command -v gpg >/dev/null; then printf '   skipped: no gpg signs a repository\n'; return; fi
    sign_vendor
    lists_of_packages ''
    must_be 'a host finds the vendor by itself: a signed list, by TLS' \
        "$(tail -n 1 "$out/lists.log"), $(<"$root$vendor_list")" "the vendor's package repository is reached, \
deb [signed-by=$vendor_key] https://packagecloud.io/timescale/timescaledb/debian/ bookworm main"
    must_be 'apt takes the package from there' "$(in_host apt-cache policy timescaledb-2-postgresql-15 |
        grep -c https://packagecloud.io/timescale/timescaledb/debian)" 1
    rm "$root$vendor_list"
    gpg --homedir "$out/vendor-keys" --batch --yes --quiet --passphrase '' --quick-generate-key other@localhost \
        rsa2048 sign never
    gpg --homedir "$out/vendor-keys" --batch --yes --quiet --clearsign -u other@localhost \
        -o "$pool/timescale/timescaledb/debian/dists/bookworm/InRelease" \
        "$pool/timescale/timescaledb/debian/dists/bookworm/Release"
    gpgconf --homedir "$out/vendor-keys" --kill all
    lists_of_packages 'TIMESCALEDB_REPOSITORY=vendor'
    must_be 'a list that another key has signed is refused, without a trace' \
        "$(grep -c 'packagecloud.io.*not signed\|NO_PUBKEY' "$out/lists.log"), $(left_behind)" '1, '
}

# The pages of this machine are those of all its roots: few, and given back at the end.
huge_pages_are_used() {
    local wanted
    wanted=$(sed -n 's/^vm.nr_hugepages = //p' "$root/etc/sysctl.d/60-btc_ingest.conf" 2>/dev/null || true)
    if grep -q 'huge pages: the kernel cannot reserve\|huge pages: .* are reserved by you' "$out/vendor.log"; then
        printf '   skipped: this machine gives no huge pages: %s\n' "$(grep 'huge pages' "$out/vendor.log")"
        return
    fi
    must_be 'the setup says what it has reserved' \
        "$(grep -c "huge pages: ${wanted:-none} are reserved$" "$out/vendor.log")" 1
    must_be 'the setup reserves huge pages, and the shared memory is in them' "$(sql "SELECT $wanted =
        current_setting('shared_memory_size_in_huge_pages')::int"), $(grep -c anon_hugepage \
        "$root/proc/$(head -n 1 "$root/var/lib/postgresql/15/main/postmaster.pid")/maps")" 't, 1'
}

without_a_bundle() {
    printf '\n== Without a bundle\n'
    if ! compgen -G "$bundle/debs/postgresql-15-timescaledb_*.deb" >/dev/null; then
        printf "   skipped: the bundle has the vendor's package\n"
        return
    fi
    pages=$(</proc/sys/vm/nr_hugepages)
    boot sixth with-huge-pages
    mkdir -p "$root/etc/apt/sources.list.d"
    echo 'deb [trusted=yes] file:/bundle/debs ./' >"$root/etc/apt/sources.list.d/local.list"
    vendor_is_not_reached
    vendor_is_reached
    vendor_by_name
    status=0
    in_host runuser -u postgres -- /opt/btc_ingest/client/bin/python $vendor_scripts/backfill_s3_ticks.py \
        --s3-bucket nowhere --dsn dbname=market >"$out/backfill.log" 2>&1 || status=$?
    must_be 'a backfill that stops, as there is no such bucket, is exit code 4' \
        "$status, $(grep -c '^S3003: ' "$out/backfill.log")" '4, 1'
    stop
}
