# Sourced by tests that need a machine of their own: they run a script as root in namespaces, on an
# overlay of this machine's files with Magma installed (`make install`), so nothing of it is left.
# Its processes, mounts and network are its own; it can have a systemd as process 1.

guest_seconds=60
guest_cgroups=()  # systemd wants a subtree of the cgroups for itself
guest_own=magma-test-$$
guest_find_cgroups() {
  local where
  if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
    guest_cgroups=(/sys/fs/cgroup)
  else
    for where in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
      [ ! -d $where ] || guest_cgroups+=("$where")
    done
  fi
  [ ${#guest_cgroups[@]} -gt 0 ] || return 1
  for where in "${guest_cgroups[@]}"; do
    mkdir "$where/$guest_own" 2>/dev/null || return 1
  done
}
guest_remove_cgroups() {
  local where left=0
  for where in "${guest_cgroups[@]}"; do
    [ -d "$where/$guest_own" ] || continue
    find "$where/$guest_own" -depth -type d -exec rmdir {} + 2>/dev/null
    [ ! -d "$where/$guest_own" ] || left=1
  done
  return $left
}
at_end() { wait_until 5 guest_remove_cgroups; }

# run_guest INIT SCRIPT: INIT is the path of systemd, or none. What the script prints (TAP) is
# printed and counted; its last line must be "# end". Skips the test if there can be no guest.
run_guest() {
  local init=$1 script=$2 build
  build=$(cd "$(dirname "$MAGMAD")/.." && pwd)
  [ -f "$build/Makefile" ] || skip_all "needs the build directory of the programs"
  grep -qw overlay /proc/filesystems || skip_all "needs overlayfs"
  mkdir "$work/fs" "$work/results"
  cp "$script" "$work/results/guest"
  write_boot
  # In the cgroup first: the namespace's root is where we are when it is made.
  timeout -s KILL $guest_seconds bash -c 'for where in "${@:4}"; do
      echo $BASHPID >"$where/cgroup.procs"
    done
    exec unshare --mount --pid --fork --net --uts --ipc --cgroup --kill-child \
      bash "$1/boot" "$1" "$2" "$3"' \
    boot "$work" "$build" "$init" "${guest_cgroups[@]/%//$guest_own}" \
    >"$work/boot.out" 2>&1 </dev/null
  # Overlay and namespaces may be missing here; make install must work.
  if [ -e "$work/results/mounted" ] && [ ! -e "$work/results/installed" ]; then
    die "make install: $(tail -n 3 "$work/boot.out")"
  fi
  [ -e "$work/results/booted" ] ||
    skip_all "no namespaces or overlay here: $(tail -n 1 "$work/boot.out")"
  [ -e "$work/results/out" ] || skip_all "systemd does not come up in a namespace here"
  cat "$work/results/out"
  failures=$((failures + $(grep -c '^not ok' "$work/results/out")))
  [ ! -s "$work/results/errors" ] || sed 's/^/# /' "$work/results/errors"
  same "the guest came to its end" "$(tail -n 1 "$work/results/out")" "# end"
}

write_boot() {
  cat >"$work/boot" <<'BOOT'
set -eu
work=$1 build=$2 init=$3
mount --make-rprivate /
mount -t tmpfs tmpfs "$work/fs"
mkdir "$work/fs/upper" "$work/fs/work" "$work/fs/root"
root=$work/fs/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/fs/upper,workdir=$work/fs/work" "$root"
: >"$work/results/mounted"
env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS make -s --no-print-directory -C "$build" install \
  DESTDIR="$root" >/dev/null
: >"$work/results/installed"
# What `make install` does when it is not given another root.
ln -sf "$(cd "$root" && ls -d usr/local/sbin/mount.magma usr/sbin/mount.magma 2>/dev/null |
  sed -n '1s|^|/|p')" "$root/sbin/mount.magma"
for where in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$root/$where"; done
chmod 1777 "$root/tmp"
mount -t proc proc "$root/proc"
# Most of /proc/sys is the kernel's own, and not only this guest's.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
for node in null zero full random urandom tty fuse autofs; do
  [ -e /dev/$node ] || continue
  : >"$root/dev/$node"
  mount --bind /dev/$node "$root/dev/$node"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
if [ "$init" = none ]; then
  :
elif [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
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
cd "$root"
pivot_root . old
umount -l /old
mount --make-rshared /  # as on a real machine: what is unmounted goes from services' views too
: >/magma-test/booted
[ "$init" != none ] || exec env -i PATH="$PATH" HOME=/root bash /magma-test/guest \
  >/magma-test/out 2>/magma-test/errors
exec env -i container=magma-test PATH="$PATH" "$init" --system --unit=magma-test.target \
  --log-target=journal
BOOT
}
