// A volcano that asks others whether they no longer serve what the lava map has given to it.
#include "magmad/releases.h"

#include "libmagma/wire/codec.h"
#include "libmagma/wire/flare_messages.h"
#include "tests/unit/rpc_fixture.h"

namespace magma {
namespace {

using rpc::test::config_of;
using rpc::test::keys_of;
using rpc::test::kClient;
using rpc::test::kServer;
using rpc::test::Node;
using test::SimClock;
using test::SimNetwork;
using test::SimRandom;

constexpr ring::VolcanoId kWallace{1};

ring::SlotMask slots(unsigned first, unsigned last) {
  ring::SlotMask mask;
  for (unsigned n = first; n <= last; ++n) mask.set(n);
  return mask;
}

// Wallace, who answers what he is told to.
struct Bench : rpc::Handler, test::Timed {
  Bench() : network(clock, 3), wallace(network, kServer, config_of(true, keys_of(1)), 5) {
    wallace.on_request_hook = [this](const Node::Request& request) { answer(request); };
    port = network.open(kClient, [this](const sys::Address& from, MutableByteSpan bytes) {
      endpoint->on_datagram(from, bytes);
    });
    endpoint = std::make_unique<rpc::Endpoint>(config_of(true, keys_of(1)), clock, random, *port,
                                               static_cast<rpc::Handler&>(*this));
    releases.emplace(clock, *endpoint);
    network.add(*this);
  }
  ~Bench() override { network.remove(*this); }

  void answer(const Node::Request& request) {
    auto front = wire::decode_front<wire::RequestHead>(request.message);
    REQUIRE(front);
    CHECK(front->first.op == static_cast<std::uint16_t>(wire::FlareOp::released));
    auto message = wire::decode<wire::ReleasedRequest>(front->second);
    REQUIRE(message);
    asked.push_back(*message);
    wire::ResponseHead head;
    head.code = static_cast<std::uint16_t>(code);
    Bytes bytes;
    wire::encode_to(bytes, head);
    if (reply) wire::encode_to(bytes, *reply);
    wallace.endpoint->reply(request.connection, request.id, {.head = std::move(bytes), .tail = {}},
                            rpc::Priority::lock);
  }
  void ask(std::uint64_t version, const ring::SlotMask& wanted) {
    releases->ask(version, {{kWallace, kServer.text(), wanted}});
  }
  const ring::SlotMask& released() { return releases->released().slots; }

  Instant deadline() override { return std::min(endpoint->deadline(), releases->deadline()); }
  void on_timer() override {
    endpoint->on_timer();
    releases->on_timer();
  }
  void after_events() override { endpoint->flush(); }
  void on_connected(rpc::ConnectionId connection, const rpc::PeerInfo&) override {
    CHECK(releases->on_connected(connection));
  }
  void on_closed(rpc::ConnectionId connection, const Error&) override {
    releases->on_closed(connection);
  }
  void on_request(rpc::ConnectionId, rpc::RequestId, ByteSpan) override {}
  void on_cancel(rpc::ConnectionId, rpc::RequestId) override {}
  void on_response(rpc::ConnectionId connection, rpc::RequestId request,
                   Result<ByteSpan> message) override {
    releases->on_response(connection, request, message);
  }

  SimClock clock;
  SimRandom random{9};
  SimNetwork network;
  Node wallace;
  std::unique_ptr<SimNetwork::Port> port;
  std::unique_ptr<rpc::Endpoint> endpoint;
  std::optional<Releases> releases;
  Code code{};
  std::optional<wire::ReleasedReply> reply = wire::ReleasedReply{};
  std::vector<wire::ReleasedRequest> asked;
};

}  // namespace

TEST_CASE("releases: asked again until all is released, piece by piece") {
  Bench b;
  b.ask(7, slots(10, 19));
  b.network.run_for(milliseconds(500));
  CHECK(b.asked.size() >= 5);
  CHECK(b.asked.size() <= 12);
  CHECK(b.asked[0].version == 7);
  CHECK(b.asked[0].slots == ring::runs_of(slots(10, 19)));
  CHECK(b.released().none());

  // Slots that were not asked for are not taken for released.
  b.reply = {.slots = ring::runs_of(slots(0, 14)), .sessions = {SessionId(5)}};
  b.network.run_for(milliseconds(200));
  CHECK(b.released() == slots(10, 14));
  CHECK(b.asked.back().slots == ring::runs_of(slots(15, 19)));
  b.reply = {.slots = ring::runs_of(slots(15, 19)), .sessions = {SessionId(6)}, .may_others = true};
  b.network.run_for(milliseconds(200));
  CHECK(b.released() == slots(10, 19));
  CHECK(b.releases->released().believers == std::vector<SessionId>{SessionId(5), SessionId(6)});
  CHECK(b.releases->released().may_others_believe);
  CHECK(b.releases->deadline() == Instant::never());
  const std::size_t before = b.asked.size();
  b.network.run_for(seconds(1));
  CHECK(b.asked.size() == before);
  CHECK(b.endpoint->connection_count() == 0);
}

TEST_CASE("releases: refusals and what makes no sense release nothing") {
  Bench b;
  b.ask(7, slots(10, 19));
  b.code = Code::not_primary;
  b.reply = {.slots = ring::runs_of(slots(10, 19))};
  b.network.run_for(milliseconds(300));
  CHECK(b.released().none());
  b.code = {};
  b.reply.reset();  // too short
  b.network.run_for(milliseconds(300));
  CHECK(b.released().none());
  b.reply = {.slots = {{ring::Slot(12), ring::Slot(11)}}};
  b.network.run_for(milliseconds(300));
  CHECK(b.released().none());
  const std::size_t before = b.asked.size();
  b.reply = {.slots = ring::runs_of(slots(10, 19))};
  b.network.run_for(milliseconds(300));
  CHECK(b.asked.size() == before + 1);
  CHECK(b.released() == slots(10, 19));
}

TEST_CASE("releases: another map makes what was released before void") {
  Bench b;
  b.ask(7, slots(10, 19));
  b.reply = {.slots = ring::runs_of(slots(10, 14)), .sessions = {SessionId(5)}};
  b.network.run_for(milliseconds(200));
  REQUIRE(b.released() == slots(10, 14));
  b.reply = wire::ReleasedReply{};
  b.ask(8, slots(12, 30));
  CHECK(b.released().none());
  CHECK(b.releases->released().believers.empty());
  b.network.run_for(milliseconds(200));
  CHECK(b.asked.back().version == 8);
  CHECK(b.asked.back().slots == ring::runs_of(slots(12, 30)));
  CHECK(b.released().none());
  b.releases->ask(9, {});  // nobody is asked any more
  b.network.run_for(milliseconds(200));
  CHECK(b.asked.back().version == 8);
}

TEST_CASE("releases: who does not answer, or is not there, is asked again") {
  Bench b;
  b.reply = {.slots = ring::runs_of(slots(1, 2))};
  b.network.cut(kClient, kServer);
  b.ask(7, slots(1, 2));
  b.network.run_for(seconds(6));
  CHECK(b.released().none());
  b.network.join_all();
  b.network.run_for(seconds(4));
  CHECK(b.released() == slots(1, 2));
  // An address that is none is said in the log, and keeps nobody else waiting.
  b.releases->ask(8, {{ring::VolcanoId(2), "nowhere", slots(5, 6)},
                      {kWallace, kServer.text(), slots(1, 2)}});
  b.network.run_for(seconds(1));
  CHECK(b.released() == slots(1, 2));
}

}  // namespace magma
