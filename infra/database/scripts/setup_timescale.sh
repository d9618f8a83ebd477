#!/usr/bin/env bash
# Sets up PostgreSQL 15 with TimescaleDB, pgvector and btc_ingest on a Debian 12 host. Safe to run again: it brings
# what is missing, upgrades from a newer bundle, and changes what was changed in its settings.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
# shellcheck source=lib/say.sh
. "$here/lib/say.sh"
# shellcheck source=lib/options.sh
. "$here/lib/options.sh"
# shellcheck source=lib/packages.sh
. "$here/lib/packages.sh"
# shellcheck source=lib/vendor.sh
. "$here/lib/vendor.sh"
# shellcheck source=lib/disk.sh
. "$here/lib/disk.sh"
# shellcheck source=lib/tuning.sh
. "$here/lib/tuning.sh"
# shellcheck source=lib/cluster.sh
. "$here/lib/cluster.sh"
# shellcheck source=lib/backup.sh
. "$here/lib/backup.sh"
# shellcheck source=lib/database.sh
. "$here/lib/database.sh"

usage() {
    cat <<'TEXT'
usage: sudo ./setup_timescale.sh [OPTIONS] DATABASE USER [PASSWORD]

An argument shows in ps while this runs. Rather use --password-file, or BTC_INGEST_PASSWORD in the environment
(sudo --preserve-env=BTC_INGEST_PASSWORD …).

  --password-file FILE     the first line is the password
  --no-password            USER gets no password yet, or keeps the one that it has
  --bundle s3://… | DIR    install from this bundle only, after checking every checksum
  --timescaledb-repository vendor | none | LINE
                           without a bundle: where TimescaleDB comes from if apt does not know the vendor's package.
                           Its vendor's public package repository, no further one, or a line of sources.list. If this
                           is not said, a host without TimescaleDB asks the vendor, and takes the Apache edition if the
                           vendor is not reached
  --allow s3://B/PREFIX    what may be loaded; may be given several times
  --region REGION          the region of the buckets
  --endpoint URL           an S3 server of your own, with the bucket in the path
  --client-network CIDR    from where clients may connect, by TLS only; without it, only from this host
  --data-disk DEVICE       the disk of the data directory; formatted only if it is empty
  --logical-replication    wal_level = logical
  --memory MB, --cores N   what to tune for, instead of what this host has
  --backup s3://B/PREFIX   archive the write-ahead log and back up into this bucket, by pgBackRest
  --backup-passphrase-file FILE
                           what backups are encrypted with; without it, one is made for the first backup
  --backup-endpoint HOST:PORT, --backup-ca-file FILE
                           an S3 server of your own for backups, by TLS; and the authority of its certificate

/etc/btc_ingest/setup.env sets the same: BUNDLE, ALLOW, S3_REGION, S3_ENDPOINT, CLIENT_NETWORK, DATA_DISK, BACKUP,
BACKUP_ENDPOINT, BACKUP_CA_FILE, LOGICAL_REPLICATION=yes, EXTRA_PACKAGES, TIMESCALEDB_REPOSITORY, MEMORY_MB, CORES.
Options win, and are kept there for the next run. To take one back, delete its line and run this again.
TEXT
}

read_settings
read_options "$@"
[ "$(id -u)" -eq 0 ] || fail 'this installs packages: run it with sudo'
check_system

step 'Packages'
open_bundle
install_extra_packages
step 'Data disk'
mount_data_disk
step 'PostgreSQL'
install_packages
make_cluster
install_backup
write_settings
write_access
start_cluster
step 'Database'
make_database
make_user
make_extensions
install_client
install_scripts
step 'Backup'
start_backup
keep_settings
step 'doctor()'
show_doctor
show_remaining
