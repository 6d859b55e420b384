libmagma_sys_sources = \
	libmagma/sys/address.cc \
	libmagma/sys/address.h \
	libmagma/sys/clock.h \
	libmagma/sys/datagrams.h \
	libmagma/sys/disk.h \
	libmagma/sys/executor.h \
	libmagma/sys/random.h
