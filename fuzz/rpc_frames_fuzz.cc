// The packet and frame decoder on any bytes: everything it hands out lies inside the input and
// keeps what packet.h promises.
#include <cstdlib>

#include "libmagma/base/check.h"
#include "libmagma/rpc/handshaking.h"
#include "libmagma/rpc/packet.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace magma;
  using namespace magma::rpc;
  Bytes input(data, data + size);
  Header header;
  if (read_header(input, header)) {
    std::uint8_t again[kHeaderBytes];
    write_header(again, header);
    MAGMA_CHECK(std::memcmp(again, data, kHeaderBytes) == 0);
    if (auto hello = decode_hello(input))
      MAGMA_CHECK(decode_hello(encode_hello(header.shard, *hello)).has_value());
    if (auto answer = decode_hello_answer(input))
      MAGMA_CHECK(encode_hello_answer(Hello{}, *answer).size() == input.size());
    if (auto init = decode_init(input))
      MAGMA_CHECK(encode_init(header.shard, *init).size() == input.size());
  }
  decode_parameters(input);
  FrameReader reader(input);
  Frame frame;
  std::uint64_t sum = 0;
  while (reader.next(frame)) {
    if (frame.type == FrameType::ack) {
      MAGMA_CHECK(frame.range_count >= 1 && frame.ranges[0].high == frame.largest);
      for (unsigned i = 0; i < frame.range_count; ++i) {
        MAGMA_CHECK(frame.ranges[i].low <= frame.ranges[i].high);
        MAGMA_CHECK(i == 0 || frame.ranges[i].high + 1 < frame.ranges[i - 1].low);
      }
    } else if (frame.type <= FrameType::response_part) {
      MAGMA_CHECK(std::uint64_t{frame.offset} + frame.bytes.size() <= frame.total);
      for (const std::uint8_t b : frame.bytes) sum += b;
    }
  }
  return sum == 0x123456789abcdef ? 1 : 0;
}
