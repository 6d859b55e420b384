// What a volcano answers when it is asked for itself: who may ask what, status and its census,
// sync, the console's long poll with a made-up console behind it.
#include <doctest/doctest.h>

#include <map>

#include "libmagma/ring/map_commands.h"
#include "magmad/host_requests.h"
#include "magmad/volcano.h"
#include "tests/unit/core_fixture.h"

using namespace magma;
using namespace magma::test;

namespace {

constexpr std::uint64_t kClient = 1;  // connections
constexpr std::uint64_t kRing = 2;

// Says back what it is told; "bye" ends the talk.
struct EchoConsole final : ConsoleGateway {
  struct Talk {
    std::string who;
    UniqueFunction<void()> changed;
    std::string output = "hello> ";
    bool has_ended = false;
  };
  Result<void> open(TalkId talk, std::string_view who, UniqueFunction<void()> changed) override {
    if (is_full) return fail(Code::overloaded);
    talks[talk] = Talk{std::string(who), std::move(changed)};
    return {};
  }
  void input(TalkId talk, ByteSpan bytes) override {
    Talk& one = talks.at(talk);
    one.output += as_text(bytes);
    one.has_ended = as_text(bytes) == "bye";
  }
  bool wants_input(TalkId) const override { return !is_deaf; }
  Bytes take_output(TalkId talk, std::size_t bytes_max) override {
    std::string& output = talks.at(talk).output;
    const std::string taken = output.substr(0, bytes_max);
    output.erase(0, taken.size());
    return Bytes(taken.begin(), taken.end());
  }
  bool has_ended(TalkId talk) const override {
    return talks.at(talk).has_ended && talks.at(talk).output.empty();
  }
  void close(TalkId talk) override {
    talks.erase(talk);
    ++closed;
  }
  void say(std::string_view text) {
    talks.begin()->second.output += text;
    talks.begin()->second.changed();
  }
  std::map<TalkId, Talk> talks;
  bool is_full = false;
  bool is_deaf = false;
  int closed = 0;
};

struct HostBench : ShardBench {
  HostBench() {
    config.nick = "wallace";
    config.fqdn = "wallace.local";
    config.address = sys::Address::v4(127, 0, 0, 1, 12000);
    config.filesystem.fill(9);
    send_answer = [this](Answer answer) { answers[answer.target.request] = std::move(answer); };
    host =
        std::make_unique<HostRequests>(config, clock(), *shard, metadata(), content(), send_answer);
    rpc::PeerInfo peer;
    peer.address = sys::Address::v4(10, 0, 0, 7, 4000);
    host->on_connected(kClient, peer);
    peer.role = crypto::Role::ring;
    host->on_connected(kRing, peer);
  }

  // Asks; the number of the request.
  template <class Message>
  std::uint64_t ask_host(std::uint64_t connection, const Message& message, ByteSpan more = {}) {
    auto request = std::make_unique<Request>();
    request->head.op = static_cast<std::uint16_t>(wire::OpOf<Message>::op);
    request->target = {connection, ++asked};
    Bytes body = wire::encode(message);  // gone after the call, as a packet is
    body.insert(body.end(), more.begin(), more.end());
    request->body = body;
    host->handle(std::move(request));
    return asked;
  }
  template <class Message>
  Result<typename wire::OpOf<Message>::Reply> answer_to(std::uint64_t number) {
    REQUIRE(answers.contains(number));
    const Answer& answer = answers[number];
    if (!answer.ok) return fail(answer.code);
    auto reply = wire::decode<typename wire::OpOf<Message>::Reply>(answer.body);
    REQUIRE(reply);
    return *reply;
  }
  template <class Message>
  auto get(std::uint64_t connection, const Message& message) {
    return answer_to<Message>(ask_host(connection, message));
  }
  std::uint64_t talk(Bytes input = {}, bool is_end = false, std::uint64_t number = 5) {
    return ask_host(kRing, wire::ConsoleRequest{number, std::move(input), is_end});
  }
  std::string output_of(std::uint64_t number) {
    auto reply = answer_to<wire::ConsoleRequest>(number);
    REQUIRE(reply);
    return std::string(as_text(reply->output)) + (reply->has_ended ? "." : "");
  }

  VolcanoConfig config;
  UniqueFunction<void(Answer)> send_answer;
  std::map<std::uint64_t, Answer> answers;  // by request
  std::uint64_t asked = 0;
  EchoConsole console;
  std::unique_ptr<HostRequests> host;
};

Bytes bytes_of(std::string_view text) { return Bytes(text.begin(), text.end()); }

}  // namespace

TEST_CASE("host: status tells of volcano, sessions and counters, to any role") {
  HostBench bench;
  bench.host->add_counters([](CounterList& list) { list.push_back({"test.made_up", 12}); });
  bench.skip(seconds(3));
  auto status = bench.get(kClient, wire::StatusRequest{});
  REQUIRE(status);
  CHECK(status->nick == "wallace");
  CHECK(status->address == "127.0.0.1:12000");
  CHECK(status->filesystem == bench.config.filesystem);
  CHECK(status->uptime_ns == 3'000'000'000);
  CHECK(status->epoch == bench.shard->epoch_of(ring::Slot(0)));
  CHECK(status->space_total > 0);
  CHECK(status->space_available <= status->space_free);
  CHECK(status->sessions_total == 1);
  REQUIRE(status->sessions.size() == 1);
  CHECK(status->sessions[0].host == "test");
  CHECK(status->sessions[0].address == "10.0.0.7:4000");
  CHECK(status->sessions[0].role == "client");
  CHECK(status->sessions[0].quiet_ns == 3'000'000'000);
  REQUIRE(status->counters.size() == 1);
  CHECK(status->counters[0].name == "test.made_up");
  // A session that has not come back since a restart is known, its address is not.
  bench.host->on_closed(kClient);
  auto later = bench.get(kRing, wire::StatusRequest{});
  CHECK(later->sessions[0].address.empty());
  CHECK(later->sessions[0].host == "test");
}

TEST_CASE("host: the ring is told as the node knows it, with any key") {
  HostBench bench;
  CHECK(bench.get(kClient, wire::RingRequest{}).error().code == Code::not_found);
  node::RingView view;
  ring::LavaMap map;
  REQUIRE(ring::apply_command(map, ring::Found{.profile = {.nick = "wallace",
                                                           .fqdn = "wallace.example.org",
                                                           .flare = "127.0.0.1:12000",
                                                           .node = "127.0.0.1:12001"}}));
  view.map = std::make_shared<const ring::LavaMap>(map);
  view.self = view.leader = ring::kFounder;
  view.is_coordinator = true;
  bench.host->set_ring(std::make_shared<const node::RingView>(view));
  auto told = bench.get(kClient, wire::RingRequest{});
  REQUIRE(told);
  CHECK(told->coordinator == 1);
  REQUIRE(told->volcanoes.size() == 1);
  CHECK(told->volcanoes[0].has_census);
  CHECK(told->volcanoes[0].keys == 1);
  CHECK(told->volcanoes[0].space_total > 0);
}

TEST_CASE("host: the census counts flares, keys and bytes") {
  HostBench bench;
  REQUIRE(bench.mkdir(bench.root(), "d", "/d"));
  auto small = bench.create(bench.root(), "small");
  REQUIRE(small);
  CHECK(bench.write(small->ino, 0, std::string(5000, 'x')) == Code{});
  auto large = bench.create(bench.root(), "large");
  REQUIRE(large);
  CHECK(bench.write(large->ino, 0, std::string(200'000, 'y')) == Code{});
  bench.rest();
  auto status = bench.get(kClient, wire::StatusRequest{});
  REQUIRE(status->census.is_complete);
  CHECK(status->census.inodes == 4);
  CHECK(status->census.keys == 3);  // the root, d, large
  CHECK(status->census.bytes == 205'000);
  CHECK(bench.host->deadline() == Instant::never());
  // It is believed for a minute.
  REQUIRE(bench.mkdir(bench.root(), "e", "/e"));
  CHECK(bench.get(kClient, wire::StatusRequest{})->census.inodes == 4);
  bench.skip(HostRequests::kCensusFresh);
  CHECK(bench.get(kClient, wire::StatusRequest{})->census.inodes == 5);
}

TEST_CASE("host: a long census goes on in small steps and nobody waits for it") {
  HostBench bench;
  for (int i = 0; i < 3000; ++i) REQUIRE(bench.create(bench.root(), "f" + std::to_string(i)));
  auto first = bench.get(kClient, wire::StatusRequest{});
  CHECK(!first->census.is_complete);
  CHECK(first->census.inodes <= HostRequests::kCensusRowsFirst);
  CHECK(first->census.inodes > 0);
  int steps = 0;
  while (bench.host->deadline() != Instant::never()) {
    REQUIRE(++steps < 100);
    CHECK(bench.host->deadline() == bench.clock().now() + HostRequests::kCensusEvery);
    bench.skip(HostRequests::kCensusEvery);
    bench.host->on_timer();
  }
  CHECK(steps >= 2);
  auto second = bench.get(kClient, wire::StatusRequest{});
  CHECK(second->census.is_complete);
  CHECK(second->census.inodes == 3001);
}

TEST_CASE("host: sync is answered when all is on stable storage") {
  HostBench bench;
  auto file = bench.create(bench.root(), "f");
  REQUIRE(file);
  CHECK(bench.write(file->ino, 0, std::string(30'000, 'x')) == Code{});
  const std::uint64_t request = bench.ask_host(kClient, wire::SyncRequest{});
  CHECK(!bench.answers.contains(request));
  bench.settle();
  CHECK(bench.answer_to<wire::SyncRequest>(request));
  for (unsigned database = 0; database < store::kDatabases; ++database)
    CHECK(bench.metadata().is_durable(database));
  bench.host.reset();
  bench.power_cut(3);
  CHECK(bench.read(file->ino, 0, 30'000).value() == std::string(30'000, 'x'));
}

TEST_CASE("host: shutdown needs the network key") {
  HostBench bench;
  auto refused = bench.get(kClient, wire::ShutdownRequest{"mallory"});
  CHECK(refused.error().code == Code::permission);
  CHECK(!bench.host->stop_wanted());
  CHECK(bench.get(kRing, wire::ShutdownRequest{"root\n\"x\""}));
  CHECK(bench.host->stop_wanted());
}

TEST_CASE("host: what makes no sense, and who is not connected") {
  HostBench bench;
  const std::uint64_t longer = bench.ask_host(kRing, wire::StatusRequest{}, bytes_of("x"));
  CHECK(bench.answer_to<wire::StatusRequest>(longer).error().code == Code::malformed);
  CHECK(bench.get(kRing, wire::ConsoleRequest{0, {}, false}).error().code == Code::malformed);
  const std::uint64_t stranger = bench.ask_host(99, wire::StatusRequest{});
  CHECK(!bench.answers.contains(stranger));
  // The shard itself knows none of them.
  CHECK(bench.ask(wire::StatusRequest{}, ring::Slot(0)).error().code == Code::unknown_op);
}

TEST_CASE("console: by role, and only where there is one") {
  HostBench bench;
  CHECK(bench.get(kRing, wire::ConsoleRequest{5, {}, false}).error().code == Code::unsupported);
  bench.host->set_console(&bench.console);
  CHECK(bench.get(kClient, wire::ConsoleRequest{5, {}, false}).error().code == Code::permission);
  CHECK(bench.console.talks.empty());
  bench.console.is_full = true;
  CHECK(bench.get(kRing, wire::ConsoleRequest{5, {}, false}).error().code == Code::overloaded);
  bench.host.reset();
}

TEST_CASE("console: a poll waits for output, input is answered at once") {
  HostBench bench;
  bench.host->set_console(&bench.console);
  CHECK(bench.output_of(bench.talk()) == "hello> ");
  CHECK(bench.console.talks.begin()->second.who == "10.0.0.7:4000");
  const std::uint64_t poll = bench.talk();
  CHECK(!bench.answers.contains(poll));
  const std::uint64_t input = bench.talk(bytes_of("ls\n"));
  CHECK(bench.output_of(input) == "");
  CHECK(bench.output_of(poll) == "ls\n");
  // Output that comes by itself.
  const std::uint64_t next = bench.talk();
  bench.console.say("later");
  CHECK(bench.output_of(next) == "later");
  // Nothing comes: an empty answer after a while, so that the asker knows that we live.
  const std::uint64_t vain = bench.talk();
  CHECK(bench.host->deadline() == bench.clock().now() + wire::kConsolePollMax);
  bench.skip(wire::kConsolePollMax);
  bench.host->on_timer();
  CHECK(bench.output_of(vain) == "");
  // Another poll takes over.
  const std::uint64_t older = bench.talk();
  const std::uint64_t newer = bench.talk();
  CHECK(bench.output_of(older) == "");
  bench.talk(bytes_of("bye"));
  CHECK(bench.output_of(newer) == "bye.");
  CHECK(bench.console.talks.empty());
}

TEST_CASE("console: long output comes in pieces, long input is refused") {
  HostBench bench;
  bench.host->set_console(&bench.console);
  bench.talk();
  bench.talk();
  bench.console.say(std::string(wire::kConsoleOutputBytesMax + 10, 'x'));
  CHECK(bench.output_of(bench.asked).size() == wire::kConsoleOutputBytesMax);
  CHECK(bench.output_of(bench.talk()).size() == 10);
  const std::uint64_t large = bench.talk(Bytes(wire::kConsoleInputBytesMax + 1, 'x'));
  CHECK(bench.answer_to<wire::ConsoleRequest>(large).error().code == Code::too_long);
  bench.console.is_deaf = true;
  const std::uint64_t refused = bench.talk(bytes_of("x"));
  CHECK(bench.answer_to<wire::ConsoleRequest>(refused).error().code == Code::overloaded);
}

TEST_CASE("console: talks end with their asker, their connection, the volcano") {
  HostBench bench;
  bench.host->set_console(&bench.console);
  bench.talk();
  std::uint64_t poll = bench.talk();
  CHECK(bench.output_of(bench.talk({}, true)) == ".");
  CHECK(bench.output_of(poll) == ".");
  CHECK(bench.console.talks.empty());
  CHECK(bench.output_of(bench.talk({}, true, 8)) == ".");  // never begun
  CHECK(bench.console.closed == 1);

  bench.talk();
  poll = bench.talk();
  bench.host->on_closed(kRing);
  CHECK(bench.console.talks.empty());
  CHECK(!bench.answers.contains(poll));

  rpc::PeerInfo peer;
  peer.role = crypto::Role::ring;
  bench.host->on_connected(kRing, peer);
  bench.talk();
  poll = bench.talk();
  bench.host->stop();
  CHECK(bench.output_of(poll) == ".");
  CHECK(bench.console.talks.empty());
  // No more talks than there is room for.
  for (std::uint64_t i = 1; i <= HostRequests::kTalksMax; ++i) bench.talk({}, false, i);
  CHECK(bench.answer_to<wire::ConsoleRequest>(bench.talk({}, false, 1000)).error().code ==
        Code::overloaded);
  bench.host->set_console(nullptr);
  CHECK(bench.console.talks.empty());
}
