# shellcheck shell=bash
# Sourced by test_host_inside.sh for `make time-host`: how long a host takes from nothing but the bundle and the landing
# bucket, and how long from its backup. The ticks are those of test_host.sh; what 100,000,000 would take is computed
# from them.
# shellcheck disable=SC2154

# Runs a command, prints its time and what it would be for 100,000,000 ticks, and leaves it in `took`.
timed() {
    local what=$1 begin=$EPOCHREALTIME
    shift
    "$@"
    took=$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
    printf '   %-44s %8s s, for 100,000,000 ticks %6.0f s\n' "$what" "$took" \
        "$(awk -v t="$took" -v n="$ticks" 'BEGIN { print t * 1e8 / n }')"
}
statements() { runs 'the statements run' times.log runuser -u postgres -- psql -X -v ON_ERROR_STOP=1 -d market "$@"; }
backup() { runs 'a full backup is made' backup.log /usr/local/sbin/btc_ingest-backup full; }
megabytes() { sql "SELECT pg_database_size('market') / 1000000"; }
# Loses the data directory and restores it.
restored() {
    local wanted
    await_archived
    wanted=$(sums)
    rm -rf "$root/var/lib/postgresql/15/main"
    timed "restore of $size MB, $1" restore restore.log --latest
    grep -E 'restored the files|recovered in' "$out/restore.log"
    must_be 'sums are equal' "$(sums)" "$wanted"
}

time_host() {
    # shellcheck disable=SC2153
    local ticks=$TICKS begin size mode=object edition
    printf '\n== From nothing, %s ticks\n' "$ticks"
    boot times
    begin=$SECONDS
    set_up times.log "${backup_options[@]}"
    printf '   %-44s %8s s\n' 'setup' $((SECONDS - begin))
    edition=$(sql 'SHOW timescaledb.license')
    [ "$edition" != timescale ] || mode=chunk
    sql 'ALTER SYSTEM SET btc_ingest.embed_on_load = on' && sql 'SELECT pg_reload_conf()' >/dev/null
    timed "backfill, mode $mode, with vectors" statements \
        -c "CALL btc_ingest.backfill('s3://landing-zone/Binance/', mode => '$mode')"
    must_be 'every tick is there once' "$(sql 'SELECT count(*) FROM market_data.btc_ticks')" "$ticks"
    timed 'candles of a minute' statements -c "SELECT btc_ingest.create_candles('1 minute')" \
        -c 'CALL btc_ingest.refresh_candles()'
    timed 'labels and the index of vectors' statements \
        -c "SELECT btc_ingest.label('2024-08-01', '2025-08-01', '{5 minutes}')" \
        -c 'SELECT btc_ingest.rebuild_embedding_index()'
    size=$(megabytes)
    printf '\n== From the backup\n'
    await_archived
    timed "full backup of $size MB" backup
    # With the Community edition, the backfill has compressed what the policy says: these chunks are old.
    restored "$(sql "SELECT count(*) FROM show_chunks('market_data.btc_ticks')") chunks"
    stop
}
