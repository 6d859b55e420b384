// Decoders of the lava map and of its commands, and the commands themselves. The first byte
// chooses: 0: the rest is a map; 1: a command, also applied to a small ring; 2: commands one after
// the other, each u16 length + bytes, applied to a ring that is founded. What decodes must encode
// to the same bytes; a map that decodes keeps its invariants whatever is applied to it.
#include <cstdlib>
#include <string>

#include "libmagma/base/check.h"
#include "libmagma/ring/placement.h"
#include "libmagma/wire/lava_map_codec.h"

namespace {

using namespace magma;
using namespace magma::ring;

LavaMap small_ring() {
  LavaMap map;
  for (unsigned n = 1; n <= 3; ++n) {
    const std::string name = "v" + std::to_string(n);
    const Profile profile{.nick = name,
                          .fqdn = name + ".example.org",
                          .flare = "10.0.0." + std::to_string(n) + ":12000",
                          .node = "10.0.0." + std::to_string(n) + ":12001",
                          .console = {}};
    const auto done =
        n == 1 ? apply_command(map, Found{.filesystem = {}, .copies = 2, .profile = profile})
               : apply_command(map, AddVolcano{map.membership, profile});
    MAGMA_CHECK(done.has_value());
  }
  return map;
}

void apply_checked(LavaMap& map, ByteSpan in) {
  const auto command = wire::decode_command(in);
  if (!command) return;
  MAGMA_CHECK(as_text(wire::encode_command(*command)) == as_text(in));
  MAGMA_CHECK(!wire::describe_command(*command).empty());
  const LavaMap before = map;
  if (apply_command(map, *command))
    MAGMA_CHECK(check_step(before, map).empty());
  else
    MAGMA_CHECK(map == before);
}

void try_map(ByteSpan in) {
  auto map = wire::decode_map(in);
  if (!map) return;
  MAGMA_CHECK(check(*map).empty());
  if (in[0] == kMapFormat) {
    MAGMA_CHECK(as_text(wire::encode_map(*map)) == as_text(in));
    MAGMA_CHECK(encoded_bytes(*map) == in.size());
  }
  for (const Command& step : moving_steps(*map, kSlotCount)) {
    LavaMap next = *map;
    if (apply_command(next, step)) MAGMA_CHECK(check_step(*map, next).empty());
  }
}

void try_commands(LavaMap map, ByteSpan in) {
  ByteReader reader(in);
  for (int i = 0; i < 64 && reader.left() > 0 && !reader.bad(); ++i) {
    const auto length = reader.get<std::uint16_t>();
    apply_checked(map, reader.get_raw(length));
  }
  MAGMA_CHECK(wire::decode_map(wire::encode_map(map)).has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  static const LavaMap ring = small_ring();
  const ByteSpan in(data + 1, size - 1);
  switch (data[0]) {
    case 0: try_map(in); break;
    case 1: {
      LavaMap map = ring;
      apply_checked(map, in);
      break;
    }
    case 2: try_commands(ring, in); break;
    default: break;
  }
  return 0;
}
