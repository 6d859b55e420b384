console_tests = \
	tests/unit/console_access_test.cc \
	tests/unit/console_key_gate_test.cc \
	tests/unit/console_session_test.cc \
	tests/unit/console_text_test.cc
