// The counters of doc/metrics.md as (name, value) pairs, as `status` tells them.
#pragma once

#include <vector>

#include "libmagma/rpc/rpc.h"
#include "libmagma/wire/operator_messages.h"
#include "magmad/peers.h"
#include "magmad/replication/mirror.h"
#include "magmad/replication/source.h"
#include "magmad/store/content_store.h"
#include "magmad/store/metadata_store.h"
#include "magmad/volcano.h"

namespace magma {

using CounterList = std::vector<wire::StatusCounter>;

void list_counters(CounterList& list, const VolcanoStats& stats);
void list_counters(CounterList& list, const store::MetadataStore::Stats& stats);
void list_counters(CounterList& list, const store::ContentStore::Stats& stats);
void list_counters(CounterList& list, const replication::Source::Stats& stats);
void list_counters(CounterList& list, const replication::Mirror::Stats& stats);
void list_counters(CounterList& list, const Peers::Stats& stats);
void list_counters(CounterList& list, const rpc::Counters& counters);

}  // namespace magma
