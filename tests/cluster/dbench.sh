#!/bin/bash
# dbench's file server load: four clients, 5 s (a minute with MAGMA_LONG=1), no failure.
source "$(dirname "$0")/lib.sh"
begin
command -v dbench >/dev/null || skip_all "needs dbench"
loadfile=
for file in /usr/share/dbench/client.txt /usr/share/doc/dbench/client.txt /var/lib/dbench/client.txt; do
  [ ! -r "$file" ] || loadfile=$file
done
[ -n "$loadfile" ] || skip_all "no load file of dbench"
seconds=5
[ -z "${MAGMA_LONG:-}" ] || seconds=60

start_volcano
mount_magma
# run SECONDS CLIENTS [OPTION...]
run() { timeout $((seconds + 100)) dbench -c "$loadfile" -D "$mnt/dbench" -t "$1" "${@:3}" "$2"; }
mkdir "$mnt/dbench"
milliseconds run "$seconds" 4
same "dbench with 4 clients for $seconds s" "$took_code" 0
note "$(grep -a '^Throughput' "$work/timed.out")"
same "no operation failed" \
  "$(grep -aiE 'fail|error|expected|No such|child .* exited' "$work/timed.out" |
    grep -av 'barrier semaphore' | head -n 5)" ""  # (a machine without System V semaphores)
expect "it tells a throughput" grep -qa '^Throughput' "$work/timed.out"
if [ -n "${MAGMA_LONG:-}" ]; then
  milliseconds run 20 2 --sync-dir --fsync
  same "dbench with fsync" "$took_code" 0
  note "$(grep -a '^Throughput' "$work/timed.out")"
fi
expect "rm -r of what it left" rm -rf "$mnt/dbench"
same "nothing is left" "$(ls -A "$mnt" | grep -vx '\.dht')" ""
unmount_magma
stop_volcano
fsck_clean
