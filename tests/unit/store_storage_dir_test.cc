// storage_dir: what a directory is, its papers over crashes, the clean mark.
#include <doctest/doctest.h>

#include "magmad/store/metadata_store.h"
#include "magmad/store/storage_dir.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/sim_executor.h"
#include "tests/lib/store_fixture.h"

namespace magma::store {
namespace {

using test::SeedRandom;
using test::SimDisk;
using test::SimExecutor;

VolcanoPapers papers(std::string nick) {
  return {.uuid = "0f0e0d0c-1234", .nick = std::move(nick), .fqdn = "wallace.example.org",
          .small_files = 4096, .created = "2025-01-01T00:00:00Z"};
}

void put_file(SimDisk& disk, std::string_view path, std::string_view text) {
  auto file = disk.open(path, sys::Disk::Open::create);
  REQUIRE(file.has_value());
  REQUIRE((*file)->truncate(0).has_value());
  REQUIRE((*file)->write_at(as_bytes(text), 0).has_value());
}

TEST_CASE("storage: empty, unfinished, ours, newer and foreign directories are told apart") {
  SimDisk disk;
  CHECK(*inspect_storage(disk) == StorageState::empty);
  REQUIRE(disk.make_directory("lost+found").has_value());
  CHECK(*inspect_storage(disk) == StorageState::empty);
  SimExecutor executor;
  REQUIRE(MetadataStore::open(disk, executor, true).has_value());
  CHECK(*inspect_storage(disk) == StorageState::unfinished);
  REQUIRE(clear_unfinished(disk).has_value());
  CHECK(*inspect_storage(disk) == StorageState::empty);
  REQUIRE(MetadataStore::open(disk, executor, true).has_value());
  REQUIRE(write_papers(disk, papers("wallace")).has_value());
  CHECK(*inspect_storage(disk) == StorageState::ours);
  CHECK(*read_papers(disk) == papers("wallace"));

  put_file(disk, "volcano.json", R"({"format": 3, "uuid": "x", "nick": "y"})");
  CHECK(inspect_storage(disk).error().code == Code::too_new);
  for (std::string_view bad : {"", "{", "[]", "{}", R"({"format": 1})", R"({"format": -1})",
                               R"({"format": 1, "uuid": 5, "nick": "y"})",
                               R"({"format": 1, "uuid": "x", "nick": "y", "small_files": "a"})",
                               R"({"format": 2, "uuid": "x", "nick": "y", "storage": "12"})",
                               R"({"format": 2, "uuid": "x", "nick": "y", "volcano": "1"})"}) {
    put_file(disk, "volcano.json", bad);
    CHECK(inspect_storage(disk).error().code == Code::not_magma);
  }
  SimDisk foreign;
  put_file(foreign, "thesis.tex", "x");
  CHECK(inspect_storage(foreign).error().code == Code::not_magma);
}

TEST_CASE("storage: papers are the old or the new ones after a power cut") {
  unsigned old_found = 0, new_found = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    SimDisk disk;
    SeedRandom random(seed);
    REQUIRE(write_papers(disk, papers("old")).has_value());
    disk.fail_call(1 + random.below(7));
    bool done = write_papers(disk, papers("new")).has_value();
    disk.no_faults();
    disk.power_cut(random);
    auto found = read_papers(disk);
    REQUIRE(found.has_value());
    (found->nick == "new" ? new_found : old_found) += 1;
    if (done) CHECK(found->nick == "new");
  }
  CHECK(old_found > 20);
  CHECK(new_found > 20);
}

TEST_CASE("storage: the clean mark is there after a clean stop only") {
  SimDisk disk;
  SeedRandom random(1);
  CHECK_FALSE(*take_clean_mark(disk));
  REQUIRE(leave_clean_mark(disk).has_value());
  disk.power_cut(random);
  CHECK(*take_clean_mark(disk));
  disk.power_cut(random);
  CHECK_FALSE(*take_clean_mark(disk));
}

TEST_CASE("storage: the machine's start is known again, another or an unknown one is not") {
  SimDisk disk;
  SeedRandom random(1);
  const auto note_machine_boot = [&](SimDisk& at, std::uint64_t boot) {
    auto same = store::is_same_machine_boot(at, boot);
    if (same && !*same) REQUIRE(store::note_machine_boot(at, boot));
    return same;
  };
  CHECK_FALSE(*note_machine_boot(disk, 0x1234));  // the first
  CHECK(*note_machine_boot(disk, 0x1234));
  disk.power_cut(random);
  CHECK(*note_machine_boot(disk, 0x1234));
  CHECK_FALSE(*note_machine_boot(disk, 0x1235));
  CHECK_FALSE(*note_machine_boot(disk, 0x1234));
  CHECK(*note_machine_boot(disk, 0x1234));
  // Nobody knows: never the same.
  CHECK_FALSE(*note_machine_boot(disk, 0));
  CHECK_FALSE(*note_machine_boot(disk, 0));
  CHECK_FALSE(*note_machine_boot(disk, 0x1234));
  CHECK_FALSE(*note_machine_boot(disk, ~std::uint64_t{0}));
  CHECK(*note_machine_boot(disk, ~std::uint64_t{0}));
}

TEST_CASE("storage: a loss of power is remembered until the ring was told of it") {
  SimDisk disk;
  SeedRandom random(1);
  CHECK_FALSE(*store::has_untold_loss(disk));
  REQUIRE(store::note_loss(disk).has_value());
  disk.power_cut(random);
  CHECK(*store::has_untold_loss(disk));
  REQUIRE(store::note_loss(disk).has_value());  // again, before it was told
  REQUIRE(store::forget_loss(disk).has_value());
  disk.power_cut(random);
  CHECK_FALSE(*store::has_untold_loss(disk));
}

}  // namespace
}  // namespace magma::store
