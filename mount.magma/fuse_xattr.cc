// Extended attributes: setxattr, getxattr, listxattr, removexattr. The kernel has checked who may;
// ACLs come here as system.posix_acl_*. magma.* are not stored but told: the key of a flare, its
// slot, the volcanoes that hold it.
#include <sys/stat.h>

#include <fmt/format.h>

#include "libmagma/client/ring_words.h"
#include "mount.magma/filesystem.h"

namespace magma::mount {

namespace {

// Answers with a value, or its size if size is asked for.
void answer_value(Reply reply, ByteSpan value, std::size_t size) {
  if (size == 0)
    reply.xattr_size(value.size());
  else if (value.size() > size)
    reply.fail(Code::out_of_range);
  else
    reply.bytes(value);
}

auto after_change(Reply reply, Ino ino) {
  return [reply = std::move(reply), ino](Result<wire::Attr> attr) mutable {
    Filesystem& fs = reply.filesystem();
    fs.changed(ino);
    if (!attr) {
      reply.fail(attr.error());
      return;
    }
    fs.learn_attr(*attr);
    reply.ok();
  };
}

void op_setxattr(fuse_req_t request, fuse_ino_t node, const char* name, const char* value,
                 std::size_t size, int flags) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  if (size > wire::kXattrValueBytesMax) {
    reply.fail(Code::too_long);
    return;
  }
  wire::SetxattrRequest change{.ino = fs.ino_of(node),
                               .name = name,
                               .value = {},
                               .flags = static_cast<std::uint32_t>(flags) &
                                        (wire::kXattrCreate | wire::kXattrReplace)};
  if (fs.raw.kills_sgid) change.flags |= wire::kXattrKillSgid;
  const auto* first = reinterpret_cast<const std::uint8_t*>(value);
  change.value.assign(first, first + size);
  fs.seen.doubt(change.ino);
  fs.call(request, [&] {
    const auto who = reply.who();
    const Ino ino = change.ino;
    return fs.client.setxattr(std::move(change), who, after_change(std::move(reply), ino));
  });
}

void op_removexattr(fuse_req_t request, fuse_ino_t node, const char* name) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  const Ino ino = fs.ino_of(node);
  fs.seen.doubt(ino);
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.removexattr(ino, name, who, after_change(std::move(reply), ino));
  });
}

// Addresses alone, as long as no volcano has told of its ring.
std::string volcanoes_text(Filesystem& fs, ring::Slot slot) {
  if (fs.ring.known) return client::holders_text(client::holders_of(*fs.ring.known, slot));
  std::vector<client::Holder> holders;
  for (std::string& address : fs.client.volcanoes_of(slot))
    holders.push_back({.nick = {}, .address = std::move(address)});
  return client::holders_text(holders);
}

// Where a flare is: of a large file the key that its content lies at.
void tell_place(Reply reply, std::string name, std::size_t size, const wire::Attr& attr) {
  Filesystem& fs = reply.filesystem();
  const ring::Slot home = ring::home_of(attr.ino);
  const ring::Key key = attr.placement.key ? *attr.placement.key : fs.inodes.key_of(attr.ino);
  const ring::Slot slot = attr.placement.in_chunks ? key.slot() : home;
  std::string text;
  if (name == "magma.key") text = key.hex();
  if (name == "magma.slot") text = fmt::format("{:03x}", slot.value);
  if (name == "magma.volcanoes") text = volcanoes_text(fs, slot);
  answer_value(std::move(reply), as_bytes(text), size);
}

// With what is known of the ring now.
void tell_place_later(Reply reply, std::string name, std::size_t size, const wire::Attr& attr) {
  Filesystem& fs = reply.filesystem();
  fs.ring.refresh([reply = std::move(reply), name = std::move(name), size, attr]() mutable {
    tell_place(std::move(reply), std::move(name), size, attr);
  });
}

bool is_virtual(std::string_view name) {
  return name == "magma.key" || name == "magma.slot" || name == "magma.volcanoes";
}

// Whether what is known of the flare says that it has no such attribute.
bool is_absent(Filesystem& fs, Ino ino, std::string_view name) {
  const auto kinds = fs.seen.xattr_kinds_of(ino, fs.clock.now());
  if (!kinds) return false;
  if (*kinds == 0) return true;
  if (name == "security.capability") return (*kinds & wire::kXattrCapability) == 0;
  if (name == "system.posix_acl_access") return (*kinds & wire::kXattrAclAccess) == 0;
  if (name == "system.posix_acl_default") return (*kinds & wire::kXattrAclDefault) == 0;
  return false;
}

// What a flare without this attribute answers. A security label is told by the security module, if
// there is one; if we are asked there is none, and ls(1) and others ask no more of a filesystem
// that says so (ENOTSUP), instead of once a file.
Code absence_of(std::string_view name) {
  return name == "security.selinux" ? Code::unsupported : Code::no_attribute;
}

void op_getxattr(fuse_req_t request, fuse_ino_t node, const char* raw_name, std::size_t size) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  const Ino ino = fs.ino_of(node);
  const std::string_view name(raw_name);
  if (is_virtual(name)) {
    fs.call(request, [&] {
      const auto who = reply.who();
      return fs.client.getattr(ino, who,
                               [reply = std::move(reply), name = std::string(name),
                                size](Result<wire::Attr> attr) mutable {
                                 if (attr)
                                   tell_place_later(std::move(reply), std::move(name), size, *attr);
                                 else
                                   reply.fail(attr.error());
                               });
    });
    return;
  }
  if (auto error = wire::xattr_name_error(name)) {
    reply.fail(*error);
    return;
  }
  if (is_absent(fs, ino, name)) {
    reply.fail(absence_of(name));
    return;
  }
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.getxattr(
        ino, name, who,
        [reply = std::move(reply), name = std::string(name),
         size](Result<wire::GetxattrReply> got) mutable {
          if (got)
            answer_value(std::move(reply), got->value, size);
          else if (got.error().code == Code::no_attribute)
            reply.fail(absence_of(name));
          else
            reply.fail(got.error());
        });
  });
}

// Names of trusted.* are shown to whom the kernel lets see them: it filters none, so we do.
void answer_names(Reply reply, const std::vector<std::string>& names, std::size_t size) {
  const bool is_root = reply.who().uid == 0;
  std::string list;
  for (const std::string& name : names) {
    if (!is_root && name.starts_with("trusted.")) continue;
    list += name;
    list += '\0';
  }
  answer_value(std::move(reply), as_bytes(list), size);
}

void op_listxattr(fuse_req_t request, fuse_ino_t node, std::size_t size) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  const Ino ino = fs.ino_of(node);
  if (fs.seen.xattr_kinds_of(ino, fs.clock.now()) == 0) {
    answer_names(std::move(reply), {}, size);
    return;
  }
  fs.call(request, [&] {
    const auto who = reply.who();
    return fs.client.listxattr(
        ino, who, [reply = std::move(reply), size](Result<wire::ListxattrReply> got) mutable {
          if (got)
            answer_names(std::move(reply), got->names, size);
          else
            reply.fail(got.error());
        });
  });
}

}  // namespace

void add_xattr_operations(fuse_lowlevel_ops& operations) {
  operations.setxattr = op_setxattr;
  operations.getxattr = op_getxattr;
  operations.listxattr = op_listxattr;
  operations.removexattr = op_removexattr;
}

}  // namespace magma::mount
