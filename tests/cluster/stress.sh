#!/bin/bash
# stress-ng's filesystem stressors on the mount, each verifying: no failure, exit code 0. A stressor
# that stress-ng itself cannot run on this machine or on FUSE is told as skipped, with its words.
# MAGMA_STRESSORS="a b" runs these only.
source "$(dirname "$0")/lib.sh"
begin
command -v stress-ng >/dev/null || skip_all "needs stress-ng"

seconds=20 workers=2
if [ -z "${MAGMA_LONG:-}" ]; then seconds=2 workers=1; fi
# Each with what else it needs. Those that write a lot get a bound.
stressors="
access acl chattr chdir chmod chown copy-file:--copy-file-bytes=128m dentry:--dentries=200
dir:--dir-dirs=200 dirdeep:--dirdeep-inodes=1000 dirmany dnotify dup eventfd fallocate:--fallocate-bytes=8m fcntl
fiemap:--fiemap-bytes=4m file-ioctl filename flock fpunch fsize fstat getdent handle
hdd:--hdd-bytes=16m inode-flags inotify io iomix:--iomix-bytes=16m lease link locka lockf lockmix lockofd
metamix:--metamix-bytes=2m mknod mmap:--mmap-file,--mmap-bytes=4m mmapfork msync:--msync-bytes=4m
open readahead:--readahead-bytes=8m rename revio:--revio-bytes=8m seek:--seek-size=8m
sendfile:--sendfile-size=4m sigio splice symlink sync-file:--sync-file-bytes=8m touch unlink utime verity
xattr aio aiol io-uring"
# Not here: stressors that do not use --temp-path or mount something themselves (bind-mount,
# binderfs, fanotify, fuse, procfs, sysfs).
quick="acl chmod chown copy-file dentry dirdeep fallocate fcntl filename flock hdd iomix link lockofd mknod
mmap rename seek symlink unlink xattr"

has_stressor() { grep -qxF -- "$1" "$work/known"; }
stress-ng --stressors 2>/dev/null | tr ' ' '\n' | grep . >"$work/known"

start_volcano
mount_magma
mkdir "$mnt/stress"
at=0 wanted=()
for item in ${MAGMA_STRESSORS:-$stressors}; do
  name=${item%%:*}
  [ -n "${MAGMA_LONG:-}${MAGMA_STRESSORS:-}" ] || [[ " $(echo $quick) " == *" $name "* ]] || continue
  has_stressor "$name" && wanted+=("$item")
done
[ ${#wanted[@]} -gt 0 ] || die "stress-ng knows none of the stressors"

# stress ITEM FOLDER SECONDS
stress() {
  local name=${1%%:*} more=()
  [[ $1 != *:* ]] || IFS=, read -ra more <<<"${1#*:}"
  mkdir -p "$2"
  timeout -k 10 $(($3 + 90)) stress-ng --"$name" $workers "${more[@]}" --timeout "$3" \
    --verify --temp-path "$2" --oomable --no-rand-seed 2>&1 </dev/null
}
# run ITEM: writes $work/NAME.out and $work/NAME.code.
run() {
  local name=${1%%:*}
  stress "$1" "$mnt/stress/$name" "$seconds" >"$work/$name.out"
  echo $? >"$work/$name.code"
}
# The stressor fails without Magma in the same way: with a message that is among those it had here.
fails_anyway() {
  local name=${1%%:*} words
  stress "$1" "$work/local/$name" 5 >"$work/$name.local" && return 1
  words=$(grep -a 'fail:' "$work/$name.local" | head -n 1 | sed 's/.*\] *//')
  [ -n "$words" ] && grep -aqF -- "$words" "$work/$name.out" || return 1
  # All that failed here fails there.
  [ -z "$(grep -a 'fail:' "$work/$name.out" | sed 's/.*\] *//' | sort -u |
    grep -avxF -f <(grep -a 'fail:' "$work/$name.local" | sed 's/.*\] *//'))" ]
}
tell() {
  local name=${1%%:*} code
  code=$(cat "$work/$name.code" 2>/dev/null || echo none)
  # 3: out of resources or not permitted; 4: not implemented here.
  case $code in
    3 | 4) passed "stress-ng --$name # SKIP $(grep -aE 'skip|not |cannot' "$work/$name.out" |
             head -n 1 | sed 's/.*\] *//' | cut -c -100)" ;;
    0)
      if grep -aqE 'fail:|failed' "$work/$name.out"; then code="0, with failures"; fi ;;&
    0) if grep -aq 'skipped stressor' "$work/$name.out"; then
         passed "stress-ng --$name # SKIP $(grep -aE 'skip' "$work/$name.out" | head -n 1 |
           sed 's/.*\] *//' | cut -c -100)"
       else
         passed "stress-ng --$name"
       fi ;;
    *)
      if fails_anyway "$1"; then
        passed "stress-ng --$name # SKIP fails on the local filesystem, too: $(grep -a 'fail:' \
          "$work/$name.local" | head -n 1 | sed 's/.*\] *//' | cut -c -100)"
        return
      fi
      failed "stress-ng --$name"
      note "exit code $code"
      grep -aE 'fail|error|warn' "$work/$name.out" | head -n 8 | sed 's/^/#   /' ;;
  esac
}
# Four at a time in the short run, each in a folder of its own: they wait more than they compute.
at_once=1
[ -n "${MAGMA_LONG:-}" ] || at_once=5
while [ $at -lt ${#wanted[@]} ]; do
  group=("${wanted[@]:at:at_once}") pids=()
  at=$((at + at_once))
  for item in "${group[@]}"; do
    run "$item" &
    pids+=($!)
  done
  wait "${pids[@]}"
  for item in "${group[@]}"; do tell "$item"; done
  kill -0 "$volcano_pid" 2>/dev/null || die "the volcano has ended"
  is_mounted "$mnt" || die "the mount has ended"
done
expect "rm -r of what they left" rm -rf "$mnt/stress"
same "nothing is left" "$(ls -A "$mnt" | grep -vx '\.dht')" ""
unmount_magma
stop_volcano
fsck_clean
