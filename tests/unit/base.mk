base_tests = \
	tests/unit/base_posix_acl_test.cc \
	tests/unit/base_test.cc \
	tests/unit/ring_test.cc
