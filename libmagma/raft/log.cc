#include "libmagma/raft/log.h"

#include <algorithm>
#include <utility>

#include "libmagma/base/check.h"
#include "libmagma/raft/messages.h"

namespace magma::raft {

Log::Log(Snapshot snapshot, std::vector<Entry> entries) {
  reset(std::move(snapshot));
  for (auto& entry : entries) append(std::move(entry));
}

std::optional<Term> Log::term_at(Index index) const {
  if (index == base_.index) return base_.term;
  if (index < base_.index || index > last()) return std::nullopt;
  return at(index).term;
}

std::vector<Entry> Log::batch(Index from, std::size_t count) const {
  MAGMA_CHECK(from > base_.index);
  std::vector<Entry> out;
  std::size_t bytes = 0;
  for (Index i = from; i <= last() && out.size() < count; i = i + 1) {
    bytes += at(i).data.size();
    if (!out.empty() && bytes > kBatchBytesMax) break;
    out.push_back(at(i));
  }
  return out;
}

std::vector<Entry> Log::entries_from(Index from) const {
  MAGMA_CHECK(from > base_.index);
  if (from > last()) return {};
  return {entries_.begin() + static_cast<std::ptrdiff_t>(from - base_.index - 1), entries_.end()};
}

Position Log::last_not_above(Index index, Term term) const {
  Index i = std::min(index, last());
  if (i < base_.index) return {i, Term{}};
  while (i > base_.index && *term_at(i) > term) i = i - 1;
  return {i, *term_at(i)};
}

void Log::append(Entry entry) {
  MAGMA_CHECK(entry.term >= last_position().term);
  bytes_ += entry.data.size();
  entries_.push_back(std::move(entry));
  add_configuration(last(), entries_.back());
}

void Log::truncate_from(Index from) {
  MAGMA_CHECK(from > snapshot_.last.index);
  while (last() >= from) {
    bytes_ -= entries_.back().data.size();
    entries_.pop_back();
  }
  while (configurations_.back().first >= from) configurations_.pop_back();
}

void Log::add_configuration(Index index, const Entry& entry) {
  if (entry.kind != EntryKind::configuration) return;
  auto configuration = configuration_of(entry);
  MAGMA_CHECK(configuration.has_value());  // decode_message and the store have looked
  configurations_.emplace_back(index, std::move(*configuration));
}

const Configuration& Log::configuration_at(Index index) const {
  auto after =
      std::ranges::upper_bound(configurations_, index, {}, [](const auto& c) { return c.first; });
  MAGMA_CHECK(after != configurations_.begin());
  return std::prev(after)->second;
}

bool Log::is_only_member(NodeId node) const {
  return std::all_of(configurations_.begin(), configurations_.end(), [&](const auto& item) {
    return item.second.voters == std::vector{node} && item.second.learners.empty();
  });
}

const Configuration& Log::configuration_before() const {
  return configurations_[configurations_.size() > 1 ? configurations_.size() - 2 : 0].second;
}

void Log::compact(Index index, Bytes state, std::uint64_t keep) {
  MAGMA_CHECK(index > snapshot_.last.index && index <= last());
  for (Index i = snapshot_.last.index + 1; i <= index; i = i + 1) bytes_ -= at(i).data.size();
  snapshot_ = {{index, *term_at(index)}, configuration_at(index), std::move(state)};
  while (configurations_.size() > 1 && configurations_[1].first <= index)
    configurations_.erase(configurations_.begin());
  const std::uint64_t kept = index - base_.index;
  if (kept <= keep) return;
  const Index new_base = index - keep;
  const Position position{new_base, *term_at(new_base)};
  entries_.erase(entries_.begin(),
                 entries_.begin() + static_cast<std::ptrdiff_t>(new_base - base_.index));
  base_ = position;
}

void Log::reset(Snapshot snapshot) {
  snapshot_ = std::move(snapshot);
  base_ = snapshot_.last;
  entries_.clear();
  configurations_.assign(1, {base_.index, snapshot_.configuration});
  bytes_ = 0;
}

}  // namespace magma::raft
