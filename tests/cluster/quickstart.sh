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
pid=$(cat "$work/quick/magmad.pid")
kill -9 "$pid"
expect "run after the volcano was killed" quick "$work/quick"
same "the file is still there" "$(timeout 10 cat "$work/quick/mnt/hello")" hello
pid=$(cat "$work/quick/magmad.pid")
expect "quickstart stop" quick stop "$work/quick"
expect "its folder is gone" test ! -e "$work/quick"
expect "its volcano has ended" process_ended "$pid"
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
