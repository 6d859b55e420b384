libmagma_rpc_sources =
