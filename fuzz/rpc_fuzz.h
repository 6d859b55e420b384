// What the rpc fuzzers share: a clock that moves only when told, repeatable randomness, a socket
// that drops everything but remembers how much it was given, a handler that answers.
#pragma once

#include <cstdint>

#include "libmagma/rpc/rpc.h"

namespace magma::fuzz {

class StillClock : public sys::Clock {
 public:
  Instant now() override { return now_; }
  WallTime wall_now() override { return {now_.ns}; }
  void advance(Duration by) { now_ = now_ + by; }

 private:
  Instant now_{1'000'000'000};
};

class FixedRandom : public sys::Random {
 public:
  void fill(MutableByteSpan bytes) override {
    for (auto& b : bytes) {
      state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
      b = static_cast<std::uint8_t>(state_ >> 56);
    }
  }

 private:
  std::uint64_t state_ = 1;
};

class Drain : public sys::Datagrams {
 public:
  void send(const sys::Address&, ByteSpan bytes, std::size_t) override { sent += bytes.size(); }
  std::size_t receive_buffer_bytes() const override { return 1u << 20; }
  std::uint64_t sent = 0;
};

class Answerer : public rpc::Handler {
 public:
  void on_connected(rpc::ConnectionId, const rpc::PeerInfo&) override { ++connected; }
  void on_closed(rpc::ConnectionId, const Error&) override {}
  void on_request(rpc::ConnectionId, rpc::RequestId, ByteSpan message) override {
    for (const std::uint8_t b : message) sum += b;  // every byte must be readable
  }
  void on_cancel(rpc::ConnectionId, rpc::RequestId) override {}
  void on_response(rpc::ConnectionId, rpc::RequestId, Result<ByteSpan> message) override {
    if (message)
      for (const std::uint8_t b : *message) sum += b;
  }
  int connected = 0;
  std::uint64_t sum = 0;
};

}  // namespace magma::fuzz
