#include <doctest/doctest.h>

#include <string>

#include "libmagma/crypto/path_hash.h"
#include "mount.magma/inode_table.h"

namespace {

using magma::Ino;
using magma::crypto::key_of_child;
using magma::crypto::key_of_path;
using magma::mount::InodeTable;

constexpr Ino kRoot{0x420'0000'0000'0001};

TEST_CASE("inode table: counts look-ups until the kernel forgets them all") {
  InodeTable table(kRoot);
  table.add(Ino(100), {.parent = kRoot, .name = "a"});
  table.add(Ino(100), {.parent = kRoot, .name = "a"});
  CHECK(table.size() == 2);
  CHECK_FALSE(table.forget(Ino(100), 1));
  CHECK(table.knows(Ino(100)));
  CHECK(table.forget(Ino(100), 1));
  CHECK_FALSE(table.knows(Ino(100)));
  CHECK_FALSE(table.forget(Ino(100), 1));
  CHECK_FALSE(table.forget(kRoot, 1000));
  CHECK(table.knows(kRoot));
}

TEST_CASE("inode table: tells where a flare was that is seen at another place") {
  InodeTable table(kRoot);
  CHECK_FALSE(table.add(Ino(100), {.parent = kRoot, .name = "a"}));
  CHECK_FALSE(table.add(Ino(100), {.parent = kRoot, .name = "a"}));
  CHECK_FALSE(table.add(Ino(100), {.parent = kRoot, .name = {}}));
  auto before = table.add(Ino(100), {.parent = Ino(7), .name = "a"});
  REQUIRE(before);
  CHECK(before->parent == kRoot);
  CHECK(before->name == "a");
  table.rename(Ino(7), "a", Ino(7), "b", false);
  CHECK_FALSE(table.add(Ino(100), {.parent = Ino(7), .name = "b"}));
  CHECK(table.add(Ino(100), {.parent = Ino(7), .name = "c"})->name == "b");
}

TEST_CASE("inode table: a renewed inode has an alias and keeps no pages") {
  InodeTable table(kRoot);
  table.add(Ino(100), {.parent = kRoot, .name = "a"});
  table.add(Ino(101), {.parent = kRoot, .name = "b"});
  CHECK_FALSE(table.opened(Ino(100), 5));
  CHECK(table.opened(Ino(100), 5));
  CHECK(table.alias_of(Ino(100)) == 0);
  for (unsigned round = 0; round < 3 * InodeTable::kAliasMax; ++round) {
    table.renew(Ino(100));
    CHECK(table.alias_of(Ino(100)) == round % InodeTable::kAliasMax + 1);
  }
  CHECK_FALSE(table.opened(Ino(100), 5));
  CHECK_FALSE(table.opened(Ino(100), 5));
  CHECK(table.alias_of(Ino(101)) == 0);
  table.renew(kRoot);
  CHECK(table.alias_of(kRoot) == 0);
  table.forget(Ino(100), 1);
  table.add(Ino(100), {.parent = kRoot, .name = "a"});
  CHECK(table.alias_of(Ino(100)) == 0);
}

TEST_CASE("inode table: a removed name leads nowhere, and its flare comes from nowhere") {
  InodeTable table(kRoot);
  table.add(Ino(100), {.parent = kRoot, .name = "a"});
  table.remove(kRoot, "a");
  table.remove(kRoot, "never");
  CHECK(table.child_of(kRoot, "a") == Ino());
  CHECK(table.knows(Ino(100)));
  CHECK_FALSE(table.add(Ino(100), {.parent = kRoot, .name = "b"}));
}

TEST_CASE("inode table: forgetting more than was counted forgets once") {
  InodeTable table(kRoot);
  table.add(Ino(100), {.parent = kRoot, .name = "a"});
  CHECK(table.forget(Ino(100), 1ull << 40));
  CHECK(table.size() == 1);
}

TEST_CASE("inode table: the root may be told later") {
  InodeTable table(Ino(1));
  table.set_root(kRoot);
  CHECK(table.size() == 1);
  CHECK(table.path_of(kRoot) == "/");
  CHECK_FALSE(table.knows(Ino(1)));
  CHECK(table.key_of(kRoot).hex() == "42099b4af021e53fd8fd4e056c2568d7c2e3ffa8");
}

TEST_CASE("inode table: keys come from paths as last seen") {
  InodeTable table(kRoot);
  table.add(Ino(100), {.parent = kRoot, .name = "dir", .is_directory = true,
                       .key = key_of_path("/dir")});
  table.add(Ino(101), {.parent = Ino(100), .name = "file"});
  CHECK(table.path_of(Ino(101)) == "/dir/file");
  CHECK(table.key_of(Ino(101)) == key_of_path("/dir/file"));
  CHECK(table.key_of(Ino(100)) == key_of_path("/dir"));
  CHECK(table.key_of_new(kRoot, "new") == key_of_path("/new"));
  CHECK(table.key_of_new(Ino(100), "new") == key_of_path("/dir/new"));

  SUBCASE("a look-up elsewhere moves it") {
    table.add(Ino(101), {.parent = kRoot, .name = "moved"});
    CHECK(table.path_of(Ino(101)) == "/moved");
  }
  SUBCASE("a rename moves it, and what is below a directory") {
    table.rename(kRoot, "dir", kRoot, "other", false);
    CHECK(table.path_of(Ino(101)) == "/other/file");
    table.rename(Ino(100), "file", kRoot, "f", false);
    CHECK(table.path_of(Ino(101)) == "/f");
    CHECK(table.key_of(Ino(101)) == key_of_path("/f"));
  }
  SUBCASE("an exchange swaps two") {
    table.add(Ino(102), {.parent = kRoot, .name = "top"});
    table.rename(kRoot, "top", Ino(100), "file", true);
    CHECK(table.path_of(Ino(102)) == "/dir/file");
    CHECK(table.path_of(Ino(101)) == "/top");
  }
  SUBCASE("renaming what is not known does nothing") {
    table.rename(kRoot, "nothing", Ino(100), "file", false);
    CHECK(table.path_of(Ino(101)) == "/dir/file");
  }
}

TEST_CASE("inode table: without a path the parent's stored key is used") {
  InodeTable table(kRoot);
  auto key = key_of_path("/made/here");
  // The parent of 100 is not known: an inode reached by a file handle.
  table.add(Ino(100), {.parent = Ino(77), .name = "here", .is_directory = true, .key = key});
  table.add(Ino(101), {.parent = Ino(100), .name = "file"});
  CHECK(table.path_of(Ino(101)).empty());
  CHECK(table.key_of(Ino(101)) == key_of_child(key, "file"));
  CHECK(table.key_of_new(Ino(100), "new") == key_of_child(key, "new"));
  // Nothing known at all: still a key, and different ones for different directories.
  CHECK(table.key_of_new(Ino(5), "x") != table.key_of_new(Ino(6), "x"));
}

TEST_CASE("inode table: a stored key survives a look-up that does not tell it") {
  InodeTable table(kRoot);
  auto key = key_of_path("/old");
  table.add(Ino(100), {.parent = Ino(77), .name = "a", .is_directory = true, .key = key});
  table.add(Ino(100), {.parent = Ino(77), .name = "b"});
  CHECK(table.is_directory(Ino(100)));
  CHECK(table.key_of_new(Ino(100), "n") == key_of_child(key, "n"));
}

TEST_CASE("inode table: a loop of parents ends") {
  InodeTable table(kRoot);
  table.add(Ino(100), {.parent = Ino(101), .name = "a", .is_directory = true});
  table.add(Ino(101), {.parent = Ino(100), .name = "b", .is_directory = true});
  CHECK(table.path_of(Ino(100)).empty());
}

TEST_CASE("inode table: cached pages stay only while nobody else wrote") {
  InodeTable table(kRoot);
  table.add(Ino(100), {.parent = kRoot, .name = "f"});
  CHECK_FALSE(table.opened(Ino(100), 0));  // version 0 is a version too
  CHECK(table.opened(Ino(100), 0));
  CHECK_FALSE(table.opened(Ino(100), 5));
  CHECK(table.opened(Ino(100), 5));
  table.changed_here(Ino(100), 6);  // the next: ours alone
  CHECK(table.opened(Ino(100), 6));
  table.changed_here(Ino(100), 8);  // somebody else made 7
  CHECK_FALSE(table.opened(Ino(100), 8));
  CHECK_FALSE(table.opened(Ino(999), 1));
  table.add(Ino(101), {.parent = kRoot, .name = "g"});
  table.changed_here(Ino(101), 1);  // never opened: nothing is known of its pages
  CHECK_FALSE(table.opened(Ino(101), 1));
}

TEST_CASE("inode table: many inodes, small") {
  constexpr std::uint64_t kMany = 200'000;
  InodeTable table(kRoot);
  for (std::uint64_t i = 0; i < kMany; ++i) {
    std::string name = "a-file-name-of-24-" + std::to_string(100000 + i);
    table.add(Ino(0x420'0000'0000'0010 + i), {.parent = kRoot, .name = name});
  }
  CHECK(table.size() == kMany + 1);
  CHECK(table.memory_bytes() < kMany * 175);
  CHECK(table.path_of(Ino(0x420'0000'0000'0010 + 77)) == "/a-file-name-of-24-100077");
  table.rename(kRoot, "a-file-name-of-24-100077", kRoot, "x", false);
  CHECK(table.path_of(Ino(0x420'0000'0000'0010 + 77)) == "/x");
  for (std::uint64_t i = 0; i < kMany; ++i)
    REQUIRE(table.forget(Ino(0x420'0000'0000'0010 + i), 1));
  CHECK(table.size() == 1);
}

}  // namespace
