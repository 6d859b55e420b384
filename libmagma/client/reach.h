// How a client reaches the volcanoes that the lava map names (links.h).
#pragma once

#include <cstdint>

namespace magma::client {

enum class Reach : std::uint8_t {
  direct,  // each by itself
  any,     // through another one while it does not answer directly
  proxy,   // all through the volcanoes to begin with (mount.magma -o proxy)
};

}  // namespace magma::client
