// magmad: one volcano as a process. Reads the command line, prepares or opens the storage
// directory, and gives the Volcano its real clock, socket, disk and threads.
//
// Exit codes: 0 clean end; 1 wrong usage; 64 set-up failed (directory, key, address); 70 the
// storage failed while serving.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <string>
#include <utility>

#include "config.h"
#include "libmagma/base/log.h"
#include "libmagma/sys_real/clock.h"
#include "libmagma/sys_real/daemonize.h"
#include "libmagma/sys_real/disk_posix.h"
#include "libmagma/sys_real/executor.h"
#include "libmagma/sys_real/loop.h"
#include "libmagma/sys_real/memory.h"
#include "libmagma/sys_real/random.h"
#include "libmagma/sys_real/udp.h"
#include "magmad/console/console.h"
#include "magmad/console/gateway.h"
#include "magmad/console_port.h"
#include "magmad/node_thread.h"
#include "magmad/options.h"
#include "magmad/storage_setup.h"
#include "magmad/store/storage_dir.h"
#include "magmad/tenures.h"
#include "magmad/volcano.h"

namespace magma {
namespace {

constexpr Duration kSpin = microseconds(30);        // polling for the next request of a busy client
constexpr Duration kSpinAfter = microseconds(300);  // the last one
// After the console's `shutdown`: whoever typed it gets the answer, over the flare protocol too.
constexpr Duration kLastWords = milliseconds(200);
// A ring that is started as a whole elects a coordinator 3 s after the last vote it needs.
constexpr Duration kReadyPatience = seconds(5);
constexpr Duration kTickEvery = milliseconds(400);  // well below node::kTickFresh
constexpr Duration kTickOften = node::kNewsEvery;   // while mirrors are not in sync
constexpr Duration kNodeAgain = seconds(10);        // after its store failed
constexpr int kExitUsage = 1;
constexpr int kExitSetUp = 64;
constexpr int kExitStorage = 70;
constexpr unsigned kStoreThreads = 8;

void set_logs(const MagmadOptions& options) {
  log_enable_all(options.all_channels);
  for (char channel : options.log_channels) log_enable(channel, true);
}

// As many open files as the machine allows: descriptors are a bounded cache anyway.
void raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
    log_warning("open_files_limit_not_raised limit={}", limit.rlim_cur);
}

// The first half of the random number that Linux draws at each start of the machine (random(4)); 0
// if there is none.
std::uint64_t machine_boot() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string text;
  file >> text;
  std::erase(text, '-');
  std::uint64_t number = 0;
  const std::size_t digits = std::min<std::size_t>(text.size(), 16);
  std::from_chars(text.data(), text.data() + digits, number, 16);
  return number;
}

// What doc/metrics.md lists of the socket and the loop.
void list_process_counters(std::vector<wire::StatusCounter>& list, const sys_real::UdpCounters& udp,
                           const sys_real::LoopCounters& loop) {
  list.insert(list.end(), {{"udp.datagrams_sent", udp.datagrams_sent},
                           {"udp.bytes_sent", udp.bytes_sent},
                           {"udp.send_calls", udp.send_calls},
                           {"udp.sends_queued", udp.sends_queued},
                           {"udp.datagrams_dropped", udp.datagrams_dropped},
                           {"udp.send_errors", udp.send_errors},
                           {"udp.datagrams_received", udp.datagrams_received},
                           {"udp.bytes_received", udp.bytes_received},
                           {"udp.receive_calls", udp.receive_calls},
                           {"udp.receive_errors", udp.receive_errors},
                           {"loop.iterations", loop.iterations},
                           {"loop.wakeups", loop.wakeups},
                           {"loop.deadlines", loop.deadlines},
                           {"loop.timer_moves", loop.timer_moves},
                           {"loop.spins", loop.spins},
                           {"loop.spins_won", loop.spins_won}});
}

// The volcano driven by a real loop, until a signal or a failed storage ends it.
class Daemon {
 public:
  explicit Daemon(const MagmadOptions& options) : options_(options), loop_(clock_) {}

  ~Daemon() {
    if (tenures_ && !tenures_->failed()) volcano().set_console(nullptr);  // which goes first
  }
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  Result<void> start() {
    TRY_VALUE(Opened opened, open_storage(options_, random_, clock_));
    lock_ = std::move(opened.lock);
    disk_ = std::move(opened.disk);
    // The storage can be made before the address exists, or beside a volcano that has it.
    TRY_VALUE(socket_,
              sys_real::UdpSocket::bind(options_.make_only ? sys::Address::v4(127, 0, 0, 1, 0)
                                                           : options_.address));
    if (!options_.make_only) {
      TRY(take_console_port());
      TRY(take_node_port());
    }
    pool_.emplace(loop_, kStoreThreads);
    VolcanoConfig config;
    config.nick = opened.papers.nick;
    config.fqdn = opened.papers.fqdn;
    config.address = socket_->local();
    config.filesystem = opened.filesystem;
    config.keys = opened.keys;
    config.small_file_bytes_max = opened.papers.small_files;
    // Where slots are not shared the founder has them all, and others mirror it.
    config.self = ring::VolcanoId(static_cast<std::uint16_t>(opened.papers.volcano));
    config.serves = config.self == ring::kFounder;
    config.awaits_ring = !options_.make_only;
    config.machine_boot = machine_boot();
    TRY_VALUE(tenures_,
              Tenures::start(std::move(config), opened.create, opened.papers.shares_slots, clock_,
                             random_, *socket_, *disk_, *pool_));
    start_console();
    if (opened.create) TRY(store::write_papers(*disk_, opened.papers));
    TRY(wire_up());
    if (!options_.make_only) TRY(start_node(opened));
    return {};
  }

  // Called once: when it serves, or is in its ring, or waits for that one in vain.
  void on_ready(UniqueFunction<void()> hook) { ready_hook_ = std::move(hook); }

  void print_made() const {
    std::printf("made the lava network %s in %s; serve it with: magmad -d %s\n",
                crypto::uuid_text(volcano().config().filesystem).c_str(),
                options_.directory.c_str(), options_.directory.c_str());
  }

  // Serves until a signal or a failed storage ends it.
  int run() {
    ready_by_ = clock_.now() + kReadyPatience;
    loop_.run();
    const int code = end();
    if (code == 0) log_info("stopped nick={}", volcano().config().nick);
    return code;
  }

  void stop() { begin_stop(); }

  int end() {
    sys_real::notify("STOPPING=1\nSTATUS=stopping: everything is being synced");
    node_.reset();
    if (tenures_->failed()) {
      log_error("storage_failed directory={} action={}", options_.directory,
                "check the disk, then start again");
      return kExitStorage;
    }
    if (auto stopped = tenures_->stop(); !stopped) {
      log_error("stop_failed error={}", describe(stopped.error()));
      return kExitStorage;
    }
    return 0;
  }

 private:
  Volcano& volcano() const { return tenures_->volcano(); }

  void look_whether_ready() {
    if (!ready_hook_ || (!tenures_->is_settled() && clock_.now() < ready_by_)) return;
    ready_by_ = Instant::never();
    log_info("ready nick={} address={} console={} directory={} filesystem={} volcano={} slots={}",
             volcano().config().nick, volcano().config().address.text(),
             port_ ? port_->local().text() : "none", options_.directory,
             crypto::uuid_text(volcano().config().filesystem), number_,
             volcano().owned().count());
    if (!tenures_->is_settled())
      log_warning("ring_not_there hint={}",
                  "it serves when the volcanoes that vote have a majority: start them");
    auto hook = std::move(ready_hook_);
    hook();
    sys_real::notify("READY=1\n" + status_text());
  }

  std::string status_text() const {
    const VolcanoConfig& config = volcano().config();
    const char* what = !tenures_->is_settled()      ? "waits for its ring,"
                       : volcano().owned().any() ? "serves"
                                                 : "is in the ring, without slots,";
    return fmt::format("STATUS={} {} at {}", config.nick, what, config.address.text());
  }

  // Before the volcano starts: a port that somebody has shall leave no trace in the storage.
  Result<void> take_console_port() {
    if (!options_.console) return {};
    auto port = ConsolePort::listen(loop_, clock_, *options_.console);
    if (!port)
      return fail(port.error().code, "console: " + port.error().detail +
                                         "; choose another address with --console ADDR:PORT, or "
                                         "--console none");
    port_ = std::move(*port);
    return {};
  }

  Result<void> take_node_port() {
    sys::Address address = options_.address;
    address.port = options_.node_port;
    auto socket = sys_real::UdpSocket::bind(address);
    if (!socket)
      return fail(socket.error().code, "node protocol: " + socket.error().detail +
                                           "; choose another port with --node-port");
    node_socket_ = std::move(*socket);
    return {};
  }

  // The ring's part of the volcano, on its own thread. What a single volcano serves does not wait
  // for it (doc/adr/0005-raft-nodes-are-volcanoes.md).
  Result<void> start_node(const Opened& opened) {
    number_ = opened.papers.volcano;
    node_config_.self = ring::VolcanoId(static_cast<std::uint16_t>(number_));
    node_config_.profile = profile_of(opened.papers, options_);
    node_config_.filesystem = opened.filesystem;
    node_config_.keys = opened.keys;
    node_config_.version = PACKAGE_VERSION;
    node_config_.small_files = opened.papers.small_files;
    node_config_.is_first_start = opened.is_first_start;
    node_config_.has_lost = tenures_->has_lost();
    return run_node();
  }

  Result<void> run_node() {
    NodeThread::Config config;
    config.node = node_config_;
    config.socket = std::move(node_socket_);
    config.directory = options_.directory;
    NodeThread::Callbacks callbacks;
    callbacks.on_view = [this](node::RingViewPtr view) { tenures_->set_ring(std::move(view)); };
    callbacks.on_failed = [this](const Error& error) {
      log_error("node_ended error={} again_in_s={}", describe(error),
                kNodeAgain.ns / seconds(1).ns);
      node_again_ = clock_.now() + kNodeAgain;
    };
    TRY_VALUE(node_, NodeThread::start(std::move(config), loop_, std::move(callbacks)));
    return {};
  }

  // A node whose store failed (a full disk) begins anew from what is on the disk, as after a kill;
  // what the volcano serves goes on meanwhile.
  void restart_node() {
    if (clock_.now() < node_again_) return;
    node_again_ = Instant::never();
    node_.reset();
    node_config_.is_first_start = false;
    node_config_.has_lost = tenures_->has_lost();
    auto started = take_node_port();
    if (started) started = run_node();
    if (started) return;
    log_error("node_not_started error={}", describe(started.error()));
    node_again_ = clock_.now() + kNodeAgain;
  }

  // The loop turns: the node may say so, and what the volcano holds.
  void tick_node() {
    const Instant now = clock_.now();
    if (!node_ || now < next_tick_) return;
    wire::VolcanoFacts facts = tenures_->facts();
    const bool is_in_sync = std::all_of(
        facts.mirrors.begin(), facts.mirrors.end(),
        [](const wire::MirrorFact& mirror) { return mirror.state == wire::MirrorState::in_sync; });
    next_tick_ = now + (is_in_sync ? kTickEvery : kTickOften);
    node_->tick(std::move(facts));
  }

  void start_console() {
    console_.emplace(
        console::Console::Config{
            .rules = {.own_uid = ::geteuid(), .admits_remote = options_.console_remote},
            .version = PACKAGE_VERSION},
        volcano(), clock_, random_, *pool_, ring_socket_opener(loop_, options_.address),
        [this] { stop_at_ = clock_.now() + kLastWords; });
    if (port_) port_->serve(*console_);
    gateway_.emplace(*console_);
  }

  // What a volcano has to know of the process it is in.
  void tell_volcano(Volcano& volcano) {
    console_->set_volcano(volcano);
    volcano.set_console(&*gateway_);
    volcano.add_counters([this](std::vector<wire::StatusCounter>& list) {
      list_process_counters(list, socket_->counters(), loop_.counters());
    });
  }

  // Lets the console say goodbye first, then mirrors get what they have not; asked again, it stops
  // at once.
  void begin_stop() {
    if (std::exchange(is_stopping_, true) || tenures_->failed()) return loop_.stop();
    console_->stop([this] {
      volcano().begin_stop();
      is_last_ = true;
    });
  }

  Instant deadline() const {
    if (tenures_->failed() || (is_last_ && volcano().is_quiet())) return {};
    return std::min({tenures_->deadline(), console_->deadline(), next_watchdog_, stop_at_,
                     ready_by_,
                     node_ ? next_tick_ : Instant::never(), node_again_,
                     port_ ? port_->deadline() : Instant::never()});
  }
  void on_deadline() {
    tenures_->on_timer();
    if (tenures_->failed()) return loop_.stop();  // there may be no volcano any more
    console_->on_timer();
    if (port_) port_->on_timer();
    look_whether_ready();
    tell_watchdog();
    tick_node();
    restart_node();
    if (clock_.now() < stop_at_) return;
    stop_at_ = Instant::never();
    if (!is_stopping_) begin_stop();
  }

  Result<void> wire_up() {
    on_datagram_ = [this](const sys::Address& from, MutableByteSpan datagram) {
      last_datagram_ = clock_.now();
      tenures_->on_datagram(from, datagram);
    };
    TRY_VALUE(watch_, loop_.watch(socket_->fd(), sys_real::kReadable, [this](unsigned events) {
      if ((events & sys_real::kWritable) != 0) socket_->on_writable();
      if ((events & sys_real::kReadable) != 0) socket_->receive(on_datagram_);
    }));
    socket_->on_want_writable([this](bool want) {
      watch_.set_events(sys_real::kReadable | (want ? sys_real::kWritable : 0));
    });
    loop_.on_flush([this] {
      if (tenures_->failed()) return loop_.stop();
      console_->flush();  // what it says goes out below
      if (port_) port_->on_flush();
      gateway_->on_flush();
      console_->flush();
      tenures_->flush();
      if (tenures_->failed() || (is_last_ && volcano().is_quiet())) return loop_.stop();
      look_whether_ready();
      if (volcano().stop_wanted() && !is_stopping_) begin_stop();
    });
    tell_volcano(volcano());
    tenures_->on_next([this](Volcano& next) {
      tell_volcano(next);
      if (!ready_hook_) sys_real::notify(status_text());
    });
    loop_.set_deadline([this] { return deadline(); }, [this] { on_deadline(); });
    loop_.set_spin(kSpin, [this] { return clock_.now() - last_datagram_ < kSpinAfter; });
    loop_.on_signal(SIGTERM, [this] { begin_stop(); });
    loop_.on_signal(SIGINT, [this] { begin_stop(); });
    loop_.on_signal(SIGHUP, [] { log_info("sighup action=none"); });
    return {};
  }

  // From the loop, so that a loop that hangs is noticed.
  void tell_watchdog() {
    if (!watchdog_ || clock_.now() < next_watchdog_) return;
    sys_real::notify("WATCHDOG=1");
    next_watchdog_ = clock_.now() + *watchdog_;
  }

  const MagmadOptions& options_;
  sys_real::Clock clock_;
  sys_real::Random random_;
  sys_real::Loop loop_;
  std::optional<sys_real::DirectoryLock> lock_;
  std::unique_ptr<sys_real::PosixDisk> disk_;
  std::unique_ptr<sys_real::UdpSocket> socket_;
  std::optional<sys_real::ThreadPool> pool_;
  std::unique_ptr<Tenures> tenures_;
  std::optional<console::Console> console_;
  std::optional<console::Gateway> gateway_;
  std::unique_ptr<ConsolePort> port_;
  bool is_stopping_ = false;
  bool is_last_ = false;  // nothing is waited for but the mirrors
  Instant stop_at_ = Instant::never();  // asked for at the console
  Instant ready_by_ = Instant::never();
  UniqueFunction<void()> ready_hook_;
  sys_real::UdpSocket::OnDatagram on_datagram_;
  sys_real::Loop::Watch watch_;
  Instant last_datagram_{};
  std::unique_ptr<sys_real::UdpSocket> node_socket_;  // until the node has it
  std::unique_ptr<NodeThread> node_;
  std::uint64_t number_ = 0;  // of the volcano
  node::NodeConfig node_config_;
  Instant node_again_ = Instant::never();  // to be started anew
  Instant next_tick_{};
  const std::optional<Duration> watchdog_ = sys_real::watchdog_interval();
  Instant next_watchdog_ = watchdog_ ? Instant{} : Instant::never();
};

int run(const MagmadOptions& options) {
  sys_real::Background background;
  if (options.daemon) {
    auto forked = sys_real::Background::fork_now();
    if (!forked) {
      std::fprintf(stderr, "magmad: %s\n", describe(forked.error()).c_str());
      return kExitSetUp;
    }
    background = std::move(*forked);
  }
  auto give_up = [&](const Error& error) {
    // The detail says it all where there is one; the general text of the code would repeat it.
    std::string why = error.detail.empty() ? describe(error) : error.detail;
    if (background.is_child()) background.failed("magmad: " + why, kExitSetUp);
    std::fprintf(stderr, "magmad: %s\n", why.c_str());
    return kExitSetUp;
  };
  std::optional<sys_real::PidFile> pid_file;  // goes after the directory's lock
  Daemon daemon(options);
  if (auto started = daemon.start(); !started) return give_up(started.error());
  if (!options.pid_file.empty()) {
    auto written = sys_real::PidFile::write(options.pid_file);
    if (!written) return give_up(written.error());
    pid_file.emplace(std::move(*written));
  }
  if (options.make_only) {
    const int code = daemon.end();
    if (code == 0) daemon.print_made();
    return code;
  }
  std::optional<Error> not_told;
  daemon.on_ready([&] {
    if (!background.is_child()) return;
    if (auto told = background.ready(options.log_file); !told) {
      not_told = told.error();
      daemon.stop();
    }
  });
  const int code = daemon.run();
  return not_told ? give_up(*not_told) : code;
}

}  // namespace
}  // namespace magma

int main(int argc, char** argv) {
  magma::sys_real::keep_large_buffers();
  auto parsed = magma::parse_options(argc, argv);
  if (!parsed) {
    std::fprintf(stderr, "magmad: %s (see magmad --help)\n", parsed.error().detail.c_str());
    return magma::kExitUsage;
  }
  if (parsed->print) {
    std::fputs(parsed->print->c_str(), stdout);
    return 0;
  }
  if (!parsed->options.passphrase.empty())
    magma::log_warning("key_on_command_line hint={}", "others may have seen it: use --key-file");
  umask(077);
  prctl(PR_SET_DUMPABLE, 0);  // keys must not end up in core files
  magma::set_logs(parsed->options);
  magma::raise_file_limit();
  return magma::run(parsed->options);
}
