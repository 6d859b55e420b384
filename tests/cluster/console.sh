#!/bin/bash
# The console of a real volcano over TCP: every command as root, what another user is refused and how
# he logs in, who is turned away, what a browser, a thousand connections and a reader who does not
# read do to it, and shutdown.
source "$(dirname "$0")/lib.sh"
begin
driver=$lib_dir/console_driver.py
console() { timeout 60 python3 "$driver" "$host" "$@"; }
# Somebody else: a user without any right here.
# Somebody else, without any right here: he cannot read the sources either.
cp "$driver" "$work/driver.py" && chmod 644 "$work/driver.py" && chmod 711 "$work"
as_nobody_driver=$work/driver.py
as_nobody() {
  setpriv --reuid=65534 --regid=65534 --clear-groups timeout 60 python3 "$as_nobody_driver" \
    "$host" "$@"
}
has() { grep -qF -- "$1" "$work/said"; }
lacks() { ! has "$1"; }
# says TEXT WORDS COMMAND...: what the console says to it has these words.
says() {
  local text=$1 words=$2
  shift 2
  "$@" >"$work/said" 2>&1
  expect "$text" has "$words"
}

# --- start ----------------------------------------------------------------------------------------
start_volcano
expect "the ready line names the console" grep -q "console=$host:12002" "$log"
mount_magma
mkdir -p "$mnt/d/e"
echo "the content" >"$mnt/d/file"
ln -s file "$mnt/d/link"
printf x >"$mnt/d/"$'a b\e[31m'
chown 1234:root "$mnt/d/file"
head -c 30000000 /dev/urandom >"$mnt/big"
mkdir "$mnt/many" && (cd "$mnt/many" && seq 3000 | xargs touch)

# --- commands, as root ----------------------------------------------------------------------------
console batch </dev/null >"$work/said"
expect "the banner" has "Welcome to MAGMA version"
expect "it names the server" has "This is server wallace ($host:12000)"
says "help" "print cache  open content files and sessions" console run help
same "pwd, cd, .." "$(console run "cd d/e" pwd "cd .." pwd "cd ../d/./e" pwd)" \
  "$(printf '%s\n' /d/e /d /d/e)"
console run "ls d" >"$work/said"
expect "ls: a file with its owner's number" grep -q '^-rw-r--r-- 1234     root  *12 file$' "$work/said"
expect "ls: a symlink with its target" grep -q '^lrwxrwxrwx root     root  *4 link -> file$' "$work/said"
expect "ls: a name cannot command the terminal" has 'a b\x1b[31m'
expect "ls: the total" has '-- total entries: 6'
says "ls: a directory of 3000" "total entries: 3002" console run "ls many"
same "cat" "$(console run "cat d/file")" "the content"
same "cat: a name with blanks and an escape" "$(console run 'cat "d/a b\x1b[31m"')" x
says "cat: a directory" "is a directory" console run "cat d"
says "inspect: the key is the SHA-1 of the path" "$(printf /d | sha1sum | cut -d ' ' -f 1)" \
  console run "inspect d/file"
expect "inspect: owner" has "wallace ($host:12000)"
says "erase" "Erased /d/link" console run "erase d/link"
expect "it is gone from the mount" wait_until 5 test ! -L "$mnt/d/link"
says "erase refuses a directory" "only files are erased" console run "erase d/e"
says "lava" "wallace (wallace.local.magma)" console run lava
expect "lava: the whole keyspace" has "stop key    ffffffffffffffffffffffffffffffffffffffff"
expect "lava: the number of flares" grep -qE 'keys +30[0-9]{2}$' "$work/said"
says "cache load" "sessions of mounts and tools" console run "cache load"
says "print cache" "console of wallace" console run ls "print cache"
says "print acl" "other machines            turned away" console run "print acl"
says "debug on" "[*] n  network" console run "debug on n"
before=$(wc -l <"$log")
unmount_magma
expect "the channel has lines now" wait_until 5 sh -c "tail -n +$((before + 1)) '$log' | grep -q ' debug '"
says "debug off" "[ ] n  network" console run "debug off n" "print debug"
same "a pipe of commands" "$(printf 'pwd\ncd d\npwd' | console batch | grep -c '> /$\|:/d> /d$')" 2
says "an unknown command" "Command unknown: foo. Type help" console run foo

# --- another user ---------------------------------------------------------------------------------
if setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null; then
  for line in "ls" "cat /d/file" "inspect /" "erase /d/file" "cd /d" lava "cache load" "print cache" \
    "print debug" "debug on n" shutdown; do
    says "nobody may not: $line" "and after login" as_nobody run "$line"
  done
  same "nobody may: pwd" "$(as_nobody run pwd)" /
  says "nobody may: print acl" "Console, TCP" as_nobody run "print acl"
  says "nobody with a wrong key" "not the key of this network" as_nobody login "not the key" ls
  expect "and still nothing" has "and after login"
  digits=$(sed -n 's/^magma-key-v1 network //p' "$key")
  says "nobody with the key" "Logged in" as_nobody login "$digits" "cat /d/file"
  expect "may do all" has "the content"
  expect "the key is in no log" sh -c "! grep -q '$digits' '$log'"
  printf 'login\na\nlogin\nb\nlogin\nc\nlogin\n%s\nls\n' "$digits" | as_nobody batch >"$work/said"
  expect "three wrong keys end the session" has "Too many wrong keys"
  expect "and the right one comes too late" lacks "Logged in"
  # Sessions of others never keep root out.
  as_nobody many 100 >"$work/said"
  expect "others get half of the sessions" has "served 32 told"
else
  passed "another user # SKIP no setpriv"
fi

# --- who is turned away ---------------------------------------------------------------------------
for line in 'GET / HTTP/1.1\r\nHost: x\r\n\r\nshutdown\r\n' 'POST / HTTP/1.1\r\n\r\nshutdown\r\n' \
  'Host: x\r\nshutdown\r\n'; do
  same "a browser gets nothing: ${line%%\\*}" "$(console raw "$line")" ""
done
says "a line of 100 kB" "The line is too long" console raw "$(head -c 100000 /dev/zero | tr '\0' x)\r\nexit\r\n"
console raw 'pwd\r\n\xff\xfa\x56\xff\xf0garbage' >"$work/said"
expect "telnet that is none ends the session" has "This is not telnet"

# --- bounds ---------------------------------------------------------------------------------------
rss() { sed -n 's/^VmRSS:[ \t]*\([0-9]*\) kB/\1/p' "/proc/$volcano_pid/status"; }
memory=$(rss)
console many 1000 >"$work/said"
note "$(cat "$work/said")"
expect "1000 connections: 64 are served, the others told, and then there is room again" \
  has "served 64 told 936 neither 0 again yes"
expect "they cost at most 40 MB" test $(($(rss) - memory)) -lt 40000
console slow /big 30000000 "$volcano_pid" >"$work/said"
grown=$(sed -n 's/^memory //p' "$work/said")
note "a slow reader of 30 MB: $grown KiB"
expect "a reader who does not read costs at most 12 MB" test "$grown" -lt 12000
mount_magma
same "and gets every byte in the end" "$(sed -n 's/^sha256 //p' "$work/said")" \
  "$(sha256sum <"$mnt/big" | cut -d ' ' -f 1)"
same "^C breaks a cat off" "$(console interrupt /big)" /

# --- the port -------------------------------------------------------------------------------------
expect_failure "a port in use is refused, naming --console" 64 "--console" "$MAGMAD" -b -n gromit \
  -s gromit.local.magma -i "$host" -p 12100 -d "$work/second" --key-file "$key"
expect_failure "--console must be an address" 1 "--console 1.2.3: ADDRESS:PORT is wanted" "$MAGMAD" \
  -n gromit -d "$work/second" --console 1.2.3

# --- the end --------------------------------------------------------------------------------------
says "shutdown" "The network stops" console run shutdown
expect "the volcano ends" wait_until $stop_seconds is_volcano_gone || kill -9 "$volcano_pid"
wait "$volcano_pid"
same "its exit code" $? 0
volcano_pid=
expect "it stopped cleanly" test -e "$storage/clean"
fsck_clean
start_volcano --console none
expect "the ready line says that there is no console" grep -q "console=none" "$log"
expect_failure "nothing listens" 1 "Connection refused" console run pwd
same "the mount goes on" "$(cat "$mnt/d/file")" "the content"
stop_volcano

# --- another machine: a network namespace, whose root is nobody here ------------------------------
space=magma-console-$$ near=10.231.$(($$ / 250 % 250)).1 far=10.231.$(($$ / 250 % 250)).2
at_end() {
  ip netns del "$space" 2>/dev/null
  ip link del "mc$$" 2>/dev/null
}
if ip netns add "$space" 2>/dev/null &&
  ip link add "mc$$" type veth peer name far0 netns "$space" 2>/dev/null; then
  ip addr add "$near/24" dev "mc$$" && ip link set "mc$$" up
  ip -n "$space" addr add "$far/24" dev far0 && ip -n "$space" link set far0 up
  far() { timeout 60 ip netns exec "$space" python3 "$driver" "$near" "$@"; }
  start_volcano --console "$near:12002"
  says "another machine is turned away" "serves its own machine only" far refused
  same "with one line" "$(wc -l <"$work/said")" 1
  same "our own root by that address is served" \
    "$(timeout 60 python3 "$driver" "$near" run "cat /d/file")" "the content"
  stop_volcano
  start_volcano --console "$near:12002" --console-remote
  says "with --console-remote its root is a guest" "and after login" far run "cat /d/file"
  says "who can log in" "the content" far login "$(sed -n 's/^magma-key-v1 network //p' "$key")" \
    "cat /d/file"
  stop_volcano
else
  passed "another machine # SKIP no network namespaces"
fi
expect_failure "--console-remote wants a console" 1 "there is no console" "$MAGMAD" -d "$storage" \
  --console none --console-remote

# --- the same console over the flare protocol -----------------------------------------------------
start_volcano
printf 'pwd\ncat /d/file\nlava\n' | timeout 60 "$MAGMA" console --host "$host" --key-file "$key" \
  >"$work/said" 2>&1
expect "magma console: a command's answer" has "the content"
expect "and another's" has "stop key    ffff"
expect "no telnet in it" sh -c "! LC_ALL=C grep -qaP '\\xff' '$work/said'"
printf 'shutdown\n' | timeout 60 "$MAGMA" console --host "$host" --key-file "$key" >"$work/said" 2>&1
expect "magma console: shutdown" has "The network stops"
expect "the volcano ends again" wait_until $stop_seconds is_volcano_gone || kill -9 "$volcano_pid"
wait "$volcano_pid"
same "with exit code 0" $? 0
volcano_pid=
start_volcano
same "the mount waited and goes on" "$(cat "$mnt/d/file")" "the content"
unmount_magma
stop_volcano
fsck_clean "at the end"
