libmagma_sys_real_sources = \
	libmagma/sys_real/clock.h libmagma/sys_real/clock.cc \
	libmagma/sys_real/daemonize.h libmagma/sys_real/daemonize.cc \
	libmagma/sys_real/disk_posix.h libmagma/sys_real/disk_posix.cc \
	libmagma/sys_real/executor.h libmagma/sys_real/executor.cc \
	libmagma/sys_real/fd.h libmagma/sys_real/fd.cc \
	libmagma/sys_real/key_file.h libmagma/sys_real/key_file.cc \
	libmagma/sys_real/memory.h libmagma/sys_real/loop.h libmagma/sys_real/loop.cc \
	libmagma/sys_real/mount_table.h libmagma/sys_real/mount_table.cc \
	libmagma/sys_real/random.h libmagma/sys_real/random.cc \
	libmagma/sys_real/resolve.h libmagma/sys_real/resolve.cc \
	libmagma/sys_real/short_jobs.h \
	libmagma/sys_real/sockaddr.h libmagma/sys_real/sockaddr.cc \
	libmagma/sys_real/sock_diag.h libmagma/sys_real/sock_diag.cc \
	libmagma/sys_real/tcp.h libmagma/sys_real/tcp.cc \
	libmagma/sys_real/udp.h libmagma/sys_real/udp.cc
