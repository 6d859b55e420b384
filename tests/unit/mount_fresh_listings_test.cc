#include <doctest/doctest.h>

#include "mount.magma/fresh_listings.h"

namespace {

using magma::Ino;
using magma::Instant;
using magma::milliseconds;
using magma::seconds;
using magma::mount::FreshListings;

constexpr Ino kDir{100};
constexpr Ino kOther{101};

TEST_CASE("fresh listings: a directory is listed from memory while most of a term is left") {
  FreshListings listings;
  const Instant now = Instant{} + seconds(1000);
  CHECK_FALSE(listings.contains(kDir, now));
  listings.add(kDir, now + seconds(5), now);
  CHECK(listings.contains(kDir, now));
  CHECK_FALSE(listings.contains(kOther, now));
  const Instant last = now + seconds(5) - FreshListings::kWorthKeeping;
  CHECK(listings.contains(kDir, last));
  CHECK_FALSE(listings.contains(kDir, last + milliseconds(1)));
}

TEST_CASE("fresh listings: what is not believed, or changed by others, is not listed so") {
  FreshListings listings;
  const Instant now = Instant{} + seconds(1000);
  listings.add(kDir, Instant{}, now);
  CHECK_FALSE(listings.contains(kDir, now));
  listings.add(kDir, now + FreshListings::kWorthKeeping - milliseconds(1), now);
  CHECK(listings.size() == 0);
  listings.add(kDir, now + seconds(5), now);
  listings.add(kOther, now + seconds(5), now);
  listings.forget(kDir);
  CHECK_FALSE(listings.contains(kDir, now));
  CHECK(listings.contains(kOther, now));
}

TEST_CASE("fresh listings: bounded, the ended ones go first") {
  FreshListings listings;
  const Instant now = Instant{} + seconds(1000);
  for (std::uint64_t i = 0; i < FreshListings::kDirectoriesMax; ++i)
    listings.add(Ino(1000 + i), now + seconds(5), now);
  CHECK(listings.size() == FreshListings::kDirectoriesMax);
  const Instant later = now + seconds(4);
  listings.add(kDir, later + seconds(5), later);
  CHECK(listings.size() == 1);
  for (std::uint64_t i = 0; i < FreshListings::kDirectoriesMax + 10; ++i)
    listings.add(Ino(1000 + i), later + seconds(5), later);
  CHECK(listings.size() <= FreshListings::kDirectoriesMax);
  CHECK(listings.contains(Ino(1000 + FreshListings::kDirectoriesMax + 9), later));
}

}  // namespace
