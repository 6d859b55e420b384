// Owned<T, free>: unique_ptr for objects of C libraries, with a stateless deleter.
#pragma once

#include <memory>

namespace magma {

template <auto Free>
struct FreeWith {
  template <class T>
  void operator()(T* object) const noexcept {
    Free(object);
  }
};
template <class T, auto Free>
using Owned = std::unique_ptr<T, FreeWith<Free>>;

}  // namespace magma
