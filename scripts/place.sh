#!/usr/bin/env bash
# Copies the files of the directory FROM into the directory TO. Each file is written beside the old one and renamed, so
# that a process which has the old file open or mapped keeps it.
set -euo pipefail
from=$1 to=$2
# Root writes directly; another user through sudo, as the server's directories belong to root.
if [ -w "$to" ]; then as_root=(); else as_root=(sudo); fi
for file in "$from"/*; do
    name=$(basename "$file")
    "${as_root[@]}" install -m "$(stat -c %a "$file")" "$file" "$to/.$name.new"
    "${as_root[@]}" mv -f "$to/.$name.new" "$to/$name"
done
