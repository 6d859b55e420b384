// Expected failures: Result<T> is tl::expected<T, Error>. Error codes, their errno and class come
// from errors.def and nowhere else; errno is used at the FUSE edge only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

namespace magma {

enum class Code : std::uint16_t {
#define MAGMA_ERROR(name, number, errno_value, class_name, text) name = number,
#include "libmagma/base/errors.def"
#undef MAGMA_ERROR
};

// What a caller may do about an error.
enum class ErrorClass : std::uint8_t {
  retry,       // nothing was done; try again, here or elsewhere
  final,       // the answer
  maybe_done,  // the change may have happened; must not be redone
};

struct [[nodiscard]] Error {
  Code code{};
  std::string detail{};  // what failed, on which path or node; may be empty

  friend bool operator==(const Error& a, const Error& b) { return a.code == b.code; }
};

template <class T>
using Result = tl::expected<T, Error>;

// An error as the unexpected side of any Result<T>: `return fail(Code::not_found);`
inline tl::unexpected<Error> fail(Code code, std::string detail = {}) {
  return tl::unexpected<Error>(Error{code, std::move(detail)});
}
inline tl::unexpected<Error> fail(Error error) { return tl::unexpected<Error>(std::move(error)); }

std::string_view name_of(Code code);   // "not_found"; "unknown_error" for a number not in the table
std::string_view text_of(Code code);   // "no such file or directory"
int errno_of(Code code);               // ENOENT; EIO for a number not in the table
ErrorClass class_of(Code code);        // final for a number not in the table
bool is_known(std::uint16_t number);   // whether errors.def has that number

// The code whose meaning is nearest to a system call's errno (EIO -> io, ENOSPC -> no_space ...).
Code code_of_errno(int errno_value);

// "text: detail", for people.
std::string describe(const Error& error);

}  // namespace magma

#define MAGMA_CONCAT_(a, b) a##b
#define MAGMA_CONCAT(a, b) MAGMA_CONCAT_(a, b)
// TRY(expression): returns the error from this function if the Result holds one.
#define TRY(expression)                                                              \
  do {                                                                               \
    if (auto try_result_ = (expression); !try_result_) [[unlikely]]                  \
      return ::tl::unexpected<::magma::Error>(std::move(try_result_).error());       \
  } while (false)
// TRY_VALUE(declaration, expression): the value, or return the error.
#define TRY_VALUE(declaration, expression)                                           \
  auto MAGMA_CONCAT(try_value_, __LINE__) = (expression);                            \
  if (!MAGMA_CONCAT(try_value_, __LINE__)) [[unlikely]]                              \
    return ::tl::unexpected<::magma::Error>(                                         \
        std::move(MAGMA_CONCAT(try_value_, __LINE__)).error());                      \
  declaration = std::move(*MAGMA_CONCAT(try_value_, __LINE__))
