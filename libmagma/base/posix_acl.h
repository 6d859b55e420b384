// Access control lists of POSIX.1e draft 17, acl(5), as Linux programs see them: the extended
// attributes system.posix_acl_access and system.posix_acl_default (linux/posix_acl_xattr.h). Pure:
// the operations that read and put the attributes and modes call it.
//
//   value = version:u32 entry*      all little-endian; version 2
//   entry = tag:u16 perm:u16 id:u32
//   tag     1 user_obj  2 user  4 group_obj  8 group  16 mask  32 other
//   perm    4 read  2 write  1 execute
//   id      of user and group; elsewhere ignored when read, 0xffffffff when written
//
// A valid list has exactly one user_obj, group_obj and other, at most one mask, and a mask if it
// has a user or a group. Tags ascend, and so do ids of one tag. No entry at all (an empty value, or
// the version alone): no list, i.e. the attribute is to be removed.
//
// An access list and the permission bits of the mode are two views of one thing: user_obj is the
// owner's bits, other is others', and the group's bits are the mask if there is one, else
// group_obj. A list of the three obligatory entries says no more than the bits, and is not stored.
//
// The list of a directory's system.posix_acl_default is no right to that directory, but what is
// made in it begins with (inherit). Other inodes have none: setting one is EACCES (Code::access),
// removing is granted.
//
// Who checks rights, and who clears S_ISGID when a list is set by somebody outside of the group:
// the client's kernel, which enforces the lists (FUSE_POSIX_ACL) and asks for the clearing with
// FUSE_SETXATTR_ACL_KILL_SGID. Here bits above 0777 pass unchanged.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/base/result.h"

namespace magma {

// The longest value: a page of the client's kernel, since FUSE moves no longer list either way.
inline constexpr std::size_t kAclBytesMax = 4096;

enum class AclTag : std::uint16_t {
  user_obj = 1,
  user = 2,
  group_obj = 4,
  group = 8,
  mask = 16,
  other = 32,
};

struct AclEntry {
  static constexpr std::uint32_t kNoId = 0xffffffff;

  AclTag tag{};
  std::uint32_t id = kNoId;  // uid or gid of user and group, else kNoId
  std::uint16_t perm = 0;    // 0..7
  friend auto operator<=>(const AclEntry&, const AclEntry&) = default;
};

struct Acl {
  std::vector<AclEntry> entries{};                // by tag, then id; valid (see above) or empty
  bool empty() const { return entries.empty(); }  // no list
  friend bool operator==(const Acl&, const Acl&) = default;
};

// The value of either attribute. Errors as setxattr(2) answers on Linux: `invalid` (EINVAL) for a
// list that is not valid or a size that no list has, `unsupported` (EOPNOTSUPP) for another
// version, `too_long` (E2BIG) above kAclBytesMax. Ids of one tag may come in any order, as Linux
// takes them; twice the same is `invalid` by acl_valid(3), though Linux lets it pass.
Result<Acl> parse_acl(ByteSpan value);

// The value that parse_acl reads. Requires: !acl.empty().
Bytes encode_acl(const Acl& acl);

struct AclMode {
  std::uint32_t mode = 0;
  bool is_equivalent = false;  // the mode says all: no attribute is stored
  friend bool operator==(const AclMode&, const AclMode&) = default;
};
// Setting an access list: `mode` with the permission bits of the list. Without a list `mode` stays.
AclMode mode_of(const Acl& acl, std::uint32_t mode);

// chmod(2) of an inode with an access list: the list with the permission bits of `mode`. Named
// entries stay, and so does group_obj if there is a mask.
Acl with_mode(Acl acl, std::uint32_t mode);

struct InheritedAcl {
  std::uint32_t mode = 0;
  std::optional<Acl> access{};       // nothing: the mode says all
  std::optional<Acl> default_acl{};  // of a directory
  friend bool operator==(const InheritedAcl&, const InheritedAcl&) = default;
};
// What a new inode gets from the default list of its directory. `mode`: type and bits asked for,
// before the umask: the umask counts only where the directory has no default list, and then the
// caller masks (FUSE_DONT_MASK). Without a list and for symbolic links: `mode`, no lists.
InheritedAcl inherit(const Acl& default_acl, std::uint32_t mode);

}  // namespace magma
