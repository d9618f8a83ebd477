# shellcheck shell=bash
# Database, user, extensions. Statements come by standard input, so that ps never shows a password.

export PGOPTIONS='--client-min-messages=warning'
psql_as_postgres() { (cd / && runuser -u postgres -- "$BIN/psql" -X -q -v ON_ERROR_STOP=1 "$@"); }
sql() { psql_as_postgres -At -d "$1" -c "$2"; }

make_database() {
    if [ "$(sql postgres "SELECT count(*) FROM pg_database WHERE datname = '$DATABASE'")" -eq 0 ]; then
        sql postgres "CREATE DATABASE $DATABASE ENCODING 'UTF8' TEMPLATE template0"
        say "made the database $DATABASE"
    fi
}

make_user() {
    if [ "$(sql postgres "SELECT count(*) FROM pg_roles WHERE rolname = '$DATABASE_USER'")" -eq 0 ]; then
        sql postgres "CREATE ROLE $DATABASE_USER LOGIN"
        say "made the role $DATABASE_USER"
    fi
    if [ -n "$PASSWORD" ]; then
        # The server gets the SCRAM verifier: the password itself is in no statement and in no log.
        local verifier
        verifier=$(printf '%s' "$PASSWORD" | python3 "$here/lib/scram.py")
        psql_as_postgres -d postgres <<<"ALTER ROLE $DATABASE_USER PASSWORD '$verifier'"
        say "$DATABASE_USER has its password"
    fi
}

# Autovacuum of a chunk may wait for the update while the update waits for it. PostgreSQL then ends the update, which
# has changed nothing, and it is tried again.
update_extension() {
    local attempt log
    log=$(mktemp)
    for attempt in 1 2 3 4 5; do
        if sql "$DATABASE" "ALTER EXTENSION $1 UPDATE" 2>"$log"; then rm -f "$log"; return; fi
        grep -q 'deadlock detected' "$log" || break
        say "the update of $1 met another process (attempt $attempt of 5)"
    done
    cat "$log" >&2
    fail "the extension $1 cannot be updated"
}

# A session that does not load TimescaleDB: the library of the version that the database has may be gone with its
# package.
without_timescaledb() { PGOPTIONS="$PGOPTIONS -c timescaledb.disable_load=on" sql "$DATABASE" "$1"; }

make_extensions() {
    local name
    # TimescaleDB must be updated by the first command of a session.
    for name in timescaledb vector timescaledb_toolkit btc_ingest; do
        if [ "$(sql postgres "SELECT count(*) FROM pg_available_extensions WHERE name = '$name'")" -eq 0 ]; then
            [ "$name" = timescaledb_toolkit ] || fail "the extension $name is not installed"
            say 'timescaledb_toolkit: not available here, and not needed'
            continue
        fi
        case $(without_timescaledb "SELECT CASE WHEN installed_version IS NULL THEN 'missing'
                   WHEN installed_version <> default_version THEN 'old' END
                   FROM pg_available_extensions WHERE name = '$name'") in
            missing) sql "$DATABASE" "CREATE EXTENSION $name" ;;
            old) update_extension "$name" ;;
        esac
        say "$name $(sql "$DATABASE" "SELECT extversion FROM pg_extension WHERE extname = '$name'")"
    done
    # The role owns nothing here: functions and workers write with the privileges of the table owner.
    sql "$DATABASE" "REVOKE ALL ON DATABASE $DATABASE FROM PUBLIC"
    sql "$DATABASE" "GRANT CONNECT, TEMPORARY ON DATABASE $DATABASE TO $DATABASE_USER"
    sql "$DATABASE" "GRANT btc_ingest_loader TO $DATABASE_USER"
    say "$DATABASE_USER is a member of btc_ingest_loader"
}

# A Python environment in which the requirements of the client are met without a network.
install_client() {
    [ -e /opt/btc_ingest/client/bin/pip ] || quietly python3 -m venv --system-site-packages /opt/btc_ingest/client
    mkdir -p /etc/profile.d
    # shellcheck disable=SC2016
    echo 'PATH=/opt/btc_ingest/client/bin:$PATH' >/etc/profile.d/btc_ingest.sh
}

# The scripts stay on the host when the bundle goes. The link changes at once, as this very script may run behind it.
install_scripts() {
    [ -n "$BUNDLE_DIR" ] || return 0
    local copy
    copy=/opt/btc_ingest/repo-$(sha256sum "$BUNDLE_DIR/SHA256SUMS" | cut -c -12)
    if [ ! -e "$copy" ]; then
        rm -rf "$copy.new"
        cp -r "$BUNDLE_DIR/repo" "$copy.new"
        mv "$copy.new" "$copy"
    fi
    ln -sfnT "$copy" /opt/btc_ingest/repo
    say "the scripts are in /opt/btc_ingest/repo/infra/database/scripts"
}

show_doctor() { psql_as_postgres -d "$DATABASE" -P pager=off -c 'SELECT * FROM btc_ingest.doctor()'; }

show_remaining() {
    step 'Done'
    [ -n "$CLIENT_NETWORK" ] || say 'Clients of other hosts cannot connect yet: --client-network CIDR lets them.'
    [ -n "$PASSWORD" ] || say "$DATABASE_USER has been given no password by this run."
    [ -z "$BACKUP" ] ||
        say "Keep a copy of $PASSPHRASE_FILE where this host cannot lose it: without it no backup can be read."
    if [ -z "$ALLOW" ] || [ -z "$S3_REGION" ]; then
        say "Nothing may be loaded yet. Run this again with: --allow s3://BUCKET/PREFIX --region REGION"
    else
        say "Ready: what may be loaded is under $ALLOW"
    fi
}
