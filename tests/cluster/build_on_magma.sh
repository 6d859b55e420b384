#!/bin/bash
# Magma itself, cloned to a mount, configured and built there out of tree, its unit tests run there.
# Long: only with MAGMA_LONG=1.
source "$(dirname "$0")/lib.sh"
begin
[ -n "${MAGMA_LONG:-}" ] || skip_all "only with MAGMA_LONG=1"
for tool in git make g++ autoreconf; do
  command -v $tool >/dev/null || skip_all "needs $tool"
done
git -C "$MAGMA_SOURCE" rev-parse HEAD >/dev/null 2>&1 || skip_all "$MAGMA_SOURCE is no git checkout"
jobs=${MAGMA_JOBS:-2}

start_volcano
mount_magma
in_build() (cd "$mnt/build" && "$@")
expect "git clone into the mount" git clone -q --no-local "$MAGMA_SOURCE" "$mnt/magma"
expect "autogen.sh there" "$mnt/magma/autogen.sh"
mkdir "$mnt/build"
expect "configure out of tree" in_build ../magma/configure -q CXXFLAGS='-O0'
expect "make of the unit tests" in_build make -s -j"$jobs" tests/unit/unit_tests ||
  tail -n 30 "$work/expect.out" | sed 's/^/# /'
expect "make again does nothing" test -z "$(in_build make -s -j"$jobs" tests/unit/unit_tests 2>&1)"
kill_volcano
start_volcano
# Temporary files of the tests are on the mount as well.
mkdir "$mnt/tmp"
expect "the unit tests run there" in_build env TMPDIR="$mnt/tmp" MAGMA_SOURCE="$mnt/magma" \
  tests/unit/unit_tests
note "$(grep -a 'test cases:' "$work/expect.out" | tail -n 1)"
same "git sees no change" "$(git -C "$mnt/magma" status --porcelain --untracked-files=no)" ""
expect "git fsck" git -C "$mnt/magma" fsck --full --no-progress
expect "make clean" in_build make -s clean
unmount_magma
stop_volcano
fsck_clean
