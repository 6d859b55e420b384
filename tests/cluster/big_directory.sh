#!/bin/bash
# One directory with 10,000 entries (a million with MAGMA_LONG=1): made, counted, looked through,
# read while it is being emptied, removed; neither program takes more than 200 MiB.
source "$(dirname "$0")/lib.sh"
begin
entries=10000 most_memory=$((200 * 1024))
[ -z "${MAGMA_LONG:-}" ] || entries=1000000

# The peak of a process's memory in KiB.
peak() { sed -n 's/^VmHWM:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$1/status"; }
memory_is_bounded() {
  local mounter
  mounter=$(mounters "$mnt")
  note "VmHWM of magmad $(peak "$volcano_pid") KiB, of mount.magma $(peak "$mounter") KiB"
  expect "magmad stays below $most_memory KiB $1" test "$(peak "$volcano_pid")" -lt $most_memory
  expect "mount.magma stays below $most_memory KiB $1" test "$(peak "$mounter")" -lt $most_memory
}
count() { ls -fA "$1" | wc -l; }

start_volcano
mount_magma
mkdir "$mnt/big"
milliseconds python3 "$lib_dir/big_directory.py" create "$mnt/big" $entries
same "$entries files are made" "$took_code" 0
note "$(tail -n 1 "$work/timed.out")"
memory_is_bounded "after making them"
milliseconds count "$mnt/big"
same "ls -f tells them all" "$(cat "$work/timed.out")" $entries
note "ls -f took $took_ms ms"
same "find tells each once" "$(find "$mnt/big" -type f -size 0 -printf '%f\n' | sort -un | wc -l)" $entries
same "stat of one of them" "$(stat -c '%F %h' "$mnt/big/$((entries / 2))")" "regular empty file 1"
same "the directory has no subdirectories" \
  "$(stat -c %h "$mnt/big")" 2
unmount_magma
mount_magma
same "a fresh mount tells them all" "$(count "$mnt/big")" $entries
memory_is_bounded "after reading them"
kill_volcano
start_volcano
same "and after kill -9 of the volcano" "$(count "$mnt/big")" $entries
expect "names that stay are told once while others go" \
  python3 "$lib_dir/big_directory.py" remove_amid "$mnt/big"
note "$(tail -n 1 "$work/expect.out")"
expect_failure "rmdir of what is not empty" 1 "not empty" rmdir "$mnt/big"
milliseconds rm -r "$mnt/big"
same "rm -r of the rest" "$took_code$(ls -A "$mnt" | grep -vx '\.dht')" 0
note "rm -r took $took_ms ms"
memory_is_bounded "in the end"
unmount_magma
stop_volcano
fsck_clean
