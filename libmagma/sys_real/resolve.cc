#include "libmagma/sys_real/resolve.h"

#include <netdb.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <string>
#include <system_error>

#include "libmagma/base/owned.h"
#include "libmagma/sys_real/sockaddr.h"

namespace magma::sys_real {

Result<std::vector<sys::Address>> resolve(std::string_view host, std::uint16_t default_port) {
  if (auto numeric = sys::Address::parse(host, default_port)) return std::vector{*numeric};
  std::string name(host);
  std::uint16_t port = default_port;
  if (auto colon = host.find(':'); colon != host.npos) {
    std::string_view text = host.substr(colon + 1);
    unsigned number = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || number == 0 || number > 65535)
      return fail(Code::invalid, "'" + name + "' is not HOST or HOST:PORT");
    port = static_cast<std::uint16_t>(number);
    name.resize(colon);
  }
  if (name.empty()) return fail(Code::invalid, "empty host name");

  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* raw = nullptr;
  int error = ::getaddrinfo(name.c_str(), nullptr, &hints, &raw);
  if (error != 0) {
    std::string why =
        error == EAI_SYSTEM ? std::generic_category().message(errno) : gai_strerror(error);
    return fail(Code::unreachable, "cannot resolve '" + name + "': " + why);
  }
  Owned<addrinfo, ::freeaddrinfo> list(raw);
  std::vector<sys::Address> found;
  for (const addrinfo* entry = list.get(); entry != nullptr; entry = entry->ai_next) {
    sys::Address address = from_socket_address(entry->ai_addr);
    address.port = port;
    if (std::find(found.begin(), found.end(), address) == found.end()) found.push_back(address);
  }
  if (found.empty()) return fail(Code::unreachable, "'" + name + "' has no IP address");
  return found;
}

}  // namespace magma::sys_real
