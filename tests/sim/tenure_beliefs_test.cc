// What clients believe while a volcano's tenure ends and the next begins: of slots that it keeps it
// knows who believes what, so that nobody sees what was changed, and who changes it need not wait
// until all that any client may believe has ended.
#include <doctest/doctest.h>

#include <map>
#include <vector>

#include "tests/sim/beliefs.h"
#include "tests/sim/scenario.h"

using namespace magma;
using namespace magma::test;

namespace {

constexpr unsigned kDirectories = 60;
constexpr Duration kEvery = milliseconds(20);       // another directory is looked at
constexpr Duration kChangedAfter = milliseconds(150);  // and changed

struct Run {
  unsigned straddled = 0;  // believed from before a tenure's end, changed after it, of a slot kept
  unsigned kept_slow = 0;  // of those: answered when nothing can be believed any more
  unsigned stale = 0;      // believed otherwise when its change was answered
};

// Client 1 looks at one directory after the other, client 0 changes it a little later, while a
// second volcano joins.
Run run_join(std::uint64_t seed, Duration begin) {
  SimCluster cluster({.seed = seed, .clients = 2, .split = 2, .copies = 2, .moving = true});
  Beliefs beliefs;
  cluster.set_listener(1, &beliefs);
  REQUIRE((cluster.start_volcano(0) && cluster.start_client(0) && cluster.start_client(1)));
  std::vector<Ino> dirs;
  for (unsigned i = 0; i < kDirectories; ++i)
    dirs.push_back(ask<wire::EntryReply>(cluster, 0, [&](auto& client, auto done) {
      client.mkdir(mkdir_request(root_ino(), "dir" + std::to_string(i)), {}, std::move(done));
    }).value().ino);
  cluster.run_for(seconds(8));
  beliefs.clear();
  REQUIRE(cluster.start_volcano(1));
  cluster.run_for(begin);

  Run run;
  unsigned left = 2 * kDirectories;
  std::map<Ino, std::uint64_t> told_in;  // tenures
  auto look = [&](Ino ino) {
    cluster.client(1).getattr(ino, {}, [&, ino](Result<wire::Attr> attr) {
      REQUIRE(attr.has_value());
      --left;
      if (attr->believed_until <= cluster.client_now(1)) return;
      beliefs.attrs[ino] = *attr;
      told_in[ino] = cluster.tenures(0).count();
    });
    cluster.touch_client(1);
  };
  auto change = [&](Ino ino) {
    wire::SetattrRequest wanted;
    wanted.ino = ino;
    wanted.fields_set = wire::kSetMode;
    wanted.mode = 0700;
    const bool is_believed = beliefs.attrs.contains(ino);
    const Instant asked = cluster.now();
    cluster.client(0).setattr(wanted, {}, [&, ino, is_believed, asked](Result<wire::Attr> done) {
      REQUIRE(done.has_value());
      --left;
      auto believed = beliefs.attrs.find(ino);
      if (believed != beliefs.attrs.end() &&
          believed->second.believed_until > cluster.client_now(1) &&
          (believed->second.mode & 07777) != 0700)
        ++run.stale;
      const bool is_kept = cluster.volcano(0).owned()[ring::home_of(ino).value];
      if (!is_believed || !is_kept || cluster.tenures(0).count() == told_in[ino]) return;
      ++run.straddled;
      run.kept_slow += cluster.now() - asked > seconds(3);
    });
    cluster.touch_client(0);
  };
  const unsigned lag = static_cast<unsigned>(kChangedAfter.ns / kEvery.ns);
  for (unsigned i = 0; i < kDirectories + lag; ++i) {
    if (i < kDirectories) look(dirs[i]);
    if (i >= lag) change(dirs[i - lag]);
    cluster.run_for(kEvery);
  }
  REQUIRE(cluster.run_until([&] { return left == 0; }, seconds(30)));
  cluster.set_listener(1, nullptr);
  return run;
}

}  // namespace

TEST_CASE("tenures: what is believed of slots that are kept is asked back over the change") {
  if (sim_options().replay) return;
  unsigned straddled = 0;
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    CAPTURE(seed);
    const Run run = run_join(seed, milliseconds(static_cast<std::int64_t>(seed * 60)));
    CHECK(run.stale == 0);
    CHECK(run.kept_slow == 0);
    straddled += run.straddled;
  }
  CHECK(straddled > 20);
}
