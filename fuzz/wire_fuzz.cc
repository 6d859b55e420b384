// Every flare message decoder. Input: two bytes choose an operation (big-endian number; 0 the
// heads), one byte request (even) or reply (odd), the rest is the message. What decodes must encode
// to the same bytes again and be describable.
#include <cstdlib>

#include "libmagma/base/check.h"
#include "libmagma/wire/describe.h"
#include "libmagma/wire/flare_messages.h"

namespace {

template <class T>
void try_message(magma::ByteSpan in) {
  auto message = magma::wire::decode<T>(in);
  auto front = magma::wire::decode_front<T>(in);
  if (message) {
    magma::Bytes again = magma::wire::encode(*message);
    MAGMA_CHECK(magma::as_text(again) == magma::as_text(in));
    MAGMA_CHECK(front.has_value() && front->second.empty());
    MAGMA_CHECK(!magma::wire::describe("m", *message).empty());
  } else if (front) {
    magma::Bytes again = magma::wire::encode(front->first);
    MAGMA_CHECK(magma::as_text(again) ==
                magma::as_text(in.first(in.size() - front->second.size())));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace magma::wire;
  if (size < 3) return 0;
  const auto number = static_cast<std::uint16_t>(data[0] << 8 | data[1]);
  const bool reply = data[2] % 2 == 1;
  const magma::ByteSpan in(data + 3, size - 3);
  if (number == 0) {
    if (reply)
      try_message<ResponseHead>(in);
    else
      try_message<RequestHead>(in);
    return 0;
  }
  switch (static_cast<FlareOp>(number)) {
#define MAGMA_FLARE_OP(name, number, Request, Response, kind, priority) \
  case FlareOp::name:                                                   \
    if (reply)                                                          \
      try_message<Response>(in);                                        \
    else                                                                \
      try_message<Request>(in);                                         \
    break;
#include "libmagma/wire/flare_ops.def"
#undef MAGMA_FLARE_OP
  }
  return 0;
}
