#!/bin/bash
# The founder of a ring is lost for good, in the middle of work: its mirror takes over, the mount that
# was given both addresses goes on, and all that was acknowledged is there. Another volcano joins the
# new founder and mirrors it. What must not take over is refused, with the reason.
source "$(dirname "$0")/lib.sh"
source "$lib_dir/ring.sh"
begin
at_end() { ring_end; }
ring_nodes wallace gromit penguin
"$MAGMA" keygen "$key" >/dev/null || die "magma keygen"
healthy() { becomes "$1: the ring is healthy" "$2" 'r["health"], r["copies_had"]' "('healthy', 2)"; }

run_node wallace -b --key-file "$key"
host=${address[wallace]},${address[gromit]}
mount_magma
cp -a "$MAGMA_SOURCE/magmad" "$mnt/tree"
run_node gromit -r "${address[wallace]}" --key-file "$key"
healthy "gromit joined" wallace
python3 "$lib_dir/acknowledged_writer.py" write "$mnt/work" "$work/acknowledged" \
  >"$work/writer.out" 2>&1 &
writer=$!
helpers+=("$writer")
: >"$work/acknowledged"
grown_past() { [ "$(wc -l <"$1")" -gt "$2" ]; }
gets_on() {
  local before
  before=$(wc -l <"$work/acknowledged")
  wait_until 20 grown_past "$work/acknowledged" $((before + $1)) ||
    die "the writer stands still $2: $(cat "$work/writer.out")"
}
gets_on 300 "before the founder is lost"

# refused TEXT NICK WORD
refused() {
  local said
  said=$(timeout 20 "$MAGMAD" -n "$2" -i "${address[$2]}" -d "${dir[$2]}" --take-over 2>&1)
  [ $? -ne 0 ] && grep -q "$3" <<<"$said" && passed "$1" || failed "$1: $said"
}

kill_node wallace
refused "the founder itself has nothing to take over" wallace "nothing to take over"
refused "a mirror that runs is not touched" gromit "in use"
kill_node gromit
run_node gromit --take-over
gets_on 200 "after gromit has taken over"
: >"$work/acknowledged.stop"
wait "$writer"
same "the writers saw no error" "$? $(grep -v '^done' "$work/writer.out" | head -n 5)" "0 "
acknowledged() { python3 "$lib_dir/acknowledged_writer.py" verify "$mnt/work" "$work/acknowledged"; }
expect "all that was acknowledged is there" acknowledged
same_tree "and the tree" "$MAGMA_SOURCE/magmad" "$mnt/tree"
same "the ring has a higher generation, gromit alone" \
  "$(ring gromit 'r["generation"], sorted(v)')" "(2, ['gromit'])"

# --- a new mirror, and starts as usual ------------------------------------------------------------
run_node penguin -r "${address[gromit]}" --key-file "$key"
healthy "penguin joined" gromit
stop_node gromit
run_node gromit
healthy "gromit started again, without --take-over" gromit
expect "all that was acknowledged is there, still" acknowledged
unmount_magma
stop_node penguin
stop_node gromit
for node in gromit penguin; do
  expect "magma fsck --deep is clean, $node" "$MAGMA" fsck --deep "${dir[$node]}"
done

# --- what is no whole copy ------------------------------------------------------------------------
# A storage whose copy has not begun: its ring was away when it joined the second time.
mkdir "$work/half" && cp -a "${dir[penguin]}/." "$work/half"
sqlite3 "$work/half/meta.0.db" 'DELETE FROM mirror' 2>/dev/null || die "sqlite3"
dir[penguin]=$work/half
refused "who has no whole copy does not take over" penguin "2048 of 4096 slots"
exit 0
