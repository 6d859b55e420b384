#!/bin/bash
# A mount that reaches some volcanoes only through another one: with -o proxy through those it was
# given, without it through whoever passes packets on while the direct way is closed (ADR 12).
source "$(dirname "$0")/lib.sh"
source "$lib_dir/ring.sh"
begin
closed=()
at_end() {
  for node in "${closed[@]}"; do ip route del blackhole "${address[$node]}/32" 2>/dev/null; done
  ring_end
}
ring_spaces "mp$(($$ % 100000))" "198.18.$(($$ % 250))" wallace gromit penguin ||
  skip_all "no network namespaces"
ring_nodes wallace gromit penguin
tree=$MAGMA_SOURCE/magmad
"$MAGMA" keygen "$key" >/dev/null || die "magma keygen"
becomes_seconds=40
shares='all(1200 < x["slots"] < 1600 for x in v.values()), r["health"]'

# From this machine alone: the volcanoes reach each other.
close_way() { ip route add blackhole "${address[$1]}/32" && closed+=("$1"); }
open_way() { ip route del blackhole "${address[$1]}/32"; }
# passed_on NICK: packets so far.
passed_on() {
  "$MAGMA" status --host "${address[$1]}" --key-file "$key" --json |
    python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["counters"]["rpc.packets_relayed"])'
}
passes_on() { [ "$(passed_on "$1")" -gt "$2" ]; }
# writes DIR NAME: a tree of files and a large one, which is read again.
writes() {
  mkdir "$1/$2" && cp -a "$tree" "$1/$2/tree" && cp "$work/large" "$1/$2/large" &&
    cmp "$work/large" "$1/$2/large"
}

run_node wallace -b --key-file "$key"
run_node gromit -r "${address[wallace]}" --key-file "$key"
run_node penguin -r "${address[wallace]}" --key-file "$key"
becomes "three volcanoes share the slots" wallace "len(v), $shares" "(3, True, 'healthy')"
head -c 30M /dev/urandom >"$work/large"

close_way gromit || die "no routes can be set"
close_way penguin
host=${address[wallace]}
mount_magma "$mnt" -o proxy
expect "files are written through one volcano" timeout 60 "$BASH" -c "$(declare -f writes); \
  tree='$tree' work='$work'; writes '$mnt' proxy"
same_tree "the tree is there" "$tree" "$mnt/proxy/tree"
before=$(passed_on wallace)
expect "wallace passed packets on ($before)" [ "$before" -gt 1000 ]
unmount_magma

from=$(now_ms)
mount_magma "$mnt"
expect "without proxy, too" timeout 60 "$BASH" -c "cat $mnt/proxy/tree/*.cc >/dev/null"
note "all was read $(($(now_ms) - from)) ms after the mount began"
same_tree "the tree is the same" "$tree" "$mnt/proxy/tree"
expect "wallace passed them on" passes_on wallace "$before"
open_way gromit
open_way penguin
closed=()
rests() {
  local now
  now=$(passed_on wallace)
  cat "$mnt"/proxy/tree/*.cc | sha256sum >/dev/null
  touch "$mnt"/proxy/tree/*.cc
  [ "$(passed_on wallace)" = "$now" ]
}
expect "the direct way is taken when it is open" wait_until 30 rests
same_tree "the tree is the same" "$tree" "$mnt/proxy/tree"
unmount_magma

close_way penguin
host=${address[wallace]},${address[gromit]}
mount_magma "$mnt" -o proxy
expect "through two volcanoes" timeout 60 "$BASH" -c "$(declare -f writes); \
  tree='$tree' work='$work'; writes '$mnt' two"
kill_node wallace
expect "one of them is killed: through the other" timeout 60 "$BASH" -c "$(declare -f writes); \
  tree='$tree' work='$work'; writes '$mnt' other"
expect "gromit passed packets on" passes_on gromit 100
same_tree "the tree is there" "$tree" "$mnt/other/tree"
run_node wallace
becomes "all have their shares" gromit "$shares" "(True, 'healthy')"
unmount_magma
open_way penguin
closed=()
mount_magma "$mnt"
for name in proxy two other; do same_tree "all is there: $name" "$tree" "$mnt/$name/tree"; done
unmount_magma
expect "magma verify finds all copies the same" \
  "$MAGMA" verify --host "${address[gromit]}" --key-file "$key" --replicas
for node in "${nodes[@]}"; do stop_node "$node"; done
