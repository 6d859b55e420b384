# Everything but magma.cc, for the unit tests.
magma_tools_sources = \
	magma_tools/command.cc \
	magma_tools/command.h \
	magma_tools/magma_bench.cc \
	magma_tools/magma_cat.cc \
	magma_tools/magma_console.cc \
	magma_tools/magma_dump.cc \
	magma_tools/magma_fsck.cc \
	magma_tools/magma_inspect.cc \
	magma_tools/magma_keygen.cc \
	magma_tools/magma_locate.cc \
	magma_tools/magma_lava.cc \
	magma_tools/magma_ls.cc \
	magma_tools/magma_shutdown.cc \
	magma_tools/magma_status.cc \
	magma_tools/magma_sync.cc \
	magma_tools/magma_verify.cc \
	magma_tools/remote.cc \
	magma_tools/remote.h \
	magma_tools/replica_check.cc \
	magma_tools/replica_check.h \
	magma_tools/ring_text.cc \
	magma_tools/ring_text.h \
	magma_tools/target.cc \
	magma_tools/target.h \
	magma_tools/tools.h
magma_tools_main_sources =
