#include "mount.magma/filesystem.h"

#include <poll.h>

#include <cerrno>

#include "libmagma/base/check.h"
#include "mount.magma/fuse_channel.h"

namespace magma::mount {

namespace {

constexpr std::uint32_t kBlockBytes = 4096;  // st_blksize

void interrupted(fuse_req_t request, void* call) {
  static_cast<Filesystem*>(fuse_req_userdata(request))
      ->on_interrupt(request, reinterpret_cast<client::CallId>(call));
}
static_assert(sizeof(client::CallId) == sizeof(void*));

timespec timespec_of(WallTime time) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  std::int64_t second = time.ns / kSecond, rest = time.ns % kSecond;
  if (rest < 0) {
    rest += kSecond;
    --second;
  }
  return {.tv_sec = second, .tv_nsec = rest};
}

}  // namespace

fuse_req_t Reply::finish() {
  MAGMA_CHECK(request_ != nullptr);
  Filesystem& fs = filesystem();
  if (fs.starting == request_) fs.starting = nullptr;
  fs.interrupts.remove(request_);
  fs.coherence.request_ends(request_);
  return std::exchange(request_, nullptr);
}

void Reply::dropped() {
  MAGMA_CHECK(filesystem().is_ending);
  fail(Code::shutting_down);
}

void Filesystem::note_under_way(fuse_req_t request) {
  const Ino other = raw.other_node == 0 ? Ino() : ino_of(raw.other_node);
  coherence.request_begins(request, {ino_of(raw.node), other, raw.victim, raw.other_victim});
}

void Filesystem::let_interrupt(fuse_req_t request, client::CallId call) {
  if (interrupts.set_call(request, call)) return;
  // libfuse would call back with its lock held, and an answer inside would free the lock.
  if (fuse_req_interrupted(request) != 0)
    on_interrupt(request, call);
  else
    fuse_req_interrupt_func(request, interrupted, reinterpret_cast<void*>(call));
}

void Filesystem::on_interrupt(fuse_req_t request, client::CallId call) {
  ++counters.interrupts;
  const pid_t pid = fuse_req_ctx(request)->pid;
  if (!waiting_for_locks.contains(request) && !wants_to_stop(pid)) {
    interrupts.add({.request = request, .call = call, .pid = pid}, clock.now());
    return;
  }
  ++counters.interrupts_obeyed;
  client.cancel(call);
}

void Filesystem::on_timer() {
  ring.on_timer();
  coherence.on_timer();
  for (client::CallId call : interrupts.due(clock.now())) {
    ++counters.interrupts_obeyed;
    client.cancel(call);
  }
  while (!root_waits.empty() && root_waits.front().due <= clock.now()) {
    auto [due, waiting, wants_space, since] = std::move(root_waits.front());
    root_waits.pop_front();
    if (!waiting->has_value()) continue;
    const Instant now = clock.now();
    if (!wants_space && !root_attr && client.is_connected() && now - since < kRootPatienceMax) {
      root_waits.push_back({now + kRootPatience, waiting, wants_space, since});
      continue;
    }
    Reply reply = std::move(**waiting);
    waiting->reset();
    if (wants_space)
      reply.statfs(statvfs_of(space.value_or(wire::StatfsReply{})));
    else if (root_attr)
      reply.attr(stat_of(*root_attr), 0);
    else
      reply.fail(Code::timeout);
  }
}

Filesystem::SharedReply Filesystem::wait_for_root(Reply reply, bool wants_space) {
  auto waiting = std::make_shared<std::optional<Reply>>(std::move(reply));
  const Instant now = clock.now();
  root_waits.push_back({now + kRootPatience, waiting, wants_space, now});
  return waiting;
}

std::optional<Reply> Filesystem::take_root_wait(const SharedReply& waiting) {
  if (!waiting->has_value()) return std::nullopt;
  std::optional<Reply> reply = std::move(*waiting);
  waiting->reset();
  std::erase_if(root_waits, [&](const auto& wait) { return wait.reply == waiting; });
  return reply;
}

struct statvfs Filesystem::statvfs_of(const wire::StatfsReply& space) {
  constexpr std::uint64_t kNoFilesystemId = 0;
  struct statvfs numbers = {};
  numbers.f_bsize = numbers.f_frsize = space.block_bytes;
  numbers.f_blocks = space.blocks;
  numbers.f_bfree = space.blocks_free;
  numbers.f_bavail = space.blocks_available;
  numbers.f_files = space.files;
  numbers.f_ffree = numbers.f_favail = space.files_free;
  numbers.f_fsid = kNoFilesystemId;
  numbers.f_namemax = wire::kNameBytesMax;
  return numbers;
}

struct stat Filesystem::stat_of(const wire::Attr& attr) const {
  struct stat s = {};
  s.st_ino = attr.ino.value;
  s.st_mode = attr.mode;
  s.st_nlink = attr.nlink;
  s.st_uid = attr.uid;
  s.st_gid = attr.gid;
  s.st_rdev = attr.rdev;
  s.st_size = static_cast<off_t>(attr.size);
  s.st_blksize = kBlockBytes;
  s.st_blocks = static_cast<blkcnt_t>(attr.blocks);
  s.st_atim = timespec_of(attr.atime);
  s.st_mtim = timespec_of(attr.mtime);
  s.st_ctim = timespec_of(attr.ctime);
  return s;
}

fuse_entry_param Filesystem::entry_of(const wire::Attr& attr, Duration name_timeout,
                                      Duration attr_timeout) const {
  fuse_entry_param entry = {};
  entry.ino = node_of(attr.ino);
  entry.generation = 0;  // inode numbers are never used again
  entry.attr = stat_of(attr);
  entry.attr_timeout = may_believe(attr, attr_timeout).seconds();
  entry.entry_timeout = name_timeout.seconds();
  return entry;
}

bool Filesystem::is_in_doubt(Ino parent, std::string_view name, const wire::Attr& attr,
                             Asked asked) const {
  const bool is_disturbed = coherence.name_changes() != asked.name_changes ||
                            coherence.has_stale_names() ||
                            clock.now() - asked.at >= LookupDoubts::kSlow;
  return is_disturbed && inodes.knows(attr.ino) && inodes.child_of(parent, name) != attr.ino;
}

fuse_entry_param Filesystem::remember(Ino parent, std::string_view name, const wire::Attr& attr,
                                      Instant until) {
  const bool is_directory = S_ISDIR(attr.mode);
  auto before = inodes.add(attr.ino, {.parent = parent,
                                      .name = name,
                                      .is_directory = is_directory,
                                      .key = is_directory ? attr.placement.key : std::nullopt});
  // Another mount has moved it.
  if (before && !is_directory && attr.nlink == 1) {
    inodes.renew(attr.ino);
    forget_names(before->parent, {before->name}, [] {});
  }
  learn_attr(attr);
  return entry_of(attr, name_left(until), left(attr.believed_until));
}

void Filesystem::forget(Ino ino, std::uint64_t count) {
  if (!inodes.forget(ino, count)) return;
  client.forget(ino);
  removed_flares.erase(ino);
}

void Filesystem::content_changed_here(Ino ino) {
  ++content_changes;
  opened_contents.erase(ino);
}

void Filesystem::content_changed(Ino ino, std::uint64_t version) {
  content_changed_here(ino);
  inodes.changed_here(ino, version);
}

void Filesystem::keep_content(const wire::Attr& attr, Bytes bytes) {
  if (opened_contents.size() >= kOpenedContentsMax) opened_contents.clear();
  opened_contents[attr.ino] = {std::move(bytes), attr.data_version,
                               clock.now() + kOpenedContentFresh};
}

void Filesystem::content_seen(Ino ino, std::uint64_t version) {
  if (opened_contents.empty()) return;
  auto found = opened_contents.find(ino);
  if (found != opened_contents.end() && found->second.version != version)
    opened_contents.erase(found);
}

std::optional<ByteSpan> Filesystem::kept_content(Ino ino, std::uint64_t offset,
                                                 std::size_t size) {
  if (opened_contents.empty()) return std::nullopt;
  auto found = opened_contents.find(ino);
  if (found == opened_contents.end()) return std::nullopt;
  if (clock.now() >= found->second.until) {
    opened_contents.erase(found);
    return std::nullopt;
  }
  const ByteSpan all = found->second.bytes;
  const std::size_t start = std::min<std::uint64_t>(offset, all.size());
  return all.subspan(start, std::min(size, all.size() - start));
}

void Filesystem::note_removed(Ino dir, std::string_view name) {
  const Ino ino = inodes.child_of(dir, name);
  inodes.remove(dir, name);
  const wire::Attr* attr = seen.last(ino);
  if (ino == Ino() || attr == nullptr) return;
  if (!S_ISDIR(attr->mode) && attr->nlink > 1) return;
  wire::Attr& left = removed_flares[ino] = *attr;
  left.nlink = 0;
}

wire::Attr* Filesystem::removed_flare(Ino ino, const Error& error) {
  if (error.code != Code::stale) return nullptr;
  auto found = removed_flares.find(ino);
  return found == removed_flares.end() ? nullptr : &found->second;
}

wire::Attr* Filesystem::removed_directory(Ino ino) {
  if (removed_flares.empty()) return nullptr;
  auto found = removed_flares.find(ino);
  bool is_directory = found != removed_flares.end() && S_ISDIR(found->second.mode);
  return is_directory ? &found->second : nullptr;
}

std::vector<fuse_ino_t> Filesystem::nodes_of(Ino ino) const {
  if (inodes.alias_of(ino) == 0) return {node_of(ino)};
  std::vector<fuse_ino_t> nodes;
  for (std::uint64_t alias = 0; alias <= InodeTable::kAliasMax; ++alias)
    nodes.push_back(ino.value | alias << kAliasShift);
  return nodes;
}

namespace {

// The kernel drops attributes and pages of the inode. ENOENT: it does not have it, or it is just
// reading the reply that tells of it, hence the patience. Anything else ends with the mount.
void invalidate_node(fuse_session* session, fuse_ino_t node) {
  constexpr int kTries = 5;
  for (int i = 0; i < kTries; ++i) {
    if (fuse_lowlevel_notify_inval_inode(session, node, 0, 0) != -ENOENT) return;
    ::poll(nullptr, 0, 1);  // one millisecond
  }
}

}  // namespace

void Filesystem::invalidate(Ino ino, UniqueFunction<void()> done) {
  if (notifier == nullptr || channel == nullptr) return done();
  notifier->run([session = channel->session(), nodes = nodes_of(ino)] {
    if (nodes.size() == 1) return invalidate_node(session, nodes.front());
    for (fuse_ino_t node : nodes) fuse_lowlevel_notify_inval_inode(session, node, 0, 0);
  }, std::move(done));
}

void Filesystem::invalidate_attributes(Ino ino) {
  constexpr off_t kNoPages = -1;
  if (notifier == nullptr || channel == nullptr) return;
  notifier->run([session = channel->session(), nodes = nodes_of(ino)] {
    for (fuse_ino_t node : nodes) fuse_lowlevel_notify_inval_inode(session, node, kNoPages, 0);
  }, [] {});
}

void Filesystem::forget_names(Ino dir, std::vector<std::string> names,
                              UniqueFunction<void()> done) {
  if (name_notifier == nullptr || channel == nullptr) return done();
  fuse_session* session = channel->session();
  name_notifier->run([session, node = node_of(dir), names = std::move(names)] {
    // ENOENT: the kernel does not have it. Anything else ends with the mount.
    for (const std::string& name : names)
      fuse_lowlevel_notify_inval_entry(session, node, name.data(), name.size());
  }, std::move(done));
}

namespace {

// Gives `then` the entry's attributes, asking for them if it came without; an error is answered.
void with_attributes(Reply reply, Result<wire::EntryReply> entry,
                     UniqueFunction<void(Reply, const wire::Attr&, Instant)> then) {
  if (!entry) {
    reply.fail(entry.error());
    return;
  }
  if (entry->attr) {
    wire::Attr& attr = *entry->attr;
    if (S_ISDIR(attr.mode) && !attr.placement.key) attr.placement.key = entry->key;
    then(std::move(reply), attr, entry->believed_until);
    return;
  }
  Filesystem& fs = reply.filesystem();
  const fuse_req_t request = reply.request();
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.getattr(
        entry->ino, who,
        [reply = std::move(reply), then = std::move(then), key = entry->key,
         until = entry->believed_until](Result<wire::Attr> attr) mutable {
          if (!attr) {
            reply.fail(attr.error());
            return;
          }
          if (S_ISDIR(attr->mode) && !attr->placement.key) attr->placement.key = key;
          then(std::move(reply), *attr, until);
        });
  });
}

void tell_entry(Reply reply, Ino parent, std::string_view name, const wire::Attr& attr,
                Instant until) {
  Filesystem& fs = reply.filesystem();
  if (!reply.entry(fs.remember(parent, name, attr, until))) fs.forget(attr.ino, 1);
}

}  // namespace

void answer_entry(Reply reply, Ino parent, std::string name, Result<wire::EntryReply> entry) {
  with_attributes(std::move(reply), std::move(entry),
                  [parent, name = std::move(name)](Reply owed, const wire::Attr& attr,
                                                   Instant until) {
                    tell_entry(std::move(owed), parent, name, attr, until);
                  });
}

void answer_lookup(Reply reply, Ino parent, std::string name, Asked asked,
                   Result<wire::EntryReply> entry) {
  const pid_t thread = fuse_req_ctx(reply.request())->pid;
  if (!entry) reply.filesystem().lookup_doubts.absent(thread);
  with_attributes(
      std::move(reply), std::move(entry),
      [parent, name = std::move(name), asked, thread](Reply owed, const wire::Attr& attr,
                                                      Instant until) {
        Filesystem& fs = owed.filesystem();
        using Answer = LookupDoubts::Answer;
        const Answer answer = fs.lookup_doubts.judge(
            thread, parent, name, fs.is_in_doubt(parent, name, attr, asked), fs.clock.now());
        if (answer == Answer::ask_again) {
          owed.fail(Code::stale);
          return;
        }
        if (answer == Answer::tell_apart && !S_ISDIR(attr.mode)) fs.inodes.renew(attr.ino);
        tell_entry(std::move(owed), parent, name, attr, until);
      });
}

void answer_empty(Reply reply, const Result<wire::EmptyReply>& result) {
  if (result)
    reply.ok();
  else
    reply.fail(result.error());
}

void set_cache_flags(Filesystem& filesystem, const wire::Attr& attr, fuse_file_info& file) {
  file.fh = filesystem.next_handle++;
  filesystem.content_seen(attr.ino, attr.data_version);
  // An append goes to the end the ring knows; the kernel would cache it at the end it knows.
  if (opens_for_write(file.flags) && (file.flags & O_APPEND) != 0) file.direct_io = 1;
  file.keep_cache = filesystem.inodes.opened(attr.ino, attr.data_version) ? 1 : 0;
}

}  // namespace magma::mount
