// Finds content files that no row knows of and removes them. A crash between the making of a file
// and the commit of its first rows, or a power cut that loses that commit, leaves one: it is never
// read, but takes space. After an unclean start all of DIR/flares is walked in the background, a
// few directories at a time; DIR/unswept is there until the walk is done, so that the next start
// goes on.
#include <utility>

#include "libmagma/base/log.h"
#include "magmad/store/content_store_impl.h"

namespace magma::store {
namespace {

constexpr std::size_t kListedAtOnce = 16;  // directories

}  // namespace

Result<void> ContentStoreImpl::sweep(bool is_unclean) {
  if (sweeping_) return {};
  if (is_unclean) {
    TRY_VALUE(auto mark, files_.disk().open(kUnsweptMark, sys::Disk::Open::create));
  }
  TRY_VALUE(sweeping_, files_.disk().exists(kUnsweptMark));
  sweep_left_ = {std::string(kFlaresDirectory)};
  swept_files_ = 0;
  return {};
}

// Lists some directories on another thread, then looks at what was found.
void ContentStoreImpl::sweep_step(unsigned steps_left) {
  if (sweep_left_.empty()) return end_sweep();
  if (steps_left == 0) return;
  sweep_runs_ = true;
  struct Listing {
    std::vector<std::string> paths{};
    std::vector<std::pair<std::string, std::vector<std::string>>> found{};
    Result<void> result{};
  };
  auto listing = std::make_shared<Listing>();  // shared by the two functions below
  while (!sweep_left_.empty() && listing->paths.size() < kListedAtOnce) {
    listing->paths.push_back(std::move(sweep_left_.back()));
    sweep_left_.pop_back();
  }
  auto work = [&disk = files_.disk(), listing] {
    for (const std::string& path : listing->paths) {
      auto names = disk.list(path);
      if (!names && names.error().code == Code::not_found) continue;
      if (!names) {
        listing->result = fail(std::move(names.error()));
        return;
      }
      listing->found.emplace_back(path, std::move(*names));
    }
  };
  std::weak_ptr<int> alive = alive_;
  executor_.run(std::move(work), [this, alive, listing, steps_left] {
    if (alive.expired()) return;
    sweep_runs_ = false;
    Result<void> done = std::move(listing->result);
    for (const auto& [path, names] : listing->found)
      if (done) done = sweep_names(path, names);
    if (!done) {
      // The mark stays: the next start tries again.
      log_warning("sweep_failed error={}", describe(done.error()));
      sweeping_ = false;
      sweep_left_.clear();
      return;
    }
    sweep_step(steps_left - 1);
  });
}

Result<void> ContentStoreImpl::sweep_names(const std::string& path,
                                           const std::vector<std::string>& names) {
  bool is_leaf = path.size() > kFlaresDirectory.size() + 3;  // flares/xx/yy
  for (const std::string& name : names) {
    if (!is_leaf) {
      sweep_left_.push_back(path + '/' + name);
      continue;
    }
    auto id = parse_content_name(name);
    if (!id || content_path(*id) != path + '/' + name) continue;  // not ours: fsck tells of it
    TRY_VALUE(bool known, is_known(*id));
    if (known) continue;
    TRY(files_.remove(*id));
    ++swept_files_;
  }
  return {};
}

// Whether rows or work under way know of a content.
Result<bool> ContentStoreImpl::is_known(const ContentId& id) {
  if (find(id) != nullptr || followed_.contains(id)) return true;
  TRY_VALUE(auto chunk, metadata_.get(id.row(Table::chunk)));
  if (chunk) return true;
  TRY_VALUE(auto removal, metadata_.get(id.row(Table::removal)));
  if (removal) return true;
  return has_sums(metadata_, id);
}

void ContentStoreImpl::end_sweep() {
  sweeping_ = false;
  if (swept_files_ > 0) log_info("swept files={}", swept_files_);
  auto removed = files_.disk().remove(kUnsweptMark);
  if (!removed && removed.error().code != Code::not_found)
    log_warning("sweep_mark_stays error={}", describe(removed.error()));
}

}  // namespace magma::store
