// rename(from, to), coordinated by the destination directory's home.
//
// Within one directory, nothing remote replaced: one transaction. Otherwise an operation:
//   1. a directory that changes its parent: the rename lock (one at a time in the filesystem), and
//      the destination must not lie below it
//   2. source at another directory: part rename_source locks and tells the entry
//   3. a directory that is replaced: part remove_directory locks it, if it is empty
//   4. commit: entry at the destination; after it the source's entry goes (once the commit is
//      durable, for taking it away cannot be undone), a replaced inode of another home loses its
//      link, a moved directory learns its new parent
// An exchange is the same with two entries: what the destination's name led to goes back with
// rename_source, and may be a directory that changes its parent as well.
// Content of a file that replaces another is synced before the commit (DESIGN.md 4.1).
#include <dirent.h>
#include <sys/stat.h>

#include <memory>

#include "libmagma/crypto/path_hash.h"
#include "magmad/ops/authority.h"
#include "magmad/ops/operations.h"
#include "magmad/ops/ops.h"
#include "magmad/ops/questions.h"

namespace magma::ops {

namespace {

// Code to answer if `source` may not replace `target`.
std::optional<Code> replace_error(const store::EntryRow& source, const store::EntryRow& target) {
  if (source.type == DT_DIR && target.type != DT_DIR) return Code::not_a_directory;
  if (source.type != DT_DIR && target.type == DT_DIR) return Code::is_a_directory;
  return std::nullopt;
}

void touch_ctime(Shard& shard, Ino ino, WallTime when) {
  auto row = shard.inode(ino);
  if (!row) return;
  row->ctime = std::max(row->ctime, when);
  shard.put_inode(ino, *row);
}

// What is moved changes its ctime; at another volcano as a part.
void touch_moved(Shard& shard, Ino ino, WallTime when, std::vector<PartSpec>& parts) {
  const ring::Slot home = ring::home_of(ino);
  if (shard.is_near(home)) return touch_ctime(shard, ino, when);
  parts.push_back({home, PartKind::touch_inode, false, 0, wire::encode(TouchInode{ino, when})});
}

bool needs_content_sync(Shard& shard, Ino ino) {
  if (!shard.is_near(ring::home_of(ino))) return true;
  auto row = shard.inode(ino);
  return row && (row->place == store::ContentPlace::home_file ||
                 row->place == store::ContentPlace::chunks);
}

// The changes at the destination that every kind of rename has in common. Parts for what lies
// elsewhere are added to `parts`.
void enter_destination(Shard& shard, const wire::RenameRequest& message, store::InodeRow& to_row,
                       const store::EntryRow& source, const std::optional<store::EntryRow>& target,
                       WallTime when, std::vector<PartSpec>& parts) {
  if (target) {
    if (target->type == DT_DIR) {
      --to_row.nlink;
    } else if (ring::home_of(target->ino) == ring::home_of(message.to_dir)) {
      if (auto row = shard.inode(target->ino))
        drop_link(shard, target->ino, std::move(*row), when, true);
    } else {
      parts.push_back({ring::home_of(target->ino), PartKind::drop_link, false, 0,
                       wire::encode(DropLink{target->ino, when})});
    }
  }
  shard.put(Shard::entry_key(message.to_dir, message.to_name), source);
  if (source.type == DT_DIR && message.from_dir != message.to_dir) ++to_row.nlink;
  touch_directory(shard, message.to_dir, to_row, when);
}

// `entry` is that of a directory: its attributes change as well.
void add_directory(const store::EntryRow& entry, std::vector<Ino>& directories) {
  if (entry.type == DT_DIR) directories.push_back(entry.ino);
}

// What lies at other slots, of a rename that is one transaction here.
void commit_parts(Shard& shard, Request& request, std::vector<PartSpec> parts) {
  if (parts.empty()) return;
  OpId op = shard.operations().commit_now(request.head.slot, OperationKind::rename,
                                          std::move(parts), ApplyWhen::durable);
  shard.operations().hold_links_until_applied(op, request);
}

// ---- within one directory, in one transaction

void exchange_here(Shard& shard, RequestPtr request, const wire::RenameRequest& message,
                   store::InodeRow dir, const store::EntryRow& source,
                   const store::EntryRow& target) {
  WallTime when = shard.time();
  std::vector<PartSpec> parts;
  shard.put(Shard::entry_key(message.to_dir, message.to_name), source);
  shard.put(Shard::entry_key(message.from_dir, message.from_name), target);
  touch_directory(shard, message.to_dir, dir, when);
  touch_moved(shard, source.ino, when, parts);
  touch_moved(shard, target.ino, when, parts);
  commit_parts(shard, *request, std::move(parts));
  std::vector<Ino> others;
  add_directory(source, others);
  add_directory(target, others);
  tell_directory(shard, *request, message.to_dir, dir, std::move(others));
  shard.answer(std::move(request), wire::EmptyReply{});
}

void rename_here(Shard& shard, RequestPtr request, const wire::RenameRequest& message,
                 store::InodeRow dir, const store::EntryRow& source,
                 const std::optional<store::EntryRow>& target) {
  WallTime when = shard.time();
  std::vector<PartSpec> parts;
  shard.erase(Shard::entry_key(message.from_dir, message.from_name));
  enter_destination(shard, message, dir, source, target, when, parts);
  touch_moved(shard, source.ino, when, parts);
  commit_parts(shard, *request, std::move(parts));
  std::vector<Ino> others;
  add_directory(source, others);
  tell_directory(shard, *request, message.to_dir, dir, std::move(others));
  if (message.wants_to_delay)
    request->may_delay = shard.let_delay_names(*request, message.to_dir);
  shard.answer(std::move(request), wire::EmptyReply{});
}

// ---- over several slots

// A rename under way: its steps hold it alive through their callbacks.
struct Rename : std::enable_shared_from_this<Rename> {
  Rename(Shard& s, wire::RenameRequest m) : shard(s), message(std::move(m)) {}

  Shard& shard;
  wire::RenameRequest message;
  OpId op{};
  bool within = false;  // one directory: the source's entry is locked here, not by a part
  bool has_rename_lock = false;
  bool exchange = false;
  store::EntryRow source;
  std::optional<store::EntryRow> target;

  void stop(const Error& error) {
    RequestPtr request = shard.operations().abort(op);
    if (error.code == Code::locked)
      return shard.retry_later(std::move(request), milliseconds(1 + (op.value & 3)));
    shard.refuse(std::move(request), error);
  }

  void start() {
    bool moves_directory = source.type == DT_DIR || (exchange && target->type == DT_DIR);
    if (!within && moves_directory) return take_rename_lock();
    hold_names();
    prepare_source();
  }

  // Requires: they are not locked.
  void hold_names() {
    shard.operations().hold(op, message.to_dir, message.to_name);
    if (within) shard.operations().hold(op, message.from_dir, message.from_name);
  }

  // Whoever has the rename lock may wait for any other; so nothing else is held meanwhile.
  void take_rename_lock() {
    has_rename_lock = true;
    shard.operations().prepare(
        op, ring::home_of(Shard::root()), PartKind::rename_lock, wire::encode(RenameLock{}),
        [self = shared_from_this()](Result<Bytes> answer) {
          if (!answer) return self->stop(answer.error());
          if (!self->is_as_before()) return self->stop(Error{Code::locked, {}});  // from the start
          self->hold_names();
          is_above(self->shard, self->source.ino, self->message.to_dir,
                   [self](bool is) { self->checked(is, !self->exchange); });
        });
  }

  // Whether the name at the destination is free to be held, and leads to what an exchange has seen.
  bool is_as_before() {
    if (shard.is_locked(message.to_dir) || shard.is_locked(message.to_dir, message.to_name))
      return false;
    if (!exchange) return true;
    auto now = shard.get<store::EntryRow>(Shard::entry_key(message.to_dir, message.to_name));
    return now && now->ino == target->ino && now->type == target->type;
  }

  // Neither may a directory move below itself.
  void checked(bool is_circle, bool is_last) {
    if (!shard.operations().is_active(op)) return;
    if (is_circle) return stop(Error{Code::invalid, "a directory cannot move below itself"});
    if (is_last) return prepare_source();
    is_above(shard, target->ino, message.from_dir,
             [self = shared_from_this()](bool is) { self->checked(is, true); });
  }

  void prepare_source() {
    if (within) return check_target();
    RenameSource part{message.from_dir, message.from_name, {}, shard.time(), {}};
    if (exchange) part.instead = target;
    shard.operations().prepare(op, ring::home_of(message.from_dir), PartKind::rename_source,
                               wire::encode(part),
                               [self = shared_from_this()](Result<Bytes> answer) {
                                 self->source_prepared(std::move(answer));
                               });
  }

  void source_prepared(Result<Bytes> answer) {
    if (!answer) return stop(answer.error());
    auto part = wire::decode<RenameSource>(*answer);
    if (!part) return stop(part.error());
    bool became_directory = part->entry.type == DT_DIR && !has_rename_lock;
    // It changed between the first look and the lock: from the start.
    if (became_directory || part->entry.ino != source.ino) return stop(Error{Code::locked, {}});
    source = part->entry;
    check_target();
  }

  void check_target() {
    if (exchange) return sync_source(false);  // the target is held since before
    target = shard.get<store::EntryRow>(Shard::entry_key(message.to_dir, message.to_name));
    if (target && (message.flags & wire::kRenameNoReplace) != 0)
      return stop(Error{Code::exists, {}});
    if (target && target->ino == source.ino) {
      // Two links of one file: nothing to do (rename(2)).
      RequestPtr request = shard.operations().abort(op);
      return shard.answer(std::move(request), wire::EmptyReply{});
    }
    if (target)
      if (auto error = replace_error(source, *target)) return stop(Error{*error, {}});
    if (!target || target->type == DT_DIR) return sync_source(true);
    sync_contents(shard, source.ino, [self = shared_from_this()](Result<void> synced) {
      if (!self->shard.operations().is_active(self->op)) return;
      if (!synced) return self->stop(synced.error());
      self->sync_source(false);
    });
  }

  // The new entry may become durable before the rows it leads to (the inode, the intent that made a
  // directory), which lie in other databases: they are made durable first.
  void sync_source(bool has_target_to_prepare) {
    auto next = [self = shared_from_this(), has_target_to_prepare](Result<void> synced) {
      if (!self->shard.operations().is_active(self->op)) return;
      if (!synced) return self->stop(synced.error());
      if (has_target_to_prepare)
        self->prepare_target();
      else
        self->commit();
    };
    if (within) return next({});
    if (shard.is_near(ring::home_of(source.ino)))
      return shard.metadata().sync_all(shard.as_step<void>(std::move(next)));
    // Of another volcano: its rows with its content. The intent that made the entry may be here.
    auto here = [self = shared_from_this(), next = std::move(next)](Result<void> synced) mutable {
      const ring::Slot from = ring::home_of(self->message.from_dir);
      if (!synced || !self->shard.is_near(from)) return next(std::move(synced));
      self->shard.metadata().sync(from.value % store::kDatabases,
                                  self->shard.as_step<void>(std::move(next)));
    };
    sync_contents(shard, source.ino, std::move(here));
  }

  void prepare_target() {
    if (!target) return commit();
    shard.operations().prepare(op, ring::home_of(target->ino), PartKind::remove_directory,
                               wire::encode(RemoveDirectory{target->ino}),
                               [self = shared_from_this()](Result<Bytes> answer) {
                                 if (!answer) return self->stop(answer.error());
                                 self->commit();
                               });
  }

  // What an entry leads to learns its new parent, if it is a directory, and changes its ctime.
  void moved(const store::EntryRow& entry, Ino parent, WallTime when,
             std::vector<PartSpec>& parts) {
    if (entry.type == DT_DIR && !within)
      parts.push_back({ring::home_of(entry.ino), PartKind::set_parent, false, 0,
                       wire::encode(SetParent{entry.ino, parent, when})});
    else
      touch_moved(shard, entry.ino, when, parts);
  }

  void commit() {
    auto dir = directory_of(shard, message.to_dir);
    if (!dir) return stop(dir.error());
    WallTime when = shard.time();
    std::vector<PartSpec> parts;
    if (exchange) {
      shard.put(Shard::entry_key(message.to_dir, message.to_name), source);
      if (target->type == DT_DIR) --dir->row.nlink;
      if (source.type == DT_DIR) ++dir->row.nlink;
      touch_directory(shard, message.to_dir, dir->row, when);
      moved(*target, message.from_dir, when, parts);
    } else {
      if (within) shard.erase(Shard::entry_key(message.from_dir, message.from_name));
      enter_destination(shard, message, dir->row, source, target, when, parts);
    }
    moved(source, message.to_dir, when, parts);
    ApplyWhen when_to_apply =
        within && parts.empty() ? ApplyWhen::durable_lazily : ApplyWhen::durable;
    RequestPtr request = shard.operations().commit(op, std::move(parts), when_to_apply);
    shard.operations().hold_links_until_applied(op, *request);
    if (!within) {
      shard.will_change(message.from_dir);
      shard.will_change(message.from_dir, message.from_name);
      shard.will_change(source.ino);
      if (exchange) shard.will_change(target->ino);
    }
    std::vector<Ino> others;
    if (!within) others.push_back(message.from_dir);
    add_directory(source, others);
    if (target) add_directory(*target, others);
    tell_directory(shard, *request, message.to_dir, dir->row, std::move(others));
    shard.answer(std::move(request), wire::EmptyReply{});
  }
};

// The request waits if anything it names is locked.
bool park_if_locked(Shard& shard, RequestPtr& request, const wire::RenameRequest& message) {
  for (auto [dir, name] : {std::pair<Ino, std::string_view>{message.to_dir, {}},
                           {message.to_dir, message.to_name},
                           {message.from_dir, {}},
                           {message.from_dir, message.from_name}})
    if (shard.is_locked(dir, name)) {
      shard.park(std::move(request), dir, name);
      return true;
    }
  return false;
}

// The entry that is to be moved may be another volcano's; then the request comes again with it.
bool ask_for_source(Shard& shard, RequestPtr& request, const wire::RenameRequest& message) {
  const ring::Slot there = ring::home_of(message.from_dir);
  if (shard.is_near(there) || request->told_entry) return false;
  auto told = [&shard](Result<Bytes> entry, RequestPtr asker) {
    auto row = entry ? wire::decode<store::EntryRow>(*entry) : fail(entry.error());
    if (!row) return shard.refuse(std::move(asker), row.error());
    asker->told_entry = std::move(*row);
    shard.rerun(std::move(asker));
  };
  const ring::Slot here = request->head.slot;
  shard.operations().ask(here, there, Question::entry,
                         wire::encode(AskEntry{message.from_dir, message.from_name}),
                         std::move(request), std::move(told));
  return true;
}

}  // namespace

void rename(Shard& shard, RequestPtr request, wire::RenameRequest message) {
  for (std::string_view name : {message.from_name, message.to_name})
    if (auto error = name_error(name)) return shard.refuse(std::move(request), *error);
  constexpr std::uint32_t kBoth = wire::kRenameNoReplace | wire::kRenameExchange;
  if ((message.flags & ~kBoth) != 0 || (message.flags & kBoth) == kBoth)
    return shard.refuse(std::move(request), Code::invalid);
  const bool exchange = (message.flags & wire::kRenameExchange) != 0;
  if (park_if_locked(shard, request, message)) return;
  bool within = message.from_dir == message.to_dir;
  if (!within && shard.recall_names(request, ring::home_of(message.from_dir))) return;
  auto dir = directory_of(shard, message.to_dir);
  if (!dir) return shard.refuse(std::move(request), dir.error());
  if (!within && ask_for_source(shard, request, message)) return;
  auto source = request->told_entry
                    ? std::exchange(request->told_entry, {})
                    : shard.get<store::EntryRow>(
                          Shard::entry_key(message.from_dir, message.from_name));
  if (!source) return shard.refuse(std::move(request), Code::not_found);
  auto target = shard.get<store::EntryRow>(Shard::entry_key(message.to_dir, message.to_name));
  if (target && (message.flags & wire::kRenameNoReplace) != 0)
    return shard.refuse(std::move(request), Code::exists);
  if (exchange && !target) return shard.refuse(std::move(request), Code::not_found);
  if (target && target->ino == source->ino)
    return shard.answer(std::move(request), wire::EmptyReply{});
  // A first look, for the order of errors; the one that counts is under the rename lock.
  const bool is_target_circle = exchange && target->type == DT_DIR &&
                                is_above_here(shard, target->ino, message.from_dir);
  if (is_target_circle ||
      (source->type == DT_DIR && is_above_here(shard, source->ino, message.to_dir)))
    return shard.refuse(std::move(request), Code::invalid);
  // Of a directory that moves to another it is told later whether it moves below itself.
  if (target && !exchange && (within || source->type != DT_DIR))
    if (auto error = replace_error(*source, *target))
      return shard.refuse(std::move(request), *error);
  if (exchange && within)
    return exchange_here(shard, std::move(request), message, std::move(dir->row), *source,
                         *target);

  // A file that replaces another, its bytes in a file of their own, waits for their sync.
  bool waits_for_sync = target && source->type == DT_REG && needs_content_sync(shard, source->ino);
  bool replaces_directory = target && target->type == DT_DIR;
  if (within && !replaces_directory && !waits_for_sync)
    return rename_here(shard, std::move(request), message, std::move(dir->row), *source, target);

  ring::Slot home = request->head.slot;
  auto rename = std::make_shared<Rename>(shard, std::move(message));
  rename->within = within;
  rename->exchange = exchange;
  rename->source = *source;
  if (exchange) rename->target = target;
  rename->op = shard.operations().begin(home, OperationKind::rename, std::move(request));
  rename->start();
}

}  // namespace magma::ops
