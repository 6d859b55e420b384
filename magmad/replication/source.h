// The primary's side of replication: who mirrors the slots of this volcano, how far each has come,
// and until which batch all have what they must have. Batches go to the mirrors as they are
// committed; one that is new, or was away, catches up beside them (catch_up.h).
//
// Whom to wait for. The lava map names the mirrors. One that it has in sync is waited for. One that
// catches up is waited for as soon as it has everything but what is under way (facts()). When it
// has what was answered until then the coordinator is told, and the map may say so at any time from
// then on: only a map with a higher epoch frees the primary. While a mirror that must be waited for
// is away nothing is acknowledged; after kReleaseAfter the coordinator is asked to release it. One
// that the coordinator misses itself is behind by the next map.
//
// While no other volcano has everything of a slot, though there are others (one that is merely
// joining is not yet), nothing is acknowledged before it is on stable storage here: it would be
// lost with this machine's power.
//
// Slots that the map gives to a mirror later than others are a stream of their own
// (libmagma/wire/replica_messages.h), which catches up while the others go on.
//
// Used by the Volcano, on its thread. Sends over the volcano's own endpoint.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "libmagma/ring/map_commands.h"
#include "libmagma/ring/slot_mask.h"
#include "libmagma/rpc/rpc.h"
#include "libmagma/sys/clock.h"
#include "libmagma/sys/random.h"
#include "magmad/node/ring_view.h"
#include "magmad/replication/catch_up.h"
#include "magmad/replication/comparisons.h"
#include "magmad/shard.h"

namespace magma::replication {

class Source {
 public:
  static constexpr Duration kReleaseAfter = seconds(2);
  // So long without any progress, the run is given up: nothing is answered, and no more bytes of
  // what is under way arrive. On a slow path a batch may take longer. A sync waits for a disk.
  static constexpr Duration kAnswerMax = seconds(5);
  static constexpr Duration kWatchEvery = milliseconds(250);
  static constexpr Duration kSyncMax = seconds(60);
  static constexpr Duration kDialPatience = seconds(2);
  static constexpr Duration kDialAgain = milliseconds(200);
  static constexpr std::size_t kCatchUpBytes = 4u << 20;   // of it under way, to one mirror
  static constexpr std::size_t kBacklogBytes = 32u << 20;  // more: answers wait for who catches up
  static constexpr std::size_t kRequestsMax = 512;         // under way, to one mirror

  // `awaits_ring`: nothing is acknowledged before the first map, if this volcano has ever had a
  // mirror in sync, as its storage remembers. References outlive it.
  Source(ring::VolcanoId self, bool awaits_ring, sys::Clock& clock, sys::Random& random,
         rpc::Endpoint& endpoint, Shard& shard, store::MetadataStore& metadata,
         store::ContentStore& content);
  // A bug that tests plant, to see that they would find it: nobody is waited for.
  void plant_impatience() { is_impatient_ = true; }
  // Another: a comparison goes to the mirror after batches that it knows nothing of.
  void plant_disorder() { is_disordered_ = true; }
  ~Source();

  void set_map(const ring::LavaMap& map);
  // After each flush of the shard: nothing is open then.
  void pump();
  Instant deadline() const;
  void on_timer();
  // Whether it is about a connection or request of this.
  bool on_connected(rpc::ConnectionId connection);
  bool on_closed(rpc::ConnectionId connection);
  bool on_response(rpc::ConnectionId connection, rpc::RequestId request,
                   const Result<ByteSpan>& message);

  // Compares a piece with that mirror. Errors as Comparisons, and not_found: it is no mirror.
  void compare(wire::CompareRequest request, Comparisons::Done done);

  // Whether that volcano has everything of these slots that was ever committed here.
  bool has_all(ring::VolcanoId id, const ring::SlotMask& slots) const;
  // Whether every mirror that is there, or must be waited for, has all that was committed.
  bool has_told_all() const;

  // For tests of the tests: answers do not wait for this volcano's own disk.
  void plant_carelessness() { is_careless_ = true; }

  // For the coordinator; what it says may bind this volcano (above).
  std::vector<wire::MirrorFact> facts();
  struct Stats {
    std::uint64_t batches = 0, pieces = 0, bytes = 0, copies = 0, catch_ups = 0, runs_lost = 0;
    Comparisons::Stats compared{};
  };
  Stats stats() const;

 private:
  struct Live {  // in the order of batches
    std::uint64_t batch = 0;
    std::shared_ptr<const Effects> effects;
    std::size_t bytes = 0;
    std::uint64_t sync = 0;  // then it is one, and no batch
  };
  struct Sent {
    wire::FlareOp op{};
    std::uint64_t batch = 0;       // of a live one
    std::uint64_t sync = 0;        // of a sync that somebody waits for; both 0: of the catching up
    std::uint64_t comparison = 0;  // or, not 0: of that comparison
    std::size_t bytes = 0;         // of the last message of a live one: all of it
    Instant at{};
    wire::MirrorRange checked{};
    bool is_whole_mark = false;
    bool waits_for_disk() const {
      return op == wire::FlareOp::mirror_sync || op == wire::FlareOp::mirror_scrub;
    }
  };
  // What was under way at some moment, up to a request, and how much of it was left when that last
  // changed. What is sent later says nothing: a mirror that hangs takes that, too.
  struct Watch {
    std::uint64_t last_request = 0;
    std::size_t left = 0;
    Instant since{};
    Instant next = Instant::never();
  };
  enum class Phase : std::uint8_t { away, dialing, greeting, going };
  struct Mirror {  // a stream to it
    ring::VolcanoId id;
    std::uint16_t stream = 0;
    ring::SlotMask slots{};
    std::string address;
    Phase phase = Phase::away;
    rpc::ConnectionId connection{};
    Instant dial_at{};
    Instant away_since{};
    std::uint64_t run = 0;
    std::uint64_t next_number = 1;
    std::optional<wire::MirrorHelloReply> greeted{};  // its catching up is to begin
    std::unique_ptr<CatchUp> catch_up;
    bool has_marked = false;  // a whole mark was sent since it caught up last
    bool is_whole = false;    // it has everything but what is under way
    bool is_synced = false;   // what it caught up is on stable storage
    bool marks_answered = false;
    std::deque<Live> queue;
    std::map<std::uint64_t, Sent> sent;  // by request id: in their order
    Watch watch;
    std::size_t live_bytes = 0;          // queued or sent
    std::uint64_t answered = 0;          // has this batch and all before that were sent to it
    std::uint64_t confirmed = 0;         // the same while it is whole: it has everything then
    std::uint64_t synced = 0;            // has done this sync and all before, while it is whole
    // What the map and the coordinator make of it.
    bool is_in_sync = false;  // as the map says, with one of the slots at least
    Epoch epoch;              // of the first slot in the map
    wire::SlotsFact about{};  // its slots, as the map has them
    std::vector<ring::SlotAt> told_in_sync{};  // the coordinator was told so, or is about to be
    // So much may have been answered without it.
    std::uint64_t answered_batch = 0, answered_sync = 0;
    bool has_what_was_answered() const {
      return confirmed >= answered_batch && synced >= answered_sync;
    }
    bool must_be_released(Instant now) const;
    bool must_have() const { return is_in_sync || !told_in_sync.empty(); }
  };
  struct Backup {  // of a volcano, as the map has it
    ring::SlotMask all{}, in_sync{};
  };

  std::map<ring::VolcanoId, Backup> backups_of(const ring::LavaMap& map) const;
  void drop_slots(const std::map<ring::VolcanoId, Backup>& backups);
  void add_streams(const std::map<ring::VolcanoId, Backup>& backups);
  Mirror& add_stream(ring::VolcanoId id);
  void note_told(Mirror& mirror);
  void dial(Mirror& mirror);
  void greet(Mirror& mirror);
  void lose(Mirror& mirror, const char* why);
  Result<void> begin_catch_up(Mirror& mirror);
  void send_live(Mirror& mirror);
  Result<void> send_catch_up(Mirror& mirror);
  void send(Mirror& mirror, Piece piece, Sent sent);
  static void note_sent(Mirror& mirror, rpc::RequestId request, const Sent& sent);
  void mark_whole(Mirror& mirror);
  // source_compare.cc
  bool has_everything(const Mirror& mirror) const;
  void send_comparisons(Mirror& mirror);
  void send_comparison(Mirror& mirror, Comparisons::Asked asked);
  void answered(Mirror& mirror, const Sent& sent, ByteSpan body);
  bool has_lone_slots(const ring::LavaMap& map) const;
  void sync_what_is_alone();
  void confirm(Mirror& mirror);
  void on_batch(Effects effects);
  void on_sync(std::uint64_t sync);
  void listen();
  void settle();
  bool is_blind() const { return awaits_ring_ && has_promised_ && !map_version_; }
  Result<void> begin_promise();
  std::size_t left_up_to(const Mirror& mirror, std::uint64_t request) const;
  void watch(Mirror& mirror);
  bool is_stuck(const Mirror& mirror) const;
  void ask_if_there(Mirror& mirror);
  Mirror* find(rpc::ConnectionId connection);

  const ring::VolcanoId self_;
  sys::Clock& clock_;
  sys::Random& random_;
  rpc::Endpoint& endpoint_;
  Shard& shard_;
  store::MetadataStore& metadata_;
  store::ContentStore& content_;
  const bool awaits_ring_;
  std::optional<std::uint64_t> map_version_{};
  std::vector<Epoch> epochs_;  // of the slots in the map
  std::vector<std::unique_ptr<Mirror>> mirrors_;
  std::uint64_t last_sync_ = 0;
  Comparisons comparisons_;
  bool is_impatient_ = false;                      // planted
  bool is_disordered_ = false;                     // planted
  std::optional<Comparisons::Asked> held_back_{};  // planted: goes after the batch held_at_
  std::uint64_t held_at_ = 0;
  // On stable storage: the coordinator may have been told that a mirror is in sync.
  bool has_promised_ = false;
  bool wants_to_promise_ = false;
  bool is_promising_ = false;
  std::shared_ptr<int> life_ = std::make_shared<int>(0);  // shared with callbacks, as weak_ptr
  bool is_listening_ = false;
  bool is_ready_ = false;  // a read of a catch-up, or a sync, is done: pump() goes on
  bool is_alone_ = false;  // with some slots
  std::uint64_t own_synced_ = 0;  // batches that are on stable storage here, while it is alone
  bool is_syncing_own_ = false;
  bool is_careless_ = false;  // planted
  Stats stats_;
};

}  // namespace magma::replication
