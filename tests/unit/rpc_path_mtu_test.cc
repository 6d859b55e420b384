// How large packets to a peer are: the search alone, then two endpoints over paths of several
// sizes, paths that narrow and paths that widen.
#include "libmagma/rpc/path_mtu.h"

#include "tests/unit/rpc_fixture.h"

namespace magma::rpc::test {
namespace {

constexpr Duration kRoundTrip = milliseconds(1);

// Answers probes as a path of `path` bytes does, until none is due; how many were sent.
unsigned search(PathMtu& mtu, std::size_t path, Instant now) {
  unsigned probes = 0;
  while (const auto bytes = mtu.probe_due(now)) {
    ++probes;
    mtu.on_probe_sent();
    CHECK_FALSE(mtu.probe_due(now));  // one at a time
    *bytes <= path ? mtu.on_probe_acked(*bytes, now) : mtu.on_probe_lost(*bytes, now);
    REQUIRE(probes < 100);
  }
  return probes;
}

struct Sizes {
  std::size_t path;
  std::size_t at_least;
  unsigned probes_max;
};

}  // namespace

TEST_CASE("rpc: the search finds what the path takes") {
  for (const bool is_v4 : {true, false}) {
    for (const Sizes& s : {Sizes{1200, 1200, 15}, Sizes{1232, 1200, 15}, Sizes{1252, 1216, 15},
                           Sizes{1392, 1350, 15}, Sizes{1452, 1410, 30}, Sizes{1472, 1452, 30},
                           Sizes{4324, 4190, 30}, Sizes{8952, 8720, 30}, Sizes{8972, 8952, 3}}) {
      CAPTURE(is_v4);
      CAPTURE(s.path);
      PathMtu mtu({.bytes_max = 8972, .is_v4 = is_v4, .is_known = false});
      CHECK(mtu.bytes() == PathMtu::kBaseBytes);
      CHECK(search(mtu, s.path, Instant{0}) <= s.probes_max);
      CHECK(mtu.bytes() >= s.at_least);
      CHECK(mtu.bytes() <= s.path);
    }
  }
}

TEST_CASE("rpc: the search never goes beyond what both take") {
  for (const std::size_t most : {1200u, 1300u, 1400u, 1472u, 9000u, 65507u}) {
    PathMtu mtu({.bytes_max = most, .is_v4 = true, .is_known = false});
    search(mtu, 65507, Instant{0});
    CHECK(mtu.bytes() <= most);
    CHECK(mtu.bytes() * 33 >= most * 32);
  }
}

TEST_CASE("rpc: one lost probe says nothing, three do, and the kernel's refusal does at once") {
  PathMtu mtu({.bytes_max = 8972, .is_v4 = true, .is_known = false});
  for (int i = 0; i < 2; ++i) {
    CHECK(mtu.probe_due(Instant{0}) == 1472);
    mtu.on_probe_sent();
    mtu.on_probe_lost(1472, Instant{0});
  }
  CHECK(mtu.probe_due(Instant{0}) == 1472);
  mtu.on_probe_sent();
  mtu.on_probe_acked(1472, Instant{0});
  CHECK(mtu.bytes() == 1472);
  CHECK(mtu.probe_due(Instant{0}) == 8972);
  mtu.on_probe_refused(8972, Instant{0});
  CHECK(mtu.probe_due(Instant{0}) == 1472 + (8972 - 1472) / 2);
}

TEST_CASE("rpc: a path that has become wider is found after the raise timer") {
  PathMtu mtu({.bytes_max = 8972, .is_v4 = true, .is_known = false});
  search(mtu, 1472, Instant{0});
  CHECK(mtu.bytes() == 1472);
  CHECK(mtu.deadline() == Instant{0} + PathMtu::kRaiseAfter);
  CHECK_FALSE(mtu.probe_due(mtu.deadline() + nanoseconds(-1)));
  search(mtu, 8972, mtu.deadline());
  CHECK(mtu.bytes() == 8972);
}

TEST_CASE("rpc: a black hole is large packets lost in four rounds while none comes through") {
  PathMtu mtu({.bytes_max = 8972, .is_v4 = true, .is_known = false});
  search(mtu, 8972, Instant{0});
  auto lost = [&](std::size_t bytes, Duration at) {
    return mtu.on_lost(bytes, Instant{0} + at, kRoundTrip, Instant{0} + at + kRoundTrip);
  };
  SUBCASE("four rounds") {
    CHECK_FALSE(lost(8972, milliseconds(8)));
    CHECK_FALSE(lost(8972, milliseconds(10)));
    CHECK_FALSE(lost(8972, milliseconds(10)));  // of the same round
    mtu.on_acked(1400);
    CHECK_FALSE(lost(3000, milliseconds(12)));
    mtu.on_acked(2999);
    CHECK(lost(8972, milliseconds(14)));
    CHECK(mtu.bytes() == PathMtu::kBaseBytes);
    CHECK(mtu.probe_due(Instant{0}) == 1472);
  }
  SUBCASE("a burst of losses is one round") {
    for (int i = 0; i < 1000; ++i) CHECK_FALSE(lost(8972, milliseconds(10)));
  }
  SUBCASE("a large packet that arrives proves the path") {
    for (int i = 0; i < 100; ++i) {
      CHECK_FALSE(lost(8972, milliseconds(10 * i)));
      CHECK_FALSE(lost(8972, milliseconds(10 * i + 5)));
      mtu.on_acked(8972);
    }
  }
  SUBCASE("small packets may be lost for ever") {
    for (int i = 0; i < 100; ++i) CHECK_FALSE(lost(1200, milliseconds(10 * i)));
  }
}

TEST_CASE("rpc: loopback starts with its largest and comes back to it after one probe") {
  PathMtu mtu({.bytes_max = 65507, .is_v4 = true, .is_known = true});
  CHECK(mtu.bytes() == 65507);
  CHECK_FALSE(mtu.probe_due(Instant{0}));
  for (int i = 0; i < 4; ++i)
    mtu.on_lost(65507, Instant{0} + milliseconds(10 * i), kRoundTrip, Instant{0});
  CHECK(mtu.bytes() == PathMtu::kBaseBytes);
  CHECK(search(mtu, 65507, Instant{0}) == 1);
  CHECK(mtu.bytes() == 65507);
}

TEST_CASE("rpc: endpoints use what the path takes, and no packet is larger than they know") {
  for (const std::size_t path : {1200u, 1252u, 1472u, 8972u}) {
    CAPTURE(path);
    Pair pair(path);
    pair.network.set_faults({.delay = microseconds(100), .mtu = path});
    REQUIRE(pair.connect());
    pair.ask(1, 100'000, 100'000);
    pair.network.run_for(seconds(2));
    CHECK(pair.client.answer_count == 1);
    const std::size_t found = pair.client.endpoint->datagram_bytes(pair.connection);
    CHECK(found <= path);
    CHECK(found * 33 >= path * 32);
    CHECK(pair.server.endpoint->datagram_bytes(pair.server.connected[0].first) == found);
    // The search itself is no congestion, and afterwards nothing is lost to the path's size.
    const auto dropped = pair.network.datagrams_dropped();
    pair.ask(2, 1 << 20, 1 << 20);
    pair.network.run_for(seconds(5));
    CHECK(pair.client.answer_count == 2);
    CHECK(pair.network.datagrams_dropped() == dropped);
    CHECK(pair.client.endpoint->counters().packets_lost == 0);
    CHECK(pair.server.endpoint->counters().packets_lost == 0);
  }
}

TEST_CASE("rpc: messages under way come through a path that narrows") {
  for (const bool near : {false, true}) {
    CAPTURE(near);
    Pair pair(21, near ? kNearServer : kServer, near ? kNearClient : kClient);
    pair.network.set_faults({.delay = milliseconds(1)});
    REQUIRE(pair.connect());
    pair.network.run_for(seconds(1));
    const std::size_t before = pair.client.endpoint->datagram_bytes(pair.connection);
    CHECK(before == (near ? 65507u : 8972u));
    // Some of it whole in one packet of the old size, some in parts.
    std::vector<std::pair<RequestId, std::uint32_t>> asked;
    for (std::uint32_t i = 0; i < 40; ++i) {
      const std::uint32_t size = i % 4 == 0 ? 800'000 : 5000 + i;
      asked.emplace_back(pair.ask(i, size, size), size);
    }
    pair.network.run_for(milliseconds(2));
    CHECK(pair.client.answer_count < 40);
    pair.network.set_faults({.delay = milliseconds(1), .mtu = 1300});
    CHECK(pair.network.run_until([&] { return pair.client.answer_count == 40; }, seconds(15)));
    CHECK(pair.client.closed.empty());
    for (std::uint32_t i = 0; i < asked.size(); ++i) {
      const Node::Answer* answer = pair.client.answer(pair.connection, asked[i].first);
      REQUIRE(answer != nullptr);
      REQUIRE(answer->result.has_value());
      CHECK(*answer->result == pattern(i, asked[i].second));
    }
    CHECK(pair.client.endpoint->counters().path_shrinks > 0);
    CHECK(pair.server.endpoint->counters().path_shrinks > 0);
    pair.network.run_for(seconds(5));
    CHECK(pair.client.endpoint->datagram_bytes(pair.connection) <= 1300);
    CHECK(pair.client.endpoint->datagram_bytes(pair.connection) >= 1260);
    // And it widens again.
    pair.network.set_faults({.delay = milliseconds(1)});
    pair.network.run_for(PathMtu::kRaiseAfter + seconds(1));
    CHECK(pair.client.endpoint->datagram_bytes(pair.connection) == before);
  }
}

TEST_CASE("rpc: loss alone is not taken for a narrow path") {
  unsigned shrinks = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Pair pair(seed);
    REQUIRE(pair.connect());
    pair.network.run_for(seconds(1));
    pair.network.set_faults({.loss = 0.1, .delay = milliseconds(1)});
    for (std::uint32_t i = 0; i < 20; ++i) pair.ask(i, 100'000, 100'000);
    pair.network.run_for(seconds(20));
    CHECK(pair.client.answer_count == 20);
    shrinks += static_cast<unsigned>(pair.client.endpoint->counters().path_shrinks +
                                     pair.server.endpoint->counters().path_shrinks);
  }
  CHECK(shrinks <= 2);
}

}  // namespace magma::rpc::test
