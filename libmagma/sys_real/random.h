// The kernel's random generator (getrandom(2)), good for keys. Any thread.
#pragma once

#include "libmagma/sys/random.h"

namespace magma::sys_real {

class Random final : public sys::Random {
 public:
  void fill(MutableByteSpan bytes) override;
};

}  // namespace magma::sys_real
