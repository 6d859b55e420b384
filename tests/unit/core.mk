core_tests = tests/unit/core_fixture.h tests/unit/core_shard_test.cc
