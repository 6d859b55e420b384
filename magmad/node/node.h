// A volcano's part in the lava ring: the control plane. It is a Raft node with its store, applies
// the lava map's commands, and is the coordinator while it leads; else it reports to who is. It
// owns the links to the other volcanoes (UDP 12001) and takes in newcomers.
//
// Sans I/O, one thread, which in magmad is one of its own (magmad/node_thread.h): fed by
// on_datagram, flush after each batch, on_timer at deadline(). Writes of the Raft store go to the
// executor; several in one transaction. What others may know of the ring leaves as RingView, an
// immutable value, whenever something changes and at least every kViewEvery.
//
// Whatever comes, comes in as an event and is handled in order: a step of Raft gives actions, these
// give events, until there are none; then the coordinator is asked what is to be done next.
//
// A write of the store that fails is final: the node says nothing more (failed()), and its process
// should end.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "libmagma/raft/raft.h"
#include "libmagma/raft/store.h"
#include "libmagma/ring/map_commands.h"
#include "libmagma/sys/executor.h"
#include "magmad/core/coordinator.h"
#include "magmad/core/slot_rules.h"
#include "magmad/node/copy_progress.h"
#include "magmad/node/links.h"
#include "magmad/node/ring_view.h"

namespace magma::node {

inline constexpr Duration kViewEvery = milliseconds(500);
inline constexpr Duration kTableEvery = seconds(1);
inline constexpr Duration kNewsEvery = milliseconds(50);  // heartbeats that bring news of mirrors
inline constexpr Duration kTickFresh = seconds(1);        // an older tick of a shard: no lease
inline constexpr Duration kActAgain = milliseconds(100);  // after something was refused
inline constexpr std::uint8_t kCopiesDefault = 2;
inline constexpr std::size_t kNewcomersMax = 64;  // waiting for their answer

struct NodeConfig {
  ring::VolcanoId self;  // of the papers; for a founder 1
  ring::Profile profile{};
  crypto::Uuid filesystem{};
  crypto::Keyring keys;
  std::string version{};          // of magmad
  std::uint64_t small_files = 0;  // of the filesystem, told to newcomers
  bool is_first_start = false;    // it has just been founded or has just joined
  bool has_lost = false;          // as Tenures::has_lost
  raft::Settings raft{};
  std::size_t datagram_bytes_max = rpc::kDatagramBytesMax;
};

// Bugs that tests plant to see that they would be found. All off in the product.
struct NodePlanted {
  bool lease_from_receipt = false;       // counts its lease from the answer, not from the sending
  bool forgets_storage_numbers = false;  // a newcomer gets the number of who had its nick
  core::Coordinator::Planted coordinator{};
  raft::Planted raft{};
};

// Sees every step; for tests.
class NodeWatcher {
 public:
  virtual ~NodeWatcher() = default;
  virtual void started(const raft::Raft&) {}
  virtual void writes(const raft::Raft&, const raft::Persist&) {}
  virtual void stepped(const raft::Raft&) {}
  virtual void has_map(const raft::Raft&, raft::Index, const ring::LavaMap&) {}
  // An entry was applied; `before` is the map before it.
  virtual void applied(const raft::Raft&, raft::Index, const ring::Command&, const ring::LavaMap&) {
  }
  virtual void granted(const raft::Raft&, ring::VolcanoId, Instant) {}
  virtual void coordinates(const raft::Raft&, const std::vector<raft::Deadline>&) {}
  virtual void has_lease(const raft::Raft&, Instant) {}
};

class Node {
 public:
  using Publish = UniqueFunction<void(RingViewPtr)>;

  // `stored` is what `store` holds. References outlive the node; `publish` is called from within
  // its calls.
  Node(NodeConfig config, raft::Stored stored, raft::Store& store, sys::Clock& clock,
       sys::Random& random, sys::Datagrams& datagrams, sys::Executor& executor, Publish publish,
       NodePlanted planted = {}, NodeWatcher* watcher = nullptr);
  ~Node();

  void on_datagram(const sys::Address& from, MutableByteSpan datagram);
  void flush();
  Instant deadline() const;
  void on_timer();
  // The end: peers are told; nothing is sent any more.
  void stop();

  // A shard is well: it has just ticked. Without that there is no lease. And what the ring is to
  // know of this volcano: at once if its mirrors are in another state.
  void on_tick(const wire::VolcanoFacts& facts);

  bool failed() const { return failed_.has_value(); }
  const std::optional<Error>& failure() const { return failed_; }
  const raft::Raft& raft() const { return raft_; }
  const ring::LavaMap& map() const { return *map_; }
  raft::Index applied() const { return applied_; }
  // Until when this volcano may serve; by its clock.
  std::optional<Instant> lease_until() const { return lease_until_; }
  // Whether it leads, is ready, and has its lease.
  bool is_coordinator() const;
  RingView view() const;
  struct Counters {  // documented in doc/metrics.md
    std::uint64_t raft_messages = 0, heartbeats = 0, joins = 0, joins_refused = 0, announces = 0;
    std::uint64_t commands = 0, commands_refused = 0, snapshots = 0, misdirected = 0;
    std::uint64_t store_writes = 0, messages_dropped = 0;
  };
  Counters counters() const;
  const rpc::Counters& rpc_counters() const { return links_.counters(); }

 private:
  using Done = UniqueFunction<void(Result<ring::Applied>)>;
  struct Proposal {
    std::optional<raft::Position> place{};  // once it has one
    Done done;
  };

  // node.cc
  void learn_addresses();
  void give(raft::Event event) { events_.push_back(std::move(event)); }
  void pump();
  void step(raft::Event event);
  void perform(raft::Action& action);
  void on(raft::Persist& action);
  void on(raft::Send& action);
  void on(raft::Restore& action);
  void on(raft::Apply& action);
  void on(raft::Answered& action);
  void on(raft::Standing& action);
  void on(raft::WantSnapshot& action);
  Result<ring::Applied> apply(const ring::Command& command, raft::Index index);
  void map_changed(ring::LavaMap map);
  void begin_write();
  void fail_with(Error error);
  void propose(const ring::Command& command, Done done);
  void change_member(const core::MemberStep& step, Done done);
  void settle_proposals(raft::Index index, const raft::Entry& entry,
                        const Result<ring::Applied>& result);

  // node_coordinator.cc
  bool coordinate();
  void on_decided(std::string_view what, const Result<ring::Applied>& result);
  std::vector<core::Coordinator::Follower> followers() const;
  ring::VolcanoId preferred_leader() const;
  void serve_heartbeat(const wire::NodeRequestHead& head, ByteSpan body, const ReplyTo& to);
  core::HeirState heir_state(ring::VolcanoId id, Instant since) const;
  void serve_announce(const wire::NodeRequestHead& head, ByteSpan body, const ReplyTo& to);
  void propose_before(const ring::Command& command, ring::VolcanoId id,
                      const wire::AnnounceRequest& request, Done done);
  void bring_up(ring::VolcanoId id, const wire::AnnounceRequest& request, Done done);
  void serve_join(ByteSpan body, const ReplyTo& to);
  std::optional<std::string> why_not(const wire::JoinRequest& request) const;
  void answer_join(const ReplyTo& to, wire::JoinReply reply);
  void take_in(const wire::JoinRequest& request, const ReplyTo& to);
  wire::NodeOutcome who_decides(std::string& address) const;

  // node.cc
  void on_request(const wire::NodeRequestHead& head, ByteSpan body, const ReplyTo& to);
  bool is_of_the_ring(const wire::NodeRequestHead& head) const;
  void serve_raft(const wire::NodeRequestHead& head, ByteSpan body, const ReplyTo& to);
  void report();
  wire::AnnounceRequest announcement() const;
  void announce();
  void announce_self();
  void on_announced(std::uint64_t version);
  void on_heartbeat_answered(Instant sent, Result<ByteSpan> body);
  void on_announce_answered(Result<ByteSpan> body);
  std::vector<wire::StatusCounter> status_counters() const;
  void publish(bool is_due);
  ring::VolcanoId whom_to_ask();

  NodeConfig config_;
  raft::Store& store_;
  sys::Clock& clock_;
  sys::Random& random_;
  sys::Executor& executor_;
  Publish publish_;
  const NodePlanted planted_;
  NodeWatcher* watcher_;
  const std::uint64_t boot_;

  std::shared_ptr<const ring::LavaMap> map_;  // shared with views
  raft::Index applied_;
  raft::Raft raft_;
  Instant raft_deadline_{};
  std::deque<raft::Event> events_;
  bool is_pumping_ = false;
  bool is_stopped_ = false;
  std::optional<Error> failed_;

  std::deque<raft::Persist> unwritten_;
  bool is_writing_ = false;
  // Expires with the node: completions of the executor look.
  std::shared_ptr<int> life_ = std::make_shared<int>(0);  // shared with completions, as weak_ptr

  std::map<std::uint64_t, Proposal> proposals_;  // by cookie
  std::uint64_t last_cookie_ = 0;

  raft::Standing standing_;
  ring::VolcanoId former_leader_;  // the last one that was not this volcano
  core::Coordinator coordinator_;
  bool is_deciding_ = false;                        // something decided is under way
  ring::VolcanoId called_down_;                     // by that
  struct Coming {  // an announcement
    std::uint64_t boot = 0;
    Instant since{};
    Instant at{};
    bool has_lost = false;
  };
  std::map<ring::VolcanoId, Coming> coming_;        // last of each; until it is up
  std::set<ring::VolcanoId> coming_up_;             // whose announcement is under way
  Instant act_at_{};                                // not before
  std::map<ring::VolcanoId, std::uint64_t> boots_;  // starts that are in the map already
  std::size_t newcomers_ = 0;

  // As a volcano of the ring:
  bool is_announced_ = false;
  std::uint64_t start_version_ = 0;  // of a map that has this start; once it is announced
  bool is_announcing_ = false;
  std::size_t asked_ = 0;  // whom to announce to, in turn
  Instant report_at_{};
  Instant reported_at_{};
  Instant table_wanted_at_{};
  wire::VolcanoFacts facts_{};
  std::optional<Instant> ticked_{};
  std::optional<Instant> lease_until_{};
  std::uint64_t lease_version_ = 0;  // of the map that it takes to make use of it
  std::optional<Instant> leader_heard_{};
  std::optional<Instant> table_at_{};
  std::vector<wire::VolcanoNews> table_{};
  CopyProgress copies_;
  Instant view_at_{};
  bool has_news_ = true;

  Counters counters_;
  Links links_;  // last: its callbacks use the rest
};

// The first state of a ring's map: what a founder's store begins with.
Result<ring::LavaMap> founded_map(const crypto::Uuid& filesystem, const ring::Profile& profile,
                                  std::uint8_t copies = kCopiesDefault,
                                  bool shares_slots = false);

}  // namespace magma::node
