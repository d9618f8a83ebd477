# shellcheck shell=bash
# Sourced by test_host_inside.sh: a host whose disk is lost, from its backups; and a host from the bundle and the
# landing bucket only.
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

# What must be equal wherever it was rebuilt: ticks, candles and the ledger of the slices.
answers() {
    sums
    sql "SELECT symbol, count(*), sum(trades), sum(volume), sum(quote_volume), sum(high - low)
           FROM market_data.btc_ohlcv_1m GROUP BY symbol ORDER BY symbol"
    sql "SELECT symbol, l.bucket_5m, l.ticks, l.first_trade_id, l.last_trade_id, l.missing_inside, l.objects, l.stored
           FROM unnest(ARRAY['BTCUSDT', 'ETHUSDT', 'SOLUSDT', 'ADAUSDT', 'DOTUSDT']) symbol,
                btc_ingest.slice_ledger(symbol, count_stored => true) l ORDER BY 1, 2" | sha256sum
}

# A correction that replaces what an earlier object holds, and candles.
correct() {
    sql "SELECT btc_ingest.watch('s3://landing-zone/Corrections/', '{\"on_conflict\": \"replace\"}')" >/dev/null
    for _ in $(seq 600); do
        if [ "$(corrected)" = 40 ]; then break; fi
        sleep 0.2
    done
    must_be 'a correction replaces its ticks' "$(corrected)" 40
}
corrected() {
    sql "SELECT count(*) FROM market_data.btc_ticks WHERE symbol = 'BTCUSDT' AND trade_id BETWEEN 1 AND 500
          AND price = 57001.5 + mod(trade_id - 1, 100)"
}

lose_the_host() {
    local wanted
    printf '\n== A lost host\n'
    sql "SELECT btc_ingest.create_candles('1 minute')" >/dev/null
    correct
    await_archived
    wanted=$(answers)
    cp "$root/var/lib/postgresql/pgbackrest.passphrase" "$out/passphrase"
    in_host pg_ctlcluster 15 main stop -m immediate || true
    umount -l "$root"
    boot third
    install -m 600 "$out/passphrase" "$root/root/passphrase"
    set_up lost.log "${backup_options[@]}" --backup-passphrase-file /root/passphrase
    must_be 'a new host leaves the backups of the lost one alone' \
        "$(grep -o 'has the backups of another cluster' "$out/lost.log")" 'has the backups of another cluster'
    restore restore.log --latest --lose-unarchived
    grep -E 'restored the files|recovered in' "$out/restore.log"
    must_be 'without the disk, from the bucket: sums, candles and ledger are equal' "$(answers)" "$wanted"
    set_up again.log "${backup_options[@]}"
    runs 'a backup after the restore' backup.log /usr/local/sbin/btc_ingest-backup full
    must_be 'and doctor() is content with the archive' "$(findings)" ''
    stop
    rebuilt=$wanted
}

from_nothing() {
    printf '\n== From nothing but the bundle and the landing bucket\n'
    boot fourth
    set_up nothing.log
    # The sequence of docs/use/operations.md, "From nothing".
    sql "CALL btc_ingest.backfill('s3://landing-zone/Binance/')" 2>/dev/null
    sql "SELECT btc_ingest.create_candles('1 minute')" >/dev/null
    correct
    must_be 'without any backup: sums, candles and ledger are equal' "$(answers)" "$rebuilt"
    stop
}
