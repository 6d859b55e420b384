#!/bin/bash
# magmad as a daemon: what it tells a service manager, its log's form in a file and in the journal,
# SIGHUP under load, --config and --make-only.
source "$(dirname "$0")/lib.sh"
begin
"$MAGMA" keygen "$key" >/dev/null

# --- --config and --make-only ---------------------------------------------------------------------
config=$work/wallace.conf
printf '# a comment\nnick = wallace\nfqdn = "wallace.example.org"\nip = %s\n' "$host" >"$config"
made() { timeout 20 "$MAGMAD" --config "$config" -d "$storage" "$@"; }
expect_failure "--make-only needs -b" 1 "requires --bootstrap" made --make-only
expect_failure "-b --make-only makes the storage and ends" 0 "made the lava network" \
  made -b --make-only --key-file "$key"
expect_failure "-b in a directory that is missing" 64 "the directory it is to be in" \
  timeout 20 "$MAGMAD" --config "$config" -d "$work/none/storage" -b --key-file "$key"
same "nick and full name are those of the file" \
  "$(grep -cE '"(nick|fqdn)": "wallace(.example.org)?"' "$storage/volcano.json")" 2
same "it ended cleanly" "$(ls "$storage/clean")" "$storage/clean"
expect_failure "-b is refused now" 64 "already holds a volcano" made -b --key-file "$key"
for line in nonsense=1 bootstrap=true key=secret daemon=true small-files=1 copies=1 port=none garbage; do
  echo "$line" >"$work/bad.conf"
  expect_failure "a bad line in the file: $line" 1 "" \
    timeout 5 "$MAGMAD" --config "$work/bad.conf" -d "$storage"
done
echo nonsense=1 >"$work/bad.conf"
expect_failure "the error names file and option" 1 "$work/bad.conf: there is no option nonsense" \
  timeout 5 "$MAGMAD" --config "$work/bad.conf" -d "$storage"
expect_failure "a missing file" 1 "$work/none.conf" \
  timeout 5 "$MAGMAD" --config "$work/none.conf" -d "$storage"

# --- the service manager --------------------------------------------------------------------------
# notified WATCHDOG-USEC ARGUMENT...: starts it under a listener, which prints what it was told.
cat >"$work/listen.py" <<'PY'
import os, signal, socket, subprocess, sys, time
path, usec, program = sys.argv[1], sys.argv[2], sys.argv[3:]
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
told.bind(path)
told.settimeout(10)
# As systemd does it: stderr is the journal's, and $JOURNAL_STREAM says which.
log = open(path + ".journal", "w")
stat = os.fstat(log.fileno())
child = subprocess.Popen(program, stderr=log, env=dict(
    os.environ, NOTIFY_SOCKET=path, WATCHDOG_USEC=usec,
    JOURNAL_STREAM="%d:%d" % (stat.st_dev, stat.st_ino)))
beats, ready, end = 0, None, None
while end is None:
    text = told.recv(4096).decode()
    for line in text.split("\n"):
        if line == "WATCHDOG=1":
            beats += 1
        else:
            print(line, flush=True)
        if line == "READY=1":
            ready = time.monotonic()
        if line == "STOPPING=1":
            end = time.monotonic()
    if ready and end is None and beats >= 5:
        took, beats, ready = time.monotonic() - ready, 0, None
        print("BEATS=%s" % ("often enough" if took < 5 * float(usec) / 1e6 else took), flush=True)
        child.send_signal(signal.SIGTERM)
print("EXIT=%d" % child.wait(20))
PY
expect "under a service manager" sh -c "timeout 30 python3 '$work/listen.py' '$work/notify' 400000 \
  '$MAGMAD' --config '$config' -d '$storage' >'$work/told'"
same "it tells when it serves, that it lives, that it stops" "$(cat "$work/told")" \
  "READY=1
STATUS=wallace serves at $host:12000
BEATS=often enough
STOPPING=1
STATUS=stopping: everything is being synced
EXIT=0"
same "the journal's lines have priorities and no time" \
  "$(grep -vcE '^<[3467]>[a-z][a-z0-9_]*( |$)' "$work/notify.journal")" 0
expect "and are there" grep -q '^<6>ready nick=wallace ' "$work/notify.journal"

# --- the log --------------------------------------------------------------------------------------
start_volcano -A
mount_magma
# A host name is any bytes, for root of a machine that mounts.
expect "a mount from a host with a hostile name" unshare --uts python3 -c '
import socket, subprocess, sys
socket.sethostname("a\n<3>store_failed error=\"b")
sys.exit(subprocess.run(sys.argv[1:]).returncode)' \
  "$MOUNT_MAGMA" --host="$host" --key-file="$key" "$(mkdir "$work/m2" && echo "$work/m2")"
expect "its name is quoted" grep -qF 'host="a\n<3>store_failed error=\"b"' "$log"
same "and makes no event" "$(grep -c '^[^ ]* [^ ]* store_failed\|^<' "$log")" 0

# --- SIGHUP under load ----------------------------------------------------------------------------
writer() {
  local i
  for ((i = 0; i < 300; i++)); do
    echo "line $i" >"$mnt/file$i" && mv "$mnt/file$i" "$mnt/moved$i" || return 1
  done
}
writer &
writer_pid=$!
helpers+=("$writer_pid")
hangups=0
until process_ended "$writer_pid"; do
  kill -HUP "$volcano_pid"
  hangups=$((hangups + 1))
  sleep 0.01
done
expect "a writer goes on through $hangups hang-ups" wait "$writer_pid"
same "nothing is lost" "$(ls "$mnt" | grep -c '^moved')" 300
same "and read right" "$(cat "$work/m2/moved299")" "line 299"
expect "hang-ups are told" grep -q ' info sighup action=none$' "$log"
unmount_magma "$work/m2"
unmount_magma
stop_volcano
# A value is a word, or in quotes with escapes.
form='^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z (error|warning|info|debug) [a-z][a-z0-9_]*( [a-z][a-z0-9_]*=([^" =]+|"([^"\\]|\\.)*"))*$'
same "every line is: time, level, event, key=value ..." "$(grep -vE "$form" "$log")" ""
expect "among them some of channel n" grep -q ' debug connected ' "$log"
fsck_clean "after hang-ups"
