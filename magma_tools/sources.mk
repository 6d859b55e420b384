magma_tools_sources = \
	magma_tools/magma_fsck.cc \
	magma_tools/magma_keygen.cc \
	magma_tools/tools.h
magma_tools_main_sources =
