# The volcano itself, without a system call of its own; main.cc gives it the real world.
magmad_sources = \
	magmad/census.cc \
	magmad/census.h \
	magmad/console_gateway.h \
	magmad/counters.cc \
	magmad/counters.h \
	magmad/host_requests.cc \
	magmad/host_requests.h \
	magmad/options.cc \
	magmad/options.h \
	magmad/peers.cc \
	magmad/peers.h \
	magmad/releases.cc \
	magmad/releases.h \
	magmad/replication/catch_up.cc \
	magmad/replication/catch_up.h \
	magmad/replication/compare_rows.cc \
	magmad/replication/compare_rows.h \
	magmad/replication/comparisons.cc \
	magmad/replication/comparisons.h \
	magmad/replication/content_journal.cc \
	magmad/replication/content_journal.h \
	magmad/replication/effects.cc \
	magmad/replication/effects.h \
	magmad/replication/mirror.cc \
	magmad/replication/mirror.h \
	magmad/replication/mirror_compare.cc \
	magmad/replication/mirrors.cc \
	magmad/replication/mirrors.h \
	magmad/replication/slot_rows.cc \
	magmad/replication/slot_rows.h \
	magmad/replication/source.cc \
	magmad/replication/source.h \
	magmad/replication/source_compare.cc \
	magmad/report.h \
	magmad/request.h \
	magmad/session.cc \
	magmad/shard.cc \
	magmad/shard.h \
	magmad/shard_answers.cc \
	magmad/shard_batch.cc \
	magmad/slot_owners.h \
	magmad/space_guard.cc \
	magmad/space_guard.h \
	magmad/tenures.cc \
	magmad/tenures.h \
	magmad/tokens.cc \
	magmad/tokens.h \
	magmad/volcano.cc \
	magmad/volcano.h
magmad_main_sources = \
	magmad/console_port.cc magmad/console_port.h \
	magmad/node_thread.cc magmad/node_thread.h \
	magmad/storage_setup.cc magmad/storage_setup.h
