// What the mount knows of its ring, for /.dht and magma.volcanoes: asked for when somebody looks,
// at most once a second; who looks waits for the answer, but not long. The mount's thread.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "libmagma/client/client.h"
#include "libmagma/client/profiles.h"

namespace magma::mount {

class RingFacts {
 public:
  static constexpr Duration kFresh = seconds(1);
  static constexpr Duration kPatience = seconds(1);  // then what is known must do

  RingFacts(client::Client& client, sys::Clock& clock, client::Profiles& profiles)
      : client_(client), clock_(clock), profiles_(profiles) {}

  // Calls `then`, perhaps inside, when what is known is as of now, or there is no news in time.
  void refresh(UniqueFunction<void()> then);
  Instant deadline() const { return waiting_.empty() ? Instant::never() : until_; }
  void on_timer();
  // Who waits is forgotten: nobody is there any more.
  void drop() { waiting_.clear(); }

  std::optional<wire::RingReply> known{};

 private:
  void take(Result<wire::RingReply> ring);
  void let_go();

  client::Client& client_;
  sys::Clock& clock_;
  client::Profiles& profiles_;
  bool is_asked_ = false;
  std::optional<Instant> told_at_{};
  Instant until_{};
  std::vector<UniqueFunction<void()>> waiting_;
  std::shared_ptr<int> life_ = std::make_shared<int>(0);  // shared with the callback, as weak_ptr
};

}  // namespace magma::mount
