#include "libmagma/ring/profile_rules.h"

#include <algorithm>
#include <string_view>

namespace magma::ring {

namespace {

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '-' || c == '_';
}
bool is_name(std::string_view text) {
  return !text.empty() && text.front() != '.' && std::all_of(text.begin(), text.end(), is_word);
}
bool is_address(std::string_view text) {
  return text.size() >= 3 && text.size() <= kAddressBytesMax &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return is_word(c) || c == ':' || c == '[' || c == ']'; });
}

}  // namespace

std::string bad_profile(const Profile& p) {
  if (!is_name(p.nick) || p.nick.size() > kNickBytesMax)
    return "a nick is 1 to 63 letters, digits, '.', '-' or '_', the first no dot";
  if (!is_name(p.fqdn) || p.fqdn.size() > kFqdnBytesMax || p.fqdn.find('.') == p.fqdn.npos)
    return "a full name is letters, digits, '.', '-' or '_', with a dot";
  if (p.roles != kStores && p.roles != kWitness) return "a volcano stores or is a witness";
  if (!is_address(p.node)) return "no node address";
  if (!is_address(p.flare) && !(p.roles == kWitness && p.flare.empty())) return "no flare address";
  if (p.flare == p.node) return "flare and node address are the same";
  if (!p.console.empty() && !is_address(p.console)) return "no console address";
  return {};
}

std::string taken_in(const LavaMap& map, const Profile& profile, VolcanoId except) {
  for (const Volcano& v : map.volcanoes) {
    if (v.id == except) continue;
    const Profile& p = v.profile;
    if (p.storage != 0 && p.storage == profile.storage) return "storage directory of " + p.nick;
    if (p.nick == profile.nick) return "nick " + p.nick;
    if (p.fqdn == profile.fqdn) return "name " + p.fqdn;
    for (const std::string* mine : {&profile.flare, &profile.node})
      if (!mine->empty() && (*mine == p.flare || *mine == p.node)) return "address " + *mine;
    if (!profile.console.empty() && profile.console == p.console)
      return "console address " + p.console;
  }
  return {};
}

}  // namespace magma::ring
