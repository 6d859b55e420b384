// An established connection fed with frames of an authentic but mad peer: no crash, no read outside
// a message, no growth beyond the limits. AEAD is bypassed at Connection::on_frames. Input: packets
// of frames, each after its u16 length; the first bit of the length fires the timers as well.
#include "fuzz/rpc_fuzz.h"
#include "libmagma/base/check.h"
#include "libmagma/rpc/connection.h"

namespace {

using namespace magma;

// Answers some requests, from within the callback, as a volcano does.
class Busy : public fuzz::Answerer {
 public:
  void on_request(rpc::ConnectionId id, rpc::RequestId request, ByteSpan message) override {
    Answerer::on_request(id, request, message);
    if (request.value % 3 != 0)
      connection->reply(request, {.head = Bytes(message.begin(), message.end()),
                                  .tail = Bytes(request.value % 7 == 0 ? 100'000 : 10)},
                        rpc::Priority::data);
  }
  rpc::Connection* connection = nullptr;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::StillClock clock;
  fuzz::FixedRandom random;
  fuzz::Drain drain;
  Busy handler;
  rpc::Counters counters;
  rpc::EndpointConfig config;
  config.limits.incoming_bytes_max = 1u << 20;
  config.limits.message_bytes_max = 512 * 1024;
  config.limits.requests_in_flight_max = 16;
  config.rekey_packets = 8;
  rpc::Shared shared{.config = config,
                     .random = random,
                     .datagrams = drain,
                     .handler = handler,
                     .counters = counters,
                     .buffers = {},
                     .burst = Bytes(65507),
                     .credit_bytes = 1u << 20};
  rpc::Connection::Setup setup;
  setup.id = rpc::ConnectionId{1};
  setup.peer.address = sys::Address::v4(10, 0, 0, 2, 4000);
  setup.peer_parameters = {.boot_id = 1,
                           .connection = 2,
                           .datagram_bytes = 1400,
                           .message_bytes_max = 1u << 20,
                           .requests_max = 64,
                           .credit_bytes = 1u << 20,
                           .unscheduled_bytes = 65536};
  setup.datagram_bytes_max = 9000;
  rpc::Connection connection(shared, setup, crypto::SessionKeys{}, clock.now());
  handler.connection = &connection;
  for (int i = 0; i < 8; ++i)
    (void)connection.call({.head = Bytes(10), .tail = Bytes(i * 30'000)}, rpc::Priority::metadata,
                          clock.now() + seconds(i));
  connection.flush(clock.now());
  ByteReader in({data, size});
  while (in.left() >= 2 && !connection.failure()) {
    const unsigned length = in.get<std::uint16_t>();
    const ByteSpan raw = in.get_raw(std::min<std::size_t>(length & 0x7fff, in.left()));
    Bytes frames(raw.begin(), raw.end());
    connection.on_frames(frames, clock.now());
    clock.advance(microseconds(100));
    if ((length & 0x8000) != 0) {
      clock.advance(milliseconds(300));
      connection.on_timer(clock.now());
    }
    connection.flush(clock.now());
    (void)connection.deadline(clock.now());
  }
  connection.close(true, clock.now());
  return 0;
}
