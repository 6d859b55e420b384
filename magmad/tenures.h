// A volcano that serves what the lava map gives to it, which may change while it runs. A *tenure*
// is the time in which it serves the same slots, knowing the same owners of the others: one
// Volcano. For the next one it ends that as if the process stopped cleanly, and begins another on
// the same storage, socket and threads, as if it started: so everything that holds of a restart
// holds of a change of slots, and nothing else has to be true (doc/adr/0011-tenures.md). Clients'
// connections end with it; they come again, within their sessions.
//
// core/tenure_rules.h says which slots it may serve; as soon as the map takes one away nothing more
// is taken on, and what was is finished with the mirrors of before. One thread, the volcano's.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "magmad/volcano.h"

namespace magma {

class Tenures {
 public:
  // Maps come several at a time; the last of them counts.
  static constexpr Duration kSettle = milliseconds(30);

  // As Volcano::start. `follows_map`: without a map it serves nothing, unless it makes its storage
  // (`create`), and then what the config says until there is one.
  static Result<std::unique_ptr<Tenures>> start(VolcanoConfig config, bool create,
                                                bool follows_map, sys::Clock& clock,
                                                sys::Random& random, sys::Datagrams& datagrams,
                                                sys::Disk& disk, sys::Executor& executor);

  Volcano& volcano() { return *volcano_; }
  // Called with each new Volcano, to be told what the one before was (console, counters).
  void on_next(UniqueFunction<void(Volcano&)> hook) { next_hook_ = std::move(hook); }
  std::uint64_t count() const { return count_; }  // of tenures, the first is 1
  // It does what the lava map wants of it, as far as it can alone: it serves its slots and has a
  // lease, or has none.
  bool is_settled() const;
  // Power was lost, and with it perhaps what others have: the ring has yet to be told of it with
  // this start (wire::AnnounceRequest). Remembered in the storage until it is.
  bool has_lost() const { return has_lost_; }

  void set_ring(node::RingViewPtr view);
  // As Volcano::facts; nothing of mirrors while the next tenure is due.
  wire::VolcanoFacts facts();
  void on_datagram(const sys::Address& from, MutableByteSpan datagram);
  void flush();
  Instant deadline() const;
  void on_timer();
  // Whether the storage has failed for good, or could not be opened for the next tenure: the
  // process should end.
  bool failed() const;
  Result<void> stop();

 private:
  struct Share {  // what a tenure is of
    bool serves = false;
    SlotOwners owners{};
  };
  Tenures(VolcanoConfig config, bool follows_map, sys::Clock& clock, sys::Random& random,
          sys::Datagrams& datagrams, sys::Disk& disk, sys::Executor& executor);

  Share first_share(bool create) const;
  Share share_by(const ring::LavaMap& map) const;
  bool is_current(const Share& share) const;
  void note_believers();
  void note_told_loss(const node::RingView& view);
  static bool is_usable(const node::RingView& view);
  void look_at_map();
  void end_tenure();
  void next_tenure();
  Result<void> begin(bool create);
  std::vector<HandOver> left_to(const ring::LavaMap& map, const Share& next) const;

  VolcanoConfig config_;
  const bool follows_map_;
  sys::Clock& clock_;
  sys::Random& random_;
  sys::Datagrams& datagrams_;
  sys::Disk& disk_;
  sys::Executor& executor_;
  std::unique_ptr<Volcano> volcano_;
  std::optional<Share> share_;  // none: it does not follow a map
  node::RingViewPtr view_;
  Instant due_ = Instant::never();  // the next tenure
  bool is_ending_ = false;
  std::vector<SessionId> believers_;
  bool may_others_believe_ = false;
  AfterCrash after_crash_{};
  ring::SlotMask kept_{};  // nobody else can have served them since the tenure began
  std::optional<CarriedTokens> carried_{};
  std::uint64_t count_ = 0;
  bool has_lost_ = false;
  std::optional<Error> failure_{};
  UniqueFunction<void(Volcano&)> next_hook_;
};

}  // namespace magma
