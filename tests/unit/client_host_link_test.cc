// A link to one volcano, against a scripted one.
#include <doctest/doctest.h>

#include "libmagma/client/host_link.h"
#include "tests/unit/client_fixture.h"

using namespace magma;
using namespace magma::client_test;
using client::HostLink;
using wire::FlareOp;

namespace {

// A volcano and a link, on the network of a World whose client stays unused.
struct LinkWorld {
  explicit LinkWorld(const crypto::Keyring& keys = test_keys(1)) {
    link = std::make_unique<HostLink>(keys, world.clock, world.random, datagrams);
    world.network.attach(here, [this](const sys::Address& from, MutableByteSpan bytes) {
      link->on_datagram(from, bytes);
    });
  }
  ~LinkWorld() { world.network.detach(here); }
  bool run_until(const std::function<bool()>& is_done, Duration patience = seconds(30)) {
    const Instant limit = world.clock.now_ + patience;
    while (!is_done() && world.clock.now_ < limit) {
      link->flush();
      world.step(std::min(limit, std::max(link->deadline(), world.clock.now_)));
      if (link->deadline() <= world.clock.now_) {
        link->on_timer();
        world.clock.now_ = world.clock.now_ + microseconds(1);
      }
    }
    return is_done();
  }
  Result<sys::Address> connect(std::vector<sys::Address> to,
                               crypto::Role role = crypto::Role::client) {
    Got<sys::Address> got;
    link->connect(to, role, seconds(2), got.done());
    REQUIRE(run_until([&] { return got.is_over(); }));
    return got.results->front();
  }

  World world;
  sys::Address here = sys::Address::v4(10, 0, 0, 8, 40001);
  TestDatagrams datagrams{world.network, here};
  std::unique_ptr<HostLink> link;
};

}  // namespace

TEST_CASE("host link: asks and is answered") {
  LinkWorld w;
  w.world.first().respond = [&](const Seen& seen) {
    if (seen.op == FlareOp::status) {
      wire::StatusReply reply;
      reply.nick = "wallace";
      return w.world.first().answer(seen, reply);
    }
    w.world.first().refuse(seen, Code::permission);
  };
  auto connected = w.connect({w.world.first().address});
  REQUIRE(connected);
  CHECK(*connected == w.world.first().address);
  CHECK(w.link->filesystem()[0] == 7);
  Got<wire::StatusReply> status;
  w.link->call(wire::StatusRequest{}, seconds(5), status.done());
  CHECK(w.link->is_waiting());
  REQUIRE(w.run_until([&] { return status.is_over(); }));
  CHECK(status.value().nick == "wallace");
  CHECK(!w.link->is_waiting());
  const Seen seen = w.world.first().last(FlareOp::status);
  CHECK(seen.head.session.value == 0);
  CHECK(seen.head.lane == wire::kNoLane);
  Got<wire::EmptyReply> shutdown;
  w.link->call(wire::ShutdownRequest{"me"}, seconds(5), shutdown.done());
  REQUIRE(w.run_until([&] { return shutdown.is_over(); }));
  CHECK(shutdown.code() == Code::permission);
}

TEST_CASE("host link: the address that answers is taken, the others are told of") {
  LinkWorld w;
  const sys::Address nobody = sys::Address::v4(10, 0, 0, 77, 12000);
  auto connected = w.connect({nobody, w.world.second().address});
  REQUIRE(connected);
  CHECK(*connected == w.world.second().address);

  LinkWorld none;
  auto failed = none.connect({nobody});
  CHECK(failed.error().code == Code::unreachable);
  CHECK(failed.error().detail.find("10.0.0.77:12000") != std::string::npos);
  LinkWorld unnamed;
  CHECK(unnamed.connect({}).error().code == Code::unreachable);
}

TEST_CASE("host link: a wrong key, and a client key where the network key is needed") {
  LinkWorld w(test_keys(2));
  CHECK(w.connect({w.world.first().address}).error().code == Code::wrong_key);
  crypto::Keyring client_only;
  client_only.client = test_keys(1).client;
  LinkWorld other(client_only);
  CHECK(other.connect({other.world.first().address}, crypto::Role::ring).error().code ==
        Code::bad_key_file);
  LinkWorld ring;
  CHECK(ring.connect({ring.world.first().address}, crypto::Role::ring).has_value());
}

TEST_CASE("host link: what is under way ends with the connection, or with patience") {
  LinkWorld w;
  REQUIRE(w.connect({w.world.first().address}));
  Got<wire::StatusReply> slow;
  w.link->call(wire::StatusRequest{}, seconds(1), slow.done());
  REQUIRE(w.run_until([&] { return slow.is_over(); }));
  CHECK(slow.code() == Code::timeout);
  bool is_lost = false;
  w.link->on_lost([&](const Error&) { is_lost = true; });
  Got<wire::StatusReply> cut;
  w.link->call(wire::StatusRequest{}, seconds(60), cut.done());
  w.run_until([&] { return w.world.first().count(FlareOp::status) == 2; });
  w.world.first().drop_connections();
  REQUIRE(w.run_until([&] { return cut.is_over() && is_lost; }));
  CHECK(cut.code() == Code::connection_closed);
  Got<wire::StatusReply> late;
  w.link->call(wire::StatusRequest{}, seconds(1), late.done());
  CHECK(late.code() == Code::connection_closed);
}
