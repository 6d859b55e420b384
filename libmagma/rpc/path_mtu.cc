#include "libmagma/rpc/path_mtu.h"

#include "libmagma/base/check.h"

namespace magma::rpc {

namespace {
// IP and UDP headers (RFC 791, RFC 8200, RFC 768).
constexpr std::size_t kHeadersV4 = 28;
constexpr std::size_t kHeadersV6 = 48;
// Links that nearly everybody has: Ethernet, and Ethernet with jumbo frames.
constexpr std::size_t kLikelyLinks[] = {1500, 9000};
// The search ends when a better size could gain no more than this.
constexpr std::size_t kGainMin = 16;
constexpr std::size_t kGainMinPart = 32;              // ... or a 32nd
// Losses closer together than this belong to one round even if the round trip is shorter.
constexpr Duration kRoundMin = milliseconds(1);
}  // namespace

PathMtu::PathMtu(const Config& config)
    : config_(config),
      bytes_(config.is_known ? config.bytes_max : kBaseBytes),
      failed_(config.bytes_max + 1) {
  MAGMA_CHECK(config.bytes_max >= kBaseBytes);
  choose(Instant{});
}

void PathMtu::choose(Instant now) {
  probes_lost_ = 0;
  candidate_ = 0;
  raise_at_ = Instant::never();
  const std::size_t most = failed_ - 1;
  if (bytes_ == config_.bytes_max) return;
  // A path that was known and has failed: most likely it is as before.
  if (config_.is_known && most == config_.bytes_max) candidate_ = most;
  const std::size_t headers = config_.is_v4 ? kHeadersV4 : kHeadersV6;
  for (const std::size_t link : kLikelyLinks) {
    const std::size_t likely = link - headers;
    if (candidate_ == 0 && likely > bytes_ && likely <= most) candidate_ = likely;
  }
  if (candidate_ != 0) return;
  if (failed_ - bytes_ <= std::max(kGainMin, bytes_ / kGainMinPart)) {
    raise_at_ = now + kRaiseAfter;
  } else {
    candidate_ = most == config_.bytes_max ? most : bytes_ + (failed_ - bytes_) / 2;
  }
}

std::optional<std::size_t> PathMtu::probe_due(Instant now) {
  if (now >= raise_at_) {
    failed_ = config_.bytes_max + 1;
    choose(now);
  }
  if (candidate_ == 0 || is_probe_out_) return std::nullopt;
  return candidate_;
}

void PathMtu::on_probe_acked(std::size_t bytes, Instant now) {
  is_probe_out_ = false;
  // One that was sent before a black hole was found, or on another path, says nothing now.
  if (bytes != candidate_) return;
  bytes_ = bytes;
  lost_rounds_ = 0;
  choose(now);
}

void PathMtu::on_probe_lost(std::size_t bytes, Instant now) {
  is_probe_out_ = false;
  if (bytes == candidate_ && ++probes_lost_ >= kProbesPerSize) fail_size(bytes, now);
}

void PathMtu::fail_size(std::size_t bytes, Instant now) {
  is_probe_out_ = false;
  if (bytes != candidate_) return;
  failed_ = bytes;
  choose(now);
}

bool PathMtu::on_lost(std::size_t bytes, Instant sent, Duration round_trip, Instant now) {
  if (bytes <= kBaseBytes || bytes_ == kBaseBytes) return false;
  if (lost_rounds_ > 0 && sent < last_lost_sent_ + std::max(round_trip, kRoundMin)) {
    smallest_lost_ = std::min(smallest_lost_, bytes);
    return false;
  }
  smallest_lost_ = lost_rounds_ == 0 ? bytes : std::min(smallest_lost_, bytes);
  last_lost_sent_ = sent;
  if (++lost_rounds_ < kBlackHoleRounds) return false;
  start_again(now);
  return true;
}

void PathMtu::start_again(Instant now) {
  bytes_ = kBaseBytes;
  failed_ = config_.bytes_max + 1;
  lost_rounds_ = 0;
  is_probe_out_ = false;
  choose(now);
}

}  // namespace magma::rpc
