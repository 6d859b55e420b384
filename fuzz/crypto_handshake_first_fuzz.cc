// A responder that hears a first message from anybody. Only a message made with its psk may be
// accepted; after a refusal the true message must still be heard.
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
  const ByteSpan payload = input.is_mutated ? input.rest : ByteSpan();
  const Bytes truth = initiator.write_first(payload);
  Bytes message(input.rest.begin(), input.rest.end());
  if (input.is_mutated) {
    message = truth;
    input.mutate(message);
  }
  const auto heard = responder.read_first(message);
  // The key of this psk is public, so the fuzzer could forge; it will not find an AEAD tag.
  MAGMA_CHECK(heard.has_value() == (message == truth));
  if (!heard) MAGMA_CHECK(responder.read_first(truth).has_value());
  const auto answer = responder.write_second(payload);
  const auto finished = initiator.read_second(answer.message);
  MAGMA_CHECK(finished.has_value());
  MAGMA_CHECK(finished->payload == Bytes(payload.begin(), payload.end()));
  MAGMA_CHECK(finished->keys.send.key == answer.keys.receive.key);
  return 0;
}
