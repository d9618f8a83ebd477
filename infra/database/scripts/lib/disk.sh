# shellcheck shell=bash
# The data disk: formatted only if it is empty, mounted where Debian keeps clusters.

DATA_ROOT=/var/lib/postgresql

mount_data_disk() {
    if [ -z "$DATA_DISK" ]; then say "none: the data directory is on the disk of $DATA_ROOT"; return; fi
    wait_for_disk
    local device
    device=$(readlink -f "$DATA_DISK")
    mkdir -p "$DATA_ROOT"
    if [ "$(findmnt -n -o SOURCE --mountpoint "$DATA_ROOT" || true)" = "$device" ]; then
        say "$DATA_DISK is mounted already"
        return
    fi
    ! mountpoint -q "$DATA_ROOT" || fail "another disk is mounted at $DATA_ROOT"
    [ -z "$(ls -A "$DATA_ROOT")" ] || fail "$DATA_ROOT is not empty: the data disk would hide what is there" \
        "move it to the disk, or leave --data-disk out"
    if is_empty_disk "$device"; then
        say "formatting the empty disk $DATA_DISK"
        quietly mkfs.ext4 -q -L btc_ingest "$device"
    elif [ -z "$(blkid -p -s TYPE -o value "$device" || true)" ]; then
        fail "$DATA_DISK is not empty and has no file system" 'name the disk of the data, or wipe it yourself'
    fi
    local uuid
    uuid=$(blkid -p -s UUID -o value "$device")
    grep -q "^UUID=$uuid " /etc/fstab 2>/dev/null ||
        echo "UUID=$uuid $DATA_ROOT auto defaults,noatime,nofail,x-systemd.device-timeout=60 0 2" >>/etc/fstab
    mount "$device" "$DATA_ROOT"
    say "$DATA_DISK is mounted at $DATA_ROOT"
}

# A disk is attached a while after its host has booted.
wait_for_disk() {
    local seconds=0
    until [ -b "$DATA_DISK" ]; do
        [ $seconds -lt 300 ] || fail "there is no disk $DATA_DISK" 'lsblk'
        sleep 1
        seconds=$((seconds + 1))
    done
}

# Empty: no file system, no partition table, no partition, and nothing but zeros in its first and last MiB.
is_empty_disk() {
    local device=$1 bytes
    [ "$(lsblk -n -o NAME "$device" | wc -l)" -eq 1 ] || return 1
    [ -z "$(wipefs -n "$device")" ] || return 1
    bytes=$(blockdev --getsize64 "$device")
    cmp -s -n 1048576 "$device" /dev/zero &&
        cmp -s -n 1048576 -i "$((bytes - 1048576)):0" "$device" /dev/zero
}
