// SeenAttrs: what is remembered of which flares, and for how long.
#include <doctest/doctest.h>

#include <sys/stat.h>

#include "mount.magma/seen_attrs.h"

namespace magma::mount {
namespace {

wire::Attr attr_of(std::uint64_t ino, std::uint32_t mode, std::uint32_t nlink) {
  wire::Attr attr;
  attr.ino = Ino(ino);
  attr.mode = mode;
  attr.nlink = nlink;
  return attr;
}

TEST_CASE("seen attributes: which names may be changed before the volcano is asked") {
  SeenAttrs seen;
  CHECK_FALSE(seen.is_movable(Ino(5), false));
  seen.learn(attr_of(5, S_IFREG | 0644, 1), {});
  seen.learn(attr_of(6, S_IFREG | 0644, 2), {});
  seen.learn(attr_of(7, S_IFDIR | 0755, 2), {});
  CHECK(seen.is_movable(Ino(5), true));
  CHECK(seen.is_movable(Ino(6), false));
  CHECK_FALSE(seen.is_movable(Ino(6), true));  // its other name stays
  CHECK_FALSE(seen.is_movable(Ino(7), false));
  seen.learn(attr_of(5, S_IFREG | 0644, 2), {});
  CHECK_FALSE(seen.is_movable(Ino(5), true));
}

TEST_CASE("seen attributes: all files of a large directory are remembered") {
  constexpr std::uint64_t kFirst = 0xf9e0000000001415, kFiles = 50'000;
  SeenAttrs seen;
  for (std::uint64_t i = 0; i < kFiles; ++i)
    seen.learn(attr_of(kFirst + i, S_IFREG | 0644, 1), Instant::never());
  for (std::uint64_t i = 0; i < kFiles; ++i) {
    REQUIRE(seen.is_movable(Ino(kFirst + i), true));
    REQUIRE(seen.xattr_kinds_of(Ino(kFirst + i), Instant{}).has_value());
  }
}

}  // namespace
}  // namespace magma::mount
