// POSIX ACLs as the kernel takes and gives them in system.posix_acl_access and _default: a header
// (version 2, 32 bits) and entries of tag (16), permissions (16), id (32), little-endian, in the
// order owner, users, owning group, groups, mask, others. Layout: linux/posix_acl_xattr.h.
#pragma once

#include <sys/xattr.h>

#include <cstdint>
#include <initializer_list>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {

inline constexpr const char* kAccess = "system.posix_acl_access";
inline constexpr const char* kDefault = "system.posix_acl_default";

enum AclTag : unsigned {
  kUserObj = 1,
  kUser = 2,
  kGroupObj = 4,
  kGroup = 8,
  kMask = 16,
  kOther = 32,
};

struct Entry {
  unsigned tag;
  unsigned permissions;
  unsigned id = 0xffffffff;
};

inline std::string acl(std::initializer_list<Entry> entries) {
  std::string blob;
  const auto add = [&blob](unsigned value, int size) {
    for (int i = 0; i < size; ++i) blob += char(value >> (8 * i) & 0xff);
  };
  add(2, 4);
  for (const auto& entry : entries) {
    add(entry.tag, 2);
    add(entry.permissions, 2);
    add(entry.id, 4);
  }
  return blob;
}

inline std::string set_acl(const std::string& path, const char* which, const std::string& blob) {
  return did(::setxattr(path.c_str(), which, blob.data(), blob.size(), 0));
}
inline std::string get_acl(const std::string& path, const char* which) {
  std::string blob(65'536, '\0');
  const auto size = ::getxattr(path.c_str(), which, blob.data(), blob.size());
  if (size < 0) return did(size);
  blob.resize(std::size_t(size));
  return blob;
}
inline std::string remove_acl(const std::string& path, const char* which) {
  return did(::removexattr(path.c_str(), which));
}

}  // namespace magma::posix
