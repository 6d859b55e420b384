// What a volcano's profile may be; used by commands and by check().
#pragma once

#include <string>

#include "libmagma/ring/lava_map.h"

namespace magma::ring {

// What is wrong with a profile alone, as text; empty if nothing is. A nick is a file's name in
// /.dht and a word at the console: letters, digits, '.', '-', '_', and no dot in front. A full name
// has a dot in it (as the first Magma demands).
std::string bad_profile(const Profile& profile);

// What of `profile` a volcano other than `except` has already, as "nick wallace"; empty if nothing.
std::string taken_in(const LavaMap& map, const Profile& profile, VolcanoId except);

}  // namespace magma::ring
