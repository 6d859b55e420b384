#!/bin/bash
# Loops of renames and links across directories, of files that spill, of truncates over chunks and of
# unlinks of open files (kill_loops.py), all at once, while the volcano is killed -9 and restarted
# under them every few hundred milliseconds: the programs see no error and no wrong result. Then the
# same with the mount killed as well: each loop's last operation has its old or its new state.
# fsck after every kill of the second part, and after some of the first.
source "$(dirname "$0")/lib.sh"
begin
kills=10 ends=2 seed=${MAGMA_SEED:-$RANDOM}
[ -z "${MAGMA_LONG:-}" ] || kills=300 ends=40
kinds=${MAGMA_KINDS:-rename link spill truncate unlink}
RANDOM=$seed
note "MAGMA_SEED=$seed"

# start_loops NAME: all kinds in $mnt/NAME/KIND, logs $work/NAME.KIND.
start_loops() {
  local kind
  loops=()
  for kind in $kinds; do
    mkdir -p "$mnt/$1/$kind" || die "mkdir $1/$kind"
    python3 "$lib_dir/kill_loops.py" run "$kind" "$mnt/$1/$kind" "$work/$1.$kind" "$seed" \
      >"$work/$1.$kind.out" 2>&1 &
    loops+=($!)
  done
  helpers+=("${loops[@]}")
}
done_of() { [ ! -s "$1" ] || od -An -tu8 -j8 -N8 "$1"; }
# Sets done_counts: what each loop has done.
look() {
  local kind
  done_counts=()
  for kind in $kinds; do
    done_counts+=("$(($(done_of "$work/$name.$kind") + 0))")
  done
}
# Every loop has done so many more operations than in before.
all_grown() {
  local i
  look
  for i in "${!done_counts[@]}"; do
    process_ended "${loops[i]}" || # with an error, which is told in the end
      [ "${done_counts[i]}" -ge $((before[i] + $1)) ] || return 1
  done
}
# In a system call that waits for the mount, or for who does: a page, a lock of directories.
all_waiting() {
  local pid
  for pid in "${loops[@]}"; do
    process_ended "$pid" ||
      grep -qsE 'request_wait_answer|fuse|folio_wait|rename|mutex|rwsem' "/proc/$pid/wchan" ||
      return 1
  done
}
all_ended() {
  local pid
  for pid in "${loops[@]}"; do process_ended "$pid" || return 1; done
}
get_on() {  # get_on N WHERE
  wait_until 30 all_grown "$1" || {
    cat "$work/$name".*.out
    die "a loop stands still $2: $kinds: ${before[*]} then ${done_counts[*]}"
  }
}
verify() { python3 "$lib_dir/kill_loops.py" verify "$1" "$mnt/$name/$1" "$work/$name.$1" "$seed"; }

start_volcano
mount_magma
name=kills before=($(for _ in $kinds; do echo 0; done))
start_loops $name
struck=0
for ((i = 1; i <= kills; i++)); do
  get_on $((RANDOM % 12 + 2)) "before kill $i"
  kill_volcano
  if wait_until 5 all_waiting; then struck=$((struck + 1)); else
    for pid in "${loops[@]}"; do note "at kill $i: $pid $(cat "/proc/$pid/wchan" 2>&1)"; done
  fi
  if [ $((i % 5)) -eq 0 ]; then fsck_clean "at kill $i" || break; fi
  start_volcano
  look
  before=("${done_counts[@]}")
done
same "all $kills kills struck every loop at work" $struck $kills
get_on 2 "after the last start"
for kind in $kinds; do : >"$work/$name.$kind.stop"; done
expect "the loops end" wait_until 60 all_ended
for kind in $kinds; do
  note "$(tail -n 1 "$work/$name.$kind.out")"
  same "$kind: no error, all results right" "$(grep -v '^done' "$work/$name.$kind.out")" ""
done
unmount_magma
mount_magma
for kind in $kinds; do expect "$kind: a fresh mount shows the same" verify "$kind"; done

# What is removed or renamed is with the ring when it is answered: the loops know of each step.
unmount_magma
mount_magma "$mnt" -o dirsync
for ((i = 1; i <= ends; i++)); do
  name=end$i before=($(for _ in $kinds; do echo 0; done)) seed=$RANDOM
  start_loops $name
  get_on $((RANDOM % 60 + 20)) "before end $i"
  # Both at once, or the mount alone: then what it had sent still happens.
  victims=$(mounters "$mnt")
  [ $((i % 2)) -eq 0 ] || victims+=" $volcano_pid"
  kill -9 $victims
  wait_until 20 all_ended || die "the loops do not end with their mount"
  umount -l "$mnt"
  wait_until 5 no_mounters "$mnt"
  kill_volcano
  fsck_clean "at end $i"
  start_volcano
  mount_magma "$mnt" -o dirsync
  for kind in $kinds; do
    expect "$kind: the last operation is wholly there or not at all, seed $seed" verify "$kind"
    note "$(head -n 1 "$work/expect.out")"
  done
  expect "rm -r of it" rm -r "$mnt/$name"
done
unmount_magma
stop_volcano
fsck_clean
