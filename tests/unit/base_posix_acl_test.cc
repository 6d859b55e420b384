// ACLs: the value of the extended attributes, their rules, and how they go with the mode. The rows
// are what Linux 6.18 does on ext4 (setxattr, chmod, open, mkdir, mkfifo), but where they say so.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <initializer_list>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "libmagma/base/posix_acl.h"

using namespace magma;

namespace {

constexpr std::pair<const char*, AclTag> kLetters[] = {
    {"u", AclTag::user_obj}, {"U", AclTag::user}, {"g", AclTag::group_obj},
    {"G", AclTag::group},    {"m", AclTag::mask}, {"o", AclTag::other},
};

// "u7 U1000:7 g5 G100:4 m7 o0": entries in the order given, valid or not.
std::vector<AclEntry> entries(const std::string& text) {
  std::vector<AclEntry> result;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = std::min(text.find(' ', at), text.size());
    std::string one = text.substr(at, end - at);
    AclEntry entry;
    for (const auto& [letter, tag] : kLetters)
      if (one.substr(0, 1) == letter) entry.tag = tag;
    std::size_t colon = one.find(':');
    if (colon != std::string::npos) {
      entry.id = static_cast<std::uint32_t>(std::stoul(one.substr(1, colon - 1)));
      entry.perm = static_cast<std::uint16_t>(std::stoul(one.substr(colon + 1)));
    } else {
      entry.perm = static_cast<std::uint16_t>(std::stoul(one.substr(1)));
    }
    result.push_back(entry);
    at = end + 1;
  }
  return result;
}

std::string text(const Acl& acl) {
  std::string result;
  for (const AclEntry& entry : acl.entries) {
    if (!result.empty()) result += ' ';
    for (const auto& [letter, tag] : kLetters)
      if (entry.tag == tag) result += letter;
    if (entry.id != AclEntry::kNoId) result += std::to_string(entry.id) + ':';
    result += std::to_string(entry.perm);
  }
  return result;
}
std::string text(const std::optional<Acl>& acl) { return acl ? text(*acl) : "none"; }

Bytes value_of(const std::vector<AclEntry>& entries) { return encode_acl(Acl{entries}); }

Acl acl(const std::string& text) {
  if (text.empty()) return {};
  auto parsed = parse_acl(value_of(entries(text)));
  REQUIRE(parsed.has_value());
  return *parsed;
}

Bytes hex(std::string_view text) {
  Bytes bytes;
  REQUIRE(from_hex(text, bytes));
  return bytes;
}

int errno_of_value(ByteSpan value) {
  auto parsed = parse_acl(value);
  return parsed ? 0 : errno_of(parsed.error().code);
}

// A valid list with random permissions and up to three users and groups each.
Acl random_acl(std::mt19937_64& random) {
  auto perm = [&] { return static_cast<std::uint16_t>(random() % 8); };
  Acl result;
  auto add_named = [&](AclTag tag) {
    std::uint32_t id = 0;
    for (auto left = random() % 4; left > 0; --left) {
      id += 1 + static_cast<std::uint32_t>(random() % 1000);
      result.entries.push_back({tag, id, perm()});
    }
  };
  result.entries.push_back({AclTag::user_obj, AclEntry::kNoId, perm()});
  add_named(AclTag::user);
  result.entries.push_back({AclTag::group_obj, AclEntry::kNoId, perm()});
  add_named(AclTag::group);
  if (result.entries.size() > 2 || random() % 2 == 0)
    result.entries.push_back({AclTag::mask, AclEntry::kNoId, perm()});
  result.entries.push_back({AclTag::other, AclEntry::kNoId, perm()});
  return result;
}

}  // namespace

TEST_CASE("posix acl: the bytes are those of setfacl") {
  struct {
    std::string hex;
    std::string text;
  } rows[] = {
      {"0200000001000600ffffffff02000700e803000004000400ffffffff10000700ffffffff20000000ffffffff",
       "u6 U1000:7 g4 m7 o0"},
      {"0200000001000700ffffffff04000400ffffffff10000400ffffffff20000000ffffffff", "u7 g4 m4 o0"},
      {"0200000001000700ffffffff04000500ffffffff20000500ffffffff", "u7 g5 o5"},
      {"0200000001000700ffffffff0200060001000000020006000000010004000500ffffffff080007000a000000"
       "10000700ffffffff20000500ffffffff",
       "u7 U1:6 U65536:6 g5 G10:7 m7 o5"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.text);
    auto parsed = parse_acl(hex(row.hex));
    REQUIRE(parsed.has_value());
    CHECK(text(*parsed) == row.text);
    CHECK(to_hex(encode_acl(*parsed)) == row.hex);
  }
}

TEST_CASE("posix acl: which lists are valid") {
  struct {
    std::string list;
    bool is_valid;
  } rows[] = {
      {"u7 g5 o5", true},
      {"u0 g0 o0", true},
      {"u7 g5 m5 o5", true},  // a mask may stand without need
      {"u7 U1:7 g5 m7 o5", true},
      {"u7 g5 G1:7 m7 o5", true},
      {"u7 U1:7 U2:6 g5 G1:7 G2:0 m7 o5", true},
      {"u7 U0:7 g5 G0:7 m7 o5", true},  // root by name
      {"u7 U4294967294:7 g5 m7 o5", true},
      {"u7", false},
      {"o5", false},
      {"m5", false},
      {"g5 o5", false},
      {"u7 o5", false},
      {"u7 g5", false},
      {"u7 g5 m5", false},
      {"u7 U1:7 g5 o5", false},  // named without a mask
      {"u7 g5 G1:7 o5", false},
      {"u7 u7 g5 o5", false},
      {"u7 g5 g5 o5", false},
      {"u7 g5 o5 o5", false},
      {"u7 g5 m5 m5 o5", false},
      {"g5 u7 o5", false},  // tags not in order
      {"u7 g5 o5 m5", false},
      {"u7 m5 g5 o5", false},
      {"U1:7 u7 g5 m7 o5", false},
      {"u7 g5 U1:7 m7 o5", false},
      {"u7 U1:7 G1:7 g5 m7 o5", false},
      {"u7 g5 m7 G1:7 o5", false},
      {"u8 g5 o5", false},  // permission bits above 7
      {"u7 g5 o8", false},
      {"u7 U1:15 g5 m7 o5", false},
      {"u7 g32768 o5", false},
      {"u7 g5 m8 o5", false},
      {"u7 U4294967295:7 g5 m7 o5", false},  // no such id
      {"u7 g5 G4294967295:7 m7 o5", false},
      {"u7 U1:7 U1:7 g5 m7 o5", false},  // acl_valid(3); Linux lets these pass
      {"u7 U1:7 U1:6 g5 m7 o5", false},
      {"u7 U2:7 U1:7 U2:6 g5 m7 o5", false},
      {"u7 g5 G1:7 G1:0 m7 o5", false},
  };
  for (const auto& row : rows) {
    CAPTURE(row.list);
    Bytes value = value_of(entries(row.list));
    CHECK(errno_of_value(value) == (row.is_valid ? 0 : EINVAL));
    if (row.is_valid) CHECK(text(*parse_acl(value)) == row.list);
  }
}

TEST_CASE("posix acl: ids of one tag may come in any order, others' ids do not matter") {
  CHECK(text(acl("u7 U30:1 U10:2 U20:3 g5 G9:4 G8:5 m7 o5")) ==
        "u7 U10:2 U20:3 U30:1 g5 G8:5 G9:4 m7 o5");
  CHECK(text(acl("u7 U1:1 g5 G1:2 m7 o5")) == "u7 U1:1 g5 G1:2 m7 o5");  // a uid is no gid
  CHECK(text(acl("u1:7 g2:5 m3:5 o4:5")) == "u7 g5 m5 o5");
}

TEST_CASE("posix acl: sizes, versions and tags that are no list") {
  const std::string list = "01000700ffffffff04000500ffffffff20000500ffffffff";
  CHECK(errno_of_value(hex("02000000" + list)) == 0);
  for (const char* version : {"00000000", "01000000", "03000000", "00000002", "02000001"}) {
    CHECK(errno_of_value(hex(version + list)) == EOPNOTSUPP);
    CHECK(errno_of_value(hex(std::string(version) + "01")) == EOPNOTSUPP);  // before the size
    CHECK(errno_of_value(hex(version)) == EOPNOTSUPP);
  }
  Bytes whole = hex("02000000" + list);
  for (std::size_t size = 1; size < whole.size(); ++size) {
    CAPTURE(size);
    CHECK(errno_of_value(ByteSpan(whole).first(size)) == (size == 4 ? 0 : EINVAL));
  }
  whole.push_back(0);
  CHECK(errno_of_value(whole) == EINVAL);
  for (const char* tag : {"0000", "0300", "0600", "4000", "0001", "0101"}) {
    CAPTURE(tag);
    CHECK(errno_of_value(hex("02000000" + (tag + list.substr(4)))) == EINVAL);
  }
}

TEST_CASE("posix acl: no entries is no list: the attribute goes, the mode stays") {
  for (const char* value : {"", "02000000"}) {
    auto parsed = parse_acl(hex(value));
    REQUIRE(parsed.has_value());
    CHECK(parsed->empty());
  }
  CHECK(mode_of({}, S_IFREG | 06754) == AclMode{S_IFREG | 06754, true});
  CHECK(with_mode({}, 0777).empty());
  CHECK(inherit({}, S_IFDIR | 0755) == InheritedAcl{S_IFDIR | 0755, {}, {}});
}

TEST_CASE("posix acl: a list is as long as FUSE can carry") {
  Acl longest = acl("u7 g5 m7 o5");
  while (4 + 8 * (longest.entries.size() + 1) <= kAclBytesMax)
    longest.entries.insert(
        longest.entries.begin() + static_cast<std::ptrdiff_t>(longest.entries.size()) - 3,
        {AclTag::user, static_cast<std::uint32_t>(longest.entries.size()), 7});
  CHECK(longest.entries.size() == 511);
  CHECK(parse_acl(encode_acl(longest)).value() == longest);
  longest.entries.insert(longest.entries.end() - 3, {AclTag::user, 1000, 7});
  CHECK(errno_of_value(encode_acl(longest)) == E2BIG);
}

TEST_CASE("posix acl: setting a list sets the permission bits and no others") {
  struct {
    std::string list;
    std::uint32_t before, after;
    bool is_equivalent;
  } rows[] = {
      {"u7 g5 o5", 0100000, 0100755, true},
      {"u6 g4 o0", 0102777, 0102640, true},
      {"u0 g0 o0", 0041777, 0041000, true},
      {"u7 g5 m5 o5", 0100000, 0100755, false},  // a mask is more than a mode can say
      {"u6 g4 m7 o0", 0100640, 0100670, false},  // the mask shows, not group_obj
      {"u6 g7 m0 o4", 0100000, 0100604, false},
      {"u6 U1000:7 g4 m7 o0", 0102640, 0102670, false},
      {"u6 U1000:7 g4 m4 o0", 0102670, 0102640, false},
      {"u1 g2 G5:7 m3 o4", 0107777, 0107134, false},
  };
  for (const auto& row : rows) {
    CAPTURE(row.list);
    CHECK(mode_of(acl(row.list), row.before) == AclMode{row.after, row.is_equivalent});
  }
}

TEST_CASE("posix acl: chmod changes owner, others, and mask or else group") {
  struct {
    std::string before;
    std::uint32_t mode;
    std::string after;
  } rows[] = {
      {"u6 U1000:7 g4 m4 o0", 0750, "u7 U1000:7 g4 m5 o0"},
      {"u6 U1000:7 g4 m4 o0", 0000, "u0 U1000:7 g4 m0 o0"},
      {"u0 U1000:0 g0 G7:0 m0 o0", 0777, "u7 U1000:0 g0 G7:0 m7 o7"},
      {"u7 g4 m4 o0", 0621, "u6 g4 m2 o1"},
      {"u7 g5 o5", 0100640, "u6 g4 o0"},
      {"u7 g5 m5 o5", 0106421, "u4 g5 m2 o1"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.before);
    CHECK(text(with_mode(acl(row.before), row.mode)) == row.after);
  }
}

TEST_CASE("posix acl: what is made in a directory with a default list") {
  struct {
    std::string list;
    std::uint32_t asked, mode;
    std::string access, standard;
  } rows[] = {
      // touch and mkdir under umask 077, which does not count
      {"u7 U1000:7 g5 m7 o0", 0100666, 0100660, "u6 U1000:7 g5 m6 o0", "none"},
      {"u7 U1000:7 g5 m7 o0", 0040777, 0040770, "u7 U1000:7 g5 m7 o0", "u7 U1000:7 g5 m7 o0"},
      {"u7 U1000:7 g5 m7 o0", 0120777, 0120777, "none", "none"},  // a symbolic link
      {"u7 U1000:7 g5 m7 o0", 0010644, 0010640, "u6 U1000:7 g5 m4 o0", "none"},
      {"u7 g5 o5", 0100666, 0100644, "none", "none"},
      {"u7 g5 o5", 0040777, 0040755, "none", "u7 g5 o5"},
      {"u4 g2 o1", 0100777, 0100421, "none", "none"},
      {"u7 g7 o7", 0100600, 0100600, "none", "none"},
      {"u7 g7 m5 o7", 0100666, 0100646, "u6 g7 m4 o6", "none"},
      {"u7 g0 m7 o0", 0100777, 0100770, "u7 g0 m7 o0", "none"},
      {"u0 U5:7 g7 G6:7 m0 o0", 0040777, 0040000, "u0 U5:7 g7 G6:7 m0 o0", "u0 U5:7 g7 G6:7 m0 o0"},
      {"u7 g5 o5", 0043777, 0043755, "none", "u7 g5 o5"},  // bits above 0777 pass
  };
  for (const auto& row : rows) {
    CAPTURE(row.list);
    CAPTURE(row.asked);
    InheritedAcl made = inherit(acl(row.list), row.asked);
    CHECK(made.mode == row.mode);
    CHECK(text(made.access) == row.access);
    CHECK(text(made.default_acl) == row.standard);
  }
}

TEST_CASE("posix acl: random lists: bytes there and back, mode and list agree") {
  for (unsigned seed = 1; seed <= 5000; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const Acl list = random_acl(random);
    const auto mode = static_cast<std::uint32_t>(S_IFREG | random() % 010000);
    REQUIRE(parse_acl(encode_acl(list)).value() == list);

    const AclMode set = mode_of(list, mode);
    REQUIRE((set.mode & ~0777u) == (mode & ~0777u));
    REQUIRE(set.is_equivalent == (list.entries.size() == 3));
    REQUIRE(with_mode(list, set.mode) == list);

    const Acl changed = with_mode(list, mode);
    REQUIRE(mode_of(changed, 0).mode == (mode & 0777));
    REQUIRE(with_mode(changed, set.mode) == list);  // chmod loses nothing

    const InheritedAcl made = inherit(list, mode);
    REQUIRE(made.mode == ((mode & ~0777u) | (mode & set.mode & 0777)));
    REQUIRE(made.access.has_value() == !set.is_equivalent);
    if (made.access) REQUIRE(*made.access == with_mode(list, made.mode));
  }
}

TEST_CASE("posix acl: random bytes parse or are refused; what parses is in order") {
  unsigned valid = 0;
  for (unsigned seed = 1; seed <= 20000; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    Bytes value = encode_acl(random_acl(random));
    for (auto changes = random() % 3; changes > 0; --changes) {
      auto at = static_cast<std::size_t>(random() % value.size());
      switch (random() % 3) {
        case 0: value[at] = static_cast<std::uint8_t>(random()); break;
        case 1: value[at] ^= static_cast<std::uint8_t>(1u << random() % 8); break;
        case 2: value.resize(std::max<std::size_t>(at, 1)); break;
      }
    }
    auto parsed = parse_acl(value);
    if (!parsed || parsed->empty()) continue;
    ++valid;
    REQUIRE(std::is_sorted(parsed->entries.begin(), parsed->entries.end()));
    REQUIRE(parse_acl(encode_acl(*parsed)).value() == *parsed);
    REQUIRE(mode_of(with_mode(*parsed, 0), 0777).mode == 0);
  }
  CHECK(valid > 5000);
  CHECK(valid < 15000);
}
