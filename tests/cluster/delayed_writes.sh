#!/bin/bash
# Writes that a mount delays (ADR 14): another mount sees them at once, a killed volcano takes none of
# them along, close and fsync wait for them, umount too. What is lost with a killed mount is what was
# neither closed nor synced, and with -o sync not even that.
source "$(dirname "$0")/lib.sh"
begin
other=$work/mnt2

# hold WHERE FILE FLAGS: a program that writes its name to FILE of a mount and keeps it open.
hold() {
  python3 - "$1/$2" "$2" "$3" <<'PROGRAM' &
import os, sys, time
path, text, flags = sys.argv[1:]
held = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_SYNC if flags == "sync" else 0), 0o644)
os.write(held, text.encode())
if flags == "fsync":
    os.fsync(held)
if flags == "close":
    os.close(held)
os.mkdir(path + ".written")
time.sleep(600)
PROGRAM
  helpers+=("$!")
  disown
  wait_until 10 test -d "$1/$2.written" || die "$2 is not written"
}
# closes FILE: a program that opens it, and when $work/go is there writes, closes, and says so.
closes() {
  python3 - "$1" "$work" <<'PROGRAM' &
import os, sys, time
path, work = sys.argv[1:]
held = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
open(work + "/opened", "w").close()
while not os.path.exists(work + "/go"):
    time.sleep(0.01)
os.write(held, b"text")
open(work + "/wrote", "w").close()
os.close(held)
open(work + "/closed", "w").close()
PROGRAM
  closer=$!
  disown
  wait_until 10 test -e "$work/opened" || die "$1 is not opened"
  kill -STOP "$volcano_pid"
  : >"$work/go"
  wait_until 5 test -e "$work/wrote" || failed "a write waits for the volcano"
  sleep 0.5
  expect "close does not end before the ring has what was written" test ! -e "$work/closed"
}
let_go() {
  kill "${helpers[@]}"
  local holder
  for holder in "${helpers[@]}"; do wait_until 10 process_ended "$holder"; done
  helpers=()
}
has() { [ "$(cat "$1/$2" 2>/dev/null)" = "$3" ]; }

start_volcano
mount_magma
mount_magma "$other"

hold "$mnt" seen none
expect "what is written and not closed the other mount sees" has "$other" seen seen
hold "$mnt" listed none
same "and its size" "$(stat -c %s "$other/listed")" 6
hold "$mnt" killed none
kill_volcano
start_volcano
expect "so it does when the volcano was killed before it was sent" has "$other" killed killed

closes "$mnt/closed"
kill -CONT "$volcano_pid"
expect "but then" wait_until 10 test -e "$work/closed"
rm "$work"/{opened,go,wrote,closed}
closes "$mnt/not-closed"
kill -KILL "$closer"
expect "and a program that is killed does not wait" wait_until 5 process_ended "$closer"
kill -CONT "$volcano_pid"

# 30 MB in pieces at random places, which are read through the other mount.
expect "pieces at random places are where they were written" \
  python3 - "$mnt/pieces" "$other/pieces" <<'PROGRAM'
import os, random, sys
size, rng = 30_000_000, random.Random(7)
model = bytearray(size)
held = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644)
os.truncate(sys.argv[1], size)
for turn in range(4):
    for _ in range(1500):
        at, length = rng.randrange(size - 5000), rng.randrange(1, 5000)
        piece = rng.randbytes(length)
        os.pwrite(held, piece, at)
        model[at:at + length] = piece
    at = rng.randrange(size - 100_000)
    assert os.pread(held, 100_000, at) == model[at:at + 100_000], "this mount"
    with open(sys.argv[2], "rb") as seen:
        assert seen.read() == model, "the other mount"
PROGRAM

head -c 20000000 /dev/urandom >"$work/large"
let_go
cp "$work/large" "$mnt/large"
unmount_magma
expect "what was copied before umount is there" cmp "$work/large" "$other/large"

mount_magma
for how in none close fsync sync; do hold "$mnt" "$how" "$how"; done
mount_process=$(mounters "$mnt")
kill -KILL $mount_process
wait_until 10 process_ended "${mount_process%% *}" || die "the mount process is still there"
umount -l "$mnt"
for how in close fsync sync; do
  expect "a mount that is killed loses nothing that was written with $how" has "$other" $how $how
done
let_go
mount_magma "$mnt" -o sync
hold "$mnt" mounted-sync none
mount_process=$(mounters "$mnt")
kill -KILL $mount_process
umount -l "$mnt"
expect "nor, mounted with -o sync, anything" has "$other" mounted-sync mounted-sync

let_go
unmount_magma "$other"
stop_volcano
fsck_clean
