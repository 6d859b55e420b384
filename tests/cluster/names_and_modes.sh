#!/bin/bash
# Names, modes, errors and sizes as POSIX has them: a table of calls and wanted results, run by
# names_and_modes.py on the mount. (It passes on ext4: run it by hand with a folder there.)
source "$(dirname "$0")/lib.sh"
begin
start_volcano
mount_magma
timeout 100 python3 "$lib_dir/names_and_modes.py" "$mnt" >"$work/table.out" 2>"$work/table.err"
same "names_and_modes.py ran to its end" "$(tail -n 1 "$work/table.out")" "# end"
head -n 20 "$work/table.err" | sed 's/^/#   /'
grep -E '^(ok|not ok|#)' "$work/table.out"
failures=$((failures + $(grep -c '^not ok' "$work/table.out")))

unmount_magma
stop_volcano
fsck_clean
