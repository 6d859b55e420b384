#include "libmagma/base/result.h"

#include <cerrno>

namespace magma {

std::string_view name_of(Code code) {
  switch (code) {
#define MAGMA_ERROR(name, number, errno_value, class_name, text) \
  case Code::name:                                               \
    return #name;
#include "libmagma/base/errors.def"
#undef MAGMA_ERROR
  }
  return "unknown_error";
}

std::string_view text_of(Code code) {
  switch (code) {
#define MAGMA_ERROR(name, number, errno_value, class_name, text) \
  case Code::name:                                               \
    return text;
#include "libmagma/base/errors.def"
#undef MAGMA_ERROR
  }
  return "unknown error";
}

int errno_of(Code code) {
  switch (code) {
#define MAGMA_ERROR(name, number, errno_value, class_name, text) \
  case Code::name:                                               \
    return errno_value;
#include "libmagma/base/errors.def"
#undef MAGMA_ERROR
  }
  return EIO;
}

ErrorClass class_of(Code code) {
  switch (code) {
#define MAGMA_ERROR(name, number, errno_value, class_name, text) \
  case Code::name:                                               \
    return ErrorClass::class_name;
#include "libmagma/base/errors.def"
#undef MAGMA_ERROR
  }
  return ErrorClass::final;
}

bool is_known(std::uint16_t number) {
  return name_of(static_cast<Code>(number)) != "unknown_error";
}

Code code_of_errno(int errno_value) {
  switch (errno_value) {
    case ENOENT: return Code::not_found;
    case EEXIST: return Code::exists;
    case ENOTDIR: return Code::not_a_directory;
    case EISDIR: return Code::is_a_directory;
    case ENOTEMPTY: return Code::not_empty;
    case EINVAL: return Code::invalid;
    case ENAMETOOLONG: return Code::name_too_long;
    case ENOSPC:
    case EDQUOT: return Code::no_space;
    case EPERM: return Code::permission;
    case EACCES: return Code::access;
    case EROFS: return Code::read_only;
    case EFBIG: return Code::too_big;
    case ENOMEM: return Code::no_memory;
    case EBUSY: return Code::busy;
    case EAGAIN: return Code::would_block;
    case EINTR: return Code::interrupted;
    case ETIMEDOUT: return Code::timeout;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ECONNREFUSED: return Code::unreachable;
    case EOPNOTSUPP: return Code::unsupported;
    default: return Code::io;
  }
}

std::string describe(const Error& error) {
  std::string text(text_of(error.code));
  if (!error.detail.empty()) text += ": " + error.detail;
  return text;
}

}  // namespace magma
