libmagma_crypto_sources = \
	libmagma/crypto/checksum.h libmagma/crypto/checksum.cc \
	libmagma/crypto/digest.h libmagma/crypto/digest.cc \
	libmagma/crypto/handshake.h libmagma/crypto/handshake.cc \
	libmagma/crypto/hkdf.h libmagma/crypto/hkdf.cc \
	libmagma/crypto/network_key.h libmagma/crypto/network_key.cc \
	libmagma/crypto/path_hash.h libmagma/crypto/path_hash.cc \
	libmagma/crypto/replay_window.h libmagma/crypto/replay_window.cc \
	libmagma/crypto/seal.h libmagma/crypto/seal.cc
