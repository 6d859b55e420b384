// A lava network in one process and in simulated time, from one seed: volcanoes on simulated disks,
// clients, and the network between them. The Volcano and Client classes are the ones that run for
// real; clock, randomness, datagrams, disk and store threads are simulated. The same seed and the
// same calls give the same run, which trace() sums up.
//
// A volcano can be stopped cleanly, killed (the kernel and its page cache live), or lose power
// (what was not synced is gone, in part), at any moment or after its k-th change of the disk. A
// client can leave or vanish. Datagrams are lost, doubled, delayed, reordered, corrupted, cut off.
//
// With `split`, so many volcanoes are primaries of some slots each (ADR 9), and with `copies` they
// mirror each other's. Else volcano 0 is the primary; with `mirrors`, volcanoes 1, 2 ... mirror it.
// Where there are mirrors a SimCoordinator tells all of the lava map; else nobody does. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "libmagma/client/client.h"
#include "libmagma/sys/clock.h"
#include "libmagma/sys/datagrams.h"
#include "magmad/tenures.h"
#include "magmad/volcano.h"
#include "tests/lib/faulty_disk.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/sim_executor.h"
#include "tests/lib/sim_loop.h"
#include "tests/lib/store_fixture.h"

namespace magma::test {

// Chances are per datagram, in one thousand.
struct NetworkFaults {
  unsigned loss = 0;
  unsigned duplicate = 0;
  unsigned reorder = 0;  // delayed by up to `reorder_delay_max` more
  unsigned corrupt = 0;  // one bit
  Duration delay_min = microseconds(30);
  Duration delay_max = microseconds(120);
  Duration reorder_delay_max = milliseconds(8);
};

// How slots are dealt out to several primaries.
enum class Spread : std::uint8_t {
  runs,    // to each a run of neighbours
  hashed,  // neighbours are mostly of different ones
};

enum class Crash : std::uint8_t {
  kill,       // kill -9: nothing written is lost
  power_cut,  // machine crash: what was not synced may be lost
};

class SimNode;
class SimVolcano;
class SimClient;
class SimCoordinator;
struct SimStorage;

class SimCluster {
 public:
  struct Options {
    std::uint64_t seed = 1;
    unsigned clients = 1;
    bool loopback = true;  // large datagrams, few packets; else paths by the seed, see path_bytes()
    std::uint64_t small_file_bytes_max = 65536;
    unsigned mirrors = 0;
    unsigned pretended_parts = 0;  // ShardConfig: slots as if of several volcanoes
    unsigned split = 0;            // primaries, beginning with volcano 0; 0: it is the only one
    unsigned copies = 1;           // of each slot, with `split`: on the next owners
    Spread spread = Spread::runs;
    // With `split`: volcano 0 has all slots at first, and the others join: they get their shares
    // by the lava map, while it runs (magmad/tenures.h).
    bool moving = false;
    client::Reach reach = client::Reach::direct;
    unsigned host = 0;  // whom clients know to begin with; with `split` others, too
    bool delays_writes = false;  // clients do (libmagma/client/write_back.h)
    bool fails_when_away = false;  // onfail=eio
  };
  explicit SimCluster(Options options);
  ~SimCluster();

  // `index`: which volcano; 0 is the primary. The first start of each makes its storage, which is
  // a filesystem only on the primary. False: it failed, see last_error().
  bool start_volcano(unsigned index = 0);
  bool stop_volcano(unsigned index = 0);  // cleanly
  void crash_volcano(Crash how, unsigned index = 0);
  // Crashes it after `changes` more changes of its disk; the disk's state is exactly that.
  void crash_volcano_after(std::uint64_t changes, Crash how, unsigned index = 0);
  bool volcano_runs(unsigned index = 0) const;
  bool primaries_run() const;  // all of them
  Volcano& volcano(unsigned index = 0);  // another one after a change of its slots
  Tenures& tenures(unsigned index);
  std::uint64_t changes_of_slots(unsigned index) const;  // of the volcano while it ran, so far
  // What it served when it ended last; none: it was just changing.
  const std::optional<ring::SlotMask>& served_at_end(unsigned index) const;
  SimDisk& disk(unsigned index = 0);
  FaultyDisk& faulty_disk(unsigned index = 0);
  bool is_split() const { return options_.split > 0; }
  bool is_moving() const { return options_.moving; }
  unsigned copies() const { return is_split() ? options_.copies : volcanoes(); }
  // Who is primary of which slot, at first if they move. Requires: the slots are split.
  const SlotOwners& owners() const { return *owners_; }
  unsigned volcanoes() const { return static_cast<unsigned>(volcanoes_.size()); }
  // Its disk does nothing more, without an error, until it is let go on or the volcano is started.
  void hang_disk(unsigned index, bool hangs);
  // Lets the volcano send what a call from outside has made it say.
  void touch_volcano(unsigned index);
  Instant volcano_now(unsigned index);  // by its own clock
  sys::Address volcano_address(unsigned index) const;
  std::string nick_of(unsigned index) const;
  std::uint64_t starts_of(unsigned index) const;  // how often it was started
  // The volcano's disk is gone for good; it gets an empty one. Requires: it does not run.
  void lose_disk(unsigned index);
  // The primary is gone for good, with its disk: volcano 0 is from now on whoever has the disk of
  // `mirror`, at the address of the primary, and nobody mirrors it. Requires: neither runs.
  void replace_primary(unsigned mirror);
  // Who keeps the lava map. Requires: there are mirrors, and replace_primary was not called.
  SimCoordinator& coordinator() { return *coordinator_; }

  // Connects client `index` (made anew if it was gone) and waits for it.
  bool start_client(unsigned index, const crypto::Keyring* other_keys = nullptr);
  // Who is told of changes that come to client `index`, now and when it is made anew; it outlives
  // the cluster, or is taken away with nullptr.
  void set_listener(unsigned index, client::ChangeListener* listener);
  void stop_client(unsigned index);    // cleanly
  void vanish_client(unsigned index);  // dies without a word
  // Lets the client send what a call has queued; after each call from outside a callback.
  void touch_client(unsigned index);
  client::Client& client(unsigned index);
  Instant client_now(unsigned index);  // by its own clock
  bool client_exists(unsigned index) const;
  unsigned clients() const { return static_cast<unsigned>(clients_.size()); }

  NetworkFaults faults;
  void partition_client(unsigned index, bool cut);  // both ways
  // The same with one volcano only.
  void cut_client(unsigned index, unsigned volcano, bool cut);
  // Nothing gets from one volcano to the other (one direction).
  void cut_volcanoes(unsigned from, unsigned to, bool cut);
  // Datagrams of volcanoes are dropped (requests still arrive and are done).
  void drop_replies(bool drop) { drop_replies_ = drop; }

  // Runs until `condition` or for at most `limit`; whether it came true.
  bool run_until(UniqueFunction<bool()> condition, Duration limit);
  void run_for(Duration time);

  SimLoop& loop() { return loop_; }
  SeedRandom& random() { return random_; }
  Instant now() const { return loop_.now(); }
  std::uint64_t trace() const { return trace_; }
  const std::string& last_error() const { return last_error_; }
  const crypto::Keyring& keys() const { return keys_; }

  struct Counters {
    std::uint64_t datagrams = 0, lost = 0, duplicated = 0, reordered = 0, corrupted = 0;
    std::uint64_t kills = 0, power_cuts = 0, clean_stops = 0, starts = 0, mirror_starts = 0;
  };
  const Counters& counters() const { return counters_; }

 private:
  friend class SimNode;
  friend class SimVolcano;
  friend class SimClient;
  void send(SimNode& from, const sys::Address& to, ByteSpan bytes, std::size_t segment_size);
  void deliver(const sys::Address& from, const sys::Address& to, Bytes datagram);
  std::size_t path_bytes() const;
  void plan_delivery(const sys::Address& from, const sys::Address& to, Bytes datagram);
  bool is_cut(const SimNode& from, const sys::Address& to) const;
  void step(Instant limit);
  void run_timers();
  void flush_nodes();
  void crash_now(SimVolcano& volcano);
  void split_slots();
  void crash_who_is_due();
  SimNode* node_at(const sys::Address& address);
  void mix(std::uint64_t value) { trace_ = (trace_ ^ value) * 0x100000001b3ULL + (trace_ >> 47); }
  bool one_in_thousand(unsigned chance) { return chance != 0 && random_.below(1000) < chance; }

  Options options_;
  SimLoop loop_;
  SeedRandom random_;
  crypto::Keyring keys_;
  crypto::Uuid filesystem_{};
  std::vector<std::unique_ptr<SimStorage>> lost_storages_;  // files of theirs may still be open
  std::vector<std::unique_ptr<SimVolcano>> volcanoes_;
  std::vector<std::unique_ptr<SimClient>> clients_;
  std::unique_ptr<SimCoordinator> coordinator_;
  std::optional<SlotOwners> owners_{};
  std::set<sys::Address> cut_;
  std::set<std::pair<sys::Address, sys::Address>> cut_ways_;
  bool drop_replies_ = false;
  std::uint64_t trace_ = 0xcbf29ce484222325ULL;
  std::string last_error_;
  Counters counters_;
};

}  // namespace magma::test
