// The console's `shutdown` while it is under way: ends the other volcanoes of the ring in order
// (client::RingStop) over a socket of its own, and tells who listens. The owner ends this volcano
// after it. The loop's thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "libmagma/client/ring_stop.h"
#include "magmad/console/backend.h"
#include "magmad/console/ring_files.h"

namespace magma::console {

class RingShutdown {
 public:
  using Tell = UniqueFunction<void(std::string)>;

  // `others`: who is ended, in this order. References outlive it.
  RingShutdown(std::vector<client::StopStep> others, std::string who, const crypto::Keyring& keys,
               sys::Clock& clock, sys::Random& random, RingFiles& sockets);
  ~RingShutdown();

  // `tell` gets a line for each of the others that comes to its end from now on, `done` is called
  // by finish(); neither once the returned object is gone.
  PendingPtr listen(Tell tell, UniqueFunction<void()> done);
  void flush();
  Instant deadline() const;
  void on_timer();
  // The others have ended, or could not be ended.
  bool is_over() const { return is_over_; }
  // Who serves slots was asked, and did not end: then nobody else should.
  bool has_failed() const { return has_failed_; }
  // Says a last line, if it is not empty.
  void finish(const std::string& line);

 private:
  struct Listener {
    Tell tell;
    UniqueFunction<void()> done;
  };
  using Listeners = std::map<std::uint64_t, Listener>;
  class Waiter;
  void tell_all(const std::string& line);

  std::shared_ptr<Listeners> listeners_ = std::make_shared<Listeners>();  // shared with waiters
  std::uint64_t last_listener_ = 0;
  bool is_over_ = false;
  bool has_failed_ = false;
  std::unique_ptr<RingSocket> socket_;
  std::unique_ptr<client::RingStop> stop_;  // ends before socket_
};

}  // namespace magma::console
