libmagma_rpc_sources = \
	libmagma/rpc/ack_tracker.h libmagma/rpc/ack_tracker.cc \
	libmagma/rpc/byte_ranges.h \
	libmagma/rpc/congestion.h libmagma/rpc/congestion.cc \
	libmagma/rpc/connection.h libmagma/rpc/connection.cc \
	libmagma/rpc/connection_path.cc libmagma/rpc/connection_receive.cc libmagma/rpc/connection_send.cc \
	libmagma/rpc/endpoint.h libmagma/rpc/endpoint.cc libmagma/rpc/endpoint_setup.cc \
	libmagma/rpc/handshaking.h libmagma/rpc/handshaking.cc \
	libmagma/rpc/id_table.h \
	libmagma/rpc/loss_detection.h libmagma/rpc/loss_detection.cc \
	libmagma/rpc/messages.h libmagma/rpc/messages.cc \
	libmagma/rpc/packet.h libmagma/rpc/packet.cc \
	libmagma/rpc/slow_start.h libmagma/rpc/slow_start.cc \
	libmagma/rpc/path_mtu.h libmagma/rpc/path_mtu.cc \
	libmagma/rpc/relay.h libmagma/rpc/relay.cc \
	libmagma/rpc/rpc.h
