core_tests = tests/unit/peers_test.cc tests/unit/releases_test.cc tests/unit/replication_catch_up_test.cc tests/unit/replication_journal_test.cc tests/unit/replication_shard_test.cc \
	tests/unit/replication_fixture.h tests/unit/replication_compare_test.cc tests/unit/replication_mirror_test.cc \
	tests/unit/replication_streams_test.cc \
	tests/unit/core_coordinator_test.cc tests/unit/core_mirror_rules_test.cc tests/unit/core_slot_rules_test.cc tests/unit/core_tenure_rules_test.cc \
	tests/unit/core_ring_view_test.cc \
	tests/unit/core_fixture.h tests/unit/core_host_requests_test.cc \
	tests/unit/core_delayed_test.cc tests/unit/core_shard_test.cc \
	tests/unit/core_space_guard_test.cc tests/unit/core_tokens_test.cc \
	tests/unit/core_file_locks_test.cc
