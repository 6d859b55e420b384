#include "libmagma/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace magma {

void check_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "<2>check_failed condition=\"%s\" at=%s:%d\n", condition, file, line);
  std::abort();
}

}  // namespace magma
