#include "magmad/counters.h"

namespace magma {

void list_counters(CounterList& list, const VolcanoStats& stats) {
  list.insert(list.end(), {
                              {"volcano.requests", stats.requests},
                              {"volcano.changes", stats.changes},
                              {"volcano.replays", stats.replays},
                              {"volcano.refused", stats.refused},
                              {"volcano.io_errors", stats.io_errors},
                              {"volcano.batches", stats.batches},
                              {"volcano.operations", stats.operations},
                              {"volcano.operations_recovered", stats.operations_recovered},
                              {"volcano.ranges_recovered", stats.ranges_recovered},
                              {"volcano.sessions", stats.sessions},
                              {"volcano.tokens", stats.tokens},
                              {"volcano.notices_sent", stats.notices_sent},
                              {"volcano.notices_expired", stats.notices_expired},
                              {"volcano.answers_held", stats.answers_held},
                          });
}

void list_counters(CounterList& list, const store::MetadataStore::Stats& stats) {
  list.insert(list.end(), {
                              {"metadata.commits", stats.commits},
                              {"metadata.syncs", stats.syncs},
                              {"metadata.checkpoints", stats.checkpoints},
                              {"metadata.rows_written", stats.rows_written},
                              {"metadata.wal_bytes", stats.wal_bytes},
                          });
}

void list_counters(CounterList& list, const store::ContentStore::Stats& stats) {
  list.insert(list.end(), {
                              {"content.reads_cached", stats.reads_cached},
                              {"content.reads_disk", stats.reads_disk},
                              {"content.reads_ahead", stats.reads_ahead},
                              {"content.pieces_ahead", stats.pieces_ahead},
                              {"content.pieces_dropped", stats.pieces_dropped},
                              {"content.writes", stats.writes},
                              {"content.hot_syncs", stats.hot_syncs},
                              {"content.checksum_errors", stats.checksum_errors},
                              {"content.files_open", stats.files_open},
                              {"content.pieces_kept", stats.pieces_kept},
                          });
}

void list_counters(CounterList& list, const replication::Source::Stats& stats) {
  list.insert(list.end(), {
                              {"source.batches", stats.batches},
                              {"source.messages", stats.pieces},
                              {"source.bytes", stats.bytes},
                              {"source.copies", stats.copies},
                              {"source.catch_ups", stats.catch_ups},
                              {"source.runs_lost", stats.runs_lost},
                              {"source.compares", stats.compared.pieces},
                              {"source.differences", stats.compared.differences},
                          });
}

void list_counters(CounterList& list, const replication::Mirror::Stats& stats) {
  list.insert(list.end(), {
                              {"mirror.batches", stats.batches},
                              {"mirror.rows", stats.rows},
                              {"mirror.bytes", stats.bytes},
                              {"mirror.checks", stats.checks},
                              {"mirror.refused", stats.refused},
                              {"mirror.compares", stats.compares},
                          });
}

void list_counters(CounterList& list, const Peers::Stats& stats) {
  list.insert(list.end(), {
                              {"peers.runs", stats.runs},
                              {"peers.runs_lost", stats.runs_lost},
                              {"peers.sent", stats.sent},
                              {"peers.received", stats.received},
                              {"peers.dropped", stats.dropped},
                              {"peers.refused", stats.refused},
                          });
}

void list_counters(CounterList& list, const rpc::Counters& counters) {
  list.insert(list.end(), {
                              {"rpc.packets_sent", counters.packets_sent},
                              {"rpc.packets_received", counters.packets_received},
                              {"rpc.bytes_sent", counters.bytes_sent},
                              {"rpc.bytes_received", counters.bytes_received},
                              {"rpc.packets_lost", counters.packets_lost},
                              {"rpc.packets_spurious", counters.packets_spurious},
                              {"rpc.packets_replayed", counters.packets_replayed},
                              {"rpc.packets_unauthentic", counters.packets_unauthentic},
                              {"rpc.packets_malformed", counters.packets_malformed},
                              {"rpc.packets_unknown", counters.packets_unknown},
                              {"rpc.messages_sent", counters.messages_sent},
                              {"rpc.messages_received", counters.messages_received},
                              {"rpc.acks_sent", counters.acks_sent},
                              {"rpc.timeouts_probe", counters.timeouts_probe},
                              {"rpc.handshakes", counters.handshakes},
                              {"rpc.handshakes_refused", counters.handshakes_refused},
                              {"rpc.rekeys", counters.rekeys},
                              {"rpc.path_probes", counters.path_probes},
                              {"rpc.path_shrinks", counters.path_shrinks},
                              {"rpc.packets_relayed", counters.packets_relayed},
                              {"rpc.bytes_relayed", counters.bytes_relayed},
                              {"rpc.packets_not_relayed", counters.packets_not_relayed},
                          });
}

}  // namespace magma
