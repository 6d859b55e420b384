#!/bin/bash
# Names that a mount changes later (ADR 16), files that it makes later (ADR 18) and locks that it
# decides about itself (ADR 17), with real programs: a killed mount undoes the last changes at most,
# none before one that is kept, and no file that was written to and closed; a lock
# keeps the other mount out, over a restart of the volcano too, and ends with its program or mount.
source "$(dirname "$0")/lib.sh"
begin
other=$work/mnt2
count=6000

# work_on DIR LOG [SYNC_AT]: renames 0, 1, ... to moved.0, ..., every third of which it removes then;
# how many are done it writes to LOG; at SYNC_AT it syncs the directory and writes LOG.synced.
work_on() {
  rm -f "$2" "$2.synced"
  python3 - "$@" <<'PROGRAM' &
import os, sys
path, log = sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
sync_at = int(sys.argv[3]) if len(sys.argv) > 3 else -1
os.chdir(path)
number = 0
while os.path.exists(str(number)):
    os.rename(str(number), f"moved.{number}")
    if number % 3 == 0:
        os.unlink(f"moved.{number}")
    number += 1
    os.pwrite(log, b"%8d" % number, 0)
    if number == sync_at:
        here = os.open(".", os.O_RDONLY)
        os.fsync(here)
        open(sys.argv[2] + ".synced", "w").close()
PROGRAM
  worker=$!
  disown
}
# done_of LOG; wait_for_steps LOG COUNT, without a process of its own for each look.
done_of() {
  local line=
  [ ! -e "$1" ] || read -r line _ <"$1" || true
  echo "${line:-0}"
}
wait_for_steps() {
  local line= until=$((SECONDS + 30))
  until [ "${line:-0}" -ge "$2" ]; do
    [ $SECONDS -lt $until ] || die "$1: $line steps after 30 s"
    line=
    [ ! -e "$1" ] || read -r line _ <"$1" || true
  done
}
# Whether DIR, which had COUNT files, is as after some first steps: is_prefix DIR LEAST MOST COUNT.
is_prefix() {
  python3 - "$@" <<'PROGRAM'
import os, sys
path, least, most, count = sys.argv[1], *map(int, sys.argv[2:])
names = set(os.listdir(path))
after = {str(n) for n in range(count)}
steps = 0
while names != after:
    number = steps // 2
    if number >= count:
        sys.exit("no prefix: " + " ".join(sorted(names)[:20]))
    if steps % 2 == 0:
        after.remove(str(number))
        after.add(f"moved.{number}")
    elif number % 3 == 0:
        after.remove(f"moved.{number}")
    steps += 1
print(f"{steps / 2} of {most} are done")
# A number that is not removed has one step; the one that was begun may be done.
sys.exit(0 if 2 * least - 1 <= steps <= 2 * most + 2 else f"not between {least} and {most}")
PROGRAM
}
# make_on DIR LOG: makes made.0, made.1, ..., and writes to each third; how many are closed, and the last
# of them that was written to, it writes to LOG.
make_on() {
  rm -f "$2"
  python3 - "$@" <<'PROGRAM' &
import os, sys
log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
os.chdir(sys.argv[1])
number = written = 0
while True:
    made = os.open(f"made.{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
    if number % 3 == 0:
        os.write(made, b"%d" % number)
        written = number
    os.close(made)
    number += 1
    os.pwrite(log, b"%8d %8d" % (number, written), 0)
PROGRAM
  worker=$!
  disown
}
# Whether DIR has the first files that make_on makes: are_made DIR LOG, of a killed mount.
are_made() {
  python3 - "$@" <<'PROGRAM'
import os, sys
closed, written = map(int, open(sys.argv[2]).read().split())
names = os.listdir(sys.argv[1])
if set(names) != {f"made.{n}" for n in range(len(names))}:
    sys.exit("no prefix: " + " ".join(sorted(names)[-20:]))
print(f"{len(names)} of {closed} are there, {written} was written to")
if not max(written + 1, closed - 512) <= len(names) <= closed + 1:
    sys.exit("not between these")
for n in range(len(names)):
    path = f"{sys.argv[1]}/made.{n}"
    if os.stat(path).st_mode & 0o777 != 0o640:
        sys.exit(f"mode of {path}")
    content = open(path, "rb").read()
    if content != (b"%d" % n if n % 3 == 0 else b"") and n < closed:
        sys.exit(f"{path} has {content}")
PROGRAM
}
# The process of $mnt is $mount_process.
kill_mount() {
  kill -KILL $mount_process
  wait_until 10 process_ended "${mount_process%% *}" || die "the mount process is still there"
  umount -l "$mnt"
  kill -KILL "$worker" 2>/dev/null || true
  wait_until 10 process_ended "$worker" || die "the program is still there"
}
make_files() {
  mkdir "$1"
  (cd "$1" && seq 0 $((count - 1)) | xargs touch)
}

start_volcano
mount_magma
for sort in plain synced; do
  make_files "$mnt/$sort"
  sleep 5.5  # till nothing counts that a mount killed before believed: names are delayed then
  sync_at=-1
  [ $sort = plain ] || sync_at=500
  mount_process=$(mounters "$mnt")
  work_on "$mnt/$sort" "$work/$sort.log" $sync_at
  wait_for_steps "$work/$sort.log" 700
  kill_mount
  mount_magma
  most=$(done_of "$work/$sort.log") least=0
  [ ! -e "$work/$sort.log.synced" ] || least=500
  [ $sort = plain ] || expect "the directory was synced" test $least = 500
  # 512 steps at most are not sent (DelayedNames::kStepsMax).
  [ $((most - 512)) -le $least ] || least=$((most - 512))
  expect "$sort: a killed mount undoes the last changes of names at most" \
    is_prefix "$mnt/$sort" "$least" "$most" $count
  note "$(head -n 1 "$work/expect.out")"
done
mkdir "$mnt/made"
mount_process=$(mounters "$mnt")
make_on "$mnt/made" "$work/made.log"
wait_for_steps "$work/made.log" 900
kill_mount
mount_magma
expect "a killed mount has lost the last files it made at most, none that was written to and closed" \
  are_made "$mnt/made" "$work/made.log"
note "$(head -n 1 "$work/expect.out")"
unmount_magma
mount_magma "$mnt" -o dirsync
make_files "$mnt/dirsync"
mount_process=$(mounters "$mnt")
work_on "$mnt/dirsync" "$work/dirsync.log"
wait_for_steps "$work/dirsync.log" 300
kill_mount
mount_magma
most=$(done_of "$work/dirsync.log")
expect "dirsync: none" is_prefix "$mnt/dirsync" "$most" "$most" $count

# ---- locks
# lock_it FILE: a program that makes and locks it, and keeps the lock.
lock_it() {
  rm -f "$work/locked"
  python3 - "$1" "$work/locked" <<'PROGRAM' &
import fcntl, os, signal, sys
held = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644)
for turn in range(100):
    fcntl.lockf(held, fcntl.LOCK_EX)
    fcntl.lockf(held, fcntl.LOCK_UN)
fcntl.lockf(held, fcntl.LOCK_EX)
open(sys.argv[2], "w").close()
signal.pause()
PROGRAM
  worker=$!
  disown
  wait_until 10 test -e "$work/locked" || die "it is not locked"
}
is_free() {
  python3 - "$1" <<'PROGRAM'
import fcntl, os, sys
held = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
PROGRAM
}
is_locked() { ! is_free "$1" 2>/dev/null; }

mount_magma "$other"
lock_it "$mnt/one"
expect "a lock keeps the other mount out" is_locked "$other/one"
kill "$worker"
expect "until its program ends" wait_until 5 is_free "$other/one"
lock_it "$mnt/two"
kill_volcano
start_volcano
expect "it does so when the volcano was killed before it knew" is_locked "$other/two"
kill "$worker"
expect "until its program ends, too" wait_until 5 is_free "$other/two"
lock_it "$mnt/three"
mount_process=$(mounters "$mnt")
kill_mount
killed_at=$(now_ms)
expect "the lock of a killed mount is free when its session has ended" \
  wait_until 20 is_free "$other/three"
expect "after some seconds, not at once" test $(($(now_ms) - killed_at)) -gt 3000

unmount_magma "$other"
stop_volcano
fsck_clean
