// Operations on attributes: getattr, setattr, readlink, statfs.
#include <fcntl.h>

#include <array>

#include "mount.magma/filesystem.h"

namespace magma::mount {

namespace {

void answer_attr(Reply reply, const Result<wire::Attr>& attr) {
  if (attr)
    reply.attr(reply.filesystem().stat_of(*attr),
               attr_timeout(*attr, kTimeout).seconds());
  else
    reply.fail(attr.error());
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
      if (auto first = fs.take_root_wait(waiting)) answer_attr(std::move(*first), attr);
    });
  });
}

void op_getattr(fuse_req_t request, fuse_ino_t node, fuse_file_info*) {
  if (node == FUSE_ROOT_ID) return getattr_root(request);
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.getattr(fs.ino_of(node), who,
                             [reply = std::move(reply)](Result<wire::Attr> attr) mutable {
                               answer_attr(std::move(reply), attr);
                             });
  });
}

WallTime wall_time(const timespec& time) {
  return {static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec};
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
  if (fs.raw.kills_privileges || (changes_owner && !fs.inodes.is_directory(ino)))
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
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.setattr(setattr_request(fs, ino, *attr, to_set), who,
                             [reply = std::move(reply)](Result<wire::Attr> after) mutable {
                               Filesystem& filesystem = reply.filesystem();
                               ++filesystem.changes;
                               if (after)
                                 filesystem.inodes.changed_here(after->ino, after->data_version);
                               answer_attr(std::move(reply), after);
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

void add_attr_operations(fuse_lowlevel_ops& operations) {
  operations.getattr = op_getattr;
  operations.setattr = op_setattr;
  operations.readlink = op_readlink;
  operations.statfs = op_statfs;
}

}  // namespace magma::mount
