// A listening endpoint fed with datagrams of strangers: it never answers with more bytes than it
// got and never believes that anyone has connected. Input: datagrams, each after its u16 length.
#include "fuzz/rpc_fuzz.h"
#include "libmagma/base/check.h"
#include "libmagma/rpc/relay.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace magma;
  fuzz::StillClock clock;
  fuzz::FixedRandom random;
  fuzz::Drain drain;
  fuzz::Answerer handler;
  rpc::EndpointConfig config;
  config.accepts = true;
  config.keys = crypto::keyring_from_network_secret(crypto::make_secret(random));
  rpc::Endpoint endpoint(config, clock, random, drain, handler);
  const auto peer = sys::Address::v4(10, 0, 0, 2, 4000);
  endpoint.set_volcanoes({sys::Address::v4(10, 0, 0, 3, 12000), peer});
  endpoint.connect(peer, crypto::Role::client, seconds(10));  // a set-up under way, too
  std::uint64_t allowed = drain.sent;
  ByteReader in({data, size});
  while (in.left() >= 2) {
    const std::size_t length = in.get<std::uint16_t>();
    const ByteSpan raw = in.get_raw(std::min(length, in.left()));
    Bytes datagram(raw.begin(), raw.end());
    // Padding costs the fuzzer nothing: a first byte says whether to blow it up to a HELLO.
    if (datagram.size() > 2 && (datagram[1] & 0x0f) == 1) datagram.resize(1200);
    if (datagram.size() > rpc::kRelayHeaderBytes + 2 && rpc::is_relay_packet(datagram) &&
        (datagram[rpc::kRelayHeaderBytes + 1] & 0x0f) == 1)
      datagram.resize(1200 + rpc::kRelayHeaderBytes);
    allowed += datagram.size();
    // Something passed on to us may be answered the same way; nothing is passed on to others.
    // Our own INIT, when a forged HELLO answer asked for one, goes to the address we chose.
    const std::size_t type = rpc::is_relay_packet(datagram) ? rpc::kRelayHeaderBytes + 1 : 1;
    const bool may_dial = datagram.size() > type && (datagram[type] & 0x0f) == 2;
    endpoint.on_datagram(peer, datagram);
    endpoint.flush();
    if (may_dial) allowed += 300 + rpc::kRelayHeaderBytes;
    MAGMA_CHECK(drain.sent <= allowed);
  }
  MAGMA_CHECK(handler.connected == 0);
  MAGMA_CHECK(endpoint.connection_count() == 0);
  MAGMA_CHECK(endpoint.counters().packets_relayed == 0);
  return 0;
}
