// Paths over client::Client: from an absolute path to the flare it names, the entries of a
// directory, and the bytes of a file, each piece by piece so that a directory of any size and a
// file of any length need bounded memory. For those who have paths and no kernel to walk them: the
// tools and the console. Sans I/O, one thread, as Client.
//
// Each of the three is an object that has at most one request of its caller's under way. Its
// callback is called exactly once, possibly inside the call; destroying the object gives up what
// is under way and calls nobody. It may be destroyed from within its callback, not after its Tree.
//
// Nobody's permissions are checked: who holds the key may read everything (doc/security.md).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/base/result.h"
#include "libmagma/client/client.h"
#include "libmagma/client/profiles.h"
#include "libmagma/ring/key.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::client {

inline constexpr std::size_t kPathBytesMax = 65535;  // longer ones than PATH_MAX can be made
inline constexpr unsigned kLinksFollowedMax = 40;    // of one path; as path_resolution(7)

// The flares of a network as paths see them: the ring's own, and the made-up ones of /.dht.
struct Tree {
  // `reply`: what start() was answered. The client outlives the tree.
  Tree(Client& ring_client, const wire::AttachReply& reply, WallTime now);

  Client& client;
  Ino root;
  Profiles profiles;
  Credentials who{};  // told to the volcanoes with each request
};

// A flare as it was found.
struct Flare {
  std::string path;         // absolute, without ".", ".." and symlinks on the way
  std::string parent_path;  // of the root: the root
  Ino parent;
  ring::Key key;    // stored with the flare, or SHA-1 of its path
  ring::Slot slot;  // where it lies: of content in chunks the slot of chunk 0
  wire::Attr attr;
  std::string target;  // of a symlink
};

// The slot that holds a flare with these attributes (doc/protocol.md, "Where content is").
ring::Slot slot_of(const wire::Attr& attr, const ring::Key& key);
// The names of a path in order; "", "//" and a trailing "/" leave none, but "a/" ends with ".":
// it must be a directory.
std::vector<std::string> names_of_path(std::string_view path);

class PathWalk {
 public:
  enum class Last : std::uint8_t { follow, keep };  // a symlink that is the last component

  explicit PathWalk(Tree& tree);
  ~PathWalk();
  PathWalk(const PathWalk&) = delete;
  PathWalk& operator=(const PathWalk&) = delete;

  // Walks by lookup. A symlink's absolute target begins at the root of the network. Errors, with
  // the path so far: invalid (not absolute), not_found, not_a_directory, name_too_long,
  // symlink_loop, and those of the client. Requires: nothing is under way.
  void resolve(std::string_view path, Last last, Done<Flare> done);

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared by this object and the callbacks under way
};

struct ListedEntry {
  std::string name;
  wire::Attr attr;
  std::string target;  // of a symlink
};

struct DirectoryBatch {
  std::vector<ListedEntry> entries;
  bool is_last = false;
};

class DirectoryReader {
 public:
  struct Options {
    bool with_dots = true;      // "." and "..", first
    bool with_targets = true;   // of symlinks
    bool with_profiles = true;  // "/.dht" among the entries of the root
  };
  static constexpr std::uint32_t kBatchBytes = 65536;  // asked of a volcano at once
  static constexpr std::size_t kCallsMax = 16;         // for attributes and targets, at a time

  DirectoryReader(Tree& tree, Flare directory, Options options);
  ~DirectoryReader();
  DirectoryReader(const DirectoryReader&) = delete;
  DirectoryReader& operator=(const DirectoryReader&) = delete;

  // The next entries, in the order of the volcano (of name hashes: sorting is the caller's). A
  // batch may be empty without being the last; what is removed meanwhile is left out. Errors:
  // not_a_directory, not_found (the directory is gone), and those of the client. Requires: nothing
  // is under way; neither the last batch nor an error has been told.
  void next(Done<DirectoryBatch> done);

 private:
  struct State;
  std::shared_ptr<State> state_;  // as above
};

class FileReader {
 public:
  struct Options {
    // Opened at the volcano, so that its content stays if it is unlinked meanwhile; costs two
    // changes a file.
    bool hold_open = true;
    std::size_t parts_ahead = 4;  // pieces of kIoBytesMax asked for before they are wanted
  };

  FileReader(Tree& tree, Flare file, Options options);
  ~FileReader();
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  // The next bytes, at most wire::kIoBytesMax; none: the end. Reading changes no access time.
  // Errors: is_a_directory, invalid (not a regular file), stale (it is gone), checksum, and those
  // of the client. Requires: nothing is under way; after the end or an error it stays that way.
  void next(Done<Bytes> done);

 private:
  struct State;
  std::shared_ptr<State> state_;  // as above
};

}  // namespace magma::client
