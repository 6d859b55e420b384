// Who may use the console.
#include <doctest/doctest.h>

#include "magmad/console/access.h"

using namespace magma;
using console::AccessRules;
using console::admit;
using console::Peer;
using console::Rights;

namespace {

Peer local(std::optional<std::uint32_t> uid) {
  return {.address = sys::Address::v4(127, 0, 0, 1, 40000), .is_local = true, .uid = uid};
}
Peer remote(std::optional<std::uint32_t> uid = {}) {
  return {.address = sys::Address::v4(10, 0, 0, 9, 40000), .is_local = false, .uid = uid};
}

}  // namespace

TEST_CASE("console access: root and magmad's own user have all rights, others are guests") {
  const AccessRules rules{.own_uid = 500};
  CHECK(admit(rules, local(0)).rights == Rights::all);
  CHECK(admit(rules, local(500)).rights == Rights::all);
  CHECK(admit(rules, local(501)).rights == Rights::guest);
  CHECK(admit(rules, local(65534)).rights == Rights::guest);
  CHECK(admit(rules, local(501)).who == "uid=501 address=127.0.0.1:40000");
}

TEST_CASE("console access: a uid that cannot be told is nobody's") {
  const AccessRules rules{.own_uid = 0};
  CHECK(admit(rules, local({})).rights == Rights::guest);
  CHECK(admit(rules, local({})).who == "uid=unknown address=127.0.0.1:40000");
}

TEST_CASE("console access: other machines are turned away, or guests with --console-remote") {
  AccessRules rules;
  auto refused = admit(rules, remote());
  CHECK_FALSE(refused.rights.has_value());
  CHECK(refused.refusal.find("--console-remote") != std::string::npos);
  CHECK(refused.refusal.find('\n') == std::string::npos);
  rules.admits_remote = true;
  CHECK(admit(rules, remote()).rights == Rights::guest);
  // Whatever somebody claims: a uid of another machine is none of ours.
  CHECK(admit(rules, remote(0)).rights == Rights::guest);
}

TEST_CASE("console access: print acl says what is so") {
  auto text = [](AccessRules rules) {
    std::string all;
    for (const std::string& line : console::describe_access(rules)) all += line + "\n";
    return all;
  };
  CHECK(text({.own_uid = 0}).find("turned away") != std::string::npos);
  CHECK(text({.own_uid = 77}).find("uid 77") != std::string::npos);
  CHECK(text({.own_uid = 0, .admits_remote = true}).find("turned away") == std::string::npos);
}
