// What this client knows of directories it changes or has listed: their attributes after each
// change, as the volcano tells them with the answer, and, of a directory whose every name it has
// seen, because it made it or listed it to the end, which names are not there. It spares the
// kernel's questions between one change and the next: the attributes of the directory, which each
// change makes the kernel forget, and the look-up of the name that is about to be made.
//
// The volcano counts a directory's changes (Attr::data_version, one each). A change of this client
// that brought the next number shows that nobody else came between: what is known stays whole. Any
// other number: names are no longer known.
//
// Attributes are believed as long as the volcano lets them (Attr::believed_until), and so are
// absent names, from the listing or the last change of this client on. The volcano tells when
// somebody else changes the directory: forget().
//
// Pure, one thread. Fed by Requests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "libmagma/base/time.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::client {

// A request that changes names, as far as it matters afterwards.
struct NameChange {
  Ino dir;  // gets the name, or loses it
  std::string name;
  Ino from_dir{};  // of a rename; no inode (0) else
  std::string from_name{};
  bool removes = false;   // unlink, rmdir
  bool exchanges = false;
};

class DirectoryCache {
 public:
  static constexpr std::size_t kDirectoriesMax = 1024;
  static constexpr std::size_t kNamesMax = 1u << 17;  // of all together, listings under way too
  static constexpr std::size_t kListedMax = 1u << 15;  // of a listing

  // Attributes that may be believed, and for how long still.
  struct Known {
    wire::Attr attr;
    Duration left;
  };
  std::optional<Known> attr_of(Ino dir, Instant now) const;
  // Whether `name` is known not to be in `dir`.
  bool is_absent(Ino dir, std::string_view name, Instant now) const;

  // A change was done; `told` came with the answer. Without it (an answer given again) nothing that
  // is known is sure any more.
  void changed(const NameChange& change, const std::optional<wire::NamesChanged>& told);
  // A directory was made: nothing is in it.
  void made(const wire::Attr& directory);
  // A part of a listing, that of the names after the cookie `after`. When the parts from 0 to the
  // end came one after the other, and nothing has changed since the first, every name is known.
  void listed(Ino dir, std::uint64_t after, const wire::ReaddirReply& part);
  // Changes that were delayed, and told here by changed(), are done; what the volcano tells of the
  // directory after them. `is_last`: there are no more.
  void delayed_done(const wire::Attr& directory, bool is_last);
  // A change was refused, or nobody knows whether it was done.
  void failed(const NameChange& change);
  // Attributes from any other answer.
  void learn(const wire::Attr& attr);
  void forget(Ino dir);
  void clear();

  std::size_t names() const { return names_; }
  std::size_t directories() const { return records_.size(); }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>()(text);
    }
  };
  using Names = std::unordered_set<std::string, Hash, std::equal_to<>>;
  struct Listing {  // its first parts
    std::uint64_t version = 0;
    std::uint64_t next = 0;  // the cookie that the next part goes on after
    Instant until;
    Names names{};
  };
  struct Record {
    wire::Attr attr;
    std::optional<Listing> listing{};
    Instant names_until;       // absent names are believed
    bool is_complete = false;  // every name that may be there is in `names`
    Names names{};
    std::list<Ino>::iterator order{};
  };

  Record* find(Ino dir);
  const Record* find(Ino dir) const;
  Record& find_or_make(Ino dir, const wire::Attr& attr);
  void finish_listing(Record& record);
  void drop_listing(Record& record);
  void lose_names(Record& record);
  void add_name(Record& record, const std::string& name);
  void erase_name(Record& record, const std::string& name);

  std::unordered_map<Ino, Record> records_;
  std::list<Ino> order_;  // last changed first
  std::size_t names_ = 0;
};

}  // namespace magma::client
