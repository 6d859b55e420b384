ring_tests = \
	tests/unit/lava_map_check_test.cc \
	tests/unit/lava_map_commands_test.cc \
	tests/unit/lava_map_form_test.cc \
	tests/unit/lava_map_slots_test.cc \
	tests/unit/lava_map_status_test.cc \
	tests/unit/placement_policy_test.cc \
	tests/unit/placement_random_test.cc
