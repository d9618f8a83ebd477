# shellcheck shell=bash
# Sourced by test_host_inside.sh: a host whose disk is lost, from its backups; a host by docs/use/operations.md; and a
# host from the bundle and the landing bucket only.
# shellcheck disable=SC2154

# A host that knows nothing yet: what user data would say.
set_up() {
    local log=$1
    shift
    runs 'the setup runs' "$log" /next/repo/infra/database/scripts/setup_timescale.sh --no-password --bundle /next \
        --allow s3://landing-zone/Binance/ --allow s3://landing-zone/Corrections/ --region us-east-1 \
        --endpoint http://127.0.0.1:9000 "$@" market mlops
}
backup_options=(--backup s3://backup/pgbackrest --backup-endpoint localhost:9443
                --backup-ca-file /etc/btc_ingest/ca.pem)

# What must be equal wherever it was rebuilt: ticks, candles, vectors with their labels, the registry, and the ledger of
# the slices.
answers() {
    sums
    sql "SELECT symbol, count(*), sum(trades), sum(volume), sum(quote_volume), sum(high - low)
           FROM market_data.btc_ohlcv_1m GROUP BY symbol ORDER BY symbol"
    sql "SELECT asset, count(*), sum(ticks), md5(string_agg(concat_ws(' ', bucket, exchange, feature_version,
                labelled_to, label_snapshot, feature_vector), ',' ORDER BY bucket, exchange))
           FROM signals.btc_embeddings GROUP BY asset ORDER BY asset"
    sql "SELECT asset, count(*), md5(string_agg(concat_ws(' ', bucket_5m, s3_uri, object_size_bytes,
                ingested_tick_span, status), ',' ORDER BY bucket_5m))
           FROM landing.raw_blobs_5m WHERE s3_uri NOT LIKE '%BROKEN%' GROUP BY asset ORDER BY asset"
    sql "SELECT symbol, l.bucket_5m, l.ticks, l.first_trade_id, l.last_trade_id, l.missing_inside, l.objects, l.stored
           FROM unnest(ARRAY['BTCUSDT', 'ETHUSDT', 'SOLUSDT', 'ADAUSDT', 'DOTUSDT']) symbol,
                btc_ingest.slice_ledger(symbol, count_stored => true) l ORDER BY 1, 2" | sha256sum
}

# Waits until a statement answers what is wanted, or two minutes.
await() {
    for _ in $(seq 600); do
        if [ "$(sql "$2")" = "$3" ]; then check "$1"; return; fi
        sleep 0.2
    done
    must_be "$1" "$(sql "$2")" "$3"
}
# The ticks that a correction has replaced; and whether the candles have everything.
await_corrected() {
    await 'a correction replaces its ticks' "SELECT count(*) FROM market_data.btc_ticks
        WHERE symbol = 'BTCUSDT' AND trade_id BETWEEN 1 AND 500 AND price = 57001.5 + mod(trade_id - 1, 100)" 40
}
await_candles() {
    sql 'CALL btc_ingest.refresh_candles()'
    await 'the candles are complete' "SELECT bool_and(state IN ('computed', 'kept')) FROM btc_ingest.candles" t
}

# ── docs/use/operations.md ──

# Prints the blocks of a section whose first line is given: all of them, or the one with a number.
blocks() {
    awk -v section="## $1" -v fence="\`\`\`$2" -v number="${3-}" '/^## / { inside = $0 == section }
        /^```/ { begins = !printing && inside && $0 == fence; count += begins
                 printing = begins && (number == "" || number == count); next }
        printing' "$root/next/repo/docs/use/operations.md"
}
# Runs blocks of a section in the host, as they stand there but for what sed changes: SECTION LANGUAGE [NUMBER] LOG SED…
by_the_page() {
    local section=$1 language=$2 number='' log
    shift 2
    case $1 in [0-9]) number=$1; shift ;; esac
    log=$1
    shift
    blocks "$section" "$language example" "$number" | sed "$@" -e '' >"$root/tmp/page"
    [ -s "$root/tmp/page" ] || wrong "docs/use/operations.md, '$section', has commands in $language"
    case $language in
        sh) runs "'$section' runs" "$log" bash -euo pipefail /tmp/page ;;
        sql) runs "'$section' runs" "$log" runuser -u postgres -- psql -X -v ON_ERROR_STOP=1 -d market -f /tmp/page ;;
    esac
    check "the $language of '$section' runs as it is written${number:+, block $number}"
}

lose_the_host() {
    local wanted
    printf '\n== A lost host\n'
    sql "SELECT btc_ingest.create_candles('1 minute')" >/dev/null
    sql "SELECT btc_ingest.embed('2024-08-01', '2024-09-01')" >/dev/null
    sql 'ALTER SYSTEM SET btc_ingest.embed_on_load = on' && sql 'SELECT pg_reload_conf()' >/dev/null
    sql "SELECT btc_ingest.watch('s3://landing-zone/Corrections/', '{\"on_conflict\": \"replace\"}')" >/dev/null
    await_corrected
    sql "SELECT btc_ingest.label('2024-08-01', '2024-09-01', '{5 minutes}')" >/dev/null
    await_candles
    await_archived
    wanted=$(answers)
    cp "$root/var/lib/postgresql/pgbackrest.passphrase" "$out/passphrase"
    in_host pg_ctlcluster 15 main stop -m immediate || true
    umount -l "$root"
    boot third
    install -m 600 "$out/passphrase" "$root/root/passphrase"
    write_endpoints
    # The cluster in the bucket has the version of the second bundle.
    by_the_page 'A lost host' sh lost.log -e 's,/bundle\b,/next,g' -e 's/--lose-unarchived/& --yes/'
    must_be 'a new host leaves the backups of the lost one alone' \
        "$(grep -o 'has the backups of another cluster' "$out/lost.log")" 'has the backups of another cluster'
    grep -E 'restored the files|recovered in' "$out/lost.log"
    must_be 'without the disk, from the bucket: sums, candles, vectors and ledger are equal' "$(answers)" "$wanted"
    set_up again.log "${backup_options[@]}"
    runs 'a backup after the restore' backup.log /usr/local/sbin/btc_ingest-backup full
    must_be 'and doctor() is content with the archive' "$(findings)" ''
    stop
    rebuilt=$wanted
}

# What the page takes for granted where S3 is AWS.
write_endpoints() {
    printf '%s\n' "S3_ENDPOINT='http://127.0.0.1:9000'" "BACKUP_ENDPOINT='localhost:9443'" \
        "BACKUP_CA_FILE='/etc/btc_ingest/ca.pem'" "$@" >"$root/etc/btc_ingest/setup.env"
}

# With nothing but the page and the bundle: from a bare root to loaded ticks, and back to a time before a mistake.
follow_the_page() {
    local before at disk_of_the_page='s,--data-disk [^ ]* ,,'
    printf '\n== By the page on operations\n'
    boot fourth
    write_endpoints EXTRA_PACKAGES=prometheus-postgres-exporter
    if [ -n "$disk" ]; then
        truncate -s 6G "$out/disk3"
        third=$(losetup --find --show "$out/disk3")
        devices+=("$third")
        disk_of_the_page="s,/dev/nvme1n1,$third,"
    fi
    # Another prefix than that of the host before.
    by_the_page 'From a bare host to ticks' sh page.log -e "$disk_of_the_page" -e 's,/pgbackrest,/page,'
    by_the_page 'From a bare host to ticks' sql page.log
    must_be 'every tick of the objects is there once' \
        "$(sql 'SELECT count(*), count(DISTINCT (symbol, trade_id)) FROM market_data.btc_ticks')" '219500|219500'
    by_the_page 'Upgrade of a host' sh upgrade.log
    must_be 'the upgrade keeps what the first run was told' "$(sql "SELECT extversion,
        current_setting('btc_ingest.allowed_prefixes') <> '', current_setting('archive_mode'),
        (SELECT count(*) FROM pg_hba_file_rules WHERE address = '10.20.0.0')
        FROM pg_extension WHERE extname = 'btc_ingest'")" '0.999.0|t|on|1'
    monitor
    by_the_page Backups sh backup.log
    before=$(sums)
    at=$(sql 'SELECT clock_timestamp()')
    sql 'DELETE FROM market_data.btc_ticks'
    await_archived
    by_the_page 'Back to a point in time' sh restore.log -e "s/2024-08-08 12:34:56+00/$at/" -e 's/--time/--yes &/'
    must_be 'the ticks that were deleted are there again' "$(sums)" "$before"
    stop
}

from_nothing() {
    local edition
    printf '\n== From nothing but the bundle and the landing bucket\n'
    boot fifth
    set_up nothing.log
    # Only TimescaleDB's Community edition makes whole chunks.
    edition=$(sql 'SHOW timescaledb.license')
    if [ "$edition" = timescale ]; then
        by_the_page 'From nothing' sql 1 nothing.log
    else
        by_the_page 'From nothing' sql 1 nothing.log -e "s/, mode => 'chunk'//"
    fi
    await_corrected
    by_the_page 'From nothing' sql 2 nothing.log
    await_candles
    [ "$edition" != timescale ] || must_be 'whole chunks were made' \
        "$(sql "SELECT count(*) > 0 AND bool_and(status = 'attached') FROM ingestion.backfill_chunks")" t
    must_be 'without any backup: sums, candles, vectors and ledger are equal' "$(answers)" "$rebuilt"
    stop
}
