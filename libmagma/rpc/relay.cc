#include "libmagma/rpc/relay.h"

#include <algorithm>
#include <cstring>

#include "libmagma/rpc/packet.h"

namespace magma::rpc {

namespace {

constexpr std::size_t kTrainBytesMax = 65507;  // sys::Datagrams::send

void write_relay_header(std::uint8_t* out, RelayLeg leg, const sys::Address& end) {
  out[0] = 0;
  out[1] = kRelayType;
  out[2] = static_cast<std::uint8_t>(leg);
  out[3] = 0;
  store16(out + 4, end.port);
  std::memcpy(out + 6, end.ip.data(), end.ip.size());
}

}  // namespace

void Relay::set_volcanoes(const std::vector<sys::Address>& volcanoes) {
  volcanoes_ = {volcanoes.begin(), volcanoes.end()};
}

void Relay::pass_on(const sys::Address& to, RelayLeg leg, const sys::Address& end,
                    MutableByteSpan datagram) {
  write_relay_header(datagram.data(), leg, end);
  datagram[0] = datagram[kRelayHeaderBytes];  // the shard that it is for in the end
  ++stats_.passed;
  stats_.passed_bytes += datagram.size();
  // A packet that is too large for this leg is lost, as on any path: it tells the ends its MTU.
  datagrams_.send_probe(to, datagram);
}

std::optional<Relay::Arrived> Relay::take(const sys::Address& from, MutableByteSpan datagram) {
  const bool is_sound = datagram.size() > kRelayHeaderBytes && datagram[3] == 0 &&
                        !is_relay_packet(datagram.subspan(kRelayHeaderBytes));
  if (!is_sound) {
    ++stats_.refused;
    return std::nullopt;
  }
  sys::Address end;
  end.port = load16(datagram.data() + 4);
  std::memcpy(end.ip.data(), datagram.data() + 6, end.ip.size());
  const auto leg = static_cast<RelayLeg>(datagram[2]);
  const MutableByteSpan packet = datagram.subspan(kRelayHeaderBytes);
  if (leg == RelayLeg::forward && volcanoes_.contains(end) &&
      clients_.is_connected_with(from)) {
    pass_on(end, RelayLeg::forwarded, from, datagram);
    return std::nullopt;
  }
  if (leg == RelayLeg::back && volcanoes_.contains(from) && clients_.is_connected_with(end)) {
    pass_on(end, RelayLeg::returned, from, datagram);
    return std::nullopt;
  }
  const RelayLeg mine = accepts_ ? RelayLeg::forwarded : RelayLeg::returned;
  if (leg == mine && end.port != 0) return Arrived{end.through(from), packet};
  ++stats_.refused;
  return std::nullopt;
}

void Relay::send(const sys::Address& to, ByteSpan bytes, std::size_t segment_size) {
  if (!to.is_relayed()) return datagrams_.send(to, bytes, segment_size);
  const sys::Address hop = to.next_hop();
  const std::size_t whole = segment_size + kRelayHeaderBytes;
  burst_.resize(kTrainBytesMax);
  std::size_t used = 0;
  while (!bytes.empty()) {
    const ByteSpan packet = bytes.first(std::min(segment_size, bytes.size()));
    bytes = bytes.subspan(packet.size());
    if (kRelayHeaderBytes + packet.size() > burst_.size()) continue;  // larger than any datagram
    if (used + kRelayHeaderBytes + packet.size() > burst_.size()) {
      datagrams_.send(hop, {burst_.data(), used}, whole);
      used = 0;
    }
    write_relay_header(burst_.data() + used, leg_away(), to);
    std::memcpy(burst_.data() + used + kRelayHeaderBytes, packet.data(), packet.size());
    used += kRelayHeaderBytes + packet.size();
  }
  if (used > 0) datagrams_.send(hop, {burst_.data(), used}, whole);
}

bool Relay::send_probe(const sys::Address& to, ByteSpan datagram) {
  if (!to.is_relayed()) return datagrams_.send_probe(to, datagram);
  if (kRelayHeaderBytes + datagram.size() > kTrainBytesMax) return false;
  burst_.resize(kTrainBytesMax);
  write_relay_header(burst_.data(), leg_away(), to);
  std::memcpy(burst_.data() + kRelayHeaderBytes, datagram.data(), datagram.size());
  return datagrams_.send_probe(to.next_hop(),
                               {burst_.data(), kRelayHeaderBytes + datagram.size()});
}

}  // namespace magma::rpc
