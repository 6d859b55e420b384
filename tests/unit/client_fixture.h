// A small world for tests of the client: a clock, a network of datagrams, scripted volcanoes that
// record what they are asked, and one client. Simulated time only; no threads.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "libmagma/client/client.h"
#include "libmagma/crypto/path_hash.h"
#include "libmagma/rpc/rpc.h"
#include "libmagma/wire/codec.h"

namespace magma::client_test {

using ring::Slot;

class TestClock final : public sys::Clock {
 public:
  Instant now() override { return now_; }
  WallTime wall_now() override { return {now_.ns}; }
  Instant now_{1'000'000'000};
};

class TestRandom final : public sys::Random {
 public:
  explicit TestRandom(std::uint64_t seed) : state_(seed) {}
  void fill(MutableByteSpan bytes) override {
    for (std::uint8_t& b : bytes) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;
      b = static_cast<std::uint8_t>(state_ >> 56);
    }
  }

 private:
  std::uint64_t state_;
};

// Carries datagrams between hosts, in order, 100 us each way. A host that is cut off loses all.
class TestNetwork {
 public:
  using Receiver = std::function<void(const sys::Address& from, MutableByteSpan)>;
  static constexpr Duration kDelay = microseconds(100);

  explicit TestNetwork(TestClock& clock) : clock_(clock) {}
  void attach(const sys::Address& address, Receiver receiver) {
    receivers_[address] = std::move(receiver);
  }
  void detach(const sys::Address& address) { receivers_.erase(address); }
  void cut(const sys::Address& address, bool is_cut) { cut_[address] = is_cut; }
  void send(const sys::Address& from, const sys::Address& to, ByteSpan bytes) {
    if (cut_[from] || cut_[to]) return;
    flying_.push_back({clock_.now() + kDelay, from, to, Bytes(bytes.begin(), bytes.end())});
  }
  Instant deadline() const { return flying_.empty() ? Instant::never() : flying_.front().at; }
  void deliver() {
    while (!flying_.empty() && flying_.front().at <= clock_.now()) {
      Flying datagram = std::move(flying_.front());
      flying_.pop_front();
      auto receiver = receivers_.find(datagram.to);
      if (receiver == receivers_.end() || cut_[datagram.from] || cut_[datagram.to]) continue;
      receiver->second(datagram.from, datagram.bytes);
    }
  }

 private:
  struct Flying {
    Instant at;
    sys::Address from, to;
    Bytes bytes;
  };
  TestClock& clock_;
  std::map<sys::Address, Receiver> receivers_;
  std::map<sys::Address, bool> cut_;
  std::deque<Flying> flying_;
};

class TestDatagrams final : public sys::Datagrams {
 public:
  TestDatagrams(TestNetwork& network, const sys::Address& from) : network_(network), from_(from) {}
  void send(const sys::Address& to, ByteSpan bytes, std::size_t segment) override {
    for (std::size_t at = 0; at < bytes.size(); at += segment)
      network_.send(from_, to, bytes.subspan(at, std::min(segment, bytes.size() - at)));
  }
  std::size_t receive_buffer_bytes() const override { return 8u << 20; }

 private:
  TestNetwork& network_;
  sys::Address from_;
};

// One request as a volcano got it.
struct Seen {
  wire::RequestHead head;
  wire::FlareOp op{};
  Bytes body;  // after the head: the operation's struct and, for write, the bytes
  rpc::ConnectionId connection;
  rpc::RequestId request;

  // The operation's struct.
  template <class T>
  T as() const {
    auto front = wire::decode_front<T>(body);
    return front ? front->first : T{};
  }
  Bytes payload() const {
    auto front = wire::decode_front<wire::WriteRequest>(body);
    return front ? Bytes(front->second.begin(), front->second.end()) : Bytes{};
  }
};

// A volcano that attaches everyone and answers the rest as `respond` says. Requests `respond`
// does not answer stay open: `seen` has them.
class FakeVolcano final : public rpc::Handler {
 public:
  FakeVolcano(TestNetwork& network, TestClock& clock, const sys::Address& where,
              const crypto::Keyring& volcano_keys)
      : network_(network),
        clock_(clock),
        address(where),
        keys(volcano_keys),
        random_(where.port + where.ip[15]),
        datagrams_(network, where) {
    start();
  }
  ~FakeVolcano() override { network_.detach(address); }

  void start() {
    rpc::EndpointConfig config;
    config.filesystem.fill(7);
    config.keys = keys;
    config.accepts = true;
    endpoint_ = std::make_unique<rpc::Endpoint>(config, clock_, random_, datagrams_, *this);
    network_.attach(address, [this](const sys::Address& from, MutableByteSpan bytes) {
      endpoint_->on_datagram(from, bytes);
    });
  }
  // As kill -9: nothing is said, all connections are forgotten.
  void kill() {
    network_.detach(address);
    endpoint_.reset();
  }
  bool is_running() const { return endpoint_ != nullptr; }
  // Says goodbye to everyone connected.
  void drop_connections() { endpoint_->close_all(); }

  template <class Reply>
  void answer(const Seen& one, const Reply& reply, ByteSpan payload = {}) {
    send(one, 0, wire::encode(reply), payload);
  }
  void refuse(const Seen& one, Code code) {
    send(one, static_cast<std::uint16_t>(code), {}, {});
  }
  template <class Reply>
  void refuse_with(const Seen& one, Code code, const Reply& reply) {
    send(one, static_cast<std::uint16_t>(code), wire::encode(reply), {});
  }

  // Requests of that operation, in the order they came.
  std::vector<Seen> all(wire::FlareOp op) const {
    std::vector<Seen> found;
    for (const Seen& one : seen)
      if (one.op == op) found.push_back(one);
    return found;
  }
  std::size_t count(wire::FlareOp op) const { return all(op).size(); }
  Seen last(wire::FlareOp op) const {
    auto found = all(op);
    return found.empty() ? Seen{} : found.back();
  }

  void on_connected(rpc::ConnectionId, const rpc::PeerInfo&) override {}
  void on_closed(rpc::ConnectionId, const Error&) override {}
  void on_cancel(rpc::ConnectionId, rpc::RequestId request) override {
    cancelled.push_back(request);
  }
  void on_response(rpc::ConnectionId, rpc::RequestId, Result<ByteSpan>) override {}
  void on_request(rpc::ConnectionId connection, rpc::RequestId request, ByteSpan message) override {
    auto front = wire::decode_front<wire::RequestHead>(message);
    if (!front) return;
    Seen one;
    one.head = front->first;
    one.op = static_cast<wire::FlareOp>(one.head.op);
    one.body.assign(front->second.begin(), front->second.end());
    one.connection = connection;
    one.request = request;
    seen.push_back(one);
    if (one.op == wire::FlareOp::attach) {
      sessions.push_back(one.as<wire::AttachRequest>().session);
      if (attach_code != Code{}) return refuse(one, attach_code);
      return answer(one, attach_reply);
    }
    if (respond) respond(one);
  }

  TestNetwork& network_;
  TestClock& clock_;
  sys::Address address;
  wire::AttachReply attach_reply;
  Code attach_code{};
  std::uint32_t map_version_told = 0;
  std::function<void(const Seen&)> respond;
  std::vector<Seen> seen;
  std::vector<SessionId> sessions;
  std::vector<rpc::RequestId> cancelled;
  crypto::Keyring keys;

  rpc::Endpoint& endpoint() { return *endpoint_; }

 private:
  void send(const Seen& one, std::uint16_t code, ByteSpan body, ByteSpan payload) {
    wire::ResponseHead head;
    head.code = code;
    head.map_version = map_version_told;
    rpc::Message message;
    wire::encode_to(message.head, head);
    message.head.insert(message.head.end(), body.begin(), body.end());
    message.tail.assign(payload.begin(), payload.end());
    endpoint_->reply(one.connection, one.request, std::move(message),
                     static_cast<rpc::Priority>(wire::priority_of(one.op)));
  }

  TestRandom random_;
  TestDatagrams datagrams_;
  std::unique_ptr<rpc::Endpoint> endpoint_;
};

class TestKeys final : public client::KeySource {
 public:
  ring::Key key_of(Ino ino) override {
    ++asked;
    return crypto::key_of_path("/file" + std::to_string(ino.value));
  }
  int asked = 0;
};

inline crypto::Keyring test_keys(std::uint8_t fill) {
  std::array<std::uint8_t, 32> raw;
  raw.fill(fill);
  return crypto::keyring_from_network_secret(crypto::Secret(raw));
}

inline constexpr std::uint64_t kSmallMax = 65536;

// Two volcanoes, slots 0-2047 and 2048-4095, and a client that knows the first.
class World {
 public:
  explicit World(std::function<void(client::ClientConfig&)> adjust = {}) {
    for (std::uint8_t i = 0; i < 2; ++i)
      volcanoes.push_back(std::make_unique<FakeVolcano>(
          network, clock, sys::Address::v4(10, 0, 0, static_cast<std::uint8_t>(i + 1), 12000),
          test_keys(1)));
    set_map(1, 1, 0, 1);
    client::ClientConfig config;
    config.hosts = {volcanoes[0]->address};
    config.keys.client = test_keys(1).client;
    config.host_name = "tester";
    if (adjust) adjust(config);
    client = std::make_unique<client::Client>(config, clock, random, datagrams, keys);
    network.attach(client_address, [this](const sys::Address& from, MutableByteSpan bytes) {
      client->on_datagram(from, bytes);
    });
  }
  ~World() { network.detach(client_address); }

  // The lower and upper half of the slots are at these volcanoes (by index).
  void set_map(std::uint32_t version, std::uint32_t epoch, std::size_t lower, std::size_t upper) {
    for (auto& volcano : volcanoes) {
      wire::AttachReply& reply = volcano->attach_reply;
      reply.nick = "test";
      reply.small_file_bytes_max = kSmallMax;
      reply.root = Ino(1);
      reply.map_version = version;
      reply.map.clear();
      reply.map.push_back({Slot(0), Slot(2047), Epoch(epoch), replicas(lower)});
      reply.map.push_back({Slot(2048), Slot(4095), Epoch(epoch), replicas(upper)});
    }
  }
  std::vector<std::string> replicas(std::size_t primary) const {
    return {volcanoes[primary]->address.text(), volcanoes[1 - primary]->address.text()};
  }

  // One step of time: to the next thing that happens, at most until `limit`.
  bool step(Instant limit) {
    client->flush();
    for (auto& volcano : volcanoes)
      if (volcano->is_running()) volcano->endpoint().flush();
    Instant next = std::min(network.deadline(), client->deadline());
    for (auto& volcano : volcanoes)
      if (volcano->is_running()) next = std::min(next, volcano->endpoint().deadline());
    if (next > limit) {
      clock.now_ = limit;
      return false;
    }
    // A deadline that is due but does not go away would stand still: time moves all the same.
    clock.now_ = std::max(next, clock.now_ + nanoseconds(next <= clock.now_ ? 1000 : 0));
    network.deliver();
    if (client->deadline() <= clock.now_) client->on_timer();
    for (auto& volcano : volcanoes)
      if (volcano->is_running() && volcano->endpoint().deadline() <= clock.now_)
        volcano->endpoint().on_timer();
    return true;
  }
  void run(Duration time) {
    Instant limit = clock.now_ + time;
    while (step(limit)) {
    }
  }
  // Runs until `is_done`; false if that takes longer than `patience`.
  bool run_until(const std::function<bool()>& is_done, Duration patience = seconds(60)) {
    Instant limit = clock.now_ + patience;
    while (!is_done())
      if (!step(limit)) return is_done();
    return true;
  }
  bool start() {
    bool ok = false, over = false;
    client->start(seconds(5), [&](Result<wire::AttachReply> reply) {
      over = true;
      ok = reply.has_value();
    });
    run_until([&] { return over; });
    run(milliseconds(10));
    return ok;
  }
  FakeVolcano& first() { return *volcanoes[0]; }
  FakeVolcano& second() { return *volcanoes[1]; }

  TestClock clock;
  TestNetwork network{clock};
  TestRandom random{42};
  sys::Address client_address = sys::Address::v4(10, 0, 0, 9, 40000);
  TestDatagrams datagrams{network, client_address};
  TestKeys keys;
  std::vector<std::unique_ptr<FakeVolcano>> volcanoes;
  std::unique_ptr<client::Client> client;
};

// Where the result of a call goes.
template <class T>
struct Got {
  std::shared_ptr<std::vector<Result<T>>> results = std::make_shared<std::vector<Result<T>>>();
  client::Done<T> done() {
    return [kept = results](Result<T> result) { kept->push_back(std::move(result)); };
  }
  bool is_over() const { return !results->empty(); }
  std::size_t times() const { return results->size(); }
  bool is_ok() const { return times() == 1 && results->front().has_value(); }
  Code code() const {
    return times() == 1 && !results->front().has_value() ? results->front().error().code : Code{};
  }
  std::string detail() const { return results->front().error().detail; }
  const T& value() const { return *results->front(); }
};

constexpr Ino ino_at(std::uint16_t slot, std::uint64_t number) {
  return Ino(ring::with_counter(Slot(slot), number));
}

inline wire::Attr file_attr(Ino ino, std::uint64_t size, std::uint64_t version = 1) {
  wire::Attr attr;
  attr.ino = ino;
  attr.mode = 0100644;
  attr.nlink = 1;
  attr.size = size;
  attr.data_version = version;
  return attr;
}

inline wire::Placement in_chunks(const ring::Key& key, std::uint64_t number = 0) {
  wire::Placement placement;
  placement.in_chunks = true;
  placement.key = key;
  placement.truncate_number = number;
  return placement;
}

}  // namespace magma::client_test
