// Paths, directories and files piece by piece, against a volcano that serves a small tree out of a
// map and can be told to leave attributes out, to lose flares and to fail.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <set>

#include "libmagma/client/paths.h"
#include "tests/unit/client_fixture.h"

using namespace magma;
using namespace magma::client_test;
using client::DirectoryBatch;
using client::DirectoryReader;
using client::FileReader;
using client::Flare;
using client::PathWalk;
using client::Tree;
using wire::FlareOp;
using Last = client::PathWalk::Last;

namespace {

constexpr Ino kRoot{1};

struct Node {
  wire::Attr attr;
  Ino parent;
  std::string target;
  Bytes bytes;
  std::map<std::string, Ino> entries;
};

// The tree, and what goes wrong in it.
struct TreeWorld : World {
  TreeWorld() {
    nodes[kRoot.value] = node(kRoot, S_IFDIR | 0755, kRoot);
    for (auto& volcano : volcanoes)
      volcano->respond = [this, raw = volcano.get()](const Seen& seen) { respond(*raw, seen); };
    REQUIRE(start());
    wire::AttachReply reply = first().attach_reply;
    reply.nick = "wallace";
    tree = std::make_unique<Tree>(*client, reply, WallTime{5});
  }

  static Node node(Ino ino, std::uint32_t mode, Ino parent) {
    Node made;
    made.attr.ino = ino;
    made.attr.mode = mode;
    made.attr.nlink = 1;
    made.parent = parent;
    return made;
  }
  Ino add(Ino parent, const std::string& name, std::uint32_t mode) {
    // Half of them are at each volcano.
    const Ino ino = ino_at(next_number % 2 == 0 ? 5 : 3000, next_number);
    ++next_number;
    nodes[ino.value] = node(ino, mode, parent);
    nodes[parent.value].entries[name] = ino;
    return ino;
  }
  Ino dir(Ino parent, const std::string& name) { return add(parent, name, S_IFDIR | 0755); }
  Ino link(Ino parent, const std::string& name, const std::string& target) {
    const Ino ino = add(parent, name, S_IFLNK | 0777);
    nodes[ino.value].target = target;
    nodes[ino.value].attr.size = target.size();
    return ino;
  }
  Ino file(Ino parent, const std::string& name, Bytes bytes) {
    const Ino ino = add(parent, name, S_IFREG | 0644);
    nodes[ino.value].attr.size = bytes.size();
    nodes[ino.value].bytes = std::move(bytes);
    return ino;
  }

  void respond(FakeVolcano& volcano, const Seen& seen) {
    if (holds_back.contains(seen.op)) return;
    if (auto error = errors.find(seen.op); error != errors.end())
      return volcano.refuse(seen, error->second);
    switch (seen.op) {
      case FlareOp::lookup: return lookup(volcano, seen);
      case FlareOp::readdir: return readdir(volcano, seen);
      case FlareOp::read: return read(volcano, seen);
      case FlareOp::getattr: {
        auto found = nodes.find(seen.as<wire::GetattrRequest>().ino.value);
        if (found == nodes.end()) return volcano.refuse(seen, Code::stale);
        return volcano.answer(seen, wire::AttrReply{found->second.attr});
      }
      case FlareOp::open: {
        auto found = nodes.find(seen.as<wire::OpenRequest>().ino.value);
        if (found == nodes.end()) return volcano.refuse(seen, Code::stale);
        return volcano.answer(seen, wire::AttrReply{found->second.attr});
      }
      case FlareOp::readlink: {
        auto found = nodes.find(seen.as<wire::ReadlinkRequest>().ino.value);
        if (found == nodes.end()) return volcano.refuse(seen, Code::stale);
        return volcano.answer(seen, wire::ReadlinkReply{found->second.target});
      }
      case FlareOp::release: return volcano.answer(seen, wire::EmptyReply{});
      default: return volcano.refuse(seen, Code::unknown_op);
    }
  }
  void lookup(FakeVolcano& volcano, const Seen& seen) {
    const auto request = seen.as<wire::LookupRequest>();
    const Node& parent = nodes[request.dir.value];
    auto found = parent.entries.find(request.name);
    if (found == parent.entries.end()) return volcano.refuse(seen, Code::not_found);
    const Node& child = nodes[found->second.value];
    wire::EntryReply reply;
    reply.ino = found->second;
    reply.type = static_cast<std::uint8_t>((child.attr.mode & S_IFMT) >> 12);
    if (tells_attributes) reply.attr = child.attr;
    volcano.answer(seen, reply);
  }
  // Cookies are 16 and up, in the order of names.
  void readdir(FakeVolcano& volcano, const Seen& seen) {
    const auto request = seen.as<wire::ReaddirRequest>();
    wire::ReaddirReply reply;
    reply.end = true;
    std::uint64_t cookie = 16;
    for (const auto& [name, ino] : nodes[request.dir.value].entries) {
      if (cookie++ <= request.cookie) continue;
      if (reply.entries.size() == entries_a_reply) {
        reply.end = false;
        break;
      }
      wire::DirectoryEntry& entry = reply.entries.emplace_back();
      entry.name = name;
      entry.cookie = cookie - 1;
      entry.ino = ino;
      if (tells_attributes && nodes.contains(ino.value)) entry.attr = nodes[ino.value].attr;
    }
    volcano.answer(seen, reply);
  }
  void read(FakeVolcano& volcano, const Seen& seen) {
    const auto request = seen.as<wire::ReadRequest>();
    const Bytes& bytes = nodes[request.ino.value].bytes;
    const std::size_t from = std::min<std::size_t>(request.offset, bytes.size());
    const std::size_t length = std::min<std::size_t>(request.length, bytes.size() - from);
    volcano.answer(seen, wire::ReadReply{1}, ByteSpan(bytes).subspan(from, length));
  }
  std::size_t count(FlareOp op) { return first().count(op) + second().count(op); }

  Result<Flare> resolve(std::string_view path, Last last = Last::follow) {
    PathWalk walk(*tree);
    Got<Flare> got;
    walk.resolve(path, last, got.done());
    REQUIRE(run_until([&] { return got.is_over(); }));
    REQUIRE(got.times() == 1);
    return got.results->front();
  }
  Result<DirectoryBatch> next(DirectoryReader& reader) {
    Got<DirectoryBatch> got;
    reader.next(got.done());
    REQUIRE(run_until([&] { return got.is_over(); }));
    return got.results->front();
  }
  Result<std::vector<client::ListedEntry>> list(std::string_view path,
                                                DirectoryReader::Options options = {}) {
    TRY_VALUE(Flare directory, resolve(path));
    DirectoryReader reader(*tree, directory, options);
    std::vector<client::ListedEntry> all;
    while (true) {
      TRY_VALUE(DirectoryBatch batch, next(reader));
      for (auto& entry : batch.entries) all.push_back(std::move(entry));
      if (batch.is_last) return all;
    }
  }
  Result<Bytes> next(FileReader& reader) {
    Got<Bytes> got;
    reader.next(got.done());
    REQUIRE(run_until([&] { return got.is_over(); }));
    return got.results->front();
  }
  Result<Bytes> read_all(FileReader& reader) {
    Bytes all;
    while (true) {
      TRY_VALUE(Bytes part, next(reader));
      if (part.empty()) return all;
      all.insert(all.end(), part.begin(), part.end());
    }
  }

  std::map<std::uint64_t, Node> nodes;
  std::uint64_t next_number = 20;
  bool tells_attributes = true;
  std::size_t entries_a_reply = 1000;
  std::map<FlareOp, Code> errors;
  std::set<FlareOp> holds_back;
  std::unique_ptr<Tree> tree;
};

std::vector<std::string> names_of(const std::vector<client::ListedEntry>& entries) {
  std::vector<std::string> names;
  for (const auto& entry : entries) names.push_back(entry.name);
  return names;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("paths: names of a path") {
  CHECK(client::names_of_path("/") == Names{});
  CHECK(client::names_of_path("") == Names{});
  CHECK(client::names_of_path("/a//b") == Names{"a", "b"});
  CHECK(client::names_of_path("a/b/") == Names{"a", "b", "."});
  CHECK(client::names_of_path("///") == Names{});
  CHECK(client::names_of_path("../x") == Names{"..", "x"});
}

TEST_CASE("paths: resolve") {
  TreeWorld world;
  const Ino a = world.dir(kRoot, "a");
  const Ino b = world.dir(a, "b");
  const Ino f = world.file(b, "f", {1, 2, 3});
  world.link(a, "to_f", "b/f");
  world.link(a, "to_b", "/a/b/");
  world.link(b, "up", "../..");
  world.link(a, "dangling", "nowhere");

  auto root = world.resolve("/");
  REQUIRE(root);
  CHECK(root->path == "/");
  CHECK(root->parent_path == "/");
  CHECK(root->attr.ino == kRoot);
  CHECK(root->key.hex() == "42099b4af021e53fd8fd4e056c2568d7c2e3ffa8");

  for (std::string_view path : {"/a/b/f", "//a/./b//f", "/a/b/../b/f", "/../../a/b/f", "/a/to_f",
                                "/a/to_b/f", "/a/to_b/../b/f", "/a/b/up/a/b/f"}) {
    CAPTURE(path);
    auto found = world.resolve(path);
    REQUIRE(found);
    CHECK(found->path == "/a/b/f");
    CHECK(found->parent_path == "/a/b");
    CHECK(found->parent == b);
    CHECK(found->attr.ino == f);
    CHECK(found->key == crypto::key_of_path("/a/b/f"));
    CHECK(found->slot == ring::home_of(f));
    CHECK(found->target.empty());
  }
  auto kept = world.resolve("/a/to_f", Last::keep);
  REQUIRE(kept);
  CHECK(kept->path == "/a/to_f");
  CHECK(kept->target == "b/f");
  CHECK(world.resolve("/a/dangling", Last::keep).has_value());
  // A slash after a symlink asks for what it leads to.
  CHECK(world.resolve("/a/to_b/", Last::keep)->attr.ino == b);

  const auto refusal = [&](std::string_view path) { return world.resolve(path).error(); };
  CHECK(refusal("/a/missing/x").code == Code::not_found);
  CHECK(refusal("/a/missing/x").detail == "/a/missing");
  CHECK(refusal("/a/dangling").detail == "/a/nowhere");
  CHECK(refusal("/a/b/f/").code == Code::not_a_directory);
  CHECK(refusal("/a/b/f/..").code == Code::not_a_directory);
  CHECK(refusal("/a/to_f/x").code == Code::not_a_directory);
  CHECK(refusal("a/b").code == Code::invalid);
  CHECK(refusal("").code == Code::invalid);
  CHECK(refusal("/" + std::string(256, 'x')).code == Code::name_too_long);
  CHECK(refusal("/" + std::string(client::kPathBytesMax, '/')).code == Code::name_too_long);
}

TEST_CASE("paths: a loop of symlinks ends") {
  TreeWorld world;
  world.link(kRoot, "x", "y");
  world.link(kRoot, "y", "/x");
  CHECK(world.resolve("/x").error().code == Code::symlink_loop);
  CHECK(world.count(FlareOp::readlink) == client::kLinksFollowedMax + 1);
  // As many as allowed are followed.
  world.file(kRoot, "end", {});
  for (unsigned i = 0; i < 40; ++i)
    world.link(kRoot, "l" + std::to_string(i), i == 39 ? "end" : "l" + std::to_string(i + 1));
  CHECK(world.resolve("/l0").has_value());
  world.link(kRoot, "one_more", "l0");
  CHECK(world.resolve("/one_more").error().code == Code::symlink_loop);
}

TEST_CASE("paths: what a lookup leaves out is asked for") {
  TreeWorld world;
  const Ino a = world.dir(kRoot, "a");
  const Ino f = world.file(a, "f", {1});
  world.link(kRoot, "l", "a/f");
  world.tells_attributes = false;
  CHECK(world.resolve("/l")->attr.ino == f);
  CHECK(world.resolve("/l", Last::keep)->target == "a/f");
  world.errors[FlareOp::getattr] = Code::io;
  auto failed = world.resolve("/a/f");
  CHECK(failed.error().code == Code::io);
  CHECK(failed.error().detail == "/a");  // with the look-up of the first name
}

TEST_CASE("paths: keys and slots that a flare keeps") {
  TreeWorld world;
  const ring::Key key = crypto::key_of_path("/somewhere/else");
  const Ino f = world.file(kRoot, "f", {});
  world.nodes[f.value].attr.placement = in_chunks(key);
  auto found = world.resolve("/f");
  REQUIRE(found);
  CHECK(found->key == key);
  CHECK(found->slot == key.slot());
  world.nodes[f.value].attr.placement.in_chunks = false;  // a directory that was renamed
  found = world.resolve("/f");
  CHECK(found->key == key);
  CHECK(found->slot == ring::home_of(f));
}

TEST_CASE("paths: a walk that is given up calls nobody") {
  TreeWorld world;
  world.dir(kRoot, "a");
  world.holds_back = {FlareOp::lookup};
  Got<Flare> got;
  {
    PathWalk walk(*world.tree);
    walk.resolve("/a/b", Last::follow, got.done());
    world.run(milliseconds(50));
    CHECK(world.first().count(FlareOp::lookup) == 1);
  }
  world.run(seconds(1));
  CHECK(got.times() == 0);
  // From within its own callback, too; and it can be used again there.
  world.holds_back.clear();
  auto walk = std::make_unique<PathWalk>(*world.tree);
  std::string seen;
  walk->resolve("/a", Last::follow, [&](Result<Flare> first) {
    seen += first ? first->path : "?";
    walk->resolve("/none", Last::follow, [&](Result<Flare> second) {
      seen += second ? "?" : " none";
      walk.reset();
    });
  });
  CHECK(world.run_until([&] { return walk == nullptr; }));
  CHECK(seen == "/a none");
}

TEST_CASE("directories: batches, dots, targets") {
  TreeWorld world;
  const Ino a = world.dir(kRoot, "a");
  world.link(a, "link", "over/there");
  for (int i = 0; i < 25; ++i)
    world.file(a, "f" + std::to_string(100 + i), Bytes(static_cast<std::size_t>(i)));
  world.entries_a_reply = 10;
  auto all = world.list("/a");
  REQUIRE(all);
  REQUIRE(all->size() == 28);
  CHECK((*all)[0].name == ".");
  CHECK((*all)[0].attr.ino == a);
  CHECK((*all)[1].name == "..");
  CHECK((*all)[1].attr.ino == kRoot);
  CHECK((*all)[6].name == "f104");
  CHECK((*all)[6].attr.size == 4);
  CHECK(all->back().name == "link");
  CHECK(all->back().target == "over/there");
  CHECK(world.count(FlareOp::readdir) == 3);

  world.tells_attributes = false;
  auto again = world.list("/a", {.with_dots = false, .with_targets = false});
  REQUIRE(again);
  CHECK(again->size() == 26);
  CHECK(again->at(4).attr.size == 4);
  CHECK(again->back().target.empty());
  CHECK(world.list("/a/f100").error().code == Code::not_a_directory);
}

TEST_CASE("directories: what goes meanwhile is left out, what fails is told") {
  TreeWorld world;
  const Ino a = world.dir(kRoot, "a");
  world.file(a, "stays", {});
  const Ino gone = world.file(a, "goes", {});
  world.tells_attributes = false;
  world.nodes.erase(gone.value);
  auto all = world.list("/a", {.with_dots = false});
  REQUIRE(all);
  CHECK(names_of(*all) == Names{"stays"});

  auto directory = world.resolve("/a");
  REQUIRE(directory);
  world.errors[FlareOp::getattr] = Code::io;
  DirectoryReader reader(*world.tree, *directory, {.with_dots = false});
  auto batch = world.next(reader);
  REQUIRE(!batch);
  CHECK(batch.error().code == Code::io);
  CHECK(batch.error().detail.starts_with("/a: '"));
  world.errors = {{FlareOp::readdir, Code::not_found}};
  DirectoryReader other(*world.tree, *directory, {});
  CHECK(world.next(other).error().code == Code::not_found);
}

TEST_CASE("directories: a listing that does not go on is no endless one") {
  TreeWorld world;
  world.dir(kRoot, "a");
  world.dir(kRoot, "b");
  world.entries_a_reply = 0;  // "there is more", but never any
  CHECK(world.list("/").error().code == Code::malformed);
}

TEST_CASE("directories: few calls at a time, none after it was given up") {
  TreeWorld world;
  const Ino a = world.dir(kRoot, "a");
  for (int i = 0; i < 100; ++i) world.file(a, "f" + std::to_string(i), {});
  auto directory = world.resolve("/a");
  REQUIRE(directory);
  world.tells_attributes = false;
  world.holds_back = {FlareOp::getattr};
  const std::size_t before = world.count(FlareOp::getattr);
  Got<DirectoryBatch> got;
  {
    DirectoryReader reader(*world.tree, *directory, {.with_dots = false});
    reader.next(got.done());
    world.run(milliseconds(100));
    CHECK(world.count(FlareOp::getattr) == before + DirectoryReader::kCallsMax);
  }
  world.run(milliseconds(100));
  CHECK(got.times() == 0);
  CHECK(world.count(FlareOp::getattr) == before + DirectoryReader::kCallsMax);
}

TEST_CASE("files: read in order, with a bound on what is ahead") {
  TreeWorld world;
  Bytes bytes(10 * wire::kIoBytesMax / 4 * 4 + 777);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i / 4096 + i);
  const Ino f = world.file(kRoot, "f", bytes);
  auto file = world.resolve("/f");
  REQUIRE(file);
  {
    FileReader reader(*world.tree, *file, {.hold_open = true, .parts_ahead = 3});
    auto part = world.next(reader);
    REQUIRE(part);
    CHECK(part->size() == wire::kIoBytesMax);
    world.run(milliseconds(200));
    CHECK(world.count(FlareOp::read) == 3);  // nobody asked for more
    auto rest = world.read_all(reader);
    REQUIRE(rest);
    part->insert(part->end(), rest->begin(), rest->end());
    CHECK((*part == bytes));
    CHECK(world.next(reader)->empty());
  }
  world.run(milliseconds(100));
  CHECK(world.count(FlareOp::open) == 1);
  CHECK(world.count(FlareOp::release) == 1);
  CHECK(!world.first().last(FlareOp::release).as<wire::ReleaseRequest>().was_read);

  // It grows while it is read.
  FileReader reader(*world.tree, *file, {.hold_open = false});
  REQUIRE(world.next(reader));
  world.nodes[f.value].bytes.resize(bytes.size() + 3 * wire::kIoBytesMax, 7);
  auto rest = world.read_all(reader);
  REQUIRE(rest);
  CHECK(rest->size() > bytes.size() - wire::kIoBytesMax);
  CHECK(world.count(FlareOp::open) == 1);
}

TEST_CASE("files: empty ones, exact ones, and what is none") {
  TreeWorld world;
  world.file(kRoot, "empty", {});
  world.file(kRoot, "exact", Bytes(wire::kIoBytesMax, 9));
  world.dir(kRoot, "d");
  world.link(kRoot, "l", "empty");
  const auto size_of = [&](std::string_view path, Last last = Last::follow) -> Result<std::size_t> {
    TRY_VALUE(Flare file, world.resolve(path, last));
    FileReader reader(*world.tree, file, {});
    TRY_VALUE(Bytes bytes, world.read_all(reader));
    return bytes.size();
  };
  CHECK(size_of("/empty") == std::size_t{0});
  CHECK(size_of("/l") == std::size_t{0});
  CHECK(size_of("/exact") == wire::kIoBytesMax);
  CHECK(size_of("/d").error().code == Code::is_a_directory);
  CHECK(size_of("/l", Last::keep).error().code == Code::invalid);
  world.errors[FlareOp::read] = Code::checksum;
  auto damaged = size_of("/exact");
  CHECK(damaged.error().code == Code::checksum);
  CHECK(damaged.error().detail == "/exact");
  world.run(milliseconds(100));
  CHECK(world.count(FlareOp::open) == world.count(FlareOp::release));
}

TEST_CASE("files: a reader that is given up releases the file and calls nobody") {
  TreeWorld world;
  world.file(kRoot, "f", Bytes(5, 1));
  auto file = world.resolve("/f");
  REQUIRE(file);
  for (FlareOp held : {FlareOp::open, FlareOp::read}) {
    world.holds_back = {held};
    Got<Bytes> got;
    {
      FileReader reader(*world.tree, *file, {});
      reader.next(got.done());
      world.run(milliseconds(20));
    }
    if (held == FlareOp::open) {  // the volcano did it all the same
      const Seen open = world.first().count(FlareOp::open) > 0 ? world.first().last(FlareOp::open)
                                                               : world.second().last(FlareOp::open);
      auto& volcano = world.first().count(FlareOp::open) > 0 ? world.first() : world.second();
      volcano.answer(open, wire::AttrReply{file->attr});
    }
    world.run(milliseconds(100));
    CHECK(got.times() == 0);
  }
  CHECK(world.count(FlareOp::open) == 2);
  CHECK(world.count(FlareOp::release) == 2);
}

TEST_CASE("paths: /.dht is there") {
  TreeWorld world;
  world.dir(kRoot, "a");
  auto all = world.list("/.dht");
  REQUIRE(all);
  CHECK(names_of(*all) == Names{".", "..", "wallace"});
  CHECK(all->at(1).attr.ino == kRoot);
  auto profile = world.resolve("/a/../.dht/wallace");
  REQUIRE(profile);
  CHECK(profile->path == "/.dht/wallace");
  CHECK(profile->key.hex() == "fa907a688b2f49dcaeba275e49564e9cbb3d6040");
  CHECK(profile->slot == profile->key.slot());
  CHECK(profile->attr.size == all->at(2).attr.size);
  FileReader reader(*world.tree, *profile, {});
  auto text = world.read_all(reader);
  REQUIRE(text);
  CHECK(as_text(*text).find("nickname = wallace\n") != std::string_view::npos);
  CHECK(text->size() == profile->attr.size);
  CHECK(world.resolve("/.dht/..")->attr.ino == kRoot);
  CHECK(world.resolve("/.dht/none").error().code == Code::not_found);
  CHECK(world.resolve("/.dht/wallace/x").error().code == Code::not_a_directory);
  CHECK(names_of(*world.list("/", {.with_dots = false})) == Names{".dht", "a"});
  CHECK(names_of(*world.list("/", {.with_dots = false, .with_profiles = false})) == Names{"a"});
}
