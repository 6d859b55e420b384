// Operations on attributes: getattr, setattr, readlink, statfs.
#include <fcntl.h>
#include <sys/sysmacros.h>

#include <array>
#include <limits>

#include "libmagma/wire/attributes.h"
#include "mount.magma/filesystem.h"

namespace magma::mount {

namespace {

void answer_attr(Reply reply, Ino ino, const Result<wire::Attr>& attr) {
  Filesystem& fs = reply.filesystem();
  if (!attr) {
    if (const wire::Attr* left = fs.removed_flare(ino, attr.error()))
      reply.attr(fs.stat_of(*left), 0);
    else
      reply.fail(attr.error());
    return;
  }
  fs.learn_attr(*attr);
  reply.attr(fs.stat_of(*attr), may_believe(*attr, fs.left(attr->believed_until)).seconds());
}

// See Filesystem::root_waits.
void getattr_root(fuse_req_t request) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  const auto who = reply.who();
  auto waiting = fs.wait_for_root(std::move(reply), false);
  fs.call(request, [&] {
    return fs.client.getattr(fs.inodes.root(), who, [&fs, waiting](Result<wire::Attr> attr) {
      if (attr) fs.root_attr = *attr;
      if (auto first = fs.take_root_wait(waiting))
        answer_attr(std::move(*first), fs.inodes.root(), attr);
    });
  });
}

// FUSE_STATX and its answer (linux/fuse.h of Linux 6.6; Debian 12's headers are older).
struct StatxTime {
  std::int64_t seconds;
  std::uint32_t nanoseconds;
  std::int32_t reserved;
};
struct StatxAnswer {
  std::uint64_t attr_valid;
  std::uint32_t attr_valid_nanoseconds;
  std::uint32_t flags;
  std::uint64_t spare[2];
  std::uint32_t mask, blksize;
  std::uint64_t attributes;
  std::uint32_t nlink, uid, gid;
  std::uint16_t mode, spare0;
  std::uint64_t ino, size, blocks, attributes_mask;
  StatxTime atime, btime, ctime, mtime;
  std::uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
  std::uint64_t spare2[14];
};
static_assert(sizeof(StatxTime) == 16 && sizeof(StatxAnswer) == 288);

StatxTime statx_time(const timespec& time) {
  return {time.tv_sec, static_cast<std::uint32_t>(time.tv_nsec), 0};
}

void answer_statx(Reply reply, Ino ino, Result<wire::Attr> attr,
                  std::optional<Duration> timeout = {}) {
  Filesystem& fs = reply.filesystem();
  if (!attr)
    if (const wire::Attr* left = fs.removed_flare(ino, attr.error())) attr = *left;
  if (!attr) {
    reply.fail(attr.error());
    return;
  }
  fs.content_seen(attr->ino, attr->data_version);
  const struct stat s = fs.stat_of(*attr);
  const Duration valid = may_believe(*attr, timeout.value_or(fs.left(attr->believed_until)));
  wire::Attr born = *attr;
  born.mtime = attr->btime;
  StatxAnswer answer = {};
  answer.attr_valid = static_cast<std::uint64_t>(valid.ns / 1'000'000'000);
  answer.attr_valid_nanoseconds = static_cast<std::uint32_t>(valid.ns % 1'000'000'000);
  answer.mask = STATX_BASIC_STATS | STATX_BTIME;
  answer.blksize = static_cast<std::uint32_t>(s.st_blksize);
  answer.nlink = static_cast<std::uint32_t>(s.st_nlink);
  answer.uid = s.st_uid;
  answer.gid = s.st_gid;
  answer.mode = static_cast<std::uint16_t>(s.st_mode);
  answer.ino = s.st_ino;
  answer.size = static_cast<std::uint64_t>(s.st_size);
  answer.blocks = static_cast<std::uint64_t>(s.st_blocks);
  answer.atime = statx_time(s.st_atim);
  answer.btime = statx_time(fs.stat_of(born).st_mtim);
  answer.ctime = statx_time(s.st_ctim);
  answer.mtime = statx_time(s.st_mtim);
  answer.rdev_major = major(s.st_rdev);
  answer.rdev_minor = minor(s.st_rdev);
  const auto* first = reinterpret_cast<const std::uint8_t*>(&answer);
  reply.bytes(ByteSpan(first, sizeof answer));
}

void op_getattr(fuse_req_t request, fuse_ino_t node, fuse_file_info*) {
  auto& mount = *static_cast<Filesystem*>(fuse_req_userdata(request));
  if (const wire::Attr* left = mount.removed_directory(mount.ino_of(node))) {
    return answer_known(Reply(request), *left, Duration{});
  }
  const Ino asked = mount.ino_of(node);
  auto known = mount.client.known_directory(asked);
  if (!known) known = mount.client.known_file(asked);
  if (known) {
    mount.learn_attr(known->attr);
    return answer_known(Reply(request), known->attr, known->left);
  }
  if (mount.raw.is_statx) {
    Reply reply(request);
    Filesystem& fs = reply.filesystem();
    fs.call(request, [&] {
      const auto who = reply.who();
      const Ino ino = fs.ino_of(node);
      return fs.client.getattr(ino, who,
                               [reply = std::move(reply), ino](Result<wire::Attr> attr) mutable {
                                 answer_statx(std::move(reply), ino, std::move(attr));
                               });
    });
    return;
  }
  if (node == FUSE_ROOT_ID) return getattr_root(request);
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  fs.call(request, [&] {
    const auto who = reply.who();
    const Ino ino = fs.ino_of(node);
    return fs.client.getattr(ino, who,
                             [reply = std::move(reply), ino](Result<wire::Attr> attr) mutable {
                               answer_attr(std::move(reply), ino, attr);
                             });
  });
}

// Times are kept from 1677 to 2262; others become the nearest of these, as with ext4 beyond 2446.
WallTime wall_time(const timespec& time) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
  constexpr auto kMin = std::numeric_limits<std::int64_t>::min();
  if (time.tv_sec >= kMax / kSecond) return {kMax};
  if (time.tv_sec <= kMin / kSecond) return {kMin};
  return {static_cast<std::int64_t>(time.tv_sec) * kSecond + time.tv_nsec};
}

struct SetField {
  int kernel;
  std::uint32_t ours;
};
// A time that is "now" is so for the volcano, whatever value comes along.
constexpr std::array<SetField, 8> kSetFields = {{
    {FUSE_SET_ATTR_MODE, wire::kSetMode},
    {FUSE_SET_ATTR_UID, wire::kSetUid},
    {FUSE_SET_ATTR_GID, wire::kSetGid},
    {FUSE_SET_ATTR_SIZE, wire::kSetSize},
    {FUSE_SET_ATTR_ATIME, wire::kSetAtime},
    {FUSE_SET_ATTR_MTIME, wire::kSetMtime},
    {FUSE_SET_ATTR_ATIME_NOW, wire::kSetAtimeNow},
    {FUSE_SET_ATTR_MTIME_NOW, wire::kSetMtimeNow},
}};

wire::SetattrRequest setattr_request(Filesystem& fs, Ino ino, const struct stat& attr,
                                     int to_set) {
  wire::SetattrRequest change;
  change.ino = ino;
  for (const auto& field : kSetFields)
    if ((to_set & field.kernel) != 0) change.fields_set |= field.ours;
  if ((change.fields_set & wire::kSetAtimeNow) != 0)
    change.fields_set &= ~std::uint32_t{wire::kSetAtime};
  if ((change.fields_set & wire::kSetMtimeNow) != 0)
    change.fields_set &= ~std::uint32_t{wire::kSetMtime};
  // With HANDLE_KILLPRIV_V2 chown(2) leaves the set-id bits of files to us, whoever calls.
  const bool changes_owner = (change.fields_set & (wire::kSetUid | wire::kSetGid)) != 0;
  // Nothing to set: chown(2) to who it is, or a change of content by other means.
  if (fs.raw.kills_privileges || change.fields_set == 0 ||
      (changes_owner && !fs.inodes.is_directory(ino)))
    change.fields_set |= wire::kKillSuidGid;
  change.mode = attr.st_mode & 07777;
  change.uid = attr.st_uid;
  change.gid = attr.st_gid;
  change.size = static_cast<std::uint64_t>(attr.st_size);
  change.atime = wall_time(attr.st_atim);
  change.mtime = wall_time(attr.st_mtim);
  if ((change.fields_set & wire::kSetSize) != 0) change.key_for_chunks = fs.inodes.key_of(ino);
  return change;
}

void op_setattr(fuse_req_t request, fuse_ino_t node, struct stat* attr, int to_set,
                fuse_file_info*) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  const Ino ino = fs.ino_of(node);
  if (wire::Attr* left = fs.removed_directory(ino)) {
    apply(setattr_request(fs, ino, *attr, to_set), *left);
    reply.attr(fs.stat_of(*left), 0);
    return;
  }
  fs.call(request, [&] {
    const auto who = reply.who();
    wire::SetattrRequest change = setattr_request(fs, ino, *attr, to_set);
    wire::SetattrRequest copy = change;
    return fs.client.setattr(
        std::move(change), who,
        [reply = std::move(reply), ino, copy](Result<wire::Attr> after) mutable {
          Filesystem& filesystem = reply.filesystem();
          filesystem.changed(ino);
          if (after)
            filesystem.content_changed(after->ino, after->data_version);
          else if (wire::Attr* left = filesystem.removed_flare(ino, after.error()))
            apply(copy, *left);
          answer_attr(std::move(reply), ino, after);
        });
  });
}

void op_readlink(fuse_req_t request, fuse_ino_t node) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.readlink(fs.ino_of(node), who,
                              [reply = std::move(reply)](Result<std::string> target) mutable {
                                if (target)
                                  reply.link_target(*target);
                                else
                                  reply.fail(target.error());
                              });
  });
}

void op_statfs(fuse_req_t request, fuse_ino_t) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  const auto who = reply.who();
  auto waiting = fs.wait_for_root(std::move(reply), true);
  fs.call(request, [&] {
    return fs.client.statfs(who, [&fs, waiting](Result<wire::StatfsReply> space) {
      if (space) fs.space = *space;
      auto first = fs.take_root_wait(waiting);
      if (!first) return;
      if (space)
        first->statfs(Filesystem::statvfs_of(*space));
      else
        first->fail(space.error());
    });
  });
}

}  // namespace

void answer_known(Reply reply, const wire::Attr& attr, Duration timeout) {
  const Filesystem& fs = reply.filesystem();
  if (fs.raw.is_statx)
    answer_statx(std::move(reply), attr.ino, attr, timeout);
  else
    reply.attr(fs.stat_of(attr), timeout.seconds());
}

void add_attr_operations(fuse_lowlevel_ops& operations) {
  operations.getattr = op_getattr;
  operations.setattr = op_setattr;
  operations.readlink = op_readlink;
  operations.statfs = op_statfs;
}

}  // namespace magma::mount
