#!/bin/bash
# Two mounts of one volcano agree: what a call on one has changed the next call on the other sees,
# through names, attributes and open files; and processes on both that are in the same directories at
# once do not wait for each other's tokens to end. A mount that is stopped delays others for one term
# of its tokens, not longer.
source "$(dirname "$0")/lib.sh"
begin
seconds=6
[ -z "${MAGMA_LONG:-}" ] || seconds=120

start_volcano
mount_magma
mount_magma "$work/mnt2"
mkdir "$mnt/agree" "$mnt/fight" "$mnt/race"
expect "what one mount changes the other sees at once" \
  python3 "$lib_dir/two_mounts.py" agree "$seconds" "$mnt/agree" "$work/mnt2/agree"
expect "calls on both in the same directories get on, and both see the same" \
  python3 "$lib_dir/two_mounts.py" fight "$seconds" "$mnt/fight" "$work/mnt2/fight"
expect "of several that rename the same at once one succeeds" \
  python3 "$lib_dir/two_mounts.py" race "$seconds" "$mnt/race" "$work/mnt2/race"

touch "$mnt/file"
label() { python3 -c 'import os, sys; print(os.getxattr(sys.argv[1], "security.selinux"))' "$1" 2>&1 |
  tail -1; }
expect "a security label that is not there: no module is" \
  grep -q "Errno 95" <<<"$(label "$mnt/file")"
python3 -c 'import os, sys; os.setxattr(sys.argv[1], "security.selinux", b"kept")' "$mnt/file"
expect "one that was stored is told" test "$(label "$work/mnt2/file")" = "b'kept'"
stat "$work/mnt2/file" >/dev/null
stopped=$(mounters "$work/mnt2")
kill -STOP $stopped
began=$(now_ms)
expect "a change goes on though the other mount does not answer" chmod 600 "$mnt/file"
took=$(($(now_ms) - began))
expect "it waited for the tokens to end, no longer (it took $took ms)" \
  test "$took" -lt 7000
began=$(now_ms)
chmod 640 "$mnt/file"
took=$(($(now_ms) - began))
expect "the next one does not wait (it took $took ms)" test "$took" -lt 2000
kill -CONT $stopped
sees_mode() { [ "$(stat -c %a "$work/mnt2/file")" = "$1" ]; }
expect "the other mount sees it when it goes on" wait_until 5 sees_mode 640

kill_volcano
start_volcano
began=$(now_ms)
expect "a change after a restart" chmod 644 "$mnt/file"
took=$(($(now_ms) - began))
expect "waits at most as long as the other mount may believe (it took $took ms)" \
  test "$took" -lt 7000
expect "and is seen" sees_mode 644
unmount_magma "$work/mnt2"
unmount_magma
stop_volcano
fsck_clean
