rpc_tests = \
	tests/unit/rpc_exchange_test.cc \
	tests/unit/rpc_fixture.h \
	tests/unit/rpc_moving_test.cc tests/unit/rpc_parts_test.cc tests/unit/rpc_path_mtu_test.cc \
	tests/unit/rpc_relay_test.cc tests/unit/rpc_setup_test.cc
