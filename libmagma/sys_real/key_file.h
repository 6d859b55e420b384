// Reading and writing key files (format: crypto/network_key.h). A key that others could read or
// replace is refused, as ssh does. Blocks; before the loop runs.
#pragma once

#include <string>
#include <string_view>

#include "libmagma/base/result.h"
#include "libmagma/crypto/network_key.h"

namespace magma::sys_real {

inline constexpr std::size_t kKeyFileBytesMax = 4096;

// bad_key_file, saying what is wrong and how to mend it, unless `path` is a regular file of less
// than kKeyFileBytesMax, without permissions for group and others, of root's or ours, with a key
// in it. not_found if there is none.
Result<crypto::Keyring> read_key_file(const std::string& path);

// Makes `path` (0600) with `text` in it, on stable storage; exists if there is one: a key is never
// overwritten.
Result<void> write_key_file(const std::string& path, std::string_view text);

}  // namespace magma::sys_real
