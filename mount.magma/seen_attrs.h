// The attributes of the flares seen last. Two uses:
// - Which extended attributes a flare has, for as long as its attributes are believed. The kernel
//   asks for security.capability before the first write to each file, and for ACLs wherever the
//   group's bits matter; the answer is nearly always "none", and was in the attributes already.
// - What to say of a flare that this mount has removed but a program still holds without having
//   opened it with the ring: a directory, a fifo, a descriptor of O_PATH.
// A table of fixed size; the newer of two that meet in a place stays.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::mount {

class SeenAttrs {
 public:
  SeenAttrs() : entries_(kEntries) {}

  void learn(const wire::Attr& attr, Instant until) {
    Entry& entry = entries_[index_of(attr.ino)];
    entry.attr = attr;
    entry.until = until;
  }
  // What is known of extended attributes is no longer believed.
  void doubt(Ino ino) {
    if (Entry& entry = entries_[index_of(ino)]; entry.attr.ino == ino) entry.until = {};
  }
  // wire::XattrKind bits; nothing if they are not known (any more).
  std::optional<std::uint8_t> xattr_kinds_of(Ino ino, Instant now) const {
    const Entry& entry = entries_[index_of(ino)];
    if (entry.attr.ino != ino || entry.until <= now) return std::nullopt;
    return entry.attr.xattr_kinds;
  }
  // As last seen, however long ago; nullptr if that was forgotten.
  const wire::Attr* last(Ino ino) const {
    const Entry& entry = entries_[index_of(ino)];
    return entry.attr.ino == ino ? &entry.attr : nullptr;
  }

 private:
  static constexpr std::size_t kEntries = 4096;
  struct Entry {
    wire::Attr attr{};
    Instant until{};
  };
  static std::size_t index_of(Ino ino) {
    return static_cast<std::size_t>((ino.value ^ (ino.value >> 40)) % kEntries);
  }

  std::vector<Entry> entries_;
};

}  // namespace magma::mount
