raft_fuzzers = raft_messages
