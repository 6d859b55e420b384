// Extended attributes: setxattr, getxattr, listxattr, removexattr. One row each, at the inode's
// home. POSIX ACLs are attributes whose setting changes the mode, and the other way round.
#include <sys/stat.h>

#include "magmad/ops/acl.h"
#include "magmad/ops/ops.h"
#include "magmad/ops/parts.h"

namespace magma::ops {

namespace {

constexpr std::size_t kListBytesMax = 65536;  // XATTR_LIST_MAX: names with their zeros

std::vector<std::string> names_of(Shard& shard, Ino ino) {
  std::vector<std::string> names;
  auto visit = [&](const store::MetadataStore::ScanRow& row) {
    names.emplace_back(row.c);
    return true;
  };
  store::RowKey from{store::Table::xattr, ino.value, 0, {}};
  store::RowKey to{store::Table::xattr, ino.value, 0,
                   std::string(wire::kXattrNameBytesMax + 1, '\xff')};
  if (auto done = shard.metadata().scan(from, to, visit); !done) shard.poison(done.error());
  return names;
}

std::uint8_t kind_of(std::string_view name) {
  if (name == kCapabilityName) return wire::kXattrCapability;
  if (name == kAclAccessName) return wire::kXattrAclAccess;
  if (name == kAclDefaultName) return wire::kXattrAclDefault;
  return 0;
}

// As getattr: the answer tells the link count, which may be about to change.
bool park_for_link_count(Shard& shard, RequestPtr& request, Ino ino, const store::InodeRow& row) {
  std::optional<std::string> name;
  if (shard.is_locked(ino, kLinksLockName))
    name = kLinksLockName;
  else if (S_ISDIR(row.mode))
    name = shard.locked_name(ino);
  if (name) shard.park(std::move(request), ino, *name);
  return name.has_value();
}

void changed(Shard& shard, Ino ino, store::InodeRow& row) {
  row.ctime = std::max(row.ctime, shard.time());
  shard.put_inode(ino, row);
}

void put_xattr(Shard& shard, Ino ino, store::InodeRow& row, const std::string& name,
               ByteSpan value) {
  shard.put_raw(xattr_key(ino, name), value);
  row.xattr_kinds |= static_cast<std::uint8_t>(wire::kXattrAny | kind_of(name));
}

// The row of the attribute goes; the inode's row is changed, not put.
void erase_xattr(Shard& shard, Ino ino, store::InodeRow& row, const std::string& name) {
  shard.erase(xattr_key(ino, name));
  row.xattr_kinds &= static_cast<std::uint8_t>(~kind_of(name));
  if (names_of(shard, ino).empty()) row.xattr_kinds = 0;
}

// An ACL: checked, and what it says of owner, group and others becomes the mode. The row of the
// inode is changed, not put.
std::optional<Code> set_acl(Shard& shard, store::InodeRow& row,
                            const wire::SetxattrRequest& message) {
  const bool is_default = message.name == kAclDefaultName;
  if (S_ISLNK(row.mode)) return Code::unsupported;
  if (is_default && !S_ISDIR(row.mode))
    return message.value.empty() ? std::nullopt : std::optional(Code::access);
  auto acl = parse_acl(message.value);
  if (!acl) return acl.error().code;
  const bool is_removal = acl->entries.empty();
  bool keeps_row = !is_removal;
  if (!is_default && !is_removal) {
    AclMode mode = mode_of(*acl, row.mode);
    row.mode = mode.mode;
    keeps_row = !mode.is_equivalent;
    if ((message.flags & wire::kXattrKillSgid) != 0)
      row.mode &= ~static_cast<std::uint32_t>(S_ISGID);
  }
  if (keeps_row)
    put_xattr(shard, message.ino, row, message.name, encode_acl(*acl));
  else if (shard.get_raw(xattr_key(message.ino, message.name)))
    erase_xattr(shard, message.ino, row, message.name);
  return std::nullopt;
}

}  // namespace

store::RowKey xattr_key(Ino ino, std::string_view name) {
  return {store::Table::xattr, ino.value, 0, std::string(name)};
}

void erase_xattrs(Shard& shard, Ino ino, const store::InodeRow& row) {
  if (row.xattr_kinds == 0) return;
  for (const std::string& name : names_of(shard, ino)) shard.erase(xattr_key(ino, name));
}

void drop_capability(Shard& shard, Ino ino, store::InodeRow& row) {
  if ((row.xattr_kinds & wire::kXattrCapability) == 0) return;
  erase_xattr(shard, ino, row, std::string(kCapabilityName));
}

void setxattr(Shard& shard, RequestPtr request, wire::SetxattrRequest message) {
  if (auto error = wire::xattr_name_error(message.name))
    return shard.refuse(std::move(request), *error);
  if (message.value.size() > wire::kXattrValueBytesMax)
    return shard.refuse(std::move(request), Code::too_long);
  if (shard.is_locked(message.ino)) return shard.park(std::move(request), message.ino);
  auto row = shard.inode(message.ino);
  if (!row) return shard.refuse(std::move(request), Code::stale);
  if (park_for_link_count(shard, request, message.ino, *row)) return;
  bool exists = row->xattr_kinds != 0 && shard.get_raw(xattr_key(message.ino, message.name));
  if (exists && (message.flags & wire::kXattrCreate) != 0)
    return shard.refuse(std::move(request), Code::exists);
  if (!exists && (message.flags & wire::kXattrReplace) != 0)
    return shard.refuse(std::move(request), Code::no_attribute);
  if (shard.is_space_short()) return shard.refuse_for_space(std::move(request));
  if (!exists && row->xattr_kinds != 0) {
    std::size_t list = message.name.size() + 1;
    for (const std::string& name : names_of(shard, message.ino)) list += name.size() + 1;
    if (list > kListBytesMax) return shard.refuse(std::move(request), Code::no_space);
  }
  if (message.name == kAclAccessName || message.name == kAclDefaultName) {
    if (auto error = set_acl(shard, *row, message); error)
      return shard.refuse(std::move(request), *error);
  } else {
    put_xattr(shard, message.ino, *row, message.name, message.value);
  }
  changed(shard, message.ino, *row);
  shard.answer(std::move(request), wire::AttrReply{attr_of(shard, message.ino, *row)});
}

void removexattr(Shard& shard, RequestPtr request, wire::RemovexattrRequest message) {
  if (auto error = wire::xattr_name_error(message.name))
    return shard.refuse(std::move(request), *error);
  if (shard.is_locked(message.ino)) return shard.park(std::move(request), message.ino);
  auto row = shard.inode(message.ino);
  if (!row) return shard.refuse(std::move(request), Code::stale);
  if (park_for_link_count(shard, request, message.ino, *row)) return;
  if (row->xattr_kinds == 0 || !shard.get_raw(xattr_key(message.ino, message.name))) {
    // Not to have an ACL is what was asked for.
    if (message.name == kAclAccessName || message.name == kAclDefaultName)
      return shard.answer(std::move(request),
                          wire::AttrReply{attr_of(shard, message.ino, *row)});
    return shard.refuse(std::move(request), Code::no_attribute);
  }
  erase_xattr(shard, message.ino, *row, message.name);
  changed(shard, message.ino, *row);
  shard.answer(std::move(request), wire::AttrReply{attr_of(shard, message.ino, *row)});
}

void getxattr(Shard& shard, RequestPtr request, wire::GetxattrRequest message) {
  if (auto error = wire::xattr_name_error(message.name))
    return shard.refuse(std::move(request), *error);
  auto row = shard.inode(message.ino);
  if (!row) return shard.refuse(std::move(request), Code::stale);
  if (row->xattr_kinds == 0) return shard.refuse(std::move(request), Code::no_attribute);
  auto value = shard.get_raw(xattr_key(message.ino, message.name));
  if (!value) return shard.refuse(std::move(request), Code::no_attribute);
  shard.answer(std::move(request), wire::GetxattrReply{std::move(*value)});
}

void listxattr(Shard& shard, RequestPtr request, wire::ListxattrRequest message) {
  auto row = shard.inode(message.ino);
  if (!row) return shard.refuse(std::move(request), Code::stale);
  wire::ListxattrReply reply;
  if (row->xattr_kinds != 0) reply.names = names_of(shard, message.ino);
  shard.answer(std::move(request), reply);
}

}  // namespace magma::ops
