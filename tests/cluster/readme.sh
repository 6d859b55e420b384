#!/bin/bash
# Runs the commands of README.md as they are printed, in order, on a machine of their own with Magma
# installed. The comment before a block of commands says what becomes of it:
#   <!-- run[ under systemd][; prints: WORDS] -->   each command must succeed; WORDS must be printed
#   <!-- not run: REASON -->
# A block without one fails the test, and so does a link to a file that is not there.
source "$(dirname "$0")/lib.sh"
source "$lib_dir/guest.sh"
begin
readme=$MAGMA_SOURCE/README.md

same "README links to nothing that is missing" "$(grep -oE '\]\([^)#:]+\)' "$readme" | tr -d '])(' |
  while read -r path; do [ -e "$MAGMA_SOURCE/$path" ] || echo "$path"; done)" ""

# The guest's script: the blocks as functions' bodies would lose `set -e`, so each is a file.
python3 - "$readme" "$work" <<'PY' || die "README.md cannot be taken apart"
import re, shlex, sys
text, work = open(sys.argv[1]).read(), sys.argv[2]
script = open(work + "/script", "w")
script.write('export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n'
             'block() { # NAME PRINTS FILE\n'
             '  if ! bash -e -o pipefail "$3" >/tmp/said 2>&1; then\n'
             '    echo "not ok $1"; sed "s/^/#   /" /tmp/said\n'
             '  elif [ -n "$2" ] && ! grep -qF -- "$2" /tmp/said; then\n'
             '    echo "not ok $1: does not print \'$2\'"; sed "s/^/#   /" /tmp/said\n'
             '  else echo "ok $1"; fi\n'
             '}\n')
count = 0
for match in re.finditer(r"(?:^<!-- ([^\n]*) -->\n)?^```(?:sh)?\n(.*?)^```\n", text, re.M | re.S):
    mark, body = match.groups()
    count += 1
    name = "README block %d: %s" % (count, body.split("\n")[0])
    if mark is None:
        script.write("echo %s\n" % shlex.quote("not ok %s: no comment says whether it runs" % name))
        continue
    if mark.startswith("not run: "):
        script.write("echo %s\n" % shlex.quote("# %s: %s" % (name, mark)))
        continue
    run = re.fullmatch(r"run( under systemd)?(?:; prints: (.*))?", mark)
    if run is None:
        script.write("echo %s\n" % shlex.quote("not ok %s: unknown mark '%s'" % (name, mark)))
        continue
    command = "cat >/tmp/block <<'BLOCK-OF-README'\n%sBLOCK-OF-README\nblock %s %s /tmp/block\n" % (
        body, shlex.quote(name), shlex.quote(run.group(2) or ""))
    if run.group(1):
        command = "if [ -d /run/systemd/system ]; then\n%selse echo %s; fi\n" % (
            command, shlex.quote("ok %s # SKIP no systemd can run here" % name))
    script.write(command)
script.write("# What it started.\numount /mnt/magma; pkill -x magmad\n")
script.write("[ %d -ge 8 ] || echo 'not ok README has %d blocks only'\necho '# end'\n" % (count, count))
PY

# With systemd if it can run here, else without.
init=/lib/systemd/systemd
[ -x $init ] && guest_find_cgroups || init=none
run_guest $init "$work/script"
