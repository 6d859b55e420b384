// /.dht (see Profiles): stands before the operations on the ring's flares, takes what is asked of
// the made-up ones, and hands on the rest.
#include <dirent.h>
#include <fcntl.h>

#include <algorithm>

#include "mount.magma/filesystem.h"

namespace magma::mount {

namespace {

using client::Profiles;

fuse_lowlevel_ops ring = {};  // the operations on the ring's flares; set once, before any request

Filesystem& mount_of(fuse_req_t request) {
  return *static_cast<Filesystem*>(fuse_req_userdata(request));
}
bool is_ours(fuse_req_t request, fuse_ino_t node) {
  return node != FUSE_ROOT_ID && mount_of(request).profiles.has(Ino(node));
}
bool is_our_name(fuse_ino_t node, const char* name) {
  return node == FUSE_ROOT_ID && Profiles::kName == name;
}
// Changes of what is ours, or of names in it.
bool refuses_change(fuse_req_t request, fuse_ino_t node) {
  if (!is_ours(request, node)) return false;
  Reply(request).fail(Code::read_only);
  return true;
}

void op_lookup(fuse_req_t request, fuse_ino_t node, const char* name) {
  Filesystem& fs = mount_of(request);
  const bool is_directory = is_our_name(node, name);
  if (!is_directory && !is_ours(request, node)) return ring.lookup(request, node, name);
  std::string text(name);
  if (!is_directory && text == "..") return ring.lookup(request, FUSE_ROOT_ID, ".");
  fs.ring.refresh([reply = Reply(request), text = std::move(text), is_directory]() mutable {
    Filesystem& here = reply.filesystem();
    std::optional<Ino> found = Profiles::directory();
    if (!is_directory && text != ".") found = here.profiles.find(text);
    if (found)
      reply.entry(here.entry_of(here.profiles.attr_of(*found), kTimeout, kTimeout));
    else
      reply.fail(Code::not_found);
  });
}

void op_forget(fuse_req_t request, fuse_ino_t node, std::uint64_t count) {
  if (!is_ours(request, node)) return ring.forget(request, node, count);
  Reply(request).none();
}

void op_forget_multi(fuse_req_t request, std::size_t count, fuse_forget_data* forgets) {
  auto* end = std::remove_if(forgets, forgets + count, [&](const fuse_forget_data& f) {
    return is_ours(request, f.ino);
  });
  ring.forget_multi(request, static_cast<std::size_t>(end - forgets), forgets);
}

void op_getattr(fuse_req_t request, fuse_ino_t node, fuse_file_info* file) {
  if (!is_ours(request, node)) return ring.getattr(request, node, file);
  answer_known(Reply(request), mount_of(request).profiles.attr_of(Ino(node)), kTimeout);
}

void op_open(fuse_req_t request, fuse_ino_t node, fuse_file_info* file) {
  if (!is_ours(request, node)) return ring.open(request, node, file);
  Reply reply(request);
  if (opens_for_write(file->flags)) {
    reply.fail(Code::read_only);
    return;
  }
  fuse_file_info answer = *file;
  answer.direct_io = 1;
  mount_of(request).ring.refresh(
      [reply = std::move(reply), answer]() mutable { reply.opened(answer); });
}

void op_read(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset,
             fuse_file_info* file) {
  if (!is_ours(request, node)) return ring.read(request, node, size, offset, file);
  const std::string& text = mount_of(request).profiles.text_of(Ino(node));
  const std::size_t from = std::min(static_cast<std::size_t>(std::max<off_t>(offset, 0)),
                                    text.size());
  const std::size_t length = std::min(size, text.size() - from);
  Reply(request).bytes(as_bytes(std::string_view(text).substr(from, length)));
}

void op_release(fuse_req_t request, fuse_ino_t node, fuse_file_info* file) {
  if (!is_ours(request, node)) return ring.release(request, node, file);
  Reply(request).ok();
}

void op_opendir(fuse_req_t request, fuse_ino_t node, fuse_file_info* file) {
  if (!is_ours(request, node)) return ring.opendir(request, node, file);
  mount_of(request).ring.refresh(
      [reply = Reply(request), file = *file]() mutable { reply.opened(file); });
}

void op_releasedir(fuse_req_t request, fuse_ino_t node, fuse_file_info* file) {
  if (!is_ours(request, node)) return ring.releasedir(request, node, file);
  Reply(request).ok();
}

// Cookies: 1 ".", 2 "..", then the profiles. An entry of readdirplus without a node id is no
// look-up.
void list(fuse_req_t request, std::size_t size, off_t offset, bool plus) {
  Filesystem& fs = mount_of(request);
  const auto& profiles = fs.profiles.all();
  Bytes buffer(std::min<std::size_t>(size, 65536));
  std::size_t used = 0;
  for (std::size_t at = static_cast<std::size_t>(std::max<off_t>(offset, 0));
       at < profiles.size() + 2; ++at) {
    fuse_entry_param entry = {};
    entry.attr.st_mode = at < 2 ? S_IFDIR : S_IFREG;
    std::string name = at == 0 ? "." : "..";
    Ino ino = at == 0 ? Profiles::directory() : fs.inodes.root();
    if (at >= 2) {
      name = profiles[at - 2].name;
      ino = Profiles::ino_of(at - 2);
    }
    entry.attr.st_ino = ino.value;
    char* place = reinterpret_cast<char*>(buffer.data()) + used;
    const std::size_t left = buffer.size() - used;
    const auto cookie = static_cast<off_t>(at + 1);
    const std::size_t needs =
        plus ? fuse_add_direntry_plus(request, place, left, name.c_str(), &entry, cookie)
             : fuse_add_direntry(request, place, left, name.c_str(), &entry.attr, cookie);
    if (needs > left) break;
    used += needs;
  }
  Reply(request).bytes(ByteSpan(buffer).first(used));
}

void op_readdir(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset,
                fuse_file_info* file) {
  if (!is_ours(request, node)) return ring.readdir(request, node, size, offset, file);
  list(request, size, offset, false);
}

void op_readdirplus(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset,
                    fuse_file_info* file) {
  if (!is_ours(request, node)) return ring.readdirplus(request, node, size, offset, file);
  list(request, size, offset, true);
}

void op_setattr(fuse_req_t request, fuse_ino_t node, struct stat* attr, int to_set,
                fuse_file_info* file) {
  if (!refuses_change(request, node)) ring.setattr(request, node, attr, to_set, file);
}

void op_mknod(fuse_req_t request, fuse_ino_t node, const char* name, mode_t mode, dev_t device) {
  if (!refuses_change(request, node)) ring.mknod(request, node, name, mode, device);
}

void op_mkdir(fuse_req_t request, fuse_ino_t node, const char* name, mode_t mode) {
  if (!refuses_change(request, node)) ring.mkdir(request, node, name, mode);
}

void op_symlink(fuse_req_t request, const char* target, fuse_ino_t node, const char* name) {
  if (!refuses_change(request, node)) ring.symlink(request, target, node, name);
}

void op_create(fuse_req_t request, fuse_ino_t node, const char* name, mode_t mode,
               fuse_file_info* file) {
  if (!refuses_change(request, node)) ring.create(request, node, name, mode, file);
}

void op_unlink(fuse_req_t request, fuse_ino_t node, const char* name) {
  if (!refuses_change(request, node)) ring.unlink(request, node, name);
}

void op_rmdir(fuse_req_t request, fuse_ino_t node, const char* name) {
  if (is_our_name(node, name)) node = Profiles::directory().value;
  if (!refuses_change(request, node)) ring.rmdir(request, node, name);
}

void op_rename(fuse_req_t request, fuse_ino_t from, const char* from_name, fuse_ino_t to,
               const char* to_name, unsigned flags) {
  if (is_our_name(from, from_name) || is_our_name(to, to_name))
    from = Profiles::directory().value;
  if (refuses_change(request, from) || refuses_change(request, to)) return;
  ring.rename(request, from, from_name, to, to_name, flags);
}

void op_link(fuse_req_t request, fuse_ino_t node, fuse_ino_t dir, const char* name) {
  if (refuses_change(request, node) || refuses_change(request, dir)) return;
  ring.link(request, node, dir, name);
}

void op_fsync(fuse_req_t request, fuse_ino_t node, int data_only, fuse_file_info* file) {
  if (!is_ours(request, node)) return ring.fsync(request, node, data_only, file);
  Reply(request).ok();
}

void op_setxattr(fuse_req_t request, fuse_ino_t node, const char* name, const char* value,
                 std::size_t size, int flags) {
  if (!refuses_change(request, node)) ring.setxattr(request, node, name, value, size, flags);
}

void op_removexattr(fuse_req_t request, fuse_ino_t node, const char* name) {
  if (!refuses_change(request, node)) ring.removexattr(request, node, name);
}

void op_getxattr(fuse_req_t request, fuse_ino_t node, const char* name, std::size_t size) {
  if (!is_ours(request, node)) return ring.getxattr(request, node, name, size);
  Reply(request).fail(Code::no_attribute);
}

void op_listxattr(fuse_req_t request, fuse_ino_t node, std::size_t size) {
  if (!is_ours(request, node)) return ring.listxattr(request, node, size);
  Reply reply(request);
  if (size == 0)
    reply.xattr_size(0);
  else
    reply.bytes({});
}

void op_setlk(fuse_req_t request, fuse_ino_t node, fuse_file_info* file, struct flock* lock,
              int waits) {
  if (!is_ours(request, node)) return ring.setlk(request, node, file, lock, waits);
  Reply(request).fail(Code::no_locks);
}

void op_getlk(fuse_req_t request, fuse_ino_t node, fuse_file_info* file, struct flock* lock) {
  if (!is_ours(request, node)) return ring.getlk(request, node, file, lock);
  Reply(request).fail(Code::no_locks);
}

void op_flock(fuse_req_t request, fuse_ino_t node, fuse_file_info* file, int operation) {
  if (!is_ours(request, node)) return ring.flock(request, node, file, operation);
  Reply(request).fail(Code::no_locks);
}

void op_lseek(fuse_req_t request, fuse_ino_t node, off_t offset, int whence,
              fuse_file_info* file) {
  if (!is_ours(request, node)) return ring.lseek(request, node, offset, whence, file);
  Reply(request).fail(Code::invalid);
}

void op_copy(fuse_req_t request, fuse_ino_t from, off_t from_offset, fuse_file_info* from_file,
             fuse_ino_t to, off_t to_offset, fuse_file_info* to_file, std::size_t length,
             int flags) {
  if (!is_ours(request, from))
    return ring.copy_file_range(request, from, from_offset, from_file, to, to_offset, to_file,
                                length, flags);
  Reply(request).fail(Code::unsupported);  // the kernel reads and writes instead
}

}  // namespace

void put_profiles_before(fuse_lowlevel_ops& operations) {
  ring = operations;
  operations.lookup = op_lookup;
  operations.forget = op_forget;
  operations.forget_multi = op_forget_multi;
  operations.getattr = op_getattr;
  operations.setattr = op_setattr;
  operations.mknod = op_mknod;
  operations.mkdir = op_mkdir;
  operations.symlink = op_symlink;
  operations.create = op_create;
  operations.unlink = op_unlink;
  operations.rmdir = op_rmdir;
  operations.rename = op_rename;
  operations.link = op_link;
  operations.open = op_open;
  operations.read = op_read;
  operations.release = op_release;
  operations.fsync = op_fsync;
  operations.fsyncdir = op_fsync;
  operations.opendir = op_opendir;
  operations.readdir = op_readdir;
  operations.readdirplus = op_readdirplus;
  operations.releasedir = op_releasedir;
  operations.setxattr = op_setxattr;
  operations.getxattr = op_getxattr;
  operations.listxattr = op_listxattr;
  operations.removexattr = op_removexattr;
  operations.getlk = op_getlk;
  operations.setlk = op_setlk;
  operations.flock = op_flock;
  operations.lseek = op_lseek;
  operations.copy_file_range = op_copy;
}

}  // namespace magma::mount
