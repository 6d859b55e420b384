#include "magma_tools/remote.h"

#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "libmagma/client/ring_words.h"
#include "libmagma/crypto/path_hash.h"

namespace magma::tools {

namespace {

constexpr std::size_t kOutputPendingMax = 65536;
constexpr std::size_t kOutputPiece = 4096;  // PIPE_BUF: a pipe that may be written takes as much
constexpr int kExitAfterSignal = 128;

std::string host_name() {
  char name[HOST_NAME_MAX + 1] = {};
  if (::gethostname(name, sizeof name - 1) != 0) return "magma";
  return std::string("magma@") + name;
}

}  // namespace

// ---- Driver

Result<std::unique_ptr<Driver>> Driver::make() {
  std::unique_ptr<Driver> driver(new Driver);
  TRY(driver->open());
  return driver;
}

Driver::~Driver() { watch_.reset(); }

Result<void> Driver::open() {
  ::signal(SIGPIPE, SIG_IGN);
  auto socket = sys_real::UdpSocket::bind(sys::Address{});  // "::", which receives IPv4 as well
  if (!socket) socket = sys_real::UdpSocket::bind(sys::Address::v4(0, 0, 0, 0, 0));
  if (!socket) return fail(socket.error());
  socket_ = std::move(*socket);
  TRY_VALUE(watch_, loop_.watch(socket_->fd(), sys_real::kReadable, [this](unsigned events) {
    if ((events & sys_real::kWritable) != 0) socket_->on_writable();
    if ((events & sys_real::kReadable) != 0 && on_datagram_) socket_->receive(on_datagram_);
  }));
  socket_->on_want_writable([this](bool wanted) {
    watch_.set_events(sys_real::kReadable | (wanted ? sys_real::kWritable : 0));
  });
  for (int number : {SIGINT, SIGTERM})
    loop_.on_signal(number, [this, number] {
      if (interrupt_handler_ && interrupt_handler_()) return;
      is_interrupted_ = true;
      if (++interrupts_ > 1) ::_exit(kExitAfterSignal + number);
      loop_.stop();
    });
  return {};
}

Result<bool> Driver::await_fd(int fd, unsigned events, Duration longest) {
  bool is_ready = false;
  TRY_VALUE(auto watch, loop_.watch(fd, events, [this, &is_ready](unsigned) {
    is_ready = true;
    loop_.stop();
  }));
  wake_at_ = clock_.now() + longest;
  while (!is_ready && !is_interrupted_ && wake_at_ != Instant::never()) loop_.run();
  wake_at_ = Instant::never();
  if (is_interrupted_) return fail(Code::interrupted);
  return is_ready;
}

Result<void> Driver::pause(Duration time) {
  wake_at_ = clock_.now() + time;
  while (!is_interrupted_ && wake_at_ != Instant::never()) loop_.run();
  wake_at_ = Instant::never();
  if (is_interrupted_) return fail(Code::interrupted);
  return {};
}

void Driver::wake_if_due() {
  if (wake_at_ > clock_.now()) return;
  wake_at_ = Instant::never();
  loop_.stop();
}

// ---- Network

ring::Key Network::Keys::key_of(Ino ino) {
  return crypto::key_of_child(crypto::key_of_path("/"), std::to_string(ino.value));
}

Result<std::unique_ptr<Network>> Network::attach(const Target& target) {
  TRY_VALUE(auto driver, Driver::make());
  std::unique_ptr<Network> network(new Network(std::move(driver)));
  Driver& d = *network->driver_;
  client::ClientConfig config;
  TRY_VALUE(config.hosts, addresses_of(target));
  config.keys = target.keys;
  config.host_name = host_name();
  config.fail_when_away = true;
  config.stall = kStall;
  config.reach = client::Reach::any;
  network->client_ = std::make_unique<client::Client>(std::move(config), d.clock(), d.random(),
                                                      d.udp(), network->keys_);
  client::Client& client = *network->client_;
  d.drive(client);
  auto attached = d.await<wire::AttachReply>([&client](client::Done<wire::AttachReply> done) {
    client.start(kConnectPatience, std::move(done));
  });
  if (!attached) return fail(connect_error(target, attached.error()));
  network->attached_ = std::move(*attached);
  network->tree_ = std::make_unique<client::Tree>(client, network->attached_, d.clock().wall_now());
  auto ring = d.await<wire::RingReply>(
      [&client](client::Done<wire::RingReply> done) { client.ring(std::move(done)); });
  if (ring) {
    network->ring_ = std::move(*ring);
    network->tree_->profiles.set(*network->ring_, d.clock().wall_now());
  }
  return network;
}

Network::~Network() {
  if (!client_ || !tree_) return;
  driver_->forget_interrupt();
  auto stopped = driver_->await<bool>([this](client::Done<bool> done) {
    client_->stop(kStopPatience, [done = std::move(done)]() mutable { done(true); });
  });
  (void)stopped;  // interrupted: the volcano ends the session ten seconds later
}

Result<client::Flare> Network::resolve(std::string_view path, client::PathWalk::Last last) {
  client::PathWalk walk(*tree_);
  return driver_->await<client::Flare>(
      [&](client::Done<client::Flare> done) { walk.resolve(path, last, std::move(done)); });
}

std::vector<client::Holder> Network::holders(ring::Slot slot) const {
  if (ring_) return client::holders_of(*ring_, slot);
  std::vector<client::Holder> holders;
  // The one that has answered is the only one whose nick is known.
  const auto told = [&](const std::string& address) {
    return !attached_.map.empty() && !attached_.map.front().replicas.empty() &&
           attached_.map.front().replicas.front() == address;
  };
  for (std::string& address : client_->volcanoes_of(slot))
    holders.push_back({told(address) ? attached_.nick : std::string(), std::move(address)});
  return holders;
}

// ---- Host

Result<std::unique_ptr<Host>> Host::connect(const Target& target, const std::string& name,
                                            crypto::Role role, Duration patience) {
  Target one = target;
  one.hosts = {name};
  TRY_VALUE(auto driver, Driver::make());
  std::unique_ptr<Host> host(new Host(std::move(driver)));
  Driver& d = *host->driver_;
  TRY_VALUE(auto addresses, addresses_of(one));
  host->link_ = std::make_unique<client::HostLink>(target.keys, d.clock(), d.random(), d.udp());
  client::HostLink& link = *host->link_;
  d.drive(link);
  auto connected = d.await<sys::Address>([&](client::Done<sys::Address> done) {
    link.connect(addresses, role, patience, std::move(done));
  });
  if (!connected) return fail(connect_error(one, connected.error()));
  host->address_ = *connected;
  return host;
}

Host::~Host() {
  if (!link_) return;
  link_->close();
  link_->flush();
}

// ---- Output

Output::Output(Driver& driver) : driver_(driver) {
  struct stat s {};
  may_block_ = ::fstat(STDOUT_FILENO, &s) == 0 && !S_ISREG(s.st_mode) && !S_ISBLK(s.st_mode);
}

Result<void> Output::print(std::string_view text) {
  pending_ += text;
  if (pending_.size() < kOutputPendingMax) return {};
  return flush();
}

Result<void> Output::line(std::string_view text) {
  pending_ += text;
  return print("\n");
}

Result<void> Output::flush() {
  const std::string text = std::exchange(pending_, {});
  return write(as_bytes(text));
}

Result<void> Output::write(ByteSpan bytes) {
  if (!pending_.empty()) TRY(flush());
  while (!bytes.empty()) {
    std::size_t piece = bytes.size();
    if (may_block_) {
      pollfd one{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
      // /dev/null and the like cannot be waited for, and need not.
      if (::poll(&one, 1, 0) == 0) {
        TRY(driver_.await_fd(STDOUT_FILENO, sys_real::kWritable, seconds(1)));
        continue;
      }
      piece = std::min(piece, kOutputPiece);
    }
    const ssize_t wrote = ::write(STDOUT_FILENO, bytes.data(), piece);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0 && errno == EAGAIN) {
      TRY(driver_.await_fd(STDOUT_FILENO, sys_real::kWritable, seconds(1)));
      continue;
    }
    if (wrote < 0) {
      is_closed_ = errno == EPIPE;
      return fail(code_of_errno(errno), std::string("standard output: ") + std::strerror(errno));
    }
    bytes = bytes.subspan(static_cast<std::size_t>(wrote));
    if (driver_.is_interrupted()) return fail(Code::interrupted);
  }
  return {};
}

}  // namespace magma::tools
