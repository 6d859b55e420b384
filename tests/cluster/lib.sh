# Sourced by the tests here and by dev/cluster: one volcano on a loopback address of its own, mounts
# below $work, and a clean end whatever happens. Bash. Not executable, so it is not run as a test.
#
# From the environment: MAGMAD, MOUNT_MAGMA, MAGMA (the programs), MAGMA_SOURCE, MAGMA_TEST_DIR (an
# own empty folder), as dev/run-tests sets them. By hand: MAGMA_BUILD_DIR=build/check
# tests/cluster/NAME.sh.
# A test prints TAP lines (`ok ...`, `not ok ...`) through expect, passed and failed; what a command
# printed follows a failure as `#` lines. Nothing waits by sleeping for a fixed time: wait_until
# polls for the event.
#
# Sets: work (folder of the test), host (its address), key, storage, log, mnt (the first mount).

lib_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MAGMA_SOURCE=${MAGMA_SOURCE:-$(cd "$lib_dir/../.." && pwd)}
ready_seconds=30    # until a started volcano must say `ready`
stop_seconds=20     # until a volcano must have ended after SIGTERM
unmount_seconds=10  # until the mount process must have ended after umount

set -uo pipefail

# --- reporting ------------------------------------------------------------------------------------
failures=0
passed() { printf 'ok %s\n' "$*"; }
failed() {
  failures=$((failures + 1))
  printf 'not ok %s\n' "$*"
}
note() { printf '# %s\n' "$*"; }
skip_all() {
  printf '%s\n' "$*"
  exit 77
}
# The test cannot go on.
die() {
  failed "$*"
  show_logs
  exit 1
}
show_logs() { [ ! -s "$log" ] || tail -n 15 "$log" | sed 's/^/# magmad: /'; }

# expect TEXT COMMAND...: the command must succeed.
expect() {
  local text=$1 code
  shift
  "$@" >"$work/expect.out" 2>&1
  code=$?
  if [ $code -eq 0 ]; then
    passed "$text"
  else
    failed "$text"
    note "exit code $code: $*" | head -c 500
    head -c 4000 "$work/expect.out" | head -n 20 | sed 's/^/#   /'
  fi
  return $code
}
# expect_failure TEXT CODE WORDS COMMAND...: it must end with this exit code and say these words.
expect_failure() {
  local text=$1 code=$2 words=$3 got
  shift 3
  "$@" >"$work/expect.out" 2>&1
  got=$?
  if [ $got -eq "$code" ] && grep -qF -- "$words" "$work/expect.out"; then
    passed "$text"
  else
    failed "$text"
    note "exit code $got, wanted $code with '$words'"
    head -n 10 "$work/expect.out" | sed 's/^/#   /'
  fi
}
# same TEXT GOT WANTED
same() {
  if [ "$2" == "$3" ]; then
    passed "$1"
  else
    failed "$1"
    note "got '${2:0:300}', wanted '${3:0:300}'"
  fi
}
# wait_until SECONDS COMMAND...: until it succeeds.
wait_until() {
  local end=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
  shift
  until "$@"; do
    [ "${EPOCHREALTIME/[.,]/}" -lt "$end" ] || return 1
    sleep 0.02
  done
}
# Whether a process has ended, even if nobody has taken note (a zombie).
process_ended() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }
now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }
# milliseconds COMMAND...: how long it took; its exit code is in took_code.
milliseconds() {
  local from
  from=$(now_ms)
  "$@" >"$work/timed.out" 2>&1
  took_code=$?
  took_ms=$(($(now_ms) - from))
}

# --- the volcano ----------------------------------------------------------------------------------
volcano_pid=
is_ready() { grep -qw ready "$log" || ! kill -0 "$volcano_pid" 2>/dev/null; }
# start_volcano [ARGUMENT...]: the first time makes the network; returns when it is ready.
start_volcano() {
  local born=()
  if [ ! -e "$storage/volcano.json" ]; then
    mkdir -p "$storage"
    [ -e "$key" ] || "$MAGMA" keygen "$key" >/dev/null || die "magma keygen $key"
    born=(-b --key-file "$key")
  fi
  [ ! -e "$log" ] || cat "$log" >>"$log.before"
  : >"$log"
  "$MAGMAD" -n wallace -s wallace.local.magma -i "$host" -d "$storage" "${born[@]}" "$@" \
    </dev/null >"$log" 2>&1 &
  volcano_pid=$!
  echo "$volcano_pid" >"$work/magmad.pid"
  wait_until $ready_seconds is_ready
  grep -qw ready "$log" && kill -0 "$volcano_pid" 2>/dev/null || die "the volcano is not ready"
}
kill_volcano() {
  [ -n "$volcano_pid" ] || return 0
  kill -9 "$volcano_pid" 2>/dev/null
  wait "$volcano_pid" 2>/dev/null
  volcano_pid=
}
is_volcano_gone() { process_ended "$volcano_pid"; }
# SIGTERM; its exit code must be 0.
stop_volcano() {
  local code
  [ -n "$volcano_pid" ] || return 0
  kill -TERM "$volcano_pid"
  if ! wait_until $stop_seconds is_volcano_gone; then
    failed "the volcano ends within $stop_seconds s of SIGTERM"
    kill_volcano
    return 1
  fi
  wait "$volcano_pid"
  code=$?
  volcano_pid=
  [ $code -eq 0 ] || failed "the volcano ends with exit code 0 after SIGTERM, not $code"
  return $code
}
# The offline check of the storage directory: only while the volcano is stopped.
fsck_clean() { expect "magma fsck --deep is clean ${1:-}" "$MAGMA" fsck --deep "$storage"; }

# --- mounts ---------------------------------------------------------------------------------------
is_mounted() { cut -d ' ' -f 5 /proc/self/mountinfo | grep -qxF -- "$1"; }
# Process ids of mount.magma for a mount point at or below a folder.
mounters() {
  local pid word
  for pid in /proc/[0-9]*; do
    pid=${pid#/proc/}
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = mount.magma ] || continue
    while IFS= read -r -d '' word; do
      if [[ $word == "$1" || $word == "$1"/* ]]; then echo "$pid"; break; fi
    done 2>/dev/null <"/proc/$pid/cmdline"
  done
}
no_mounters() { [ -z "$(mounters "$1")" ]; }
# mount_magma [DIR [ARGUMENT...]]
mount_magma() {
  local where=${1:-$mnt}
  shift $(($# > 0 ? 1 : 0))
  mkdir -p "$where"
  timeout 20 "$MOUNT_MAGMA" --host="$host" --key-file="$key" "$@" "$where" </dev/null ||
    die "mount.magma $where"
}
# unmount_magma [DIR]: also waits for its process to end.
unmount_magma() {
  local where=${1:-$mnt}
  timeout 20 umount "$where" || { failed "umount $where"; return 1; }
  wait_until $unmount_seconds no_mounters "$where" ||
    { failed "the mount process ends within $unmount_seconds s of umount"; return 1; }
}

# --- trees ----------------------------------------------------------------------------------------
# Names, types, modes, link targets and the bytes of all files of a tree, one line each.
tree_hash() {
  (cd "$1" && find . -printf '%P %y %m %l\n' | LC_ALL=C sort &&
    find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum)
}
# same_tree TEXT A B
same_tree() {
  tree_hash "$2" >"$work/tree.a" 2>&1
  tree_hash "$3" >"$work/tree.b" 2>&1
  expect "$1" diff "$work/tree.a" "$work/tree.b"
}

# --- begin and end --------------------------------------------------------------------------------
helpers=()  # process ids of what else a test has in the background: killed at the end
# Ends everything of this test: mounts, processes. Called by the trap; safe to call again.
clean_up() {
  local pid where
  for pid in "${helpers[@]}"; do kill -9 "$pid" 2>/dev/null; done
  # Detached first, the latest first: nothing then waits for a volcano that is gone.
  while read -r where; do umount -l "$where" 2>/dev/null; done < <(
    cut -d ' ' -f 5 /proc/self/mountinfo | grep -E "^$work(/|\$)" | tac)
  for pid in $(mounters "$work"); do kill -9 "$pid" 2>/dev/null; done
  if [ -n "$volcano_pid" ]; then kill -CONT "$volcano_pid" 2>/dev/null; fi
  kill_volcano
  wait_until 5 no_mounters "$work"
}
# begin: the checks and names every test needs, and the trap.
begin() {
  local build=${MAGMA_BUILD_DIR:-$MAGMA_SOURCE/build/check} program
  build=$(cd "$build" 2>/dev/null && pwd -P)  # a test may change its directory
  MAGMAD=${MAGMAD:-$build/magmad/magmad}
  MOUNT_MAGMA=${MOUNT_MAGMA:-$build/mount.magma/mount.magma}
  MAGMA=${MAGMA:-$build/magma_tools/magma}
  [ "$(id -u)" -eq 0 ] || skip_all "needs root"
  [ -c /dev/fuse ] || skip_all "needs /dev/fuse"
  if [ -z "${MAGMA_TEST_DIR:-}" ]; then
    MAGMA_TEST_DIR=$(mktemp -d "${TMPDIR:-/tmp}/magma-test.XXXXXX")
    remove_at_end=$MAGMA_TEST_DIR
  fi
  work=$(cd "$MAGMA_TEST_DIR" && pwd -P)
  # An address that no other test and no user's volcano (127.0.0.1) has: from our process id.
  host=127.$((100 + $$ / 62500 % 100)).$(($$ / 250 % 250 + 1)).$(($$ % 250 + 1))
  key=$work/network.key storage=$work/storage log=$work/magmad.log mnt=$work/mnt
  trap 'end $?' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  for program in "$MAGMAD" "$MOUNT_MAGMA" "$MAGMA"; do
    [ -x "$program" ] || die "there is no program $program"
  done
  umask 022
}
end() {
  trap - EXIT
  cd /
  if [ "$1" -ne 0 ] && [ "$1" -ne 77 ] || [ "$failures" -gt 0 ]; then show_logs; fi
  if [ "$(type -t at_end)" = function ]; then at_end; fi
  clean_up
  if [ -n "${remove_at_end:-}" ] && ! grep -q " $work" /proc/self/mounts; then
    rm -rf --one-file-system -- "$remove_at_end"
  fi
  if [ "$1" -eq 0 ] && [ "$failures" -gt 0 ]; then exit 1; fi
  exit "$1"
}
remove_at_end=
