libmagma_base_sources = \
	libmagma/base/bytes.cc \
	libmagma/base/bytes.h \
	libmagma/base/check.cc \
	libmagma/base/check.h \
	libmagma/base/errors.def \
	libmagma/base/file_locks.cc \
	libmagma/base/file_locks.h \
	libmagma/base/log.cc \
	libmagma/base/log.h \
	libmagma/base/owned.h \
	libmagma/base/posix_acl.cc \
	libmagma/base/posix_acl.h \
	libmagma/base/result.cc \
	libmagma/base/relatime.h libmagma/base/result.h \
	libmagma/base/strong.h \
	libmagma/base/time.h \
	libmagma/base/unique_function.h
