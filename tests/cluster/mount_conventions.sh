#!/bin/bash
# What mount(8), umount(8), ps(1) and a person at the keyboard expect of mount.magma, and what
# magmad refuses: exit codes, the words of the errors, time bounds, no key where others can read it.
source "$(dirname "$0")/lib.sh"
begin
helper=/sbin/mount.magma  # mount(8) looks for it there and nowhere else
linked=
at_end() { if [ -n "$linked" ] && [ -L $helper ]; then rm -f $helper; fi; }
start_volcano
port=12000

# --- mount(8) -------------------------------------------------------------------------------------
if [ ! -e $helper ] && [ ! -L $helper ]; then
  linked=1
  ln -s "$MOUNT_MAGMA" $helper
fi
if [ "$(readlink -f $helper)" = "$(readlink -f "$MOUNT_MAGMA")" ]; then
  mkdir "$mnt"
  expect "mount -t magma" timeout 20 mount -t magma "$host:/" "$mnt" -o "key-file=$key,port=$port"
  same "/proc/mounts names source and type" \
    "$(awk -v m="$mnt" '$2 == m {print $1, $3}' /proc/mounts)" "$host:/ fuse.magma"
  expect "df names it" sh -c "df '$mnt' | grep -q '^$host:/ '"
  expect "umount" unmount_magma
  expect "mount -o ro" timeout 20 mount -t magma "$host:/" "$mnt" -o "key-file=$key,ro"
  expect_failure "a write there: EROFS" 1 "Read-only file system" touch "$mnt/x"
  expect "umount of it" unmount_magma
  expect_failure "mount(8) passes a failure on" 32 "no volcano answers" \
    timeout 20 mount -t magma "$host:/" "$mnt" -o "key-file=$key,port=9"
else
  passed "mount -t magma # SKIP $helper is another program"
fi

# --- refusals of mount.magma ----------------------------------------------------------------------
try() { timeout 20 "$MOUNT_MAGMA" --host="$host" "$@"; }
mkdir -p "$mnt"
"$MAGMA" keygen "$work/other.key" >/dev/null
milliseconds try --key-file="$work/other.key" "$mnt"
cp "$work/timed.out" "$work/wrong.out"
expect_failure "wrong key: exit code 32 and the words" 32 "wrong key" \
  sh -c "cat '$work/wrong.out'; exit $took_code"
expect "a wrong key is told within 2 s ($took_ms ms)" test "$took_ms" -lt 2000
milliseconds timeout 20 "$MOUNT_MAGMA" --host="$host" --port=9 --key-file="$key" "$mnt"
cp "$work/timed.out" "$work/none.out"
expect_failure "no volcano: exit code 32 and the words" 32 "no volcano answers" \
  sh -c "cat '$work/none.out'; exit $took_code"
expect "no volcano is told within 6 s ($took_ms ms)" test "$took_ms" -lt 6000
: >"$work/file"
expect_failure "a file as mount point" 32 "not a directory" try --key-file="$key" "$work/file"
expect_failure "a missing mount point" 32 "No such file" try --key-file="$key" "$work/none"
expect_failure "an unknown option" 1 "unknown option" try --nonsense --key-file="$key" "$mnt"
expect_failure "an unknown mount option" 1 "unknown mount option" \
  try -o nonsense --key-file="$key" "$mnt"
expect_failure "a key among the mount options" 1 "key-file=FILE" try -o key=abc "$mnt"
install -m 644 "$key" "$work/open.key"
expect_failure "a key file that others can read" 32 "0600" try --key-file="$work/open.key" "$mnt"
expect_failure "a key file that is missing" 32 "No such file" try --key-file="$work/no.key" "$mnt"
same "after all refusals nothing is mounted" "$(is_mounted "$mnt" && echo mounted)" ""
same "and no process is left" "$(mounters "$work")" ""
expect "--fake checks and mounts nothing" try --fake --key-file="$key" "$mnt"
same "nothing mounted by --fake" "$(is_mounted "$mnt" && echo mounted)" ""

"$MAGMA" keygen --client "$key" "$work/client.key" >/dev/null
mount_magma "$mnt"
expect "a mount with the client key" try --key-file="$work/client.key" "$(mkdir -p "$work/m2" && echo "$work/m2")"
echo shared >"$mnt/seen"
same "two mounts show the same files" "$(cat "$work/m2/seen")" shared
expect_failure "a second mount on the same folder" 32 "busy" try --key-file="$key" "$mnt"
same "the first one still works" "$(cat "$mnt/seen")" shared
unmount_magma "$work/m2"
expect_failure "umount of a mount in use" 32 "busy" sh -c "cd '$mnt' && umount '$mnt'"

# --- the key is nowhere to be read ----------------------------------------------------------------
secret=$(grep -oE '[A-Za-z0-9+/=_-]{40,}' "$key" | head -n 1)
expect "the key file has a secret to look for" test -n "$secret"
public() { cat /proc/mounts /proc/self/mountinfo /proc/[0-9]*/cmdline /proc/[0-9]*/environ "$log"; }
same "the secret is not in mounts, command lines, environments, log" \
  "$(public 2>/dev/null | grep -acFf <(printf '%s' "$secret"))" 0

# --- a volcano that does not answer ---------------------------------------------------------------
# interrupted SIGNAL COMMAND...: it waits for the volcano; the signal must end it within 2 s.
interrupted() {
  local signal=$1 pid from
  shift
  # setsid: without job control bash lets background commands ignore SIGINT; python3 gives it back.
  python3 -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])' "$@" >/dev/null 2>&1 &
  pid=$!
  helpers+=("$pid")
  wait_until 5 grep -qsE 'request_wait_answer|fuse' "/proc/$pid/wchan" || {
    echo "it did not wait for the volcano"
    return 1
  }
  kill "-$signal" "$pid"
  from=$(now_ms)
  wait_until 2 process_ended "$pid" || { echo "it still waits"; return 1; }
  wait "$pid" 2>/dev/null
  echo "ended after $(($(now_ms) - from)) ms"
}
mkdir "$mnt/folder"
head -c 3000000 /dev/urandom >"$mnt/large"
sum=$(sha256sum <"$mnt/large")
kill -STOP "$volcano_pid"
echo 3 >/proc/sys/vm/drop_caches
expect "Ctrl-C ends a cat when the volcano hangs" interrupted INT cat "$mnt/large"
expect "Ctrl-C ends an ls when the volcano hangs" interrupted INT ls "$mnt/folder"
expect "SIGTERM ends a touch when the volcano hangs" interrupted TERM touch "$mnt/new"
kill -CONT "$volcano_pid"
same "afterwards all is well" "$(timeout 20 sha256sum <"$mnt/large")" "$sum"
kill_volcano
echo 3 >/proc/sys/vm/drop_caches
expect "Ctrl-C ends a cat when the volcano is gone" interrupted INT cat "$mnt/large"
expect "Ctrl-C ends a mkdir when the volcano is gone" interrupted INT mkdir "$mnt/other"
milliseconds timeout 20 umount "$mnt"
same "umount while the volcano is gone" "$took_code" 0
expect "returns within 5 s ($took_ms ms)" test "$took_ms" -lt 5000
expect "and its process ends" wait_until 5 no_mounters "$mnt"

# onfail=eio: an error instead of waiting.
start_volcano
mount_magma "$mnt" -o onfail=eio,stall=1
kill_volcano
milliseconds timeout 20 ls "$mnt/folder"
expect "onfail=eio,stall=1: an error within 4 s ($took_ms ms)" test "$took_ms" -lt 4000 -a "$took_code" -ne 0
start_volcano
# The mount before ended without a word: what it may have changed last is its own till its session ends.
wait_until 15 test -r "$mnt/large" || true
same "and works again with the volcano back" "$(timeout 20 sha256sum <"$mnt/large")" "$sum"
unmount_magma

# --- refusals of magmad ---------------------------------------------------------------------------
volcano() { timeout 20 "$MAGMAD" -n wallace -s wallace.local.magma -i "$host" -p 12100 "$@"; }
refused=64
expect_failure "a storage directory in use" $refused "in use" volcano -d "$storage"
stop_volcano
expect_failure "-b on a used directory" $refused "already holds a volcano" \
  volcano -d "$storage" -b --key-file "$key"
mkdir "$work/empty" "$work/foreign"
expect_failure "no -b on an empty directory" $refused "is empty" volcano -d "$work/empty"
expect_failure "a directory that is missing" $refused "does not exist" volcano -d "$work/none"
expect_failure "-b without a key" $refused "needs a key" volcano -d "$work/empty" -b
expect_failure "a key file that others can read" $refused "0600" \
  volcano -d "$work/empty" -b --key-file "$work/open.key"
expect_failure "-b with a client key" $refused "client key" \
  volcano -d "$work/empty" -b --key-file "$work/client.key"
expect_failure "the key of another network" $refused "the key is not the one" \
  volcano -d "$storage" --key-file "$work/other.key"
echo mine >"$work/foreign/thesis.txt"
expect_failure "somebody else's directory" $refused "thesis.txt" volcano -d "$work/foreign"
expect_failure "-b in somebody else's directory" $refused "thesis.txt" \
  volcano -d "$work/foreign" -b --key-file "$key"
same "and nothing was put there" "$(ls -A "$work/foreign")" "thesis.txt"
cp "$storage/volcano.json" "$work/papers"
sed -i -E 's/("format" *: *)[0-9]+/\1999/' "$storage/volcano.json"
expect "volcano.json has a format to edit" sh -c "! cmp -s '$work/papers' '$storage/volcano.json'"
expect_failure "a newer format" $refused "newer" volcano -d "$storage"
echo '{' >"$storage/volcano.json"
expect_failure "a broken volcano.json" $refused "volcano.json" volcano -d "$storage"
cp "$work/papers" "$storage/volcano.json"
expect_failure "wrong usage" 1 "" volcano
expect_failure "a bad address" $refused "192.0.2.1" \
  timeout 20 "$MAGMAD" -n wallace -s wallace.local.magma -i 192.0.2.1 -d "$storage"
start_volcano
stop_volcano
fsck_clean "after all refusals"

# -k: the pass-phrase works, and is wiped from the arguments.
storage=$work/phrase
mkdir "$storage"
cat "$log" >>"$log.before"
: >"$log"
"$MAGMAD" -n wallace -s wallace.local.magma -i "$host" -d "$storage" -b -k "open sesame 42" \
  >"$log" 2>&1 &
volcano_pid=$!
wait_until $ready_seconds is_ready
expect "a network made with -k is ready" grep -qw ready "$log"
same "-k is wiped from the arguments" "$(grep -ac sesame "/proc/$volcano_pid/cmdline")" 0
expect "a mount with --key" timeout 20 "$MOUNT_MAGMA" --host="$host" "--key=open sesame 42" "$mnt"
pid=$(mounters "$mnt")
same "--key is wiped from the arguments" "$(grep -ac sesame "/proc/$pid/cmdline")" 0
unmount_magma
expect_failure "a wrong pass-phrase" 32 "wrong key" \
  timeout 20 "$MOUNT_MAGMA" --host="$host" "--key=open sesame 43" "$mnt"
stop_volcano
