#!/bin/bash
# Lines of /etc/fstab as people write them, with mount(8), umount(8) and mount -a; in a mount
# namespace of its own, so the machine's fstab is not touched. What systemd makes of such lines is
# tried by systemd.sh.
if [ -z "${MAGMA_IN_NAMESPACE:-}" ]; then
  unshare --mount --propagation private true 2>/dev/null ||
    { echo "needs mount namespaces"; exit 77; }
  MAGMA_IN_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi
source "$(dirname "$0")/lib.sh"
begin
helper=/sbin/mount.magma  # mount(8) looks for it there and nowhere else
linked=
at_end() { if [ -n "$linked" ] && [ -L $helper ]; then rm -f $helper; fi; }
[ -f /etc/fstab ] || skip_all "needs an /etc/fstab to cover with another"
if [ ! -e $helper ] && [ ! -L $helper ]; then
  linked=1
  ln -s "$MOUNT_MAGMA" $helper
else
  mount --bind "$MOUNT_MAGMA" "$(readlink -f $helper)"
fi
fstab=$work/fstab
: >"$fstab"
mount --bind "$fstab" /etc/fstab

start_volcano
"$MAGMA" keygen --client "$key" "$work/client.key" >/dev/null
mkdir "$work"/{plain,full,later,ro,user,off}
base=_netdev,key-file=$work/client.key
cat >"$fstab" <<LINES
# plain, as in the manual; with much else; not at boot; read-only; a user's; of a volcano that is off
$host:/ $work/plain magma $base 0 0
$host:/ $work/full fuse.magma defaults,nofail,rw,noatime,nodev,x-systemd.mount-timeout=30,x-systemd.automount,x-gvfs-hide,comment=systemd,$base 0 2
$host:/ $work/later magma noauto,$base 0 0
$host:/ $work/ro magma ro,nosuid,noexec,$base 0 0
$host:/ $work/user magma user,noauto,key-file=$work/user.key 0 0
LINES
at() { findmnt -no "$1" --mountpoint "$2"; }
has_option() { [[ ,$(at OPTIONS "$1"), == *,$2,* ]]; }

# mount.fuse.magma is installed as a link to mount.magma; here it may be missing.
fuse_helper=/sbin/mount.fuse.magma
if [ ! -e $fuse_helper ]; then
  ln -s $helper $fuse_helper
  at_end() { rm -f $fuse_helper; if [ -n "$linked" ] && [ -L $helper ]; then rm -f $helper; fi; }
fi
expect "mount -a" timeout 30 mount -a
same "the plain line" "$(at SOURCE,FSTYPE "$work/plain" | tr -s ' ')" "$host:/ fuse.magma"
same "the line with everything" "$(at SOURCE "$work/full")" "$host:/"
expect "noatime and nodev reach the kernel" \
  eval 'has_option "$work/full" noatime && has_option "$work/full" nodev'
expect "ro, nosuid and noexec too" eval \
  'has_option "$work/ro" ro && has_option "$work/ro" nosuid && has_option "$work/ro" noexec'
same "noauto is left out" "$(at SOURCE "$work/later")" ""
echo hello >"$work/plain/hello"
same "one tree" "$(cat "$work/full/hello" "$work/ro/hello")" "$(printf 'hello\nhello')"
before=$(findmnt -rn | wc -l)
expect "mount -a again" timeout 30 mount -a
same "mounts nothing twice" "$(findmnt -rn | wc -l)" "$before"

expect "mount by mount point" timeout 20 mount "$work/later"
same "it is there" "$(cat "$work/later/hello")" hello
expect_failure "twice is refused" 32 "is busy" timeout 20 mount "$work/later"
expect_failure "remount is refused in words" 1 "unmount, then mount again" \
  timeout 20 mount -o remount,ro "$work/later"
same "and changes nothing" "$(cat "$work/later/hello")" hello
expect "umount by mount point" unmount_magma "$work/later"
expect "umount -a -t fuse.magma" timeout 20 umount -a -t fuse.magma
expect "and all processes end" wait_until 10 no_mounters "$work"
same "nothing is mounted" "$(findmnt -rnt fuse.magma | grep -F "$work")" ""

# A user's own, by the set-user-id mount(8): the helper runs as the user.
if id nobody >/dev/null 2>&1 && [ -u /bin/mount ] && command -v fusermount3 >/dev/null &&
  chmod a+x "$work" && runuser -u nobody -- test -x "$MOUNT_MAGMA" -a -x "$work"; then
  # Without udev the device may be root's alone.
  mknod -m 666 "$work/fuse" c 10 229 && mount --bind "$work/fuse" /dev/fuse
  install -o nobody -m 600 "$work/client.key" "$work/user.key"
  chown nobody "$work/user"
  expect "mount as a user" timeout 20 runuser -u nobody -- mount "$work/user"
  same "whose mount it is" "$(runuser -u nobody -- cat "$work/user/hello" 2>&1)" hello
  expect "nosuid, nodev and noexec, as for every user's mount" eval \
    'has_option "$work/user" nosuid && has_option "$work/user" nodev'
  expect "fusermount3 -u as the user" runuser -u nobody -- fusermount3 -u "$work/user"
  expect "and its process ends" wait_until 10 no_mounters "$work/user"
else
  passed "mount as a user # SKIP needs a user nobody who may run $MOUNT_MAGMA"
fi

# Without its volcano: an error within seconds, also with nofail, which is for systemd.
stop_volcano
echo "$host:/ $work/off magma nofail,$base 0 0" >"$fstab"
milliseconds timeout 20 mount -a
expect "mount -a fails when no volcano answers" test "$took_code" -ne 0
expect "and says so within 6 s ($took_ms ms)" \
  eval '[ "$took_ms" -lt 6000 ] && grep -q "no volcano answers" "$work/timed.out"'

# SIGHUP, as a terminal sends it that closes: a mount in the background stays.
start_volcano
setsid -w timeout 20 mount -t magma "$host:/" "$work/plain" -o "$base" </dev/null
pid=$(mounters "$work/plain")
kill -HUP "$pid"
echo again >"$work/plain/again"
same "SIGHUP does not end a mount in the background" "$(cat "$work/full/again" "$work/plain/again" 2>/dev/null)" again
expect "its process lives" kill -0 "$pid"
expect "SIGTERM ends it" eval 'kill -TERM "$pid" && wait_until 5 process_ended "$pid"'
same "and unmounts" "$(at SOURCE "$work/plain")" ""
stop_volcano
fsck_clean "after all mounts"
