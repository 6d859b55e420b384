#include "libmagma/base/posix_acl.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "libmagma/base/check.h"

namespace magma {
namespace {

constexpr std::uint32_t kVersion = 2;
constexpr std::size_t kHeaderBytes = 4;
constexpr std::size_t kEntryBytes = 8;
constexpr std::uint32_t kPermMax = 7;
constexpr std::uint32_t kPermissionBits = 0777;

template <class U>
U get_little(ByteSpan from) {
  U value = 0;
  for (std::size_t i = 0; i < sizeof(U); ++i)
    value = static_cast<U>(value | static_cast<U>(from[i]) << (8 * i));
  return value;
}

template <class U>
void put_little(Bytes& out, U value) {
  for (std::size_t i = 0; i < sizeof(U); ++i)
    out.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

bool is_named(AclTag tag) { return tag == AclTag::user || tag == AclTag::group; }

bool is_tag(AclTag tag) {
  switch (tag) {
    case AclTag::user_obj:
    case AclTag::user:
    case AclTag::group_obj:
    case AclTag::group:
    case AclTag::mask:
    case AclTag::other: return true;
  }
  return false;
}

AclEntry* find(Acl& acl, AclTag tag) {
  auto at = std::find_if(acl.entries.begin(), acl.entries.end(),
                         [tag](const AclEntry& entry) { return entry.tag == tag; });
  return at == acl.entries.end() ? nullptr : &*at;
}

// The entry of an obligatory tag.
AclEntry& get(Acl& acl, AclTag tag) {
  AclEntry* entry = find(acl, tag);
  MAGMA_CHECK(entry != nullptr);
  return *entry;
}

// The entry that the group bits of the mode stand for.
AclEntry& group_class(Acl& acl) {
  AclEntry* mask = find(acl, AclTag::mask);
  return mask != nullptr ? *mask : get(acl, AclTag::group_obj);
}

bool is_minimal(const Acl& acl) {
  return std::none_of(acl.entries.begin(), acl.entries.end(), [](const AclEntry& entry) {
    return is_named(entry.tag) || entry.tag == AclTag::mask;
  });
}

std::uint16_t owner_bits(std::uint32_t mode) { return mode >> 6 & kPermMax; }
std::uint16_t group_bits(std::uint32_t mode) { return mode >> 3 & kPermMax; }
std::uint16_t other_bits(std::uint32_t mode) { return mode & kPermMax; }

// Whether entries in the order of (tag, id) are a valid list.
bool is_valid(const Acl& acl) {
  auto has = [&acl](AclTag tag) {
    return std::any_of(acl.entries.begin(), acl.entries.end(),
                       [tag](const AclEntry& entry) { return entry.tag == tag; });
  };
  if (!has(AclTag::user_obj) || !has(AclTag::group_obj) || !has(AclTag::other)) return false;
  if ((has(AclTag::user) || has(AclTag::group)) && !has(AclTag::mask)) return false;
  auto same = [](const AclEntry& a, const AclEntry& b) { return a.tag == b.tag && a.id == b.id; };
  return std::adjacent_find(acl.entries.begin(), acl.entries.end(), same) == acl.entries.end();
}

}  // namespace

Result<Acl> parse_acl(ByteSpan value) {
  if (value.empty()) return Acl{};
  if (value.size() > kAclBytesMax) return fail(Code::too_long, "ACL");
  if (value.size() < kHeaderBytes) return fail(Code::invalid, "ACL without a version");
  if (get_little<std::uint32_t>(value) != kVersion)
    return fail(Code::unsupported, "version of an ACL");
  if ((value.size() - kHeaderBytes) % kEntryBytes != 0)
    return fail(Code::invalid, "size of an ACL");
  Acl acl;
  for (ByteSpan left = value.subspan(kHeaderBytes); !left.empty();
       left = left.subspan(kEntryBytes)) {
    AclEntry entry{static_cast<AclTag>(get_little<std::uint16_t>(left)),
                   get_little<std::uint32_t>(left.subspan(4)),
                   get_little<std::uint16_t>(left.subspan(2))};
    if (!is_tag(entry.tag) || entry.perm > kPermMax) return fail(Code::invalid, "entry of an ACL");
    if (!is_named(entry.tag)) entry.id = AclEntry::kNoId;
    if (is_named(entry.tag) && entry.id == AclEntry::kNoId)
      return fail(Code::invalid, "id in an ACL");
    if (!acl.empty() && acl.entries.back().tag > entry.tag)
      return fail(Code::invalid, "order of an ACL");
    acl.entries.push_back(entry);
  }
  std::sort(acl.entries.begin(), acl.entries.end());
  if (!acl.empty() && !is_valid(acl)) return fail(Code::invalid, "entries of an ACL");
  return acl;
}

Bytes encode_acl(const Acl& acl) {
  MAGMA_CHECK(!acl.empty());
  Bytes out;
  out.reserve(kHeaderBytes + kEntryBytes * acl.entries.size());
  put_little(out, kVersion);
  for (const AclEntry& entry : acl.entries) {
    put_little(out, static_cast<std::uint16_t>(entry.tag));
    put_little(out, entry.perm);
    put_little(out, entry.id);
  }
  return out;
}

AclMode mode_of(const Acl& acl, std::uint32_t mode) {
  if (acl.empty()) return {mode, true};
  Acl copy = acl;
  std::uint32_t bits = std::uint32_t{get(copy, AclTag::user_obj).perm} << 6 |
                       std::uint32_t{group_class(copy).perm} << 3 | get(copy, AclTag::other).perm;
  return {(mode & ~kPermissionBits) | bits, is_minimal(acl)};
}

Acl with_mode(Acl acl, std::uint32_t mode) {
  if (acl.empty()) return acl;
  get(acl, AclTag::user_obj).perm = owner_bits(mode);
  group_class(acl).perm = group_bits(mode);
  get(acl, AclTag::other).perm = other_bits(mode);
  return acl;
}

InheritedAcl inherit(const Acl& default_acl, std::uint32_t mode) {
  if (default_acl.empty() || S_ISLNK(mode)) return {mode, std::nullopt, std::nullopt};
  Acl access = default_acl;
  get(access, AclTag::user_obj).perm &= owner_bits(mode);
  group_class(access).perm &= group_bits(mode);
  get(access, AclTag::other).perm &= other_bits(mode);
  AclMode made = mode_of(access, mode);
  InheritedAcl result{made.mode, std::nullopt, std::nullopt};
  if (!made.is_equivalent) result.access = std::move(access);
  if (S_ISDIR(mode)) result.default_acl = default_acl;
  return result;
}

}  // namespace magma
