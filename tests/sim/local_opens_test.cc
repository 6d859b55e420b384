// Files that a client opens for reading without asking (client/local_opens.h): whoever removes one
// meanwhile, its bytes stay until it is closed.
#include <doctest/doctest.h>

#include "tests/sim/scenario.h"

using namespace magma;
using namespace magma::test;

namespace {

const Ino kRoot = root_ino();

template <class T>
bool is_gone(const Result<T>& answer) {
  return !answer && (answer.error().code == Code::stale || answer.error().code == Code::not_found);
}

Result<wire::Attr> open_to_read(Scenario& s, Ino ino, unsigned client) {
  return ask<wire::Attr>(s.cluster(), client, [&](auto& c, auto answer) {
    c.open(ino, false, false, {}, std::move(answer));
  });
}

// `client` has looked the file up, and has opened it on its own.
void open_locally(Scenario& s, Ino dir, const std::string& name, Ino ino, unsigned client) {
  REQUIRE(s.lookup(dir, name, client).has_value());
  const auto before = s.cluster().client(client).stats().local_opens;
  REQUIRE(open_to_read(s, ino, client).has_value());
  REQUIRE(s.cluster().client(client).stats().local_opens == before + 1);
}

void close(Scenario& s, Ino ino, unsigned client) {
  s.release(ino, false, client);
  s.cluster().run_for(seconds(6));  // a name that was replaced or is another volcano's takes longer
  CHECK(is_gone(s.getattr(ino, client)));
}

}  // namespace

TEST_CASE("local opens: a file that is removed lives until it is closed") {
  for (const Ring& ring : kRings)
    for (const bool is_replaced : {false, true})
      for (const unsigned remover : {0u, 1u}) {  // another client, the same one
        CAPTURE(ring.name);
        CAPTURE(is_replaced);
        CAPTURE(remover);
        Scenario s(31, 2, ring.mirrors, ring.parts);
        const Ino file = s.make_file(kRoot, "file", pattern(200'000));
        s.make_file(kRoot, "other", pattern(10));
        open_locally(s, kRoot, "file", file, 1);
        CHECK(s.cluster().client(1).stats().keeps == 0);
        if (is_replaced)
          REQUIRE(s.rename(kRoot, "other", kRoot, "file", remover).has_value());
        else
          REQUIRE(s.unlink(kRoot, "file", remover).has_value());
        s.cluster().run_for(seconds(8));
        CHECK(s.cluster().client(1).stats().keeps == 1);
        CHECK(s.read(file, 0, 200'000, 1).value() == pattern(200'000));
        close(s, file, 1);
      }
}

TEST_CASE("local opens: a client that is slow to hear of the removal keeps its file") {
  Scenario s(33, 2);
  const Ino file = s.make_file(kRoot, "file", pattern(50'000));
  open_locally(s, kRoot, "file", file, 1);
  s.cluster().partition_client(1, true);
  std::optional<Result<wire::EmptyReply>> removed;
  s.cluster().client(0).unlink(kRoot, "file", {}, [&](Result<wire::EmptyReply> answer) {
    removed = std::move(answer);
  });
  s.cluster().touch_client(0);
  s.cluster().run_for(seconds(2));
  CHECK_FALSE(removed.has_value());
  s.cluster().partition_client(1, false);
  s.cluster().run_for(seconds(2));
  REQUIRE(removed.has_value());
  CHECK(removed->has_value());
  CHECK(s.read(file, 0, 50'000, 1).value() == pattern(50'000));
  close(s, file, 1);
}

TEST_CASE("local opens: the volcano is killed before the client has told") {
  Scenario s(34, 2);
  const Ino file = s.make_file(kRoot, "file", pattern(50'000));
  s.cluster().run_for(seconds(2));  // what was made is on the disk
  open_locally(s, kRoot, "file", file, 1);
  s.cluster().partition_client(1, true);
  s.cluster().client(0).unlink(kRoot, "file", {}, [](Result<wire::EmptyReply>) {});
  s.cluster().touch_client(0);
  s.cluster().run_for(milliseconds(500));
  s.crash(Crash::kill);
  s.restart();
  s.cluster().partition_client(1, false);
  s.cluster().run_for(seconds(8));
  CHECK(is_gone(s.lookup(kRoot, "file")));
  CHECK(s.read(file, 0, 50'000, 1).value() == pattern(50'000));
  close(s, file, 1);
}

TEST_CASE("local opens: of a long-lived one the volcano is told before its token ends") {
  Scenario s(35, 2);
  const Ino file = s.make_file(kRoot, "file", pattern(50'000));
  open_locally(s, kRoot, "file", file, 1);
  s.cluster().run_for(wire::kTokenTerm);
  CHECK(s.cluster().client(1).stats().keeps == 1);
  REQUIRE(s.unlink(kRoot, "file").has_value());
  CHECK(s.read(file, 0, 50'000, 1).value() == pattern(50'000));
  close(s, file, 1);
}

TEST_CASE("local opens: nobody who has not opened it keeps a removed file") {
  Scenario s(36, 2);
  const Ino file = s.make_file(kRoot, "file", pattern(50'000));
  open_locally(s, kRoot, "file", file, 1);
  s.release(file, false, 1);
  CHECK(s.cluster().client(1).stats().keeps == 0);
  REQUIRE(s.lookup(kRoot, "file", 1).has_value());
  REQUIRE(s.unlink(kRoot, "file").has_value());
  CHECK(is_gone(s.getattr(file)));  // at once: the other has confirmed
}

TEST_CASE("local opens: what it was told is as of the last change, also a change of its own") {
  Scenario s(37, 2);
  const Ino file = s.make_file(kRoot, "file", pattern(1'000));
  open_locally(s, kRoot, "file", file, 1);
  REQUIRE(s.write(file, 1'000, pattern(500), 0).has_value());
  auto seen = open_to_read(s, file, 1);
  REQUIRE(seen.has_value());
  CHECK(seen->size == 1'500);
  REQUIRE(s.write(file, 1'500, pattern(500), 1).has_value());
  seen = open_to_read(s, file, 1);
  REQUIRE(seen.has_value());
  CHECK(seen->size == 2'000);
}
