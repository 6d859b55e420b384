#!/bin/bash
# A lava ring of three real volcanoes: they join, elect three voters, and each knows the whole ring;
# each is killed in turn and comes back; who may not join is told why, and leaves no trace.
source "$(dirname "$0")/lib.sh"
source "$lib_dir/ring.sh"
begin
ring_nodes wallace gromit penguin
net=${host%.*}
at_end() { ring_end; }

"$MAGMA" keygen "$key" >/dev/null || die "magma keygen"

# --- join -----------------------------------------------------------------------------------------
run_node wallace -b --key-file "$key"
becomes "the founder coordinates" wallace 'r["coordinator"]' wallace
same "two copies are wanted" "$(ring wallace 'r["copies"]')" 2
run_node gromit -r "${address[wallace]}" --key-file "$key"
expect "who joins says that it has no slots" grep -q "ready .*volcano=2 slots=0" "${out[gromit]}"
becomes "of two, the founder alone votes" gromit '[x["vote"] for x in r["volcanoes"]]' \
  "['votes', 'learns']"
run_node penguin -r "${address[gromit]}:12001" --key-file "$key"
for node in "${nodes[@]}"; do
  becomes "$node: three vote" "$node" '[x["vote"] for x in r["volcanoes"]]' \
    "['votes', 'votes', 'votes']"
  becomes "$node: all are alive" "$node" '[x["alive"] for x in r["volcanoes"]]' \
    '[True, True, True]'
done
has_thirds='sorted(x["slots"] for x in r["volcanoes"]), r["health"]'
becomes "each serves a third of the slots" penguin "$has_thirds" "([1365, 1365, 1366], 'healthy')"
same "and mirrors another's" "$(ring penguin '[x["mirror"] is not None for x in r["volcanoes"]]')" \
  '[True, True, True]'
becomes "all are up" penguin '[x["state"] for x in r["volcanoes"]]' "['up', 'up', 'up']"
expect "magma status shows the ring" sh -c \
  "'$MAGMA' status --host ${address[penguin]} --key-file '$key' | grep -q 'primary of 136[56] slots.*mirror, in sync'"
expect "the console's lava shows it, too" sh -c \
  "printf 'lava\n' | '$MAGMA' console --host ${address[gromit]} --key-file '$key' | grep -q 'penguin (penguin.local.magma)'"

# --- a file, by each of them ----------------------------------------------------------------------
host=${address[wallace]}
mount_magma "$mnt"
expect "a file is written" sh -c "echo lava >'$mnt/file' && sync '$mnt/file'"

expect "the console of another volcano reads it" sh -c \
  "printf 'cat /file\n' | '$MAGMA' console --host ${address[penguin]} --key-file '$key' | grep -q lava"

# --- who has what, as files, tools and the mount tell it ------------------------------------------
same "/.dht has a profile of each" "$(ls "$mnt/.dht" | xargs)" "gromit penguin wallace"
for node in "${nodes[@]}"; do
  expect "of $node: name and address" sh -c \
    "grep -qx 'servername = $node.local.magma' '$mnt/.dht/$node' &&
     grep -qx 'ipaddr = ${address[$node]}' '$mnt/.dht/$node' && grep -qx 'alive = yes' '$mnt/.dht/$node'"
done
expect "wallace has the first slice" grep -qx 'start_key = 0\{40\}' "$mnt/.dht/wallace"
same "one coordinates" "$(cat "$mnt"/.dht/* | grep -cx 'coordinator = yes')" 1
is_mirrored_by_next() {  # of each slice the next volcano of the ring has a copy
  python3 - "$mnt/.dht" 2>/dev/null <<'END'
import os, sys
p = {n: dict(l.split(" = ", 1) for l in open(os.path.join(sys.argv[1], n)).read().splitlines() if " = " in l)
     for n in os.listdir(sys.argv[1])}
order = sorted(p, key=lambda n: p[n]["start_key"])
for i, n in enumerate(order):
    assert p[order[(i + 1) % len(order)]]["mirror_start_key"] == p[n]["start_key"], (n, p)
END
}
expect "the next volcano of the ring has a copy of each slice" wait_until 15 is_mirrored_by_next
same "the ring has the order in which they joined" \
  "$(grep -H '^start_key' "$mnt"/.dht/* | sort -k 3 | sed 's|.*/.dht/\([a-z]*\):.*|\1|' | xargs)" \
  "wallace gromit penguin"
# The slot of the root, whose files are there: wallace's.
next_one=$(python3 -c "
import os
d='$mnt/.dht'
for n in os.listdir(d):
    t=open(os.path.join(d, n)).read()
    if 'mirror_start_key = ' + '0'*40 in t: print(n)")
secret=$(grep -v '^#' "$key" | tr -d ' \n' | tail -c 33)
expect "no secret is in any" sh -c "! cat '$mnt'/.dht/* | grep -qi -e '$secret' -e secret -e password"
both="wallace (${address[wallace]}:12000) primary, $next_one (${address[$next_one]}:12000) mirror in sync"
if type getfattr >/dev/null 2>&1; then
  same "magma.volcanoes has both" \
    "$(getfattr --only-values -n magma.volcanoes "$mnt/file" 2>/dev/null)" "$both"
fi
tool() { timeout 10 "$MAGMA" "$@" --host "$host" --key-file "$key"; }
expect "so has magma locate" grep -qxF "volcano  $both" <(tool locate /file)
same "and with --json" "$(tool locate --json /file | python3 -c 'import json, sys
print(*["%s %s %s" % (v["nick"], v["role"], v["state"]) for v in json.load(sys.stdin)["volcanoes"]])')" \
  "wallace primary None $next_one mirror in sync"
expect "magma inspect" grep -qxF "replica  $next_one (${address[$next_one]}:12000), in sync" \
  <(tool inspect /file)
expect "magma ls of /.dht" grep -q penguin <(tool ls /.dht)
expect "the console of another: inspect" sh -c "printf 'inspect /file\n' |
  '$MAGMA' console --host ${address[penguin]} --key-file '$key' | grep -q 'replica  $next_one'"
expect "and cat /.dht" sh -c "printf 'cat /.dht/penguin\n' |
  '$MAGMA' console --host ${address[gromit]} --key-file '$key' | grep -q 'nickname = penguin'"

# --- kill each in turn ----------------------------------------------------------------------------
for victim in "${nodes[@]}"; do
  witness=penguin
  [ "$victim" != penguin ] || witness=gromit
  kill_node "$victim"
  milliseconds timeout 5 "$MAGMA" lava --host "${address[$witness]}" --key-file "$key"
  expect "$victim is killed: $witness answers within a second (${took_ms} ms)" \
    [ "$took_code" -eq 0 -a "$took_ms" -lt 1000 ]
  milliseconds timeout 5 "$MAGMA" status --json --key-file "$key" \
    --host "${address[$victim]},${address[$witness]}"
  expect "status of both does, too (${took_ms} ms)" [ "$took_code" -eq 4 -a "$took_ms" -lt 1000 ]
  becomes "$witness knows that $victim is away" "$witness" "v['$victim']['alive']" False
  becomes "and so says the map: others have its slots" "$witness" \
    "v['$victim']['state'], v['$victim']['slots'], sum(x['slots'] for x in v.values())" \
    "('down', 0, 4096)"
  expect "the file is there without it" timeout 20 grep -qx lava "$mnt/file"
  run_node "$victim"
  becomes "$victim is back" "$witness" "v['$victim']['alive']" True
  becomes "and knows the ring" "$victim" '[x["alive"] for x in r["volcanoes"]]' '[True, True, True]'
  becomes "it was started twice" "$victim" "v['$victim']['starts']" 2
  # Of two copies one may be lost: the next one when there are two again.
  becomes "and each slot has two copies again" "$witness" "$has_thirds" "([1365, 1365, 1366], 'healthy')"
done
expect "the file is there" grep -qx lava "$mnt/file"
unmount_magma "$mnt"
becomes "each has a third again" penguin "$has_thirds" "([1365, 1365, 1366], 'healthy')"
# SHA-1 of "/.dht" is a1402b54...
holder=$(ring penguin 'next(n for n, x in v.items() for k in x["slices"]
  if k["start_key"][:3] <= "a14" <= k["stop_key"][:3])')
becomes "who has the key of /.dht coordinates" penguin 'r["coordinator"]' "$holder"

# --- all at once ----------------------------------------------------------------------------------
for node in "${nodes[@]}"; do kill_node "$node"; done
for node in "${nodes[@]}"; do run_node "$node"; done
becomes "all were killed: they find each other" gromit '[x["alive"] for x in r["volcanoes"]]' \
  '[True, True, True]'
becomes "the ring is well" penguin 'r["health"]' healthy

# --- who may not join -----------------------------------------------------------------------------
new=$work/storage.new
other=$net.$((${host##*.} % 240 + 9))
# refused TEXT WORDS [ARGUMENT...]
refused() {
  local text=$1 words=$2
  shift 2
  expect_failure "refused: $text" 64 "$words" timeout 20 "$MAGMAD" -s shaun.local.magma -i "$other" \
    -d "$new" -r "${address[gromit]}" "$@"
}
"$MAGMA" keygen "$work/other.key" >/dev/null
"$MAGMA" keygen --client "$key" "$work/client.key" >/dev/null 2>&1 ||
  "$MAGMA" keygen --client "$work/client.key" "$key" >/dev/null 2>&1
refused "another key" "the key is not the one of its ring" -n shaun --key-file "$work/other.key"
refused "a client key" "holds a client key" -n shaun --key-file "$work/client.key"
refused "no key" "-r needs the network key" -n shaun
refused "a nick in use" "nick penguin is in use" -n penguin --key-file "$key"
expect_failure "refused: a name in use" 64 "name gromit.local.magma is in use" timeout 20 \
  "$MAGMAD" -n shaun -s gromit.local.magma -i "$other" -d "$new" -r "${address[gromit]}" \
  --key-file "$key"
expect_failure "refused: an address in use by another port of it" 64 "address" timeout 20 \
  "$MAGMAD" -n shaun -s shaun.local.magma -i "$other" --console "${address[gromit]}:12002" \
  -d "$new" -r "${address[gromit]}" --key-file "$key"
expect "who was refused leaves nothing behind" [ ! -e "$new/volcano.json" ]
expect_failure "refused: nobody there" 64 "no volcano answers at" timeout 20 "$MAGMAD" -n shaun \
  -s shaun.local.magma -i "$other" -d "$new" -r "$net.253" --key-file "$key"
"$MAGMAD" -n old -s old.local.magma -i "$other" -d "$work/storage.old" -b --make-only \
  --key-file "$work/other.key" >/dev/null || failed "-b --make-only"
expect_failure "refused: another filesystem's directory" 64 "of filesystem" timeout 20 "$MAGMAD" \
  -n shaun -s shaun.local.magma -i "$other" -d "$work/storage.old" -r "${address[gromit]}" \
  --key-file "$key"
kill_node penguin
expect_failure "refused: a directory of this ring" 64 "start it without -r" timeout 20 "$MAGMAD" \
  -n penguin -s penguin.local.magma -i "${address[penguin]}" -d "${dir[penguin]}" \
  -r "${address[gromit]}" --key-file "$key"
expect_failure "--copies without -b" 1 "only with -b" "$MAGMAD" -n x -s x.y -d "$new" --copies 3
expect_failure "--copies 6" 1 "--copies" "$MAGMAD" -b -n x -s x.y -d "$new" --copies 6
expect_failure "-b and -r" 1 "-r" "$MAGMAD" -b -n x -s x.y -d "$new" -r "${address[gromit]}"
run_node penguin

# --- stop -----------------------------------------------------------------------------------------
expect "magma lava stop ends one by its nick" timeout 20 "$MAGMA" lava --host "${address[wallace]}" \
  --key-file "$key" stop penguin --yes
wait "${pid[penguin]}"
same "cleanly" $? 0
pid[penguin]=
expect_failure "and says when there is none" 2 "no volcano nobody" "$MAGMA" lava --host \
  "${address[wallace]}" --key-file "$key" stop nobody --yes
for node in wallace gromit; do
  kill -TERM "${pid[$node]}"
  wait "${pid[$node]}"
  same "$node ends cleanly" $? 0
  pid[$node]=
  expect "its storage is clean" "$MAGMA" fsck --deep "${dir[$node]}"
done

# --- a directory of the time before rings ---------------------------------------------------------
python3 - "${dir[wallace]}/volcano.json" <<'PY'
import json, sys
papers = json.load(open(sys.argv[1]))
for member in ("volcano", "storage"):
    del papers[member]
papers["format"] = 1
json.dump(papers, open(sys.argv[1], "w"))
PY
rm -f "${dir[wallace]}"/raft.db*
run_node wallace
becomes "a directory of format 1 is brought to format 2: a ring of one" wallace \
  '[x["nick"] for x in r["volcanoes"]]' "['wallace']"
expect "and says so" grep -q "storage_upgraded .*format=2" "${out[wallace]}"
expect_failure "the node port is somebody's" 64 "choose another port with --node-port" timeout 20 \
  "$MAGMAD" -b -n x -s x.y -i "${address[wallace]}" -p 12100 --node-port 12001 --console none \
  -d "$work/storage.port" --key-file "$key"
expect "which leaves no volcano behind" [ ! -e "$work/storage.port/volcano.json" ]
kill_node wallace
run_node wallace
becomes "killed, it is there again" wallace 'r["coordinator"]' wallace
exit 0
