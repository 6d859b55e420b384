// How ACLs and capabilities, which are extended attributes, go with a flare's mode and life.
// posix_acl.h has the ACLs themselves.
#pragma once

#include <string_view>

#include "libmagma/base/posix_acl.h"
#include "magmad/ops/ops.h"

namespace magma::ops {

inline constexpr std::string_view kAclAccessName = "system.posix_acl_access";
inline constexpr std::string_view kAclDefaultName = "system.posix_acl_default";
inline constexpr std::string_view kCapabilityName = "security.capability";

store::RowKey xattr_key(Ino ino, std::string_view name);

// The ACLs of a new flare in a directory, as stored (empty: none), and its mode: the default ACL's,
// or what the umask leaves.
struct Inherited {
  Bytes access{};
  Bytes standard{};  // of a directory: its default ACL
  std::uint32_t mode = 0;
};
Inherited inherited_from(Shard& shard, const Directory& dir, std::uint32_t mode,
                         std::uint32_t umask);
void put_inherited(Shard& shard, Ino ino, store::InodeRow& row, const Inherited& inherited);

// chmod: the access ACL follows the new permission bits of row.mode.
void acl_follows_mode(Shard& shard, Ino ino, store::InodeRow& row);

}  // namespace magma::ops
