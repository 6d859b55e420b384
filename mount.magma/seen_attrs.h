// The attributes of the flares seen last. Three uses:
// - Which extended attributes a flare has, for as long as its attributes are believed. The kernel
//   asks for security.capability before the first write to each file, and for ACLs wherever the
//   group's bits matter; the answer is nearly always "none", and was in the attributes already.
// - What to say of a flare that this mount has removed but a program still holds without having
//   opened it with the ring: a directory, a fifo, a descriptor of O_PATH.
// - Whether a name may be changed before the volcano is asked (client/delayed_names.h).
// Tables of fixed size; the newer of two that meet in a place stays.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::mount {

class SeenAttrs {
 public:
  SeenAttrs() : hints_(kHints), attrs_(kAttrs) {}

  void learn(const wire::Attr& attr, Instant until) {
    hints_[index_of(attr.ino, kHints)] = {attr.ino, attr.xattr_kinds, S_ISDIR(attr.mode),
                                          attr.nlink == 1, until};
    attrs_[index_of(attr.ino, kAttrs)] = attr;
  }
  // What is known of extended attributes is no longer believed.
  void doubt(Ino ino) {
    if (Hint& hint = hints_[index_of(ino, kHints)]; hint.ino == ino) hint.until = {};
  }
  // wire::XattrKind bits; nothing if they are not known (any more).
  std::optional<std::uint8_t> xattr_kinds_of(Ino ino, Instant now) const {
    const Hint& hint = hints_[index_of(ino, kHints)];
    if (hint.ino != ino || hint.until <= now) return std::nullopt;
    return hint.kinds;
  }
  // As last seen, however long ago: no directory, and (if it is to be removed) without other names.
  bool is_movable(Ino ino, bool is_removed) const {
    const Hint& hint = hints_[index_of(ino, kHints)];
    return hint.ino == ino && !hint.is_directory && (!is_removed || hint.has_one_name);
  }
  // As last seen, however long ago; nullptr if that was forgotten.
  const wire::Attr* last(Ino ino) const {
    const wire::Attr& attr = attrs_[index_of(ino, kAttrs)];
    return attr.ino == ino ? &attr : nullptr;
  }

 private:
  static constexpr std::size_t kHints = 65536;  // ls -l of a large directory
  static constexpr std::size_t kAttrs = 4096;
  struct Hint {
    Ino ino{};
    std::uint8_t kinds = 0;
    bool is_directory = false, has_one_name = false;
    Instant until{};
  };
  static std::size_t index_of(Ino ino, std::size_t size) {
    return static_cast<std::size_t>((ino.value ^ (ino.value >> 40)) % size);
  }

  std::vector<Hint> hints_;
  std::vector<wire::Attr> attrs_;
};

}  // namespace magma::mount
