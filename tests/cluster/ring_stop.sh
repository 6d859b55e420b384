#!/bin/bash
# The end of a whole ring of three under load, by magma shutdown --all and at the console of each kind
# of volcano: in order, so that the mirror has what the primary has. Started again in any order it goes
# on where it was, and so does the mount; also after kill -9 of all at once. magma verify says so, and
# what is changed on a stopped mirror it names.
source "$(dirname "$0")/lib.sh"
source "$lib_dir/ring.sh"
begin
ring_nodes wallace gromit penguin
host=${address[wallace]}
at_end() { ring_end; }
becomes_seconds=30
tree=$MAGMA_SOURCE/magmad/store
"$MAGMA" keygen "$key" >/dev/null || die "magma keygen"
"$MAGMA" keygen --client "$key" "$work/client.key" >/dev/null || die "magma keygen --client"

healthy() { becomes "$1: the ring is healthy" wallace 'r["health"], r["copies_had"]' "('healthy', 2)"; }
grown_past() { [ "$(wc -l <"$1")" -gt "$2" ]; }
works_on() {
  local before
  before=$(wc -l <"$work/load.log")
  expect "$1: the mount works on" wait_until 30 grown_past "$work/load.log" $((before + 40))
}
all_ended() {
  local node
  for node in "${nodes[@]}"; do [ -z "${pid[$node]}" ] || ended_cleanly "$node"; done
}
start_in_order() {
  local node
  for node; do begin_node "$node"; done
  for node; do await_node "$node"; done
}
verify() { timeout 120 "$MAGMA" verify --replicas --host "$host" --key-file "$work/client.key" "$@"; }
same_by_verify() { expect "$1: magma verify finds no difference" verify; }
shutdown_all() {
  timeout 120 "$MAGMA" shutdown --all --yes --key-file "$key" "$@" >"$work/said" 2>&1
}
# The order in which they ended, as it was told.
order() { sed -n 's/^\([a-z]*\) at .* has ended.*/\1/p' "$work/said" | tr -d '\r' | xargs; }

# --- a ring at work -------------------------------------------------------------------------------
run_node wallace -b --one-primary --key-file "$key"
mount_magma "$mnt" --host="$host,${address[gromit]},${address[penguin]}"
run_node gromit -r "$host" --key-file "$key"
run_node penguin -r "$host" --key-file "$key"
becomes "three vote" wallace '[x["vote"] for x in r["volcanoes"]]' "['votes', 'votes', 'votes']"
healthy "at the begin"
head -c 5M /dev/urandom >"$work/large" && cp "$work/large" "$mnt/large"
: >"$work/load.log"
python3 "$lib_dir/steady_load.py" run "$mnt/load" "$tree" "$work/load.log" >"$work/load.out" 2>&1 &
load=$!
helpers+=("$load")
works_on "at the begin"
same_by_verify "under load"

# --- who may, and what is asked -------------------------------------------------------------------
expect_failure "shutdown --all with a client key" 2 "needs the network key" \
  "$MAGMA" shutdown --all --yes --host "$host" --key-file "$work/client.key"
expect_failure "shutdown --all asks, and there is nobody" 2 "give --yes" \
  "$MAGMA" shutdown --all --host "$host" --key-file "$key" </dev/null
works_on "after these"

# --- magma shutdown --all, under load -------------------------------------------------------------
shutdown_all "${address[penguin]}"
same "shutdown --all ends the ring" "$? $(tail -n 1 "$work/said")" "0 3 of 3 volcanoes have ended"
same "who serves first" "$(order | cut -d ' ' -f 1)" wallace
all_ended
both_same "after shutdown --all under load" busy
start_in_order penguin gromit wallace
healthy "started again, who serves last"
works_on "after shutdown --all"
same_by_verify "after shutdown --all"
same "the mirror needed no copy" "$(grep -c 'mirror_begins .*how=copy' "${out[wallace]}")" 0

# --- the console's shutdown, of who serves and of who does not ------------------------------------
for node in wallace penguin; do
  printf 'shutdown\n' |
    timeout 120 "$MAGMA" console --host "${address[$node]}" --key-file "$key" >"$work/said" 2>&1
  expect "the console of $node tells of the others" grep -q "gromit at .* has ended" "$work/said"
  all_ended
  both_same "after the console of $node under load" busy
  [ $node = wallace ] && start_in_order wallace penguin gromit || start_in_order gromit wallace penguin
  healthy "started again"
  works_on "after the console's shutdown"
  same_by_verify "after the console's shutdown"
done

# --- one volcano by its nick, and a ring of which one is away -------------------------------------
expect "magma lava stop gromit" timeout 60 "$MAGMA" lava stop gromit --yes --host "$host" --key-file "$key"
ended_cleanly gromit
works_on "without gromit"
run_node gromit
healthy "gromit is back"
kill_node gromit
shutdown_all "$host"
same "one is away: the others end, and it is told" "$?" 4
expect "who it is" grep -q "gromit at .* could not be reached" "$work/said"
all_ended
start_in_order gromit wallace penguin
healthy "after that"
works_on "after that"
same_by_verify "after that"

# --- kill -9 of all at once -----------------------------------------------------------------------
for sequence in "gromit penguin wallace" "wallace gromit penguin" "penguin wallace gromit"; do
  works_on "before the kill"
  { kill -9 "${pid[@]}" && wait "${pid[@]}"; } 2>/dev/null
  start_in_order $sequence
  healthy "all were killed, started as $sequence"
  works_on "after the kill"
  same_by_verify "after the kill"
done

# --- what is there --------------------------------------------------------------------------------
: >"$work/load.log.stop"
wait "$load"
same "the work saw no error" "$? $(cat "$work/load.out")" "0 "
expect "all that was done is there" python3 "$lib_dir/steady_load.py" verify "$mnt/load" "$tree"
expect "and the large file" cmp "$work/large" "$mnt/large"
cp -a "$tree" "$mnt/tree"
unmount_magma
mount_magma
same_tree "a fresh mount has the tree" "$tree" "$mnt/tree"
timeout 120 "$MAGMA" verify --host "$host" --key-file "$key" >"$work/said" 2>&1
same "magma verify reads the tree and compares the mirror" "$? $(grep -c '^no problem: ' "$work/said")" \
  "0 1"
expect "it says both" grep -q "^gromit as wallace: the same, .* rows, .* of content compared" "$work/said"
chunk=$(stat -c %i "$mnt/large")
unmount_magma

# --- a row and a byte on the stopped mirror -------------------------------------------------------
stop_node gromit
python3 - "${dir[gromit]}" "$chunk" <<'PY' || failed "the mirror's storage cannot be changed"
import glob, os, sqlite3, sys

directory, ino = sys.argv[1], int(sys.argv[2])
changed = 0
for path in sorted(glob.glob(directory + "/meta.*.db")):
    database = sqlite3.connect(path)
    for rowid, image in database.execute("SELECT rowid, image FROM inode").fetchall():
        # The mode's lowest bit, of every regular file's own mode 0644.
        if image[:4] == b"\0\0\x81\xa4" and changed == 0:
            image = bytes([0, 0, 0x81, 0xa5]) + image[4:]
            database.execute("UPDATE inode SET image = ? WHERE rowid = ?", (image, rowid))
            changed += 1
    database.commit()
    database.close()
files = [name for name in glob.glob(directory + "/flares/*/*/*") if os.path.getsize(name) > 1 << 20]
with open(files[0], "r+b") as file:
    file.seek(300000)
    byte = file.read(1)
    file.seek(300000)
    file.write(bytes([byte[0] ^ 1]))
sys.exit(0 if changed == 1 else 1)
PY
run_node gromit
healthy "gromit is back, changed"
verify >"$work/said" 2>&1
same "magma verify finds both" "$? $(grep -c '^difference: ' "$work/said")" "4 2"
expect "the row, with its path" grep -q "^difference: gromit: /.*: attributes: the mirror has another" \
  "$work/said"
expect "the byte, with its path and page" \
  grep -q "^difference: gromit: /large: content from byte 299008 on: the mirror's bytes do not match" \
  "$work/said"
verify --quick --json >"$work/said" 2>&1
same "--quick reads no content" "$? $(python3 -c 'import json, sys
r = json.load(open(sys.argv[1]))["replicas"][0]
print(r["mirror"], r["complete"], r["bytes"], r["differences_total"], r["differences"][0]["table"])' \
  "$work/said")" "4 gromit True 0 1 inode"
shutdown_all "$host"
same "the ring ends" "$?" 0
all_ended
exit 0
