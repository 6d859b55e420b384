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

# Every engine, reading and writing at random in small odd sizes; direct where the engine is for it.
for engine in pvsync2 libaio io_uring mmap splice; do
  more=()
  case $engine in
    libaio) more=(--direct=1 --iodepth=16 --bs=4k) ;;
    io_uring) more=(--iodepth=16 --bsrange=512-9k) ;;
    pvsync2) more=(--bsrange=512-9k) ;;
    *) more=(--bs=4k) ;;
  esac
  if ! fio --enghelp 2>/dev/null | grep -qwF "$engine" ||
     ! (cd "$work" && fio --name=try --directory="$work" --ioengine=$engine --rw=write --bs=4k \
          --size=16k) >"$work/try.out" 2>&1; then
    passed "engine $engine # SKIP it does not work on this machine"
    continue
  fi
  verified "engine $engine" "$engine" --ioengine=$engine --rw=randrw --nrfiles=3 --filesize=700k \
    --size=2100k --verify_backlog=64 "${more[@]}"
done
verified "direct, psync" direct --direct=1 --rw=randrw --bs=4k --size=3m
verified "direct, over the chunk border" direct_chunk --direct=1 --ioengine=libaio --iodepth=8 \
  --rw=randwrite --bs=64k --offset=60m --size=72m --io_size=8m
[ -z "${MAGMA_LONG:-}" ] || for engine in psync pvsync2 libaio io_uring mmap; do
  direct=1
  [ $engine != mmap ] || direct=0
  verified "4 jobs of 300 MB, $engine" "long_$engine" --ioengine=$engine --direct=$direct --rw=randrw \
    --bsrange=4k-256k --bs_unaligned=$((1 - direct)) --size=300m --numjobs=4 --iodepth=16
done

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
