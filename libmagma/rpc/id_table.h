// IdTable<T>: objects by a non-zero 64-bit id, for ids that come in roughly ascending order. Open
// addressing with linear probing on the low bits (ascending ids fill neighbouring places, so probes
// are short); objects are pooled and reused, so the steady state allocates nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace magma::rpc {

template <class T>
class IdTable {
 public:
  IdTable() : places_(16) {}
  std::size_t size() const { return size_; }

  T* find(std::uint64_t id) {
    for (std::size_t i = id & mask();; i = (i + 1) & mask()) {
      if (places_[i].id == id) return places_[i].object;
      if (places_[i].id == 0) return nullptr;
    }
  }
  // Requires: id is not 0 and not in the table. The object is as its last user left it: reset it.
  T& insert(std::uint64_t id) {
    if ((size_ + 1) * 2 > places_.size()) grow();
    T* object = take();
    place(id, object);
    ++size_;
    return *object;
  }
  void erase(std::uint64_t id) {
    std::size_t hole = id & mask();
    while (places_[hole].id != id) {
      if (places_[hole].id == 0) return;
      hole = (hole + 1) & mask();
    }
    free_.push_back(places_[hole].object);
    // Closes the gap: whoever probed past the hole moves into it.
    for (std::size_t i = (hole + 1) & mask(); places_[i].id != 0; i = (i + 1) & mask()) {
      const std::size_t ideal = places_[i].id & mask();
      if (((i - ideal) & mask()) >= ((i - hole) & mask())) {
        places_[hole] = places_[i];
        hole = i;
      }
    }
    places_[hole] = {};
    --size_;
  }
  // Visits a snapshot of the ids, so that `visit(id)` may erase and insert.
  std::vector<std::uint64_t> ids() const {
    std::vector<std::uint64_t> all;
    all.reserve(size_);
    for (const Place& p : places_)
      if (p.id != 0) all.push_back(p.id);
    return all;
  }

 private:
  struct Place {
    std::uint64_t id = 0;
    T* object = nullptr;
  };
  std::size_t mask() const { return places_.size() - 1; }
  void place(std::uint64_t id, T* object) {
    std::size_t i = id & mask();
    while (places_[i].id != 0) i = (i + 1) & mask();
    places_[i] = {id, object};
  }
  T* take() {
    if (free_.empty()) {
      pool_.push_back(std::make_unique<T>());
      return pool_.back().get();
    }
    T* object = free_.back();
    free_.pop_back();
    return object;
  }
  void grow() {
    std::vector<Place> old(places_.size() * 2);
    old.swap(places_);
    for (const Place& p : old)
      if (p.id != 0) place(p.id, p.object);
  }

  std::vector<Place> places_;
  std::vector<std::unique_ptr<T>> pool_;
  std::vector<T*> free_;
  std::size_t size_ = 0;
};

}  // namespace magma::rpc
