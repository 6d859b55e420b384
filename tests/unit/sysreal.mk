sysreal_tests = \
	tests/unit/sysreal_disk_test.cc \
	tests/unit/sysreal_loop_test.cc \
	tests/unit/sysreal_process_test.cc \
	tests/unit/sysreal_tcp_test.cc \
	tests/unit/sysreal_temp_dir.h \
	tests/unit/sysreal_udp_test.cc
