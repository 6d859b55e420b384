#!/bin/bash
# A real systemd, with Magma as `make install` leaves it: the steps of magmad(8), "UNDER SYSTEMD".
# It runs in namespaces of its own, on an overlay of this machine's files, so nothing of it is left.
# systemd_guest.sh is what happens inside.
source "$(dirname "$0")/lib.sh"
begin
build=$(cd "$(dirname "$MAGMAD")/.." && pwd)
systemd=/lib/systemd/systemd
[ -x $systemd ] || skip_all "needs systemd (Debian package systemd)"
[ -f "$build/Makefile" ] || skip_all "needs the build directory of the programs"
grep -qw overlay /proc/filesystems || skip_all "needs overlayfs"

# systemd wants a subtree of the cgroups for itself.
cgroups=()
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
  cgroups=(/sys/fs/cgroup)
else
  for where in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    [ ! -d $where ] || cgroups+=("$where")
  done
fi
own=magma-test-$$
remove_cgroups() {
  local where left=0
  for where in "${cgroups[@]}"; do
    [ -d "$where/$own" ] || continue
    find "$where/$own" -depth -type d -exec rmdir {} + 2>/dev/null
    [ ! -d "$where/$own" ] || left=1
  done
  return $left
}
at_end() { wait_until 5 remove_cgroups; }
for where in "${cgroups[@]}"; do
  mkdir "$where/$own" 2>/dev/null || skip_all "needs cgroups that can be written ($where)"
done

mkdir "$work/fs" "$work/results"
cat >"$work/boot" <<'BOOT'
set -eu
work=$1 build=$2 source=$3 systemd=$4
mount --make-rprivate /
mount -t tmpfs tmpfs "$work/fs"
mkdir "$work/fs/upper" "$work/fs/work" "$work/fs/root"
root=$work/fs/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/fs/upper,workdir=$work/fs/work" "$root"
env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS make -s --no-print-directory -C "$build" install \
  DESTDIR="$root" >/dev/null
for where in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$root/$where"; done
chmod 1777 "$root/tmp"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
for node in null zero full random urandom tty fuse autofs; do
  [ -e /dev/$node ] || continue
  : >"$root/dev/$node"
  mount --bind /dev/$node "$root/dev/$node"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
  mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
  mkdir "$root/sys/fs/cgroup/systemd" "$root/sys/fs/cgroup/unified"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
  mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
fi
ip link set lo up
# No services of this machine: ours are started by hand, as an operator does.
rm -rf "$root/etc/magma" "$root/etc/systemd/system"/*.wants "$root/etc/systemd/system"/magma* \
  "$root/var/lib/magma" "$root/var/log/journal"
: >"$root/etc/fstab"
mkdir -p "$root/magma-test" "$root/old"
mount --bind "$work/results" "$root/magma-test"
cp "$source/tests/cluster/systemd_guest.sh" "$root/magma-test/guest"
cat >"$root/etc/systemd/system/magma-test.service" <<UNIT
[Unit]
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/bash /magma-test/guest
ExecStopPost=/bin/systemctl exit 0 --force
StandardOutput=file:/magma-test/out
StandardError=file:/magma-test/errors
UNIT
cat >"$root/etc/systemd/system/magma-test.target" <<UNIT
[Unit]
Requires=basic.target
Wants=magma-test.service
UNIT
# Not before the mounts of /sys are made: systemd is the first thing to run in there.
cd "$root"
pivot_root . old
umount -l /old
mount --make-rshared /  # as on a real machine: what is unmounted goes from services' views too
: >/magma-test/booted
exec env -i container=magma-test PATH="$PATH" "$systemd" --system --unit=magma-test.target \
  --log-target=journal
BOOT

# In the cgroup first: the namespace's root is where we are when it is made.
timeout -s KILL 60 bash -c 'for where in "${@:6}"; do echo $BASHPID >"$where/cgroup.procs"; done
  exec unshare --mount --pid --fork --net --uts --ipc --cgroup --kill-child \
    bash "$1/boot" "$1" "$2" "$3" "$4" "$5"' \
  boot "$work" "$build" "$MAGMA_SOURCE" "$systemd" "$own" "${cgroups[@]/%//$own}" \
  >"$work/boot.out" 2>&1 </dev/null
sed 's/^/# /' "$work/boot.out"
[ -e "$work/results/booted" ] || skip_all "no namespaces or overlay here: $(tail -n 1 "$work/boot.out")"
[ -s "$work/results/out" ] || skip_all "systemd does not come up in a namespace here"
cat "$work/results/out"
failures=$((failures + $(grep -c '^not ok' "$work/results/out")))
[ ! -s "$work/results/errors" ] || sed 's/^/# /' "$work/results/errors"
same "the guest came to its end" "$(tail -n 1 "$work/results/out")" "# end"
