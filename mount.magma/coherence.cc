#include "mount.magma/coherence.h"

#include <algorithm>

#include "libmagma/base/relatime.h"
#include "mount.magma/filesystem.h"

namespace magma::mount {

void Coherence::on_changed(std::vector<wire::Change> changes, UniqueFunction<void()> done) {
  ++filesystem_.changes;  // buffers of readdir are older
  auto pending = std::make_shared<Pending>();
  pending->done = std::move(done);
  pending->since = filesystem_.clock.now();
  for (const wire::Change& change : changes) {
    filesystem_.seen.doubt(change.ino);
    filesystem_.fresh_listings.forget(change.ino);
    if (change.name.empty())
      filesystem_.name_packs.forget(change.ino);
    else
      filesystem_.name_packs.forget(change.ino, change.name);
    if (change.name.empty()) filesystem_.opened_contents.erase(change.ino);
    if (filesystem_.inodes.knows(change.ino)) let_go(pending, change);
  }
  pending_.push_back(pending);
  settle(pending);
}

// As relatime (mount(8)): only if the access time was due, the kernel asks again.
void Coherence::on_read(Ino ino) {
  filesystem_.name_packs.forget(ino);
  if (!filesystem_.inodes.knows(ino)) return;
  const wire::Attr* attr = filesystem_.seen.last(ino);
  const bool is_due = attr == nullptr || is_access_time_due(attr->atime, attr->mtime, attr->ctime,
                                                            filesystem_.clock.wall_now());
  if (is_due) filesystem_.invalidate_attributes(ino);
}

void Coherence::on_sent(Ino ino, std::uint64_t data_version) {
  filesystem_.inodes.changed_here(ino, data_version);
}

void Coherence::on_attributes_sent(Ino ino) { filesystem_.changed(ino); }

void Coherence::on_lost(Ino ino) {
  filesystem_.name_packs.forget(ino);
  filesystem_.content_changed_here(ino);
  filesystem_.inodes.forget_version(ino);
  filesystem_.invalidate(ino, [] {});
}

void Coherence::on_name_lost(Ino dir, const std::string& name, const std::string& to_name) {
  std::vector<std::string> names{name};
  if (!to_name.empty()) names.push_back(to_name);
  for (const std::string& gone : names) filesystem_.name_changed(dir, gone);
  filesystem_.invalidate_attributes(dir);
  filesystem_.forget_names(dir, std::move(names), [] {});
}

void Coherence::let_go(const PendingPtr& pending, const wire::Change& change) {
  const bool is_busy = busy_.contains(change.ino);
  if (!is_busy) ++pending->left[change.ino];
  auto gone = [this, pending, ino = change.ino, is_busy] {
    auto found = pending->left.find(ino);
    if (is_busy || found == pending->left.end()) return;
    if (--found->second > 0) return;
    pending->left.erase(found);
    settle(pending);
  };
  if (change.name.empty()) return filesystem_.invalidate(change.ino, std::move(gone));
  ++name_changes_;
  Names& names = names_[change.ino];
  names.names.push_back(change.name);
  names.done.push_back(std::move(gone));
  forget_names(change.ino);
}

void Coherence::forget_names(Ino dir) {
  auto found = names_.find(dir);
  if (found == names_.end() || found->second.is_running) return;
  if (found->second.names.empty()) {
    names_.erase(found);
    return;
  }
  found->second.is_running = true;
  auto done = std::make_shared<std::vector<UniqueFunction<void()>>>(
      std::exchange(found->second.done, {}));
  filesystem_.forget_names(dir, std::exchange(found->second.names, {}), [this, dir, done] {
    if (auto names = names_.find(dir); names != names_.end()) names->second.is_running = false;
    for (auto& gone : *done) gone();
    forget_names(dir);
  });
}

void Coherence::settle(const PendingPtr& pending) {
  if (!pending->left.empty() || std::erase(pending_, pending) == 0) return;
  pending->done();
}

Instant Coherence::deadline() const {
  if (pending_.empty()) return Instant::never();
  return std::max(look_at_, pending_.front()->since + kBlockedMax);
}

void Coherence::on_timer() {
  const Instant now = filesystem_.clock.now();
  if (now < deadline()) return;
  look_at_ = now + kBlockedMax;
  if (under_way_.empty()) return;  // then it is not us that the kernel waits for
  const std::vector<PendingPtr> all = pending_;
  for (const PendingPtr& pending : all) {
    if (now - pending->since < kBlockedMax) continue;
    pending->left.clear();
    settle(pending);
  }
}

void Coherence::begin(Ino ino) {
  if (ino == Ino()) return;
  ++busy_[ino];
  const std::vector<PendingPtr> all = pending_;
  for (const PendingPtr& pending : all)
    if (pending->left.erase(ino) > 0) settle(pending);
}

void Coherence::end(Ino ino) {
  auto found = busy_.find(ino);
  if (found != busy_.end() && --found->second == 0) busy_.erase(found);
}

void Coherence::request_begins(fuse_req_t request, const Involved& flares) {
  if (!under_way_.try_emplace(request, flares).second) return;
  for (Ino ino : flares) begin(ino);
}

void Coherence::request_ends(fuse_req_t request) {
  auto found = under_way_.find(request);
  if (found == under_way_.end()) return;
  const Involved flares = found->second;
  under_way_.erase(found);
  for (Ino ino : flares) end(ino);
}

}  // namespace magma::mount
