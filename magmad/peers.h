// What slots of this volcano tell slots of others, and what those tell them: carries the messages
// of ops::Operations between volcanoes that are primaries of different slots (SlotOwners), in runs
// (libmagma/wire/peer_messages.h). Within a run each message is taken once and in order; nothing of
// a run is taken when it has ended; before the first message of a run both sides have begun anew
// (SlotTalk::begin_anew_with), so what is lost between runs is told again.
//
// Both sides dial while there is no run, the one with the higher number a little later. Where both
// have asked the other to begin, the lower number's run is it. A run ends with its connection, with
// a reload of the shard (its memory is another then), with a message that makes no sense, when a
// request is not answered for kAnswerMax, and when more waits for the other than kQueueMax or
// kQueueBytesMax. While there is none, messages to that volcano are dropped.
//
// Used by the Volcano, on its thread: pump() after each batch of the shard. Sends over the
// volcano's own endpoint.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/rpc/rpc.h"
#include "libmagma/sys/clock.h"
#include "libmagma/sys/random.h"
#include "libmagma/wire/peer_messages.h"
#include "magmad/ops/operations.h"
#include "magmad/shard.h"
#include "magmad/slot_owners.h"

namespace magma {

// The side of this volcano's slots, as Peers uses it.
class SlotTalk {
 public:
  virtual ~SlotTalk() = default;
  virtual std::vector<ops::SlotMessage> take_outgoing() = 0;
  virtual void receive(ops::SlotMessage message) = 0;
  virtual void begin_anew_with(const OwnedSlots& theirs) = 0;
  // Another number when what was in memory has been dropped.
  virtual std::uint64_t generation() const = 0;
  virtual Epoch epoch_of(ring::Slot slot) const = 0;  // of an own slot
};

class Peers {
 public:
  static constexpr std::size_t kWindow = 32;                 // requests in flight to one peer
  static constexpr std::size_t kRequestBytes = 64 * 1024;    // a longer message goes alone
  static constexpr std::size_t kRequestMessages = 256;
  static constexpr std::size_t kQueueMax = 65536;            // messages that wait for one peer
  static constexpr std::size_t kQueueBytesMax = 256u << 20;
  static constexpr Duration kDialPatience = seconds(2);
  static constexpr Duration kBeginMax = seconds(2);
  static constexpr Duration kAnswerMax = seconds(10);
  static constexpr Duration kBackoffFirst = milliseconds(20);
  static constexpr Duration kBackoffLast = seconds(1);
  static constexpr Duration kHigherWaits = milliseconds(100);

  struct Stats {
    std::uint64_t runs = 0, runs_lost = 0, sent = 0, received = 0, dropped = 0, refused = 0;
  };

  // References outlive this. `send` takes answers. Requires: `self` is one of the owners.
  Peers(const SlotOwners& owners, ring::VolcanoId self, sys::Clock& clock, sys::Random& random,
        rpc::Endpoint& endpoint, SlotTalk& slots, UniqueFunction<void(Answer)>& send);

  // Whether the connection is one that this made.
  bool on_connected(rpc::ConnectionId connection);
  void on_closed(rpc::ConnectionId connection);
  // Whether the answer was for this.
  bool on_response(rpc::ConnectionId connection, rpc::RequestId request,
                   const Result<ByteSpan>& message);
  // Whether the volcano at the other end was dialed, and so has the ring key.
  bool has_dialed(rpc::ConnectionId connection) const;
  // Called when this closes a connection that the other made.
  void on_drop(UniqueFunction<void(rpc::ConnectionId)> hook) { drop_hook_ = std::move(hook); }
  // A request of kind `peer`. Requires: it comes from who has the ring key.
  void handle(RequestPtr request);

  // Brings what has arrived to the slots, and what they say on its way. The slots may have work
  // afterwards. Requires: no batch is open.
  void pump();
  Instant deadline() const;

  Stats stats() const { return stats_; }
  bool has_run_with(ring::VolcanoId id) const;
  std::size_t waiting() const;  // messages in queues

  // For tests of the tests. This side no longer begins anew with a run's begin.
  void plant_forgetfulness() { is_forgetful_ = true; }
  // Messages of a run that has ended are still taken, in the next one.
  void plant_lateness() { is_late_ = true; }

 private:
  enum class Phase : std::uint8_t { away, dialing, asking, going };
  using Messages = std::vector<wire::PeerMessage>;
  struct Arrived {
    Messages messages;
    ReplyTarget target;
  };
  struct Begin {  // of a run, by the other: to be done between two batches
    rpc::ConnectionId connection;
    std::uint64_t request = 0;  // to be answered; 0: it is the answer to mine
    std::uint64_t run = 0;      // as the other calls it
    std::vector<wire::PeerSlots> slots{};
  };
  struct Sent {
    std::uint64_t number = 0;
    Instant at{};
  };
  struct Peer {
    ring::VolcanoId id;
    std::string address;
    OwnedSlots slots;
    OwnedSlots served{};          // of these, in this run
    Phase phase = Phase::away;
    rpc::ConnectionId connection{};
    bool is_dialed = false;       // the connection is one that this side made
    Instant dial_at{};
    Duration backoff = kBackoffFirst;
    rpc::RequestId begin_request{};
    Instant asked_at{};
    std::optional<Begin> begin{};
    std::uint64_t my_run = 0, its_run = 0;
    std::vector<Epoch> epochs{};  // by slot
    // ---- to it
    std::deque<wire::PeerMessage> queue{};
    std::size_t queue_bytes = 0;
    std::uint64_t next_number = 1;
    std::map<std::uint64_t, Sent> in_flight{};     // by request id
    // ---- from it
    std::uint64_t expected = 1;
    std::map<std::uint64_t, Arrived> arrived{};    // by number
    Messages late{};                               // planted
  };

  Peer* find(rpc::ConnectionId connection);
  std::vector<wire::PeerSlots> own_slots() const;
  void dial(Peer& peer);
  void ask_to_begin(Peer& peer);
  void lose(Peer& peer, const char* why);
  void forget_run(Peer& peer);
  void on_begin(const Request& request);
  void on_begun(Peer& peer, ByteSpan body);
  void on_messages(const Request& request);
  void begin(Peer& peer);
  bool are_slots_of(const Peer& peer, const std::vector<wire::PeerSlots>& told) const;
  bool is_sound(const Peer& peer, const wire::PeerMessage& message) const;
  void take_arrived(Peer& peer);
  bool has_room(const Peer& peer) const;
  void queue_outgoing();
  void send_queue(Peer& peer);
  void check_time(Peer& peer);
  template <class Reply>
  void answer(ReplyTarget target, wire::FlareOp op, const Reply& reply);
  void refuse(ReplyTarget target, wire::FlareOp op, Code code);

  ring::VolcanoId self_;
  OwnedSlots own_;
  sys::Clock& clock_;
  sys::Random& random_;
  rpc::Endpoint& endpoint_;
  SlotTalk& slots_;
  UniqueFunction<void(Answer)>& send_;
  UniqueFunction<void(rpc::ConnectionId)> drop_hook_;
  std::vector<Peer> peers_;
  std::vector<Peer*> peer_of_;  // by slot; nullptr: an own one
  std::uint64_t generation_;
  Stats stats_;
  bool is_forgetful_ = false;
  bool is_late_ = false;
};

}  // namespace magma
