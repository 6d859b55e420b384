wire_tests = \
	tests/unit/wire_codec_test.cc \
	tests/unit/wire_golden_test.cc \
	tests/unit/node_messages_test.cc
