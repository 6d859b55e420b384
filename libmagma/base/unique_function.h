// A move-only callable (what std::move_only_function will be): completion callbacks own things
// that cannot be copied, such as a FUSE reply. Small callables live inside, larger on the heap.
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

#include "libmagma/base/check.h"

namespace magma {

template <class Signature>
class UniqueFunction;

template <class R, class... Args>
class UniqueFunction<R(Args...)> {
  static constexpr std::size_t kInline = 48;

 public:
  UniqueFunction() = default;
  UniqueFunction(std::nullptr_t) {}
  template <class F>
    requires(!std::is_same_v<std::decay_t<F>, UniqueFunction> &&
             std::is_invocable_r_v<R, std::decay_t<F>&, Args...>)
  UniqueFunction(F&& function) {
    using Callable = std::decay_t<F>;
    if constexpr (sizeof(Callable) <= kInline && std::is_nothrow_move_constructible_v<Callable>) {
      new (storage_) Callable(std::forward<F>(function));
      vtable_ = &kInlineTable<Callable>;
    } else {
      *reinterpret_cast<Callable**>(storage_) = new Callable(std::forward<F>(function));
      vtable_ = &kHeapTable<Callable>;
    }
  }
  UniqueFunction(UniqueFunction&& other) noexcept { take(other); }
  UniqueFunction& operator=(UniqueFunction&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }
  UniqueFunction(const UniqueFunction&) = delete;
  UniqueFunction& operator=(const UniqueFunction&) = delete;
  ~UniqueFunction() { reset(); }

  explicit operator bool() const { return vtable_ != nullptr; }
  // Requires: not empty.
  R operator()(Args... args) {
    MAGMA_CHECK(vtable_ != nullptr);
    return vtable_->call(storage_, std::forward<Args>(args)...);
  }

 private:
  struct Table {
    R (*call)(void*, Args&&...);
    void (*move)(void* to, void* from) noexcept;
    void (*destroy)(void*) noexcept;
  };
  template <class C>
  static constexpr Table kInlineTable = {
      [](void* s, Args&&... args) -> R {
        return (*std::launder(reinterpret_cast<C*>(s)))(std::forward<Args>(args)...);
      },
      [](void* to, void* from) noexcept {
        C* source = std::launder(reinterpret_cast<C*>(from));
        new (to) C(std::move(*source));
        source->~C();
      },
      [](void* s) noexcept { std::launder(reinterpret_cast<C*>(s))->~C(); }};
  template <class C>
  static constexpr Table kHeapTable = {
      [](void* s, Args&&... args) -> R {
        return (**reinterpret_cast<C**>(s))(std::forward<Args>(args)...);
      },
      [](void* to, void* from) noexcept {
        *reinterpret_cast<C**>(to) = *reinterpret_cast<C**>(from);
      },
      [](void* s) noexcept { delete *reinterpret_cast<C**>(s); }};

  void take(UniqueFunction& other) noexcept {
    vtable_ = other.vtable_;
    if (vtable_ != nullptr) vtable_->move(storage_, other.storage_);
    other.vtable_ = nullptr;
  }
  void reset() noexcept {
    if (vtable_ != nullptr) vtable_->destroy(storage_);
    vtable_ = nullptr;
  }

  alignas(std::max_align_t) unsigned char storage_[kInline];
  const Table* vtable_ = nullptr;
};

}  // namespace magma
