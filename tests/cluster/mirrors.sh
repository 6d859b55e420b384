#!/bin/bash
# Two volcanoes, the second a mirror of the first, with a mount at work all the time: the mirror joins
# when files are there, each is killed -9, cut off, stopped and started in every order. The work goes
# on, what is told of the ring is so, and in the end both have the same: rows, sums and bytes.
source "$(dirname "$0")/lib.sh"
source "$lib_dir/ring.sh"
begin
at_end() { ring_end; }
stall_ms=6000  # that work may be held up by a mirror that is lost (magmad/replication/source.h: 2 s)
ring_spaces "mm$(($$ % 100000))" "198.18.$(($$ % 250))" wallace gromit ||
  note "no network namespaces: on loopback addresses"
ring_nodes wallace gromit
host=${address[wallace]}
tree=$MAGMA_SOURCE/magmad
"$MAGMA" keygen "$key" >/dev/null || die "magma keygen"

healthy() { becomes "$1: the ring is healthy" wallace 'r["health"], r["copies_had"]' "('healthy', 2)"; }
# How often a mirror was brought up to date in that way, by the primary that runs now.
begun() { grep -c "mirror_begins .*how=$1" "${out[wallace]}"; }
# by_oplog COPIES: so many whole copies and at least one from the oplog. The map may have the mirror in
# sync from before: the primary meets it a little later.
has_begun_by_oplog() { [ "$(begun oplog)" -ge 1 ]; }
by_oplog() {
  wait_until 10 has_begun_by_oplog
  expect "by the oplog" [ "$(begun copy)" -eq "$1" -a "$(begun oplog)" -ge 1 ]
}
# What it says of itself all the time: lines `HEALTH REASON`.
watch_ring() {
  while :; do
    ring wallace 'r["health"] + " " + r["reason"]'
    sleep 0.1
  done >"$work/watched" 2>/dev/null
}
sleep_until() { sleep "$((($1 - $(now_ms)) / 1000 + 1))"; }
steps() { wc -l <"$work/load.log"; }
grown_past() { [ "$(wc -l <"$1")" -gt "$2" ]; }
# works_on FROM TEXT: the load got on since FROM, without a longer stall than is allowed.
works_on() {
  local stalled before
  before=$(steps)
  wait_until 20 grown_past "$work/load.log" $((before + 40))
  stalled=$(python3 "$lib_dir/steady_load.py" stall "$work/load.log" "$1")
  expect "$2: the work went on (the longest stall was $stalled ms)" [ "$stalled" -lt $stall_ms ]
}

# --- files before the mirror ----------------------------------------------------------------------
run_node wallace -b --one-primary --key-file "$key"
mount_magma
cp -a "$tree" "$mnt/tree"
head -c 150M /dev/urandom >"$work/large"
python3 - "$work/large" <<'PY'
import sys
with open(sys.argv[1], "r+b") as file:  # a hole of 20 MiB
    file.seek(40 << 20)
    file.write(bytes(20 << 20))
PY
cp --sparse=always "$work/large" "$mnt/large"
mkdir "$mnt/many" && (cd "$mnt/many" && seq -f 'name %g' 2000 | xargs -d '\n' touch)
ln "$mnt/tree/main.cc" "$mnt/hard" && ln -s ../tree/main.cc "$mnt/many/soft"
python3 -c 'import os, sys
os.setxattr(sys.argv[1], "user.small", b"attribute")
os.setxattr(sys.argv[1], "user.large", b"x" * 20000)' "$mnt/hard" || failed "setxattr"
sync -f "$mnt"
becomes "one volcano: one copy" wallace 'r["health"], r["copies_had"]' "('healthy', 1)"

# --- the mirror joins -----------------------------------------------------------------------------
python3 "$lib_dir/steady_load.py" run "$mnt/load" "$tree" "$work/load.log" >"$work/load.out" 2>&1 &
load=$!
helpers+=("$load")
: >"$work/load.log"
wait_until 10 grown_past "$work/load.log" 20 || die "no work is done: $(cat "$work/load.out")"
watch_ring &
watcher=$!
helpers+=("$watcher")
from=$(now_ms)
run_node gromit -r "${address[wallace]}" --key-file "$key"
healthy "gromit joined"
note "after $(($(now_ms) - from)) ms"
expect "before, it was degraded: one copy, gromit copies" \
  grep -q '^degraded one copy of everything; gromit is copying' "$work/watched"
works_on "$from" "during the copy"
{ kill "$watcher" && wait "$watcher"; } 2>/dev/null
same "it was copied once" "$(begun copy)" 1
same "gromit is in sync" "$(ring gromit 'v["gromit"]["mirror"]["state"]')" in_sync

# --- the mirror is killed under load --------------------------------------------------------------
from=$(now_ms)
kill_node gromit
becomes "gromit is killed: degraded, and why" wallace \
  'r["health"], r["copies_had"], "one copy of everything; gromit is away" in r["reason"]' \
  "('degraded', 1, True)"
works_on "$from" "without gromit"
run_node gromit
healthy "gromit is back"
by_oplog 1
works_on "$from" "while it came back"

# --- the primary is killed under load -------------------------------------------------------------
from=$(now_ms)
kill_node wallace
run_node wallace
healthy "wallace was killed"
by_oplog 0
works_on "$from" "after wallace was killed"

if [ -n "${MAGMA_LONG:-}" ]; then
  from=$(now_ms)
  kill -STOP "${pid[gromit]}"
  becomes "gromit does not run: degraded" wallace 'r["health"]' degraded
  works_on "$from" "while gromit did not run"
  kill -CONT "${pid[gromit]}"
  healthy "gromit runs again"
  same "without a copy" "$(begun copy)" 0
fi

# --- the network is cut ---------------------------------------------------------------------------
if [ -n "$space_prefix" ]; then
  from=$(now_ms)
  cut_off gromit
  becomes "gromit is cut off: degraded, and why" wallace \
    'r["health"], "gromit is away" in r["reason"]' "('degraded', True)"
  sleep_until $((from + 5000))
  connect gromit
  healthy "gromit is connected again"
  same "without a copy" "$(begun copy)" 0
  works_on "$from" "while gromit was cut off"
  from=$(now_ms)
  cut_off wallace
  sleep_until $((from + 4000))
  connect wallace
  healed=$(now_ms)
  healthy "wallace is connected again"
  same "without a copy" "$(begun copy)" 0
  works_on "$healed" "after wallace was cut off"
else
  passed "the network is cut # SKIP no network namespaces"
fi

# --- everything that was acknowledged -------------------------------------------------------------
: >"$work/load.log.stop"
wait "$load"
same "the work saw no error" "$? $(cat "$work/load.out")" "0 "
python3 "$lib_dir/acknowledged_writer.py" write "$mnt/work" "$work/acknowledged" \
  >"$work/writer.out" 2>&1 &
writer=$!
helpers+=("$writer")
: >"$work/acknowledged"
gets_on() {
  local before
  before=$(wc -l <"$work/acknowledged")
  wait_until 20 grown_past "$work/acknowledged" $((before + $1)) ||
    die "the writer stands still $2: $(cat "$work/writer.out")"
}
victims="wallace gromit"
[ -z "${MAGMA_LONG:-}" ] || victims=$(printf 'wallace gromit %.0s' {1..10})
for victim in $victims; do
  gets_on 200 "before $victim is killed"
  kill_node $victim
  [ $victim = wallace ] || gets_on 50 "without $victim"
  run_node $victim
  healthy "$victim is back"
done
gets_on 100 "after all kills"
: >"$work/acknowledged.stop"
wait "$writer"
same "the writers saw no error" "$? $(grep -v '^done' "$work/writer.out" | head -n 5)" "0 "
note "$(tail -n 1 "$work/writer.out")"
acknowledged() { python3 "$lib_dir/acknowledged_writer.py" verify "$mnt/work" "$work/acknowledged"; }
expect "all that was acknowledged is there" acknowledged

# --- stopped and started in either order ----------------------------------------------------------
timeout 20 "$MAGMA" shutdown --yes --host "${address[wallace]}" --key-file "$key" >/dev/null
ended_cleanly wallace
stop_node gromit
run_node gromit
run_node wallace
healthy "wallace stopped first, gromit started first"
stop_node gromit
stop_node wallace
run_node wallace
run_node gromit
healthy "gromit stopped first, wallace started first"
expect "all is there" acknowledged

# --- both are killed at once ----------------------------------------------------------------------
{ kill -9 "${pid[@]}" && wait "${pid[@]}"; } 2>/dev/null
run_node wallace
milliseconds timeout 60 touch "$mnt/after"
expect "a mirror that is away holds up a new start for a few seconds only ($took_ms ms)" \
  [ "$took_code" -eq 0 -a "$took_ms" -lt 9000 ]
run_node gromit
healthy "both were killed"
expect "all that was acknowledged is there, still" acknowledged
expect "so is the load" python3 "$lib_dir/steady_load.py" verify "$mnt/load" "$tree"
unmount_magma
host=${address[gromit]}
mount_magma
same_tree "a fresh mount, by the mirror, has the tree" "$tree" "$mnt/tree"
same "a tool asks the mirror for a file" \
  "$("$MAGMA" cat --host "${address[gromit]}" --key-file "$key" /large | sha256sum)" \
  "$(sha256sum <"$work/large")"
expect "and the large file" cmp "$work/large" "$mnt/large"
same "and all names, links and attributes" "$(ls "$mnt/many" | wc -l) $(readlink "$mnt/many/soft") \
$(stat -c %h "$mnt/tree/main.cc") $(python3 -c 'import os, sys
print(*[len(os.getxattr(sys.argv[1], "user." + name)) for name in ("small", "large")])' "$mnt/hard")" \
  "2001 ../tree/main.cc 2 9 20000"
unmount_magma
healthy "at the end"
stop_node wallace
stop_node gromit
both_same "at the end"
exit 0
