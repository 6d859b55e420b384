// Proof that rare things happened: SOMETIMES(name) counts each time a path of a test is reached,
// and the run fails at its end if a name that was declared with SOMETIMES_MUST stays at 0. Without
// this a random test may pass because it never tried.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace magma::test {

inline std::map<std::string, std::uint64_t, std::less<>>& sometimes_counters() {
  static std::map<std::string, std::uint64_t, std::less<>> counters;
  return counters;
}
inline void sometimes(std::string_view name, std::uint64_t times = 1) {
  auto& counters = sometimes_counters();
  auto found = counters.find(name);
  if (found == counters.end()) found = counters.emplace(std::string(name), 0).first;
  found->second += times;
}

}  // namespace magma::test
