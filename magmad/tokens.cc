#include "magmad/tokens.h"

#include <algorithm>
#include <utility>

#include "libmagma/base/log.h"

namespace magma {

bool Tokens::grant(SessionId session, Ino ino, Of what, Instant now) {
  return grant(session, ino, what, now, kTokensMax);
}

void Tokens::note_made(SessionId session, Ino ino, Instant now) {
  grant(session, ino, Of::flare, now, SIZE_MAX);
}

bool Tokens::grant(SessionId session, Ino ino, Of what, Instant now, std::size_t most) {
  const Instant until = now + wire::kTokenTerm + kSlack;
  note_told(ring::home_of(ino), session, until);
  auto [place, is_new] = held_.try_emplace(ino);
  Held& held = place->second;
  for (Holder& holder : held.holders)
    if (holder.session == session && holder.what == what) {
      holder.until = until;
      return true;
    }
  if (size_ >= most) {
    if (is_new) held_.erase(place);
    return false;
  }
  held.holders.push_back({session, what, until});
  ++size_;
  let_end(ino, held, until);
  return true;
}

void Tokens::add_grace(SessionId by, std::vector<NoticeId>& wait_for) const {
  for (const auto& [session, notice] : grace_)
    if (session != by) wait_for.push_back(notice);
  for (const auto& [id, notice] : notices_) {
    if (id > carried_) break;
    if (notice.to != by && !notice.changes.empty()) wait_for.push_back(id);
  }
}

// Looked at once more when the first of its tokens has ended, later while some are alive.
void Tokens::let_end(Ino ino, Held& held, Instant at) {
  if (std::exchange(held.is_due, true)) return;
  endings_.push_back({at, ino});
}

void Tokens::changed(Ino ino, std::string_view name, SessionId by, Instant now,
                     std::vector<NoticeId>& wait_for) {
  if (grace_slots_[ring::home_of(ino).value])
    for (const auto& [session, notice] : grace_)
      if (session != by) wait_for.push_back(notice);
  // Who delays writes counts on the attributes, too, and for as long as it may.
  auto writer = name.empty() ? writers_.find(ino) : writers_.end();
  if (writer != writers_.end() && writer->second.session != by)
    tell({writer->second.session, Of::flare, Instant::never()}, ino, name, wait_for);
  auto found = held_.find(ino);
  if (found == held_.end()) return;
  const Of what = name.empty() ? Of::flare : Of::names;
  std::vector<Holder>& holders = found->second.holders;
  for (std::size_t i = 0; i < holders.size();) {
    Holder& holder = holders[i];
    if (holder.what != what || holder.session == by || holder.until <= now) {
      ++i;
      continue;
    }
    tell(holder, ino, name, wait_for);
    // Who was told that a flare is another one believes nothing of it; of names the others stay.
    if (what == Of::names) {
      ++i;
      continue;
    }
    holder = holders.back();
    holders.pop_back();
    --size_;
  }
}

void Tokens::tell(const Holder& holder, Ino ino, std::string_view name,
                  std::vector<NoticeId>& wait_for) {
  const NoticeId id = notice_for(holder, ino);
  Notice& notice = notices_[id];
  notice.until = std::max(notice.until, holder.until);
  wire::Change change{ino, std::string(name)};
  if (std::find(notice.changes.begin(), notice.changes.end(), change) == notice.changes.end())
    notice.changes.push_back(std::move(change));
  if (wait_for.empty() || wait_for.back() != id) wait_for.push_back(id);
  std::vector<NoticeId>& open = unconfirmed_[ino];
  if (std::find(open.begin(), open.end(), id) == open.end()) open.push_back(id);
}

NoticeId Tokens::notice_for(const Holder& holder, Ino ino) {
  auto [place, is_new] = collecting_.try_emplace({holder.session, ino}, 0);
  if (!is_new && notices_[place->second].changes.size() < kChangesPerNotice) return place->second;
  place->second = ++last_;
  Notice& notice = notices_[last_];
  notice.to = holder.session;
  unsent_.push_back(last_);
  return last_;
}

void Tokens::add_unconfirmed(Ino ino, std::vector<NoticeId>& wait_for) const {
  auto found = unconfirmed_.find(ino);
  if (found == unconfirmed_.end()) return;
  wait_for.insert(wait_for.end(), found->second.begin(), found->second.end());
}

bool Tokens::is_unconfirmed(Ino ino, SessionId by) const {
  return unconfirmed_.contains(ino) ||
         (grace_slots_[ring::home_of(ino).value] &&
          std::any_of(grace_.begin(), grace_.end(),
                      [&](const auto& believer) { return believer.first != by; }));
}

std::vector<Tokens::Message> Tokens::take_messages() {
  std::vector<Message> messages;
  for (NoticeId id : std::exchange(unsent_, {})) {
    auto found = notices_.find(id);
    if (found == notices_.end() || found->second.is_sent) continue;
    found->second.is_sent = true;
    ++stats_.sent;
    messages.push_back({id, found->second.to, found->second.changes});
  }
  collecting_.clear();
  return messages;
}

void Tokens::undelivered(NoticeId id) {
  if (auto found = notices_.find(id); found != notices_.end()) found->second.is_lost = true;
}

void Tokens::heard_from(SessionId session) {
  for (auto& [id, notice] : notices_) {
    if (!notice.is_lost || notice.to != session) continue;
    notice.is_lost = notice.is_sent = false;
    unsent_.push_back(id);
  }
}

void Tokens::end(std::map<NoticeId, Notice>::iterator notice) {
  for (const wire::Change& change : notice->second.changes) {
    auto found = unconfirmed_.find(change.ino);
    if (found == unconfirmed_.end()) continue;
    std::erase(found->second, notice->first);
    if (found->second.empty()) unconfirmed_.erase(found);
  }
  for (const wire::Change& change : notice->second.changes) {
    auto writer = change.recalls_writes ? writers_.find(change.ino) : writers_.end();
    if (writer != writers_.end() && writer->second.recall == notice->first)
      writers_.erase(writer);
    auto names = change.recalls_writes ? names_.find(change.ino) : names_.end();
    if (names != names_.end() && names->second.recall == notice->first) names_.erase(names);
  }
  if (!notice->second.is_sent)
    std::erase_if(collecting_, [&](const auto& entry) { return entry.second == notice->first; });
  if (auto grace = grace_.find(notice->second.to);
      grace != grace_.end() && grace->second == notice->first)
    grace_.erase(grace);
  notices_.erase(notice);
  ++ended_;
}

void Tokens::confirmed(NoticeId id) {
  if (auto found = notices_.find(id); found != notices_.end()) end(found);
}

void Tokens::forget(SessionId session) {
  for (auto next = notices_.begin(); next != notices_.end();) {
    auto notice = next++;
    if (notice->second.to == session) end(notice);
  }
  std::erase_if(writers_, [&](const auto& writer) { return writer.second.session == session; });
  std::erase_if(names_, [&](const auto& names) { return names.second.session == session; });
  for (auto& [ino, held] : held_)
    size_ -= std::erase_if(held.holders,
                           [&](const Holder& holder) { return holder.session == session; });
  for (Believers& believers : believers_)
    for (Believer& believer : believers.known)
      if (believer.session == session) believer = {};
}

// Drops tokens of `ino` that have ended; one that was granted again meanwhile ends later.
void Tokens::sweep(Ino ino, Instant now) {
  auto found = held_.find(ino);
  if (found == held_.end()) return;
  Held& held = found->second;
  held.is_due = false;
  size_ -= std::erase_if(held.holders, [&](const Holder& holder) { return holder.until <= now; });
  if (held.holders.empty())
    held_.erase(found);
  else
    let_end(ino, held, now + wire::kTokenTerm + kSlack);
}

void Tokens::on_timer(Instant now) {
  while (!endings_.empty() && endings_.front().at <= now) {
    const Ino ino = endings_.front().ino;
    endings_.pop_front();
    sweep(ino, now);
  }
  for (auto next = notices_.begin(); next != notices_.end();) {
    auto notice = next++;
    if (notice->second.until > now) continue;
    if (notice->second.is_sent && !notice->second.changes.empty()) {
      ++stats_.expired;
      log_info("mount_silent session={:#x} changes={}", notice->second.to.value,
               notice->second.changes.size());
    }
    end(notice);
  }
}

Instant Tokens::deadline() const {
  Instant next = Instant::never();
  for (const auto& [id, notice] : notices_) next = std::min(next, notice.until);
  return next;
}

void Tokens::begin_grace(const std::vector<SessionId>& sessions, Instant until,
                         const ring::SlotMask& of) {
  if (grace_.empty()) grace_slots_.reset();
  grace_slots_ |= of;
  for (SessionId session : sessions) {
    if (auto known = grace_.find(session); known != grace_.end()) {
      notices_[known->second].until = until;
      continue;
    }
    grace_[session] = ++last_;
    notices_[last_] = {.to = session, .until = until, .changes = {}, .is_sent = true};
  }
}

void Tokens::go_on() {
  carried_ = last_;
  unsent_.clear();
  collecting_.clear();
  for (auto& [id, notice] : notices_)
    if (!notice.changes.empty()) notice.is_sent = notice.is_lost = true;
}

// ---- delayed writes

bool Tokens::grant_writes(SessionId session, Ino ino, Instant now) {
  if (is_unconfirmed(ino, session)) return false;
  if (auto found = held_.find(ino); found != held_.end())
    for (const Holder& holder : found->second.holders)
      if (holder.session != session && holder.until > now) return false;
  auto found = writers_.find(ino);
  if (found != writers_.end())
    return found->second.session == session && found->second.recall == 0;
  if (writers_.size() >= kTokensMax) return false;
  writers_[ino] = {session};
  return true;
}

// A recall under way goes on: the session confirms it, having nothing to send.
void Tokens::end_writes(SessionId session, Ino ino) {
  auto found = writers_.find(ino);
  if (found != writers_.end() && found->second.session == session && found->second.recall == 0)
    writers_.erase(found);
}

NoticeId Tokens::recall_writes(Ino ino, SessionId by) {
  if (!is_writer_another(ino, by)) return 0;
  Writer& writer = writers_[ino];
  return ask_back(writer.session, ino, writer.recall);
}

NoticeId Tokens::ask_back(SessionId session, Ino ino, NoticeId& recall) {
  if (recall != 0) return recall;
  ++stats_.recalled;
  recall = ++last_;
  notices_[last_] = {.to = session,
                     .until = Instant::never(),
                     .changes = {{.ino = ino, .recalls_writes = true}}};
  unsent_.push_back(last_);
  return recall;
}

void Tokens::forget_writers() {
  for (auto& [ino, writer] : std::exchange(writers_, {}))
    if (writer.recall != 0) confirmed(writer.recall);
  for (auto& [dir, names] : std::exchange(names_, {}))
    if (names.recall != 0) confirmed(names.recall);
}

// ---- delayed changes of names

void Tokens::note_told(ring::Slot slot, SessionId session, Instant until) {
  Believers& believers = believers_[slot.value];
  Believer* place = nullptr;
  for (Believer& believer : believers.known) {
    if (believer.session == session) {
      believer.until = std::max(believer.until, until);
      return;
    }
    if (place == nullptr || believer.until < place->until) place = &believer;
  }
  believers.others_until = std::max(believers.others_until, place->until);
  *place = {session, until};
}

bool Tokens::grant_names(SessionId session, Ino dir, Instant now) {
  if (is_unconfirmed(dir, session)) return false;
  const ring::Slot slot = ring::home_of(dir);
  const Believers& believers = believers_[slot.value];
  if (believers.others_until > now || believers.no_names_until > now) return false;
  for (const Believer& believer : believers.known)
    if (believer.session != session && believer.until > now) return false;
  for (auto next = names_.lower_bound(Ino(ring::with_counter(slot, 0)));
       next != names_.end() && ring::home_of(next->first) == slot; ++next)
    if (next->second.session != session) return false;
  auto found = names_.find(dir);
  if (found == names_.end()) {
    if (names_.size() >= kNamesMax) return false;
    found = names_.emplace(dir, Names{session, 0, now}).first;
  }
  found->second.used = now;
  return found->second.recall == 0;
}

// A recall under way goes on: the session confirms it, having nothing to send.
void Tokens::end_names(Ino dir) { names_.erase(dir); }

void Tokens::use_names(Ino dir, Instant now) {
  if (auto found = names_.find(dir); found != names_.end()) found->second.used = now;
}

bool Tokens::has_names_of_others(ring::Slot slot, SessionId by) const {
  for (auto next = names_.lower_bound(Ino(ring::with_counter(slot, 0)));
       next != names_.end() && ring::home_of(next->first) == slot; ++next)
    if (next->second.session != by) return true;
  return false;
}

NoticeId Tokens::recall_names(ring::Slot slot, SessionId by, Instant now) {
  NoticeId first = 0;
  for (auto next = names_.lower_bound(Ino(ring::with_counter(slot, 0)));
       next != names_.end() && ring::home_of(next->first) == slot; ++next) {
    if (next->second.session == by) continue;
    const NoticeId recall = ask_back(next->second.session, next->first, next->second.recall);
    if (first == 0) first = recall;
    believers_[slot.value].no_names_until = now + kNamesPause;
  }
  return first;
}

NoticeId Tokens::recall_names(Ino dir, SessionId by) {
  auto found = names_.find(dir);
  if (found == names_.end() || found->second.session == by) return 0;
  return ask_back(found->second.session, dir, found->second.recall);
}

void Tokens::recall_idle_names(Instant now) {
  for (auto& [dir, names] : names_)
    if (now - names.used > kNamesIdle) ask_back(names.session, dir, names.recall);
}

void Tokens::shorten_grace(SessionId session, Instant until) {
  auto grace = grace_.find(session);
  if (grace == grace_.end()) return;
  Notice& notice = notices_[grace->second];
  notice.until = std::min(notice.until, until);
}

}  // namespace magma
