#include "libmagma/wire/lava_map_codec.h"

#include "libmagma/base/check.h"
#include "libmagma/wire/codec.h"
#include "libmagma/wire/describe.h"

namespace magma::wire {

using namespace ring;

namespace {

template <class C>
Result<Command> decode_as(ByteSpan body) {
  TRY_VALUE(C command, decode<C>(body));
  return Command(std::move(command));
}

// Of the first format, which had no shares_slots.
Result<LavaMap> decode_map_1(ByteSpan in) {
  constexpr std::size_t kSharesSlots = 1 + 8 + 4 + 8 + 16 + 1;  // format to copies, as in MapForm
  if (in.size() < kSharesSlots) return fail(Code::malformed, "length");
  Bytes now(in.begin(), in.end());
  now[0] = kMapFormat;
  now.insert(now.begin() + kSharesSlots, 0);
  TRY_VALUE(MapForm form, decode<MapForm>(now));
  return from_form(form);
}

}  // namespace

Bytes encode_map(const LavaMap& map) { return encode(to_form(map)); }

Result<LavaMap> decode_map(ByteSpan in) {
  if (in.size() > kMapBytesHardMax) return fail(Code::malformed, "too long");
  if (!in.empty() && in[0] > kMapFormat) return fail(Code::too_new, "lava map");
  if (!in.empty() && in[0] == 1) return decode_map_1(in);
  TRY_VALUE(MapForm form, decode<MapForm>(in));
  return from_form(form);
}

Bytes encode_command(const Command& command) {
  MAGMA_CHECK(!std::holds_alternative<std::monostate>(command));
  Bytes out;
#define MAGMA_MAP_COMMAND(name, number, Struct)        \
  if (const auto* c = std::get_if<Struct>(&command)) { \
    out.push_back(number);                             \
    encode_to(out, *c);                                \
  }
#include "libmagma/ring/map_commands.def"
#undef MAGMA_MAP_COMMAND
  return out;
}

Result<Command> decode_command(ByteSpan in) {
  if (in.empty() || in.size() > kCommandBytesMax) return fail(Code::malformed, "length");
  switch (static_cast<CommandKind>(in[0])) {
#define MAGMA_MAP_COMMAND(name, number, Struct) \
  case CommandKind::name:                       \
    return decode_as<Struct>(in.subspan(1));
#include "libmagma/ring/map_commands.def"
#undef MAGMA_MAP_COMMAND
  }
  return fail(Code::too_new, "command " + std::to_string(in[0]));
}

std::string describe_command(const Command& command) {
  std::string text = "none";
#define MAGMA_MAP_COMMAND(name, number, Struct) \
  if (const auto* c = std::get_if<Struct>(&command)) text = describe(#name, *c);
#include "libmagma/ring/map_commands.def"
#undef MAGMA_MAP_COMMAND
  return text;
}

}  // namespace magma::wire
