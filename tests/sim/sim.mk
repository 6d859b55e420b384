sim_test_sources = \
	tests/sim/crash_steps_test.cc \
	tests/sim/exactly_once_test.cc \
	tests/sim/main.cc \
	tests/sim/node_ring_test.cc \
	tests/sim/node_run.cc \
	tests/sim/node_run.h \
	tests/sim/planted_test.cc \
	tests/sim/raft_planted_test.cc \
	tests/sim/raft_random_test.cc \
	tests/sim/raft_run.cc \
	tests/sim/raft_run.h \
	tests/sim/random_test.cc \
	tests/sim/random_workload.cc \
	tests/sim/random_workload.h \
	tests/sim/beliefs.h \
	tests/sim/scenario.cc \
	tests/sim/scenario.h \
	tests/sim/scenario_test.cc \
	tests/sim/sim_run.cc \
	tests/sim/sim_run.h \
	tests/sim/tree_walk.cc \
	tests/sim/tree_walk.h \
	tests/sim/workload_checks.cc \
	tests/sim/workload_more.cc
