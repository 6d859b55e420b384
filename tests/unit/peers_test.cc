// Messages between volcanoes, carried by Peers over a simulated network: each once and in order
// within a run, nothing of a run that has ended, memory bounded.
#include "magmad/peers.h"

#include <doctest/doctest.h>

#include <functional>
#include <memory>

#include "libmagma/wire/codec.h"
#include "tests/lib/sim_network.h"

using namespace magma;
using namespace magma::test;

namespace {

constexpr unsigned kHalf = ring::kSlotCount / 2;

crypto::Keyring test_keys() {
  SimRandom random(9);
  return crypto::keyring_from_network_secret(crypto::make_secret(random));
}

SlotOwners two_owners() {
  SlotOwners owners;
  owners.owners = {{ring::VolcanoId(1), "10.0.0.1:12000"}, {ring::VolcanoId(2), "10.0.0.2:12000"}};
  for (unsigned slot = kHalf; slot < ring::kSlotCount; ++slot) owners.owner_of[slot] = 1;
  return owners;
}

// Slots that say what the test tells them to, and remember what they hear.
struct ScriptedSlots final : SlotTalk {
  std::vector<ops::SlotMessage> take_outgoing() override { return std::exchange(outgoing, {}); }
  void receive(ops::SlotMessage message) override {
    heard.push_back(message.op.value & ring::kCounterMask);
    runs_heard.push_back(anew);
  }
  void begin_anew_with(const OwnedSlots& theirs) override {
    ++anew;
    slots_anew = theirs;
    if (on_anew) on_anew();
  }
  std::uint64_t generation() const override { return memory; }
  Epoch epoch_of(ring::Slot) const override { return epoch; }

  std::vector<ops::SlotMessage> outgoing;
  std::vector<std::uint64_t> heard;    // numbers of messages
  std::vector<unsigned> runs_heard;    // begin_anew_with calls before each of them
  unsigned anew = 0;
  OwnedSlots slots_anew;
  std::uint64_t memory = 1;
  Epoch epoch{1};
  std::function<void()> on_anew;
};

// One volcano: an endpoint, Peers, scripted slots. A restart forgets all but its address.
class Host final : public rpc::Handler, public Timed {
 public:
  Host(SimNetwork& network, unsigned number, SlotOwners owners = two_owners())
      : network_(network), number_(number), owners_(std::move(owners)), random_(number) {
    network_.add(*this);
    start();
  }
  ~Host() override {
    network_.remove(*this);
    stop();
  }
  void start() {
    slots = std::make_unique<ScriptedSlots>();
    slots->epoch = Epoch(++starts_);
    const auto last = static_cast<std::uint8_t>(number_);
    port_ = network_.open(sys::Address::v4(10, 0, 0, last, 12000),
                          [this](const sys::Address& from, MutableByteSpan datagram) {
                            endpoint->on_datagram(from, datagram);
                          });
    rpc::EndpointConfig config;
    config.filesystem.fill(3);
    config.keys = test_keys();
    config.accepts = true;
    endpoint = std::make_unique<rpc::Endpoint>(config, network_.clock(), random_, *port_, *this);
    const ring::VolcanoId self(static_cast<std::uint16_t>(number_));
    peers = std::make_unique<Peers>(owners_, self, network_.clock(), random_, *endpoint, *slots,
                                    send_);
  }
  void stop() {
    peers.reset();
    endpoint.reset();
    port_.reset();
  }
  void restart() {
    stop();
    start();
  }
  // The slots tell message `n`, with so many bytes, to a slot of the other volcano.
  void tell(std::uint64_t n, std::size_t bytes = 10) {
    const ring::Slot from = slot_of(number_), to = slot_of(3 - number_);
    ops::SlotMessage message;
    message.verb = ops::Verb::apply;
    message.from = from;
    message.to = to;
    message.op = OpId(ring::with_counter(from, n));
    message.body = Bytes(bytes, static_cast<std::uint8_t>(n));
    slots->outgoing.push_back(std::move(message));
  }
  static ring::Slot slot_of(unsigned number) {
    return ring::Slot(static_cast<std::uint16_t>(number == 1 ? 5 : kHalf + 5));
  }

  Instant deadline() override {
    if (!peers) return Instant::never();
    return is_deaf ? endpoint->deadline() : std::min(endpoint->deadline(), peers->deadline());
  }
  void on_timer() override { endpoint->on_timer(); }
  void after_events() override {
    if (!peers) return;
    if (!is_deaf) peers->pump();
    endpoint->flush();
  }
  void on_connected(rpc::ConnectionId connection, const rpc::PeerInfo&) override {
    peers->on_connected(connection);
  }
  void on_closed(rpc::ConnectionId connection, const Error&) override {
    peers->on_closed(connection);
  }
  void on_request(rpc::ConnectionId connection, rpc::RequestId id, ByteSpan message) override {
    auto request = std::make_unique<Request>();
    request->target = {connection.value, id.value};
    auto head = wire::decode_front<wire::RequestHead>(message);
    REQUIRE(head.has_value());
    request->head = head->first;
    request->body = head->second;
    last_connection = connection;
    peers->handle(std::move(request));
  }
  void on_cancel(rpc::ConnectionId, rpc::RequestId) override {}
  void on_response(rpc::ConnectionId connection, rpc::RequestId request,
                   Result<ByteSpan> message) override {
    if (peers->on_response(connection, request, message)) return;
    auto head = message ? wire::decode_front<wire::ResponseHead>(*message) : fail(message.error());
    if (head)
      if (auto begun = wire::decode<wire::PeerBeginReply>(head->second)) told_run = begun->run;
    codes.push_back(head ? static_cast<Code>(head->first.code) : head.error().code);
  }

  std::unique_ptr<ScriptedSlots> slots;
  std::unique_ptr<rpc::Endpoint> endpoint;
  std::unique_ptr<Peers> peers;
  rpc::ConnectionId last_connection;  // that a request came over
  std::vector<Code> codes;            // answers to requests that are not of Peers
  std::uint64_t told_run = 0;         // by an answer to such a peer_begin
  bool is_deaf = false;               // it takes nothing in and gives nothing out

 private:
  SimNetwork& network_;
  unsigned number_;
  SlotOwners owners_;
  SimRandom random_;
  std::unique_ptr<SimNetwork::Port> port_;
  std::uint32_t starts_ = 0;
  UniqueFunction<void(Answer)> send_ = [this](Answer answer) {
    wire::ResponseHead head;
    head.code = answer.ok ? 0 : static_cast<std::uint16_t>(answer.code);
    rpc::Message message;
    wire::encode_to(message.head, head);
    message.head.insert(message.head.end(), answer.body.begin(), answer.body.end());
    endpoint->reply(rpc::ConnectionId(answer.target.connection),
                    rpc::RequestId(answer.target.request), std::move(message),
                    rpc::Priority::metadata);
  };
};

struct World {
  explicit World(std::uint64_t seed = 1) : network(clock, seed), one(network, 1), two(network, 2) {}
  bool have_run() const {
    return one.peers->has_run_with(ring::VolcanoId(2)) &&
           two.peers->has_run_with(ring::VolcanoId(1));
  }
  bool meet() { return network.run_until([this] { return have_run(); }, seconds(30)); }
  void cut(bool is_cut) {
    const auto first = sys::Address::v4(10, 0, 0, 1, 12000);
    const auto second = sys::Address::v4(10, 0, 0, 2, 12000);
    if (!is_cut) return network.join_all();
    network.cut(first, second);
    network.cut(second, first);
  }
  SimClock clock;
  SimNetwork network;
  Host one, two;
};

std::vector<std::uint64_t> numbers(std::uint64_t first, std::uint64_t last) {
  std::vector<std::uint64_t> list;
  for (std::uint64_t n = first; n <= last; ++n) list.push_back(n);
  return list;
}

bool is_ascending(const std::vector<std::uint64_t>& list) {
  for (std::size_t i = 1; i < list.size(); ++i)
    if (list[i] <= list[i - 1]) return false;
  return true;
}

// A request of kind peer from a stranger who has the ring key.
template <class Message>
void send_as_stranger(Host& from, rpc::ConnectionId connection, const Message& message) {
  wire::RequestHead head;
  head.op = static_cast<std::uint16_t>(wire::OpOf<Message>::op);
  Bytes bytes;
  wire::encode_to(bytes, head);
  wire::encode_to(bytes, message);
  from.endpoint->call(connection, {std::move(bytes), {}}, rpc::Priority::metadata,
                      Instant::never());
}

}  // namespace

TEST_CASE("peers: both begin anew, then each message comes once and in order, both ways") {
  World world;
  REQUIRE(world.meet());
  CHECK(world.one.slots->anew == 1);
  CHECK(world.two.slots->anew == 1);
  CHECK(world.one.slots->slots_anew == two_owners().slots_of(ring::VolcanoId(2)));
  CHECK(world.two.slots->slots_anew == two_owners().slots_of(ring::VolcanoId(1)));
  for (std::uint64_t n = 1; n <= 500; ++n) {
    world.one.tell(n);
    if (n % 3 == 0) world.two.tell(n);
    if (n % 7 == 0) world.network.run_for(microseconds(50));
  }
  world.network.run_for(seconds(1));
  CHECK(world.two.slots->heard == numbers(1, 500));
  CHECK(world.one.slots->heard.size() == 500 / 3);
  CHECK(is_ascending(world.one.slots->heard));
  CHECK(world.one.peers->stats().sent == 500);
  CHECK(world.one.peers->waiting() == 0);
}

TEST_CASE("peers: loss, duplicates and late packets change nothing") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    World world(seed);
    Faults faults;
    faults.loss = 0.1;
    faults.duplicate = 0.2;
    faults.reorder = 0.3;
    faults.reorder_delay = milliseconds(20);
    world.network.set_faults(faults);
    REQUIRE(world.meet());
    for (std::uint64_t n = 1; n <= 300; ++n) {
      world.one.tell(n, n * 97 % 5000);
      world.two.tell(n);
      world.network.run_for(microseconds(100));
    }
    CHECK(world.network.run_until(
        [&] {
          return world.two.slots->heard.size() >= 300 && world.one.slots->heard.size() >= 300;
        },
        seconds(60)));
    CHECK(world.two.slots->heard == numbers(1, 300));
    CHECK(world.one.slots->heard == numbers(1, 300));
    CHECK(world.one.slots->anew == 1);
  }
}

TEST_CASE("peers: what was under way when the network was cut is not told in the next run") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    World world(seed);
    Faults faults;
    faults.delay = milliseconds(5);
    world.network.set_faults(faults);
    REQUIRE(world.meet());
    for (std::uint64_t n = 1; n <= 4000; ++n) world.one.tell(n, 600);
    world.network.run_for(milliseconds(static_cast<std::int64_t>(seed * 2)));
    world.cut(true);
    REQUIRE(world.network.run_until([&] { return !world.have_run(); }, seconds(60)));
    world.network.run_for(seconds(20));
    const std::size_t before = world.two.slots->heard.size();
    CHECK(before < 4000);
    CHECK(world.two.slots->heard == numbers(1, before));
    world.one.slots->on_anew = [&] { world.one.tell(10000); };
    world.cut(false);
    REQUIRE(world.meet());
    world.one.tell(10001);
    world.network.run_for(seconds(2));
    const auto& heard = world.two.slots->heard;
    REQUIRE(heard.size() == before + 2);
    CHECK(heard[before] == 10000);  // what beginning anew tells comes first
    CHECK(heard[before + 1] == 10001);
    CHECK(world.two.slots->runs_heard[before] == 2);
  }
}

TEST_CASE("peers: a restart of either side begins another run on both") {
  for (const bool is_first : {true, false}) {
    CAPTURE(is_first);
    World world;
    REQUIRE(world.meet());
    world.one.tell(1);
    world.two.tell(1);
    world.network.run_for(seconds(1));
    Host& restarted = is_first ? world.one : world.two;
    Host& other = is_first ? world.two : world.one;
    other.tell(2);  // on its way, or not even that
    restarted.restart();
    CHECK(world.network.run_until([&] { return other.slots->anew == 2 && world.have_run(); },
                                  seconds(10)));
    CHECK(restarted.slots->anew == 1);
    other.tell(3);
    restarted.tell(4);
    world.network.run_for(seconds(1));
    CHECK(restarted.slots->heard == std::vector<std::uint64_t>{3});
    CHECK(other.slots->heard == std::vector<std::uint64_t>{1, 4});
    CHECK(other.slots->runs_heard.back() == 2);
  }
}

TEST_CASE("peers: who has lost its memory ends its runs") {
  for (const bool is_first : {true, false}) {
    CAPTURE(is_first);
    World world;
    REQUIRE(world.meet());
    Host& forgetful = is_first ? world.one : world.two;
    Host& other = is_first ? world.two : world.one;
    forgetful.slots->memory = 2;
    forgetful.tell(1);  // of what it no longer knows
    CHECK(world.network.run_until(
        [&] { return forgetful.slots->anew == 2 && other.slots->anew == 2 && world.have_run(); },
        seconds(10)));
    CHECK(other.slots->heard.empty());
    forgetful.tell(2);
    world.network.run_for(seconds(1));
    CHECK(other.slots->heard == std::vector<std::uint64_t>{2});
  }
}

TEST_CASE("peers: nothing is kept for a volcano that is away") {
  World world;
  world.two.stop();
  for (std::uint64_t n = 1; n <= 100; ++n) {
    world.one.tell(n, 100'000);
    world.network.run_for(milliseconds(20));
  }
  CHECK(world.one.peers->waiting() == 0);
  CHECK(world.one.peers->stats().dropped == 100);
  world.two.start();
  CHECK(world.meet());
  CHECK(world.two.slots->heard.empty());
}

TEST_CASE("peers: a volcano that takes nothing in gets a window full, then the run ends") {
  World world;
  REQUIRE(world.meet());
  world.two.is_deaf = true;
  for (std::uint64_t n = 1; n <= 2 * Peers::kWindow; ++n) world.one.tell(n, Peers::kRequestBytes);
  world.network.run_for(seconds(5));
  CHECK(world.one.peers->waiting() == Peers::kWindow);
  world.network.run_for(seconds(6));
  CHECK_FALSE(world.one.peers->has_run_with(ring::VolcanoId(2)));
  CHECK(world.one.peers->waiting() == 0);
  world.two.is_deaf = false;
  CHECK(world.meet());
  // What had arrived and was not taken was of the run that ended.
  CHECK(world.two.slots->heard.size() <= Peers::kWindow);
  CHECK(world.two.slots->anew == 2);
}

TEST_CASE("peers: more than may wait ends the run") {
  World world;
  REQUIRE(world.meet());
  world.two.is_deaf = true;
  for (std::uint64_t n = 1; n <= Peers::kQueueMax + 1; ++n) world.one.tell(n, 0);
  world.network.run_for(milliseconds(1));
  CHECK(world.one.peers->waiting() == 0);
  CHECK(world.one.peers->stats().runs_lost == 1);
}

TEST_CASE("peers: volcanoes that disagree about slots do not talk") {
  SimClock clock;
  SimNetwork network(clock, 1);
  Host one(network, 1);
  SlotOwners other = two_owners();
  other.owner_of[7] = 1;
  Host two(network, 2, other);
  network.run_for(seconds(10));
  CHECK(one.peers->stats().runs == 0);
  CHECK(two.peers->stats().runs == 0);
}

TEST_CASE("peers: what makes no sense is refused and ends the run") {
  const ring::Slot mine = Host::slot_of(1), theirs = Host::slot_of(2);
  const wire::PeerMessage good{.verb = static_cast<std::uint8_t>(ops::Verb::apply),
                               .op = OpId(ring::with_counter(theirs, 1)),
                               .from = theirs,
                               .to = mine,
                               .from_epoch = Epoch(1),
                               .to_epoch = Epoch(1)};
  std::vector<wire::PeerMessage> bad(7, good);
  bad[0].verb = 0;
  bad[1].verb = 77;
  bad[2].to = theirs;
  bad[3].from = mine;
  bad[4].to_epoch = Epoch(9);
  bad[5].from_epoch = Epoch(9);
  bad[6].op = OpId(ring::with_counter(mine, 1));
  for (std::size_t i = 0; i <= bad.size(); ++i) {
    CAPTURE(i);
    SimClock clock;
    SimNetwork network(clock, 1);
    Host one(network, 1);
    SlotOwners alone = two_owners();
    alone.owners.pop_back();
    alone.owner_of.fill(0);
    alone.owners[0].id = ring::VolcanoId(3);
    Host stranger(network, 3, alone);
    network.run_for(seconds(1));
    // As volcano 2, by hand.
    const auto connection = stranger.endpoint->connect(sys::Address::v4(10, 0, 0, 1, 12000),
                                                       crypto::Role::ring, seconds(2));
    network.run_for(seconds(1));
    const auto half = static_cast<std::uint16_t>(kHalf);
    send_as_stranger(stranger, connection,
                     wire::PeerBeginRequest{.volcano = 2,
                                            .run = 5,
                                            .slots = {{ring::Slot(half),
                                                       ring::Slot(ring::kSlotCount - 1),
                                                       Epoch(1)}}});
    REQUIRE(network.run_until(
        [&] { return one.peers->has_run_with(ring::VolcanoId(2)); }, seconds(5)));
    network.run_for(milliseconds(50));
    CHECK(stranger.codes.back() == Code{});
    // Its number of the run is known to volcano 1 alone: another one is refused.
    send_as_stranger(stranger, connection,
                     wire::PeerMessagesRequest{.run = 6, .number = 1, .messages = {good}});
    network.run_for(milliseconds(50));
    CHECK(stranger.codes.back() == Code::old_sequence);
    CHECK(one.slots->heard.empty());
    if (i == bad.size()) continue;
    send_as_stranger(
        stranger, connection,
        wire::PeerMessagesRequest{.run = stranger.told_run, .number = 1, .messages = {bad[i]}});
    network.run_for(milliseconds(50));
    CHECK_FALSE(one.peers->has_run_with(ring::VolcanoId(2)));
    CHECK(one.slots->heard.empty());
    CHECK(one.peers->stats().refused == 1);
  }
}
