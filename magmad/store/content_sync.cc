// Syncs of content files, what follows a commit or a rollback, and the work of each tick.
#include <array>
#include <utility>

#include "libmagma/base/log.h"
#include "magmad/store/content_store_impl.h"

namespace magma::store {

void ContentStoreImpl::sync(const ContentId& id, Done done) {
  Content* c = find(id);
  if (c == nullptr) return done({});
  if (c->sync_error) return done(fail(*c->sync_error));
  if (!c->dirty() && files_.unsynced_above(id).empty()) return done({});
  // A sync that began after the last change will do.
  const bool is_under_way = c->sync_runs && c->sync_changes == c->changes &&
                            c->sync_directories == files_.unsynced_above(id);
  (is_under_way ? c->syncing : c->waiting).push_back(std::move(done));
  if (!c->sync_runs) start_sync(*c);
}

void ContentStoreImpl::start_sync(Content& c) {
  ContentId id = c.id;
  c.sync_runs = true;
  c.syncing = std::move(c.waiting);
  c.waiting.clear();
  auto file = open_file(c, false);
  if (!file) return sync_done(id, c.changes, {}, fail(file.error()));
  auto result = std::make_shared<Result<void>>();  // shared by the two functions below
  auto directories = files_.unsynced_above(id);
  c.sync_changes = c.changes;
  c.sync_directories = directories;
  auto work = [file = c.file, &disk = files_.disk(), directories, result] {
    if (file != nullptr) *result = file->sync();
    for (const auto& directory : directories)
      if (*result) *result = disk.sync_directory(directory.path);
  };
  std::weak_ptr<int> alive = alive_;
  executor_.run(std::move(work), [this, alive, id, changes = c.changes, directories, result] {
    if (alive.expired()) return;
    sync_done(id, changes, directories, std::move(*result));
  });
}

void ContentStoreImpl::sync_done(const ContentId& id, std::uint64_t changes,
                                 const std::vector<ContentFiles::Unsynced>& directories,
                                 Result<void> result) {
  Content& c = content(id);
  c.sync_runs = false;
  c.sync_directories.clear();
  auto answered = std::move(c.syncing);
  c.syncing.clear();
  if (result) {
    if (changes > c.synced) c.synced = changes;
    for (const auto& directory : directories) files_.note_synced(directory);
    if (!c.waiting.empty()) start_sync(c);
  } else {
    log_error("content_sync_failed path={} error={}", content_path(id),
              describe(result.error()));
    c.sync_error = result.error();
    for (Done& done : c.waiting) answered.push_back(std::move(done));
    c.waiting.clear();
  }
  forget_if_idle(id);
  std::weak_ptr<int> alive = alive_;
  for (Done& done : answered) {
    done(result);
    if (alive.expired()) return;
  }
}

void ContentStoreImpl::sync_all(Done done) {
  struct Joined {
    Done done;
    Result<void> result;
    std::size_t left = 1;
    void arrive(Result<void> one) {
      if (!one) result = std::move(one);
      if (--left == 0) done(std::move(result));
    }
  };
  auto joined = std::make_shared<Joined>();  // shared by the callbacks of all contents
  joined->done = std::move(done);
  std::vector<ContentId> dirty;
  for (const auto& [id, c] : contents_)
    if (c->dirty() || c->sync_error) dirty.push_back(id);
  joined->left += dirty.size();
  for (const ContentId& id : dirty)
    sync(id, [joined](Result<void> one) { joined->arrive(std::move(one)); });
  joined->arrive({});
}

void sync_everything(ContentStore& contents, MetadataStore& metadata,
                     UniqueFunction<void(Result<void>, Result<void>)> done) {
  struct Both {
    UniqueFunction<void(Result<void>, Result<void>)> done;
    Result<void> contents{}, metadata{};
    int left = 2;
    void end() {
      if (--left == 0) done(std::move(contents), std::move(metadata));
    }
  };
  auto both = std::make_shared<Both>();
  both->done = std::move(done);
  metadata.sync_all([both](Result<void> synced) {
    both->metadata = std::move(synced);
    both->end();
  });
  contents.sync_all([both](Result<void> synced) {
    both->contents = std::move(synced);
    both->end();
  });
}

Result<void> ContentStoreImpl::sync_now() {
  std::map<std::string, ContentFiles::Unsynced> directories;
  for (auto& [id, c] : contents_) {
    if (c->sync_error) return fail(*c->sync_error);
    for (auto& directory : files_.unsynced_above(id)) directories[directory.path] = directory;
    if (!c->dirty()) continue;
    // Not open_file: it may close and forget another content.
    std::shared_ptr<sys::File> file = c->file;
    if (file == nullptr) {
      TRY_VALUE(file, files_.open(id, false));
    }
    if (file != nullptr) TRY(file->sync());
    c->synced = c->changes;
  }
  for (const auto& [path, directory] : directories) {
    TRY(files_.disk().sync_directory(path));
    files_.note_synced(directory);
  }
  return {};
}

void ContentStoreImpl::committed() {
  written_.clear();
  auto heated = std::exchange(hot_uncommitted_, {});
  for (const ContentId& id : heated) {
    Content* c = find(id);
    if (c == nullptr) continue;
    bool unsynced = false;
    for (HotRange& range : c->hot) {
      range.committed = true;
      unsynced = unsynced || !range.synced;
    }
    if (unsynced && (preparing_ == nullptr || *preparing_ != id))
      wait_for_hot(id, [](Result<void>) {});
  }
  auto cuts = std::exchange(cuts_uncommitted_, {});
  for (const ContentId& id : cuts) {
    Content* c = find(id);
    if (c == nullptr || !c->cut) continue;
    c->cut->committed = true;
    if (c->after_cut.empty())
      cuts_to_sync_.push_back(id);
    else
      sync_cut(id);
  }
}

void ContentStoreImpl::set_cut(Content& c, PendingCut cut) {
  drop_kept(c.id);
  cut.serial = ++cut_serial_;
  c.cut = cut;
  cuts_uncommitted_.push_back(c.id);
}

// Follows the cut once its row is on stable storage. Requires: it is committed.
void ContentStoreImpl::sync_cut(const ContentId& id) {
  Content* c = find(id);
  if (c == nullptr || !c->cut || !c->cut->committed || c->cut->sync_asked) return;
  c->cut->sync_asked = true;
  std::weak_ptr<int> alive = alive_;
  metadata_.sync(database_of(id), [this, alive, id, serial = c->cut->serial](Result<void> synced) {
    if (!alive.expired()) cut_durable(id, serial, std::move(synced));
  });
}

void ContentStoreImpl::cut_durable(const ContentId& id, std::uint64_t serial,
                                   Result<void> synced) {
  Content* c = find(id);
  if (c == nullptr || !c->cut || c->cut->serial != serial) return;
  auto done = synced ? follow_cut(*c) : std::move(synced);
  if (!done) {  // done by the next start, which finds the row
    log_warning("content_cut_failed path={} error={}", content_path(id),
                describe(done.error()));
    if (c->cut) c->cut->sync_asked = false;
  }
  auto waiting = std::exchange(c->after_cut, {});
  forget_if_idle(id);
  std::weak_ptr<int> alive = alive_;
  for (Done& waiter : waiting) {
    waiter(done);
    if (alive.expired()) return;
  }
}

// Does on the disk what a committed removal row says.
Result<void> ContentStoreImpl::follow_cut(Content& c) {
  if (c.cut->remove) {
    close_file(c);
    TRY(files_.remove(c.id));
    c.hot.clear();
    c.synced = ++c.changes;  // a read under way sees that it was overtaken
    c.last_end = 0;
    c.cut.reset();
    follow_later(c.id, {.remove = true});
    return {};
  }
  TRY_VALUE(sys::File * file, open_file(c, false));
  if (file != nullptr) {
    file_changed(c);
    TRY(file->truncate(c.cut->size));
    follow_later(c.id, {.change = c.changes});
  }
  c.cut.reset();
  return {};
}

void ContentStoreImpl::follow_later(const ContentId& id, Followed followed) {
  followed.serial = ++followed_serial_;
  followed.synced = followed.remove && followed_.size() >= kFollowedMax;
  followed_[id] = followed;
}

void ContentStoreImpl::rolled_back() {
  kept_.clear();  // compared with rows that are gone
  auto heated = std::exchange(hot_uncommitted_, {});
  for (const ContentId& id : heated)
    if (Content* c = find(id))
      std::erase_if(c->hot, [](const HotRange& r) { return !r.committed; });
  auto cuts = std::exchange(cuts_uncommitted_, {});
  for (const ContentId& id : cuts)
    if (Content* c = find(id); c != nullptr && c->cut && !c->cut->committed) {
      c->cut.reset();
      for (Done& waiter : std::exchange(c->after_cut, {})) waiter(fail(Code::io, "rolled back"));
    }
  for (Written& w : written_) suspects_.push_back(std::move(w));
  written_.clear();
  repair_suspects();
  for (const ContentId& id : heated) forget_if_idle(id);
  for (const ContentId& id : cuts) forget_if_idle(id);
}

// The files hold bytes whose sums were rolled back.
void ContentStoreImpl::repair_suspects() {
  if (suspects_.empty() || metadata_.in_transaction() || metadata_.failed()) return;
  for (const Written& w : suspects_) {
    auto file = open_file(content(w.id), false);
    bool good = file.has_value() && (*file == nullptr || clip_to_length(w.id, **file));
    if (!good || !recompute(w.id, w.version, w.pages)) {
      metadata_.rollback();
      return;
    }
  }
  if (metadata_.commit()) suspects_.clear();
}

void ContentStoreImpl::on_tick(Instant now) {
  now_ = now;
  drop_old_kept();
  if (metadata_.failed()) return;
  repair_suspects();
  for (const ContentId& id : std::exchange(cuts_to_sync_, {})) sync_cut(id);
  if (sweeping_ && !sweep_runs_) sweep_step(kSweepStepsPerTick);
  tick_contents();
  sync_removals();
  if (!metadata_.in_transaction()) erase_followed();
}

// Syncs what is dirty for long, cools what may cool.
void ContentStoreImpl::tick_contents() {
  std::vector<ContentId> stale;
  std::vector<ContentId> cooled;
  bool may_cool = !metadata_.in_transaction() && suspects_.empty();
  std::array<bool, kDatabases> durable{};
  for (unsigned i = 0; i < kDatabases; ++i) durable[i] = may_cool && metadata_.is_durable(i);
  auto it = contents_.lower_bound(tick_from_);
  for (std::size_t i = 0; i < kContentsPerTickMax && it != contents_.end(); ++i, ++it) {
    Content& c = *it->second;
    if (c.dirty() && !c.sync_runs && !c.sync_error && now_ - c.dirty_since >= kDirtyMax &&
        stale.size() < kSyncsPerTickMax)
      stale.push_back(c.id);
    if (durable[database_of(c.id)] && cooled.size() < kCooledPerTickMax && cool(c))
      cooled.push_back(c.id);
  }
  tick_from_ = it == contents_.end() ? ContentId{} : it->first;
  if (metadata_.in_transaction()) {
    if (!metadata_.commit()) rolled_back();
  }
  for (const ContentId& id : cooled) forget_if_idle(id);
  for (const ContentId& id : stale) sync(id, [](Result<void>) {});
}

// Erases the hot rows of a content at rest, whose sums are durable. A row whose erasure is lost
// stays without harm: its
// range is recomputed after a crash.
bool ContentStoreImpl::cool(Content& c) {
  if (c.hot.empty() || c.dirty() || c.sync_runs || c.users != 0 || c.cut || c.sync_error)
    return false;
  if (now_ - c.last_change < kHotIdle) return false;
  for (const HotRange& range : c.hot) {
    auto done = metadata_.erase(c.id.row(Table::hot_range, four_bytes(range.index)));
    if (!done) return false;
  }
  c.hot.clear();
  return true;
}

// Removal rows of files that have followed and are on stable storage.
void ContentStoreImpl::erase_followed() {
  std::size_t erased = 0;
  for (auto it = followed_.begin(); it != followed_.end() && erased < kRemovalsPerTickMax;) {
    Content* c = find(it->first);
    bool on_disk = it->second.remove ? it->second.synced
                                     : c == nullptr || c->synced >= it->second.change;
    if (c != nullptr && c->cut) on_disk = false;  // the row is of the next cut already
    if (!on_disk) {
      ++it;
      continue;
    }
    if (!metadata_.erase(it->first.row(Table::removal))) break;
    it = followed_.erase(it);
    ++erased;
  }
  if (metadata_.in_transaction() && !metadata_.commit()) rolled_back();
}

// Directories of removed files, many at once.
void ContentStoreImpl::sync_removals() {
  if (removal_sync_runs_ || removal_sync_failed_) return;
  std::vector<std::pair<ContentId, std::uint64_t>> removals;
  std::map<std::string, ContentFiles::Unsynced> directories;
  for (const auto& [id, followed] : followed_) {
    if (!followed.remove || followed.synced) continue;
    removals.emplace_back(id, followed.serial);
    for (auto& directory : files_.unsynced_above(id)) directories[directory.path] = directory;
    if (removals.size() == kRemovalsPerTickMax) break;
  }
  if (removals.empty()) return;
  removal_sync_runs_ = true;
  auto result = std::make_shared<Result<void>>();  // shared by the two functions below
  auto work = [&disk = files_.disk(), directories, result] {
    for (const auto& [path, directory] : directories)
      if (*result) *result = disk.sync_directory(path);
  };
  std::weak_ptr<int> alive = alive_;
  executor_.run(std::move(work), [this, alive, directories, removals, result] {
    if (alive.expired()) return;
    removal_sync_runs_ = false;
    if (!*result) {
      removal_sync_failed_ = true;  // the rows stay; the next start finishes
      return;
    }
    for (const auto& [path, directory] : directories) files_.note_synced(directory);
    for (const auto& [id, serial] : removals) {
      auto found = followed_.find(id);
      if (found != followed_.end() && found->second.serial == serial) found->second.synced = true;
    }
  });
}

}  // namespace magma::store
