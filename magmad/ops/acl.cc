#include "magmad/ops/acl.h"

#include <sys/stat.h>

namespace magma::ops {

Inherited inherited_from(Shard& shard, const Directory& dir, std::uint32_t mode,
                         std::uint32_t umask) {
  Inherited result;
  result.mode = mode & ~(umask & 0777);
  if ((dir.row.xattr_kinds & wire::kXattrAclDefault) == 0 || S_ISLNK(mode)) return result;
  auto image = shard.get_raw(xattr_key(dir.ino, kAclDefaultName));
  auto acl = image ? parse_acl(*image) : fail(Code::no_attribute);
  if (!acl) {
    shard.poison(Error{Code::io, "malformed default ACL"});
    return result;
  }
  InheritedAcl made = inherit(*acl, mode);
  result.mode = made.mode;
  if (made.access) result.access = encode_acl(*made.access);
  if (S_ISDIR(mode)) result.standard = std::move(*image);
  return result;
}

void put_inherited(Shard& shard, Ino ino, store::InodeRow& row, const Inherited& inherited) {
  row.mode = inherited.mode;
  if (!inherited.access.empty()) {
    shard.put_raw(xattr_key(ino, kAclAccessName), inherited.access);
    row.xattr_kinds |= wire::kXattrAny | wire::kXattrAclAccess;
  }
  if (!inherited.standard.empty()) {
    shard.put_raw(xattr_key(ino, kAclDefaultName), inherited.standard);
    row.xattr_kinds |= wire::kXattrAny | wire::kXattrAclDefault;
  }
}

void inherit_acl(Shard& shard, const Directory& dir, Ino ino, store::InodeRow& row,
                 std::uint32_t umask) {
  put_inherited(shard, ino, row, inherited_from(shard, dir, row.mode, umask));
}

void acl_follows_mode(Shard& shard, Ino ino, store::InodeRow& row) {
  if ((row.xattr_kinds & wire::kXattrAclAccess) == 0) return;
  auto image = shard.get_raw(xattr_key(ino, kAclAccessName));
  auto acl = image ? parse_acl(*image) : fail(Code::no_attribute);
  if (!acl) return shard.poison(Error{Code::io, "malformed access ACL"});
  shard.put_raw(xattr_key(ino, kAclAccessName), encode_acl(with_mode(*acl, row.mode)));
}

}  // namespace magma::ops
