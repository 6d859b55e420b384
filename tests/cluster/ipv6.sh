#!/bin/bash
# A lava ring over IPv6 alone: volcanoes in network namespaces with addresses of fd00::/8, the join, the
# mount, the tools, the console; paths of the smallest MTU that IPv6 allows and of 9000, and one that
# narrows while a file is written; then a volcano and a mount on ::1.
source "$(dirname "$0")/lib.sh"
source "$lib_dir/ring.sh"
begin
at_end() { ring_end; }
net=fd6d:6167:6d61:$(printf %x $(($$ % 65536)))
ring_spaces "m6$(($$ % 100000))" "$net" wallace gromit ||
  skip_all "needs network namespaces with IPv6"
ring_nodes wallace gromit
host="[${address[wallace]}]"
"$MAGMA" keygen "$key" >/dev/null || die "magma keygen"
inside() { nsenter "--net=/run/netns/$space_prefix-$1" "${@:2}"; }
mtu() {  # mtu BYTES: of all links
  local node
  for node in wallace gromit; do
    inside "$node" ip link set far mtu "$1" && ip link set "$(link_of "$node")" mtu "$1"
  done
  ip link set "$space_prefix" mtu "$1"
}

# --- the ring -------------------------------------------------------------------------------------
run_node wallace -b --key-file "$key"
expect "the ready line has the address in brackets" \
  grep -qF "$host:12000" "${out[wallace]}"
run_node gromit -r "$host" --key-file "$key"
becomes "who joined is known" wallace 'sorted(v)' "['gromit', 'wallace']"
becomes "and mirrors" wallace 'r["health"], r["copies_had"]' "('healthy', 2)"
stop_node gromit
run_node gromit
becomes "it is found again after a restart" wallace 'r["health"], r["copies_had"]' "('healthy', 2)"
expect_failure "who is asked on a port that nobody has is named in brackets" 64 "$host:12999" \
  timeout 60 "$MAGMAD" -n penguin -s penguin.local.magma -i "$net::254" -d "$work/none" \
  -r "$host:12999" --key-file "$key"

# --- mounts ---------------------------------------------------------------------------------------
mount_magma "$mnt" --ip="$net::254"
expect "a file is written over an address of our own" \
  sh -c "echo six >'$mnt/file' && sync '$mnt/file'"
unmount_magma
mkdir -p "$work/second"
expect "mount(8)'s form, with the address in brackets and a port" \
  timeout 20 "$MOUNT_MAGMA" "$host:12000:/" "$work/second" -o "key-file=$key"
same "it is read" "$(cat "$work/second/file")" six
unmount_magma "$work/second"

# --- sizes of the path ----------------------------------------------------------------------------
head -c 30M /dev/urandom >"$work/large"
for size in 1280 9000; do
  mtu $size
  mount_magma
  expect "MTU $size: 30 MiB are written" sh -c "cp '$work/large' '$mnt/large' && sync '$mnt/large'"
  unmount_magma
  mount_magma
  expect "and read" cmp "$work/large" "$mnt/large"
  [ $size -eq 9000 ] || unmount_magma
done
# The mount goes on while the path under it becomes narrower.
{ cp "$work/large" "$mnt/narrow" && sync "$mnt/narrow"; } &
writer=$!
helpers+=("$writer")
wait_until 10 test -s "$mnt/narrow"
mtu 1280
expect "a path that narrows under a write" wait "$writer"
expect "loses nothing" cmp "$work/large" "$mnt/narrow"
expect "and the next goes on, too" sh -c "cp '$work/large' '$mnt/next' && sync '$mnt/next'"
expect "the volcano's path to its mirror was found to be narrower" sh -c \
  "'$MAGMA' status --host '$host' --key-file '$key' --counters | grep -q 'rpc.path_shrinks  *[1-9]'"

# --- tools and console ----------------------------------------------------------------------------
expect "magma status tells the address in brackets" sh -c \
  "'$MAGMA' status --host '$host' --key-file '$key' | grep -q '^address  *\\$host:12000'"
expect "and the mount's" sh -c \
  "'$MAGMA' status --host '${address[wallace]}' --key-file '$key' | grep -qF '[$net::254]:'"
same "magma cat" "$("$MAGMA" cat --host "$host:12000" --key-file "$key" /file)" six
expect "magma console of the other volcano" sh -c \
  "printf 'cat /file\n' | '$MAGMA' console --host '[${address[gromit]}]' --key-file '$key' |
   grep -q six"
# shellcheck disable=SC2016
inside wallace timeout 20 bash -c 'exec 3<>"/dev/tcp/$1/12002" && printf "pwd\r\nexit\r\n" >&3 && cat <&3' \
  bash "${address[wallace]}" >"$work/said" 2>&1
expect "telnet from the volcano's own machine" grep -qa "wallace" "$work/said"
timeout 20 bash -c 'exec 3<>"/dev/tcp/$1/12002" && cat <&3' bash "${address[wallace]}" \
  >"$work/said" 2>&1
expect "not from another" grep -qa "serves its own machine only" "$work/said"
unmount_magma
for node in gromit wallace; do
  stop_node $node
  expect "magma fsck --deep is clean, $node" "$MAGMA" fsck --deep "${dir[$node]}"
done

# --- loopback -------------------------------------------------------------------------------------
loop() { inside gromit "$@"; }
nsenter "--net=/run/netns/$space_prefix-gromit" "$MAGMAD" -n shaun -s shaun.local.magma -i ::1 -d "$work/shaun" -b --key-file "$key" \
  </dev/null >"$work/shaun.log" 2>&1 &
shaun=$!
helpers+=("$shaun")
expect "a volcano on ::1" wait_until $ready_seconds grep -qF "[::1]:12000" "$work/shaun.log"
expect "a mount on it" loop timeout 20 "$MOUNT_MAGMA" --host='[::1]' --key-file="$key" "$mnt"
expect "30 MiB" sh -c "cp '$work/large' '$mnt/large' && sync '$mnt/large' && cmp '$work/large' '$mnt/large'"
expect "magma status --host ::1" sh -c \
  "nsenter --net=/run/netns/$space_prefix-gromit '$MAGMA' status --host ::1 --key-file '$key' |
   grep -q '^address  *\\[::1]:12000'"
unmount_magma
kill -TERM "$shaun"
wait "$shaun"
same "it ends cleanly" $? 0
