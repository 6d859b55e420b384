#!/bin/bash
# git with a few thousand commits on the mount: gc, repack, fsck, clone, checkout of old versions;
# the volcano is killed -9 amid the commits. Long: only with MAGMA_LONG=1 (tests/cluster/git.sh is the
# short one). MAGMA_COMMITS=N makes it N commits.
source "$(dirname "$0")/lib.sh"
begin
[ -n "${MAGMA_LONG:-}${MAGMA_COMMITS:-}" ] || skip_all "only with MAGMA_LONG=1"
command -v git >/dev/null || skip_all "needs git"
commits=${MAGMA_COMMITS:-3000} kills=10
export GIT_CONFIG_GLOBAL=$work/gitconfig GIT_CONFIG_SYSTEM=/dev/null HOME=$work
git config --global user.name "Magma test"
git config --global user.email test@example.org
git config --global init.defaultBranch main
git config --global gc.autoDetach false
git config --global gc.auto 2000

make_history() (
  git init -q "$1" && cd "$1" || exit 1
  for ((n = 1; n <= commits; n++)); do
    mkdir -p "d$((n % 37))" "d$((n * 7 % 37))" || exit 1
    echo "line $n" >>"d$((n % 37))/f$((n % 211))"
    seq $n $((n + n % 400)) >"d$((n * 7 % 37))/g$((n % 503))"
    if [ $((n % 50)) -eq 0 ]; then
      git add -A && git mv "d$((n % 37))/f$((n % 211))" "moved$n" || exit 1
    fi
    git add -A && git commit -q -m "commit $n" || exit 1
    [ $((n % 100)) -ne 0 ] || git tag "v$n" || exit 1
    [ $((n % 250)) -ne 0 ] || git branch "b$n" || exit 1
  done
)
fsck() { git -C "$1" fsck --full --strict --no-progress; }
made() { [ "$(git -C "$mnt/one" rev-list --count HEAD 2>/dev/null || echo 0)" -ge "$1" ]; }
made_or_ended() { made "$1" || ! kill -0 "$history" 2>/dev/null; }

start_volcano
mount_magma
make_history "$mnt/one" >"$work/history.out" 2>&1 &
history=$!
helpers+=("$history")
for ((i = 1; i <= kills; i++)); do
  wait_until 600 made_or_ended $((commits * i / (kills + 1))) ||
    die "no commits: $(tail -n 3 "$work/history.out")"
  kill_volcano
  start_volcano
done
wait "$history"
same "$commits commits, $kills kills of the volcano amid them" "$? $(head -n 3 "$work/history.out")" "0 "
same "all commits are there" "$(git -C "$mnt/one" rev-list --count HEAD)" "$commits"
same "the work tree is unchanged" "$(git -C "$mnt/one" status --porcelain)" ""
expect "git fsck" fsck "$mnt/one"
expect "git gc --aggressive" git -C "$mnt/one" gc -q --aggressive --prune=now
expect "git fsck after gc" fsck "$mnt/one"
expect "clone" git clone -q "$mnt/one" "$mnt/two"
expect "clone without shortcuts" git clone -q --no-local "$mnt/one" "$mnt/three"
expect "git fsck of the clone" fsck "$mnt/three"
for version in v100 "v$((commits / 200 * 100))" main; do
  expect "checkout of $version" git -C "$mnt/three" checkout -q "$version"
  same "$version: unchanged" "$(git -C "$mnt/three" status --porcelain)" ""
done
expect "clone out of the mount" git clone -q --no-local "$mnt/three" "$work/out"
expect "git fsck of it" fsck "$work/out"
rm -rf "$mnt/one/.git" "$work/out/.git"
same_tree "the work trees are equal" "$mnt/one" "$work/out"
unmount_magma
stop_volcano
fsck_clean
