// Requests and responses over a network that loses, doubles, reorders, delays and damages.
#include "tests/unit/rpc_fixture.h"

namespace magma::rpc::test {
namespace {

struct Asked {
  RequestId id;
  std::uint64_t seed;
  std::uint32_t response_size;
  std::size_t request_size;
};

std::size_t any_size(SimRandom& random, std::size_t max) {
  switch (random.below(4)) {
    case 0: return random.below(100);
    case 1: return random.below(3000);
    case 2: return random.below(100'000);
    default: return random.below(max + 1);
  }
}

void exchange_all(Pair& pair, std::uint64_t seed, int count, std::size_t size_max) {
  SimRandom random(seed);
  std::vector<Asked> asked;
  for (int i = 0; i < count; ++i) {
    Asked a{.id = {},
            .seed = random.next_word(),
            .response_size = static_cast<std::uint32_t>(any_size(random, size_max)),
            .request_size = 12 + any_size(random, size_max)};
    a.id = pair.ask(a.seed, a.response_size, a.request_size, Instant::never(),
                    static_cast<Priority>(random.below(kPriorities)));
    asked.push_back(a);
    if (random.chance(0.3)) pair.network.run_for(microseconds(random.between(1, 20000)));
  }
  const bool done = pair.network.run_until(
      [&] { return pair.client.answer_count == asked.size(); }, seconds(300));
  CHECK(done);
  CHECK(pair.client.closed.empty());
  CHECK(pair.server.requests.size() == asked.size());
  std::map<std::uint64_t, const Bytes*> seen;
  for (const auto& r : pair.server.requests) CHECK(seen.emplace(r.id.value, &r.message).second);
  for (const Asked& a : asked) {
    const Node::Answer* answer = pair.client.answer(pair.connection, a.id);
    REQUIRE(answer != nullptr);
    CHECK(answer->times == 1);
    REQUIRE(answer->result.has_value());
    CHECK(*answer->result == pattern(a.seed, a.response_size));
    REQUIRE(seen.contains(a.id.value));
    const Bytes& request = *seen[a.id.value];
    CHECK(request.size() == a.request_size);
    CHECK(Bytes(request.begin() + 12, request.end()) ==
          pattern(a.seed ^ 0xabcdef, a.request_size - 12));
  }
}

}  // namespace

TEST_CASE("rpc: requests are answered on a clean network") {
  for (bool near : {false, true}) {
    CAPTURE(near);
    Pair pair(7, near ? kNearServer : kServer, near ? kNearClient : kClient);
    REQUIRE(pair.connect());
    exchange_all(pair, 1, 40, 1 << 20);
    CHECK(pair.client.endpoint->counters().packets_lost == 0);
  }
}

TEST_CASE("rpc: every request is answered once and rightly on a bad network") {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    SimRandom random(seed);
    const bool near = seed % 3 == 0;
    Pair pair(seed, near ? kNearServer : kServer, near ? kNearClient : kClient);
    pair.network.set_faults({.loss = random.unit() * 0.2,
                             .duplicate = random.unit() * 0.1,
                             .reorder = random.unit() * 0.2,
                             .corrupt = random.unit() * 0.05,
                             .delay = microseconds(random.between(10, 5000)),
                             .jitter = microseconds(random.between(0, 500))});
    REQUIRE(pair.connect());
    exchange_all(pair, seed, 25, near ? 1 << 20 : 200'000);
  }
}

TEST_CASE("rpc: a quiet exchange costs two packets") {
  Pair pair(3);
  REQUIRE(pair.connect());
  pair.network.run_for(milliseconds(100));
  for (int i = 0; i < 20; ++i) {
    const auto before = pair.network.datagrams_sent();
    const auto id = pair.ask(static_cast<std::uint64_t>(i), 64, 64);
    REQUIRE(pair.network.run_until(
        [&] { return pair.client.answer(pair.connection, id) != nullptr; }, seconds(1)));
    CHECK(pair.network.datagrams_sent() - before == 2);
  }
}

TEST_CASE("rpc: urgent messages overtake bulk") {
  Pair pair(5);
  pair.network.set_faults({.delay = milliseconds(1)});
  REQUIRE(pair.connect());
  std::vector<RequestId> bulk;
  for (std::uint64_t i = 0; i < 8; ++i)
    bulk.push_back(pair.ask(i, 10, 1 << 20, Instant::never(), Priority::background));
  pair.network.run_for(milliseconds(3));
  const auto urgent = pair.ask(99, 10, 64, Instant::never(), Priority::heartbeat);
  REQUIRE(pair.network.run_until(
      [&] { return pair.client.answer(pair.connection, urgent) != nullptr; }, milliseconds(60)));
  CHECK(pair.client.answer(pair.connection, bulk.back()) == nullptr);
}

TEST_CASE("rpc: a loss does not put a message behind what was asked later") {
  Pair pair(6);
  REQUIRE(pair.connect());
  pair.network.set_faults({.loss = 0.1, .delay = milliseconds(1)});
  std::vector<RequestId> all;
  for (std::uint64_t i = 0; i < 64; ++i)
    all.push_back(pair.ask(i, 10, 60'000, Instant::never(), Priority::data));
  std::size_t size = 0;
  for (RequestId request : all)
    size += pair.client.endpoint->unacknowledged(pair.connection, request);
  CHECK(size == 64 * 60'000);
  const auto is_answered = [&](RequestId request) {
    return pair.client.answer(pair.connection, request) != nullptr;
  };
  REQUIRE(pair.network.run_until([&] { return is_answered(all[15]); }, seconds(60)));
  for (std::size_t i = 0; i < 12; ++i) CHECK(is_answered(all[i]));
  CHECK(pair.client.answer_count < 32);
  CHECK(pair.client.endpoint->unacknowledged(pair.connection, all[0]) == 0);
  CHECK(pair.client.endpoint->unacknowledged(pair.connection, all[63]) == 60'000);
  REQUIRE(pair.network.run_until([&] { return pair.client.answer_count == 64; }, seconds(60)));
}

TEST_CASE("rpc: limits") {
  auto server_config = config_of(true, keys_of(1));
  server_config.limits.message_bytes_max = 100'000;
  server_config.limits.requests_in_flight_max = 4;
  server_config.limits.incoming_bytes_max = 150'000;
  Pair pair(11, server_config, config_of(false, keys_of(1)));
  REQUIRE(pair.connect());

  SUBCASE("a message longer than the peer takes is refused") {
    const auto id = pair.ask(1, 10, 100'001);
    CHECK(pair.client.answer(pair.connection, id) == nullptr);  // not from within the call
    pair.network.run_for(milliseconds(1));
    REQUIRE(pair.client.answer(pair.connection, id) != nullptr);
    CHECK(pair.client.answer(pair.connection, id)->result.error().code == Code::too_long);
  }
  SUBCASE("more requests than the peer takes are refused") {
    pair.server.on_request_hook = nullptr;
    std::vector<RequestId> ids;
    for (std::uint64_t i = 0; i < 5; ++i) ids.push_back(pair.ask(i, 10));
    pair.network.run_for(milliseconds(100));
    CHECK(pair.client.answers.size() == 1);
    REQUIRE(pair.client.answer(pair.connection, ids[4]) != nullptr);
    CHECK(pair.client.answer(pair.connection, ids[4])->result.error().code == Code::overloaded);
    pair.answer_pattern(pair.server.requests[0]);
    pair.network.run_for(milliseconds(100));
    const auto next = pair.ask(9, 10);
    pair.network.run_for(milliseconds(100));
    CHECK(pair.client.answer(pair.connection, next) == nullptr);
    CHECK(pair.server.requests.size() == 5);
  }
  SUBCASE("long messages wait for grants when there is no room, and all arrive") {
    std::vector<RequestId> ids;
    for (std::uint64_t i = 0; i < 4; ++i) ids.push_back(pair.ask(i, 10, 99'000));
    REQUIRE(pair.network.run_until([&] { return pair.client.answer_count == 4; }, seconds(20)));
    for (const auto id : ids) CHECK(pair.client.answer(pair.connection, id)->result.has_value());
  }
}

TEST_CASE("rpc: cancel and deadline") {
  Pair pair(13);
  REQUIRE(pair.connect());
  pair.server.on_request_hook = nullptr;
  SUBCASE("cancel") {
    const auto id = pair.ask(1, 10);
    pair.network.run_for(milliseconds(10));
    pair.client.endpoint->cancel(pair.connection, id);
    REQUIRE(pair.client.answer(pair.connection, id) != nullptr);
    CHECK(pair.client.answer(pair.connection, id)->result.error().code == Code::cancelled);
    pair.network.run_for(milliseconds(10));
    REQUIRE(pair.server.cancelled.size() == 1);
    CHECK(pair.server.cancelled[0] == pair.server.requests[0].id);
    pair.answer_pattern(pair.server.requests[0]);  // too late: ignored
    pair.network.run_for(seconds(1));
    CHECK(pair.client.answer(pair.connection, id)->times == 1);
  }
  SUBCASE("a request cancelled before it was sent never arrives") {
    const auto id = pair.ask(1, 10);
    pair.client.endpoint->cancel(pair.connection, id);
    pair.network.run_for(seconds(1));
    CHECK(pair.server.requests.empty());
    pair.server.on_request_hook = [&](const Node::Request& r) { pair.answer_pattern(r); };
    const auto next = pair.ask(2, 10);
    pair.network.run_for(seconds(1));
    CHECK(pair.client.answer(pair.connection, next)->result.has_value());
  }
  SUBCASE("deadline") {
    const Instant at = pair.clock.now() + milliseconds(250);
    const auto id = pair.ask(1, 10, 12, at);
    pair.network.run_for(seconds(1));
    REQUIRE(pair.client.answer(pair.connection, id) != nullptr);
    CHECK(pair.client.answer(pair.connection, id)->result.error().code == Code::timeout);
    CHECK(pair.client.answer(pair.connection, id)->at == at);
    CHECK(pair.server.cancelled.size() == 1);
  }
}

TEST_CASE("rpc: keys change while messages flow") {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    auto server_config = config_of(true, keys_of(1));
    auto client_config = config_of(false, keys_of(1));
    server_config.rekey_packets = client_config.rekey_packets = 20;
    Pair pair(seed, server_config, client_config);
    pair.network.set_faults({.loss = 0.1, .duplicate = 0.1, .reorder = 0.2});
    REQUIRE(pair.connect());
    exchange_all(pair, seed, 60, 100'000);
    CHECK(pair.client.endpoint->counters().rekeys > 10);
    CHECK(pair.server.endpoint->counters().rekeys > 10);
  }
}

TEST_CASE("rpc: both sides may call") {
  Pair pair(17);
  REQUIRE(pair.connect());
  pair.network.run_for(milliseconds(10));
  REQUIRE(pair.server.connected.size() == 1);
  const auto back = pair.server.connected[0].first;
  pair.client.on_request_hook = [&](const Node::Request& r) {
    pair.client.endpoint->reply(r.connection, r.id, {.head = r.message, .tail = {}},
                                Priority::metadata);
  };
  const auto there = pair.ask(1, 5000);
  const auto here =
      pair.server.endpoint->call(back, {.head = pattern(4, 3000), .tail = {}},
                                 Priority::data, Instant::never());
  pair.network.run_for(milliseconds(100));
  CHECK(*pair.client.answer(pair.connection, there)->result == pattern(1, 5000));
  CHECK(*pair.server.answer(back, here)->result == pattern(4, 3000));
}

}  // namespace magma::rpc::test
