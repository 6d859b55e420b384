// Host names to addresses, by the system's resolver. Blocks, perhaps for seconds: before the loop
// runs, or on a store thread.
#pragma once

#include <string_view>
#include <vector>

#include "libmagma/sys/address.h"

namespace magma::sys_real {

// "name", "name:port", or an address as Address::parse takes it. Addresses in the resolver's order,
// each once. unreachable if the resolver gives none now.
Result<std::vector<sys::Address>> resolve(std::string_view host, std::uint16_t default_port);

}  // namespace magma::sys_real
