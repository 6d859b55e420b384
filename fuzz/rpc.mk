rpc_fuzzers =
