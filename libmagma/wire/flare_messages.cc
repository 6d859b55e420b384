#include "libmagma/wire/flare_messages.h"

namespace magma::wire {

std::optional<Code> name_error(std::string_view name) {
  if (name.size() > kNameBytesMax) return Code::name_too_long;
  if (name.empty() || name == "." || name == "..") return Code::invalid;
  if (name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos)
    return Code::invalid;
  return std::nullopt;
}

std::optional<Code> xattr_name_error(std::string_view name) {
  if (name.empty() || name.size() > kXattrNameBytesMax) return Code::out_of_range;
  if (name.find('\0') != std::string_view::npos) return Code::invalid;
  if (name == "system.posix_acl_access" || name == "system.posix_acl_default") return std::nullopt;
  for (std::string_view space : {"user.", "trusted.", "security."})
    if (name.starts_with(space))
      return name.size() > space.size() ? std::nullopt : std::optional(Code::invalid);
  return Code::unsupported;  // magma.* too: they are told, not stored
}

namespace {
// Numbers of rpc::Priority; wire does not include rpc.
constexpr std::uint8_t lock = 1;
constexpr std::uint8_t metadata = 2;
constexpr std::uint8_t data = 3;
constexpr std::uint8_t background = 4;
}  // namespace

std::string_view name_of(FlareOp op) {
  switch (op) {
#define MAGMA_FLARE_OP(name, number, Request, Response, kind, priority) \
  case FlareOp::name:                                                   \
    return #name;
#include "libmagma/wire/flare_ops.def"
#undef MAGMA_FLARE_OP
  }
  return "?";
}

bool is_known_op(std::uint16_t number) { return name_of(static_cast<FlareOp>(number)) != "?"; }

OpKind kind_of(FlareOp op) {
  switch (op) {
#define MAGMA_FLARE_OP(name, number, Request, Response, kind, priority) \
  case FlareOp::name:                                                   \
    return OpKind::kind;
#include "libmagma/wire/flare_ops.def"
#undef MAGMA_FLARE_OP
  }
  return OpKind::read;
}

std::uint8_t priority_of(FlareOp op) {
  switch (op) {
#define MAGMA_FLARE_OP(name, number, Request, Response, kind, priority) \
  case FlareOp::name:                                                   \
    return priority;
#include "libmagma/wire/flare_ops.def"
#undef MAGMA_FLARE_OP
  }
  return metadata;
}

}  // namespace magma::wire
