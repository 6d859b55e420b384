// Operations on content: create, open, read, write, release, fsync, fallocate, lseek,
// copy_file_range.
#include <dirent.h>
#include <fcntl.h>

#include "mount.magma/filesystem.h"

namespace magma::mount {

namespace {

constexpr int kCreateTriesMax = 16;

// Asks for the attributes of a flare that was just opened. An open with O_TRUNC by somebody
// without CAP_FSETID clears the set-id bits, which the ring's open does not: then by a change.
template <class Then>
void attributes_of(Reply reply, Ino ino, bool kills_privileges, Then then) {
  Filesystem& fs = reply.filesystem();
  const fuse_req_t request = reply.request();
  fs.call(request, [&] {
    const auto who = reply.who();
    auto done = [reply = std::move(reply), then = std::move(then)](
                    Result<wire::Attr> attr) mutable { then(std::move(reply), attr); };
    if (!kills_privileges) return fs.client.getattr(ino, who, std::move(done));
    wire::SetattrRequest change;
    change.ino = ino;
    change.fields_set = wire::kKillSuidGid;
    return fs.client.setattr(std::move(change), who, std::move(done));
  });
}

// open(2) with O_CREAT. The ring makes a file or says that the name exists; then, without O_EXCL,
// what is there is looked up and opened; if it has gone meanwhile, all begins again.
struct CreateCall {
  Ino dir;
  std::string name;
  std::uint32_t mode;
  std::uint32_t umask;
  fuse_file_info file;
  bool kills_privileges;
  int tries_left = kCreateTriesMax;
  Instant believed_until{};  // that the name leads there

  bool for_write() const { return opens_for_write(file.flags); }
  bool is_exclusive() const { return (file.flags & O_EXCL) != 0; }
  bool truncates() const { return (file.flags & O_TRUNC) != 0; }
};

void start_create(Reply reply, CreateCall create);

// The flare `ino` is open for us: answer, or let it go again.
void answer_create(Reply reply, const CreateCall& create, Ino ino,
                   const Result<wire::Attr>& attr) {
  Filesystem& fs = reply.filesystem();
  if (!attr) {
    fs.client.release(ino, create.for_write());
    reply.fail(attr.error());
    return;
  }
  const fuse_entry_param entry = fs.remember(create.dir, create.name, *attr, create.believed_until);
  fuse_file_info file = create.file;
  set_cache_flags(fs, *attr, file);
  if (reply.created(entry, file)) return;
  fs.client.release(ino, create.for_write());
  fs.forget(ino, 1);
}

// Opens a file that was there already.
void open_existing(Reply reply, CreateCall create, Ino ino) {
  Filesystem& fs = reply.filesystem();
  const fuse_req_t request = reply.request();
  fs.call(request, [&] {
    const auto who = reply.who();
    const bool for_write = create.for_write(), truncate = create.truncates();
    return fs.client.open(
        ino, for_write, truncate, who,
        [reply = std::move(reply), create = std::move(create),
         ino](Result<wire::Attr> attr) mutable {
          reply.filesystem().changed(ino);
          if (create.truncates()) reply.filesystem().content_changed(ino, 0);
          if (!attr) {
            reply.fail(attr.error());
          } else if (!create.kills_privileges || !create.truncates()) {
            answer_create(std::move(reply), create, ino, attr);
          } else {
            attributes_of(std::move(reply), ino, true,
                          [create = std::move(create), ino](Reply owed,
                                                            const Result<wire::Attr>& after) {
                            answer_create(std::move(owed), create, ino, after);
                          });
          }
        });
  });
}

void look_up_existing(Reply reply, CreateCall create) {
  Filesystem& fs = reply.filesystem();
  const fuse_req_t request = reply.request();
  fs.call(request, [&] {
    const auto who = reply.who();
    const Ino dir = create.dir;
    const std::string name = create.name;
    return fs.client.lookup(
        dir, name, who,
        [reply = std::move(reply),
         create = std::move(create)](Result<wire::EntryReply> entry) mutable {
          if (entry) create.believed_until = entry->believed_until;
          if (entry && entry->type == DT_REG) {
            open_existing(std::move(reply), std::move(create), entry->ino);
          } else if (entry) {
            reply.fail(Code::stale);  // the kernel looks again: a link to follow, a directory
          } else if (entry.error().code == Code::not_found && --create.tries_left > 0) {
            start_create(std::move(reply), std::move(create));
          } else {
            reply.fail(entry.error());
          }
        });
  });
}

void on_created(Reply reply, CreateCall create, Result<wire::EntryReply> entry) {
  reply.filesystem().name_changed(create.dir, create.name);
  if (!entry) {
    if (entry.error().code == Code::exists && !create.is_exclusive())
      look_up_existing(std::move(reply), std::move(create));
    else
      reply.fail(entry.error());
    return;
  }
  const Ino ino = entry->ino;
  create.believed_until = entry->believed_until;
  if (entry->attr) {
    answer_create(std::move(reply), create, ino, std::move(*entry->attr));
    return;
  }
  attributes_of(std::move(reply), ino, false,
                [create = std::move(create), ino](Reply owed, const Result<wire::Attr>& attr) {
                  answer_create(std::move(owed), create, ino, attr);
                });
}

void start_create(Reply reply, CreateCall create) {
  Filesystem& fs = reply.filesystem();
  const fuse_req_t request = reply.request();
  fs.call(request, [&] {
    const auto who = reply.who();
    wire::CreateRequest change;
    change.dir = create.dir;
    change.name = create.name;
    change.mode = create.mode;
    change.umask = create.umask;
    change.exclusive = create.is_exclusive();
    change.for_write = create.for_write();
    return fs.client.create(std::move(change), who,
                            [reply = std::move(reply), create = std::move(create)](
                                Result<wire::EntryReply> entry) mutable {
                              on_created(std::move(reply), std::move(create), std::move(entry));
                            });
  });
}

// A file without a name; its place in the tree is not known.
void make_tmpfile(Reply reply, Ino dir, mode_t mode, const fuse_file_info& file) {
  Filesystem& fs = reply.filesystem();
  const fuse_req_t request = reply.request();
  fs.call(request, [&] {
    const auto who = reply.who();
    wire::TmpfileRequest change{.dir = dir,
                                .mode = static_cast<std::uint32_t>(mode & 07777),
                                .umask = umask_of(reply),
                                .for_write = opens_for_write(file.flags)};
    return fs.client.tmpfile(
        change, who,
        [reply = std::move(reply), dir, file](Result<wire::EntryReply> made) mutable {
          if (!made || !made->attr) {
            reply.fail(made ? Code::malformed : made.error().code);
            return;
          }
          CreateCall create{.dir = dir,
                            .name = {},
                            .mode = 0,
                            .umask = 0,
                            .file = file,
                            .kills_privileges = false};
          const Ino ino = made->ino;
          answer_create(std::move(reply), create, ino, std::move(*made->attr));
        });
  });
}

void op_create(fuse_req_t request, fuse_ino_t node, const char* name, mode_t mode,
               fuse_file_info* file) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  if (fs.raw.is_tmpfile) return make_tmpfile(std::move(reply), fs.ino_of(node), mode, *file);
  if (is_name_too_long(name)) {
    reply.fail(Code::name_too_long);
    return;
  }
  CreateCall create{.dir = fs.ino_of(node),
                    .name = name,
                    .mode = static_cast<std::uint32_t>(mode & 07777),
                    .umask = umask_of(reply),
                    .file = *file,
                    .kills_privileges = fs.raw.kills_privileges};
  start_create(std::move(reply), std::move(create));
}

void answer_open(Reply reply, Ino ino, fuse_file_info file, const Result<wire::Attr>& attr) {
  Filesystem& fs = reply.filesystem();
  const bool for_write = opens_for_write(file.flags);
  if (!attr) {
    fs.client.release(ino, for_write);
    reply.fail(attr.error());
    return;
  }
  set_cache_flags(fs, *attr, file);
  if (!reply.opened(file)) fs.client.release(ino, for_write);
}

// For reading only: the bytes of a small file may come along.
void open_to_read(Reply reply, Ino ino, const fuse_file_info& file) {
  Filesystem& fs = reply.filesystem();
  const fuse_req_t request = reply.request();
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.open_with_content(
        ino, fs.inodes.content_version(ino), who,
        [reply = std::move(reply), ino, file,
         changes = fs.content_changes](Result<client::Opened> opened) mutable {
          Filesystem& filesystem = reply.filesystem();
          filesystem.changed(ino);
          if (!opened) {
            reply.fail(opened.error());
            return;
          }
          // What was changed meanwhile may have been answered before.
          if (opened->content && filesystem.content_changes == changes)
            filesystem.keep_content(opened->attr, std::move(*opened->content));
          answer_open(std::move(reply), ino, file, std::move(opened->attr));
        });
  });
}

void op_open(fuse_req_t request, fuse_ino_t node, fuse_file_info* file) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  const Ino ino = fs.ino_of(node);
  const bool truncate = (file->flags & O_TRUNC) != 0;
  const bool kills_privileges = fs.raw.kills_privileges && truncate;
  if (!truncate && !opens_for_write(file->flags) && (file->flags & O_DIRECT) == 0)
    return open_to_read(std::move(reply), ino, *file);
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.open(
        ino, opens_for_write(file->flags), truncate, who,
        [reply = std::move(reply), ino, file = *file, truncate,
         kills_privileges](Result<wire::Attr> attr) mutable {
          Filesystem& filesystem = reply.filesystem();
          filesystem.changed(ino);
          if (truncate) filesystem.content_changed(ino, 0);
          if (!attr) {
            reply.fail(attr.error());
          } else if (!kills_privileges) {
            answer_open(std::move(reply), ino, file, attr);
          } else {
            attributes_of(std::move(reply), ino, true,
                          [ino, file](Reply owed, const Result<wire::Attr>& after) {
                            answer_open(std::move(owed), ino, file, after);
                          });
          }
        });
  });
}

void op_read(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset,
             fuse_file_info* file) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  if (size > wire::kIoBytesMax) size = wire::kIoBytesMax;
  const Ino ino = fs.ino_of(node);
  fs.read_since_open.insert(ino);
  if ((file->flags & O_DIRECT) == 0)
    if (auto kept = fs.kept_content(ino, static_cast<std::uint64_t>(offset), size)) {
      reply.bytes(*kept);
      return;
    }
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.read(ino, static_cast<std::uint64_t>(offset),
                          static_cast<std::uint32_t>(size), who,
                          [reply = std::move(reply)](Result<Bytes> bytes) mutable {
                            if (bytes)
                              reply.bytes(*bytes);
                            else
                              reply.fail(bytes.error());
                          });
  });
}

void op_write(fuse_req_t request, fuse_ino_t node, const char* bytes, std::size_t size,
              off_t offset, fuse_file_info* file) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  const Ino ino = fs.ino_of(node);
  if (size > wire::kIoBytesMax) {
    reply.fail(Code::invalid);
    return;
  }
  // The one copy: libfuse's buffer takes the next request.
  const auto* first = reinterpret_cast<const std::uint8_t*>(bytes);
  Bytes payload(first, first + size);
  fs.call(request, [&] {
    const auto who = reply.who();
    // The kernel knows the end of the file as of its last look; the ring knows the real one.
    const bool append = (file->flags & O_APPEND) != 0;
    const bool may_delay = (file->flags & (O_SYNC | O_DSYNC | O_DIRECT)) == 0;
    return fs.client.write(
        ino, static_cast<std::uint64_t>(offset), std::move(payload), append,
        fs.raw.kills_privileges, who,
        [reply = std::move(reply), ino, size](Result<wire::WriteReply> done) mutable {
          Filesystem& filesystem = reply.filesystem();
          filesystem.changed(ino);
          if (!done) {
            reply.fail(done.error());
            return;
          }
          if (done->is_delayed)
            filesystem.content_changed_here(ino);
          else
            filesystem.content_changed(ino, done->data_version);
          reply.written(size);
        },
        may_delay);
  });
}

void op_release(fuse_req_t request, fuse_ino_t node, fuse_file_info* file) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  const Ino ino = fs.ino_of(node);
  release_record_locks(fs, ino, file->fh);
  if (file->flock_release != 0) release_flock(fs, ino, file->lock_owner);
  // What is read from the kernel's pages nobody tells us: an open for reading counts as a read.
  const bool reads = fs.read_since_open.erase(ino) > 0 || !opens_for_write(file->flags);
  const bool was_read = reads && (file->flags & O_NOATIME) == 0;
  fs.client.release(ino, opens_for_write(file->flags), was_read && fs.sets_access_times);
  reply.ok();
}

// One step after the other until the whole range is done.
void allocate(Reply reply, wire::FallocateRequest change) {
  Filesystem& fs = reply.filesystem();
  const fuse_req_t request = reply.request();
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.fallocate(
        change, who,
        [reply = std::move(reply), change](Result<wire::FallocateReply> done) mutable {
          Filesystem& filesystem = reply.filesystem();
          filesystem.changed(change.ino);
          if (!done) {
            reply.fail(done.error());
            return;
          }
          filesystem.content_changed(change.ino, done->attr.data_version);
          if (done->next >= change.offset + change.length) {
            reply.ok();
            return;
          }
          change.from = done->next;
          allocate(std::move(reply), change);
        });
  });
}

void op_fallocate(fuse_req_t request, fuse_ino_t node, int mode, off_t offset, off_t length,
                  fuse_file_info*) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  if (offset < 0 || length <= 0) {
    reply.fail(Code::invalid);
    return;
  }
  // The kernel clears set-id bits before; capabilities go with any change.
  wire::FallocateRequest change{.ino = fs.ino_of(node),
                                .mode = static_cast<std::uint32_t>(mode),
                                .offset = static_cast<std::uint64_t>(offset),
                                .length = static_cast<std::uint64_t>(length),
                                .from = static_cast<std::uint64_t>(offset),
                                .kill_suidgid = reply.who().uid != 0,
                                .key_for_chunks = {}};
  allocate(std::move(reply), change);
}

void op_lseek(fuse_req_t request, fuse_ino_t node, off_t offset, int whence, fuse_file_info*) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  if (offset < 0 || (whence != SEEK_DATA && whence != SEEK_HOLE)) {
    reply.fail(offset < 0 ? Code::no_device : Code::invalid);
    return;
  }
  fs.call(request, [&] {
    const auto who = reply.who();
    wire::SeekRequest ask{.ino = fs.ino_of(node),
                          .offset = static_cast<std::uint64_t>(offset),
                          .data = whence == SEEK_DATA};
    return fs.client.seek(ask, who,
                          [reply = std::move(reply)](Result<wire::SeekReply> found) mutable {
                            if (found)
                              reply.offset(static_cast<off_t>(found->offset));
                            else
                              reply.fail(found.error());
                          });
  });
}

void op_copy_file_range(fuse_req_t request, fuse_ino_t from, off_t from_offset,
                        fuse_file_info*, fuse_ino_t to, off_t to_offset, fuse_file_info*,
                        std::size_t length, int flags) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  if (flags != 0 || from_offset < 0 || to_offset < 0) {
    reply.fail(Code::invalid);
    return;
  }
  const Ino target = fs.ino_of(to);
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.copy(fs.ino_of(from), static_cast<std::uint64_t>(from_offset), target,
                          static_cast<std::uint64_t>(to_offset), length, who.uid != 0, who,
                          [reply = std::move(reply),
                           target](Result<std::uint64_t> copied) mutable {
                            reply.filesystem().changed(target);
                            reply.filesystem().content_changed(target, 0);
                            if (copied)
                              reply.written(*copied);
                            else
                              reply.fail(copied.error());
                          });
  });
}

void op_fsync(fuse_req_t request, fuse_ino_t node, int, fuse_file_info*) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.fsync(fs.ino_of(node), who,
                           [reply = std::move(reply)](Result<wire::EmptyReply> done) mutable {
                             answer_empty(std::move(reply), done);
                           });
  });
}

}  // namespace

void add_data_operations(fuse_lowlevel_ops& operations) {
  operations.create = op_create;
  operations.open = op_open;
  operations.read = op_read;
  operations.write = op_write;
  operations.release = op_release;
  operations.fsync = op_fsync;
  operations.fsyncdir = op_fsync;
  operations.fallocate = op_fallocate;
  operations.lseek = op_lseek;
  operations.copy_file_range = op_copy_file_range;
}

}  // namespace magma::mount
