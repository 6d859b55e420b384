// change_names(directory, steps): changes of names that a client has delayed, all that can be done
// at once in one transaction. Each step names the inode that it is of, so that one that comes again
// finds nothing to do, and one that comes late does nothing to what others have made meanwhile.
// A file that is made has a number that only this client was given: if there is an inode of that
// number, the step was done before.
#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>

#include "magmad/ops/ops.h"

namespace magma::ops {

namespace {

bool is_well_formed(const Shard& shard, const wire::ChangeNamesRequest& message,
                    ring::Slot slot) {
  if (message.steps.empty() || message.steps.size() > wire::kNameStepsMax ||
      ring::home_of(message.dir) != slot)
    return false;
  return std::all_of(message.steps.begin(), message.steps.end(), [&](const wire::NameStep& step) {
    const bool is_move = !step.to_name.empty();
    return !name_error(step.name) && ring::home_of(step.ino) == slot &&
           (!is_move || (!name_error(step.to_name) && step.to_name != step.name)) &&
           (!step.made || (!is_move && (step.made->mode & ~0777u) == 0 &&
                           shard.was_given(step.ino)));
  });
}

// The first name that the step needs and an operation over several slots holds.
const std::string* locked_name(Shard& shard, Ino dir, const wire::NameStep& step) {
  if (shard.is_locked(dir, step.name)) return &step.name;
  if (!step.to_name.empty() && shard.is_locked(dir, step.to_name)) return &step.to_name;
  return nullptr;
}

enum class Outcome : std::uint8_t { done, nothing_to_do, lost };

// Whether a later step finds the inode under the name that `step` gives it: what comes again, and
// was done to its end, leaves neither name.
bool goes_on(const std::vector<wire::NameStep>& steps, std::size_t index) {
  const wire::NameStep& step = steps[index];
  return std::any_of(steps.begin() + static_cast<std::ptrdiff_t>(index) + 1, steps.end(),
                     [&](const wire::NameStep& next) {
                       return next.ino == step.ino && next.name == step.to_name;
                     });
}

Outcome take_step(Shard& shard, Ino dir, const wire::NameStep& step, WallTime when,
                  bool may_have_gone_on) {
  const bool is_move = !step.to_name.empty();
  const auto from = Shard::entry_key(dir, step.name);
  auto entry = shard.get<store::EntryRow>(from);
  const bool is_there = entry && entry->ino == step.ino && entry->type != DT_DIR;
  if (!is_move && !is_there) return Outcome::nothing_to_do;
  if (is_move) {
    const auto to = Shard::entry_key(dir, step.to_name);
    auto target = shard.get<store::EntryRow>(to);
    if (!is_there && (may_have_gone_on || (target && target->ino == step.ino)))
      return Outcome::nothing_to_do;
    if (!is_there || target) return Outcome::lost;
    shard.put(to, *entry);
  }
  shard.erase(from);
  auto row = shard.inode(step.ino);
  if (!row) return Outcome::done;
  if (is_move) {
    row->ctime = std::max(row->ctime, when);
    shard.put_inode(step.ino, *row);
  } else {
    drop_link(shard, step.ino, std::move(*row), when);
  }
  return Outcome::done;
}

Outcome make(Shard& shard, const Request& request, const Directory& dir,
             const wire::NameStep& step, WallTime when) {
  const auto key = Shard::entry_key(dir.ino, step.name);
  if (shard.has(Shard::inode_key(step.ino))) return Outcome::nothing_to_do;
  if (shard.get_raw(key)) return Outcome::lost;
  shard.put_inode(step.ino, new_inode(request, dir.row, S_IFREG | step.made->mode, when));
  shard.put(key, store::EntryRow{step.ino, DT_REG, {}, 0});
  return Outcome::done;
}

// What the client has open is counted, also when the step comes again in another session. Its
// programs have been told the attributes. False: writes to it may not be delayed.
bool open_made(Shard& shard, SessionId session, const wire::NameStep& step) {
  shard.told_before(step.ino);
  if (!step.made->is_open || !shard.has(Shard::inode_key(step.ino))) return true;
  if (!shard.has_open(session, step.ino))
    shard.add_open(session, step.ino, step.made->for_write);
  return !step.made->for_write || shard.may_delay_writes(session, step.ino);
}

}  // namespace

void change_names(Shard& shard, RequestPtr request, wire::ChangeNamesRequest message) {
  if (!is_well_formed(shard, message, request->head.slot))
    return shard.refuse(std::move(request), Code::malformed);
  if (shard.recall_names(request, message.dir)) return;
  if (shard.is_locked(message.dir)) return shard.park(std::move(request), message.dir);
  wire::ChangeNamesReply reply;
  reply.time = shard.time();
  reply.may_delay = shard.has_plenty_of_space();
  auto dir = directory_of(shard, message.dir);
  std::uint64_t changes = 0;
  for (const wire::NameStep& step : message.steps) {
    const std::string* locked = locked_name(shard, message.dir, step);
    if (locked != nullptr && reply.done == 0)
      return shard.park(std::move(request), message.dir, *locked);
    if (locked != nullptr) break;
    // One that comes late, in another session, happens now.
    const bool is_late = dir && step.at < dir->row.ctime;
    const WallTime when = is_late ? reply.time : std::min(step.at, reply.time);
    const bool has_gone_on = goes_on(message.steps, reply.done);
    Outcome outcome = Outcome::nothing_to_do;
    if (step.made) {
      outcome = dir ? make(shard, *request, *dir, step, when) : Outcome::lost;
      if (outcome != Outcome::lost && !open_made(shard, request->head.session, step))
        reply.without_token.push_back(reply.done);
    } else if (dir)
      outcome = take_step(shard, message.dir, step, when, has_gone_on);
    else if (!step.to_name.empty() && !has_gone_on)
      outcome = Outcome::lost;
    if (outcome == Outcome::lost) reply.lost.push_back(reply.done);
    ++reply.done;
    if (outcome != Outcome::done) continue;
    ++changes;
    dir->row.mtime = when;
    dir->row.ctime = std::max(dir->row.ctime, when);
  }
  if (changes > 0) {
    dir->row.data_version += changes;
    shard.put_inode(message.dir, dir->row);
  }
  if (dir) tell_directory(shard, *request, message.dir, dir->row);
  if (dir && message.wants_numbers && reply.may_delay)
    shard.give_numbers(*request->names_changed, ring::home_of(message.dir));
  shard.tokens().use_names(message.dir, shard.now());
  shard.answer(std::move(request), reply);
}

}  // namespace magma::ops
