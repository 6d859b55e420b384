#!/bin/bash
# A mount whose machine gets another address: the same connection goes on from there, in the middle of
# a write; then the address changes while nothing is going on.
source "$(dirname "$0")/lib.sh"
source "$lib_dir/ring.sh"
begin
at_end() { ring_end; }
net=10.$((200 + $$ % 50)).$(($$ / 50 % 250))
ring_spaces "ac$(($$ % 100000))" "$net" wallace || skip_all "needs network namespaces"
ring_nodes wallace
host=${address[wallace]}
"$MAGMA" keygen "$key" >/dev/null || die "magma keygen"
counter() {
  "$MAGMA" status --host "$host" --key-file "$key" --counters | sed -n "s/^ *$1  *//p"
}
# replace OLD NEW: the last numbers of this machine's address. (The kernel takes an address that was
# added second away with the first.)
replace() {
  ip addr del "$net.$1/24" dev "$space_prefix" && ip addr add "$net.$2/24" dev "$space_prefix"
}

run_node wallace -b --key-file "$key"
mount_magma
head -c 60M /dev/urandom >"$work/large"
{ cp "$work/large" "$mnt/large" && sync "$mnt/large"; } &
writer=$!
helpers+=("$writer")
wait_until 10 test -s "$mnt/large"
replace 254 253
expect "the address changes during a write" wait "$writer"
expect "everything is there" cmp "$work/large" "$mnt/large"
# The old address is nobody's now: what arrives has followed. Each look at the counters is a handshake.
handshakes=$(counter rpc.handshakes)
replace 253 252
milliseconds sh -c "echo moved >'$mnt/file' && sync '$mnt/file'"
expect "it changes again, at rest: the next write takes ${took_ms} ms" \
  [ "$took_code" -eq 0 -a "$took_ms" -lt 3000 ]
same "by the same connection" "$(counter rpc.handshakes)" $((handshakes + 1))
same "and the same session" "$(grep -c "session_end" "${out[wallace]}")" 0
unmount_magma
stop_node wallace
expect "magma fsck --deep is clean" "$MAGMA" fsck --deep "${dir[wallace]}"
