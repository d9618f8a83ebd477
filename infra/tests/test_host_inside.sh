#!/usr/bin/env bash
# The second half of test_host.sh, inside its namespaces: test_host_inside.sh WORK BUNDLE NEXT_BUNDLE
# [--quick | --times | --vendor]
set -euo pipefail
out=$1 bundle=$2 next=$3 only=${4-}
tests=$(cd "$(dirname "$0")" && pwd)
password='s3cret-Passw0rd'
access=HOSTTESTKEY secret=only-for-the-test-on-loopback
setup=/opt/btc_ingest/repo/infra/database/scripts/setup_timescale.sh
passed=0

check() { passed=$((passed + 1)); printf '   ok: %s\n' "$1"; }
# Runs a command in the host with its output in a file, which is shown if it fails.
runs() {
    local what=$1 log=$out/$2
    shift 2
    in_host "$@" >"$log" 2>&1 || { cat "$log" >&2; wrong "$what"; }
}
wrong() { printf '\nFAILED: %s\n' "$1" >&2; [ $# -lt 2 ] || printf '%s\n' "$2" >&2; exit 1; }
must_be() { [ "$2" = "$3" ] || wrong "$1" "found: $2, wanted: $3"; check "$1"; }
must_fail() {
    local what=$1
    shift
    if "$@" >"$out/refused.log" 2>&1; then wrong "$what" "$(cat "$out/refused.log")"; fi
}
# As root's is on Debian.
root_path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
in_host() { chroot "$root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH="$root_path" "$@"; }
sql() { in_host runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d market -c "$1"; }
as_mlops() { in_host PGPASSWORD="$password" psql -XAtq -v ON_ERROR_STOP=1 "$1" -c "$2"; }

# shellcheck source=test_host_backup.sh
. "$tests/test_host_backup.sh"
# shellcheck source=test_host_rebuild.sh
. "$tests/test_host_rebuild.sh"
# shellcheck source=test_host_vendor.sh
. "$tests/test_host_vendor.sh"
# shellcheck source=time_host.sh
. "$tests/time_host.sh"

# This machine may have no ip of its own.
ip() { chroot "$out/base" ip "$@"; }
# Nothing but loopback, with the addresses of the metadata, of the host in its VPC, and of a place outside.
ip link set lo up
for address in 169.254.169.254/32 10.20.0.5/32 10.99.0.5/32; do ip address add "$address" dev lo; done
must_be 'the host has loopback and no other network' "$(ip -br link | wc -l)" 1
if [ "$only" != --times ]; then
    mkdir -p "$out/buckets/landing-zone/Binance/BROKEN"
    echo 'no Parquet' >"$out/buckets/landing-zone/Binance/BROKEN/a.parquet"
fi
"$out/btc-ingest-s3" --root "$out/buckets" --access-key "$access" --secret-key "$secret" --port 9000 \
    >"$out/s3.log" 2>&1 &
python3 "$tests/metadata_server.py" "$access" "$secret" &
mkdir -p "$backup_root/backup"
start_backup_s3
until [ -s "$out/s3.log" ] && (exec 3<>/dev/tcp/169.254.169.254/80) 2>/dev/null; do sleep 0.1; done

# A host is the bare system with a layer of its own over it.
mount -t tmpfs tmpfs /mnt
boot() {
    root=/mnt/$1
    local reserves=${2-}
    mkdir -p "$root" "$out/hosts/$1"
    rm -rf "$out/hosts/$1" && mkdir -p "$out/hosts/$1/upper" "$out/hosts/$1/work"
    mount -t overlay overlay -o "lowerdir=$out/base,upperdir=$out/hosts/$1/upper,workdir=$out/hosts/$1/work" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    # The kernel's memory is that of this machine: one host only may reserve pages of it.
    if [ "$reserves" != with-huge-pages ]; then
        mount --bind "$root/proc/sys/vm" "$root/proc/sys/vm"
        mount -o remount,ro,bind "$root/proc/sys/vm"
    fi
    # Nothing here has to survive a loss of power.
    echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/test"
    mkdir -p "$root/bundle" "$root/next"
    mount --bind "$bundle" "$root/bundle"
    [ -z "$next" ] || mount --bind "$next" "$root/next"
    trust_backup_s3
    hostname database-host
    printf '127.0.0.1 localhost database-host\n' >"$root/etc/hosts"
}
# What a run of the setup may change: files, and since when the server runs.
state() { sql "SELECT pg_postmaster_start_time()"; in_host find /etc/postgresql -type f -exec sha256sum {} + | sort; }
stop() { in_host pg_ctlcluster 15 main stop -m fast || true; umount -l "$root"; }

devices=() pages=''
leave() {
    local each
    for each in "${devices[@]}"; do losetup -d "$each" || true; done
    [ -z "$pages" ] || echo "$pages" >/proc/sys/vm/nr_hugepages
}
trap leave EXIT
case $only in
    --times) time_host; exit ;;
    --vendor) without_a_bundle; printf '\n%s passed, 0 failed\n' "$passed"; exit ;;
esac

disk='' device=''
rm -f "$out/disk" && truncate -s 6G "$out/disk"
if [ -z "$only" ] && device=$(losetup --find --show "$out/disk" 2>/dev/null); then
    disk=DATA_DISK=$device
    devices+=("$device")
elif [ -z "$only" ]; then
    printf '   skipped: no loop device, so there is no data disk\n'
fi

boot first
printf '\n== A damaged bundle\n'
cp -a "$bundle" "$root/tmp/damaged"
package=$(find "$root/tmp/damaged/debs" -name 'postgresql-15-btc-ingest_*.deb')
printf 'x' >>"$package"
must_fail 'a bundle with a wrong checksum is refused' in_host \
    "/bundle/repo/${setup#/opt/btc_ingest/repo/}" --no-password --bundle /tmp/damaged market mlops
grep -q 'a checksum is wrong' "$out/refused.log" || wrong 'the refusal says why' "$(cat "$out/refused.log")"
[ ! -e "$root/usr/lib/postgresql" ] || wrong 'nothing is installed from a damaged bundle'
rm -rf "$root/tmp/damaged"
check 'a bundle with a wrong checksum is refused, and nothing is installed'

if [ -n "$disk" ]; then
    truncate -s 200M "$out/disk2" && printf 'not empty' | dd of="$out/disk2" conv=notrunc status=none
    other=$(losetup --find --show "$out/disk2")
    devices+=("$other")
    must_fail 'a disk that is not empty is not formatted' in_host "/bundle/repo/${setup#/opt/btc_ingest/repo/}" \
        --no-password --bundle /bundle --data-disk "$other" market mlops
    must_be 'a disk that is not empty is refused and not formatted' \
        "$(grep -o 'is not empty and has no file system' "$out/refused.log"), $(head -c 9 "$out/disk2")" \
        'is not empty and has no file system, not empty'
fi

printf '\n== The first boot\n'
useradd --root "$root" --create-home --shell /bin/bash admin
python3 "$tests/user_data.py" DATABASE=market DATABASE_USER=mlops BUNDLE=s3://artifacts/btc_ingest-bundle.tar \
    ALLOW=s3://landing-zone/Binance/,s3://landing-zone/Corrections/ S3_REGION=us-east-1 \
    S3_ENDPOINT=http://127.0.0.1:9000 CLIENT_NETWORK=10.20.0.0/16 \
    BACKUP=s3://backup/pgbackrest BACKUP_ENDPOINT=localhost:9443 BACKUP_CA_FILE=/etc/btc_ingest/ca.pem \
    ${disk:+"$disk"} EXTRA_PACKAGES= >"$root/root/user_data.sh"
in_host AWS_ENDPOINT_URL_S3=http://127.0.0.1:9000 bash /root/user_data.sh ||
    { cat "$root/var/log/btc_ingest-setup.log" >&2; wrong 'the user data runs'; }
check 'user data fetches the bundle with the role of the instance and sets the host up'
[ -z "$disk" ] || must_be 'the empty data disk is formatted and mounted' \
    "$(in_host findmnt -n -o SOURCE,FSTYPE /var/lib/postgresql | tr -s ' ')" "$device ext4"
must_be 'without a password the application has none' \
    "$(sql "SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'mlops'")" t

printf '\n== The setup line of the requirements\n'
runs 'the setup line runs' setup.log bash -c "ln -sfn /opt/btc_ingest/repo ~/repo
    cd ~/repo/infra/database/scripts
    sudo chmod +x setup_timescale.sh
    sudo ./setup_timescale.sh market mlops $password"
cat "$out/setup.log"
check 'sudo ./setup_timescale.sh market mlops <password> runs as it is written'
! grep -rqF "$password" "$out/setup.log" "$root/var/log" "$root/etc" || wrong 'the password is in no output and no log'
check 'the password is in no output, log or setting'
must_be 'doctor() finds nothing wrong' "$(sql 'SELECT * FROM btc_ingest.doctor() WHERE NOT ok')" ''
must_be 'the application owns nothing' "$(sql "SELECT count(*) FROM pg_shdepend
    WHERE refobjid = 'mlops'::regrole AND deptype = 'o'")" 0
must_be 'there are worker slots for all' "$(sql "SELECT current_setting('max_worker_processes')::int
    >= current_setting('timescaledb.max_background_workers')::int + current_setting('btc_ingest.workers')::int
     + current_setting('btc_ingest.max_backfill_workers')::int + 2 + current_setting('max_parallel_workers')::int")" t

printf '\n== Clients\n'
inside='host=10.20.0.5 dbname=market user=mlops'
must_be 'a client of the VPC connects by TLS' \
    "$(as_mlops "$inside sslmode=require" 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()')" t
must_fail 'without TLS it is refused' as_mlops "$inside sslmode=disable" 'SELECT 1'
check 'without TLS it is refused'
must_fail 'an address outside is refused' as_mlops 'host=10.99.0.5 dbname=market user=mlops sslmode=require' 'SELECT 1'
check 'an address outside of the VPC is refused'
must_fail 'a wrong password is refused' in_host PGPASSWORD=wrong psql "$inside" -c 'SELECT 1'
check 'a wrong password is refused'

printf '\n== A slice\n'
slice=s3://landing-zone/Binance/BTCUSDT/2024/08/08/BTCUSDT_20240808T1200Z.parquet
must_be 'the application loads a slice' "$(as_mlops "$inside" \
    "SELECT outcome, rows_inserted FROM btc_ingest.load_s3_slice('$slice')")" 'loaded|500'

if [ "$only" = --quick ]; then
    stop
    printf '\n%s passed, 0 failed\n' "$passed"
    exit
fi

printf '\n== The backfill lines of the requirements\n'
client_path=/opt/btc_ingest/client/bin:/usr/sbin:/usr/bin:/sbin:/bin
runs 'the backfill lines run' backfill.log PATH=$client_path bash -c "cd ~/repo
    pip install -r infra/database/scripts/requirements.txt
    python infra/database/scripts/backfill_s3_ticks.py \
        --s3-bucket landing-zone \
        --s3-prefix Binance/BTCUSDT/ \
        --table market_data.btc_ticks \
        --dsn postgresql://mlops:$password@10.20.0.5:5432/market"
tail -n 3 "$out/backfill.log"
check 'pip install and backfill_s3_ticks.py run as they are written, without a network'
grep -q 'done: 2 objects loaded, 1 loaded before, 0 failed' "$out/backfill.log" || wrong 'the last line counts objects'
must_be 'every tick is there once' \
    "$(sql 'SELECT count(*), count(DISTINCT trade_id) FROM market_data.btc_ticks')" '1500|1500'

# Starts the script, in the background, and waits for its exit code if $1 is not `started`.
backfill_script=(chroot "$root" /usr/bin/env -i PATH="$client_path" LANG=C.UTF-8 PGPASSWORD="$password"
                 python /opt/btc_ingest/repo/infra/database/scripts/backfill_s3_ticks.py --dsn "$inside")
backfill() {
    local wait_for=$1
    shift
    "${backfill_script[@]}" "$@" >"$out/backfill.log" 2>&1 &
    program=$!
    [ "$wait_for" = started ] || { status=0; wait "$program" || status=$?; }
}
backfill ended --s3-bucket landing-zone --table market_data.other
must_be 'another table is exit code 2' "$status" 2
backfill ended --s3-bucket landing-zone --s3-prefix Binance/BROKEN/
must_be 'an object that cannot be loaded is exit code 1' "$status" 1
backfill ended --s3-bucket another-bucket --s3-prefix Binance/
must_be 'a prefix that is not allowed is exit code 3' "$status" 3
backfill ended --s3-bucket landing-zone --s3-prefix Binance/BTCUSDT/ --dry-run
must_be 'a dry run is exit code 0' "$status" 0

# Interrupts the script while its backfill is held.
unfinished() {
    sql "SELECT count(*) FROM btc_ingest.backfill_status() WHERE status IN ('pending', 'listing', 'loading')"
}
interrupt() {
    backfill started --s3-bucket landing-zone --s3-prefix Binance/BTCUSDT/2024/ --on-interrupt "$1"
    for _ in $(seq 300); do
        # The script knows the number of its backfill once it has shown the bar with it.
        if [ "$(unfinished)" = 1 ] && grep -q ticks "$out/backfill.log"; then break; fi
        sleep 0.1
    done
    kill -TERM "$program"
    status=0
    wait "$program" || status=$?
}
sql 'SELECT btc_ingest.pause_ingest()' >/dev/null
interrupt leave
must_be 'an interrupt may leave the backfill running: exit code 130' "$status, $(unfinished)" '130, 1'
interrupt cancel
must_be 'an interrupt may cancel the backfill: exit code 5' "$status, $(unfinished)" '5, 0'
# Ctrl-C at a terminal; $1 is typed at the question. Prints the exit code, what the script says, and what is unfinished.
at_a_terminal() {
    status=0
    python3 "$tests/terminal.py" "$out/terminal.log" ' ticks, ' '^C' 'cancel it?' "$1" -- "${backfill_script[@]}" \
        --s3-bucket landing-zone --s3-prefix Binance/BTCUSDT/2024/ || status=$?
    echo "$status, $(grep -oE 'goes on: |is cancelled|Traceback' "$out/terminal.log" | paste -sd,), $(unfinished)"
}
must_be 'Ctrl-C at a terminal asks, and "n" leaves the backfill running' "$(at_a_terminal 'n\n')" '130, goes on: , 1'
must_be 'a second Ctrl-C at the question leaves it running as well' "$(at_a_terminal '^C')" '130, goes on: , 1'
must_be '"y" cancels it' "$(at_a_terminal 'y\n')" '5, is cancelled, 0'
sql 'SELECT btc_ingest.resume_ingest()' >/dev/null

printf '\n== The setup once more\n'
before=$(state)
runs 'the setup runs again' again.log BTC_INGEST_PASSWORD="$password" "$setup" market mlops
must_be 'a second run changes no file and restarts nothing' "$(state)" "$before"
must_be 'the ticks are there' "$(sql 'SELECT count(*) FROM market_data.btc_ticks')" 1500
runs 'the setup runs with --logical-replication' again.log \
    "$setup" --no-password --logical-replication market mlops
must_be '--logical-replication restarts the server with wal_level = logical' "$(sql 'SHOW wal_level')" logical
sql 'CREATE PUBLICATION of_the_table FOR TABLE market_data.btc_ticks'
sql 'CREATE PUBLICATION of_the_schema FOR TABLES IN SCHEMA _timescaledb_internal'
sql "SELECT pg_create_logical_replication_slot('ticks', 'pgoutput')" >/dev/null
sql "INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id)
     VALUES ('2024-10-01 00:00+00', '2024-10-01 00:00+00', 'BTCUSDT', 1)"
must_be 'a publication of the table lacks later chunks, one of the schema has them' "$(sql "
    SELECT pubname, count(*) FROM pg_publication_tables WHERE tablename LIKE '\_hyper\_%' GROUP BY 1 ORDER BY 1")" \
    "of_the_schema|2
of_the_table|1"
# A message of pgoutput that begins with I (73) is an insert.
inserts() {
    sql "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('ticks', NULL, NULL, 'proto_version', '1',
         'publication_names', '$1') WHERE get_byte(data, 0) = 73"
}
must_be 'the tick of a later chunk is in the stream of the second one only' \
    "$(inserts of_the_table), $(inserts of_the_schema)" '0, 1'
sql "SELECT pg_drop_replication_slot('ticks')"
# No object holds it, so that a host from nothing would lack it.
sql "DELETE FROM market_data.btc_ticks WHERE bucket_5m = '2024-10-01 00:00+00'"

printf '\n== An upgrade while a backfill runs\n'
loaded() { sql "SELECT count(*) FROM ingestion.objects WHERE s3_uri LIKE '%ETHUSDT%' AND status = 'loaded'"; }
# Waits until a number of objects is loaded, or two minutes.
await_loaded() {
    for _ in $(seq 1200); do
        if [ "$(loaded)" -ge "$1" ]; then return; fi
        sleep 0.1
    done
    wrong "$1 objects are loaded" "$(loaded)"
}
backfill started --s3-bucket landing-zone --s3-prefix Binance/ETHUSDT/ --on-interrupt leave
await_loaded 20
[ "$(loaded)" -lt 1000 ] || wrong 'objects are left to load when the upgrade begins'
runs 'the setup upgrades' upgrade.log "/next/repo/${setup#/opt/btc_ingest/repo/}" --no-password --bundle /next \
    market mlops
wait "$program" || true
must_be 'the setup has installed the next version' \
    "$(sql "SELECT extversion FROM pg_extension WHERE extname = 'btc_ingest'")" 0.999.0
must_be 'with its function and its column' \
    "$(sql 'SELECT btc_ingest.next_version(), max(priority) FROM ingestion.objects')" 'next|0'
await_loaded 1000
must_be 'the backfill goes on, and every tick is there once' "$(sql "SELECT count(*), count(DISTINCT trade_id)
    FROM market_data.btc_ticks WHERE symbol = 'ETHUSDT'")" '200000|200000'
must_be 'doctor() names the broken object and nothing else' \
    "$(sql 'SELECT name FROM btc_ingest.doctor() WHERE NOT ok')" quarantined

back_up_and_recover
all=$(sums)
if [ -n "$disk" ]; then
    printf '\n== A new host with the old disk\n'
    stop
    boot second
    set_up adopt.log --data-disk "$device" "${backup_options[@]}"
    must_be 'a cluster on the data disk is adopted with its ticks' "$(sums)" "$all"
    must_be 'it is archived as before, as the passphrase is on the disk' "$(findings)" ''
fi
lose_the_host
follow_the_page
from_nothing
without_a_bundle
printf '\n%s passed, 0 failed\n' "$passed"
