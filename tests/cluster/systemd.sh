#!/bin/bash
# A real systemd, with Magma as `make install` leaves it: the steps of magmad(8), "UNDER SYSTEMD".
# systemd_guest.sh is what happens inside.
source "$(dirname "$0")/lib.sh"
source "$lib_dir/guest.sh"
begin
systemd=/lib/systemd/systemd
[ -x $systemd ] || skip_all "needs systemd (Debian package systemd)"
guest_find_cgroups || skip_all "needs cgroups that can be written"
run_guest $systemd "$lib_dir/systemd_guest.sh"
