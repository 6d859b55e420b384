#!/bin/bash
# A real tree copied to the mount is there byte for byte: after kill -9 of the volcano under the
# mount, after a rename of its top directory, after unmount and mount, after a clean stop.
source "$(dirname "$0")/lib.sh"
begin

tree=/usr/share/perl
[ -d "$tree" ] || tree=/usr/lib/python3
[ -d "$tree" ] || skip_all "neither /usr/share/perl nor /usr/lib/python3 to copy"

start_volcano
mount_magma
expect "cp -a of $tree" cp -a "$tree" "$mnt/tree"
same_tree "the copy equals its source" "$tree" "$mnt/tree"

kill_volcano
fsck_clean "after kill -9"
start_volcano
same_tree "equal after kill -9 and restart, on the same mount" "$tree" "$mnt/tree"

expect "rename of the top directory" mv "$mnt/tree" "$mnt/moved"
expect "the old name is gone" test ! -e "$mnt/tree"
same_tree "equal under the new name" "$tree" "$mnt/moved"

unmount_magma
mount_magma
same_tree "equal after unmount and mount" "$tree" "$mnt/moved"

unmount_magma
expect "SIGTERM ends the volcano with exit code 0" stop_volcano
fsck_clean "after a clean stop"
start_volcano
mount_magma
same_tree "equal after clean stop and restart" "$tree" "$mnt/moved"

expect "rm -r of the tree" rm -r "$mnt/moved"
same "the filesystem is empty again" "$(ls -A "$mnt" | grep -vx '\.dht')" ""
kill_volcano
fsck_clean "after rm -r and kill -9"
