#!/bin/bash
# A tree with something of everything goes to the mount and back by rsync -aHAX, tar, cp -a and mv:
# no difference in names, types, modes, owners, times, links, holes, ACLs, attributes and bytes.
source "$(dirname "$0")/lib.sh"
begin
for tool in rsync tar setfattr getfattr setfacl getfacl; do
  command -v $tool >/dev/null || skip_all "needs $tool"
done
files=90
[ -z "${MAGMA_LONG:-}" ] || files=5000

make_tree() (
  mkdir "$1" && cd "$1" || exit 1
  mkdir -p plain/{a,b,c} deep odd links special owners times
  for ((i = 0; i < files; i++)); do
    head -c $((i * 997 % 40000)) /dev/urandom >"plain/$(printf '%c' "${letters:i%3:1}")/file$i"
  done
  head -c 70000 /dev/urandom >plain/over64k
  head -c 3000000 /dev/urandom >plain/large
  : >plain/empty
  d=deep
  for ((i = 0; i < 40; i++)); do d=$d/l$i; done
  mkdir -p "$d" && echo bottom >"$d/file"
  # Names: blanks, a newline, bytes that are no UTF-8, a leading minus, 255 bytes, quotes.
  echo 1 >"odd/ leading and trailing "
  echo 2 >$'odd/new\nline'
  echo 3 >$'odd/\xff\xfe\x80'
  echo 4 >'odd/-rf'
  echo 5 >"odd/$(printf 'x%.0s' {1..255})"
  echo 6 >'odd/"quotes" and '\''these'\'' \back * ?'
  echo 7 >'odd/größe ☃'
  # Hard links within a directory and across, symbolic links of all kinds.
  echo linked >links/one
  ln links/one links/two
  ln links/one plain/a/three
  head -c 90000 /dev/urandom >links/big && ln links/big plain/b/big
  ln -s one links/symbolic && ln -s /nowhere/at/all links/broken && ln -s ../plain links/dir
  ln -s "$(printf 'y%.0s' {1..2000})" links/long
  # Special files, modes.
  mkfifo special/fifo && mknod special/null c 1 3 && mknod special/disk b 7 200
  python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("special/socket")'
  cp /bin/true special/suid && chmod 4755 special/suid
  cp /bin/true special/sgid && chmod 2711 special/sgid
  mkdir special/sticky && chmod 1777 special/sticky
  mkdir special/setgid && chown 0:50 special/setgid && chmod 2775 special/setgid
  ln special/fifo special/fifo2
  echo secret >special/none && chmod 000 special/none
  # Owners, times before 1970, with nanoseconds, in the future.
  echo o >owners/file && chown 12345:54321 owners/file
  echo o >owners/link && ln -s link owners/s && chown -h 7:8 owners/s
  echo t >times/old && touch -d '1950-01-02 03:04:05.123456789' times/old
  echo t >times/new && touch -d '2200-01-02 03:04:05.987654321' times/new
  ln -s old times/s && touch -h -d '2001-02-03 04:05:06.111222333' times/s
  # Attributes and ACLs on files and directories.
  setfattr -n user.color -v blue plain/a && setfattr -n user.empty plain/empty
  setfattr -n user.binary -v 0x00ff00fe plain/large
  setfattr -n user.big -v "$(head -c 3000 /dev/zero | tr '\0' z)" plain/over64k
  setfattr -n trusted.magma_test -v yes plain/b && setfattr -h -n trusted.onlink -v 1 links/symbolic
  setfacl -m u:1234:rwx,g:99:r plain/c && setfacl -d -m u:1234:rx,g:99:- plain/c
  echo inherits >plain/c/inherits
  setfacl -m u:5:rw,m::r plain/large
  setcap cap_net_raw+ep special/sgid 2>/dev/null
  # Sparse: holes at the beginning, in the middle, at the end, over a chunk.
  truncate -s 3M plain/sparse && echo x >>plain/sparse && truncate -s 8M plain/sparse
  truncate -s 66M plain/sparse2 && echo end >>plain/sparse2
  truncate -s 1M plain/hole
  touch -d '2020-01-01 00:00:00.5' plain special links deep .
  exit 0
)
letters=abc

# All that stat, getfattr and getfacl show; directories' sizes and the times of access and change are
# each filesystem's own.
listing() {
  (cd "$1" && find . -printf '%P|%y|%#m|%n|%U|%G|%T@|%l|' \
    \( -type f -printf '%s' -o -true \) -printf '\n' | LC_ALL=C sort
    find . \( -type b -o -type c \) -print0 | LC_ALL=C sort -z | xargs -0r stat -c '%n %t:%T'
    find . -type f -links +1 -printf '%i %P\n' | LC_ALL=C sort -k 2 |
      awk '{ if (!($1 in n)) n[$1] = ++k; $1 = n[$1]; print }'
    find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum
    find . -print0 | LC_ALL=C sort -z | xargs -0r getfattr -h -d -m '^(user|trusted|security)\.' -e hex -- 2>&1
    find . ! -type l -print0 | LC_ALL=C sort -z | xargs -0r getfacl -n -p -- 2>&1)
}
same_listing() {
  listing "$2" >"$work/listing.a" 2>&1
  listing "$3" >"$work/listing.b" 2>&1
  [ "$(wc -l <"$work/listing.a")" -gt 200 ] || { failed "$1: no listing"; return; }
  diff -a "$work/listing.a" "$work/listing.b" | grep -a '^[<>]' | cut -c -150 >"$work/listing.diff"
  same "$1" "$(sort -k 2 "$work/listing.diff" | head -n 10)" ""
}
differences() { rsync -naHAX --devices --specials --checksum --delete --itemize-changes "$1/" "$2/" 2>&1 | head -n 8; }
# What a file takes on the disk must be near to what the source takes.
is_sparse() { [ "$(stat -c %b "$1")" -le $(($2 * 2)) ]; }

make_tree "$work/source" || die "cannot make the tree"
# rsync takes times of one second for equal and then sets none on directories and symbolic links:
# what was made now must not be copied within this second.
made=$(date +%s)
second_is_over() { [ "$(date +%s)" -gt "$made" ]; }
wait_until 5 second_is_over
setfattr -n user.t -v 1 "$work/source" || skip_all "no user attributes on $work"
start_volcano
mount_magma

expect "rsync -aHAX to the mount" rsync -aHAX "$work/source/" "$mnt/rsync"
same "rsync sees no difference" "$(differences "$work/source" "$mnt/rsync")" ""
same_listing "nor does a listing" "$work/source" "$mnt/rsync"
expect "rsync again sends nothing" test -z "$(rsync -aHAX --itemize-changes "$work/source/" "$mnt/rsync" 2>&1)"
unmount_magma
mount_magma
expect "rsync -aHAX back, from a fresh mount" rsync -aHAX "$mnt/rsync/" "$work/back"
same "there and back without a difference" "$(differences "$work/source" "$work/back")" ""
same_listing "a listing shows none either" "$work/source" "$work/back"
expect "rsync -aHAXS, with holes" rsync -aHAXS "$work/source/" "$mnt/holes"
same "no difference with holes" "$(differences "$work/source" "$mnt/holes")" ""
expect "a file of 66 MB with holes takes little" is_sparse "$mnt/holes/plain/sparse2" 1024
expect "rsync within the mount" rsync -aHAX --inplace "$mnt/rsync/" "$mnt/within"
same_listing "rsync within the mount: no difference" "$work/source" "$mnt/within"
rm -rf "$work/back" "$mnt/holes" "$mnt/within"

archive() { tar -C "$1" --xattrs --xattrs-include='*' --acls --sparse --format=posix -cf "$2" .; }
extract() { mkdir "$2" && tar -C "$2" --xattrs --xattrs-include='*' --acls -xpf "$1"; }
# tar keeps neither sockets nor the links of fifos.
rm "$work"/source/special/{socket,fifo2} "$mnt"/rsync/special/{socket,fifo2}
touch -d '2020-01-01 00:00:00.5' "$work/source/special" "$mnt/rsync/special"
expect "tar of the tree, onto the mount" archive "$work/source" "$mnt/source.tar"
expect "extract on the mount, from the mount" extract "$mnt/source.tar" "$mnt/tar"
same_listing "tar: no difference" "$work/source" "$mnt/tar"
expect "tar of the tree on the mount" archive "$mnt/tar" "$work/mount.tar"
expect "extract outside" extract "$work/mount.tar" "$work/tar"
same_listing "tar there and back: no difference" "$work/source" "$work/tar"
expect "tar --diff" tar -C "$mnt/rsync" --xattrs --acls --diff -f "$work/mount.tar"
rm -rf "$work/tar" "$mnt/source.tar" "$mnt/tar"

expect "cp -a to the mount" cp -a "$work/source" "$mnt/cp"
same_listing "cp -a: no difference" "$work/source" "$mnt/cp"
expect "cp -a within the mount" cp -a "$mnt/cp" "$mnt/cp2"
same_listing "cp -a within: no difference" "$work/source" "$mnt/cp2"
expect "cp -a out of the mount" cp -a "$mnt/cp2" "$work/cp"
same_listing "cp -a back: no difference" "$work/source" "$work/cp"
for how in always auto never; do
  expect "cp --sparse=$how" cp --sparse=$how "$mnt/cp/plain/sparse2" "$mnt/sparse.$how"
  expect "cp --sparse=$how: the same bytes" cmp "$work/source/plain/sparse2" "$mnt/sparse.$how"
done
expect "cp --sparse=always leaves holes" is_sparse "$mnt/sparse.always" 1024
expect "cp --reflink=auto" cp --reflink=auto "$mnt/cp/plain/large" "$mnt/reflink"
expect "cp --reflink=auto: the same bytes" cmp "$work/source/plain/large" "$mnt/reflink"

mkdir "$mnt/dir"
expect "mv of a tree" mv "$mnt/cp" "$mnt/dir/moved"
same_listing "mv: no difference" "$work/source" "$mnt/dir/moved"
expect "mv of a tree from another filesystem" mv "$work/cp" "$mnt/dir/in"
same_listing "mv in: no difference" "$work/source" "$mnt/dir/in"
expect "mv of a tree to another filesystem" mv "$mnt/dir/in" "$work/out"
same_listing "mv out: no difference" "$work/source" "$work/out"
expect "rm -r of all" rm -r "$mnt"/{rsync,cp2,dir,reflink,sparse.always,sparse.auto,sparse.never}
same "nothing is left" "$(ls -A "$mnt" | grep -vx '\.dht')" ""
unmount_magma
stop_volcano
fsck_clean
