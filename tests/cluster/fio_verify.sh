#!/bin/bash
# fio writes with checksums and reads them back: sizes below and above the small file limit (64 KiB)
# and across a chunk border (64 MiB); the last run with kill -9 of the volcano in its middle.
source "$(dirname "$0")/lib.sh"
begin
command -v fio >/dev/null || skip_all "needs fio"
start_volcano
mount_magma

# run NAME ARGUMENT...: one fio job with verification; leaves its output in $work/NAME.out.
run() {
  local name=$1
  shift
  (cd "$work" && timeout 120 fio --name="$name" --directory="$mnt" --ioengine=psync \
    --verify=crc32c --verify_fatal=1 --do_verify=1 --randseed=7 --group_reporting \
    "$@") >"$work/$name.out" 2>&1
}
# verified TEXT NAME ARGUMENT...
verified() {
  local text=$1 name=$2
  shift 2
  if run "$name" "$@"; then
    passed "$text"
  else
    failed "$text"
    grep -aE 'verify|error|err=|fio:' "$work/$name.out" | head -n 10 | sed 's/^/#   /'
  fi
}

verified "sequential, small files" small --rw=write --bs=4k --nrfiles=50 --filesize=20k --size=1000k
verified "random, files that spill past 64 KiB" spill --rw=randwrite --bs=3k --nrfiles=20 \
  --filesize=90k --size=1800k
verified "sequential, 80 MiB over the chunk border" large --rw=write --bs=256k --size=80m
verified "random, 80 MiB over the chunk border" random --rw=randwrite --bs=64k --size=80m
verified "random reads and writes at odd sizes around the chunk border" mixed --rw=randrw \
  --bsrange=512-37k --offset=62m --size=68m --io_size=24m --verify_backlog=64
verified "fsync after every write" synced --rw=randwrite --bs=8k --size=2m --fsync=1
verified "written through a shared mapping" mapped --ioengine=mmap --rw=randwrite --bs=4k --size=4m

run killed --rw=randwrite --bs=32k --size=70m --rate=20m,20m &
fio_job=$!
helpers+=("$fio_job")
has_written() { [ "$(stat -c %s "$mnt/killed.0.0" 2>/dev/null || echo 0)" -gt 1000000 ]; }
expect "fio is at work at the kill" wait_until 20 has_written
kill_volcano
expect "and not finished" kill -0 "$fio_job"
start_volcano
wait "$fio_job"
same "random, with kill -9 in the middle: fio saw no error and all verifies" $? 0

unmount_magma
mount_magma
# The same job again, reading only: what was written is still there for a fresh mount.
verified "verified again by a fresh mount" killed --rw=randwrite --bs=32k --size=70m --verify_only=1
unmount_magma
stop_volcano
fsck_clean
