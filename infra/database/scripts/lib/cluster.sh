# shellcheck shell=bash
# The cluster 15/main: made or adopted, configured, started.

CONFIG=/etc/postgresql/15/main
DATA=/var/lib/postgresql/15/main
# shellcheck disable=SC2034
BIN=/usr/lib/postgresql/15/bin

make_cluster() {
    chown postgres:postgres /var/lib/postgresql
    if [ -e "$CONFIG/postgresql.conf" ]; then
        say 'the cluster 15/main is there'
    elif [ -e "$DATA/PG_VERSION" ]; then
        [ "$(cat "$DATA/PG_VERSION")" = 15 ] || fail "$DATA is a cluster of PostgreSQL $(<"$DATA/PG_VERSION")"
        adopt_cluster
        say "adopted the cluster in $DATA"
    else
        quietly pg_createcluster 15 main -- --data-checksums --encoding UTF8 --locale C.UTF-8
        say "made a cluster in $DATA"
    fi
    install -d -o postgres -g postgres -m 755 "$CONFIG/conf.d"
    grep -q "^include_dir *= *'conf.d'" "$CONFIG/postgresql.conf" ||
        echo "include_dir = 'conf.d'" >>"$CONFIG/postgresql.conf"
    make_certificate
}

# The configuration was on the root disk of another host. A cluster that is thrown away brings Debian's; then it points
# to the data that is there.
adopt_cluster() {
    local scratch
    scratch=$(mktemp -d)
    # The user postgres may have another number on this host.
    chown -R postgres:postgres "$DATA" "$scratch"
    rm -f "$DATA/postmaster.pid"
    quietly pg_createcluster -d "$scratch/data" 15 main -- --encoding UTF8 --locale C.UTF-8
    pg_conftool 15 main set data_directory "$DATA"
    rm -rf "$scratch"
}

# A certificate of its own, so that connections are encrypted from the start. Put one of your authority in its place.
make_certificate() {
    [ -e "$CONFIG/server.key" ] && return
    local name
    name=$(hostname -f 2>/dev/null || hostname)
    quietly openssl req -x509 -newkey rsa:3072 -nodes -days 3650 -subj "/CN=$name" -addext "subjectAltName=DNS:$name" \
        -keyout "$CONFIG/server.key" -out "$CONFIG/server.crt"
    chown postgres:postgres "$CONFIG/server.key" "$CONFIG/server.crt"
    chmod 600 "$CONFIG/server.key"
}

# Libraries that stand in postgresql.conf already stay.
preloaded() {
    local found
    found=$(sed -nE "s/^ *shared_preload_libraries *= *'([^']*)'.*/\1/p" "$CONFIG/postgresql.conf" | tail -n 1)
    printf '%s\n' timescaledb btc_ingest "${found//,/$'\n'}" | tr -d ' ' | awk 'NF && !seen[$0]++' | paste -sd,
}

write_settings() {
    local file=$CONFIG/conf.d/50-btc_ingest.conf
    {
        echo '# Written by setup_timescale.sh, which writes it anew: put your own settings into another file, such as'
        echo '# 60-mine.conf, or use ALTER SYSTEM.'
        echo "shared_preload_libraries = '$(preloaded)'"
        tuned_settings "$MEMORY_MB" "$CORES"
        echo "listen_addresses = '$([ -n "$CLIENT_NETWORK" ] && echo '*' || echo localhost)'"
        echo 'password_encryption = scram-sha-256'
        echo 'ssl = on'
        echo "ssl_cert_file = '$CONFIG/server.crt'"
        echo "ssl_key_file = '$CONFIG/server.key'"
        echo "ssl_min_protocol_version = 'TLSv1.2'"
        echo "wal_level = $([ "$LOGICAL_REPLICATION" = yes ] && echo logical || echo replica)"
        archive_settings
        # Nothing here reaches the internet.
        echo 'timescaledb.telemetry_level = off'
        echo "btc_ingest.database = '$DATABASE'"
        echo "btc_ingest.workers = $LOADERS"
        echo "btc_ingest.max_backfill_workers = $BACKFILL_WORKERS"
        if [ -n "$ALLOW" ]; then echo "btc_ingest.allowed_prefixes = '$ALLOW'"; fi
        if [ -n "$S3_REGION" ]; then echo "btc_ingest.s3_region = '$S3_REGION'"; fi
        if [ -n "$S3_ENDPOINT" ]; then
            echo "btc_ingest.s3_endpoint = '$S3_ENDPOINT'"
            echo 'btc_ingest.s3_force_path_style = on'
        fi
    } | replace_file "$file" 644 postgres:postgres
}

# Debian's pg_hba.conf admits this host only. One line is added: clients of the VPC, by TLS, with a password.
write_access() {
    local file=$CONFIG/pg_hba.conf
    {
        sed '/^# BEGIN btc_ingest/,/^# END btc_ingest/d' "$file"
        if [ -n "$CLIENT_NETWORK" ]; then
            echo '# BEGIN btc_ingest: written by setup_timescale.sh'
            echo "hostssl all all $CLIENT_NETWORK scram-sha-256"
            echo '# END btc_ingest'
        fi
    } | replace_file "$file" 640 postgres:postgres
}

start_cluster() {
    if ! pg_ctlcluster 15 main status >/dev/null; then
        # Without them the server starts as well, and it must.
        reserve_huge_pages || say 'huge pages cannot be reserved'
        quietly pg_ctlcluster 15 main start
        say 'started'
        return
    fi
    local read_at seconds=0
    read_at=$(sql postgres 'SELECT pg_conf_load_time()')
    quietly pg_ctlcluster 15 main reload
    # A setting that needs a restart is marked once the postmaster has read the files.
    until [ "$(sql postgres 'SELECT pg_conf_load_time()')" != "$read_at" ]; do
        [ $seconds -lt 30 ] || fail 'the server does not read its settings' "the server's log"
        sleep 1
        seconds=$((seconds + 1))
    done
    local pending
    pending=$(sql postgres 'SELECT count(*) FROM pg_settings WHERE pending_restart')
    if [ -n "$RESTART_NEEDED" ] || [ "$pending" -gt 0 ]; then
        quietly pg_ctlcluster 15 main stop -m fast
        # Without them the server starts as well, and it must.
        reserve_huge_pages || say 'huge pages cannot be reserved'
        quietly pg_ctlcluster 15 main start
        say 'restarted'
    else
        say 'reloaded'
    fi
}
