#!/bin/bash
# Volcanoes that share the keyspace (magmad --share-slots): two join while work goes on, and get their
# shares; each of the three is killed -9 or cut off under load, also the founder, and others take its
# place; at the end everything that was acknowledged is there, and all copies agree.
source "$(dirname "$0")/lib.sh"
source "$lib_dir/ring.sh"
begin
at_end() { ring_end; }
stall_ms=15000
ring_spaces "ms$(($$ % 100000))" "198.18.$(($$ % 250))" wallace gromit penguin ||
  note "no network namespaces: on loopback addresses"
ring_nodes wallace gromit penguin
host=${address[wallace]}
tree=$MAGMA_SOURCE/magmad
"$MAGMA" keygen "$key" >/dev/null || die "magma keygen"
becomes_seconds=40

steps() { wc -l <"$work/load.log"; }
grown_past() { [ "$(wc -l <"$1")" -gt "$2" ]; }
# works_on FROM TEXT: the load got on since FROM, without a longer stall than is allowed.
works_on() {
  local stalled before
  before=$(steps)
  wait_until 30 grown_past "$work/load.log" $((before + 40))
  stalled=$(python3 "$lib_dir/steady_load.py" stall "$work/load.log" "$1")
  expect "$2: the work went on (the longest stall was $stalled ms)" [ "$stalled" -lt $stall_ms ]
}
shares='all(1200 < x["slots"] < 1600 for x in v.values()), r["health"]'

run_node wallace -b --key-file "$key"
mount_magma
cp -a "$tree" "$mnt/tree"
head -c 150M /dev/urandom >"$work/large"
cp "$work/large" "$mnt/large"
python3 "$lib_dir/steady_load.py" run "$mnt/load" "$tree" "$work/load.log" >"$work/load.out" 2>&1 &
load=$!
helpers+=("$load")
: >"$work/load.log"
wait_until 10 grown_past "$work/load.log" 20 || die "no work is done: $(cat "$work/load.out")"

from=$(now_ms)
run_node gromit -r "${address[wallace]}" --key-file "$key"
becomes "gromit joined: half of the slots each" wallace \
  'all(x["slots"] == 2048 for x in v.values()), r["health"]' "(True, 'healthy')"
note "after $(($(now_ms) - from)) ms"
works_on "$from" "while gromit joined"
from=$(now_ms)
run_node penguin -r "${address[gromit]}" --key-file "$key"
becomes "penguin joined: a third of the slots each" wallace "len(v), $shares" "(3, True, 'healthy')"
note "after $(($(now_ms) - from)) ms"
works_on "$from" "while penguin joined"
same_tree "the tree is whole" "$tree" "$mnt/tree"
expect "a large file is whole" cmp "$work/large" "$mnt/large"
becomes "three vote" wallace '[x["vote"] for x in v.values()].count("votes")' 3

for node in wallace penguin gromit; do
  other=$([ $node = gromit ] && echo wallace || echo gromit)
  from=$(now_ms)
  kill_node $node
  becomes "$node is killed: it has no slots" $other "v['$node']['slots'], r['health']" "(0, 'degraded')"
  works_on "$from" "without $node"
  run_node $node
  becomes "$node is back, with its share" $other "$shares" "(True, 'healthy')"
  works_on "$from" "while $node came back"
done

if [ -n "$space_prefix" ]; then
  for node in gromit wallace; do
    other=penguin
    from=$(now_ms)
    cut_off $node
    becomes "$node is cut off: it has no slots" $other "v['$node']['slots'], r['health']" "(0, 'degraded')"
    works_on "$from" "while $node was cut off"
    connect $node
    becomes "$node is connected again, with its share" $other "$shares" "(True, 'healthy')"
    works_on "$from" "after $node was cut off"
  done
else
  passed "volcanoes are cut off # SKIP no network namespaces"
fi

: >"$work/load.log.stop"
wait_until 30 process_ended "$load"
wait "$load" 2>/dev/null
same "the work saw no error" "$(cat "$work/load.out")" ""
expect "what was acknowledged is there" python3 "$lib_dir/steady_load.py" verify "$mnt/load" "$tree"
same_tree "the tree is whole" "$tree" "$mnt/tree"
expect "a large file is whole" cmp "$work/large" "$mnt/large"
expect "magma verify finds all copies the same" \
  "$MAGMA" verify --host "${address[gromit]}" --key-file "$key" --replicas
unmount_magma
for node in "${nodes[@]}"; do stop_node "$node"; done
for node in "${nodes[@]}"; do run_node "$node"; done
becomes "all started again: healthy" wallace "$shares" "(True, 'healthy')"
mount_magma
same_tree "the tree is whole" "$tree" "$mnt/tree"
expect "what was acknowledged is there after a restart of all" \
  python3 "$lib_dir/steady_load.py" verify "$mnt/load" "$tree"
unmount_magma
for node in "${nodes[@]}"; do stop_node "$node"; done
