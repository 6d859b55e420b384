// /.dht: a read-only directory that clients make up, with one profile for each volcano of the ring,
// as text lines `name = value`. Its inode numbers are ones that no slot ever gives out. It is found
// by its name and listed by nobody: it is no part of the tree that programs copy or remove.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::client {

class Profiles {
 public:
  static constexpr std::string_view kName = ".dht";  // in the root
  // Counters of slot 0 from here on: 2^51 creations in one slot come never.
  static constexpr std::uint64_t kFirst = std::uint64_t{1} << 51;

  struct Profile {
    std::string name;
    std::string text;
  };

  // What the ring told at attach: from now on this is the profile of who serves.
  void set(const wire::AttachReply& reply, std::string_view filesystem, WallTime now);
  // What a volcano knows of the ring: from now on these are the profiles of all.
  void set(const wire::RingReply& ring, WallTime now);

  static Ino directory() { return Ino(kFirst); }
  bool has(Ino ino) const { return ino.value >= kFirst && ino.value <= kFirst + profiles_.size(); }
  // Of the directory or a profile. Requires: has(ino).
  wire::Attr attr_of(Ino ino) const;
  std::optional<Ino> find(std::string_view name) const;
  // Requires: has(ino), not the directory.
  const std::string& text_of(Ino ino) const { return profiles_[index_of(ino)].text; }
  const std::vector<Profile>& all() const { return profiles_; }
  static Ino ino_of(std::size_t index) { return Ino(kFirst + 1 + index); }

 private:
  static std::size_t index_of(Ino ino) { return ino.value - kFirst - 1; }
  std::vector<Profile> profiles_;
  WallTime since_{};
};

}  // namespace magma::client
