#include "magmad/node_thread.h"

#include <pthread.h>
#include <signal.h>

#include <optional>
#include <thread>
#include <utility>

#include "libmagma/base/log.h"
#include "libmagma/sys_real/clock.h"
#include "libmagma/sys_real/disk_posix.h"
#include "libmagma/sys_real/executor.h"
#include "libmagma/sys_real/random.h"
#include "magmad/store/raft_store.h"

namespace magma {

namespace {

// Only of the loop `main`; shared with what is posted to it, which may come after the end.
struct Outside {
  NodeThread::Callbacks callbacks;
  bool has_ended = false;
};

}  // namespace

struct NodeThread::Inside {
  explicit Inside(sys_real::Loop& m) : main(m), loop(clock) {}

  Result<void> open(const Config& config);
  Result<void> wire_up();
  void begin(Config config, raft::Stored stored);
  void run();
  void tell_failure();

  sys_real::Loop& main;
  std::shared_ptr<Outside> outside = std::make_shared<Outside>();  // shared with posted functions

  sys_real::Clock clock;
  sys_real::Random random;
  sys_real::Loop loop;
  std::unique_ptr<sys_real::PosixDisk> disk;
  std::unique_ptr<raft::Store> store;
  std::unique_ptr<sys_real::UdpSocket> socket;
  std::optional<sys_real::ThreadPool> pool;  // ends before the store: its last write is done then
  std::unique_ptr<node::Node> node;
  sys_real::UdpSocket::OnDatagram on_datagram;
  sys_real::Loop::Watch watch;
  bool has_told_failure = false;
  std::thread thread;
};

Result<void> NodeThread::Inside::open(const Config& config) {
  TRY_VALUE(disk, sys_real::PosixDisk::open_directory(config.directory, false));
  TRY_VALUE(store, store::open_raft_store(*disk));
  return {};
}

Result<void> NodeThread::Inside::wire_up() {
  on_datagram = [this](const sys::Address& from, MutableByteSpan datagram) {
    node->on_datagram(from, datagram);
  };
  TRY_VALUE(watch, loop.watch(socket->fd(), sys_real::kReadable, [this](unsigned events) {
    if ((events & sys_real::kWritable) != 0) socket->on_writable();
    if ((events & sys_real::kReadable) != 0) socket->receive(on_datagram);
  }));
  socket->on_want_writable([this](bool want) {
    watch.set_events(sys_real::kReadable | (want ? sys_real::kWritable : 0));
  });
  loop.set_deadline([this] { return node->deadline(); }, [this] { node->on_timer(); });
  loop.on_flush([this] {
    node->flush();
    tell_failure();
  });
  return {};
}

void NodeThread::Inside::begin(Config config, raft::Stored stored) {
  pool.emplace(loop, 1u);
  node =
      std::make_unique<node::Node>(std::move(config.node), std::move(stored), *store, clock, random,
                                   *socket, *pool, [this](node::RingViewPtr view) {
                                     main.post([out = outside, view = std::move(view)]() mutable {
                                       if (!out->has_ended) out->callbacks.on_view(std::move(view));
                                     });
                                   });
}

void NodeThread::Inside::tell_failure() {
  if (!node->failed() || std::exchange(has_told_failure, true)) return;
  main.post([out = outside, error = *node->failure()] {
    if (!out->has_ended) out->callbacks.on_failed(error);
  });
}

void NodeThread::Inside::run() {
  pthread_setname_np(pthread_self(), "magmad-node");
  loop.run();
  node->stop();
}

NodeThread::NodeThread(std::unique_ptr<Inside> inside) : inside_(std::move(inside)) {}

Result<std::unique_ptr<NodeThread>> NodeThread::start(Config config, sys_real::Loop& main,
                                                      Callbacks callbacks) {
  auto inside = std::make_unique<Inside>(main);
  inside->outside->callbacks = std::move(callbacks);
  TRY(inside->open(config));
  inside->socket = std::move(config.socket);
  TRY_VALUE(raft::Stored stored, inside->store->load());
  TRY(inside->wire_up());
  inside->begin(std::move(config), std::move(stored));
  // Signals are for the main loop.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  inside->thread = std::thread([raw = inside.get()] { raw->run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return std::unique_ptr<NodeThread>(new NodeThread(std::move(inside)));
}

NodeThread::~NodeThread() {
  Inside& in = *inside_;
  in.outside->has_ended = true;
  in.loop.post([&in] { in.loop.stop(); });
  if (in.thread.joinable()) in.thread.join();
  in.node.reset();
  in.pool.reset();
  in.watch.reset();
}

void NodeThread::tick(wire::VolcanoFacts facts) {
  inside_->loop.post([in = inside_.get(), facts = std::move(facts)] { in->node->on_tick(facts); });
}

}  // namespace magma
