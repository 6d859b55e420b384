#!/bin/bash
# The operator's tool on a real volcano and mount: each subcommand, its JSON, paths through the mount,
# wrong keys, no volcano, Ctrl-C, and shutdown.
source "$(dirname "$0")/lib.sh"
begin
MAGMA=$(readlink -f "$MAGMA")  # it is run from other folders, too
start_volcano
mount_magma
client_key=$work/client.key
"$MAGMA" keygen --client "$key" "$client_key" >/dev/null || die "keygen --client"
other_key=$work/other.key
"$MAGMA" keygen "$other_key" >/dev/null || die "keygen"

# --- a tree to look at
mkdir "$mnt/dir" "$mnt/dir/sub"
printf 'hello\n' >"$mnt/dir/file"
ln -s file "$mnt/dir/link"
ln "$mnt/dir/file" "$mnt/dir/second"
mkfifo "$mnt/dir/fifo"
touch "$mnt/dir/"$'odd\nname\xff'
head -c 70000000 /dev/urandom >"$mnt/big"

remote() { local command=$1; shift; "$MAGMA" "$command" --host "$host" --key-file "$client_key" "$@"; }
local_() { local command=$1; shift; "$MAGMA" "$command" --key-file "$client_key" "$@"; }
# json TEXT EXPRESSION COMMAND...: what it prints is JSON `j`, of which the Python expression holds.
json() {
  local text=$1 expression=$2
  shift 2
  "$@" >"$work/json.out" 2>"$work/json.err"
  expect "$text" python3 -c '
import json, sys
j = json.load(open(sys.argv[1]))
assert eval("(" + sys.argv[2] + ")"), j' "$work/json.out" "$expression"
}

# --- status
remote status >"$work/status.out" || failed "status with a client key"
expect "it names the volcano" grep -q "^volcano  *wallace (wallace.local.magma)" "$work/status.out"
expect "and its address" grep -q "^address  *$host:12000" "$work/status.out"
expect "and the session of the mount" grep -q "^  $(hostname)  127.* client" "$work/status.out"
json "status --json" 'j[0]["nick"] == "wallace" and j[0]["census"]["inodes"] == 8 and
  j[0]["counters"]["rpc.packets_sent"] > 0 and j[0]["counters"]["udp.datagrams_received"] > 0' \
  remote status --json
same "the filesystem is that of the papers" \
  "$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))[0]["filesystem"])' "$work/json.out")" \
  "$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["uuid"])' "$storage/volcano.json")"
"$MAGMA" status "$host" --key-file "$client_key" --counters >"$work/status.out"
expect "HOST as an operand, counters" grep -q "content.writes" "$work/status.out"
expect "MAGMA_HOST and MAGMA_KEY_FILE" env MAGMA_HOST="$host" MAGMA_KEY_FILE="$client_key" \
  "$MAGMA" status

# --- ls
remote ls /dir >"$work/ls.out"
same "ls: the first line" "$(head -n 1 "$work/ls.out")" "drwxr-xr-x root     root            4096 ."
expect "ls: a symlink and its target" grep -q "^lrwxrwxrwx .* link -> file$" "$work/ls.out"
expect "ls: owner, group and size have their columns" \
  grep -q "^-rw-r--r-- root     root               6 file$" "$work/ls.out"
expect "ls: odd bytes are escaped" grep -qF 'odd\nname\xff' "$work/ls.out"
same "ls: the last line counts" "$(tail -n 1 "$work/ls.out")" "-- total entries: 8"
same "ls through the mount is the same" "$(local_ ls "$mnt/dir")" "$(cat "$work/ls.out")"
same "ls of a path relative to the mount" "$(cd "$mnt/dir" && local_ ls .)" "$(cat "$work/ls.out")"
same "ls -d" "$(remote ls -d /dir | wc -l)" 2
expect "ls of a file" remote ls /dir/file
json "ls --json" 'j["total"] == 8 and j["path"] == "/dir" and
  [e for e in j["entries"] if e["name"] == "link"][0]["target"] == "file" and
  [e for e in j["entries"] if "name_hex" in e][0]["name_hex"] == "6f64640a6e616d65ff"' \
  remote ls --json /dir
expect "ls / shows /.dht" grep -q " \.dht$" <(remote ls /)
expect "ls /.dht" grep -q " wallace$" <(remote ls /.dht)
expect_failure "ls of nothing" 2 "no such file or directory: /none" remote ls /none
expect_failure "ls with a relative path" 1 "begins with /" remote ls none
expect_failure "ls of a path on no mount" 1 "no mount of Magma" local_ ls /tmp
expect_failure "ls without a path" 1 "PATH is required" remote ls

# --- cat
same "cat" "$(remote cat /dir/file)" hello
same "cat follows symlinks" "$(remote cat /dir/link)" hello
same "cat of several" "$(local_ cat "$mnt/dir/file" "$mnt/dir/second" | wc -l)" 2
expect "cat of a large file" cmp <(remote cat /big) "$mnt/big"
expect "cat of a profile" grep -qx "nickname = wallace" <(remote cat /.dht/wallace)
expect_failure "cat of a directory" 2 "is a directory: /dir" remote cat /dir
# A reader that goes away is no reason to complain.
remote cat /big 2>"$work/pipe.err" | head -c 10 >/dev/null
same "cat into a pipe that closes says nothing" "$(cat "$work/pipe.err")" ""

# --- inspect, locate
remote inspect /dir/file >"$work/inspect.out"
expect "inspect: the key is SHA-1 of the path" \
  grep -qx "key      $(printf /dir/file | sha1sum | cut -d ' ' -f 1)" "$work/inspect.out"
expect "inspect: the owner" grep -qx "owner    wallace ($host:12000)" "$work/inspect.out"
expect "inspect: then the directory" grep -qx "path     /dir" "$work/inspect.out"
json "inspect --json" 'j["flare"]["size"] == 6 and j["parent"]["path"] == "/dir" and
  j["flare"]["slot"] == j["parent"]["slot"]' remote inspect --json /dir/file
expect "locate" grep -q "^volcano  wallace ($host:12000)" <(remote locate /dir)
json "locate --json of a file in chunks" 'j["in_chunks"] and len(j["chunks"]) == 2 and
  j["chunks"][0]["key"] == j["key"] and j["chunks"][1]["volcanoes"][0]["nick"] == "wallace"' \
  local_ locate --json "$mnt/big"

# --- verify
remote verify >"$work/verify.out" || failed "verify ends with exit code 0"
expect "verify counts" grep -q "^no problem: 4 files .* 3 directories, 1 symlinks" "$work/verify.out"
json "verify --json" 'j["complete"] and j["problems_total"] == 0 and j["files"] == 4 and
  j["bytes"] >= 70000012' remote verify --json
expect "verify of a part, through the mount" local_ verify "$mnt/dir"

# --- bench
json "bench --json" 'j["rpc"]["count"] > 10 and j["create"]["count"] == j["unlink"]["count"] and
  j["write"]["mib"] == 8 and j["read"]["mib"] == 8' \
  remote bench --seconds 0.3 --parallel 4 --mib 8 --json
same "bench leaves nothing" "$(ls -A "$mnt")" $'big\ndir'
"$MAGMA" bench --host "$host" --key-file "$client_key" --seconds 2 --mib 100000 \
  >"$work/bench.out" 2>&1 &
bench_pid=$!
helpers+=("$bench_pid")
has_scratch() { compgen -G "$mnt/.magma-bench-*" >/dev/null; }
expect "bench works in a scratch directory" wait_until 60 has_scratch
kill -INT "$bench_pid"
wait "$bench_pid"
same "bench after Ctrl-C fails" $? 2
same "and leaves nothing" "$(ls -A "$mnt")" $'big\ndir'

# --- sync
printf 'synced\n' >"$mnt/dir/synced"
expect "sync" grep -q "on stable storage (1 volcano, " <(local_ sync "$mnt/dir")
expect_failure "sync of another filesystem" 1 "no mount of Magma" local_ sync /tmp

# --- console: this test has no say in whether magmad offers one
"$MAGMA" console "$host" --key-file "$key" </dev/null >"$work/console.out" 2>&1
console_code=$?
if [ $console_code -eq 0 ]; then
  passed "console"
else
  expect "console: there is none, and that is said" grep -q "has no console" "$work/console.out"
fi
expect_failure "console with a client key" 2 "needs the network key" \
  "$MAGMA" console "$host" --key-file "$client_key"

# --- what goes wrong
expect_failure "wrong key" 2 "wrong key: $other_key is not of the network" \
  "$MAGMA" ls --host "$host" --key-file "$other_key" /
expect_failure "wrong key: status" 2 "wrong key" \
  "$MAGMA" status --host "$host" --key-file "$other_key"
expect_failure "no key file" 2 "$work/none" "$MAGMA" ls --host "$host" --key-file "$work/none" /
expect_failure "no volcano" 2 "is magmad running there?" \
  "$MAGMA" ls --host "$host:12999" --key-file "$client_key" /
expect_failure "some volcanoes do not answer" 4 "no volcano answers" \
  "$MAGMA" status --host "$host,$host:12999" --key-file "$client_key"
expect_failure "no host" 1 "no volcano is named" "$MAGMA" status --key-file "$client_key"
expect_failure "no such subcommand" 1 "" "$MAGMA" frobnicate
for command in status ls cat inspect locate console shutdown sync verify bench keygen fsck dump; do
  expect "$command --help tells the exit codes" grep -q "Exit codes" <("$MAGMA" $command --help)
done

# --- completion
complete_words() {
  (source "$MAGMA_SOURCE/magma_tools/magma.bash-completion"
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _magma
    printf '%s\n' "${COMPREPLY[@]}")
}
expect "completion: subcommands" grep -qx inspect <(complete_words magma ins)
expect "completion: hosts of mounts" grep -qx "$host" <(complete_words magma ls --host "$host")
expect "completion: options" grep -qx -- --parallel <(complete_words magma bench --par)
expect "completion: files" grep -qx "$mnt" <(complete_words magma ls "$mnt")

# --- shutdown, dump
expect_failure "dump of a running volcano" 2 "is its magmad running" "$MAGMA" dump "$storage"
expect_failure "shutdown with a client key" 2 "needs the network key" \
  "$MAGMA" shutdown --yes "$host" --key-file "$client_key"
expect_failure "shutdown asks, and there is nobody" 2 "give --yes" \
  "$MAGMA" shutdown "$host" --key-file "$key" </dev/null
expect "it still runs" remote status
unmount_magma
expect "shutdown" "$MAGMA" shutdown --yes "$host" --key-file "$key"
wait_until $stop_seconds is_volcano_gone
wait "$volcano_pid"
same "the volcano ended with exit code 0" $? 0
volcano_pid=
expect_failure "nobody answers any more" 2 "is magmad running there?" remote status
fsck_clean
"$MAGMA" dump "$storage" >"$work/dump"
expect "dump has the file's entry" grep -q '^entry .* "file" version .*ino=' "$work/dump"
"$MAGMA" dump --json --oplog "$storage" >"$work/dump.json"
expect "dump --json: every line" python3 -c '
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
assert sum(r.get("table") == "inode" for r in rows) == 9, len(rows)
assert any(r.get("name") == "file" and r["row"]["type"] == 8 for r in rows)
assert any("oplog" in r for r in rows)
assert not any("malformed" in str(r["row"]) for r in rows if "row" in r)' "$work/dump.json"
same "dump --table" "$("$MAGMA" dump --table slot "$storage" | grep -vc '^slot ')" 0
fsck_clean "after the dump"

# --- verify finds what a bad disk does
content=$(find "$storage/flares" -type f -size +1M | head -n 1)
python3 -c '
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
byte = os.pread(fd, 1, 5000)
os.pwrite(fd, bytes([byte[0] ^ 1]), 5000)
os.fsync(fd)' "$content"
# A volcano compares what it reads from its disk, not what is in the kernel's page cache.
# A page that somebody is just reading stays: asked again.
drop_cache() {
  local try
  for try in {1..50}; do
    python3 -c '
import os, sys
os.posix_fadvise(os.open(sys.argv[1], os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)' "$content"
    [ "$(fincore --noheadings --output pages "$content")" -gt 0 ] || return 0
    sleep 0.1
  done
  failed "the content leaves the page cache"
}
start_volcano
drop_cache
expect_failure "verify finds a flipped bit" 4 "problem: /big: cannot be read after byte" remote verify
drop_cache
json "verify --json names it" 'j["complete"] and j["problems_total"] == 1 and
  j["problems"][0].startswith("/big: ")' remote verify --json
drop_cache
remote cat /big >/dev/null 2>"$work/cat.err"
same "cat fails as well" $? 2
expect "and says why" grep -q "do not match their checksum: /big" "$work/cat.err"
stop_volcano
