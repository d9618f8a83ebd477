# shellcheck shell=bash
# What the administrator has said: /etc/btc_ingest/setup.env, then the command line, which is kept in that file for the
# next run. The password is never printed, never kept, and never an argument of a program that this starts.

SETUP_ENV=/etc/btc_ingest/setup.env
# What is kept. MEMORY_MB and CORES are kept only if they were given: a host may change its size.
KEPT=(BUNDLE ALLOW S3_REGION S3_ENDPOINT CLIENT_NETWORK DATA_DISK LOGICAL_REPLICATION EXTRA_PACKAGES DATABASE
      DATABASE_USER BACKUP BACKUP_ENDPOINT BACKUP_CA_FILE TIMESCALEDB_REPOSITORY MEMORY_MB CORES)

read_settings() {
    local name
    for name in "${KEPT[@]}" BACKUP_PASSPHRASE_FILE; do printf -v "$name" ''; done
    # shellcheck source=/dev/null
    [ ! -e "$SETUP_ENV" ] || . "$SETUP_ENV"
}

# Without it, the next run would take back what only the options of this one have said: an upgrade would end the
# archive.
keep_settings() {
    local name
    mkdir -p "$(dirname "$SETUP_ENV")"
    [ -z "$BUNDLE_DIR" ] || [[ $BUNDLE == s3://* ]] || BUNDLE=$BUNDLE_DIR
    {
        [ ! -e "$SETUP_ENV" ] || grep -vE "^($(IFS='|'; echo "${KEPT[*]}"))=" "$SETUP_ENV" || true
        for name in "${KEPT[@]}"; do
            case " $MEASURED " in *" $name "*) continue ;; esac
            [ -z "${!name}" ] || echo "$name=${!name@Q}"
        done
    } | replace_file "$SETUP_ENV" 644 root:root
}

# What was not said is that of this host.
measure_host() {
    MEASURED=''
    if [ -z "$MEMORY_MB" ]; then
        MEASURED=MEMORY_MB
        MEMORY_MB=$(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo)
    fi
    if [ -z "$CORES" ]; then
        MEASURED="$MEASURED CORES"
        CORES=$(nproc)
    fi
}

read_options() {
    local allowed='' file='' names=()
    PASSWORD=${BTC_INGEST_PASSWORD-} NO_PASSWORD=
    unset BTC_INGEST_PASSWORD
    while [ $# -gt 0 ]; do
        case $1 in
            --help) usage; exit ;;
            --no-password) NO_PASSWORD=yes ;;
            --logical-replication) LOGICAL_REPLICATION=yes ;;
            --password-file | --bundle | --allow | --region | --endpoint | --client-network | --data-disk | --memory | \
                --cores | --backup | --backup-endpoint | --backup-ca-file | --backup-passphrase-file | \
                --timescaledb-repository)
                [ $# -gt 1 ] || fail "$1 needs a value"
                case $1 in
                    --password-file) file=$2 ;;
                    --bundle) BUNDLE=$2 ;;
                    --allow) allowed=${allowed:+$allowed,}$2 ;;
                    --region) S3_REGION=$2 ;;
                    --endpoint) S3_ENDPOINT=$2 ;;
                    --client-network) CLIENT_NETWORK=$2 ;;
                    --data-disk) DATA_DISK=$2 ;;
                    --memory) MEMORY_MB=$2 ;;
                    --cores) CORES=$2 ;;
                    --backup) BACKUP=$2 ;;
                    --backup-endpoint) BACKUP_ENDPOINT=$2 ;;
                    --backup-ca-file) BACKUP_CA_FILE=$2 ;;
                    --backup-passphrase-file) BACKUP_PASSPHRASE_FILE=$2 ;;
                    --timescaledb-repository) TIMESCALEDB_REPOSITORY=$2 ;;
                esac
                shift ;;
            -*) usage >&2; fail "there is no option $1" ;;
            *) names+=("$1") ;;
        esac
        shift
    done
    [ -z "$allowed" ] || ALLOW=$allowed
    if [ ${#names[@]} -lt 2 ] || [ ${#names[@]} -gt 3 ]; then usage >&2; exit 2; fi
    DATABASE=${names[0]} DATABASE_USER=${names[1]}
    if [ ${#names[@]} -eq 3 ]; then
        PASSWORD=${names[2]}
        say 'The password was an argument, which ps shows: --password-file hides it.'
    fi
    [ -z "$file" ] || IFS= read -r PASSWORD <"$file" || [ -n "$PASSWORD" ] || fail "$file is empty"
    measure_host
    check_options
}

check_options() {
    local name
    for name in "$DATABASE" "$DATABASE_USER"; do
        [[ $name =~ ^[a-z_][a-z0-9_]{0,62}$ ]] || fail "'$name' is no plain name: a-z, 0-9 and _ only"
    done
    [ "$DATABASE_USER" != postgres ] || fail 'the user of the application is not the superuser postgres'
    if [ -n "$NO_PASSWORD" ]; then
        PASSWORD=
    elif [ -z "$PASSWORD" ]; then
        fail 'there is no password' 'an argument, --password-file FILE, BTC_INGEST_PASSWORD, or --no-password'
    fi
    [[ -z $ALLOW || $ALLOW =~ ^s3://[^\']+$ ]] || fail "'$ALLOW' is no s3://BUCKET/PREFIX"
    [[ -z $CLIENT_NETWORK || $CLIENT_NETWORK =~ ^[0-9a-f.:]+/[0-9]+$ ]] || fail "'$CLIENT_NETWORK' is no address range"
    [[ $CLIENT_NETWORK != */0 ]] || fail "'$CLIENT_NETWORK' is the whole world: name the VPC's range"
    [[ $S3_REGION =~ ^[a-z0-9-]*$ ]] || fail "'$S3_REGION' is no region"
    [[ -z $S3_ENDPOINT || $S3_ENDPOINT =~ ^https?://[^\']+$ ]] || fail "'$S3_ENDPOINT' is no URL"
    [[ $TIMESCALEDB_REPOSITORY =~ ^(|vendor|none|deb\ [^$'\n']+)$ ]] ||
        fail "'$TIMESCALEDB_REPOSITORY' is no line of sources.list" 'vendor, none, or deb [signed-by=…] URL …'
    check_backup_options
    if ! [[ $MEMORY_MB =~ ^[0-9]+$ && $CORES =~ ^[1-9][0-9]*$ && $MEMORY_MB -ge 900 ]]; then
        fail "$MEMORY_MB MB of memory and $CORES cores are too little" 'at least 1 GB'
    fi
}

check_backup_options() {
    [[ -z $BACKUP || $BACKUP =~ ^s3://[a-z0-9][a-z0-9.-]+[a-z0-9](/[A-Za-z0-9/._-]*)?$ ]] ||
        fail "'$BACKUP' is no s3://BUCKET/PREFIX"
    [[ -z $BACKUP_ENDPOINT || $BACKUP_ENDPOINT =~ ^[a-z0-9.-]+(:[0-9]+)?$ ]] ||
        fail "'$BACKUP_ENDPOINT' is no HOST:PORT" 'without https://, which is always used'
    local file
    for file in "$BACKUP_CA_FILE" "$BACKUP_PASSPHRASE_FILE"; do
        [ -z "$file" ] || [ -r "$file" ] || fail "there is no file $file"
    done
}

check_system() {
    local id='' version=''
    # shellcheck source=/dev/null
    id=$(. /etc/os-release && echo "$ID") version=$(. /etc/os-release && echo "${VERSION_ID-}")
    case $id-$version in
        debian-12) ;;
        ubuntu-*) say "Ubuntu $version: this script was never tested there." ;;
        *) fail "this is $id $version" 'Debian 12' ;;
    esac
}
