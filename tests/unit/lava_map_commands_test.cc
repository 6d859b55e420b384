// The commands about volcanoes, owners, sessions, voters and copies: what each does, and every
// reason to refuse it. Those about replicas: lava_map_slots_test.cc.
#include <doctest/doctest.h>

#include "tests/lib/lava_ring.h"

using namespace magma;
using namespace magma::ring;
using namespace magma::test;

namespace {

constexpr VolcanoId kWallace{1}, kGromit{2}, kPenguin{3};

// wallace, gromit and penguin share the ring and are up.
LavaRing three() {
  LavaRing ring;
  ring.found(2, named("wallace", 1));
  ring.join(named("gromit", 2), kWallace);
  ring.join(named("penguin", 3), kGromit);
  return ring;
}

struct Refusal {
  const char* what;
  Code code;
  Command command;
};

void check_refusals(LavaRing ring, const std::vector<Refusal>& refusals) {
  for (const Refusal& r : refusals) {
    CAPTURE(r.what);
    ring.refused(r.code, r.command);
  }
}

}  // namespace

TEST_CASE("lava map: there is no command before the ring is founded, and no second founding") {
  LavaRing ring;
  CHECK(check(ring.map) == "");
  CHECK(slices(ring.map).empty());
  ring.refused(Code::not_found, SetCopies{.membership = 0, .copies = 3});
  ring.refused(Code::not_found, Command{});
  ring.refused(Code::invalid, Found{.copies = 0, .profile = profile(1)});
  ring.refused(Code::invalid, Found{.copies = 6, .profile = profile(1)});
  ring.refused(Code::invalid, Found{.copies = 2, .profile = {}});
  Profile witness = profile(1);
  witness.roles = kWitness;
  ring.refused(Code::invalid, Found{.copies = 2, .profile = witness});

  CHECK(ring.found() == kWallace);
  CHECK(ring.map.version == 1);
  CHECK(ring.map.generation == 1);
  CHECK(ring.map.voters == std::vector{kWallace});
  CHECK(slices(ring.map) == std::vector<OwnedSlice>{{Slice::whole(), kWallace}});
  for (const SlotEntry& e : ring.map.slots) {
    REQUIRE(e.epoch == Epoch(1));
    REQUIRE(e.state == SlotState::serving);
    REQUIRE(e.owner == kWallace);
  }
  ring.refused(Code::exists, Found{.copies = 2, .profile = profile(2)});
  ring.refused(Code::invalid, Command{});
}

TEST_CASE("lava map: a volcano is added, joining, under a number of its own") {
  LavaRing ring;
  ring.found();
  const std::uint64_t membership = ring.map.membership;
  CHECK(ring.add(profile(2)) == kGromit);
  CHECK(ring.map.membership == membership + 1);
  CHECK(ring.map.find(kGromit)->state == VolcanoState::joining);
  CHECK(ring.map.find(kGromit)->starts == 1);
  CHECK(ring.map.find_nick("v2") == ring.map.find(kGromit));
  CHECK(slices_of(ring.map, kGromit).empty());
  // Numbers are not given twice.
  ring.must(RemoveVolcano{ring.map.membership, kGromit});
  CHECK(ring.map.find(kGromit) == nullptr);
  CHECK(ring.add(profile(2)) == kPenguin);
}

TEST_CASE("lava map: nick, name and addresses are one volcano's") {
  LavaRing ring;
  ring.found();
  auto with = [](auto change) {
    Profile p = profile(2);
    change(p);
    return p;
  };
  struct Case {
    const char* detail;
    Profile profile;
  };
  const Profile first = profile(1);
  const Case taken[] = {
      {"nick v1", with([&](Profile& p) { p.nick = first.nick; })},
      {"name v1.example.org", with([&](Profile& p) { p.fqdn = first.fqdn; })},
      {"address", with([&](Profile& p) { p.flare = first.flare; })},
      {"address", with([&](Profile& p) { p.node = first.node; })},
      {"address", with([&](Profile& p) { p.flare = first.node; })},
      {"address", with([&](Profile& p) { p.node = first.flare; })},
      {"console address", with([&](Profile& p) { p.console = first.console; })},
  };
  for (const Case& c : taken) {
    CAPTURE(c.detail);
    const std::string detail =
        ring.refused(Code::exists, AddVolcano{ring.map.membership, c.profile});
    CHECK(detail.find(c.detail) != detail.npos);
    CHECK(detail.find("in use") != detail.npos);
  }
  const Profile bad[] = {
      with([](Profile& p) { p.nick.clear(); }),
      with([](Profile& p) { p.nick = ".hidden"; }),
      with([](Profile& p) { p.nick = "a b"; }),
      with([](Profile& p) { p.nick = "a/b"; }),
      with([](Profile& p) { p.nick = std::string(64, 'n'); }),
      with([](Profile& p) { p.fqdn = "nodot"; }),
      with([](Profile& p) { p.fqdn = std::string(250, 'n') + ".org"; }),
      with([](Profile& p) { p.flare.clear(); }),
      with([](Profile& p) { p.flare = "no address"; }),
      with([](Profile& p) { p.node.clear(); }),
      with([](Profile& p) { p.node = p.flare; }),
      with([](Profile& p) { p.node = std::string(48, '1'); }),
      with([](Profile& p) { p.console = "\n"; }),
      with([](Profile& p) { p.roles = 0; }),
      with([](Profile& p) { p.roles = kStores | kWitness; }),
  };
  for (const Profile& p : bad) {
    CAPTURE(p.nick);
    ring.refused(Code::invalid, AddVolcano{ring.map.membership, p});
  }
  ring.refused(Code::wrong_epoch, AddVolcano{ring.map.membership + 1, profile(2)});
  // A witness needs no flare address; nobody needs a console; two without one do not clash.
  Profile witness = profile(2), other = profile(3);
  witness.roles = other.roles = kWitness;
  witness.flare = witness.console = other.flare = other.console = "";
  ring.add(witness);
  ring.add(other);
}

TEST_CASE("lava map: there is an end to volcanoes") {
  LavaRing ring;
  ring.found();
  for (unsigned n = 2; n <= kVolcanoesMax; ++n)
    REQUIRE(apply_command(ring.map, AddVolcano{ring.map.membership, profile(n)}).has_value());
  ring.refused(Code::no_space, AddVolcano{ring.map.membership, profile(9999)});
  ring.must(RemoveVolcano{ring.map.membership, kPenguin});
  ring.map.next_id = VolcanoId(kVolcanoIdMax);
  ring.add(profile(9999));
  ring.must(RemoveVolcano{ring.map.membership, kGromit});
  ring.refused(Code::no_space, AddVolcano{ring.map.membership, profile(9998)});
}

TEST_CASE("lava map: a volcano has joined when it has its share") {
  LavaRing ring;
  ring.found();
  ring.add(profile(2));
  ring.refused(Code::busy, VolcanoJoined{ring.map.membership, kGromit});  // it has no share
  ring.assign({{slot(2048), slot(4095), kGromit}});
  ring.refused(Code::busy, VolcanoJoined{ring.map.membership, kGromit});
  ring.settle();
  ring.refused(Code::wrong_epoch, VolcanoJoined{0, kGromit});
  ring.must(VolcanoJoined{ring.map.membership, kGromit});
  CHECK(ring.map.find(kGromit)->state == VolcanoState::up);
  ring.refused(Code::invalid, VolcanoJoined{ring.map.membership, kGromit});
  ring.refused(Code::not_found, VolcanoJoined{ring.map.membership, VolcanoId(9)});
  Profile witness = profile(3);
  witness.roles = kWitness;
  ring.must(VolcanoJoined{ring.map.membership + 1, ring.add(witness)});
}

TEST_CASE("lava map: down, back, gone, back again") {
  LavaRing ring = three();
  check_refusals(ring, {
                           {"another start", Code::wrong_epoch, VolcanoDown{kGromit, 7}},
                           {"unknown", Code::not_found, VolcanoDown{VolcanoId(9), 1}},
                           {"another start", Code::wrong_epoch, VolcanoStarted{kGromit, 0, false}},
                           {"unknown", Code::not_found, VolcanoStarted{VolcanoId(9), 1, false}},
                           {"not down", Code::busy, PatienceOver{kGromit, 1}},
                           {"unknown", Code::not_found, PatienceOver{VolcanoId(9), 1}},
                       });
  ring.down(kGromit);
  CHECK_FALSE(ring.map.is_alive(kGromit));
  check_refusals(ring, {
                           {"down already", Code::exists, VolcanoDown{kGromit, 1}},
                           {"another start", Code::wrong_epoch, PatienceOver{kGromit, 2}},
                       });
  SUBCASE("back") {
    ring.start(kGromit);
    CHECK(ring.map.find(kGromit)->state == VolcanoState::up);
    CHECK(ring.map.find(kGromit)->starts == 2);
    ring.refused(Code::wrong_epoch, VolcanoDown{kGromit, 1});  // late news of the start before
  }
  SUBCASE("gone") {
    const std::uint64_t membership = ring.map.membership;
    ring.must(PatienceOver{kGromit, 1});
    CHECK(ring.map.find(kGromit)->state == VolcanoState::gone);
    CHECK(ring.map.membership == membership + 1);
    for (const SlotEntry& e : ring.map.slots) REQUIRE_FALSE(e.replicas.has(kGromit));
    ring.refused(Code::busy, PatienceOver{kGromit, 1});
    ring.refused(Code::busy, SetLeaving{ring.map.membership, kGromit, true});
    ring.refused(Code::busy, Assign{ring.map.membership, {{slot(0), slot(0), kGromit}}});
    ring.start(kGromit);
    CHECK(ring.map.find(kGromit)->state == VolcanoState::joining);
    CHECK(ring.map.membership == membership + 2);
  }
}

TEST_CASE("lava map: leaving, and staying after all") {
  LavaRing ring = three();
  ring.refused(Code::exists, SetLeaving{ring.map.membership, kGromit, false});
  ring.refused(Code::wrong_epoch, SetLeaving{0, kGromit, true});
  ring.refused(Code::not_found, SetLeaving{ring.map.membership, VolcanoId(9), true});
  ring.must(SetLeaving{ring.map.membership, kGromit, true});
  CHECK(ring.map.find(kGromit)->state == VolcanoState::leaving);
  ring.refused(Code::exists, SetLeaving{ring.map.membership, kGromit, true});
  ring.refused(Code::busy, Assign{ring.map.membership, {{slot(0), slot(0), kGromit}}});
  ring.refused(Code::busy, RemoveVolcano{ring.map.membership, kGromit});
  SUBCASE("it leaves") {
    ring.assign(plan_leave(ring.map, kGromit, Weights())->changes);
    ring.refused(Code::busy, RemoveVolcano{ring.map.membership, kGromit});  // its replicas
    ring.settle();
    ring.must(RemoveVolcano{ring.map.membership, kGromit});
    CHECK(ring.map.volcanoes.size() == 2);
    ring.refused(Code::not_found, RemoveVolcano{ring.map.membership, kGromit});
  }
  SUBCASE("it stays") {
    ring.must(SetLeaving{ring.map.membership, kGromit, false});
    CHECK(ring.map.find(kGromit)->state == VolcanoState::up);
  }
  SUBCASE("it goes down meanwhile, and is leaving when it is back") {
    ring.down(kGromit);
    ring.start(kGromit);
    CHECK(ring.map.find(kGromit)->state == VolcanoState::leaving);
  }
  SUBCASE("it is told to stay while it is down") {
    ring.down(kGromit);
    ring.must(SetLeaving{ring.map.membership, kGromit, false});
    CHECK(ring.map.find(kGromit)->state == VolcanoState::down);
    ring.start(kGromit);
    CHECK(ring.map.find(kGromit)->state == VolcanoState::up);
  }
}

TEST_CASE("lava map: who votes or learns is not removed") {
  LavaRing ring;
  ring.found();
  ring.add(profile(2));
  ring.must(SetVoters{ring.map.membership, {kWallace}, {kGromit}});
  ring.refused(Code::busy, RemoveVolcano{ring.map.membership, kGromit});
  ring.must(SetVoters{ring.map.membership, {kWallace, kGromit}, {}});
  ring.refused(Code::busy, RemoveVolcano{ring.map.membership, kGromit});
  ring.must(SetVoters{ring.map.membership, {kWallace}, {}});
  ring.refused(Code::wrong_epoch, RemoveVolcano{0, kGromit});
  ring.must(RemoveVolcano{ring.map.membership, kGromit});
}

TEST_CASE("lava map: another address") {
  LavaRing ring = three();
  const std::uint64_t membership = ring.map.membership;
  Profile moved = named("gromit", 77);
  ring.must(VolcanoMoved{membership, kGromit, moved});
  CHECK(ring.map.find(kGromit)->profile == moved);
  ring.must(VolcanoMoved{membership + 1, kGromit, moved});  // its own are free to it
  Profile witness = moved, clash = moved, bad = moved;
  witness.roles = kWitness;
  clash.flare = ring.map.find(kPenguin)->profile.flare;
  bad.node.clear();
  check_refusals(
      ring, {
                {"stale", Code::wrong_epoch, VolcanoMoved{membership, kGromit, moved}},
                {"unknown", Code::not_found, VolcanoMoved{membership + 2, VolcanoId(9), moved}},
                {"roles", Code::invalid, VolcanoMoved{membership + 2, kGromit, witness}},
                {"in use", Code::exists, VolcanoMoved{membership + 2, kGromit, clash}},
                {"no address", Code::invalid, VolcanoMoved{membership + 2, kGromit, bad}},
            });
}

TEST_CASE("lava map: owners") {
  LavaRing ring = three();
  const std::uint64_t m = ring.map.membership;
  const auto epochs = ring.at(0, kSlotCount - 1);
  check_refusals(ring,
                 {
                     {"stale", Code::wrong_epoch, Assign{m - 1, {{slot(0), slot(9), kGromit}}}},
                     {"nothing", Code::invalid, Assign{m, {}}},
                     {"backwards", Code::invalid, Assign{m, {{slot(9), slot(8), kGromit}}}},
                     {"overlap", Code::invalid,
                      Assign{m, {{slot(0), slot(9), kGromit}, {slot(9), slot(10), kGromit}}}},
                     {"beyond", Code::invalid, Assign{m, {{slot(0), slot(4096), kGromit}}}},
                     {"unknown", Code::not_found, Assign{m, {{slot(0), slot(9), VolcanoId(9)}}}},
                     // The first run is legal: nothing of it must remain.
                     {"half", Code::not_found,
                      Assign{m, {{slot(0), slot(9), kGromit}, {slot(10), slot(11), VolcanoId(9)}}}},
                 });
  ring.assign({{slot(0), slot(9), kPenguin}, {slot(4095), slot(4095), kWallace}});
  CHECK(ring.entry(9).owner == kPenguin);
  CHECK(ring.entry(10).owner == kWallace);
  CHECK(ring.entry(4095).owner == kWallace);
  CHECK(ring.map.membership == m + 1);
  CHECK(ring.at(0, kSlotCount - 1) == epochs);  // nothing has moved yet
  Profile witness = profile(9);
  witness.roles = kWitness;
  const VolcanoId shaun = ring.add(witness);
  ring.refused(Code::invalid, Assign{ring.map.membership, {{slot(0), slot(9), shaun}}});
}

TEST_CASE("lava map: fenced sessions") {
  LavaRing ring;
  ring.found();
  ring.refused(Code::invalid, FenceSession{SessionId(0)});
  for (std::uint64_t id : {30u, 10u, 20u}) ring.must(FenceSession{SessionId(id)});
  CHECK(ring.map.is_fenced(SessionId(20)));
  CHECK_FALSE(ring.map.is_fenced(SessionId(21)));
  CHECK(ring.map.fenced[1] == FencedSession{SessionId(20), ring.map.version});
  ring.refused(Code::exists, FenceSession{SessionId(20)});
  ring.refused(Code::not_found, ForgetSession{SessionId(21), 1});
  ring.refused(Code::wrong_epoch, ForgetSession{SessionId(20), 1});
  ring.must(ForgetSession{SessionId(20), ring.map.version});
  CHECK_FALSE(ring.map.is_fenced(SessionId(20)));
  for (std::uint64_t id = 100; ring.map.fenced.size() < kFencedMax; ++id)
    REQUIRE(apply_command(ring.map, FenceSession{SessionId(id)}).has_value());
  ring.refused(Code::no_space, FenceSession{SessionId(5)});
}

TEST_CASE("lava map: voters change one at a time and have learned") {
  LavaRing ring = three();
  auto m = [&] { return ring.map.membership; };
  using Ids = std::vector<VolcanoId>;
  ring.refused(Code::wrong_epoch, SetVoters{m() - 1, {kWallace}, {}});
  ring.refused(Code::invalid, SetVoters{m(), {}, {kWallace}});
  ring.refused(Code::invalid, SetVoters{m(), {kWallace, kGromit}, {}});  // has not learned
  ring.refused(Code::not_found, SetVoters{m(), {kWallace}, {VolcanoId(9)}});
  ring.refused(Code::invalid, SetVoters{m(), {kWallace}, {kWallace}});
  ring.refused(Code::invalid, SetVoters{m(), {kWallace}, {kPenguin, kGromit}});
  ring.refused(Code::invalid, SetVoters{m(), {kWallace}, {kGromit, kGromit}});
  ring.must(SetVoters{m(), {kWallace}, {kGromit, kPenguin}});
  ring.refused(Code::invalid, SetVoters{m(), {kWallace, kGromit, kPenguin}, {}});  // two at once
  ring.refused(Code::invalid, SetVoters{m(), {kGromit}, {kPenguin}});              // one for one
  ring.must(SetVoters{m(), {kWallace, kGromit}, {kPenguin}});
  ring.must(SetVoters{m(), {kWallace, kGromit, kPenguin}, {}});
  ring.must(SetVoters{m(), {kGromit, kPenguin}, {}});
  CHECK(ring.map.voters == Ids{kGromit, kPenguin});
  Ids voters = ring.map.voters;
  for (unsigned n = 4; n <= 7; ++n) {
    const VolcanoId id = ring.add(profile(n));
    Ids more = voters;
    more.push_back(id);
    ring.must(SetVoters{m(), voters, {id}});
    if (more.size() > kVotersMax) {
      ring.refused(Code::no_space, SetVoters{m(), more, {}});
      break;
    }
    ring.must(SetVoters{m(), more, {}});
    voters = more;
  }
  CHECK(ring.map.voters.size() == kVotersMax);
}

TEST_CASE("lava map: copies and the ring generation") {
  LavaRing ring;
  ring.found();
  ring.refused(Code::wrong_epoch, SetCopies{0, 3});
  ring.refused(Code::invalid, SetCopies{ring.map.membership, 0});
  ring.refused(Code::invalid, SetCopies{ring.map.membership, 6});
  ring.must(SetCopies{ring.map.membership, 5});
  CHECK(ring.map.copies == 5);
  ring.refused(Code::wrong_epoch, RaiseGeneration{0});
  ring.must(RaiseGeneration{1});
  CHECK(ring.map.generation == 2);
  ring.refused(Code::wrong_epoch, RaiseGeneration{1});
}
