rpc_tests =
