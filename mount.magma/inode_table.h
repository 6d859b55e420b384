// What the kernel knows of this mount: one record for each inode number it was told, until it
// forgets it. Records hold the number of look-ups to be forgotten, the place in the tree as last
// seen (to compute keys from paths; a wrong guess costs placement, never correctness), and the
// data version of what the kernel may have in its page cache.
//
// A million inodes may be known: a record is 64 bytes and one block with name and key, in a hash
// table with two intrusive chains (by number, and by parent and name for renames).
//
// Invariant: while an inode is known its nlookup is at least 1. The root is always known.
// The loop's thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libmagma/base/strong.h"
#include "libmagma/client/client.h"
#include "libmagma/ring/key.h"

namespace magma::mount {

// What an entry says of the inode it names.
struct Seen {
  Ino parent;
  std::string_view name;
  bool is_directory = false;
  std::optional<ring::Key> key{};
};

struct Place {
  Ino parent;
  std::string name;
};

class InodeTable final : public client::KeySource {
 public:
  // Deeper paths than this fall back to the parent's key.
  static constexpr std::size_t kDepthMax = 4096;

  explicit InodeTable(Ino root);
  ~InodeTable() override;
  InodeTable(const InodeTable&) = delete;
  InodeTable& operator=(const InodeTable&) = delete;

  // Once, when the ring has told which inode is the root; before any other use.
  void set_root(Ino root);
  Ino root() const { return root_; }

  // The kernel is told of `ino` by an entry: counts one look-up and remembers the place (an empty
  // name: the place is not known). The place it was seen at before, if that is another one.
  std::optional<Place> add(Ino ino, const Seen& seen);
  // Takes `count` look-ups back; true if the inode is no longer known.
  bool forget(Ino ino, std::uint64_t count);
  // `from` now is at `to`; with `exchange` what was at `to` is at `from`. Unknown ones are ignored.
  void rename(Ino from_dir, std::string_view from_name, Ino to_dir, std::string_view to_name,
              bool exchange);

  // The name is gone; what it led to may live on (open, or under another name).
  void remove(Ino dir, std::string_view name);

  // An inode that another mount has moved: from now on the kernel is told of it under another
  // number, as of another file. Else it would take a rename of the stale name to the new one, which
  // it looks up, for one of a file to itself, and say that it is done (vfs_rename). The two agree
  // as those of two mounts do. 0 to kAliasMax; 0 is the inode number itself.
  static constexpr unsigned kAliasMax = 15;
  void renew(Ino ino);
  unsigned alias_of(Ino ino) const;

  // What was last seen under a name; no inode (0) if nothing was.
  Ino child_of(Ino dir, std::string_view name) const;
  bool knows(Ino ino) const { return find(ino) != nullptr; }
  bool is_directory(Ino ino) const;
  Ino parent_of(Ino ino) const;  // as last seen; no inode (0) if not known
  std::size_t size() const { return size_; }
  // Bytes of all records and chains, as malloc hands them out (about).
  std::size_t memory_bytes() const;

  // The path as last seen; empty if a part of it is not known.
  std::string path_of(Ino ino) const;
  // SHA1(path), or key_of_child of the nearest ancestor whose key is known.
  ring::Key key_of(Ino ino) override;
  // The key for a new flare `name` in `dir`.
  ring::Key key_of_new(Ino dir, std::string_view name) const;

  // An open saw content of `version`. True if the kernel's cached pages are of that version; never
  // of a renewed inode: they may be the other one's.
  bool opened(Ino ino, std::uint64_t version);
  // The version of content that the kernel may have pages of, as opened() was told last.
  std::optional<std::uint64_t> content_version(Ino ino) const;
  // The kernel's pages may be of no version.
  void forget_version(Ino ino);
  // A change of this mount's own made content `version`: the kernel's pages have it too, if it is
  // the next after the one they were of (nobody else wrote between).
  void changed_here(Ino ino, std::uint64_t version);

 private:
  struct Record;
  struct Label;

  static std::size_t hash_of(Ino ino);
  static std::size_t hash_of(Ino parent, std::string_view name);
  Record* find(Ino ino) const;
  Record* find(Ino parent, std::string_view name) const;
  void place(Record& record, Ino parent, std::string_view name, std::optional<ring::Key> key);
  void erase(Ino ino);  // Requires: known
  void link_name(Record& record);
  void unlink_name(Record& record);
  void grow();
  std::optional<ring::Key> stored_key(Ino ino) const;
  ring::Key key_at(Ino dir, std::string_view name) const;

  Ino root_;
  std::vector<Record*> by_ino_;
  std::vector<Record*> by_name_;
  std::size_t size_ = 0;
  std::size_t label_bytes_ = 0;
  std::size_t renewed_ = 0;  // records with an alias
};

}  // namespace magma::mount
