# Operations of a volcano, one file each.
magmad_ops_sources = \
	magmad/ops/authority.cc \
	magmad/ops/authority.h \
	magmad/ops/common.cc \
	magmad/ops/content.cc \
	magmad/ops/content.h \
	magmad/ops/create.cc \
	magmad/ops/fsync.cc \
	magmad/ops/getattr.cc \
	magmad/ops/lookup.cc \
	magmad/ops/mkdir.cc \
	magmad/ops/open.cc \
	magmad/ops/operations.cc \
	magmad/ops/operations.h \
	magmad/ops/ops.h \
	magmad/ops/parts.cc \
	magmad/ops/parts.h \
	magmad/ops/read.cc \
	magmad/ops/readdir.cc \
	magmad/ops/readlink.cc \
	magmad/ops/rename.cc \
	magmad/ops/rmdir.cc \
	magmad/ops/setattr.cc \
	magmad/ops/statfs.cc \
	magmad/ops/strays.cc \
	magmad/ops/symlink.cc \
	magmad/ops/unlink.cc \
	magmad/ops/write.cc
