rpc_fuzzers = \
	rpc_frames \
	rpc_strangers \
	rpc_plaintext
