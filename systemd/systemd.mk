# The unit, its user and its sysctls. `./configure --without-systemdsystemunitdir` leaves all out.
EXTRA_DIST += systemd/magmad@.service.in systemd/magma.sysusers systemd/magma.sysctl
if HAVE_SYSTEMD_UNITS
systemdsystemunit_DATA = systemd/magmad@.service
endif

# sbindir is known to make, not to configure.
systemd/magmad@.service: $(srcdir)/systemd/magmad@.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) systemd && \
	  sed 's|@sbindir[@]|$(sbindir)|' $(srcdir)/systemd/magmad@.service.in >$@.tmp && mv $@.tmp $@

# By hand: both files have another name where they are made, since a folder can hold only one
# magma.conf.
if HAVE_SYSTEMD_UNITS
local_installs += install-systemd-conf
install-systemd-conf:
	$(MKDIR_P) "$(DESTDIR)$(sysusersdir)" "$(DESTDIR)$(sysctldir)" && \
	$(INSTALL_DATA) $(srcdir)/systemd/magma.sysusers "$(DESTDIR)$(sysusersdir)/magma.conf" && \
	$(INSTALL_DATA) $(srcdir)/systemd/magma.sysctl "$(DESTDIR)$(sysctldir)/50-magma.conf"
uninstall-systemd-conf:
	rm -f "$(DESTDIR)$(sysusersdir)/magma.conf" "$(DESTDIR)$(sysctldir)/50-magma.conf"
endif
