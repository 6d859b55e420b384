// Requests that ask this volcano for itself: status, ring, sync, compare, shutdown, console (kind
// `host` in flare_ops.def). They need no session and no batch of the shard, so they are answered
// while commits fail or wait: status within the round of the loop that brings it.
//
// What one may ask depends on the key the connection was made with: status, ring, sync, compare
// with any key of the network, the rest with the network key (role ring) only.
//
// Used by Volcano; its thread. Owns what is known of each connection's peer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "libmagma/base/unique_function.h"
#include "libmagma/rpc/rpc.h"
#include "libmagma/sys/clock.h"
#include "libmagma/wire/operator_messages.h"
#include "magmad/census.h"
#include "magmad/console_gateway.h"
#include "magmad/counters.h"
#include "magmad/node/ring_view.h"
#include "magmad/request.h"
#include "magmad/shard.h"

namespace magma {

class HostRequests {
 public:
  static constexpr std::size_t kTalksMax = 64;
  static constexpr std::size_t kSyncsMax = 64;           // under way
  static constexpr Duration kCensusFresh = seconds(60);  // an older count is made anew
  static constexpr Duration kCensusKept = seconds(600);  // counted for other volcanoes
  static constexpr Duration kSpaceFresh = seconds(2);
  static constexpr Duration kCensusEvery = milliseconds(10);
  static constexpr std::size_t kCensusRowsFirst = 2000;  // at once, when a status asks
  static constexpr std::size_t kCensusRows = 500;        // every kCensusEvery

  // References outlive this. `send` takes answers.
  HostRequests(const VolcanoConfig& config, sys::Clock& clock, Shard& shard,
               store::MetadataStore& metadata, store::ContentStore& content,
               UniqueFunction<void(Answer)>& send);
  ~HostRequests();

  void on_connected(std::uint64_t connection, const rpc::PeerInfo& peer);
  void on_closed(std::uint64_t connection);
  bool has_ring_key(std::uint64_t connection) const {
    auto peer = peers_.find(connection);
    return peer != peers_.end() && peer->second.role == crypto::Role::ring;
  }
  void handle(RequestPtr request);
  Instant deadline() const;
  void on_timer();
  // The end: talks are closed.
  void stop();

  // nullptr: there is no console. Outlives this, or is taken away before it goes.
  void set_console(ConsoleGateway* console);
  // Called for each status, to add counters to it.
  void add_counters(UniqueFunction<void(CounterList&)> source);
  void set_ring(node::RingViewPtr view) { ring_ = std::move(view); }
  const node::RingViewPtr& ring() const { return ring_; }
  // Who compares this volcano with its mirrors.
  using Compare =
      UniqueFunction<void(wire::CompareRequest, UniqueFunction<void(Result<wire::CompareReply>)>)>;
  void on_compare(Compare compare) { compare_ = std::move(compare); }
  // Called by facts(), to add what others know.
  void complete_facts(UniqueFunction<void(wire::VolcanoFacts&)> source) {
    facts_source_ = std::move(source);
  }
  // What the ring is told of this volcano. Counts anew, in the background, when the last count is
  // old and there are others who may ask.
  wire::VolcanoFacts facts();
  // Somebody has asked the volcano to end, and was answered.
  bool stop_wanted() const { return stop_wanted_; }

 private:
  struct Talk {
    std::uint64_t connection = 0;
    std::uint64_t number = 0;  // the asker's
    RequestPtr poll;           // to be answered when there is something to say
    Instant poll_until{};
  };
  using TalkId = ConsoleGateway::TalkId;

  void status(RequestPtr request);
  void ring(RequestPtr request);
  void sync(RequestPtr request);
  void compare(RequestPtr request, wire::CompareRequest message);
  void released(RequestPtr request, const rpc::PeerInfo& peer,
                const wire::ReleasedRequest& message);
  void shutdown(RequestPtr request, const rpc::PeerInfo& peer,
                const wire::ShutdownRequest& message);
  void console(RequestPtr request, const rpc::PeerInfo& peer, const wire::ConsoleRequest& message);
  void poll(TalkId id, RequestPtr request);
  void settle(TalkId id);
  void end_talk(TalkId id, bool tell);
  TalkId find_talk(std::uint64_t connection, std::uint64_t number) const;
  std::vector<wire::StatusSession> sessions() const;
  void begin_census();
  void step_census(std::size_t rows);
  template <class Reply>
  void answer(const Request& request, const Reply& reply);
  void refuse(const Request& request, Code code);

  const VolcanoConfig& config_;
  sys::Clock& clock_;
  Shard& shard_;
  store::MetadataStore& metadata_;
  store::ContentStore& content_;
  UniqueFunction<void(Answer)>& send_;
  Census census_;
  Instant census_due_ = Instant::never();
  Instant census_begun_{};
  Instant started_;
  WallTime started_wall_;
  ConsoleGateway* console_ = nullptr;
  std::unordered_map<std::uint64_t, rpc::PeerInfo> peers_;  // by connection
  std::unordered_map<TalkId, Talk> talks_;
  TalkId last_talk_ = 0;
  std::size_t syncs_ = 0;
  std::vector<UniqueFunction<void(CounterList&)>> counter_sources_;
  UniqueFunction<void(wire::VolcanoFacts&)> facts_source_;
  Compare compare_;
  node::RingViewPtr ring_;
  std::optional<sys::DiskSpace> space_{};  // as of space_at_
  Instant space_at_{};
  bool stop_wanted_ = false;
};

}  // namespace magma
