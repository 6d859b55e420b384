test_lib_sources = \
	tests/lib/faulty_disk.cc \
	tests/lib/faulty_disk.h \
	tests/lib/fake_console.cc \
	tests/lib/fake_console.h \
	tests/lib/golden_file.h \
	tests/lib/lava_ring.h \
	tests/lib/model_filesystem.cc \
	tests/lib/model_filesystem.h \
	tests/lib/raft_checker.cc \
	tests/lib/raft_checker.h \
	tests/lib/raft_cluster.cc \
	tests/lib/raft_cluster.h \
	tests/lib/sample_message.h \
	tests/lib/sim_cluster.cc \
	tests/lib/sim_cluster.h \
	tests/lib/sim_disk.cc \
	tests/lib/sim_disk.h \
	tests/lib/sim_executor.cc \
	tests/lib/sim_executor.h \
	tests/lib/sim_clock.h \
	tests/lib/sim_loop.h \
	tests/lib/sim_network.cc \
	tests/lib/sim_network.h \
	tests/lib/sim_random.h \
	tests/lib/sometimes.h \
	tests/lib/sparse_bytes.h \
	tests/lib/store_fixture.h
