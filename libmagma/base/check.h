// Always-on assertions. MAGMA_CHECK guards what only a bug in Magma can break; it stays on in
// release builds. Bytes from the network, a disk or a user are never checked this way: they yield
// Code::malformed or another Error.
#pragma once

namespace magma {

// Prints the failed condition with its place to stderr and aborts. Never returns.
[[noreturn]] void check_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace magma

#define MAGMA_CHECK(condition)                                              \
  do {                                                                      \
    if (!(condition)) [[unlikely]]                                          \
      ::magma::check_failed(#condition, __FILE__, __LINE__);                \
  } while (false)
