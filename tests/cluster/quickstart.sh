#!/bin/bash
# ./quickstart with built programs: up, used, run again, stopped; it leaves nothing.
source "$(dirname "$0")/lib.sh"
begin
quick() { MAGMA_BUILD_DIR=$(dirname "$(dirname "$MAGMAD")") timeout 60 "$MAGMA_SOURCE/quickstart" "$@"; }
# It serves on 127.0.0.1:12000, which may be taken by a user's volcano.
if ss -Hlun "sport = :12000" | grep -qE '(127\.0\.0\.1|0\.0\.0\.0|\*|\[::\]):12000'; then
  skip_all "UDP port 12000 of 127.0.0.1 is in use"
fi
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
