#!/bin/bash
# git as a user of the filesystem: init, a history of 50 commits over 300 files, fsck, gc, clone from
# the mount to the mount and back out of it.
source "$(dirname "$0")/lib.sh"
begin
command -v git >/dev/null || skip_all "needs git"
start_volcano
mount_magma
export GIT_CONFIG_GLOBAL=$work/gitconfig GIT_CONFIG_SYSTEM=/dev/null HOME=$work
git config --global user.name "Magma test"
git config --global user.email test@example.org
git config --global init.defaultBranch main
git config --global gc.auto 0

# In a subshell: the volcano, started below, must not have its working directory on its own mount.
make_history() (
  local i n
  git init -q "$1" || exit 1
  cd "$1" || exit 1
  for ((i = 0; i < 300; i++)); do
    mkdir -p "d$((i % 20))"
    seq "$i" $((i * 7)) >"d$((i % 20))/f$i"
  done
  ln -s f0 d0/link && printf '#!/bin/sh\n' >run && chmod 755 run
  git add -A && git commit -q -m first || exit 1
  for ((n = 1; n < 50; n++)); do
    for ((i = n; i < 300; i += 61)); do echo "change $n" >>"d$((i % 20))/f$i"; done
    [ $((n % 10)) -ne 0 ] || git mv "d$((n % 20))/f$n" "moved$n" || exit 1
    git commit -q -a -m "commit $n" || exit 1
  done
)
fsck() { git -C "$1" fsck --full --strict --no-progress; }
is_unchanged() { [ -z "$(git -C "$1" status --porcelain)" ]; }

expect "50 commits over 300 files" make_history "$mnt/one"
same "all commits are there" "$(git -C "$mnt/one" rev-list --count HEAD)" 50
expect "the work tree is unchanged" is_unchanged "$mnt/one"
expect "git fsck --full" fsck "$mnt/one"
expect "git gc" git -C "$mnt/one" gc -q --prune=now
expect "git fsck --full after gc" fsck "$mnt/one"
expect "clone from mount to mount, linked or copied" git clone -q "$mnt/one" "$mnt/two"
expect "git fsck --full of the clone" fsck "$mnt/two"
expect "clone without shortcuts" git clone -q --no-local "$mnt/one" "$mnt/three"
kill_volcano
start_volcano
expect "git fsck --full after kill -9 of the volcano" fsck "$mnt/three"
expect "clone out of the mount" git clone -q --no-local "$mnt/three" "$work/out"
rm -rf "$mnt/one/.git" "$work/out/.git" "$mnt/three/.git"
same_tree "the work trees are equal" "$mnt/three" "$work/out"
unmount_magma
stop_volcano
fsck_clean
