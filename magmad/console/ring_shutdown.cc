#include "magmad/console/ring_shutdown.h"

#include <utility>

#include "libmagma/base/log.h"

namespace magma::console {

class RingShutdown::Waiter final : public Pending {
 public:
  Waiter(std::shared_ptr<Listeners> listeners, std::uint64_t id)
      : listeners_(std::move(listeners)), id_(id) {}
  ~Waiter() override { listeners_->erase(id_); }

 private:
  std::shared_ptr<Listeners> listeners_;  // shared with the shutdown, which may go first
  std::uint64_t id_;
};

RingShutdown::RingShutdown(std::vector<client::StopStep> others, std::string who,
                           const crypto::Keyring& keys, sys::Clock& clock, sys::Random& random,
                           RingFiles& sockets) {
  is_over_ = others.empty();
  if (is_over_) return;
  auto socket = sockets.open_socket([this](const sys::Address& from, MutableByteSpan datagram) {
    if (stop_) stop_->on_datagram(from, datagram);
  });
  if (!socket) {
    log_error("shutdown_alone error={}", describe(socket.error()));
    is_over_ = true;
    return;
  }
  socket_ = std::move(*socket);
  auto tell = [this](const client::StopStep& step, client::StopResult result,
                     std::string_view detail) {
    const bool has_ended = result == client::StopResult::ended;
    const bool stays = result == client::StopResult::refused || result == client::StopResult::stays;
    has_failed_ = has_failed_ || (step.is_primary && stays);
    const std::string text = client::stop_text(step, result, detail);
    if (has_ended)
      log_info("shutdown_of nick={} ended=true", step.nick);
    else
      log_warning("shutdown_of nick={} ended=false detail={}", step.nick, text);
    tell_all(text);
  };
  stop_ = std::make_unique<client::RingStop>(std::move(others), std::move(who), keys, clock, random,
                                             socket_->datagrams(), std::move(tell),
                                             [this] { is_over_ = true; });
}

RingShutdown::~RingShutdown() = default;

PendingPtr RingShutdown::listen(Tell tell, UniqueFunction<void()> done) {
  const std::uint64_t id = ++last_listener_;
  listeners_->emplace(id, Listener{std::move(tell), std::move(done)});
  return std::make_unique<Waiter>(listeners_, id);
}

// Who is told may end its session, and with it other listeners.
void RingShutdown::tell_all(const std::string& line) {
  std::vector<std::uint64_t> ids;
  for (const auto& [id, listener] : *listeners_) ids.push_back(id);
  for (const std::uint64_t id : ids) {
    auto found = listeners_->find(id);
    if (found != listeners_->end()) found->second.tell(line);
  }
}

void RingShutdown::finish(const std::string& line) {
  if (!line.empty()) tell_all(line);
  while (!listeners_->empty()) {
    auto listener = listeners_->extract(listeners_->begin());
    listener.mapped().done();
  }
}

void RingShutdown::flush() {
  if (stop_) stop_->flush();
}

Instant RingShutdown::deadline() const { return stop_ ? stop_->deadline() : Instant::never(); }

void RingShutdown::on_timer() {
  if (stop_) stop_->on_timer();
}

}  // namespace magma::console
