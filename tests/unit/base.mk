base_tests = \
	tests/unit/base_test.cc \
	tests/unit/ring_test.cc
