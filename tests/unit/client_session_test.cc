// The client against scripted volcanoes: starting, retrying, lanes, fencing, giving up, the map.
#include <set>

#include <doctest/doctest.h>

#include "libmagma/client/requests.h"
#include "tests/unit/client_fixture.h"

using namespace magma;
using namespace magma::client_test;
using wire::FlareOp;

namespace {

constexpr client::Credentials kWho{.uid = 1000, .gid = 100};
const Ino kLow = ino_at(5, 20);      // at the first volcano
const Ino kHigh = ino_at(4000, 20);  // at the second

wire::MkdirRequest mkdir_request(std::string name, Ino dir = kLow) {
  wire::MkdirRequest request;
  request.dir = dir;
  request.name = std::move(name);
  return request;
}

wire::EntryReply entry(Ino ino) {
  wire::EntryReply reply;
  reply.ino = ino;
  reply.attr.emplace().ino = ino;
  return reply;
}

}  // namespace

TEST_CASE("client: start attaches, then calls go where the map says") {
  World world;
  CHECK_FALSE(world.client->is_connected());
  REQUIRE(world.start());
  CHECK(world.client->is_connected());
  CHECK(world.client->filesystem()[0] == 7);
  auto attach = world.first().all(FlareOp::attach).at(0).as<wire::AttachRequest>();
  CHECK(attach.fresh);
  CHECK(attach.host == "tester");
  CHECK(attach.session.value != 0);
  CHECK_FALSE(world.first().last(FlareOp::attach).as<wire::AttachRequest>().session.value == 0);

  world.second().respond = [&](const Seen& seen) {
    CHECK(seen.head.slot == Slot(4000));
    CHECK(seen.head.epoch == Epoch(1));
    CHECK(seen.head.session == attach.session);
    CHECK(seen.head.lane == wire::kNoLane);
    CHECK(seen.head.uid == 1000);
    CHECK(seen.head.gid == 100);
    if (seen.op == FlareOp::getattr)
      world.second().answer(seen, wire::AttrReply{file_attr(kHigh, 12)});
    else
      world.second().refuse(seen, Code::not_found);
  };
  Got<wire::Attr> attr;
  Got<wire::EntryReply> found;
  world.client->getattr(kHigh, kWho, attr.done());
  world.client->lookup(kHigh, "nothing", kWho, found.done());
  CHECK(world.run_until([&] { return attr.is_over() && found.is_over(); }));
  REQUIRE(attr.is_ok());
  CHECK(attr.value().size == 12);
  CHECK(found.code() == Code::not_found);
  CHECK(world.second().last(FlareOp::lookup).as<wire::LookupRequest>().name == "nothing");
}

TEST_CASE("client: start says why it fails") {
  SUBCASE("nobody answers") {
    World world;
    world.first().kill();
    Got<wire::AttachReply> got;
    Instant begin = world.clock.now();
    world.client->start(seconds(5), got.done());
    CHECK(world.run_until([&] { return got.is_over(); }));
    CHECK(got.code() == Code::unreachable);
    CHECK(got.detail().find("10.0.0.1:12000") != std::string::npos);
    CHECK(world.clock.now() - begin >= seconds(5));
    CHECK(world.clock.now() - begin < seconds(6));
  }
  SUBCASE("the key is wrong") {
    World world([](client::ClientConfig& config) { config.keys.client = test_keys(2).client; });
    Got<wire::AttachReply> got;
    world.client->start(seconds(5), got.done());
    CHECK(world.run_until([&] { return got.is_over(); }));
    CHECK(got.code() == Code::wrong_key);
  }
  SUBCASE("no host is named") {
    World world([](client::ClientConfig& config) { config.hosts.clear(); });
    Got<wire::AttachReply> got;
    world.client->start(seconds(5), got.done());
    CHECK(got.code() == Code::unreachable);
  }
  SUBCASE("one of two hosts is enough") {
    World world([](client::ClientConfig& config) {
      config.hosts.insert(config.hosts.begin(), sys::Address::v4(10, 9, 9, 9, 12000));
    });
    CHECK(world.start());
  }
  SUBCASE("the volcano refuses for good") {
    World world;
    world.first().attach_code = Code::permission;
    Got<wire::AttachReply> got;
    world.client->start(seconds(5), got.done());
    CHECK(world.run_until([&] { return got.is_over(); }));
    CHECK(got.code() == Code::permission);
  }
}

TEST_CASE("client: a pass-phrase serves as key once a volcano has told the filesystem's UUID") {
  crypto::Uuid filesystem;
  filesystem.fill(7);
  auto secret = crypto::secret_from_passphrase("correct horse", filesystem);
  REQUIRE(secret.has_value());
  auto start_with = [&](const char* passphrase) {
    World world([&](client::ClientConfig& config) {
      config.keys = {};
      config.passphrase = passphrase;
    });
    for (auto& volcano : world.volcanoes) {
      volcano->kill();
      volcano->keys = crypto::keyring_from_network_secret(*secret);
      volcano->start();
    }
    Got<wire::AttachReply> got;
    world.client->start(seconds(10), got.done());
    CHECK(world.run_until([&] { return got.is_over(); }));
    return got.is_ok() ? Code{} : got.code();
  };
  CHECK(start_with("correct horse") == Code{});
  CHECK(start_with("battery staple") == Code::wrong_key);
  CHECK(start_with("short") != Code{});
}

TEST_CASE("client: the session is renewed while nothing happens") {
  World world;
  REQUIRE(world.start());
  std::size_t before = world.first().sessions.size() + world.second().sessions.size();
  world.run(seconds(30));
  std::size_t renewals = world.first().sessions.size() + world.second().sessions.size() - before;
  CHECK(renewals >= 9);
  CHECK(renewals <= 15);
  CHECK_FALSE(world.first().last(FlareOp::attach).as<wire::AttachRequest>().fresh);
  CHECK(world.client->stats().sessions == 1);
}

TEST_CASE("client: a change whose answer is lost is sent again with its lane and sequence") {
  World world;
  REQUIRE(world.start());
  world.first().respond = [&](const Seen& seen) {
    if (world.first().count(FlareOp::mkdir) < 3) return world.first().drop_connections();
    world.first().answer(seen, entry(Ino(99)));
  };
  Got<wire::EntryReply> made;
  world.client->mkdir(mkdir_request("d"), kWho, made.done());
  CHECK(world.run_until([&] { return made.is_over(); }));
  REQUIRE(made.is_ok());
  CHECK(made.value().ino == Ino(99));
  auto sent = world.first().all(FlareOp::mkdir);
  REQUIRE(sent.size() == 3);
  for (const Seen& one : sent) {
    CHECK(one.head.lane == 0);
    CHECK(one.head.sequence == 1);
    CHECK(one.head.session == sent[0].head.session);
    CHECK(one.body == sent[0].body);
  }
  CHECK(world.client->stats().retries == 2);
  CHECK(world.client->stats().reconnects >= 2);
  // The next change in that lane has the next number.
  Got<wire::EntryReply> next;
  world.client->mkdir(mkdir_request("e"), kWho, next.done());
  CHECK(world.run_until([&] { return next.is_over(); }));
  CHECK(world.first().last(FlareOp::mkdir).head.lane == 0);
  CHECK(world.first().last(FlareOp::mkdir).head.sequence == 2);
}

TEST_CASE("client: calls wait for a volcano that is away, for ever") {
  World world;
  REQUIRE(world.start());
  world.first().respond = [&](const Seen& seen) {
    world.first().answer(seen, wire::AttrReply{file_attr(kLow, 3)});
  };
  world.first().kill();
  Got<wire::Attr> attr;
  world.client->getattr(kLow, kWho, attr.done());
  world.run(seconds(120));
  CHECK_FALSE(attr.is_over());
  world.first().start();
  CHECK(world.run_until([&] { return attr.is_over(); }, seconds(5)));
  CHECK(attr.is_ok());
}

TEST_CASE("client: with fail_when_away calls fail after the stall, and only then") {
  World world([](client::ClientConfig& config) {
    config.fail_when_away = true;
    config.stall = seconds(5);
  });
  REQUIRE(world.start());
  world.first().kill();
  Got<wire::Attr> attr;
  Got<wire::EntryReply> made;
  world.client->getattr(kLow, kWho, attr.done());
  world.client->mkdir(mkdir_request("d"), kWho, made.done());
  world.run(milliseconds(4900));
  CHECK_FALSE(attr.is_over());
  CHECK_FALSE(made.is_over());
  world.run(milliseconds(500));
  REQUIRE(attr.code() == Code::io);
  CHECK(made.code() == Code::io);
  CHECK(attr.detail().find("volcano away") != std::string::npos);

  // A volcano that says it is busy is not away.
  world.second().respond = [&](const Seen& seen) {
    if (world.clock.now() < Instant{25'000'000'000}) world.second().refuse(seen, Code::overloaded);
    else world.second().answer(seen, wire::AttrReply{file_attr(kHigh, 3)});
  };
  Got<wire::Attr> busy;
  world.client->getattr(kHigh, kWho, busy.done());
  CHECK(world.run_until([&] { return busy.is_over(); }));
  CHECK(busy.is_ok());
}

TEST_CASE("client: a given-up change is not sent again when the volcano returns") {
  World world([](client::ClientConfig& config) { config.fail_when_away = true; });
  REQUIRE(world.start());
  Got<wire::EntryReply> made;
  world.client->mkdir(mkdir_request("d"), kWho, made.done());  // no answer
  CHECK(world.run_until([&] { return world.first().count(FlareOp::mkdir) == 1; }));
  world.run(seconds(6));
  CHECK(made.code() == Code::io);
  world.first().kill();
  world.run(seconds(15));
  world.first().start();
  world.run(seconds(10));
  CHECK(world.first().count(FlareOp::mkdir) == 1);
  // Its lane is free again, for a later sequence.
  world.first().respond = [&](const Seen& seen) { world.first().answer(seen, entry(Ino(5))); };
  Got<wire::EntryReply> next;
  world.client->mkdir(mkdir_request("e"), kWho, next.done());
  CHECK(world.run_until([&] { return next.is_over(); }));
  CHECK(next.is_ok());
}

TEST_CASE("client: at most 240 changes are under way, each in a lane of its own") {
  World world;
  REQUIRE(world.start());
  std::vector<Got<wire::EntryReply>> made(600);
  for (std::size_t i = 0; i < made.size(); ++i)
    world.client->mkdir(mkdir_request("d" + std::to_string(i)), kWho, made[i].done());
  world.run(milliseconds(100));
  auto sent = world.first().all(FlareOp::mkdir);
  // The rest of the lanes are for writes (requests.h, kWriteLanes).
  const std::size_t lanes_here = wire::kLanes - client::kWriteLanes;
  REQUIRE(sent.size() == lanes_here);
  std::set<std::uint16_t> lanes;
  for (const Seen& one : sent) lanes.insert(one.head.lane);
  CHECK(lanes.size() == lanes_here);
  CHECK(*lanes.rbegin() == lanes_here - 1);
  // A read needs no lane.
  Got<wire::Attr> attr;
  world.client->getattr(kLow, kWho, attr.done());
  world.run(milliseconds(100));
  CHECK(world.first().count(FlareOp::getattr) == 1);

  world.first().respond = [&](const Seen& seen) { world.first().answer(seen, entry(Ino(5))); };
  for (const Seen& one : sent) world.first().answer(one, entry(Ino(5)));
  CHECK(world.run_until([&] {
    return std::all_of(made.begin(), made.end(), [](auto& one) { return one.is_over(); });
  }));
  std::set<std::pair<std::uint16_t, std::uint32_t>> used;
  for (const Seen& one : world.first().all(FlareOp::mkdir))
    CHECK(used.insert({one.head.lane, one.head.sequence}).second);
  CHECK(used.size() == 600);
  for (auto& one : made) CHECK(one.is_ok());
}

TEST_CASE("client: a volcano that is away does not take the lanes of the others") {
  World world;
  REQUIRE(world.start());
  world.second().kill();
  std::vector<Got<wire::EntryReply>> stuck(400);
  for (auto& one : stuck) world.client->mkdir(mkdir_request("x", kHigh), kWho, one.done());
  world.first().respond = [&](const Seen& seen) { world.first().answer(seen, entry(Ino(5))); };
  Got<wire::EntryReply> made;
  world.client->mkdir(mkdir_request("d"), kWho, made.done());
  CHECK(world.run_until([&] { return made.is_over(); }, seconds(1)));
  CHECK(made.is_ok());
}

TEST_CASE("client: refused for now is asked again") {
  World world;
  REQUIRE(world.start());
  int refusals = 0;
  for (Code code : {Code::overloaded, Code::locked, Code::shutting_down, Code::wrong_epoch,
                    Code::not_primary, Code::unreachable}) {
    CAPTURE(name_of(code));
    world.first().seen.clear();
    refusals = 0;
    world.first().respond = [&](const Seen& seen) {
      if (++refusals <= 5) return world.first().refuse(seen, code);
      world.first().answer(seen, entry(Ino(5)));
    };
    Got<wire::EntryReply> made;
    Instant begin = world.clock.now();
    world.client->mkdir(mkdir_request("d"), kWho, made.done());
    CHECK(world.run_until([&] { return made.is_over(); }));
    CHECK(made.is_ok());
    auto sent = world.first().all(FlareOp::mkdir);
    REQUIRE(sent.size() == 6);
    CHECK(sent[5].head.sequence == sent[0].head.sequence);
    CHECK(sent[5].head.lane == sent[0].head.lane);
    CHECK(world.clock.now() - begin >= milliseconds(50));  // not in a tight loop
    CHECK(world.clock.now() - begin < seconds(3));
  }
}

TEST_CASE("client: wrong_epoch fetches the map and asks again with the new epoch") {
  World world;
  REQUIRE(world.start());
  world.set_map(2, 7, 0, 1);
  world.first().respond = [&](const Seen& seen) {
    if (seen.head.epoch != Epoch(7)) return world.first().refuse(seen, Code::wrong_epoch);
    world.first().answer(seen, wire::AttrReply{file_attr(kLow, 3)});
  };
  Got<wire::Attr> attr;
  Instant begin = world.clock.now();
  world.client->getattr(kLow, kWho, attr.done());
  CHECK(world.run_until([&] { return attr.is_over(); }));
  CHECK(attr.is_ok());
  CHECK(world.clock.now() - begin < milliseconds(50));
}

TEST_CASE("client: what was sent to a volcano that lost the slot goes to the new primary") {
  World world;
  REQUIRE(world.start());
  Got<wire::Attr> warm;  // so that both are connected
  world.second().respond = [&](const Seen& seen) {
    if (seen.op == FlareOp::mkdir) return world.second().answer(seen, entry(Ino(8)));
    world.second().answer(seen, wire::AttrReply{file_attr(kHigh, 3)});
  };
  world.client->getattr(kHigh, kWho, warm.done());
  CHECK(world.run_until([&] { return warm.is_over(); }));

  Got<wire::EntryReply> made;
  world.client->mkdir(mkdir_request("d"), kWho, made.done());
  CHECK(world.run_until([&] { return world.first().count(FlareOp::mkdir) == 1; }));
  world.network.cut(world.first().address, true);
  world.set_map(2, 2, 1, 1);
  Instant begin = world.clock.now();
  CHECK(world.run_until([&] { return made.is_over(); }));
  CHECK(made.is_ok());
  // Long before the connection is given up: the map is asked for after a second of silence.
  CHECK(world.clock.now() - begin < seconds(3));
  auto before = world.first().last(FlareOp::mkdir).head;
  auto after = world.second().last(FlareOp::mkdir).head;
  CHECK(after.lane == before.lane);
  CHECK(after.sequence == before.sequence);
  CHECK(after.session == before.session);
  CHECK(after.epoch == Epoch(2));
}

TEST_CASE("client: a fenced session is replaced") {
  World world;
  REQUIRE(world.start());
  SessionId old = world.first().sessions.back();
  // Two opens, one of them ended again; one change under way, one that was never sent.
  world.first().respond = [&](const Seen& seen) {
    if (seen.op == FlareOp::open)
      world.first().answer(seen, wire::AttrReply{file_attr(kLow, 3)});
    else if (seen.op == FlareOp::release)
      world.first().answer(seen, wire::EmptyReply{});
  };
  Got<wire::Attr> reading, writing, closed;
  world.client->open(kLow, false, false, kWho, reading.done());
  world.client->open(kLow, true, true, kWho, writing.done());
  world.client->open(kLow, true, false, kWho, closed.done());
  CHECK(world.run_until([&] { return closed.is_over(); }));
  world.client->release(kLow, true);
  CHECK(world.run_until([&] { return world.first().count(FlareOp::release) == 1; }));
  world.run(milliseconds(10));
  Got<wire::EntryReply> sent;
  world.client->mkdir(mkdir_request("sent"), kWho, sent.done());
  CHECK(world.run_until([&] { return world.first().count(FlareOp::mkdir) == 1; }));
  std::vector<Got<wire::EntryReply>> queued(256);
  for (auto& one : queued) world.client->mkdir(mkdir_request("more"), kWho, one.done());
  world.run(milliseconds(10));

  std::size_t opens_before = world.first().count(FlareOp::open);
  world.first().respond = [&](const Seen& seen) {
    if (seen.head.session == old) return world.first().refuse(seen, Code::unknown_session);
    if (seen.op == FlareOp::open || seen.op == FlareOp::getattr)
      return world.first().answer(seen, wire::AttrReply{file_attr(kLow, 3)});
    world.first().answer(seen, entry(Ino(5)));
  };
  Got<wire::Attr> read;
  world.client->getattr(kLow, kWho, read.done());
  CHECK(world.run_until([&] { return read.is_over() && queued.back().is_over(); }));
  CHECK(read.is_ok());                       // reads are simply asked again
  CHECK(sent.code() == Code::fenced);        // sent: maybe done
  CHECK(queued.front().code() == Code::fenced);
  CHECK(queued.back().is_ok());              // the 257th had no lane and was never sent
  SessionId now = world.first().sessions.back();
  CHECK(now != old);
  CHECK(world.client->stats().sessions == 2);
  world.run(milliseconds(100));
  auto opens = world.first().all(FlareOp::open);
  REQUIRE(opens.size() == opens_before + 2);
  int writers = 0;
  for (std::size_t i = opens_before; i < opens.size(); ++i) {
    auto message = opens[i].as<wire::OpenRequest>();
    CHECK(opens[i].head.session == now);
    CHECK(message.ino == kLow);
    CHECK_FALSE(message.truncate);
    if (message.for_write) ++writers;
  }
  CHECK(writers == 1);
  // Sequences began anew.
  for (const Seen& one : world.first().all(FlareOp::mkdir))
    if (one.head.session == now) CHECK(one.head.sequence == 1);
}

TEST_CASE("client: after the lease has run out nothing is sent before the ring has confirmed it") {
  World world;
  REQUIRE(world.start());
  world.run(milliseconds(100));
  SessionId old = world.first().sessions.back();
  world.network.cut(world.client_address, true);
  world.run(seconds(60));
  world.first().respond = [&](const Seen& seen) {
    CHECK(seen.head.session != old);
    world.first().answer(seen, entry(Ino(5)));
  };
  bool is_refusing = true;
  world.first().attach_code = Code::unknown_session;
  Got<wire::EntryReply> made;
  world.client->mkdir(mkdir_request("d"), kWho, made.done());
  world.network.cut(world.client_address, false);
  CHECK(world.run_until([&] {
    if (is_refusing && world.first().sessions.back() != old) {
      is_refusing = false;
      world.first().attach_code = Code{};
    }
    return made.is_over();
  }));
  CHECK(made.is_ok());  // not EIO: it had not been sent under the old session
  CHECK(world.client->stats().sessions == 2);
}

TEST_CASE("client: an attach that was done but not answered leads to a new session") {
  World world;
  world.first().attach_code = Code::exists;
  Got<wire::AttachReply> got;
  world.client->start(seconds(5), got.done());
  CHECK(world.run_until([&] { return world.first().sessions.size() >= 2; }));
  world.first().attach_code = Code{};
  CHECK(world.run_until([&] { return got.is_over(); }));
  CHECK(got.is_ok());
  CHECK(world.first().sessions[0] != world.first().sessions[1]);
}

TEST_CASE("client: cancel answers at once; the lane waits for the volcano") {
  World world;
  REQUIRE(world.start());
  Got<wire::EntryReply> first, second, third;
  auto call = world.client->mkdir(mkdir_request("a"), kWho, first.done());
  CHECK(world.run_until([&] { return world.first().count(FlareOp::mkdir) == 1; }));
  world.client->cancel(call);
  CHECK(first.code() == Code::interrupted);
  world.client->cancel(call);
  world.client->mkdir(mkdir_request("b"), kWho, second.done());
  CHECK(world.run_until([&] { return world.first().count(FlareOp::mkdir) == 2; }));
  CHECK(world.first().last(FlareOp::mkdir).head.lane == 1);
  world.first().answer(world.first().all(FlareOp::mkdir)[0], entry(Ino(5)));
  world.run(milliseconds(10));
  world.client->mkdir(mkdir_request("c"), kWho, third.done());
  CHECK(world.run_until([&] { return world.first().count(FlareOp::mkdir) == 3; }));
  CHECK(world.first().last(FlareOp::mkdir).head.lane == 0);
  CHECK(world.first().last(FlareOp::mkdir).head.sequence == 2);
  CHECK(first.times() == 1);

  // A read is simply dropped, and the volcano is told.
  Got<wire::Attr> attr;
  call = world.client->getattr(kLow, kWho, attr.done());
  CHECK(world.run_until([&] { return world.first().count(FlareOp::getattr) == 1; }));
  world.client->cancel(call);
  CHECK(attr.code() == Code::interrupted);
  CHECK(world.run_until([&] { return world.first().cancelled.size() == 1; }, seconds(1)));
}

TEST_CASE("client: a cancelled open that was done is released") {
  World world;
  REQUIRE(world.start());
  Got<wire::Attr> opened;
  auto call = world.client->open(kLow, true, false, kWho, opened.done());
  CHECK(world.run_until([&] { return world.first().count(FlareOp::open) == 1; }));
  world.client->cancel(call);
  CHECK(opened.code() == Code::interrupted);
  world.first().answer(world.first().last(FlareOp::open), wire::AttrReply{file_attr(kLow, 3)});
  CHECK(world.run_until([&] { return world.first().count(FlareOp::release) == 1; }));
  auto release = world.first().last(FlareOp::release);
  CHECK(release.as<wire::ReleaseRequest>().ino == kLow);
  CHECK(release.as<wire::ReleaseRequest>().for_write);
  CHECK(release.head.lane != wire::kNoLane);
}

TEST_CASE("client: releases do not stand in the way of other calls") {
  World world;
  REQUIRE(world.start());
  for (int i = 0; i < 1000; ++i) world.client->release(kLow, false);
  Got<wire::EntryReply> made;
  world.client->mkdir(mkdir_request("d"), kWho, made.done());
  world.run(milliseconds(100));
  CHECK(world.first().count(FlareOp::mkdir) == 1);
  CHECK(world.first().count(FlareOp::release) == 32);
  world.first().respond = [&](const Seen& seen) {
    world.first().answer(seen, wire::EmptyReply{});
  };
  for (const Seen& one : world.first().all(FlareOp::release))
    world.first().answer(one, wire::EmptyReply{});
  world.run(seconds(1));
  CHECK(world.first().count(FlareOp::release) == 1000);
}

TEST_CASE("client: stop waits for what is under way, then detaches") {
  World world;
  REQUIRE(world.start());
  Got<wire::Attr> attr;
  world.client->getattr(kLow, kWho, attr.done());
  world.client->release(kLow, false);
  bool stopped = false;
  world.client->stop(seconds(4), [&] { stopped = true; });
  Got<wire::Attr> late;
  world.client->getattr(kLow, kWho, late.done());
  CHECK(late.code() == Code::io);
  world.run(milliseconds(100));
  CHECK_FALSE(stopped);
  world.first().answer(world.first().last(FlareOp::getattr), wire::AttrReply{file_attr(kLow, 3)});
  world.first().answer(world.first().last(FlareOp::release), wire::EmptyReply{});
  world.first().respond = [&](const Seen& seen) {
    if (seen.op == FlareOp::detach) world.first().answer(seen, wire::EmptyReply{});
  };
  CHECK(world.run_until([&] { return stopped; }, seconds(1)));
  CHECK(attr.is_ok());
  std::size_t detached = world.first().count(FlareOp::detach);
  detached += world.second().count(FlareOp::detach);
  CHECK(detached == 1);
}

TEST_CASE("client: stop is bounded, and ends what is under way") {
  World world;
  REQUIRE(world.start());
  Got<wire::Attr> attr;
  Got<Bytes> bytes;
  world.client->getattr(kLow, kWho, attr.done());
  world.client->read(kLow, 0, 100, kWho, bytes.done());
  world.run(milliseconds(10));
  bool stopped = false;
  Instant begin = world.clock.now();
  world.client->stop(seconds(4), [&] { stopped = true; });
  CHECK(world.run_until([&] { return stopped; }));
  CHECK(world.clock.now() - begin <= seconds(5));
  CHECK(attr.code() == Code::io);
  CHECK(bytes.code() == Code::io);
}

TEST_CASE("client: an answer that makes no sense is an error, not a crash") {
  World world;
  REQUIRE(world.start());
  world.first().respond = [&](const Seen& seen) { world.first().answer(seen, wire::EmptyReply{}); };
  Got<wire::Attr> attr;
  Got<wire::ReaddirReply> names;
  world.client->getattr(kLow, kWho, attr.done());
  wire::ReaddirRequest readdir;
  readdir.dir = kLow;
  world.client->readdir(readdir, kWho, names.done());
  CHECK(world.run_until([&] { return attr.is_over() && names.is_over(); }));
  CHECK(attr.code() == Code::malformed);
  CHECK(names.code() == Code::malformed);
}

TEST_CASE("client: more calls than it can hold are refused") {
  World world;
  REQUIRE(world.start());
  world.first().kill();
  std::vector<Got<wire::Attr>> calls(65537);
  for (auto& one : calls) world.client->getattr(kLow, kWho, one.done());
  CHECK(calls.back().code() == Code::overloaded);
  CHECK_FALSE(calls.front().is_over());
}
