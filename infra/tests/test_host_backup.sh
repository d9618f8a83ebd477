# shellcheck shell=bash
# Sourced by test_host_inside.sh: backups, point-in-time recovery, and a host from nothing. S3 for backups stands behind
# TLS, as pgBackRest asks for it.
# shellcheck disable=SC2154

backup_root=$out/backup-s3
start_backup_s3() {
    : >"$out/backup-s3.log"
    "$out/btc-ingest-s3" --root "$backup_root" --access-key "$access" --secret-key "$secret" --port 9443 \
        --tls-ca "$out/ca.pem" >"$out/backup-s3.log" 2>&1 &
    backup_s3=$!
    until grep -q listening "$out/backup-s3.log"; do sleep 0.1; done
}
# Its certificate is made anew at each start, so the host trusts the new authority.
trust_backup_s3() { install -D -m 644 "$out/ca.pem" "$root/etc/btc_ingest/ca.pem"; }
stop_backup_s3() { kill "$backup_s3"; wait "$backup_s3" 2>/dev/null || true; }

load() {
    sql "CALL btc_ingest.backfill('s3://landing-zone/Binance/$1/')" 2>/dev/null
    sql "SELECT status FROM btc_ingest.backfill_status() ORDER BY id DESC LIMIT 1"
}
sums() {
    sql "SELECT symbol, count(*), count(DISTINCT trade_id), sum(trade_id), sum(price * quantity)
           FROM market_data.btc_ticks GROUP BY symbol ORDER BY symbol"
}
unarchived() { sql "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"; }
# Waits until everything that was committed is in the bucket, or two minutes.
await_archived() {
    sql 'CHECKPOINT; SELECT pg_switch_wal()' >/dev/null
    for _ in $(seq 240); do
        if [ "$(unarchived)" = 0 ]; then return; fi
        sleep 0.5
    done
    wrong 'the write-ahead log is archived' "$(unarchived) segments wait"
}
findings() { sql "SELECT string_agg(name, ', ' ORDER BY name) FROM btc_ingest.doctor()
    WHERE NOT ok AND name IN ('WAL archive', 'backup')"; }
restore() { local log=$1; shift; runs 'the cluster is restored' "$log" "$scripts/restore_pitr.sh" --yes "$@"; }
scripts=/next/repo/infra/database/scripts

back_up_and_recover() {
    local before at segment begin
    printf '\n== Backups\n'
    runs 'a differential backup is made' backup.log /usr/local/sbin/btc_ingest-backup diff
    must_be 'there are a full and a differential backup, encrypted' "$(in_host runuser -u postgres -- \
        pgbackrest --stanza=main info | grep -cE 'full backup|diff backup|cipher: aes-256-cbc')" 3
    must_be 'nothing in the bucket names a table of ours' \
        "$(grep -rlE 'btc_ticks|landing-zone' "$backup_root" | wc -l)" 0
    must_be 'doctor() is content with the archive and the backup' "$(findings)" ''

    printf '\n== An outage of the archive\n'
    begin=$SECONDS
    stop_backup_s3
    must_be 'loads go on without the archive' "$(load SOLUSDT)" 'done'
    sql 'SELECT pg_switch_wal()' >/dev/null
    for _ in $(seq 300); do [ "$(findings)" != 'WAL archive' ] || break; sleep 0.5; done
    must_be 'doctor() names the archive that fails' "$(findings)" 'WAL archive'
    start_backup_s3
    trust_backup_s3
    printf '   the archive stood still for %s s\n' $((SECONDS - begin))
    await_archived
    must_be 'afterwards everything is archived, and doctor() is content' "$(findings)" ''

    printf '\n== A table is dropped\n'
    before=$(sums)
    at=$(sql 'SELECT clock_timestamp()')
    must_be 'more is loaded' "$(load ADAUSDT)" 'done'
    sql 'DROP TABLE market_data.btc_ticks CASCADE' 2>/dev/null
    await_archived
    restore restore.log --time "$at"
    grep -E 'restored the files|recovered in' "$out/restore.log"
    must_be 'the cluster is as it was before: sums are equal' "$(sums)" "$before"
    must_be 'the restored server loads what came later' "$(load ADAUSDT)" 'done'
    must_be 'each object once more adds nothing' "$(load SOLUSDT)" 'done'
    must_be 'every tick is there once' "$(sql "SELECT symbol, count(*), count(DISTINCT trade_id)
        FROM market_data.btc_ticks WHERE symbol IN ('ADAUSDT', 'SOLUSDT') GROUP BY 1 ORDER BY 1")" \
        'ADAUSDT|6000|6000
SOLUSDT|6000|6000'
    runs 'a backup after the restore' backup.log /usr/local/sbin/btc_ingest-backup full

    printf '\n== A damaged segment\n'
    must_be 'more is loaded' "$(load DOTUSDT)" 'done'
    segment=$(sql 'SELECT pg_walfile_name(pg_current_wal_insert_lsn())')
    await_archived
    before=$(sums)
    segment=$(find "$backup_root" -name "$segment-*")
    cp "$segment" "$out/segment"
    python3 - "$segment" <<'PYTHON'
import sys
with open(sys.argv[1], "r+b") as file:
    content = bytearray(file.read())
    content[len(content) // 2] ^= 0xFF
    file.seek(0)
    file.write(content)
PYTHON
    must_fail 'a damaged segment is refused' in_host "$scripts/restore_pitr.sh" --yes --latest
    must_be 'a damaged segment is refused, and the server does not run' \
        "$(grep -oE 'is damaged' "$out/refused.log" | head -n 1), $(in_host pg_ctlcluster 15 main status | head -n 1)" \
        'is damaged, pg_ctl: no server running'
    cp "$out/segment" "$segment"

    restore restore.log --latest
    must_be 'with the segment as it was, the cluster is restored to the last commit' "$(sums)" "$before"

    printf '\n== A lost data directory\n'
    await_archived
    rm -rf "$root/var/lib/postgresql/15/main"
    restore restore.log --latest
    grep -E 'restored the files|recovered in' "$out/restore.log"
    must_be 'from a deleted data directory to equal sums' "$(sums)" "$before"
    runs 'a backup after the restore' backup.log /usr/local/sbin/btc_ingest-backup full
    must_be 'doctor() is content again' "$(findings)" ''
}

# postgres_exporter, as the page on operations has it, reads what the queries of infra/database/monitoring ask for, and
# each metric of an alert is there.
monitor() {
    local metric missing='' exporter
    printf '\n== Monitoring\n'
    by_the_page Monitoring sql monitoring.log
    blocks Monitoring conf >"$root/etc/default/prometheus-postgres-exporter"
    cp "$root/next/repo/infra/database/monitoring/queries.yaml" "$root/etc/btc_ingest/"
    # Debian's package may have started it without these settings.
    in_host start-stop-daemon --stop --oknodo --exec /usr/bin/prometheus-postgres-exporter >/dev/null
    # As its unit does: EnvironmentFile, User, ExecStart.
    # shellcheck disable=SC2016
    in_host runuser -u prometheus -- bash -c 'set -a; . /etc/default/prometheus-postgres-exporter
        exec prometheus-postgres-exporter $ARGS' >"$out/exporter.log" 2>&1 &
    exporter=$!
    for _ in $(seq 100); do (exec 3<>/dev/tcp/127.0.0.1/9187) 2>/dev/null && break; sleep 0.1; done
    python3 -c 'import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9187/metrics", timeout=60).read().decode())' >"$out/metrics" ||
        wrong 'postgres_exporter answers' "$(cat "$out/exporter.log")"
    kill "$exporter"
    while read -r metric; do
        grep -q "^${metric}[{ ]" "$out/metrics" || missing="$missing $metric"
    done < <(sed -n 's/^ *expr://p' "$root/next/repo/infra/database/monitoring/alerts.yml" |
        grep -oE '(btc_ingest|pg)_[a-z0-9_]+' | sort -u)
    must_be 'postgres_exporter has every metric that an alert names' "$missing" ''
    must_be 'and no query of ours fails' "$(grep '^pg_exporter_last_scrape_error ' "$out/metrics")" \
        'pg_exporter_last_scrape_error 0'
    must_be 'it has the ticks that wait, and doctor()'"'"'s finding' \
        "$(grep -cE '^btc_ingest_doctor_failed\{check="quarantined".*\} 1' "$out/metrics")" 1
}
