#include "libmagma/sys_real/random.h"

#include <sys/random.h>

#include <cerrno>

#include "libmagma/base/check.h"

namespace magma::sys_real {

void Random::fill(MutableByteSpan bytes) {
  while (!bytes.empty()) {
    ssize_t got = ::getrandom(bytes.data(), bytes.size(), 0);
    if (got < 0) {
      // Only a bad argument or a kernel without the call fails otherwise; going on without
      // randomness would make guessable keys.
      MAGMA_CHECK(errno == EINTR);
      continue;
    }
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
}

}  // namespace magma::sys_real
