// Slab<T>: objects with ids that are not used again soon. A taken object keeps its address and
// the capacity of its buffers from its last use (T::reset() empties it); an id of an object that
// was given back finds nothing. Used for requests and operations under way. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "libmagma/base/check.h"

namespace magma::client {

template <class T>
class Slab {
 public:
  using Id = std::uint64_t;  // 31 bits generation, 32 bits index + 1; 0 is none, bit 63 is free

  Id take() {
    std::uint32_t index;
    if (free_.empty()) {
      index = static_cast<std::uint32_t>(items_.size());
      items_.emplace_back();
    } else {
      index = free_.back();
      free_.pop_back();
    }
    items_[index].is_used = true;
    ++used_;
    return id_of(index);
  }
  // nullptr if the object was given back.
  T* find(Id id) {
    std::uint64_t index = (id & 0xffffffffu) - 1;
    if (index >= items_.size()) return nullptr;
    Item& item = items_[index];
    return item.is_used && item.generation == id >> 32 ? &item.value : nullptr;
  }
  void give_back(Id id) {
    MAGMA_CHECK(find(id) != nullptr);
    auto index = static_cast<std::uint32_t>((id & 0xffffffffu) - 1);
    Item& item = items_[index];
    item.value.reset();
    item.is_used = false;
    item.generation = (item.generation + 1) & 0x7fffffffu;
    free_.push_back(index);
    --used_;
  }
  std::size_t size() const { return used_; }
  // Ids of all objects in use, for walks during which objects may go.
  void ids(std::vector<Id>& out) const {
    out.clear();
    for (std::uint32_t i = 0; i < items_.size(); ++i)
      if (items_[i].is_used) out.push_back(id_of(i));
  }

 private:
  struct Item {
    T value;
    std::uint32_t generation = 0;
    bool is_used = false;
  };
  Id id_of(std::uint32_t index) const {
    return std::uint64_t{items_[index].generation} << 32 | (std::uint64_t{index} + 1);
  }

  std::deque<Item> items_;
  std::vector<std::uint32_t> free_;
  std::size_t used_ = 0;
};

}  // namespace magma::client
