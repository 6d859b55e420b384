// The reserve of the disk, and how long who finds too little waits for more.
#include <doctest/doctest.h>

#include "magmad/space_guard.h"
#include "tests/lib/sim_disk.h"

namespace magma {
namespace {

constexpr Instant kStart = Instant{} + seconds(100);

TEST_CASE("space: the reserve is 5 % of the disk, 16 MiB at least and 256 MiB at most") {
  CHECK(SpaceGuard::reserve_bytes(0) == 16u << 20);
  CHECK(SpaceGuard::reserve_bytes(1u << 30) == (1u << 30) / 20);
  CHECK(SpaceGuard::reserve_bytes(std::uint64_t{1} << 50) == 256u << 20);
}

TEST_CASE("space: the disk is looked at every 50 ms") {
  test::SimDisk disk;
  SpaceGuard guard(disk);
  CHECK_FALSE(guard.is_short(kStart));
  disk.limit_space(1u << 20);
  CHECK_FALSE(guard.is_short(kStart + SpaceGuard::kCheckEvery - milliseconds(1)));
  CHECK(guard.is_short(kStart + SpaceGuard::kCheckEvery));
  disk.limit_space({});
  CHECK(guard.is_short(kStart + SpaceGuard::kCheckEvery));
  CHECK_FALSE(guard.is_short(kStart + SpaceGuard::kCheckEvery + SpaceGuard::kCheckEvery));
}

TEST_CASE("space: there is plenty if what each client may keep back fits above the reserve") {
  test::SimDisk disk;
  SpaceGuard guard(disk);
  Instant now = kStart;
  auto has_plenty = [&](std::uint64_t mib, std::size_t clients) {
    disk.limit_space(mib << 20);
    now = now + SpaceGuard::kCheckEvery;
    return guard.has_plenty(now, clients);
  };
  CHECK(has_plenty(4'000, 3));
  CHECK(has_plenty(500, 3));
  CHECK_FALSE(has_plenty(200, 3));
  CHECK(has_plenty(200, 1));
  CHECK_FALSE(has_plenty(10, 0));
}

TEST_CASE("space: a wait in vain is not begun anew before 10 s, unless something is removed") {
  test::SimDisk disk;
  SpaceGuard guard(disk);
  CHECK(guard.may_wait(kStart, kStart));
  CHECK(guard.may_wait(kStart, kStart + SpaceGuard::kWaitMax - milliseconds(1)));
  const Instant end = kStart + SpaceGuard::kWaitMax;
  CHECK_FALSE(guard.may_wait(kStart, end));
  CHECK_FALSE(guard.may_wait(end, end));
  CHECK_FALSE(guard.may_wait(end, end + SpaceGuard::kRefuseFor - milliseconds(1)));
  CHECK(guard.may_wait(end + SpaceGuard::kRefuseFor, end + SpaceGuard::kRefuseFor));
  guard.removed();
  CHECK(guard.may_wait(end, end));
}

}  // namespace
}  // namespace magma
