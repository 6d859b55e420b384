// fsck: silent on what a volcano leaves behind, also after crashes; loud on each kind of damage.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include "libmagma/wire/codec.h"
#include "magmad/store/content_files.h"
#include "magmad/store/fsck.h"
#include "magmad/store/page_sums.h"
#include "tests/unit/core_fixture.h"

using namespace magma;
using namespace magma::test;
using store::FsckReport;
using store::RowKey;
using store::Table;

namespace {

std::string lines(const FsckReport& report) {
  std::string text;
  for (const auto& p : report.problems) text += "problem: " + p.what + "\n";
  for (const auto& n : report.notes) text += "note: " + n.what + "\n";
  return text;
}

bool tells(const FsckReport& report, const std::string& part) {
  for (const auto& p : report.problems)
    if (p.what.find(part) != std::string::npos) return true;
  return false;
}

// A filesystem with a bit of everything; stopped before it is looked at.
struct Tree {
  ShardBench b;
  Ino directory, below, in_row, at_home, large, moved, link, orphan;

  Tree() {
    directory = b.mkdir(b.root(), "dir", "/dir")->ino;
    below = b.mkdir(directory, "below", "/dir/below")->ino;
    in_row = file(b.root(), "in_row", 0, "a few bytes");
    at_home = file(directory, "at_home", 0, std::string(40000, 'h'));
    large = file(below, "large", 0, std::string(70000, 'c'));
    REQUIRE(b.write(large, store::kChunkBytes + 10, std::string(9000, 'd')) == Code{});
    moved = file(b.root(), "stays", 0, "moved");
    REQUIRE(b.rename(b.root(), "stays", below, "moved"));
    auto made = b.ask(wire::SymlinkRequest{b.root(), "link", "target"}, ring::home_of(b.root()));
    REQUIRE(made);
    link = made->ino;
    orphan = file(b.root(), "orphan", 0, "open and unlinked");
    REQUIRE(b.unlink(b.root(), "orphan"));
    b.rest();
  }
  Ino file(Ino dir, const std::string& name, std::uint64_t offset, const std::string& bytes) {
    auto made = b.create(dir, name);
    REQUIRE(made);
    REQUIRE(b.write(made->ino, offset, bytes) == Code{});
    return made->ino;
  }

  FsckReport check(bool deep = true, bool unclean = false) {
    b.stop();
    SimExecutor executor;
    store::FsckOptions options;
    options.deep = deep;
    options.unclean = unclean;
    auto report = store::fsck(b.disk, executor, std::move(options));
    REQUIRE_MESSAGE(report, (report ? "" : describe(report.error())));
    return std::move(*report);
  }
  // Changes rows behind the volcano's back.
  template <class Change>
  void edit(Change change) {
    b.stop();
    SimExecutor executor;
    auto metadata = store::MetadataStore::open(b.disk, executor, false);
    REQUIRE(metadata);
    change(**metadata);
    REQUIRE((*metadata)->commit());
  }
  template <class Row, class Change>
  void edit_row(const RowKey& key, Change change) {
    edit([&](store::MetadataStore& metadata) {
      auto row = metadata.get(key);
      REQUIRE(row);
      REQUIRE(row->has_value());
      auto value = wire::decode<Row>((*row)->image);
      REQUIRE(value);
      change(*value);
      REQUIRE(metadata.put(key, (*row)->version, wire::encode(*value)));
    });
  }
  template <class Change>
  void edit_inode(Ino ino, Change change) {
    edit_row<store::InodeRow>(Shard::inode_key(ino), change);
  }
  void erase(const RowKey& key) {
    edit([&](store::MetadataStore& metadata) {
      auto row = metadata.get(key);
      REQUIRE(row);
      REQUIRE(row->has_value());
      REQUIRE(metadata.erase(key));
    });
  }
  store::ContentId home_content() const { return {ring::home_of(at_home), at_home, 0}; }
  ring::Key large_key() const {
    return crypto::key_of_path("/spilled/" + std::to_string(large.value));
  }
  store::ContentId large_content(std::uint32_t chunk) const {
    return {crypto::key_of_chunk(large_key(), chunk).slot(), large, chunk};
  }
};

std::map<std::string, Bytes> contents_of(SimDisk& disk) {
  std::map<std::string, Bytes> all;
  for (const std::string& path : disk.files()) {
    auto file = disk.open(path, sys::Disk::Open::existing_readonly);
    REQUIRE(file);
    Bytes& bytes = all[path];
    bytes.resize(*(*file)->size());
    REQUIRE((*file)->read_at(bytes, 0));
  }
  return all;
}

}  // namespace

TEST_SUITE("fsck") {
TEST_CASE("a healthy volcano is clean, also after a kill and power cuts, and is not changed") {
  Tree tree;
  auto report = tree.check();
  CHECK_MESSAGE(report.clean(), lines(report));
  CHECK_MESSAGE(report.notes_total == 0, lines(report));
  CHECK(report.directories == 3);
  CHECK(report.files == 5);
  CHECK(report.inodes == 9);
  CHECK(report.entries == 7);
  CHECK(report.orphans == 1);
  CHECK(report.chunks == 3);
  CHECK(report.content_files == 3);
  CHECK(report.operations == 0);
  auto before = contents_of(tree.b.disk);
  tree.check();
  CHECK(contents_of(tree.b.disk) == before);
  tree.b.start(false);
  tree.b.kill();
  report = tree.check();
  CHECK_MESSAGE(report.clean(), lines(report));
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    tree.b.start(false);
    tree.b.attach();
    std::string name = "more" + std::to_string(seed);
    Ino dir = tree.b.mkdir(tree.b.root(), name, "/" + name)->ino;
    tree.file(dir, "f", 0, std::string(seed * 5000, 'f'));
    CHECK(tree.b.rename(dir, "f", tree.directory, name));
    tree.b.power_cut(seed);
    tree.b.rest();
    report = tree.check(true, true);
    CHECK_MESSAGE(report.clean(), lines(report));
  }
}

TEST_CASE("after a kill in the middle of operations there are notes at most") {
  for (int steps = 0; steps < 6; ++steps) {
    Tree tree;
    tree.b.send(wire::MkdirRequest{tree.b.root(), "new", 0755, 0, crypto::key_of_path("/new")},
                ring::home_of(tree.b.root()));
    UniqueFunction<void(Answer)> drop = [](Answer) {};
    for (int i = 0; i < steps; ++i) tree.b.shard->flush(drop);
    tree.b.disk.kill();
    auto report = tree.check(true, true);
    CHECK_MESSAGE(report.clean(), lines(report));
  }
}

TEST_CASE("damaged inodes, links and entries") {
  Tree tree;
  SUBCASE("an inode is gone") {
    tree.erase(Shard::inode_key(tree.moved));
    auto report = tree.check();
    CHECK(tells(report, "is missing"));
    CHECK(tells(report, "is of no inode"));  // its content in the row
  }
  SUBCASE("an entry is gone") {
    tree.erase(Shard::entry_key(tree.b.root(), "in_row"));
    CHECK(tells(tree.check(), "1 links but no entry"));
  }
  SUBCASE("a directory's entry is gone") {
    tree.erase(Shard::entry_key(tree.directory, "below"));
    auto report = tree.check();
    CHECK(tells(report, "is a directory without an entry"));
    CHECK(tells(report, "with 0 subdirectories but nlink 3"));
  }
  SUBCASE("nlink of a file") {
    tree.edit_inode(tree.at_home, [](store::InodeRow& row) { row.nlink = 2; });
    CHECK(tells(tree.check(), "2 links but 1 entries"));
  }
  SUBCASE("nlink of a directory") {
    tree.edit_inode(tree.directory, [](store::InodeRow& row) { row.nlink = 2; });
    CHECK(tells(tree.check(), "1 subdirectories but nlink 2"));
  }
  SUBCASE("type") {
    tree.edit_row<store::EntryRow>(Shard::entry_key(tree.b.root(), "link"),
                                   [](store::EntryRow& row) { row.type = 8; });
    CHECK(tells(tree.check(), "says type 8"));
  }
  SUBCASE("parent") {
    tree.edit_inode(tree.below, [&](store::InodeRow& row) { row.parent = tree.b.root(); });
    CHECK(tells(tree.check(), "as its parent"));
  }
  SUBCASE("cycle") {
    tree.edit([&](store::MetadataStore& metadata) {
      auto up = Shard::entry_key(tree.b.root(), "dir");
      auto row = metadata.get(up);
      REQUIRE(row);
      REQUIRE(metadata.erase(up));
      REQUIRE(metadata.put(Shard::entry_key(tree.below, "dir"), {}, (*row)->image));
    });
    auto report = tree.check();
    CHECK(tells(report, "lies in a cycle"));
    CHECK(tells(report, "cannot be reached from the root"));
  }
  SUBCASE("orphan list") {
    tree.erase(Shard::orphan_key(tree.orphan));
    CHECK(tells(tree.check(), "not listed as an orphan"));
  }
  SUBCASE("counter") {
    ring::Slot slot = ring::home_of(tree.in_row);
    tree.edit_row<store::SlotRow>({Table::slot, ring::with_counter(slot, 0), 0, {}},
                                  [](store::SlotRow& row) { row.counter_limit = 16; });
    CHECK(tells(tree.check(), "gave out numbers below 16 only"));
  }
  SUBCASE("a row that does not decode") {
    tree.edit([&](store::MetadataStore& metadata) {
      REQUIRE(metadata.put(Shard::inode_key(tree.in_row), {}, Bytes{1, 2, 3}));
    });
    CHECK(tells(tree.check(), "is malformed"));
  }
  SUBCASE("state of an operation that is none") {
    tree.edit_inode(tree.below, [](store::InodeRow& row) {
      row.state = store::InodeState::pending;
    });
    CHECK(tells(tree.check(), "is held by operation"));
  }
}

TEST_CASE("damaged content") {
  Tree tree;
  SUBCASE("place") {
    tree.edit_inode(tree.at_home, [](store::InodeRow& row) {
      row.place = store::ContentPlace::in_row;
    });
    auto report = tree.check();
    CHECK(tells(report, "its content in the row is missing"));
    CHECK(tells(report, "leaked: chunk 0"));
  }
  SUBCASE("size") {
    tree.edit_inode(tree.in_row, [](store::InodeRow& row) { ++row.size; });
    CHECK(tells(tree.check(), "has size 12 but 11 bytes in the row"));
  }
  SUBCASE("size of a home file") {
    tree.edit_inode(tree.at_home, [](store::InodeRow& row) { ++row.size; });
    CHECK(tells(tree.check(), "has size 40001 but a home file of 40000"));
  }
  SUBCASE("size of a symlink") {
    tree.edit_inode(tree.link, [](store::InodeRow& row) { ++row.size; });
    CHECK(tells(tree.check(), "has size 7 but 6 bytes"));
  }
  SUBCASE("a chunk's row is gone") {
    tree.erase(tree.large_content(1).row(Table::chunk));
    auto report = tree.check();
    CHECK(tells(report, "has no row"));
    CHECK(tells(report, "leaked: checksums of chunk 1"));
  }
  SUBCASE("the authority is gone") {
    tree.erase({Table::authority, ring::with_counter(tree.large_key().slot(), 0),
                tree.large.value, {}});
    CHECK(tells(tree.check(), "its size authority is missing"));
  }
  SUBCASE("the authority does not name a chunk") {
    tree.edit_row<store::AuthorityRow>(
        {Table::authority, ring::with_counter(tree.large_key().slot(), 0), tree.large.value, {}},
        [](store::AuthorityRow& row) { row.chunks = {{0, 0}}; });
    CHECK(tells(tree.check(), "leaked: chunk 1"));
  }
  SUBCASE("the inode of a large file is gone") {
    tree.erase(Shard::inode_key(tree.large));
    CHECK(tells(tree.check(), "leaked: size authority"));
  }
  SUBCASE("stray files") {
    store::ContentId stray{ring::Slot(5), Ino(ring::with_counter(ring::Slot(5), 99)), 0};
    tree.b.stop();
    REQUIRE(tree.b.disk.make_directory(store::content_directory(stray.ino).substr(0, 9)));
    REQUIRE(tree.b.disk.make_directory(store::content_directory(stray.ino)));
    REQUIRE(tree.b.disk.open(store::content_path(stray), sys::Disk::Open::create));
    REQUIRE(tree.b.disk.open("flares/notes.txt", sys::Disk::Open::create));
    auto report = tree.check();
    CHECK(tells(report, store::content_path(stray) + " belongs to no row"));
    CHECK(report.problems_total >= 1);
    report = tree.check(true, true);  // may be left by a crash
    CHECK(!tells(report, "belongs to no row"));
    CHECK(report.notes_total >= 1);
  }
  SUBCASE("rot") {
    tree.b.stop();
    tree.edit([&](store::MetadataStore& metadata) {  // at rest
      std::vector<RowKey> hot;
      for (unsigned database = 0; database < store::kDatabases; ++database)
        REQUIRE(metadata.scan_database(database, Table::hot_range, [&](const auto& row) {
          hot.push_back({Table::hot_range, row.a, row.b, std::string(row.c)});
          return true;
        }));
      for (const RowKey& key : hot) REQUIRE(metadata.erase(key));
      REQUIRE(metadata.put(Shard::inline_key(tree.in_row), {}, as_bytes("a few bytes")));
    });
    auto report = tree.check();
    CHECK_MESSAGE(report.clean(), lines(report));
    CHECK(report.pages_checked >= 3 * 256);
    REQUIRE(tree.b.disk.flip_bit(store::content_path(tree.large_content(0)), 65536, 3));
    CHECK(tree.check(false).clean());
    CHECK(tells(tree.check(), "bytes at 65536 do not match"));
  }
}

TEST_CASE("what an unfinished operation may explain is a note") {
  Tree tree;
  tree.edit([&](store::MetadataStore& metadata) {
    RowKey intent{Table::intent, ring::with_counter(ring::Slot(7), 77), 0, {}};
    REQUIRE(metadata.put(intent, {}, wire::encode(store::IntentRow{1, 0, {}})));
    REQUIRE(metadata.erase(Shard::entry_key(tree.b.root(), "in_row")));
  });
  auto report = tree.check();
  CHECK_MESSAGE(report.clean(), lines(report));
  CHECK(report.notes_total == 1);
  CHECK(report.operations == 1);
}

TEST_CASE("a mirror that is not whole or catches up is a note, its rows are not compared") {
  Tree tree;
  const auto with_state = [&](Bytes image) {
    tree.edit([&](store::MetadataStore& metadata) {
      REQUIRE(metadata.put({Table::mirror, 0, 0, {}}, {}, image));
      REQUIRE(metadata.erase(Shard::entry_key(tree.b.root(), "in_row")));
    });
    return tree.check();
  };
  store::MirrorStateRow state{.primary = 1, .stream = 1, .batch = 5};
  FsckReport report = with_state(wire::encode(state));
  CHECK_MESSAGE(report.clean(), lines(report));
  CHECK(lines(report).find("not whole") != std::string::npos);
  CHECK(report.notes_total == 1);
  state.is_whole = state.is_mixed = true;
  report = with_state(wire::encode(state));
  CHECK_MESSAGE(report.clean(), lines(report));
  CHECK(lines(report).find("catching up") != std::string::npos);
  state.is_mixed = false;  // now they belong together
  CHECK_FALSE(with_state(wire::encode(state)).clean());
  CHECK(tells(with_state(Bytes(3)), "malformed"));
}

TEST_CASE("of a part of the slots what lies elsewhere is not missed") {
  Tree tree;
  unsigned elsewhere = ring::home_of(tree.below).value;
  REQUIRE(ring::home_of(tree.b.root()).value != elsewhere);
  tree.edit([&](store::MetadataStore& metadata) {
    std::vector<RowKey> gone;
    auto table_rows = [&](Table table) {
      REQUIRE(metadata.scan_database(elsewhere % store::kDatabases, table, [&](const auto& row) {
        if (row.a >> ring::kCounterBits == elsewhere)
          gone.push_back({table, row.a, row.b, std::string(row.c)});
        return true;
      }));
    };
    for (unsigned table = 1; table <= store::kTableLast; ++table)
      table_rows(static_cast<Table>(table));
    for (const RowKey& key : gone) REQUIRE(metadata.erase(key));
  });
  CHECK(tells(tree.check(), "is missing"));
  tree.b.stop();
  SimExecutor executor;
  store::FsckOptions options;
  options.all_slots = false;
  options.unclean = true;  // the home of `large` had its content's file
  auto report = store::fsck(tree.b.disk, executor, std::move(options));
  REQUIRE(report);
  CHECK_MESSAGE(report->clean(), lines(*report));
}

TEST_CASE("of a volcano that shares, its own slots and each copy are checked by themselves") {
  Tree tree;
  const ring::Slot far = ring::home_of(tree.below);
  REQUIRE(ring::home_of(tree.b.root()) != far);
  REQUIRE(ring::home_of(tree.large) == far);
  ring::SlotMask copied;
  copied.set(far.value);
  const auto check = [&](const Bytes& stream) {
    tree.edit([&](store::MetadataStore& metadata) {
      REQUIRE(metadata.put({Table::mirror, 0, 1, {}}, {}, stream));
    });
    SimExecutor executor;
    store::FsckOptions options;
    options.deep = true;
    std::uint64_t last = 0;
    options.progress = [&](std::uint64_t done, std::uint64_t total) {
      CHECK(done >= last);
      CHECK(done <= total);
      last = done;
    };
    auto report = store::fsck_by_parts(tree.b.disk, executor, std::move(options));
    REQUIRE(report);
    return std::move(*report);
  };
  store::MirrorStreamRow row{.known = ring::runs_of(copied), .epoch = 1, .batch = 5};
  // An entry that leads to nothing.
  REQUIRE(ring::home_of(tree.in_row) == ring::home_of(tree.b.root()));
  const auto break_own = [&] { tree.erase(Shard::inode_key(tree.in_row)); };
  const auto break_copy = [&] { tree.erase(Shard::inode_key(tree.large)); };

  FsckReport report = check(wire::encode(row));
  CHECK_MESSAGE(report.clean(), lines(report));
  const std::uint64_t files = report.files;
  CHECK(files == tree.check().files);  // each once

  SUBCASE("a damaged copy") {
    break_copy();
    CHECK_FALSE(check(wire::encode(row)).clean());
    row.is_mixed = true;  // its rows are of different moments: no damage
    report = check(wire::encode(row));
    CHECK_MESSAGE(report.clean(), lines(report));
    CHECK(lines(report).find("being caught up with") != std::string::npos);
    CHECK(report.files < files);
    break_own();
    CHECK_FALSE(check(wire::encode(row)).clean());
  }
  SUBCASE("damaged slots of its own") {
    break_own();
    CHECK_FALSE(check(wire::encode(row)).clean());
    row.known.clear();  // which slots are its own is not known
    report = check(wire::encode(row));
    CHECK_MESSAGE(report.clean(), lines(report));
    CHECK(lines(report).find("cannot be told apart") != std::string::npos);
    CHECK(report.files == 0);
  }
  SUBCASE("a row that makes no sense") {
    CHECK(tells(check(Bytes(3)), "malformed"));
    row.known = {{ring::Slot(9), ring::Slot(3)}};
    CHECK(tells(check(wire::encode(row)), "malformed"));
  }
}

TEST_CASE("a damaged database is told, a missing one is an error") {
  Tree tree;
  tree.b.stop();
  SUBCASE("damaged") {
    tree.edit([](store::MetadataStore& metadata) { REQUIRE(metadata.close_clean()); });
    {
      auto file = tree.b.disk.open("meta.1.db", sys::Disk::Open::existing);
      REQUIRE(file);
      std::uint64_t size = *(*file)->size();
      for (std::uint64_t at = 4096; at < size; at += 4096)
        REQUIRE((*file)->write_at(Bytes(512, 0xee), at));
    }
    auto report = tree.check();
    CHECK(tells(report, "meta.1.db"));
  }
  SUBCASE("missing") {
    REQUIRE(tree.b.disk.remove("meta.2.db"));
    SimExecutor executor;
    auto report = store::fsck(tree.b.disk, executor, {});
    REQUIRE(!report);
    CHECK(report.error().code == Code::not_found);
  }
}
}
