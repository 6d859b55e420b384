// Names that are about to be looked up. Programs walk directories (ls -l, find, git, rsync), and
// where the kernel has not listed names with their attributes it asks for each: a round trip a
// file. After a few such look-ups in one directory its listing is asked for with attributes, a
// batch of some hundred names at a time, and the look-ups that follow are answered from that.
//
// A batch costs the volcano about what 20 look-ups do, and is asked for after kLookupsNext more:
// so the worst that comes of it is that the work for look-ups doubles. Where a batch was of no use,
// because it failed or may not be believed, twice as many look-ups must come before the next.
//
// What is taken goes: the kernel remembers it from then on. What was changed, by this mount or by
// others, is forgotten; what is changed while a batch is under way is not taken over from it.
// Flares of several names are left out: a change may come to them by a name that is not here.
//
// Pure; one thread. Bounded: kEntriesMax, kDirectoriesMax.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::mount {

class NamePacks {
 public:
  static constexpr unsigned kLookupsFirst = 8;  // in one directory before it is asked for
  static constexpr unsigned kLookupsNext = 16;  // since the last batch, before the next
  static constexpr Duration kPauseMax = seconds(1);  // look-ups farther apart are no walk
  static constexpr std::size_t kEntriesMax = 16384;
  static constexpr std::size_t kDirectoriesMax = 64;
  static constexpr std::size_t kTouchedMax = 4096;
  static constexpr unsigned kEnoughMax = 4096;

  // A name of the directory was looked up and found. The cookie from which a batch is worth asking
  // for now, if one is: then fetched() or failed() must follow.
  std::optional<std::uint64_t> looked_up(Ino dir, Instant now);
  void fetched(Ino dir, wire::ReaddirReply batch, Instant now);
  void failed(Ino dir);

  // What the name leads to, if that is known and believed.
  std::optional<wire::EntryReply> take(Ino dir, std::string_view name, Instant now);

  // Changed: attributes of a flare; a name.
  void forget(Ino ino);
  void forget(Ino dir, std::string_view name);

  std::size_t entries() const { return places_.size(); }
  std::size_t directories() const { return directories_.size(); }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>()(text);
    }
  };
  struct Directory {
    std::unordered_map<std::string, wire::Attr, Hash, std::equal_to<>> entries{};
    std::unordered_set<std::string, Hash, std::equal_to<>> touched{};  // while a batch is under way
    Instant names_until{};  // believed; of batches that are here
    Instant last{};         // look-up
    std::uint64_t cookie = 0;
    unsigned lookups = 0;  // since the last batch
    unsigned enough = kLookupsFirst;  // before the first; doubled by a batch that was of no use
    bool is_begun = false;  // a batch has come
    bool is_ended = false;  // the last one has
    bool is_asked = false;
    bool is_void = false;  // the batch under way is not to be taken over
    std::list<Ino>::iterator order{};
  };
  struct Place {
    Ino dir;
    std::string name;
  };

  Directory& find_or_make(Ino dir);
  void begin_anew(Directory& directory);
  void drop_entries(Directory& directory);
  bool make_room();
  void end_batch(Directory& directory);
  static void was_useless(Directory& directory);

  std::unordered_map<Ino, Directory> directories_;
  std::list<Ino> order_;  // looked up last first
  std::unordered_map<Ino, Place> places_;
  std::unordered_set<Ino> touched_;  // while any batch is under way
  unsigned batches_ = 0;             // under way
  bool is_overfull_ = false;         // more was touched than is kept: all those are void
};

}  // namespace magma::mount
