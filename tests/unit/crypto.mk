crypto_tests = \
	tests/unit/crypto_checksum_test.cc \
	tests/unit/crypto_handshake_test.cc \
	tests/unit/crypto_hkdf_test.cc \
	tests/unit/crypto_network_key_test.cc \
	tests/unit/crypto_path_hash_test.cc \
	tests/unit/crypto_replay_window_test.cc \
	tests/unit/crypto_seal_test.cc
