libmagma_wire_sources = \
	libmagma/wire/codec.h \
	libmagma/wire/describe.h \
	libmagma/wire/flare_messages.cc \
	libmagma/wire/attributes.h \
	libmagma/wire/flare_messages.h \
	libmagma/wire/flare_ops.def \
	libmagma/wire/lava_map_codec.cc \
	libmagma/wire/lava_map_codec.h \
	libmagma/wire/lock_messages.h \
	libmagma/wire/name_messages.h \
	libmagma/wire/node_messages.cc \
	libmagma/wire/node_messages.h \
	libmagma/wire/node_ops.def \
	libmagma/wire/operator_messages.h \
	libmagma/wire/peer_messages.h \
	libmagma/wire/replica_messages.h \
	libmagma/wire/session_messages.h
