#!/bin/bash
# The POSIX and Linux semantics of a mount: every test case of tests/posix (which pass on ext4) on
# one volcano mounted twice with the default options; then unmount, mount, a tree that must be as it
# was, a clean stop, fsck. One TAP line for each test case, each in a process of its own, so that
# one that hangs or crashes costs only itself.
#
# MAGMA_POSIX_ONLY=PATTERN runs the test cases that match (doctest's wildcards: 'rename*').
source "$(dirname "$0")/lib.sh"
posix_build=${MAGMA_BUILD_DIR:-${MAGMAD:+${MAGMAD%/*}/..}}
posix_tests=${posix_build:-$MAGMA_SOURCE/build/check}/tests/posix/posix_tests
[ -x "$posix_tests" ] || skip_all "there is no program $posix_tests"
begin

case_seconds=120   # for one test case
all_seconds=780    # for all of them: what is not begun by then has failed (run-tests gives us 900)

# The names, one a line: what doctest prints around them begins with '[' or '='.
test_cases() {
  "$posix_tests" -ltc ${MAGMA_POSIX_ONLY:+-tc="$MAGMA_POSIX_ONLY"} |
    grep -vE '^(\[|=)'
}

# What differs from ext4 and is told in doc/posix.md: the test case and why.
differs() {
  case $1 in
    "the owner who is in the group keeps a setgid bit without x")
      echo "supplementary groups are not known where the bit is cleared" ;;
    *) return 1 ;;
  esac
}

# run_case NAME. In a filter a comma separates: '?' matches it as any character.
run_case() {
  local code reason
  if reason=$(differs "$1"); then
    passed "$1 # SKIP $reason"
    return
  fi
  MAGMA_POSIX_DIR=$mnt MAGMA_POSIX_DIR2=$work/mnt2 timeout -k 5 "$case_seconds" \
    "$posix_tests" -nc -tc="${1//,/?}" >"$work/case.out" 2>&1 </dev/null
  code=$?
  if [ $code -eq 0 ]; then
    passed "$1"
    return
  fi
  failed "$1"
  [ $code -ne 124 ] || note "not finished after $case_seconds s"
  note "exit code $code"
  grep -aE 'ERROR|values:|logged:|:=|posix_tests:' "$work/case.out" | head -n 24 | cut -c -300 |
    sed 's/^/#   /'
}

# Something of every kind, to be found again after unmount and mount.
make_marker() {
  mkdir "$mnt/marker" && cd "$mnt/marker" || return 1
  head -c 300000 /dev/urandom >large && head -c 20000 /dev/urandom >small && echo content >file &&
    ln file link && ln -s file symlink && mkfifo fifo && mknod null c 1 3 && mkdir -m 2775 dir &&
    truncate -s 70M sparse && echo end >>sparse && chmod 4711 small && chown 5:6 large &&
    touch -d '2001-02-03 04:05:06.123456789' file || return 1
  if type setfattr >/dev/null 2>&1; then setfattr -n user.color -v blue file || return 1; fi
  if type setfacl >/dev/null 2>&1; then setfacl -m u:7:rw large && setfacl -d -m g:8:r dir; fi
}
show_marker() {
  (cd "$1/marker" && find . -printf '%P %y %#m %n %U %G %s %T@ %l\n' | grep -v '^ ' |
    LC_ALL=C sort && sha256sum large small file sparse && stat -c %t:%T null &&
    { ! type getfattr >/dev/null 2>&1 || getfattr -d -m '^user' file; } &&
    { ! type getfacl >/dev/null 2>&1 || getfacl -n large dir; })
}

chmod 711 "$work"  # the unprivileged users of the tests must get to the mounts
start_volcano
mount_magma
mount_magma "$work/mnt2"
test_cases >"$work/cases"
[ -s "$work/cases" ] || die "no test case found"
while IFS= read -r name <&3; do
  if [ $SECONDS -gt $all_seconds ]; then
    failed "all test cases within $all_seconds s; not run: $name and those after it"
    break
  fi
  kill -0 "$volcano_pid" 2>/dev/null || die "the volcano has ended before: $name"
  is_mounted "$mnt" && is_mounted "$work/mnt2" || die "a mount has ended before: $name"
  run_case "$name"
done 3<"$work/cases"

expect "a tree with something of every kind is made" make_marker
show_marker "$mnt" >"$work/marker.before" 2>&1
wait_until 5 test -e "$work/mnt2/marker/null"
show_marker "$work/mnt2" >"$work/marker.other" 2>&1
expect "the second mount shows it as the first" diff "$work/marker.before" "$work/marker.other"
cd /
unmount_magma "$work/mnt2"
unmount_magma
mount_magma
show_marker "$mnt" >"$work/marker.after" 2>&1
expect "it is the same after unmount and mount" diff "$work/marker.before" "$work/marker.after"
expect "and can be removed" rm -r "$mnt/marker"
if [ "$failures" -eq 0 ]; then
  same "the test cases left nothing" "$(ls -A "$mnt" | grep -vx '\.dht')" ""
fi
unmount_magma
expect "SIGTERM ends the volcano with exit code 0" stop_volcano
fsck_clean "after the POSIX tests"
