#!/usr/bin/env bash
# Restores the cluster from its backups: to a point in time, or to the last archived segment. Runs on the host that
# setup_timescale.sh has made; also where the data directory is gone.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
# shellcheck source=lib/say.sh
. "$here/lib/say.sh"
# shellcheck source=lib/cluster.sh
. "$here/lib/cluster.sh"
# shellcheck source=lib/backup.sh
. "$here/lib/backup.sh"

usage() {
    cat <<'TEXT'
usage: sudo ./restore_pitr.sh [--time 'YYYY-MM-DD HH:MM:SS+00' | --latest] [OPTIONS]

  --time TIME            the last moment whose commits are restored; with a time zone
  --latest               everything that was archived
  --yes                  ask nothing
  --lose-unarchived      go on although segments of the present cluster cannot be archived: they are lost

The server is stopped. Files that differ from the backup are replaced in place, those of later times are removed.
TEXT
}

time='' latest='' yes='' lose=''
while [ $# -gt 0 ]; do
    case $1 in
        --time) [ $# -gt 1 ] || fail '--time needs a value'; time=$2; shift ;;
        --latest) latest=yes ;;
        --yes) yes=yes ;;
        --lose-unarchived) lose=yes ;;
        --help) usage; exit ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done
[ "$(id -u)" -eq 0 ] || fail 'this stops the server: run it with sudo'
if [ -z "$time$latest" ] || { [ -n "$time" ] && [ -n "$latest" ]; }; then usage >&2; exit 2; fi
[[ -z $time || $time =~ [+-][0-9]{2}(:?[0-9]{2})?$ ]] ||
    fail "'$time' has no time zone" "--time '2024-08-08 12:00:00+00'"
[ -e "$BACKUP_CONFIG" ] || fail "there is no $BACKUP_CONFIG" 'setup_timescale.sh --backup s3://BUCKET/PREFIX'
[ -e "$CONFIG/postgresql.conf" ] || fail 'there is no cluster 15/main' 'setup_timescale.sh makes it'

ask() { (cd / && runuser -u postgres -- "$BIN/psql" -XAtq -d postgres -c "$1"); }
is_running() { pg_ctlcluster 15 main status >/dev/null 2>&1; }
# What the archive lacks, of the cluster as it is now.
unarchived() { find "$DATA/pg_wal/archive_status" -name '*.ready' 2>/dev/null | wc -l; }

step 'Backups'
pgbackrest info
if [ -z "$yes" ]; then
    printf '\nThe cluster in %s becomes what it was at %s. Type yes: ' "$DATA" "${time:-its last archived segment}"
    read -r answer
    [ "$answer" = yes ] || fail 'nothing was done'
fi

step 'The present cluster'
# A server whose data directory was deleted does not know yet that it has to end.
if [ ! -e "$DATA/postmaster.pid" ]; then
    pkill -QUIT -u postgres -f "^$BIN/postgres -D $DATA " || true
    while pgrep -u postgres -f "^$BIN/postgres -D $DATA " >/dev/null; do sleep 0.2; done
fi
if is_running; then
    # Its last commits are archived before it goes, so that a second restore may still go to any time.
    ask 'CHECKPOINT; SELECT pg_switch_wal()' >/dev/null || true
    quietly pg_ctlcluster 15 main stop -m fast
    say 'stopped'
fi
if [ "$(unarchived)" -gt 0 ]; then
    [ -n "$lose" ] || fail "$(unarchived) segments of the present cluster are not archived" \
        'mend the archive and start the server again, or --lose-unarchived'
    say "$(unarchived) segments are not archived and are lost"
fi

# Of the last cluster of the stanza: its last archived segment.
last_archived=$(pgbackrest info --output=json | python3 -c '
import json, sys
for stanza in json.load(sys.stdin):
    print(stanza["archive"][-1]["max"] if stanza.get("archive") else "")')
[ -n "$last_archived" ] || fail 'the bucket has no backup that could be restored'

step 'Restore'
install -d -o postgres -g postgres -m 700 "$DATA"
options=(--delta)
if [ -n "$time" ]; then
    options+=(--type=time "--target=$time" --target-action=promote)
else
    # A standby does not take a damaged segment for the end. It is promoted below, when it has come to the last one.
    options+=(--type=standby)
fi
begin=$SECONDS
pgbackrest "${options[@]}" restore ||
    fail 'pgBackRest has restored nothing' 'the lines above; pg_ctlcluster 15 main start goes on with what is there'
say "restored the files in $((SECONDS - begin)) s"

step 'Recovery'
log=/var/log/postgresql/postgresql-15-main.log
lines=$(wc -l <"$log" 2>/dev/null || echo 0)
# What the server has written since.
written() { tail -n "+$((lines + 1))" "$log"; }
failed() {
    written | tail -n 30 >&2
    pg_ctlcluster 15 main stop -m fast >/dev/null 2>&1 || true
    fail "$1" 'the lines above are the log of the server, which does not run now'
}
in_recovery() { ask 'SELECT pg_is_in_recovery()' 2>/dev/null || echo starting; }
begin=$SECONDS
# It waits a minute only; a longer recovery is watched below.
pg_ctlcluster 15 main start >/dev/null 2>&1 || true
# The last segment that was fetched, and how far it is replayed.
reached() { written | sed -n 's/.*restored log file "\([0-9A-F]\{24\}\)" from archive.*/\1/p' | tail -n 1; }
replayed() { ask 'SELECT pg_last_wal_replay_lsn()' 2>/dev/null || echo nothing; }
bad_record() { written | grep -qE 'LOG: +(invalid|incorrect|unexpected|record with|.*contrecord)'; }
before='' still=0
until [ "$(in_recovery)" = f ]; do
    is_running || failed 'the archive does not lead to that time: a segment is missing or damaged'
    sleep 1
    if [ $(((SECONDS - begin) % 30)) -eq 29 ]; then say "recovering for $((SECONDS - begin)) s"; fi
    [ -n "$latest" ] || continue
    now="$(reached) $(replayed)"
    if [ "$now" = "$before" ]; then still=$((still + 1)); else before=$now still=0; fi
    if [ "${now% *}" = "$last_archived" ] && [ $still -ge 3 ] && ! bad_record; then
        quietly pg_ctlcluster 15 main promote
    elif [ $still -ge 60 ]; then
        failed "the archive reaches to $last_archived, but the recovery stands at ${now% *}: it or the next is damaged"
    fi
done
last=$(written | sed -n 's/.*LOG: *\(last completed transaction.*\)/\1/p' | tail -n 1)
say "recovered in $((SECONDS - begin)) s; $last"
# Only a checkpoint writes the new timeline where pgBackRest looks for it.
ask CHECKPOINT
pgbackrest check

step 'Done'
say 'The server runs, archives, and goes on loading what its registry and its watches name.'
say 'What producers registered after that time is not in the registry: a backfill of its prefixes finds it.'
say 'Make a backup now: btc_ingest-backup full'
