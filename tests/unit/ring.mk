ring_tests = \
	tests/unit/lava_map_form_test.cc
