// fsck of a volcano that shares its ring's slots: what it serves is of one moment, and what it has
// of another volcano is of the moment up to which it has heard of that one. So each is checked by
// itself, and how they belong together is not.
#include "libmagma/ring/slot_mask.h"
#include "libmagma/wire/codec.h"
#include "magmad/store/fsck.h"
#include "magmad/store/metadata_store.h"
#include "magmad/store/rows.h"

namespace magma::store {

namespace {

constexpr std::uint64_t kPartSteps = 1000;  // of the progress, whatever a part has

struct Parts {
  std::vector<ring::SlotMask> whole{};  // first its own
  std::vector<FsckProblem> problems{};
  std::vector<FsckProblem> notes{};
};

Result<Parts> parts_of(sys::Disk& disk, sys::Executor& executor) {
  TRY_VALUE(auto metadata, MetadataStore::open(disk, executor, false));
  Parts parts;
  ring::SlotMask copied;
  bool is_own_known = true;
  auto visit = [&](const MetadataStore::ScanRow& row) {
    if (row.a != 0 || row.b == 0) return true;
    auto stream = wire::decode<MirrorStreamRow>(row.image);
    if (!stream || !ring::is_sound(stream->known)) {
      parts.problems.push_back({"a mirror row is malformed"});
      return true;
    }
    const ring::SlotMask known = ring::set_of(stream->known);
    if (known.none()) {
      is_own_known = false;
      parts.notes.push_back({"a copy of another volcano's slots was under way when this one ended: "
                             "what is its own cannot be told apart, and is not checked"});
    } else if (stream->is_mixed) {
      parts.notes.push_back({"slots of another volcano were being caught up with when this one "
                             "ended: they are not checked"});
    } else {
      parts.whole.push_back(known);
    }
    copied |= known;
    return true;
  };
  TRY(metadata->scan_database(0, Table::mirror, visit));
  if (is_own_known) parts.whole.insert(parts.whole.begin(), ~copied);
  return parts;
}

void add(FsckReport& all, FsckReport part) {
  auto append = [](std::vector<FsckProblem>& to, std::vector<FsckProblem>& from) {
    for (FsckProblem& item : from)
      if (to.size() < FsckReport::kListedMax) to.push_back(std::move(item));
  };
  append(all.problems, part.problems);
  append(all.notes, part.notes);
  for (auto number : {&FsckReport::problems_total, &FsckReport::notes_total, &FsckReport::inodes,
                      &FsckReport::directories, &FsckReport::files, &FsckReport::others,
                      &FsckReport::entries, &FsckReport::chunks, &FsckReport::content_files,
                      &FsckReport::operations, &FsckReport::orphans, &FsckReport::hot_ranges,
                      &FsckReport::pages_checked})
    all.*number += part.*number;
}

}  // namespace

Result<FsckReport> fsck_by_parts(sys::Disk& disk, sys::Executor& executor, FsckOptions options) {
  TRY_VALUE(Parts parts, parts_of(disk, executor));
  FsckReport all;
  FsckReport said;
  said.problems_total = parts.problems.size();
  said.problems = std::move(parts.problems);
  said.notes_total = parts.notes.size();
  said.notes = std::move(parts.notes);
  add(all, std::move(said));
  for (std::size_t i = 0; i < parts.whole.size(); ++i) {
    FsckOptions one;
    one.deep = options.deep;
    one.unclean = options.unclean;
    one.all_slots = false;
    one.slots = parts.whole[i];
    if (options.progress)
      one.progress = [&, i](std::uint64_t done, std::uint64_t total) {
        const std::uint64_t share = total == 0 ? kPartSteps : done * kPartSteps / total;
        options.progress(i * kPartSteps + share, parts.whole.size() * kPartSteps);
      };
    TRY_VALUE(FsckReport report, fsck(disk, executor, std::move(one)));
    add(all, std::move(report));
  }
  return all;
}

}  // namespace magma::store
