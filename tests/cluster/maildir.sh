#!/bin/bash
# A maildir on two mounts at once: several processes on each deliver (write in tmp, fsync, link to
# new, unlink) while readers on each move messages from new to cur, and the volcano is killed -9 and
# restarted meanwhile. No message is lost, doubled or moved by two readers.
source "$(dirname "$0")/lib.sh"
begin
messages=80 deliverers=3 readers=2 kills=1
[ -z "${MAGMA_LONG:-}" ] || messages=3000 kills=20

start_volcano
mount_magma
mount_magma "$work/mnt2"
mkdir -p "$mnt/mail"/{tmp,new,cur}
wait_until 5 test -d "$work/mnt2/mail/cur"
delivering=() reading=() sent=() got=()
for where in mnt mnt2; do
  for ((i = 1; i <= deliverers; i++)); do
    python3 "$lib_dir/maildir.py" deliver "$work/$where/mail" "$where.$i" $messages \
      "$work/sent.$where.$i" >"$work/deliver.$where.$i" 2>&1 &
    delivering+=($!) sent+=("$work/sent.$where.$i")
  done
  for ((i = 1; i <= readers; i++)); do
    : >"$work/got.$where.$i"
    python3 "$lib_dir/maildir.py" read "$work/$where/mail" "$where.$i" \
      "$work/got.$where.$i" >"$work/read.$where.$i" 2>&1 &
    reading+=($!) got+=("$work/got.$where.$i")
  done
done
helpers+=("${delivering[@]}" "${reading[@]}")
lines() { cat "$@" 2>/dev/null | wc -l; }
has_read() { [ "$(lines "${got[@]}")" -ge "$1" ]; }
all_ended() {
  local pid
  for pid in "$@"; do process_ended "$pid" || return 1; done
}
total=$((2 * deliverers * messages))
for ((i = 1; i <= kills; i++)); do
  expect "mail comes and is read before kill $i" wait_until 30 has_read $((total * i / (kills + 2)))
  kill_volcano
  start_volcano
done
expect "all is delivered" wait_until $((30 + total / 20)) all_ended "${delivering[@]}"
: >"$mnt/mail.stop"
expect "all is read" wait_until 30 all_ended "${reading[@]}"
same "no process saw an error" "$(cat "$work"/deliver.* "$work"/read.* | head -n 5)" ""
for where in mnt mnt2; do
  same "readers on $where got some" "$(($(lines "$work/got.$where."*) > 0))" 1
  expect "no message lost or doubled, seen from $where" python3 "$lib_dir/maildir.py" verify \
    "$work/$where/mail" "${sent[@]}" -- "${got[@]}"
  note "$(tail -n 1 "$work/expect.out")"
done
expect "no message is moved by two readers" python3 "$lib_dir/maildir.py" moved_once "${got[@]}"
unmount_magma
unmount_magma "$work/mnt2"
stop_volcano
fsck_clean
