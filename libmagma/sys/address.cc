#include "libmagma/sys/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

namespace magma::sys {

namespace {
constexpr std::array<std::uint8_t, 12> kMappedPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
}

Address Address::v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d,
                    std::uint16_t port) {
  Address address;
  std::copy(kMappedPrefix.begin(), kMappedPrefix.end(), address.ip.begin());
  address.ip[12] = a;
  address.ip[13] = b;
  address.ip[14] = c;
  address.ip[15] = d;
  address.port = port;
  return address;
}

Result<Address> Address::parse(std::string_view text, std::uint16_t default_port) {
  std::string host(text);
  std::uint16_t port = default_port;
  std::string_view port_text;
  if (!host.empty() && host.front() == '[') {
    auto end = host.find(']');
    if (end == std::string::npos)
      return fail(Code::invalid, "'" + std::string(text) + "' lacks a closing ]");
    if (end + 1 < text.size()) {
      if (text[end + 1] != ':')
        return fail(Code::invalid, "'" + std::string(text) + "' is not [ADDRESS]:PORT");
      port_text = text.substr(end + 2);
    }
    host = host.substr(1, end - 1);
  } else if (std::count(host.begin(), host.end(), ':') == 1) {
    auto colon = host.find(':');
    port_text = text.substr(colon + 1);
    host.resize(colon);
  }
  if (port_text.data() != nullptr) {
    unsigned number = 0;
    auto [end, error] =
        std::from_chars(port_text.data(), port_text.data() + port_text.size(), number);
    if (error != std::errc() || end != port_text.data() + port_text.size() || number == 0 ||
        number > 65535)
      return fail(Code::invalid, "'" + std::string(port_text) + "' is not a port (1-65535)");
    port = static_cast<std::uint16_t>(number);
  }
  in_addr v4_address{};
  if (inet_pton(AF_INET, host.c_str(), &v4_address) == 1) {
    const auto* raw = reinterpret_cast<const std::uint8_t*>(&v4_address);
    return v4(raw[0], raw[1], raw[2], raw[3], port);
  }
  in6_addr v6_address{};
  if (inet_pton(AF_INET6, host.c_str(), &v6_address) == 1) {
    Address address;
    std::copy(std::begin(v6_address.s6_addr), std::end(v6_address.s6_addr), address.ip.begin());
    address.port = port;
    return address;
  }
  return fail(Code::invalid, "'" + std::string(text) + "' is not an IP address");
}

Address Address::next_hop() const {
  Address hop;
  hop.ip = is_relayed() ? relay_ip : ip;
  hop.port = is_relayed() ? relay_port : port;
  return hop;
}

Address Address::direct() const {
  Address address;
  address.ip = ip;
  address.port = port;
  return address;
}

Address Address::through(const Address& relay) const {
  Address address = direct();
  address.relay_ip = relay.ip;
  address.relay_port = relay.port;
  return address;
}

bool Address::is_v4() const {
  return std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), ip.begin());
}

bool Address::is_loopback() const {
  if (is_relayed()) return false;
  if (is_v4()) return ip[12] == 127;
  return std::all_of(ip.begin(), ip.end() - 1, [](auto b) { return b == 0; }) && ip[15] == 1;
}

bool Address::is_any() const {
  auto from = is_v4() ? ip.begin() + 12 : ip.begin();
  return std::all_of(from, ip.end(), [](auto b) { return b == 0; });
}

std::string Address::ip_text() const {
  char text[INET6_ADDRSTRLEN];
  if (is_v4())
    inet_ntop(AF_INET, ip.data() + 12, text, sizeof text);
  else
    inet_ntop(AF_INET6, ip.data(), text, sizeof text);
  return text;
}

std::string Address::text() const {
  std::string host = ip_text();
  if (!is_v4()) host = "[" + host + "]";
  std::string text = host + ":" + std::to_string(port);
  if (is_relayed()) text += " via " + next_hop().text();
  return text;
}

}  // namespace magma::sys
