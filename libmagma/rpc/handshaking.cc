#include "libmagma/rpc/handshaking.h"

#include <algorithm>

#include "libmagma/crypto/hkdf.h"

namespace magma::rpc {

namespace {

constexpr std::size_t kCookieTagBytes = 16;
constexpr std::uint32_t kDatagramBytesMin = 1200;
constexpr std::uint32_t kDatagramBytesMax = 65507;

Bytes start_packet(std::uint8_t shard, PacketType type, std::uint64_t connection) {
  Bytes packet(kHeaderBytes);
  write_header(packet.data(), {.shard = shard, .type = type, .connection = connection});
  return packet;
}

template <std::size_t N>
std::array<std::uint8_t, N> take(ByteReader& in) {
  std::array<std::uint8_t, N> out{};
  ByteSpan raw = in.get_raw(N);
  std::copy(raw.begin(), raw.end(), out.begin());
  return out;
}

bool is_role(crypto::Role role) {
  return role == crypto::Role::client || role == crypto::Role::ring;
}

void put_hello(ByteWriter& out, const Hello& hello) {
  out.put(hello.version_min);
  out.put(hello.version_max);
  out.put(static_cast<std::uint8_t>(hello.role));
  out.put(hello.shard);
  out.put(hello.connection);
  out.put_raw(hello.nonce);
}

Hello get_hello(ByteReader& in) {
  Hello hello;
  hello.version_min = in.get<std::uint16_t>();
  hello.version_max = in.get<std::uint16_t>();
  hello.role = static_cast<crypto::Role>(in.get<std::uint8_t>());
  hello.shard = in.get<std::uint8_t>();
  hello.connection = in.get<std::uint64_t>();
  hello.nonce = take<16>(in);
  if (!is_role(hello.role) || hello.connection > kConnectionIdMask) in.fail();
  return hello;
}

void put_answer(ByteWriter& out, const HelloAnswer& answer) {
  out.put(answer.version);
  out.put(answer.version_min);
  out.put(answer.version_max);
  out.put(answer.shard);
  out.put_raw(answer.filesystem);
  out.put_raw(answer.nonce);
  out.put_raw(answer.server_nonce);
}

}  // namespace

Bytes encode_hello(std::uint8_t to_shard, const Hello& hello) {
  Bytes packet = start_packet(to_shard, PacketType::hello, 0);
  ByteWriter out(packet);
  put_hello(out, hello);
  packet.resize(kHelloBytes);
  return packet;
}

std::optional<Hello> decode_hello(ByteSpan packet) {
  if (packet.size() < kHelloBytes) return std::nullopt;
  ByteReader in(packet.subspan(kHeaderBytes));
  Hello hello = get_hello(in);
  if (in.bad()) return std::nullopt;
  return hello;
}

Bytes encode_hello_answer(const Hello& to, const HelloAnswer& answer) {
  Bytes packet = start_packet(to.shard, PacketType::hello_answer, to.connection);
  ByteWriter out(packet);
  put_answer(out, answer);
  out.put_raw(answer.cookie);
  return packet;
}

std::optional<HelloAnswer> decode_hello_answer(ByteSpan packet) {
  ByteReader in(packet.subspan(kHeaderBytes));
  HelloAnswer answer;
  answer.version = in.get<std::uint16_t>();
  answer.version_min = in.get<std::uint16_t>();
  answer.version_max = in.get<std::uint16_t>();
  answer.shard = in.get<std::uint8_t>();
  answer.filesystem = take<16>(in);
  answer.nonce = take<16>(in);
  answer.server_nonce = take<16>(in);
  answer.cookie = take<17>(in);
  if (!in.finished()) return std::nullopt;
  return answer;
}

Bytes encode_init(std::uint8_t to_shard, const Init& init) {
  Bytes packet = start_packet(to_shard, PacketType::init, 0);
  ByteWriter out(packet);
  out.put(init.version);
  out.put(static_cast<std::uint8_t>(init.suite));
  put_hello(out, init.hello);
  out.put_raw(init.server_nonce);
  out.put_raw(init.cookie);
  out.put_raw(init.noise);
  return packet;
}

std::optional<Init> decode_init(ByteSpan packet) {
  ByteReader in(packet.subspan(kHeaderBytes));
  Init init;
  init.version = in.get<std::uint16_t>();
  init.suite = static_cast<crypto::Suite>(in.get<std::uint8_t>());
  init.hello = get_hello(in);
  init.server_nonce = take<16>(in);
  init.cookie = take<17>(in);
  init.noise = in.get_raw(in.left());
  const bool known_suite = init.suite == crypto::Suite::aes128_gcm ||
                           init.suite == crypto::Suite::chacha20_poly1305;
  if (in.bad() || !known_suite) return std::nullopt;
  return init;
}

Bytes encode_parameters(const Parameters& p) {
  Bytes payload;
  ByteWriter out(payload);
  out.put(p.boot_id);
  out.put(p.connection);
  out.put(p.datagram_bytes);
  out.put(p.message_bytes_max);
  out.put(p.requests_max);
  out.put(p.credit_bytes);
  out.put(p.unscheduled_bytes);
  return payload;
}

std::optional<Parameters> decode_parameters(ByteSpan payload) {
  ByteReader in(payload);
  Parameters p;
  p.boot_id = in.get<std::uint64_t>();
  p.connection = in.get<std::uint64_t>();
  p.datagram_bytes = in.get<std::uint32_t>();
  p.message_bytes_max = in.get<std::uint32_t>();
  p.requests_max = in.get<std::uint32_t>();
  p.credit_bytes = in.get<std::uint32_t>();
  p.unscheduled_bytes = in.get<std::uint32_t>();
  if (!in.finished() || p.connection > kConnectionIdMask || p.datagram_bytes < kDatagramBytesMin ||
      p.datagram_bytes > kDatagramBytesMax || p.requests_max == 0)
    return std::nullopt;
  return p;
}

std::uint16_t common_version(std::uint16_t min, std::uint16_t max) {
  const std::uint16_t highest = std::min(max, kVersionMax);
  return highest >= std::max(min, kVersionMin) ? highest : std::uint16_t{0};
}

Bytes make_prologue(const Hello& hello, const HelloAnswer& answer, crypto::Suite suite) {
  Bytes prologue;
  ByteWriter out(prologue);
  out.put_raw(as_bytes("magma rpc 1"));
  put_hello(out, hello);
  put_answer(out, answer);
  out.put_raw(answer.cookie);
  out.put(static_cast<std::uint8_t>(suite));
  return prologue;
}

void CookieJar::turn(Instant now) {
  if (generation_ > 0 && now - turned_ < kCookieSecretLife) return;
  // After a long silence the secret before is as old as the silence: both are replaced.
  const bool both = generation_ == 0 || now - turned_ >= kCookieSecretLife * 2;
  for (int i = 0; i < (both ? 2 : 1); ++i) {
    ++generation_;
    secrets_[generation_ % 2] = crypto::make_secret(random_);
  }
  turned_ = now;
}

std::uint64_t CookieJar::generation(Instant now) {
  turn(now);
  return generation_;
}

Cookie CookieJar::make_with(unsigned which, const sys::Address& from, const Hello& hello,
                            const HelloAnswer& answer) const {
  Bytes said;
  said.reserve(160);
  ByteWriter out(said);
  out.put_raw(from.ip);
  out.put(from.port);
  out.put_raw(from.relay_ip);
  out.put(from.relay_port);
  put_hello(out, hello);
  put_answer(out, answer);
  const crypto::Digest digest = crypto::hmac_sha256(secrets_[which].bytes(), {said});
  Cookie cookie{};
  cookie[0] = static_cast<std::uint8_t>(which);
  std::copy_n(digest.bytes.begin(), kCookieTagBytes, cookie.begin() + 1);
  return cookie;
}

Cookie CookieJar::make(const sys::Address& from, const Hello& hello, const HelloAnswer& answer,
                       Instant now) {
  turn(now);
  return make_with(static_cast<unsigned>(generation_ % 2), from, hello, answer);
}

bool CookieJar::is_good(const sys::Address& from, const Hello& hello, const HelloAnswer& answer,
                        Instant now) {
  turn(now);
  if (answer.cookie[0] > 1) return false;
  return equal_tags(make_with(answer.cookie[0], from, hello, answer), answer.cookie);
}

std::array<std::uint8_t, kSealBytes> reset_tag(const crypto::Secret& client_key, ByteSpan header) {
  const crypto::Digest key = crypto::hmac_sha256(client_key.bytes(), {as_bytes("magma reset")});
  const crypto::Digest digest = crypto::hmac_sha256(key.bytes, {header});
  std::array<std::uint8_t, kSealBytes> tag{};
  std::copy_n(digest.bytes.begin(), kSealBytes, tag.begin());
  return tag;
}

bool equal_tags(ByteSpan a, ByteSpan b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned>(a[i] ^ b[i]);
  return difference == 0;
}

}  // namespace magma::rpc
