#!/bin/bash
# The storage of a volcano on a disk of 128 MiB that fills up: the writer sees ENOSPC, what was
# written stays, deleting works and makes room, the volcano lives on.
source "$(dirname "$0")/lib.sh"
begin
# Also unmounts the image: called by the end of the test.
at_end() {
  kill_volcano
  if is_mounted "$work/disk"; then umount "$work/disk" || umount -l "$work/disk"; fi
}
truncate -s 128M "$work/image"
mkfs.ext4 -q -F "$work/image" || skip_all "cannot make an ext4 image"
mkdir "$work/disk"
mount -o loop "$work/image" "$work/disk" 2>"$work/loop.out" ||
  skip_all "cannot mount an image: $(head -n 1 "$work/loop.out")"
storage=$work/disk/storage

start_volcano
mount_magma
expect "a tree from before" cp -a "$MAGMA_SOURCE/libmagma" "$mnt/before"
tree_hash "$mnt/before" >"$work/before.sum"

# fill NAME BYTES COUNT: files until one fails; sets filled, and error to the last message. What a
# file that failed holds is unknown: it is removed.
fill() {
  error=
  for ((filled = 0; filled < $3; filled++)); do
    error=$(head -c "$2" /dev/zero | tr '\0' "$((filled % 10))" 2>&1 |
      dd of="$mnt/$1.$filled" bs="$2" iflag=fullblock conv=fsync status=none 2>&1)
    [ -z "$error" ] || break
  done
  rm -f "$mnt/$1.$filled"
}
is_whole() {
  local i
  for ((i = 0; i < $3; i++)); do
    head -c "$2" /dev/zero | tr '\0' "$((i % 10))" | cmp - "$mnt/$1.$i" || return 1
  done
}
free_kib() { df -k --output=avail "$mnt" | tail -n 1; }
free_before=$(free_kib)
fill big 4000000 60
large=$filled
note "$large files of 4 MB until: $error"
same "the writer of large files sees ENOSPC" "${error##*: }" "No space left on device"
expect "and got a good part of the disk" test "$large" -ge 15
# The blocks of the file that did not fit come back in the background, after the next sync of a disk
# that may be busy: it is full when it stays so.
has_room() { touch "$mnt/room" 2>/dev/null && rm "$mnt/room"; }
small=0 round=0
while ((round++ < 6)); do
  fill "small$round" 3000 30000
  small=$((small + filled))
  wait_until 6 has_room || break
done
note "then $small of 3 kB in $round rounds until: $error"
same "the writer of small files sees ENOSPC" "${error##*: }" "No space left on device"
expect "files written before are whole" is_whole big 4000000 "$large"
tree_hash "$mnt/before" >"$work/full.sum"
expect "the tree from before is unchanged" cmp "$work/before.sum" "$work/full.sum"
expect_failure "mkdir on the full disk says so" 1 "No space left" mkdir "$mnt/no"
expect "df on the mount works" df "$mnt"
expect "the volcano is alive" kill -0 "$volcano_pid"

kill_volcano
start_volcano
expect "after kill -9 on a full disk the files are whole" is_whole big 4000000 "$large"
expect "deleting works when the disk is full" rm "$mnt"/big.*
rm -f "$mnt"/small*
# Blocks come back in the background: who writes at once waits for them.
write_again() {
  head -c 8000000 /dev/zero >"$mnt/probe" && cp -a "$MAGMA_SOURCE/libmagma" "$mnt/after"
}
expect "a tree can be written again at once" write_again
same_tree "and is right" "$MAGMA_SOURCE/libmagma" "$mnt/after"
rm -r "$mnt/after" "$mnt/probe"
# What the databases have grown by stays theirs, and so do their four -wal files, of up to 4 MiB each.
is_free_again() { [ "$(free_kib)" -ge $((free_before - 24000)) ]; }
expect "the room of all that was deleted comes back within 20 s" wait_until 20 is_free_again
note "free: $free_before KiB before, $(free_kib) KiB now"
fill big 4000000 60
note "then $filled files of 4 MB until: $error"
expect "filled again nearly as far" test "$filled" -ge $((large - 7))
unmount_magma
stop_volcano
fsck_clean "after the disk was full"
