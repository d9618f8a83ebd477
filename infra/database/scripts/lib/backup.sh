# shellcheck shell=bash
# Backups and the archive of the write-ahead log: pgBackRest, into one prefix of the backup bucket, encrypted.

STANZA=main
BACKUP_CONFIG=/etc/pgbackrest/pgbackrest.conf
# On the data disk, which outlives the host.
PASSPHRASE_FILE=/var/lib/postgresql/pgbackrest.passphrase

pgbackrest() { (cd / && runuser -u postgres -- pgbackrest --stanza="$STANZA" "$@"); }

# The bucket and the prefix of s3://BUCKET/PREFIX.
backup_bucket() { local rest=${BACKUP#s3://}; echo "${rest%%/*}"; }
backup_prefix() {
    local rest=${BACKUP#s3://}
    case $rest in */?*) rest=/${rest#*/}; echo "${rest%/}" ;; *) echo /pgbackrest ;; esac
}

# The settings of the server that archive. Nothing is dropped from pg_wal before it is in the bucket.
archive_settings() {
    [ -n "$BACKUP" ] || return 0
    echo 'archive_mode = on'
    echo "archive_command = 'pgbackrest --stanza=$STANZA archive-push %p'"
    # At most so much is lost with the disk.
    echo 'archive_timeout = 60'
}

install_backup() {
    [ -n "$BACKUP" ] || return 0
    has_candidate pgbackrest || fail 'apt does not know the package pgbackrest' 'a bundle of build_bundle.sh has it'
    add_packages pgbackrest
    say "$(printf '%-28s %s' pgbackrest "$(version_of pgbackrest)")"
    install -d -o root -g postgres -m 750 /etc/pgbackrest /etc/pgbackrest/conf.d
    make_passphrase
    write_backup_settings
    write_backup_program
}

# Taken from the administrator, or kept, or made: it is never printed.
make_passphrase() {
    local given=''
    if [ -n "$BACKUP_PASSPHRASE_FILE" ]; then
        IFS= read -r given <"$BACKUP_PASSPHRASE_FILE" || [ -n "$given" ] || fail "$BACKUP_PASSPHRASE_FILE is empty"
        [ ${#given} -ge 20 ] || fail "the passphrase in $BACKUP_PASSPHRASE_FILE has less than 20 characters"
    elif [ ! -s "$PASSPHRASE_FILE" ]; then
        given=$(openssl rand -base64 48)
        say "made a passphrase of the backups: $PASSPHRASE_FILE"
    fi
    [ -z "$given" ] || printf '%s\n' "$given" | replace_file "$PASSPHRASE_FILE" 600 root:root
}

write_backup_settings() {
    {
        echo '# Written by setup_timescale.sh, which writes it anew. Your own: /etc/pgbackrest/conf.d/NAME.conf'
        echo '[global]'
        echo 'repo1-type=s3'
        echo "repo1-path=$(backup_prefix)"
        echo "repo1-s3-bucket=$(backup_bucket)"
        echo "repo1-s3-region=${S3_REGION:-us-east-1}"
        # The role of the instance: no key stands in a file.
        echo 'repo1-s3-key-type=auto'
        if [ -n "$BACKUP_ENDPOINT" ]; then
            echo "repo1-s3-endpoint=$BACKUP_ENDPOINT"
            echo 'repo1-s3-uri-style=path'
        else
            echo "repo1-s3-endpoint=$(s3_host)"
        fi
        if [ -n "$BACKUP_CA_FILE" ]; then echo "repo1-storage-ca-file=$BACKUP_CA_FILE"; fi
        echo 'repo1-cipher-type=aes-256-cbc'
        echo "repo1-cipher-pass=$(cat "$PASSPHRASE_FILE")"
        # Two weeks: two full backups, and what is needed to go to any time since the older one.
        echo 'repo1-retention-full=2'
        echo 'repo1-bundle=y'
        echo 'compress-type=zst'
        echo "process-max=$CORES"
        echo 'start-fast=y'
        echo 'archive-async=y'
        echo 'spool-path=/var/spool/pgbackrest'
        echo 'log-level-console=warn'
        echo 'log-level-file=info'
        echo
        echo "[$STANZA]"
        echo "pg1-path=$DATA"
        echo 'pg1-socket-path=/var/run/postgresql'
    } | replace_file "$BACKUP_CONFIG" 640 root:postgres
}

s3_host() {
    local domain=amazonaws.com
    case $S3_REGION in cn-*) domain=amazonaws.com.cn ;; esac
    echo "s3.${S3_REGION:-us-east-1}.$domain"
}

# The program of the timers, which is also called by hand: btc_ingest-backup full | diff
write_backup_program() {
    local unit
    # shellcheck disable=SC2154
    replace_file /usr/local/sbin/btc_ingest-backup 755 root:root <"$here/btc_ingest-backup"
    mkdir -p /etc/systemd/system/timers.target.wants
    for unit in full diff; do
        printf '%s\n' '[Unit]' "Description=pgBackRest: $unit backup of btc_ingest's cluster" '[Service]' \
            'Type=oneshot' "ExecStart=/usr/local/sbin/btc_ingest-backup $unit" |
            replace_file "/etc/systemd/system/btc_ingest-backup-$unit.service" 644 root:root
        printf '%s\n' '[Unit]' "Description=When the $unit backup of btc_ingest's cluster is made" '[Timer]' \
            "OnCalendar=$([ $unit = full ] && echo 'Sun *-*-* 02:30:00' || echo 'Mon..Sat *-*-* 02:30:00')" \
            'RandomizedDelaySec=30min' 'Persistent=true' '[Install]' 'WantedBy=timers.target' |
            replace_file "/etc/systemd/system/btc_ingest-backup-$unit.timer" 644 root:root
        # Enabled also where systemd does not run, as in a chroot.
        ln -sfn "../btc_ingest-backup-$unit.timer" \
            "/etc/systemd/system/timers.target.wants/btc_ingest-backup-$unit.timer"
    done
    if [ -d /run/systemd/system ]; then
        quietly systemctl daemon-reload
        quietly systemctl start btc_ingest-backup-full.timer btc_ingest-backup-diff.timer
    fi
}

# What the bucket holds: "SYSTEM_ID BACKUPS" of the last cluster whose stanza this is, or nothing.
stanza_of_bucket() {
    pgbackrest info --output=json | python3 -c '
import json, sys
for stanza in json.load(sys.stdin):
    if stanza.get("db"):
        print(stanza["db"][-1]["system-id"], len(stanza.get("backup", [])))'
}

# Makes the stanza, proves that a segment comes into the bucket, and makes a first backup if there is none.
start_backup() {
    if [ -z "$BACKUP" ]; then
        say 'None: nothing is archived and nothing is backed up. --backup s3://BUCKET/PREFIX does both.'
        return
    fi
    local found where
    where=s3://$(backup_bucket)$(backup_prefix)
    found=$(stanza_of_bucket) || fail "$where cannot be read" 'the role of the instance, the passphrase, the endpoint'
    if [ -n "$found" ] &&
        [ "${found% *}" != "$(sql postgres 'SELECT system_identifier FROM pg_control_system()')" ]; then
        say "$where has the backups of another cluster, and this one is not archived. Either restore that one:"
        say '    restore_pitr.sh --latest --lose-unarchived'
        say 'or give this one a prefix of its own: --backup s3://BUCKET/OTHER'
        return
    fi
    quietly pgbackrest stanza-create
    quietly pgbackrest check
    say "the write-ahead log is archived into $where"
    if [ "${found#* }" = 0 ] || [ -z "$found" ]; then
        quietly /usr/local/sbin/btc_ingest-backup full
        say 'made the first full backup'
    fi
}
