// A file descriptor that closes itself, and errors from errno. For libmagma/sys_real only.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include "libmagma/base/result.h"

namespace magma::sys_real {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Fd() { reset(); }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = -1;
};

// "CALL WHAT: text of errno", under the code nearest to errno.
Error error_of_errno(std::string_view call, std::string_view what, int errno_value);
inline tl::unexpected<Error> fail_errno(std::string_view call, std::string_view what) {
  return fail(error_of_errno(call, what, errno));
}

}  // namespace magma::sys_real
