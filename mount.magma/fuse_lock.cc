// Advisory locks: getlk and setlk (fcntl(2)), flock, and what of them ends with a close (flush,
// release). They are kept at the volcano, so they hold between mounts.
//
// A lock that must be waited for is asked for, and if it is not to be had the volcano is asked to
// tell when that may have changed; the wait, which is no change, can be given up at any signal.
#include <fcntl.h>
#include <sys/file.h>

#include "libmagma/base/log.h"
#include "mount.magma/filesystem.h"

namespace magma::mount {

namespace {

constexpr std::uint64_t kEndOfFile = ~std::uint64_t{0};

wire::LockType type_of(short type) {
  return type == F_WRLCK   ? wire::LockType::exclusive
         : type == F_RDLCK ? wire::LockType::shared
                           : wire::LockType::none;
}

wire::LockRequest record_request(Ino ino, const fuse_file_info& file, const struct flock& lock) {
  const auto first = static_cast<std::uint64_t>(lock.l_start);
  return {.ino = ino,
          .kind = wire::LockKind::record,
          .type = type_of(lock.l_type),
          .owner = file.lock_owner,
          .pid = static_cast<std::uint32_t>(lock.l_pid),
          .first = first,
          .last = lock.l_len == 0 ? kEndOfFile
                                  : first + static_cast<std::uint64_t>(lock.l_len) - 1};
}

// All that `owner` has locked of the file, freed.
wire::LockRequest unlock_all(Ino ino, wire::LockKind kind, std::uint64_t owner) {
  return {.ino = ino,
          .kind = kind,
          .type = wire::LockType::none,
          .owner = owner,
          .pid = 0,
          .first = 0,
          .last = kEndOfFile};
}

void ask(Reply reply, wire::LockRequest wanted, bool waits);

// Who has a lock sees what the one before has written: pages of an older version go first.
void granted(Reply reply, const wire::LockRequest& lock, std::uint64_t version) {
  Filesystem& fs = reply.filesystem();
  ++fs.content_changes;  // what an open brings that is under way may be older than the lock
  fs.content_seen(lock.ino, version);
  if (lock.type == wire::LockType::none || fs.inodes.opened(lock.ino, version)) {
    reply.ok();
    return;
  }
  fs.invalidate(lock.ino, [reply = std::move(reply)]() mutable { reply.ok(); });
}

void wait(Reply reply, const wire::LockRequest& wanted) {
  Filesystem& fs = reply.filesystem();
  const fuse_req_t request = reply.request();
  fs.waiting_for_locks.insert(request);
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.wait_for_lock(
        wanted, who, [reply = std::move(reply), wanted](Result<wire::EmptyReply> told) mutable {
          reply.filesystem().waiting_for_locks.erase(reply.request());
          if (told)
            ask(std::move(reply), wanted, true);
          else
            reply.fail(told.error());
        });
  });
}

void ask(Reply reply, wire::LockRequest wanted, bool waits) {
  Filesystem& fs = reply.filesystem();
  const fuse_req_t request = reply.request();
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.lock(
        wanted, who,
        [reply = std::move(reply), wanted, waits](Result<wire::LockReply> done) mutable {
          if (done)
            granted(std::move(reply), wanted, done->data_version);
          else if (waits && done.error().code == Code::would_block)
            wait(std::move(reply), wanted);
          else
            reply.fail(done.error());
        });
  });
}

void op_getlk(fuse_req_t request, fuse_ino_t node, fuse_file_info* file, struct flock* lock) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  wire::LockRequest wanted = record_request(fs.ino_of(node), *file, *lock);
  if (wanted.type == wire::LockType::none) {
    reply.fail(Code::invalid);
    return;
  }
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.test_lock(
        wanted, who,
        [reply = std::move(reply), asked = *lock](Result<wire::TestLockReply> found) mutable {
          if (!found) {
            reply.fail(found.error());
            return;
          }
          struct flock answer = asked;
          answer.l_type = F_UNLCK;
          if (found->type != wire::LockType::none) {
            answer.l_type = found->type == wire::LockType::exclusive ? F_WRLCK : F_RDLCK;
            answer.l_whence = SEEK_SET;
            answer.l_start = static_cast<off_t>(found->first);
            answer.l_len = found->last == kEndOfFile
                               ? 0
                               : static_cast<off_t>(found->last - found->first + 1);
            answer.l_pid = static_cast<pid_t>(found->pid);
          }
          reply.lock(answer);
        });
  });
}

void op_setlk(fuse_req_t request, fuse_ino_t node, fuse_file_info* file, struct flock* lock,
              int waits) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  wire::LockRequest wanted = record_request(fs.ino_of(node), *file, *lock);
  if (wanted.type != wire::LockType::none) {
    fs.record_lock_owners.insert({wanted.ino, wanted.owner});
    fs.lock_handles[file->fh].insert(wanted.owner);
  }
  ask(std::move(reply), wanted, waits != 0);
}

void op_flock(fuse_req_t request, fuse_ino_t node, fuse_file_info* file, int operation) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  const int kind = operation & ~LOCK_NB;
  wire::LockRequest wanted{.ino = fs.ino_of(node),
                           .kind = wire::LockKind::flock,
                           .type = kind == LOCK_EX   ? wire::LockType::exclusive
                                   : kind == LOCK_SH ? wire::LockType::shared
                                                     : wire::LockType::none,
                           .owner = file->lock_owner,
                           .pid = 0,
                           .first = 0,
                           .last = kEndOfFile};
  ask(std::move(reply), wanted, (operation & LOCK_NB) == 0);
}

void let_go(Filesystem& fs, Ino ino, wire::LockKind kind, std::uint64_t owner) {
  fs.client.lock(unlock_all(ino, kind, owner), {}, [ino](Result<wire::LockReply> done) {
    if (!done)
      log_warning("lock_not_released ino={:016x} error={}", ino.value,
                  describe(done.error()));
  });
}

// close(2) of any descriptor waits for what was written, tells whether it was lost, and ends the
// record locks its process has on the file.
void op_flush(fuse_req_t request, fuse_ino_t node, fuse_file_info* file) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  const Ino ino = fs.ino_of(node);
  const std::uint64_t owner = file->lock_owner;
  auto closed = [ino, owner](Reply owed, const Result<wire::EmptyReply>& sent) {
    Filesystem& filesystem = owed.filesystem();
    const bool has_locks = filesystem.record_lock_owners.erase({ino, owner}) > 0;
    if (sent && has_locks)
      return ask(std::move(owed), unlock_all(ino, wire::LockKind::record, owner), false);
    if (has_locks) let_go(filesystem, ino, wire::LockKind::record, owner);
    answer_empty(std::move(owed), sent);
  };
  // The kernel does not say how the file was opened: a reader's close waits, too.
  fs.call(request, [&] {
    return fs.client.close(ino, [reply = std::move(reply),
                                 closed](const Result<wire::EmptyReply>& sent) mutable {
      closed(std::move(reply), sent);
    });
  });
}

}  // namespace

void release_flock(Filesystem& fs, Ino ino, std::uint64_t owner) {
  let_go(fs, ino, wire::LockKind::flock, owner);
}

void release_record_locks(Filesystem& fs, Ino ino, std::uint64_t handle) {
  auto found = fs.lock_handles.find(handle);
  if (found == fs.lock_handles.end()) return;
  for (std::uint64_t owner : found->second)
    if (fs.record_lock_owners.erase({ino, owner}) > 0)
      let_go(fs, ino, wire::LockKind::record, owner);
  fs.lock_handles.erase(found);
}

void add_lock_operations(fuse_lowlevel_ops& operations) {
  operations.getlk = op_getlk;
  operations.setlk = op_setlk;
  operations.flock = op_flock;
  operations.flush = op_flush;
}

}  // namespace magma::mount
