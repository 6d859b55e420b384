// Texts that come from others: names and paths as the tools and the console show and walk them, and
// the table of mounts. What is shown holds no control character; a shown text shown again is the
// same but for its backslashes; names of a path hold no '/'.
#include <algorithm>

#include "libmagma/base/check.h"
#include "libmagma/client/listing.h"
#include "libmagma/client/paths.h"
#include "libmagma/sys_real/mount_table.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = magma::as_text({data, size});
  const std::string shown = magma::client::printable(text);
  const auto is_control = [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) == 0x7f;
  };
  MAGMA_CHECK(std::none_of(shown.begin(), shown.end(), is_control));
  std::string doubled;
  for (char c : shown) doubled.append(c == '\\' ? 2 : 1, c);
  MAGMA_CHECK(magma::client::printable(shown) == doubled);

  for (const std::string& name : magma::client::names_of_path(text))
    MAGMA_CHECK(!name.empty() && name.find('/') == std::string::npos);

  for (const auto& mount : magma::sys_real::parse_mountinfo(text))
    MAGMA_CHECK(magma::sys_real::mounted_at({mount}, mount.mountpoint).has_value());
  return 0;
}
