raft_tests = \
	tests/unit/raft_election_test.cc \
	tests/unit/raft_members_test.cc \
	tests/unit/raft_messages_test.cc \
	tests/unit/raft_replication_test.cc \
	tests/unit/raft_steps_test.cc \
	tests/unit/raft_store_test.cc
