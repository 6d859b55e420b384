#!/bin/bash
# The manual: every option that --help of a program tells is in its page, and every option of the
# page is told by --help; every subcommand has its section; man has nothing to complain about.
source "$(dirname "$0")/lib.sh"
begin
pages=("$MAGMA_SOURCE"/doc/man/*.[1-8] "$MAGMA_SOURCE"/mount.magma/mount.magma.8)

# --- as man(1) formats them -----------------------------------------------------------------------
if command -v man >/dev/null && command -v groff >/dev/null; then
  for page in "${pages[@]}"; do
    name=$(basename "$page")
    same "$name: man has no warning" \
      "$(LC_ALL=C.UTF-8 MANWIDTH=80 man -l --warnings=w "$page" 2>&1 >"$work/$name.txt")" ""
    same "$name: no line is cut" "$(awk 'length($0) > 110' "$work/$name.txt")" ""
  done
else
  passed "man pages as formatted # SKIP needs man-db and groff-base"
fi

# --- options --------------------------------------------------------------------------------------
# Options of a text on stdin, one a line: -x and --word where one begins.
options() {
  tr -s ' ,=|[]()\t' '\n' | grep -xE -- '--[a-z][a-z-]*|-[A-Za-z]' | LC_ALL=C sort -u
}
# What a page defines: the tagged lines (after .TP, or .SS and .SH) of a part of it, without markup.
tags() {
  awk '/^\.TP/ { tag = 1; next }
    tag || /^\.S[SH] / { print; tag = 0 }' | sed -E 's/\\f[BIRP]//g; s/\\-/-/g; s/^\.[A-Z]+ //; s/"//g'
}
# same_options PROGRAM HELP-TEXT PAGE-TEXT
same_options() {
  options <"$2" >"$work/help.options"
  tags <"$3" | options >"$work/page.options"
  expect "$1: --help tells options at all" test -s "$work/help.options"
  same "$1: all options of --help are in the manual" \
    "$(LC_ALL=C comm -23 "$work/help.options" "$work/page.options" | xargs)" ""
  same "$1: all options of the manual are in --help" \
    "$(LC_ALL=C comm -13 "$work/help.options" "$work/page.options" | xargs)" ""
  same "$1: none is explained twice" \
    "$(tags <"$3" | grep -oE -- '--[a-z][a-z-]*' | LC_ALL=C sort | uniq -d | xargs)" ""
}
# Lines of an option: what stands before the description, so that an option named in another's
# description does not count.
option_lines() { grep -E '^ +-'; }

"$MAGMAD" --help | option_lines | sed -E 's/ (Excludes|Needs): .*//; s/ {2,}[A-Z].*//' \
  >"$work/magmad.help"
same_options magmad "$work/magmad.help" "$MAGMA_SOURCE/doc/man/magmad.8"

"$MOUNT_MAGMA" --help | option_lines | sed -E 's/([^ ])  +.*/\1/; s/$/ /' >"$work/mount.help"
# Long options that --help tells in another's description.
"$MOUNT_MAGMA" --help | grep -oE -- '--debug-all' >>"$work/mount.help"
sed -n '/^\.SH OPTIONS/,/^\.SH MOUNT OPTIONS/p' "$MAGMA_SOURCE/mount.magma/mount.magma.8" \
  >"$work/mount.page"
same_options mount.magma "$work/mount.help" "$work/mount.page"
# Words after -o.
"$MOUNT_MAGMA" --help | sed -n '/^  -o/,/^  -h/p' | sed '1d;$d' |
  sed -E 's/^ +//; s/  +.*//; s/ \(.*//; s/   as above//' | grep -oE '[a-z_-]+(=[a-zA-Z]+)?' | sed 's/=[A-Z]*$//' |
  LC_ALL=C sort -u >"$work/words.help"
sed -n '/^\.SH MOUNT OPTIONS/,/^\.SH SIGNALS/p' "$MAGMA_SOURCE/mount.magma/mount.magma.8" | tags \
  >"$work/words.page"
expect "mount.magma: --help tells mount options" test "$(wc -l <"$work/words.help")" -gt 10
missing=
while read -r word; do
  grep -qE -- "(^|[^a-z_-])$word($|[^a-z_-])" "$work/words.page" || missing+=" $word"
done <"$work/words.help"
same "mount.magma: all mount options of --help are in the manual" "$missing" ""
# And what the manual tells is understood, all of it.
"$MAGMA" keygen "$key" >/dev/null
mkdir -p "$mnt"
for word in $(tr -s ', ' '\n' <"$work/words.page" | grep -E '^[a-z_-]+$' |
  grep -vxE 'remount|comment|uhelper|sh|mount|options'); do
  grep -qE "(^|[ ,])$word=" "$work/words.page" && continue
  "$MOUNT_MAGMA" --host=192.0.2.1:9 --key-file="$key" -o "$word" -o nonsense "$mnt" \
    >"$work/try.out" 2>&1
  grep -q "unknown mount option 'nonsense'" "$work/try.out" || failed "-o $word of the manual: $(cat "$work/try.out")"
done
passed "mount options of the manual are known"

# --- magma and its subcommands --------------------------------------------------------------------
page=$MAGMA_SOURCE/doc/man/magma.1
"$MAGMA" --help | sed -n '/^Subcommands:/,$p' | sed 1d | grep -oE '^  [a-z]+' | tr -d ' ' |
  LC_ALL=C sort >"$work/subcommands"
expect "magma --help lists subcommands" test "$(wc -l <"$work/subcommands")" -ge 2
sed -n '/^\.SH COMMANDS/,/^\.SH "EXIT/p' "$page" | grep -E '^\.SS ' |
  sed -E 's/^\.SS "?([a-z]+).*/\1/' | LC_ALL=C sort >"$work/sections"
same "every subcommand has its section, and every section its subcommand" \
  "$(xargs <"$work/sections")" "$(xargs <"$work/subcommands")"
# What several subcommands have in common is explained once; their sections refer to it.
common="NETWORK OPTIONS"
sed -n "/^\.SH \"$common\"/,/^\.SH /p" "$page" >"$work/common"
while read -r name; do
  "$MAGMA" "$name" --help | option_lines | sed -E 's/ (Excludes|Needs): .*//; s/ {2,}[A-Z].*//' |
    grep -vE '^ +-h,--help' >"$work/sub.help"
  awk -v name="$name" '/^\.S[SH] / { inside = $0 ~ ("^\\.SS \"?" name "( |\"|$)") } inside' "$page" \
    >"$work/sub.page"
  options <"$work/sub.help" >"$work/help.options"
  ! tr '\n' ' ' <"$work/sub.page" | grep -qF "$common" || cat "$work/common" >>"$work/sub.page"
  tags <"$work/sub.page" | options >"$work/page.options"
  same "magma $name: the options of --help and of the manual are the same" \
    "$(xargs <"$work/page.options")" "$(xargs <"$work/help.options")"
done <"$work/subcommands"
