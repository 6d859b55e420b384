// IdMap: number -> number, open addressing, no allocation per entry. Values are never 0. Used for
// what is asked for over one connection: rpc request id -> request. One thread.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace magma::client {

class IdMap {
 public:
  void put(std::uint64_t key, std::uint64_t value) {
    if ((size_ + 1) * 2 > cells_.size()) grow();
    place(key, value);
    ++size_;
  }
  // The value, taken out; 0 if there is none.
  std::uint64_t take(std::uint64_t key) {
    if (cells_.empty()) return 0;
    std::size_t at = home_of(key);
    while (cells_[at].value != 0 && cells_[at].key != key) at = next(at);
    std::uint64_t value = cells_[at].value;
    if (value == 0) return 0;
    close_gap(at);
    --size_;
    return value;
  }
  std::size_t size() const { return size_; }
  void clear() {
    for (Cell& cell : cells_) cell = {};
    size_ = 0;
  }

 private:
  struct Cell {
    std::uint64_t key = 0;
    std::uint64_t value = 0;  // 0: empty
  };
  std::size_t home_of(std::uint64_t key) const {
    return static_cast<std::size_t>((key * 0x9e3779b97f4a7c15u) >> 20) & (cells_.size() - 1);
  }
  std::size_t next(std::size_t at) const { return (at + 1) & (cells_.size() - 1); }
  void place(std::uint64_t key, std::uint64_t value) {
    std::size_t at = home_of(key);
    while (cells_[at].value != 0) at = next(at);
    cells_[at] = {key, value};
  }
  // Moves later entries of the run up, so that no search ends too early (Knuth, 6.4, R).
  void close_gap(std::size_t gap) {
    for (std::size_t at = next(gap); cells_[at].value != 0; at = next(at)) {
      std::size_t home = home_of(cells_[at].key);
      bool is_reachable = gap < at ? (home > gap && home <= at) : (home > gap || home <= at);
      if (is_reachable) continue;
      cells_[gap] = cells_[at];
      gap = at;
    }
    cells_[gap] = {};
  }
  void grow() {
    std::vector<Cell> old = std::exchange(cells_, {});
    cells_.resize(old.empty() ? 64 : old.size() * 2);
    for (const Cell& cell : old)
      if (cell.value != 0) place(cell.key, cell.value);
  }

  std::vector<Cell> cells_;
  std::size_t size_ = 0;
};

}  // namespace magma::client
