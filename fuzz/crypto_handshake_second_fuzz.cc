// An initiator that hears an answer from anybody: a forged one is refused and does not end the
// handshake.
#include "fuzz/crypto_fuzz.h"
#include "libmagma/base/check.h"

using namespace magma;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::HandshakeInput input({data, size});
  const crypto::Secret psk;
  fuzz::FixedRandom initiator_random(1);
  fuzz::FixedRandom responder_random(100);
  crypto::Initiator initiator(input.suite, psk, as_bytes("fuzz"), initiator_random);
  crypto::Responder responder(input.suite, psk, as_bytes("fuzz"), responder_random);
  MAGMA_CHECK(responder.read_first(initiator.write_first({})).has_value());
  const auto answer = responder.write_second(input.is_mutated ? input.rest : ByteSpan());
  Bytes message(input.rest.begin(), input.rest.end());
  if (input.is_mutated) {
    message = answer.message;
    input.mutate(message);
  }
  const auto finished = initiator.read_second(message);
  MAGMA_CHECK(finished.has_value() == (message == answer.message));
  if (!finished) MAGMA_CHECK(initiator.read_second(answer.message).has_value());
  return 0;
}
