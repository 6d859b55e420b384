#!/bin/bash
# /.dht, the directory that the mount makes up, and the attributes that tell where a file lies.
source "$(dirname "$0")/lib.sh"
begin
start_volcano
mount_magma
same "/.dht has a profile of the volcano" "$(ls "$mnt/.dht")" wallace
expect "it names the volcano" grep -qx "nickname = wallace" "$mnt/.dht/wallace"
expect "and its address" grep -qx "ipaddr = $host" "$mnt/.dht/wallace"
expect "and the whole keyspace" grep -qx "start_key = 0\{40\}" "$mnt/.dht/wallace"
same "the size is that of the text" "$(stat -c %s "$mnt/.dht/wallace")" \
  "$(wc -c <"$mnt/.dht/wallace")"
expect "no secret is in it" sh -c "! grep -qi secret '$mnt/.dht/wallace'"
same "no listing of / shows it" "$(ls -A "$mnt")" ""
for change in "touch $mnt/.dht/new" "mkdir $mnt/.dht/new" "rm $mnt/.dht/wallace" \
  "rmdir $mnt/.dht" "mv $mnt/.dht $mnt/other" "chmod 777 $mnt/.dht" "ln -s x $mnt/.dht/l"; do
  expect_failure "refused: ${change//$mnt/}" 1 "Read-only file system" $change
done
expect_failure "nobody else has its name" 1 "File exists" mkdir "$mnt/.dht"
echo text >"$mnt/file"
if type getfattr >/dev/null 2>&1; then
  attribute() { getfattr --only-values -n "$1" "$mnt/file"; }
  same "magma.key is the SHA-1 of the path" "$(attribute magma.key)" \
    "$(printf /file | sha1sum | cut -d ' ' -f 1)"
  # A small file lies at its directory's slot: that of the root.
  same "magma.slot of a small file" "$(attribute magma.slot)" 420
  same "magma.volcanoes" "$(attribute magma.volcanoes)" "wallace ($host:12000) primary"
  same "they are in no list" "$(getfattr -m - -d "$mnt/file")" ""
else
  passed "magma.key # SKIP no getfattr (package attr)"
fi
unmount_magma
stop_volcano
fsck_clean
