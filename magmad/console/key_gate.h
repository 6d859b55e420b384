// Compares typed keys with the network's. Each check takes kCheckTime, whether the key is right or
// not and of what kind it is, and one runs at a time: so many keys a second can be tried at the
// whole console, by however many connections. The scrypt of a pass-phrase (70 ms, 32 MiB) runs on
// the executor, one at a time. The loop's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>

#include "libmagma/crypto/network_key.h"
#include "libmagma/sys/clock.h"
#include "libmagma/sys/executor.h"
#include "magmad/console/backend.h"

namespace magma::console {

// Whether `text` is the network key of `keys`: its 64 hex digits, the line of a key file, or the
// pass-phrase it was made from. Constant time in the secret; blocks for scrypt.
bool is_network_key(std::string_view text, const crypto::Secret& network,
                    const crypto::Uuid& filesystem);

class KeyGate {
 public:
  static constexpr Duration kCheckTime = seconds(1);

  KeyGate(const crypto::Keyring& keys, const crypto::Uuid& filesystem, sys::Clock& clock,
          sys::Executor& executor);
  ~KeyGate();

  // unsupported if this volcano has no network key to compare with.
  PendingPtr check(std::string key, Done<bool> done);
  Instant deadline() const;
  void on_timer();
  std::size_t waiting() const { return waiting_.size(); }

 private:
  struct Check {
    std::uint64_t id = 0;
    std::string key;
    Done<bool> done;
  };
  class Given;  // what check() returns

  void start_next();
  void give_up(std::uint64_t id);

  crypto::Keyring keys_;
  crypto::Uuid filesystem_;
  sys::Clock& clock_;
  sys::Executor& executor_;
  std::deque<Check> waiting_;  // the first is being checked if is_running_
  std::uint64_t last_id_ = 0;
  bool is_running_ = false;
  bool has_result_ = false;
  bool result_ = false;
  Instant started_{};
  // Shared with the executor's completions and the objects given out, as weak_ptr: they may
  // outlive us.
  std::shared_ptr<KeyGate*> self_ = std::make_shared<KeyGate*>(this);
};

}  // namespace magma::console
