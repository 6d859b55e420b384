// A volcano: one storage directory, one flare port. Wires the rpc endpoint to a shard; main.cc
// gives it the real clock, sockets and disk, the simulator gives it simulated ones. Sans I/O, one
// thread (the shard's): fed by on_datagram, flush after each batch, on_timer at deadline().
//
// All requests of one batch are one transaction; answers leave in flush(), after the commit.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/crypto/network_key.h"
#include "libmagma/rpc/rpc.h"
#include "libmagma/sys/clock.h"
#include "libmagma/sys/datagrams.h"
#include "libmagma/sys/disk.h"
#include "libmagma/sys/executor.h"
#include "libmagma/sys/random.h"
#include "libmagma/wire/operator_messages.h"
#include "magmad/census.h"
#include "magmad/node/ring_view.h"
#include "magmad/releases.h"
#include "magmad/report.h"
#include "magmad/slot_owners.h"
#include "magmad/tokens.h"

namespace magma {

class ConsoleGateway;

// What an unclean end of an earlier process left to be put right, by whoever serves or mirrors the
// slots next in this one.
struct AfterCrash {
  bool is_unclean = false;                // slots that were served were not taken up since
  std::vector<wire::MirrorRange> torn{};  // ranges whose bytes may be between two states
};

// Who believes what of slots that only this process has served since it was told.
struct CarriedTokens {
  Tokens tokens;
  ring::SlotMask of{};
};

struct VolcanoConfig {
  std::string nick;                 // 1-63 of [A-Za-z0-9._-]
  std::string fqdn;
  sys::Address address;             // flare address and port as others reach it
  crypto::Uuid filesystem{};
  crypto::Keyring keys;             // network secret or ring and client keys
  std::uint64_t small_file_bytes_max = 65536;  // 0 to 1 MiB; fixed when the network is made
  std::size_t datagram_bytes_max = rpc::kDatagramBytesMax;
  ring::VolcanoId self = ring::kFounder;  // its number in the ring
  // A number of this start of the machine; 0: not known, then each unclean end may have been a loss
  // of power.
  std::uint64_t machine_boot = 0;
  // False: it serves no slots, but may mirror another volcano's (magmad/replication/mirror.h).
  // It answers what operators ask, and tells who attaches who has slots; everything else of clients
  // with not_primary.
  bool serves = true;
  // A volcano that serves: if it has ever had mirrors nobody is answered before it knows the lava
  // map (set_ring), because there may be some that must have what it acknowledges.
  bool awaits_ring = false;
  // Which volcano is primary of which slot; none: this one of all. `self` has at least one, if
  // it serves (ADR 9).
  std::optional<SlotOwners> owners{};
  // Claims the slots that the lava map newly gives to it (core/tenure_rules.h); to serve them is
  // for another Volcano (tenures.h).
  bool claims_slots = false;
  // Tells nobody anything of its slots while its lease (RingView::lease_until) is over: the ring
  // may have called it down, and another serve them.
  bool needs_lease = false;
  unsigned pretended_parts = 0;  // for tests (ShardConfig)
  std::vector<SessionId> believers{};  // as ShardConfig
  bool may_others_believe = false;
  // Of the Volcano before this one in the process, if there was one.
  AfterCrash after_crash{};
  std::optional<CarriedTokens> carried{};
};

// Slots that a volcano leaves to another one.
struct HandOver {
  ring::VolcanoId to;
  ring::SlotMask slots{};
};

struct VolcanoStats {
  std::uint64_t requests = 0, changes = 0, replays = 0, refused = 0, io_errors = 0;
  std::uint64_t batches = 0, operations = 0, operations_recovered = 0, sessions = 0;
  std::uint64_t ranges_recovered = 0;
  std::uint64_t tokens = 0, notices_sent = 0, notices_expired = 0, answers_held = 0;
};

class Volcano final : public rpc::Handler {
 public:
  // Opens the storage under `disk` (`create`: makes an empty tree there first; exists if there is
  // one already), recovers from an unclean end, and is ready to serve when it returns. Blocks.
  static Result<std::unique_ptr<Volcano>> start(VolcanoConfig config, bool create,
                                                sys::Clock& clock, sys::Random& random,
                                                sys::Datagrams& datagrams, sys::Disk& disk,
                                                sys::Executor& executor);
  ~Volcano() override;

  void on_datagram(const sys::Address& from, MutableByteSpan datagram);
  void flush();
  Instant deadline() const;
  void on_timer();

  // The end is near: clients' requests are refused from now on (they wait and come again), so that
  // mirrors get to have everything. is_quiet(): they do, or it has taken kQuietMax.
  static constexpr Duration kQuietMax = seconds(2);
  void begin_stop();
  bool is_ending() const;
  bool is_quiet() const;
  // Clean stop: no new requests, everything synced, clients told, the clean mark written. Blocks.
  // Slots that are left to a mirror which has everything of them: the storage remembers that this
  // volcano has what the mirror has, so that it need not be compared when they change places.
  Result<void> stop(const std::vector<HandOver>& left = {});
  // For the next Volcano of this process.
  AfterCrash after_crash() const;
  // What those have said of whom it claims slots.
  const Released& released() const;
  // Whether some of the slots that it claims were served last by a volcano that is away.
  bool is_after_loss() const;
  // The slots it serves.
  const ring::SlotMask& owned() const;
  // Who may believe what it has told; with those that it was told of itself.
  std::vector<SessionId> believers() const;
  Tokens take_tokens();  // after stop()

  const VolcanoConfig& config() const;
  VolcanoStats stats() const;
  const rpc::Counters& rpc_counters() const;
  // As Source::plant_impatience(), plant_disorder(), plant_carelessness().
  void plant_impatience();
  void plant_disorder();
  void plant_carelessness();
  // As Peers::plant_...().
  void plant_forgetful_peers();
  void plant_late_peers();
  // For operators: what is in memory now; of each list at most `lines_max` lines.
  VolcanoReport report(std::size_t lines_max);
  Census& census();                // counts its flares, when stepped
  Result<sys::DiskSpace> space();  // of the storage directory's disk
  // The console that `console` requests talk to; nullptr: none. It outlives this, or is taken away.
  void set_console(ConsoleGateway* console);
  // What the node knows of the ring, from now on: whoever the map has as replicas beside this
  // volcano is its mirror. nullptr: nothing (tests without a node).
  void set_ring(node::RingViewPtr view);
  const node::RingViewPtr& ring() const;
  // For the ring's status: what this volcano holds, as far as it was counted.
  wire::VolcanoFacts facts();
  // What a `compare` asks: a piece of what this volcano has, compared with a mirror's. Errors:
  // not_primary (it serves no slots), those of the stores.
  void compare(wire::CompareRequest request, UniqueFunction<void(Result<wire::CompareReply>)> done);
  // Called for each `status`, to add counters that the process has besides.
  void add_counters(UniqueFunction<void(std::vector<wire::StatusCounter>&)> source);
  // A `shutdown` was answered: the process should stop() and end.
  bool stop_wanted() const;
  // Whether the storage has failed for good (a sync failed): the process should end.
  bool failed() const;

  // rpc::Handler
  void on_connected(rpc::ConnectionId connection, const rpc::PeerInfo& peer) override;
  void on_closed(rpc::ConnectionId connection, const Error& reason) override;
  void on_request(rpc::ConnectionId connection, rpc::RequestId request, ByteSpan message) override;
  void on_cancel(rpc::ConnectionId connection, rpc::RequestId request) override;
  void on_response(rpc::ConnectionId connection, rpc::RequestId request,
                   Result<ByteSpan> message) override;

 private:
  struct Parts;
  explicit Volcano(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace magma
