#include "mount.magma/fuse_channel.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <spawn.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "libmagma/base/check.h"
#include "libmagma/base/log.h"
#include "libmagma/sys_real/mount_table.h"

namespace magma::mount {

namespace {

constexpr unsigned kMaxWrite = 1u << 20;
constexpr unsigned kMaxBackground = 256;
constexpr unsigned kCongestion = 192;
constexpr unsigned kReadAheadKiB = 1024;
static_assert(kMaxWrite == wire::kIoBytesMax);

// What libfuse had to say since the last look; it reports the reason of a failed mount this way
// only.
std::string& libfuse_said() {
  static std::string text;
  return text;
}

void on_libfuse_log(fuse_log_level, const char* format, va_list arguments) {
  char line[512];
  std::vsnprintf(line, sizeof line, format, arguments);
  std::string_view text(line);
  while (text.ends_with('\n')) text.remove_suffix(1);
  if (text.starts_with("fuse: ")) text.remove_prefix(6);
  if (text.empty()) return;
  libfuse_said() = text;
  log_debug('F', "libfuse says={}", text);
}

template <class Struct>
std::optional<Struct> body_of(ByteSpan raw) {
  if (raw.size() < sizeof(fuse_in_header) + sizeof(Struct)) return std::nullopt;
  Struct body;
  std::memcpy(&body, raw.data() + sizeof(fuse_in_header), sizeof body);
  return body;
}

// Of requests about two flares: the one that is not in the header.
std::uint64_t other_node(std::uint32_t opcode, ByteSpan raw) {
  if (opcode == FUSE_RENAME || opcode == FUSE_RENAME2) {
    auto in = body_of<fuse_rename_in>(raw);  // fuse_rename2_in begins as this does
    return in ? in->newdir : 0;
  }
  if (opcode != FUSE_LINK) return 0;
  auto in = body_of<fuse_link_in>(raw);
  return in ? in->oldnodeid : 0;
}

bool kills_privileges(std::uint32_t opcode, ByteSpan raw) {
  switch (opcode) {
    case FUSE_WRITE: {
      auto in = body_of<fuse_write_in>(raw);
      return in && (in->write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
    }
    case FUSE_OPEN: {
      auto in = body_of<fuse_open_in>(raw);
      return in && (in->open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
    }
    case FUSE_CREATE: {
      auto in = body_of<fuse_create_in>(raw);
      return in && (in->open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
    }
    case FUSE_SETATTR: {
      auto in = body_of<fuse_setattr_in>(raw);
      return in && (in->valid & FATTR_KILL_SUIDGID) != 0;
    }
    default:
      return false;
  }
}

void op_init(void*, fuse_conn_info* connection) {
  constexpr unsigned kWanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC |
                               FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_DONT_MASK |
                               FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_READDIRPLUS |
                               FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_PARALLEL_DIROPS |
                               FUSE_CAP_ASYNC_DIO | FUSE_CAP_POSIX_ACL |
                               FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS;
  constexpr unsigned kUnwanted = FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                                 FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE |
                                 FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_EXPLICIT_INVAL_DATA;
  connection->want |= kWanted & connection->capable;
  connection->want &= ~kUnwanted;
  connection->max_write = kMaxWrite;
  connection->max_background = kMaxBackground;
  connection->congestion_threshold = kCongestion;
  connection->max_readahead = kReadAheadKiB << 10;
  connection->time_gran = 1;
}

fuse_lowlevel_ops make_operations() {
  fuse_lowlevel_ops operations = {};
  operations.init = op_init;
  add_name_operations(operations);
  add_attr_operations(operations);
  add_data_operations(operations);
  add_dir_operations(operations);
  add_xattr_operations(operations);
  add_lock_operations(operations);
  put_profiles_before(operations);
  return operations;
}

struct FuseArgs {
  fuse_args args = FUSE_ARGS_INIT(0, nullptr);
  ~FuseArgs() { fuse_opt_free_args(&args); }
  void add(const char* argument) { MAGMA_CHECK(fuse_opt_add_arg(&args, argument) == 0); }
};

FuseArgs* arguments_of(FuseArgs& arguments, const MountRequest& request) {
  arguments.add("mount.magma");
  char* joined = nullptr;
  // Escaped: the source has commas between hosts.
  MAGMA_CHECK(fuse_opt_add_opt_escaped(&joined, ("fsname=" + request.source).c_str()) == 0);
  MAGMA_CHECK(fuse_opt_add_opt(&joined, "subtype=magma,default_permissions") == 0);
  for (const auto& option : request.options)
    MAGMA_CHECK(fuse_opt_add_opt(&joined, option.c_str()) == 0);
  arguments.add("-o");
  arguments.add(joined);
  std::free(joined);
  return &arguments;
}

std::string why_mount_failed(const std::string& mountpoint) {
  if (::access("/dev/fuse", F_OK) != 0)
    return "/dev/fuse is missing: the kernel has no FUSE (try modprobe fuse)";
  const std::string said = libfuse_said();
  if (said.find("fusermount3") != std::string::npos && said.find("exec") != std::string::npos)
    return "only root can mount without fusermount3: install the package fuse3";
  if (said.find("user_allow_other") != std::string::npos)
    return "allow_other needs the line user_allow_other in /etc/fuse.conf";
  return "cannot mount at " + mountpoint + (said.empty() ? "" : ": " + said);
}

// In a thread of its own: the last reference may go here, and then the kernel waits for us.
void detach_mount(const std::string& mountpoint) noexcept {
  if (::geteuid() == 0) {
    if (::umount2(mountpoint.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) return;
  }
  const char* arguments[] = {"fusermount3", "-u", "-q", "-z", "--", mountpoint.c_str(), nullptr};
  pid_t child = 0;
  if (::posix_spawnp(&child, "fusermount3", nullptr, nullptr, const_cast<char**>(arguments),
                     environ) != 0)
    return;
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace

struct ChannelHooks {
  static ssize_t read(int fd, void* buffer, size_t size, void* user) noexcept {
    const ssize_t got = ::read(fd, buffer, size);
    if (got > 0)
      channel_of(user).note_request(
          ByteSpan(static_cast<const std::uint8_t*>(buffer), static_cast<std::size_t>(got)));
    return got;
  }
  static ssize_t writev(int fd, iovec* parts, int count, void* user) noexcept {
    FuseChannel& channel = channel_of(user);
    bool is_init = false;
    if (!channel.is_ready_ && count == 2 && parts[0].iov_len == sizeof(fuse_out_header)) {
      fuse_out_header header;
      std::memcpy(&header, parts[0].iov_base, sizeof header);
      is_init = header.unique == channel.init_unique_ && header.error == 0;
    }
    if (is_init) channel.patch_init(parts[1].iov_base, parts[1].iov_len);
    const ssize_t wrote = ::writev(fd, parts, count);
    if (is_init && wrote > 0) channel.is_ready_ = true;
    return wrote;
  }
  static FuseChannel& channel_of(void* user) { return *static_cast<Filesystem*>(user)->channel; }
};

Result<std::unique_ptr<FuseChannel>> FuseChannel::mount(Filesystem& filesystem,
                                                        const MountRequest& request) {
  fuse_set_log_func(on_libfuse_log);
  libfuse_said().clear();
  FuseArgs arguments;
  static const fuse_lowlevel_ops operations = make_operations();
  std::unique_ptr<FuseChannel> channel(new FuseChannel(filesystem, request.mountpoint));
  filesystem.channel = channel.get();
  channel->session_.reset(fuse_session_new(&arguments_of(arguments, request)->args, &operations,
                                           sizeof operations, &filesystem));
  if (!channel->session_)
    return fail(Code::invalid, "libfuse refuses the options: " + libfuse_said());
  fuse_session* session = channel->session_.get();
  if (fuse_session_mount(session, request.mountpoint.c_str()) != 0) {
    channel->has_ended_ = true;
    return fail(Code::io, why_mount_failed(request.mountpoint));
  }
  channel->fd_ = fuse_session_fd(session);
  const int flags = ::fcntl(channel->fd_, F_GETFL);
  MAGMA_CHECK(::fcntl(channel->fd_, F_SETFL, flags | O_NONBLOCK) == 0);
  fuse_custom_io hooks = {};
  hooks.read = ChannelHooks::read;
  hooks.writev = ChannelHooks::writev;
  MAGMA_CHECK(fuse_session_custom_io(session, &hooks, channel->fd_) == 0);
  return channel;
}

FuseChannel::~FuseChannel() {
  close();
  std::free(buffer_.mem);
  filesystem_.channel = nullptr;
}

void FuseChannel::note_request(ByteSpan raw) {
  fuse_in_header header;
  if (raw.size() < sizeof header) return;
  std::memcpy(&header, raw.data(), sizeof header);
  filesystem_.raw = {.opcode = header.opcode,
                     .unique = header.unique,
                     .node = header.nodeid,
                     .other_node = other_node(header.opcode, raw),
                     .kills_privileges = kills_privileges(header.opcode, raw)};
  if (header.opcode != FUSE_INIT) return;
  init_unique_ = header.unique;
  // Only as far as every kernel sends it.
  if (raw.size() < sizeof header + offsetof(fuse_init_in, flags2)) return;
  std::memcpy(&init_offered_, raw.data() + sizeof header + offsetof(fuse_init_in, flags),
              sizeof init_offered_);
}

void FuseChannel::patch_init(void* reply, std::size_t size) {
  if (size < offsetof(fuse_init_out, max_background)) return;
  fuse_init_out out = {};
  std::memcpy(&out, reply, std::min(size, sizeof out));
  if (out.major != FUSE_KERNEL_VERSION) return;  // still agreeing on the version
  out.flags |=
      init_offered_ & (FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT);
  has_setxattr_ext_ = (out.flags & FUSE_SETXATTR_EXT) != 0;
  std::memcpy(reply, &out, std::min(size, sizeof out));
}

// Makes of a request that libfuse does not know one that it does; `raw` tells the difference.
void FuseChannel::adapt_request() {
  constexpr std::uint32_t kStatx = 52;  // FUSE_STATX, Linux 6.6
  constexpr std::size_t kOldSetxattr = 8;  // without setxattr_flags and padding
  fuse_in_header header;
  auto* bytes = static_cast<std::uint8_t*>(buffer_.mem);
  if (buffer_.size < sizeof header) return;
  std::memcpy(&header, bytes, sizeof header);
  RawRequest& raw = filesystem_.raw;
  const ByteSpan whole(bytes, buffer_.size);
  if (header.opcode == FUSE_TMPFILE) {
    raw.is_tmpfile = true;
    header.opcode = FUSE_CREATE;
  } else if (header.opcode == kStatx && body_of<fuse_getattr_in>(whole)) {
    raw.is_statx = true;  // fuse_statx_in begins as fuse_getattr_in does
    header.opcode = FUSE_GETATTR;
  } else if (header.opcode == FUSE_SETXATTR && has_setxattr_ext_) {
    auto in = body_of<fuse_setxattr_in>(whole);
    if (!in) return;
    raw.kills_sgid = (in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) != 0;
    const std::size_t cut = sizeof(fuse_setxattr_in) - kOldSetxattr;
    std::uint8_t* from = bytes + sizeof header + sizeof(fuse_setxattr_in);
    std::memmove(from - cut, from, buffer_.size - sizeof header - sizeof(fuse_setxattr_in));
    buffer_.size -= cut;
    header.len -= static_cast<std::uint32_t>(cut);
  } else {
    return;
  }
  std::memcpy(bytes, &header, sizeof header);
}

void FuseChannel::on_readable() {
  fuse_session* session = session_.get();
  for (int count = 0; count < kRequestsPerWakeUp && !has_ended_; ++count) {
    const int got = fuse_session_receive_buf(session, &buffer_);
    if (got == -EINTR) continue;
    if (got == -EAGAIN) return;
    if (got <= 0) {
      has_ended_ = true;
      return;
    }
    ++filesystem_.counters.requests;
    adapt_request();
    fuse_session_process_buf(session, &buffer_);
    if (fuse_session_exited(session) != 0) has_ended_ = true;
  }
}

void FuseChannel::detach() {
  if (has_ended_ || detacher_.joinable()) return;
  detacher_ = std::thread(detach_mount, mountpoint_);
}

void FuseChannel::close() {
  has_ended_ = true;
  if (session_ && fd_ >= 0) {
    fuse_session_exit(session_.get());
    fuse_session_unmount(session_.get());  // closes the descriptor first: nothing waits for us
    fd_ = -1;
  }
  if (detacher_.joinable()) detacher_.join();
}

void raise_read_ahead(const std::string& mountpoint) {
  const auto mount = sys_real::mounted_at(sys_real::read_mount_table(), mountpoint);
  if (!mount) return;
  const std::string path = "/sys/class/bdi/" + mount->device + "/read_ahead_kb";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  const std::string text = std::to_string(kReadAheadKiB);
  if (::write(fd, text.data(), text.size()) < 0)
    log_debug('F', "read_ahead_unchanged path={} errno={}", path, errno);
  ::close(fd);
}

}  // namespace magma::mount
