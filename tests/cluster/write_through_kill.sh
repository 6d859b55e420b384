#!/bin/bash
# Writers append to files, create files and rename them while the volcano is killed -9 and restarted
# five times. Each logs what was acknowledged. The writers see no error, all that was acknowledged is
# there, nothing twice. Fails if a kill did not strike while they were at work.
source "$(dirname "$0")/lib.sh"
begin
kills=5

start_volcano
mount_magma
: >"$work/acknowledged"
python3 "$lib_dir/acknowledged_writer.py" write "$mnt/work" "$work/acknowledged" \
  >"$work/writer.out" 2>&1 &
writer=$!
helpers+=("$writer")
acknowledged() { wc -l <"$work/acknowledged"; }
# A writer is inside a system call that the mount has not answered.
is_waiting() { grep -qsE 'request_wait_answer|fuse' "/proc/$writer"/task/*/wchan; }
grown_past() { [ "$(acknowledged)" -gt "$1" ]; }
wait_until 20 grown_past 200 || die "the writer does not get on: $(cat "$work/writer.out")"

struck=0
for ((i = 1; i <= kills; i++)); do
  before=$(acknowledged)
  wait_until 20 grown_past $((before + 300)) || die "the writer stands still before kill $i"
  kill_volcano
  if wait_until 2 is_waiting; then struck=$((struck + 1)); fi
  at_kill=$(acknowledged)
  start_volcano
  wait_until 20 grown_past $((at_kill + 3)) || die "the writer stands still after restart $i"
done
same "all $kills kills struck writers at work" "$struck" "$kills"

: >"$work/acknowledged.stop"
wait "$writer"
same "the writers saw no error" "$? $(grep -v '^done' "$work/writer.out" | head -n 5)" "0 "
note "$(tail -n 1 "$work/writer.out")"
expect "all that was acknowledged is there, once" \
  python3 "$lib_dir/acknowledged_writer.py" verify "$mnt/work" "$work/acknowledged"
unmount_magma
mount_magma
expect "also seen by a fresh mount" \
  python3 "$lib_dir/acknowledged_writer.py" verify "$mnt/work" "$work/acknowledged"
unmount_magma
stop_volcano
fsck_clean "after $kills kills"
