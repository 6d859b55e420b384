// How malloc treats the buffers of large reads and writes.
#pragma once

#include <malloc.h>

namespace magma::sys_real {

// By default glibc takes blocks above 128 KiB from the kernel and gives them back at once, which
// costs a page fault for each 4 KiB of every 1 MiB buffer (mallopt(3)). After this they are kept
// for the next; at most kKeptBytes lie idle. To be called once, first in main().
inline void keep_large_buffers() {
  constexpr int kLargeBytes = 32 << 20;  // the most that M_MMAP_THRESHOLD takes
  constexpr int kKeptBytes = 48 << 20;
  ::mallopt(M_MMAP_THRESHOLD, kLargeBytes);
  ::mallopt(M_TRIM_THRESHOLD, kKeptBytes);
}

}  // namespace magma::sys_real
