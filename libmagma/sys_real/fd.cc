#include "libmagma/sys_real/fd.h"

#include <system_error>

namespace magma::sys_real {

Error error_of_errno(std::string_view call, std::string_view what, int errno_value) {
  std::string detail(call);
  if (!what.empty()) detail.append(" ").append(what);
  detail.append(": ").append(std::generic_category().message(errno_value));
  return {code_of_errno(errno_value), std::move(detail)};
}

}  // namespace magma::sys_real
