#!/bin/bash
# ./quickstart with built programs: up, used, run again, stopped; it leaves nothing.
source "$(dirname "$0")/lib.sh"
begin
quick() { MAGMA_BUILD_DIR=$(dirname "$(dirname "$MAGMAD")") timeout 60 "$MAGMA_SOURCE/quickstart" "$@"; }
# Its own address: 127.0.0.1 may be a user's volcano's.
export MAGMA_QUICKSTART_IP=$host
at_end() { quick stop "$work/quick" >/dev/null 2>&1; }

expect "quickstart" quick "$work/quick"
echo hello >"$work/quick/mnt/hello"
same "the mount can be used" "$(cat "$work/quick/mnt/hello")" hello
expect "run a second time" quick "$work/quick"
same "the file is still there" "$(cat "$work/quick/mnt/hello")" hello
pid_of() { cat "$work/quick/$1.pid"; }
lava() { "$MAGMA" lava --host "$host" --key-file "$work/quick/network.key"; }
is_well() { lava | grep -qx 'ring  *healthy'; }
has_copies() { lava | grep -qE "^copies +$1"; }
expect "the ring is healthy" is_well
expect "three copies" has_copies 3
kill -9 "$(pid_of gromit)"
expect "a volcano is killed: the mount goes on" \
  timeout 10 sh -c "echo on >'$work/quick/mnt/on' && sync '$work/quick/mnt/on'"
expect "run after it was killed" quick "$work/quick"
expect "the ring is healthy again" is_well
kill -9 "$(pid_of wallace)"
expect "run after the founder was killed" quick "$work/quick"
same "the files are still there" "$(cd "$work/quick/mnt" && timeout 10 cat hello on | xargs)" \
  "hello on"
pids=$(cat "$work/quick/"*.pid)
same "it starts three volcanoes" "$(wc -w <<<"$pids")" 3
expect "quickstart stop" quick stop "$work/quick"
expect "its folder is gone" test ! -e "$work/quick"
for pid in $pids; do expect "its volcano has ended" process_ended "$pid"; done
same "its mount process is gone" "$(mounters "$work/quick")" ""
expect "stop again is no error" quick stop "$work/quick"

# A port that somebody has is told before anything is built or made.
python3 -c 'import socket, sys, time
taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
taken.bind((sys.argv[1], 12000))
print("bound", flush=True)
time.sleep(60)' "$host" >"$work/bound" &
helpers+=($!)
expect "a port is taken" wait_until 5 grep -q bound "$work/bound"
expect_failure "quickstart tells that the port is taken" 1 "MAGMA_QUICKSTART_IP" \
  quick "$work/other"
expect_failure "and by whom" 1 'users:(("python3"' quick "$work/other"
quick stop "$work/other" >/dev/null
kill "${helpers[-1]}"; wait "${helpers[-1]}" 2>/dev/null
same "and leaves nothing" "$(ls -d "$work/other" 2>/dev/null)" ""
