#!/bin/bash
# bench/wire_bench over veth pairs between two network namespaces: paths of MTU 1280, 1500 and 9000,
# clean, then with delay and loss both ways. As root.
#   bench/wire_bench.sh WIRE_BENCH [OTHER_WIRE_BENCH]
# With two programs (before and after a change) each path is measured with both in turn, ROUNDS times.
# Delay and loss are made by the program that NFCHAOS names, one that holds back and drops what comes
# to an NFQUEUE: `nfchaos QUEUE delay_ms=2 drop=0.5`. Not every kernel has netem.
#   ROUNDS=3 SECONDS_EACH=3 PATHS='1280 1500 9000' CASES='clean|drop=1|delay_ms=5|delay_ms=5 drop=1'
# IPV6=1: over IPv6.
set -uo pipefail
programs=("$@")
[ ${#programs[@]} -gt 0 ] || { sed -n '2,9s/^# \?//p' "$0"; exit 2; }
rounds=${ROUNDS:-1} seconds=${SECONDS_EACH:-3}
IFS='|' read -r -a cases <<<"${CASES:-clean|drop=0.1|delay_ms=2|delay_ms=2 drop=0.5}"
near=wbn$$ far=wbf$$ port=12900 queue=97
one=10.99.77.1 two=10.99.77.2 bits=24 tables=iptables
if [ -n "${IPV6:-}" ]; then one=fd99:77::1 two=fd99:77::2 bits=64 tables=ip6tables; fi
pids=()
at_end() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
  wait 2>/dev/null
  ip netns del $near 2>/dev/null
  ip netns del $far 2>/dev/null
}
trap at_end EXIT
ip netns add $near && ip netns add $far &&
  ip -n $near link add out type veth peer name out netns $far || exit 1
ip -n $near addr add $one/$bits dev out nodad 2>/dev/null || ip -n $near addr add $one/$bits dev out
ip -n $far addr add $two/$bits dev out nodad 2>/dev/null || ip -n $far addr add $two/$bits dev out
for space in $near $far; do
  ip -n $space link set lo up
  ip -n $space link set out up
done
bracket() { case $1 in *:*) echo "[$1]" ;; *) echo "$1" ;; esac }

# What arrives meets the faults, in each namespace.
chaos=()
begin_chaos() {
  local space
  [ "$1" != clean ] || return 0
  for space in $near $far; do
    # shellcheck disable=SC2086
    ip netns exec $space "$NFCHAOS" $queue $1 2>/dev/null &
    chaos+=($!)
    pids+=($!)
    ip netns exec $space $tables -I INPUT -p udp -j NFQUEUE --queue-num $queue || exit 1
  done
  sleep 0.3
}
end_chaos() {
  local space
  for space in $near $far; do
    ip netns exec $space $tables -F INPUT
  done
  for pid in "${chaos[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; done
  chaos=()
}

for mtu in ${PATHS:-1280 1500 9000}; do
  ip -n $near link set out mtu "$mtu"
  ip -n $far link set out mtu "$mtu"
  for faults in "${cases[@]}"; do
    if [ "$faults" != clean ] && [ ! -x "${NFCHAOS:-}" ]; then
      echo "MTU $mtu, $faults: left out, NFCHAOS names no program"
      continue
    fi
    begin_chaos "$faults"
    for ((round = 0; round < rounds; ++round)); do
      for program in "${programs[@]}"; do
        ip netns exec $far "$program" serve "$(bracket $two):$port" &
        server=$!
        pids+=($server)
        printf 'MTU %-5s %-20s %-28s' "$mtu" "$faults" "${program##*/}"
        ip netns exec $near timeout 60 "$program" put "$(bracket $two):$port" "$seconds"
        kill $server
        wait $server 2>/dev/null
        port=$((port + 1))
      done
    done
    end_chaos
  done
done
