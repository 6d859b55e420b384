// Operations on names: lookup, forget, mkdir, mknod, symlink, unlink, rmdir, rename.
#include <fcntl.h>
#include <linux/fs.h>

#include "mount.magma/filesystem.h"

namespace magma::mount {

namespace {

static_assert(RENAME_NOREPLACE == wire::kRenameNoReplace);
static_assert(RENAME_EXCHANGE == wire::kRenameExchange);

// "." and ".." of an inode that the kernel knows by number only: NFS asks so, after FORGET.
void look_up_self(Reply reply, Ino ino) {
  answer_entry(std::move(reply), Ino(), {}, wire::EntryReply{.ino = ino});
}

void look_up_parent(Reply reply, Ino ino) {
  Filesystem& fs = reply.filesystem();
  const fuse_req_t request = reply.request();
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.readdir({.dir = ino, .cookie = 0, .bytes_max = 4096}, who,
                             [reply = std::move(reply)](Result<wire::ReaddirReply> r) mutable {
                               if (!r)
                                 reply.fail(r.error());
                               else
                                 look_up_self(std::move(reply), r->parent);
                             });
  });
}

// A name of the directory was found: the next ones may be worth asking for, see NamePacks.
void note_walk(Filesystem& fs, Ino dir, const client::Credentials& who) {
  const auto cookie = fs.name_packs.looked_up(dir, fs.clock.now());
  if (!cookie) return;
  wire::ReaddirRequest ask{.dir = dir,
                           .cookie = *cookie,
                           .bytes_max = kDirectoryBufferBytes,
                           .with_attributes = true};
  auto came = [&fs, dir, life = std::weak_ptr<int>(fs.life)](Result<wire::ReaddirReply> batch) {
    if (life.expired()) return;
    if (batch)
      fs.name_packs.fetched(dir, std::move(*batch), fs.clock.now());
    else
      fs.name_packs.failed(dir);
  };
  fs.client.readdir(std::move(ask), who, std::move(came));
}

void op_lookup(fuse_req_t request, fuse_ino_t node, const char* name) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  const Ino dir = fs.ino_of(node);
  const std::string_view text(name);
  if (text == ".") return look_up_self(std::move(reply), dir);
  if (text == "..") return look_up_parent(std::move(reply), dir);
  if (is_name_too_long(text)) {
    reply.fail(Code::name_too_long);
    return;
  }
  if (fs.client.knows_absent(dir, text)) {
    fs.lookup_doubts.absent(fuse_req_ctx(request)->pid);
    reply.fail(Code::not_found);
    return;
  }
  const Asked asked{fs.clock.now(), fs.coherence.name_changes()};
  const auto who = reply.who();
  auto known = fs.name_packs.take(dir, text, asked.at);
  // Under another name the kernel may know it by one that is stale: see LookupDoubts.
  if (known && (!fs.inodes.knows(known->ino) || fs.inodes.child_of(dir, text) == known->ino)) {
    note_walk(fs, dir, who);
    answer_lookup(std::move(reply), dir, std::string(text), asked, std::move(*known));
    return;
  }
  fs.call(request, [&] {
    return fs.client.lookup(dir, text, who,
                            [reply = std::move(reply), dir, asked, who, text = std::string(text)](
                                Result<wire::EntryReply> entry) mutable {
                              if (entry) note_walk(reply.filesystem(), dir, who);
                              answer_lookup(std::move(reply), dir, std::move(text), asked,
                                            std::move(entry));
                            });
  });
}

void op_forget(fuse_req_t request, fuse_ino_t node, std::uint64_t count) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  fs.forget(fs.ino_of(node), count);
  reply.none();
}

void op_forget_multi(fuse_req_t request, std::size_t count, fuse_forget_data* forgets) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  for (std::size_t i = 0; i < count; ++i)
    fs.forget(fs.ino_of(forgets[i].ino), forgets[i].nlookup);
  reply.none();
}

void op_mkdir(fuse_req_t request, fuse_ino_t node, const char* name, mode_t mode) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  const Ino dir = fs.ino_of(node);
  if (is_name_too_long(name)) {
    reply.fail(Code::name_too_long);
    return;
  }
  fs.call(request, [&] {
    const auto who = reply.who();
    wire::MkdirRequest change{.dir = dir,
                              .name = name,
                              .mode = static_cast<std::uint32_t>(mode & 07777),
                              .umask = umask_of(reply),
                              .key = fs.inodes.key_of_new(dir, name)};
    return fs.client.mkdir(std::move(change), who,
                           [reply = std::move(reply), dir, text = std::string(name)](
                               Result<wire::EntryReply> entry) mutable {
                             reply.filesystem().name_changed(dir, text);
                             answer_entry(std::move(reply), dir, std::move(text),
                                          std::move(entry));
                           });
  });
}

auto answer_made(Reply reply, Ino dir, std::string name) {
  return [reply = std::move(reply), dir,
          name = std::move(name)](Result<wire::EntryReply> entry) mutable {
    reply.filesystem().name_changed(dir, name);
    if (entry) reply.filesystem().changed(entry->ino);  // a link: its count
    answer_entry(std::move(reply), dir, std::move(name), std::move(entry));
  };
}

void op_mknod(fuse_req_t request, fuse_ino_t node, const char* name, mode_t mode, dev_t device) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  const Ino dir = fs.ino_of(node);
  if (is_name_too_long(name)) {
    reply.fail(Code::name_too_long);
    return;
  }
  fs.call(request, [&] {
    const auto who = reply.who();
    wire::MknodRequest change{.dir = dir,
                              .name = name,
                              .mode = static_cast<std::uint32_t>(mode),
                              .umask = umask_of(reply),
                              .rdev = device};
    return fs.client.mknod(std::move(change), who, answer_made(std::move(reply), dir, name));
  });
}

void op_symlink(fuse_req_t request, const char* target, fuse_ino_t node, const char* name) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  const Ino dir = fs.ino_of(node);
  const std::string_view text(target);
  if (is_name_too_long(name) || text.size() > wire::kLinkTargetBytesMax) {
    reply.fail(Code::name_too_long);
    return;
  }
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.symlink({.dir = dir, .name = name, .target = std::string(text)}, who,
                             [reply = std::move(reply), dir, link = std::string(name)](
                                 Result<wire::EntryReply> entry) mutable {
                               reply.filesystem().name_changed(dir, link);
                               answer_entry(std::move(reply), dir, std::move(link),
                                            std::move(entry));
                             });
  });
}

void op_link(fuse_req_t request, fuse_ino_t node, fuse_ino_t dir_node, const char* name) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  const Ino dir = fs.ino_of(dir_node);
  if (is_name_too_long(name)) {
    reply.fail(Code::name_too_long);
    return;
  }
  fs.call(request, [&] {
    const auto who = reply.who();
    wire::LinkRequest change{.ino = fs.ino_of(node), .dir = dir, .name = name};
    return fs.client.link(std::move(change), who, answer_made(std::move(reply), dir, name));
  });
}

auto answer_removal(Reply reply, Ino dir, std::string name) {
  return [reply = std::move(reply), dir,
          name = std::move(name)](Result<wire::EmptyReply> result) mutable {
    reply.filesystem().name_changed(dir, name);
    if (result) reply.filesystem().note_removed(dir, name);
    answer_empty(std::move(reply), result);
  };
}

// What a name leads to, for a change that may be delayed; no inode (0) if that is not known, or it
// may not be: a directory, or a file that loses one of several names.
Ino movable(Filesystem& fs, Ino child, bool is_removed) {
  return child != Ino() && fs.seen.is_movable(child, is_removed) ? child : Ino();
}

void op_unlink(fuse_req_t request, fuse_ino_t node, const char* name) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  fs.raw.victim = fs.inodes.child_of(fs.ino_of(node), name);
  fs.call(request, [&] {
    const auto who = reply.who();
    const Ino dir = fs.ino_of(node);
    const Ino ino = movable(fs, fs.raw.victim, true);
    return fs.client.unlink(dir, name, who, answer_removal(std::move(reply), dir, name), ino);
  });
}

void op_rmdir(fuse_req_t request, fuse_ino_t node, const char* name) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  fs.raw.victim = fs.inodes.child_of(fs.ino_of(node), name);
  fs.call(request, [&] {
    const auto who = reply.who();
    const Ino dir = fs.ino_of(node);
    return fs.client.rmdir(dir, name, who, answer_removal(std::move(reply), dir, name));
  });
}

void op_rename(fuse_req_t request, fuse_ino_t from_node, const char* from_name,
               fuse_ino_t to_node, const char* to_name, unsigned flags) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  if ((flags & ~(wire::kRenameNoReplace | wire::kRenameExchange)) != 0) {
    reply.fail(Code::invalid);
    return;
  }
  if (is_name_too_long(to_name)) {
    reply.fail(Code::name_too_long);
    return;
  }
  wire::RenameRequest change{.from_dir = fs.ino_of(from_node),
                             .from_name = from_name,
                             .to_dir = fs.ino_of(to_node),
                             .to_name = to_name,
                             .flags = flags};
  fs.raw.victim = fs.inodes.child_of(change.from_dir, change.from_name);
  fs.raw.other_victim = fs.inodes.child_of(change.to_dir, change.to_name);
  fs.call(request, [&] {
    const auto who = reply.who();
    wire::RenameRequest names = change;
    // The kernel has just looked the other name up: there is none.
    const bool is_free = fs.raw.other_victim == Ino();
    const Ino moved = is_free ? movable(fs, fs.raw.victim, false) : Ino();
    return fs.client.rename(
        std::move(change), who,
        [reply = std::move(reply),
         names = std::move(names)](Result<wire::EmptyReply> result) mutable {
          Filesystem& filesystem = reply.filesystem();
          filesystem.name_changed(names.from_dir, names.from_name);
          filesystem.name_changed(names.to_dir, names.to_name);
          const bool is_exchange = (names.flags & wire::kRenameExchange) != 0;
          if (result && !is_exchange) filesystem.note_removed(names.to_dir, names.to_name);
          if (result)
            filesystem.inodes.rename(names.from_dir, names.from_name, names.to_dir,
                                     names.to_name, is_exchange);
          answer_empty(std::move(reply), result);
        },
        moved);
  });
}

}  // namespace

void add_name_operations(fuse_lowlevel_ops& operations) {
  operations.lookup = op_lookup;
  operations.forget = op_forget;
  operations.forget_multi = op_forget_multi;
  operations.mkdir = op_mkdir;
  operations.mknod = op_mknod;
  operations.symlink = op_symlink;
  operations.link = op_link;
  operations.unlink = op_unlink;
  operations.rmdir = op_rmdir;
  operations.rename = op_rename;
}

}  // namespace magma::mount
