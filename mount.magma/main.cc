// mount.magma: mounts a Magma filesystem. Reads the command line, reaches a volcano, mounts, goes
// to the background when the mount is usable, and serves it until it is unmounted.
//
// One thread does it all: the loop watches /dev/fuse and the UDP socket. Order at the start: the
// mount point and the key are checked, a volcano is reached, only then it is mounted; so a mount
// that appears is one that works. Order at the end: the kernel's side first, then the session with
// the ring, both with a bound.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config.h"
#include "libmagma/base/log.h"
#include "libmagma/client/client.h"
#include "libmagma/sys_real/clock.h"
#include "libmagma/sys_real/daemonize.h"
#include "libmagma/sys_real/executor.h"
#include "libmagma/sys_real/key_file.h"
#include "libmagma/sys_real/loop.h"
#include "libmagma/sys_real/memory.h"
#include "libmagma/sys_real/mount_table.h"
#include "libmagma/sys_real/random.h"
#include "libmagma/sys_real/resolve.h"
#include "libmagma/sys_real/udp.h"
#include "mount.magma/filesystem.h"
#include "mount.magma/fuse_channel.h"
#include "mount.magma/inode_table.h"
#include "mount.magma/options.h"

namespace magma::mount {

namespace {

constexpr Duration kAttachPatience = seconds(4);  // until "no volcano answers"
constexpr Duration kStopPatience = seconds(1);    // for the farewell to the ring
constexpr Duration kDetachPatience = seconds(2);  // for users of the mount to finish, on a signal
constexpr unsigned kNotifierThreads = 2;
constexpr unsigned kNameNotifierThreads = 8;  // one for each directory whose lock is waited for
constexpr Duration kSpin = microseconds(50);      // polling while an answer is due
constexpr std::size_t kAddressesMax = 64;

[[noreturn]] void fail_now(const std::string& text, int code) {
  std::fprintf(stderr, "mount.magma: %s\n", text.c_str());
  std::exit(code);
}

// What is known before the loop runs.
struct Plan {
  Options options;
  std::string mountpoint;  // real path
  std::vector<sys::Address> addresses;
  crypto::Keyring keys;
};

std::string check_mountpoint(const std::string& path) {
  char real[PATH_MAX];
  if (::realpath(path.c_str(), real) == nullptr) {
    if (errno == ENOTCONN)
      fail_now("a dead mount is at " + path + " (remove it with umount -l)", kExitMount);
    fail_now("mount point " + path + ": " + std::strerror(errno), kExitMount);
  }
  struct stat s;
  if (::stat(real, &s) != 0)
    fail_now("mount point " + path + ": " +
                 (errno == ENOTCONN ? "a dead mount is there (remove it with umount -l)"
                                    : std::strerror(errno)),
             kExitMount);
  if (!S_ISDIR(s.st_mode)) fail_now("mount point " + path + " is not a directory", kExitMount);
  const auto mount = sys_real::mounted_at(sys_real::read_mount_table(), real);
  if (mount && mount->type == "fuse.magma")
    fail_now("mount point " + path + " is busy: " + mount->source + " is mounted there",
             kExitMount);
  return real;
}

crypto::Keyring read_keys(Options& options) {
  if (!options.passphrase.empty()) return {};
  if (options.key_file.empty()) {
    if (::access(kDefaultKeyFile.data(), F_OK) != 0)
      fail_now("no key given: use --key-file=FILE (or -o key-file=FILE), or put the key file at " +
                   std::string(kDefaultKeyFile),
               kExitUsage);
    options.key_file = kDefaultKeyFile;
  }
  auto keys = sys_real::read_key_file(options.key_file);
  if (!keys) fail_now(describe(keys.error()), kExitMount);
  return std::move(*keys);
}

std::vector<sys::Address> resolve_hosts(const Options& options) {
  std::vector<sys::Address> addresses;
  std::string why;
  for (const auto& host : options.hosts) {
    auto found = sys_real::resolve(host, options.port);
    if (!found) {
      why = describe(found.error());
      continue;
    }
    for (const auto& address : *found)
      if (addresses.size() < kAddressesMax &&
          std::find(addresses.begin(), addresses.end(), address) == addresses.end())
        addresses.push_back(address);
  }
  if (addresses.empty()) fail_now(why, kExitMount);
  return addresses;
}

std::string list_of(const std::vector<sys::Address>& addresses) {
  std::string text;
  for (const auto& address : addresses) text += (text.empty() ? "" : ", ") + address.text();
  return text;
}

std::string host_name() {
  char name[HOST_NAME_MAX + 1] = {};
  if (::gethostname(name, sizeof name - 1) != 0) return "?";
  return name;
}

void log_to_syslog(LogLevel level, std::string_view line) {
  ::syslog(static_cast<int>(level), "%.*s", static_cast<int>(line.size()), line.data());
}

class MountProcess {
 public:
  MountProcess(Plan plan, sys_real::Background background)
      : plan_(std::move(plan)), background_(std::move(background)) {}
  int run();

 private:
  void open_socket();
  void watch_socket();
  client::ClientConfig client_config();
  void on_attached(Result<wire::AttachReply> reply);
  void mount();
  MountRequest mount_request() const;
  void on_fuse();
  void on_usable();
  void watch_hang_up();
  void on_signal();
  void finish();
  void close_channel();
  Instant deadline() const;
  void on_deadline();
  [[noreturn]] void fail(const std::string& text, int code);

  Plan plan_;
  sys_real::Background background_;
  sys_real::Clock clock_;
  sys_real::Random random_;
  sys_real::Loop loop_{clock_};
  InodeTable inodes_{Ino(1)};
  std::unique_ptr<sys_real::UdpSocket> socket_;
  sys_real::UdpSocket::OnDatagram on_datagram_;
  std::unique_ptr<client::Client> client_;
  std::unique_ptr<Filesystem> filesystem_;
  std::unique_ptr<FuseChannel> channel_;
  std::unique_ptr<sys_real::ThreadPool> name_notifier_;
  std::unique_ptr<sys_real::ThreadPool> notifier_;  // before the channel goes, after it is closed
  sys_real::Loop::Watch socket_watch_, fuse_watch_;
  bool is_usable_ = false;
  bool is_finishing_ = false;
  Instant detach_until_ = Instant::never();
};

void MountProcess::fail(const std::string& text, int code) {
  if (channel_) channel_->close();
  background_.failed("mount.magma: " + text, code);
}

void MountProcess::open_socket() {
  sys::Address any{};  // "::", which receives IPv4 as well
  if (!plan_.options.bind_ip.empty()) {
    auto address = sys::Address::parse(plan_.options.bind_ip, 0);
    if (!address) fail("--ip: " + describe(address.error()), kExitUsage);
    any = *address;
  }
  auto socket = sys_real::UdpSocket::bind(any);
  if (!socket && plan_.options.bind_ip.empty())  // no IPv6 here
    socket = sys_real::UdpSocket::bind(sys::Address::v4(0, 0, 0, 0, 0));
  if (!socket) fail(describe(socket.error()), kExitSystem);
  socket_ = std::move(*socket);
}

void MountProcess::watch_socket() {
  on_datagram_ = [this](const sys::Address& from, MutableByteSpan datagram) {
    client_->on_datagram(from, datagram);
  };
  auto watch = loop_.watch(socket_->fd(), sys_real::kReadable, [this](unsigned events) {
    if ((events & sys_real::kWritable) != 0) socket_->on_writable();
    if ((events & sys_real::kReadable) != 0) socket_->receive(on_datagram_);
  });
  if (!watch) fail(describe(watch.error()), kExitSystem);
  socket_watch_ = std::move(*watch);
  socket_->on_want_writable([this](bool wanted) {
    socket_watch_.set_events(sys_real::kReadable | (wanted ? sys_real::kWritable : 0));
  });
}

client::ClientConfig MountProcess::client_config() {
  client::ClientConfig config;
  config.hosts = plan_.addresses;
  config.keys = std::move(plan_.keys);
  config.passphrase = std::move(plan_.options.passphrase);
  config.host_name = host_name();
  config.fail_when_away = plan_.options.fail_when_away;
  config.stall = plan_.options.stall;
  const auto& kernel_options = plan_.options.kernel_options;
  config.delays_writes =
      std::find(kernel_options.begin(), kernel_options.end(), "sync") == kernel_options.end();
  config.delays_names =
      config.delays_writes &&
      std::find(kernel_options.begin(), kernel_options.end(), "dirsync") == kernel_options.end();
  config.reach = plan_.options.through_hosts ? client::Reach::proxy : client::Reach::any;
  return config;
}

int MountProcess::run() {
  open_socket();
  client_ =
      std::make_unique<client::Client>(client_config(), clock_, random_, *socket_, inodes_);
  filesystem_ = std::make_unique<Filesystem>(*client_, clock_, inodes_);
  client_->set_listener(&filesystem_->coherence);
  watch_socket();
  loop_.set_deadline([this] { return deadline(); }, [this] { on_deadline(); });
  loop_.on_flush([this] { client_->flush(); });
  loop_.set_spin(kSpin, [this] { return client_->is_waiting(); });
  for (int signal_number : {SIGINT, SIGTERM})
    loop_.on_signal(signal_number, [this] { on_signal(); });
  watch_hang_up();
  // From within the loop, so that an answer inside the call may stop it.
  loop_.post([this] {
    client_->start(kAttachPatience,
                   [this](Result<wire::AttachReply> reply) { on_attached(std::move(reply)); });
  });
  loop_.run();
  close_channel();
  filesystem_->ring.drop();
  client_.reset();  // what was not answered is dropped here: the session must still be there
  channel_.reset();
  return kExitOk;
}

// A mount in the background is nobody's terminal's: there is nothing to read anew, as in other
// daemons. One in the foreground ends with its terminal, unless nohup(1) said otherwise.
void MountProcess::watch_hang_up() {
  struct sigaction inherited {};
  if (background_.is_child()) {
    loop_.on_signal(SIGHUP, [] { log_info("sighup action=none"); });
  } else if (::sigaction(SIGHUP, nullptr, &inherited) != 0 || inherited.sa_handler != SIG_IGN) {
    loop_.on_signal(SIGHUP, [this] { on_signal(); });
  }
}

void MountProcess::on_attached(Result<wire::AttachReply> reply) {
  if (is_finishing_) return;
  if (!reply) {
    const std::string where = list_of(plan_.addresses);
    switch (reply.error().code) {
      case Code::unreachable:
        fail("no volcano answers at " + where + " (is magmad running there?)", kExitMount);
      case Code::wrong_key:
        fail("wrong key: the volcano at " + where + " does not accept it", kExitMount);
      case Code::wrong_version:
        fail("the volcano at " + where + " speaks another version of the protocol", kExitMount);
      default:
        fail("cannot attach to " + where + ": " + describe(reply.error()), kExitMount);
    }
  }
  inodes_.set_root(reply->root);
  const auto& kernel_options = plan_.options.kernel_options;
  filesystem_->sets_access_times =
      std::find(kernel_options.begin(), kernel_options.end(), "noatime") == kernel_options.end();
  filesystem_->profiles.set(*reply, crypto::uuid_text(client_->filesystem()), clock_.wall_now());
  if (plan_.options.verbose)
    std::fprintf(stderr, "mount.magma: attached to %s\n", reply->nick.c_str());
  if (plan_.options.fake) return finish();
  // Known before anybody can ask for it: see Filesystem::root_waits.
  client_->getattr(reply->root, {}, [this](Result<wire::Attr> root) {
    if (is_finishing_) return;
    if (root)
      filesystem_->root_attr = *root;
    else
      log_warning("root_unreadable error={}", describe(root.error()));
    mount();
  });
}

MountRequest MountProcess::mount_request() const {
  const Options& options = plan_.options;
  MountRequest request;
  request.mountpoint = plan_.mountpoint;
  request.source = source_name(options);
  const bool is_root = ::geteuid() == 0;
  request.options.emplace_back(options.read_only ? "ro" : "rw");
  if (is_root) {
    request.options.emplace_back("dev");
    request.options.emplace_back("suid");
  }
  if (is_root || options.allow_other) request.options.emplace_back("allow_other");
  request.options.insert(request.options.end(), options.kernel_options.begin(),
                         options.kernel_options.end());
  return request;
}

void MountProcess::mount() {
  auto channel = FuseChannel::mount(*filesystem_, mount_request());
  if (!channel) fail(channel.error().detail, kExitMount);
  channel_ = std::move(*channel);
  notifier_ = std::make_unique<sys_real::ThreadPool>(loop_, kNotifierThreads);
  name_notifier_ = std::make_unique<sys_real::ThreadPool>(loop_, kNameNotifierThreads);
  filesystem_->notifier = notifier_.get();
  filesystem_->name_notifier = name_notifier_.get();
  auto watch = loop_.watch(channel_->fd(), sys_real::kReadable, [this](unsigned) { on_fuse(); });
  if (!watch) fail(describe(watch.error()), kExitSystem);
  fuse_watch_ = std::move(*watch);
}

void MountProcess::on_fuse() {
  channel_->on_readable();
  if (channel_->is_ready() && !is_usable_) on_usable();
  if (channel_->has_ended()) finish();
}

void MountProcess::on_usable() {
  is_usable_ = true;
  raise_read_ahead(plan_.mountpoint);
  if (background_.is_child()) {
    if (::chdir("/") != 0) log_warning("chdir_failed path=/ errno={}", errno);
    ::openlog("mount.magma", LOG_PID, LOG_DAEMON);
    log_to(log_to_syslog);
    ::prctl(PR_SET_PDEATHSIG, 0);
  }
  if (auto ready = background_.ready(); !ready) fail(describe(ready.error()), kExitSystem);
  sys_real::notify("READY=1");
}

void MountProcess::on_signal() {
  if (is_finishing_) {
    loop_.stop();
  } else if (!channel_) {  // nothing is mounted yet
    fail("interrupted", kExitMount);
  } else if (detach_until_ == Instant::never()) {
    channel_->detach();
    detach_until_ = clock_.now() + kDetachPatience;
  } else {
    finish();  // asked twice
  }
}

void MountProcess::close_channel() {
  filesystem_->is_ending = true;
  fuse_watch_.reset();
  if (channel_) channel_->close();
}

void MountProcess::finish() {
  if (is_finishing_) return;
  is_finishing_ = true;
  detach_until_ = Instant::never();
  close_channel();
  client_->stop(kStopPatience, [this] { loop_.stop(); });
}

Instant MountProcess::deadline() const {
  return std::min({client_->deadline(), filesystem_->deadline(), detach_until_});
}

void MountProcess::on_deadline() {
  client_->on_timer();
  filesystem_->on_timer();
  if (clock_.now() >= detach_until_) finish();
}

void set_up_logs(const Options& options) {
  if (options.debug_all) log_enable_all(true);
  for (char channel : options.debug_channels) log_enable(channel, true);
}

}  // namespace

int run_main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (hide_key_arguments(argc, argv))
    std::fprintf(stderr, "mount.magma: warning: a key among the arguments can be read by other "
                         "users for a moment and stays in the shell's history; use --key-file\n");
  auto parsed = parse_options(arguments);
  if (!parsed)
    fail_now(parsed.error().detail + " (see mount.magma --help)", kExitUsage);
  if (parsed->show_help) {
    std::fputs(help_text().c_str(), stdout);
    return kExitOk;
  }
  if (parsed->show_version) {
    std::puts("mount.magma " PACKAGE_VERSION);
    return kExitOk;
  }
  Plan plan;
  plan.options = std::move(*parsed);
  set_up_logs(plan.options);
  plan.mountpoint = check_mountpoint(plan.options.mountpoint);
  plan.keys = read_keys(plan.options);
  plan.addresses = resolve_hosts(plan.options);

  ::signal(SIGPIPE, SIG_IGN);
  sys_real::Background background;
  if (!plan.options.foreground && !plan.options.fake) {
    auto child = sys_real::Background::fork_now();
    if (!child) fail_now(describe(child.error()), kExitSystem);
    background = std::move(*child);
    // Whoever starts us may give up waiting (Ctrl-C): then there shall be no mount.
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  }
  return MountProcess(std::move(plan), std::move(background)).run();
}

}  // namespace magma::mount

int main(int argc, char** argv) {
  magma::sys_real::keep_large_buffers();
  return magma::mount::run_main(argc, argv);
}
