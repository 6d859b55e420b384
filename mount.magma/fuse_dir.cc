// Listing directories: opendir, readdir, readdirplus, releasedir.
//
// Cookies: 1 is ".", 2 is "..", the ring's are 16 and above, ordered by name hash. A cookie stands
// for "continue after this"; 0 is the start, and reads the directory anew (rewinddir).
//
// One reply of the ring (64 KiB) serves several of the kernel's. Names of a buffer stay good for
// as long as POSIX lets readdir be late, but attributes do not: a change made through this mount
// would be undone in the kernel's eyes. So readdirplus uses a buffer only while its names are
// believed and no change, of this mount or told by the ring, has come since it was asked for.
//
// The kernel remembers the names of a listing, and lists the directory from its memory when it is
// opened again soon (FreshListings).
#include <array>
#include <algorithm>

#include "libmagma/base/check.h"
#include "mount.magma/filesystem.h"

namespace magma::mount {

namespace {

constexpr std::uint64_t kCookieSelf = 1;
constexpr std::uint64_t kCookieParent = 2;
constexpr std::uint64_t kCookieFirst = 16;  // of the ring
// The kernel's buffers are pages; larger ones are filled in part.
constexpr std::size_t kReplyBytesMax = 128 << 10;

struct Listing {
  std::uint64_t handle;
  std::uint64_t cookie;
  std::size_t size;
  bool plus;
};

// Appends entries to a reply while they fit.
class EntryBuffer {
 public:
  EntryBuffer(fuse_req_t request, std::size_t size) : request_(request), bytes_(size) {}

  // A name without a look-up: `ino` and type only.
  bool add_plain(const char* name, Ino ino, mode_t type, std::uint64_t cookie, bool plus) {
    fuse_entry_param entry = {};
    entry.attr.st_ino = ino.value;
    entry.attr.st_mode = type;
    return add(name, entry, cookie, plus);
  }
  bool add(const char* name, const fuse_entry_param& entry, std::uint64_t cookie, bool plus) {
    char* at = reinterpret_cast<char*>(bytes_.data()) + used_;
    const std::size_t left = bytes_.size() - used_;
    const auto after = static_cast<off_t>(cookie);
    const std::size_t size =
        plus ? fuse_add_direntry_plus(request_, at, left, name, &entry, after)
             : fuse_add_direntry(request_, at, left, name, &entry.attr, after);
    if (size > left) return false;
    used_ += size;
    return true;
  }
  ByteSpan filled() const { return ByteSpan(bytes_).first(used_); }

 private:
  fuse_req_t request_;
  Bytes bytes_;
  std::size_t used_ = 0;
};

OpenDirectory* find(Filesystem& fs, std::uint64_t handle) {
  auto found = fs.directories.find(handle);
  return found == fs.directories.end() ? nullptr : &found->second;
}

// Whether the buffer can go on after `cookie`; sets its position if so.
bool seek(Filesystem& fs, OpenDirectory& directory, const Listing& listing) {
  if (!directory.is_filled) return false;
  if (listing.plus && (!directory.with_attributes || directory.changes != fs.changes ||
                       fs.clock.now() >= directory.believed_until))
    return false;
  if (listing.cookie >= kCookieFirst && listing.cookie == directory.cookie)
    return directory.next < directory.entries.size() || directory.end;
  const std::uint64_t after = listing.cookie < kCookieFirst ? 0 : listing.cookie;
  if (after < directory.start) return false;
  // Ordered by cookie: the first one above.
  auto at = std::upper_bound(
      directory.entries.begin(), directory.entries.end(), after,
      [](std::uint64_t cookie, const wire::DirectoryEntry& e) { return cookie < e.cookie; });
  directory.next = static_cast<std::size_t>(at - directory.entries.begin());
  return at != directory.entries.end() || directory.end;
}

struct Given {
  std::vector<Ino> looked_up{};  // to be forgotten if the reply does not arrive
};

// One entry of the ring; false if it does not fit.
bool add_entry(Filesystem& fs, EntryBuffer& buffer, const OpenDirectory& directory,
               const wire::DirectoryEntry& e, const Listing& listing, Given& given) {
  const mode_t type = static_cast<mode_t>(e.type) << 12;  // DT_* to S_IF*
  // Without attributes (they are another volcano's): the kernel looks it up when it needs to.
  if (!listing.plus || !e.attr)
    return buffer.add_plain(e.name.c_str(), e.ino, type, e.cookie, listing.plus);
  const auto entry = fs.entry_of(*e.attr, fs.name_left(directory.believed_until),
                                 fs.left(e.attr->believed_until));
  if (!buffer.add(e.name.c_str(), entry, e.cookie, true)) return false;
  fs.remember(directory.ino, e.name, *e.attr, directory.believed_until);
  given.looked_up.push_back(e.attr->ino);
  return true;
}

// Answers from the buffer, which goes on after listing.cookie.
void answer_listing(Reply reply, OpenDirectory& directory, const Listing& listing) {
  Filesystem& fs = reply.filesystem();
  EntryBuffer buffer(reply.request(), std::min(listing.size, kReplyBytesMax));
  Given given;
  bool fits = true;
  if (listing.cookie < kCookieSelf)
    fits = buffer.add_plain(".", directory.ino, S_IFDIR, kCookieSelf, listing.plus);
  if (fits && listing.cookie < kCookieParent)
    fits = buffer.add_plain("..", directory.parent, S_IFDIR, kCookieParent, listing.plus);
  directory.cookie = listing.cookie;
  while (fits && directory.next < directory.entries.size()) {
    const wire::DirectoryEntry& e = directory.entries[directory.next];
    fits = add_entry(fs, buffer, directory, e, listing, given);
    if (!fits) break;
    directory.cookie = e.cookie;
    ++directory.next;
  }
  if (reply.bytes(buffer.filled())) return;
  for (Ino ino : given.looked_up) fs.forget(ino, 1);
}

void on_entries(Reply reply, Listing listing, std::uint64_t changes,
                Result<wire::ReaddirReply> entries) {
  Filesystem& fs = reply.filesystem();
  OpenDirectory* directory = find(fs, listing.handle);
  if (directory == nullptr) {  // closed meanwhile
    reply.fail(Code::interrupted);
    return;
  }
  if (!entries) {
    reply.fail(entries.error());
    return;
  }
  directory->entries = std::move(entries->entries);
  directory->next = 0;
  directory->start = listing.cookie < kCookieFirst ? 0 : listing.cookie;
  directory->is_filled = true;
  directory->end = entries->end || directory->entries.empty();
  directory->with_attributes = listing.plus;
  directory->parent = entries->parent;
  directory->believed_until = entries->believed_until;
  directory->changes = changes;
  directory->names_believed_until =
      std::min(directory->names_believed_until, entries->believed_until);
  if (directory->end && directory->name_changes == fs.coherence.name_changes())
    fs.fresh_listings.add(directory->ino, directory->names_believed_until, fs.clock.now());
  answer_listing(std::move(reply), *directory, listing);
}

void list(fuse_req_t request, std::size_t size, off_t offset, const fuse_file_info& file,
          bool plus) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  OpenDirectory* directory = find(fs, file.fh);
  if (directory == nullptr || offset < 0) {
    reply.fail(Code::invalid);
    return;
  }
  const Listing listing{.handle = file.fh,
                        .cookie = static_cast<std::uint64_t>(offset),
                        .size = size,
                        .plus = plus};
  if (listing.cookie != 0 && seek(fs, *directory, listing)) {
    answer_listing(std::move(reply), *directory, listing);
    return;
  }
  if (listing.cookie == 0) {
    directory->names_believed_until = Instant::never();
    directory->name_changes = fs.coherence.name_changes();
  }
  fs.call(request, [&] {
    const auto who = reply.who();
    wire::ReaddirRequest ask{.dir = directory->ino,
                             .cookie = listing.cookie < kCookieFirst ? 0 : listing.cookie,
                             .bytes_max = kDirectoryBufferBytes,
                             .with_attributes = plus};
    return fs.client.readdir(std::move(ask), who,
                             [reply = std::move(reply), listing, changes = fs.changes](
                                 Result<wire::ReaddirReply> entries) mutable {
                               on_entries(std::move(reply), listing, changes,
                                          std::move(entries));
                             });
  });
}

void op_opendir(fuse_req_t request, fuse_ino_t node, fuse_file_info* file) {
  Reply reply(request);
  Filesystem& fs = reply.filesystem();
  const std::uint64_t handle = fs.next_directory++;
  OpenDirectory directory;
  directory.ino = fs.ino_of(node);
  fs.directories.emplace(handle, std::move(directory));
  fuse_file_info answer = *file;
  answer.fh = handle;
  answer.cache_readdir = 1;
  answer.keep_cache = fs.fresh_listings.contains(fs.ino_of(node), fs.clock.now()) ? 1 : 0;
  if (!reply.opened(answer)) fs.directories.erase(handle);
}

void op_readdir(fuse_req_t request, fuse_ino_t, std::size_t size, off_t offset,
                fuse_file_info* file) {
  list(request, size, offset, *file, false);
}

void op_readdirplus(fuse_req_t request, fuse_ino_t, std::size_t size, off_t offset,
                    fuse_file_info* file) {
  list(request, size, offset, *file, true);
}

void op_releasedir(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
  Reply reply(request);
  reply.filesystem().directories.erase(file->fh);
  reply.ok();
}

}  // namespace

void add_dir_operations(fuse_lowlevel_ops& operations) {
  operations.opendir = op_opendir;
  operations.readdir = op_readdir;
  operations.readdirplus = op_readdirplus;
  operations.releasedir = op_releasedir;
}

}  // namespace magma::mount
