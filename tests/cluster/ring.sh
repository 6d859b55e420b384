# Sourced after lib.sh, by tests of rings and by dev/cluster: several volcanoes, each by its nick. Bash.
# Not executable, so it is not run as a test.
#
#   ring_nodes NICK...     their addresses, directories and logs; on loopback addresses
#   ring_spaces            (instead, before) in network namespaces with a bridge, so that they can be
#                          cut off: false if this machine cannot
#   run_node, kill_node, stop_node, cut_off, connect, becomes, ...   below
#
# Sets: nodes, and by nick pid, address, dir, out (its log). A test's at_end calls ring_end.
nodes=()
declare -A pid address dir out
space_prefix=  # of the namespaces and links, if there are any

ring_nodes() {
  local net=${host%.*} first=$((${host##*.} % 240 + 10)) node
  nodes=("$@")
  for node in "${nodes[@]}"; do
    [ -n "${address[$node]:-}" ] || address[$node]=$net.$first
    first=$((first + 1))
    dir[$node]=$work/storage.$node out[$node]=$work/log.$node
    : "${pid[$node]:=}"
  done
  log=${out[$1]}
}

# --- namespaces -----------------------------------------------------------------------------------
# A bridge here, whose address mounts and tools have, and a link from it to each volcano's namespace.
# ring_spaces PREFIX NET NICK...: PREFIX names them (at most 8 characters), NET is three numbers, or an
# IPv6 prefix of 64 bits without the :: at its end. Those that are there are kept.
ring_spaces() {
  local prefix=$1 net=$2. bits=(24) number=0 node
  if [[ $2 == *:* ]]; then net=$2:: bits=(64 nodad); fi
  shift 2
  space_prefix=$prefix
  if [ ! -e "/sys/class/net/$prefix" ]; then
    if ! ip link add "$prefix" type bridge 2>/dev/null ||
      ! ip addr add "${net}254/${bits[0]}" dev "$prefix" "${bits[@]:1}" || ! ip link set "$prefix" up; then
      remove_spaces
      return 1
    fi
  fi
  for node; do
    number=$((number + 1))
    address[$node]=$net$number
    [ ! -e "/run/netns/$prefix-$node" ] || continue
    ip netns add "$prefix-$node" 2>/dev/null &&
      ip link add "$prefix.$number" type veth peer name far netns "$prefix-$node" 2>/dev/null &&
      ip link set "$prefix.$number" master "$prefix" up &&
      ip -n "$prefix-$node" addr add "${address[$node]}/${bits[0]}" dev far "${bits[@]:1}" &&
      ip -n "$prefix-$node" link set far up && ip -n "$prefix-$node" link set lo up || {
      remove_spaces
      address=()
      return 1
    }
  done
}
remove_spaces() {
  local space link
  [ -n "$space_prefix" ] || return 0
  for link in "/sys/class/net/$space_prefix".*; do ip link del "${link##*/}" 2>/dev/null; done
  while read -r space _; do
    if [[ $space == "$space_prefix"-* ]]; then ip netns del "$space" 2>/dev/null; fi
  done < <(ip netns list 2>/dev/null)
  ip link del "$space_prefix" 2>/dev/null
  space_prefix=
}
# link_of NICK: this end of its link.
link_of() { echo "$space_prefix.${address[$1]##*[.:]}"; }
# From everybody: volcanoes, mounts and tools. What is sent to it is lost.
cut_off() { ip link set "$(link_of "$1")" down; }
connect() { ip link set "$(link_of "$1")" up; }

# --- volcanoes ------------------------------------------------------------------------------------
# begin_node NICK [ARGUMENT...]: in the background.
begin_node() {
  local node=$1 inside=()
  shift
  [ -z "$space_prefix" ] || inside=(nsenter "--net=/run/netns/$space_prefix-$node")
  [ ! -e "${out[$node]}" ] || cat "${out[$node]}" >>"${out[$node]}.before"
  : >"${out[$node]}"
  "${inside[@]}" "$MAGMAD" -n "$node" -s "$node.local.magma" -i "${address[$node]}" \
    -d "${dir[$node]}" "$@" </dev/null >"${out[$node]}" 2>&1 &
  pid[$node]=$!
}
is_node_ready() { grep -qw ready "${out[$1]}" || process_ended "${pid[$1]}"; }
await_node() {
  wait_until $ready_seconds is_node_ready "$1"
  grep -qw ready "${out[$1]}" || die "$1 is not ready: $(tail -n 1 "${out[$1]}")"
}
# run_node NICK [ARGUMENT...]: until it is ready.
run_node() {
  begin_node "$@"
  await_node "$1"
}
kill_node() {
  [ -n "${pid[$1]}" ] || return 0
  { kill -9 "${pid[$1]}" && wait "${pid[$1]}"; } 2>/dev/null
  pid[$1]=
}
# SIGTERM; its exit code must be 0.
stop_node() {
  kill -TERM "${pid[$1]}"
  ended_cleanly "$1"
}
ended_cleanly() {
  local code
  if ! wait_until $stop_seconds process_ended "${pid[$1]}"; then
    failed "$1 ends within $stop_seconds s"
    kill_node "$1"
    return 1
  fi
  wait "${pid[$1]}" 2>/dev/null
  code=$?
  pid[$1]=
  same "$1 ends cleanly" $code 0
}
ring_end() {
  local node
  for node in "${nodes[@]}"; do
    kill_node "$node"
    if [ "$failures" -gt 0 ]; then tail -n 12 "${out[$node]}" | sed "s/^/# $node: /"; fi
  done
  remove_spaces
}

# --- what they say of the ring --------------------------------------------------------------------
# ring NICK FILTER: of what it says of the ring, by python: `r`, volcanoes by nick are `v`.
ring() {
  local said
  said=$(timeout 5 "$MAGMA" lava --host "${address[$1]}" --key-file "$key" --json 2>/dev/null) &&
    python3 -c '
import json, sys
r = json.loads(sys.argv[1])
v = {x["nick"]: x for x in r["volcanoes"]}
print(eval(sys.argv[2]))' "$said" "$2"
}
says() { [ "$(ring "$1" "$2")" == "$3" ]; }
becomes_seconds=15
# becomes TEXT NICK FILTER WANTED: within becomes_seconds.
becomes() {
  if wait_until "$becomes_seconds" says "$2" "$3" "$4"; then
    passed "$1"
  else
    failed "$1"
    note "$2 says $(ring "$2" "$3"), wanted $4; $(ring "$2" 'r["health"], r["reason"]')"
  fi
}

# --- what a primary and its mirror have, both stopped ---------------------------------------------
mirrored_tables() {
  "$MAGMA" dump --help | sed -n 's/.*--table TEXT:{\(.*\)}.*/\1/p' | tr ',' '\n' |
    grep -vxE 'page_sums|hot_range|removal|mirror'
}
# rows_of NICK TABLE...
rows_of() {
  local node=$1
  shift
  timeout 60 "$MAGMA" dump $(printf -- '--table %s ' "$@") "${dir[$node]}"
}
# Without versions: a copy has others.
sums_of() { rows_of "$1" page_sums | sed 's/ version [^ ]*//'; }
# Content files that are to be cut or removed, which follows their rows at each volcano's own time.
waiting_of() {
  local a b
  rows_of "$1" removal | while read -r _ a b _; do
    printf '%016x.%d.%03x\n' $((0x$b)) $((0x$a & (1 << 52) - 1)) $((0x$a >> 52 & 0xfff))
  done
}
# bytes_of NICK FILE: those that FILE names are left out.
bytes_of() {
  (cd "${dir[$1]}/flares" && find . -type f | grep -vFf "$2" | sort | xargs -r sha1sum)
}
# both_same TEXT [busy]: wallace and gromit have the same rows, checksums and bytes; of a busy ring
# without the bytes of what waits to be removed at one of them.
both_same() {
  local node what tables
  : >"$work/waiting"
  if [ "${2:-}" = busy ]; then
    for node in wallace gromit; do waiting_of $node; done >"$work/waiting"
  fi
  tables=$(mirrored_tables)
  for node in wallace gromit; do
    expect "$1: magma fsck --deep is clean, $node" "$MAGMA" fsck --deep "${dir[$node]}"
    rows_of $node $tables >"$work/rows.$node"
    sums_of $node >"$work/sums.$node"
    bytes_of $node "$work/waiting" >"$work/bytes.$node"
  done
  for what in rows sums bytes; do
    expect "$1: both have the same $what ($(wc -l <"$work/$what.wallace"))" \
      diff "$work/$what.wallace" "$work/$what.gromit"
    expect "and there are some" [ -s "$work/$what.wallace" ]
  done
}
