# Run by systemd.sh as a service of a systemd of its own; its output is TAP. Not a test by itself.
# The commands are those of magmad(8), "UNDER SYSTEMD".
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
unit=magmad@wallace.service
storage=/var/lib/magma/wallace
mnt=/mnt/magma

# expect TEXT COMMAND...
expect() {
  local text=$1 output code
  shift
  output=$("$@" 2>&1)
  code=$?
  if [ $code -eq 0 ]; then
    echo "ok $text"
  else
    echo "not ok $text"
    echo "# exit code $code: $*"
    sed 's/^/#   /' <<<"$output"
  fi
  return $code
}
# same TEXT GOT WANTED
same() {
  if [ "$2" == "$3" ]; then
    echo "ok $1"
  else
    echo "not ok $1"
    echo "# got '$2', wanted '$3'"
  fi
}
wait_until() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.05
  done
}
property() { systemctl show -P "$2" "$1"; }
pid() { property $unit MainPID; }
is_active() { systemctl -q is-active "$1"; }
status_field() { awk -v field="$2:" '$1 == field { print $2 }' "/proc/$1/status"; }
# Messages of a unit with their priorities: "6 ready nick=wallace ...".
journal() {
  journalctl -q --sync
  journalctl -q -u "$1" -o json | python3 -c 'import json, sys
for line in sys.stdin:
    event = json.loads(line)
    print(event.get("PRIORITY"), event.get("MESSAGE"))'
}
logged() { journal "$1" | grep -qE -- "$2"; }

# --- from make install to a mount -----------------------------------------------------------------
expect "systemd-sysusers makes the user" sh -c "systemd-sysusers && getent passwd magma"
systemctl daemon-reload
same "systemd-analyze verify has nothing to say" \
  "$(systemd-analyze verify --man=no "$unit" 2>&1 | grep magmad)" ""
echo "# $(systemd-analyze --no-pager security $unit | tail -n 1)"

# Before there is anything: an error in words, and no restart.
mkdir -p /etc/magma /var/lib/magma
echo 'ip = 127.0.0.1' >/etc/magma/empty.conf
expect "a volcano that was not made does not start" sh -c '! systemctl start magmad@empty'
same "and is not tried again" "$(property magmad@empty NRestarts) $(property magmad@empty ExecMainStatus)" "0 64"
expect "the journal tells what to do" logged magmad@empty 'is empty: make a new network with -b'

magma keygen /etc/magma/key >/dev/null
magma keygen --client /etc/magma/key /etc/magma/client.key >/dev/null
cat >/etc/magma/wallace.conf <<CONF
# One volcano, for this machine.
nick = wallace
fqdn = wallace.example.org
ip = 127.0.0.1
CONF
expect "magmad -b --make-only" magmad -b --make-only --config /etc/magma/wallace.conf -d $storage \
  --key-file /etc/magma/key
expect "systemctl enable --now" systemctl enable --now $unit
expect "it is active" is_active $unit || { journal $unit | sed 's/^/# /'; exit 1; }
same "it told its status" "$(property $unit StatusText)" "wallace serves at 127.0.0.1:12000"
same "it runs as magma" "$(stat -c %U "/proc/$(pid)")" magma
same "the storage belongs to magma, alone" "$(stat -c '%U %a' $storage)" "magma 700"
same "and all that is in it" "$(find $storage ! -user magma)" ""
same "it has no capability" "$(status_field "$(pid)" CapEff)" 0000000000000000
same "nor can get one" \
  "$(status_field "$(pid)" CapBnd) $(status_field "$(pid)" NoNewPrivs)" "0000000000000000 1"
same "system calls are filtered" "$(status_field "$(pid)" Seccomp)" 2
expect "the journal has events with priorities" logged $unit '^6 ready nick=wallace '
# The sandbox's refusals would show as warnings.
same "and no warning" "$(journal $unit | grep -E '^[0-4] ')" ""

# --- fstab ----------------------------------------------------------------------------------------
mkdir -p $mnt
options=_netdev,nofail,key-file=/etc/magma/client.key
echo "localhost:/ $mnt magma $options 0 0" >/etc/fstab
systemctl daemon-reload
expect "systemd mounts the line of fstab" systemctl start mnt-magma.mount
expect "a file" sh -c "echo hello >$mnt/hello && grep -q hello $mnt/hello"
expect "the volcano starts before, and so ends after, what is _netdev" sh -c \
  "systemctl show -P After mnt-magma.mount | grep -qw remote-fs-pre.target &&
   systemctl show -P Before $unit | grep -qw remote-fs-pre.target"

# --- signals and failures -------------------------------------------------------------------------
old=$(pid)
systemctl kill -s HUP $unit
expect "SIGHUP is logged" wait_until 5 logged $unit '^6 sighup action=none'
same "and changes nothing" "$(pid)" "$old"
systemctl kill -s KILL $unit
restarted() { [ "$(pid)" != "$old" ] && is_active $unit; }
expect "killed, it is started again" wait_until 10 restarted
same "and the mount goes on" "$(timeout 10 cat $mnt/hello)" hello

mkdir -p /run/systemd/system/$unit.d
printf '[Service]\nWatchdogSec=1\n' >/run/systemd/system/$unit.d/test.conf
systemctl daemon-reload
systemctl restart $unit
old=$(pid)
sleep 2.2
same "the watchdog is content with a volcano that runs" "$(pid)" "$old"
kill -STOP "$old"
expect "one that hangs is started again" wait_until 15 restarted
expect "by the watchdog" logged $unit 'Watchdog timeout'
same "and the mount goes on" "$(timeout 10 cat $mnt/hello)" hello

# --- end ------------------------------------------------------------------------------------------
expect "systemd unmounts" systemctl stop mnt-magma.mount
same "nothing is mounted" "$(findmnt -n $mnt)" ""
expect "and the mount's process ends" wait_until 5 sh -c '! pgrep -x mount.magma >/dev/null'
expect "systemctl stop" systemctl stop $unit
same "it ended well" "$(property $unit Result) $(property $unit ExecMainStatus)" "success 0"
expect "with a clean stop" test -e $storage/clean
expect "fsck finds nothing" magma fsck $storage
expect "the last event is told" logged $unit '^6 stopped nick=wallace'
expect "after all that it starts" systemctl start $unit

# --- automount ------------------------------------------------------------------------------------
if [ -c /dev/autofs ] && grep -qw autofs /proc/filesystems; then
  echo "localhost:/ $mnt magma $options,noauto,x-systemd.automount 0 0" >/etc/fstab
  systemctl daemon-reload
  expect "the automount starts" systemctl start mnt-magma.automount
  expect "and mounts nothing yet" sh -c '! systemctl -q is-active mnt-magma.mount'
  same "the first use mounts" "$(timeout 10 cat $mnt/hello 2>&1)" hello
  expect "the automount stops" systemctl stop mnt-magma.automount mnt-magma.mount
else
  echo "ok automount # SKIP no autofs in this kernel or container"
fi
systemctl stop $unit
echo "# end"
