// The parts of rpc alone: frames, byte ranges, the id table, acknowledgements, the window.
#include <doctest/doctest.h>

#include <map>
#include <set>

#include "libmagma/rpc/ack_tracker.h"
#include "libmagma/rpc/byte_ranges.h"
#include "libmagma/rpc/congestion.h"
#include "libmagma/rpc/id_table.h"
#include "libmagma/rpc/loss_detection.h"
#include "libmagma/rpc/messages.h"
#include "libmagma/rpc/packet.h"
#include "tests/lib/sim_random.h"

namespace magma::rpc {

using magma::test::SimRandom;

TEST_CASE("rpc: a header is what packet.h says") {
  std::uint8_t raw[kHeaderBytes];
  write_header(raw, {.shard = 7,
                     .type = PacketType::data,
                     .key_phase = true,
                     .connection = 0x0102030405060ULL,
                     .number = 0x1122334455667788ULL});
  CHECK(to_hex(raw) == "078510203040506011223344556677" "88");
  Header header;
  REQUIRE(read_header(raw, header));
  CHECK(header.shard == 7);
  CHECK(header.key_phase);
  CHECK(header.connection == 0x0102030405060ULL);
  CHECK(header.number == 0x1122334455667788ULL);
  CHECK_FALSE(read_header({raw, kHeaderBytes - 1}, header));
  raw[1] = 0x45;  // an unknown bit
  CHECK_FALSE(read_header(raw, header));
  raw[1] = 0x81;  // a key phase where there are no keys
  CHECK_FALSE(read_header(raw, header));
}

TEST_CASE("rpc: malformed frames are refused") {
  auto is_bad = [](const char* hex) {
    Bytes bytes;
    REQUIRE(from_hex(hex, bytes));
    FrameReader reader(bytes);
    Frame frame;
    while (reader.next(frame)) {
    }
    return reader.bad();
  };
  CHECK_FALSE(is_bad(""));
  CHECK_FALSE(is_bad("08"));
  CHECK_FALSE(is_bad("0800000000"));
  CHECK(is_bad("0e"));                                              // unknown
  CHECK_FALSE(is_bad("0102" "0000000000000001" "0001" "ff"));
  CHECK(is_bad("0102" "0000000000000001" "0002" "ff"));             // longer than the packet
  CHECK(is_bad("0102" "0000000000000000" "0001" "ff"));             // id 0
  CHECK(is_bad("0105" "0000000000000001" "0001" "ff"));             // priority
  CHECK_FALSE(is_bad("0382" "0000000000000001" "00000004" "00000005" "0001" "ff"));
  CHECK(is_bad("0382" "0000000000000001" "00000005" "00000005" "0001" "ff"));  // past the end
  CHECK(is_bad("0302" "0000000000000001" "ffffffff" "00000005" "0001" "ff"));
  CHECK_FALSE(is_bad("05" "0000000000000009" "00000000" "00" "00000009"));
  CHECK(is_bad("05" "0000000000000009" "00000000" "00" "0000000a"));           // below 0
  CHECK(is_bad("05" "0000000000000009" "00000000" "01" "00000000" "00000008" "00000000"));
  CHECK(is_bad("05" "0000000000000009" "00000000" "ff" "00000000"));           // too many ranges
}

TEST_CASE("rpc: byte ranges agree with a set of bytes") {
  SimRandom random(1);
  for (int round = 0; round < 200; ++round) {
    ByteRanges ranges;
    std::set<std::uint32_t> model;
    for (int step = 0; step < 60; ++step) {
      const auto begin = static_cast<std::uint32_t>(random.below(100));
      const auto end = begin + static_cast<std::uint32_t>(random.below(20));
      if (random.chance(0.6)) {
        const std::size_t before = model.size();
        for (std::uint32_t b = begin; b < end; ++b) model.insert(b);
        CHECK(ranges.add(begin, end) == model.size() - before);
      } else {
        for (std::uint32_t b = begin; b < end; ++b) model.erase(b);
        ranges.remove(begin, end);
      }
      std::set<std::uint32_t> has;
      std::uint32_t last_end = 0;
      bool first = true;
      for (const ByteRange& r : ranges.all()) {
        CHECK(r.begin < r.end);
        CHECK((first || r.begin > last_end));
        first = false;
        last_end = r.end;
        for (std::uint32_t b = r.begin; b < r.end; ++b) has.insert(b);
      }
      CHECK(has == model);
      CHECK(ranges.bytes() == model.size());
    }
  }
}

TEST_CASE("rpc: the id table agrees with a map") {
  SimRandom random(2);
  IdTable<int> table;
  std::map<std::uint64_t, int> model;
  std::uint64_t next = 1;
  for (int step = 0; step < 20000; ++step) {
    if (model.size() < 200 && random.chance(0.52)) {
      next += random.below(3) == 0 ? 1 + random.below(40) : 1;
      const int value = static_cast<int>(random.below(1000));
      table.insert(next) = value;
      model[next] = value;
    } else if (!model.empty()) {
      auto at = model.lower_bound(random.below(next + 1));
      if (at == model.end()) at = model.begin();
      table.erase(at->first);
      model.erase(at);
    }
    CHECK(table.size() == model.size());
  }
  for (std::uint64_t id = 1; id <= next; ++id) {
    int* found = table.find(id);
    const auto at = model.find(id);
    REQUIRE((found != nullptr) == (at != model.end()));
    if (found != nullptr) CHECK(*found == at->second);
  }
}

TEST_CASE("rpc: acknowledgements name exactly what came") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    SimRandom random(seed);
    AckTracker tracker;
    std::set<std::uint64_t> came;
    for (int i = 0; i < 60; ++i) {
      const std::uint64_t number = random.below(120);
      if (came.insert(number).second) tracker.on_packet(number, 100, true, Instant{i});
    }
    Bytes room(1000);
    FrameWriter out(room);
    CHECK(tracker.write(out, Instant{100}) == *came.rbegin());
    FrameReader reader(MutableByteSpan(room).first(out.size()));
    Frame frame;
    REQUIRE(reader.next(frame));
    std::set<std::uint64_t> told;
    for (unsigned i = 0; i < frame.range_count; ++i)
      for (auto n = frame.ranges[i].low; n <= frame.ranges[i].high; ++n) told.insert(n);
    if (frame.range_count <= kAckRangesMax) {
      CHECK(told == came);
    }
    for (auto n : told) CHECK(came.contains(n));
    CHECK_FALSE(tracker.has_ack_to_send());
  }
}

TEST_CASE("rpc: in-order packets are acknowledged late, gaps at once") {
  AckTracker tracker;
  tracker.on_packet(0, 100, true, Instant{0});
  CHECK_FALSE(tracker.is_due(Instant{0}));
  CHECK(tracker.deadline() == Instant{0} + kAckDelay);
  tracker.on_packet(2, 100, true, Instant{1});
  CHECK(tracker.is_due(Instant{1}));
  AckTracker silent;
  silent.on_packet(5, 100, false, Instant{0});
  CHECK_FALSE(silent.has_ack_to_send());
}

TEST_CASE("rpc: a small window does not wait for its acknowledgement") {
  AckTracker tracker;
  Instant now{0};
  std::uint64_t number = 0;
  std::uint8_t space[64];
  auto acknowledge = [&] {
    FrameWriter out(space);
    tracker.write(out, now);
  };
  // A sender that has three packets in flight, then waits: how often for the delay?
  unsigned waits = 0;
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 3; ++i) {
      tracker.on_packet(number++, 1000, true, now);
      if (tracker.is_due(now)) acknowledge();
    }
    if (tracker.has_ack_to_send() && number % 3 == 0 && tracker.deadline() > now) {
      now = tracker.deadline();
      acknowledge();
      ++waits;
    }
    now = now + microseconds(100);
  }
  CHECK(waits > 0);
  CHECK(waits < 30);
  // One that has plenty in flight costs an acknowledgement every kAckEveryPackets, after a while.
  unsigned acks = 0;
  for (int i = 0; i < 10'000; ++i) {
    tracker.on_packet(number++, 1000, true, now);
    if (!tracker.is_due(now)) continue;
    acknowledge();
    ++acks;
  }
  CHECK(acks < 10'000 / kAckEveryPackets + 40);
}

TEST_CASE("rpc: the window grows when used, shrinks once per round of losses") {
  Congestion window({.datagram_bytes = 1400, .initial_window_bytes = 14000, .is_paced = true});
  window.on_ack(1400, Instant{1}, Instant{2}, milliseconds(1), false);
  CHECK(window.window_bytes() == 14000);
  window.on_ack(1400, Instant{1}, Instant{2}, milliseconds(1), true);
  CHECK(window.window_bytes() == 15400);
  window.on_loss(Instant{10}, Instant{20});
  const auto reduced = window.window_bytes();
  CHECK(reduced == 10780);
  window.on_loss(Instant{15}, Instant{30});
  CHECK(window.window_bytes() == reduced);
  window.on_loss(Instant{25}, Instant{40});
  CHECK(window.window_bytes() < reduced);
  for (int i = 0; i < 100; ++i) window.on_loss(Instant{1000 + 2 * i}, Instant{1001 + 2 * i});
  CHECK(window.window_bytes() == 2800);
  Instant now{1'000'000};
  for (int i = 0; i < 20000; ++i) {
    now = now + microseconds(100);
    window.on_ack(1400, now, now, milliseconds(1), true);
  }
  CHECK(window.window_bytes() > 100'000);
}

TEST_CASE("rpc: what was lost goes before what was never sent, the oldest first") {
  OutQueue queue;
  std::vector<std::uint32_t> slots;
  for (std::uint64_t id = 1; id <= 5; ++id) {
    slots.push_back(queue.add(id, false, {.head = Bytes(1000), .tail = {}}, Priority::data));
    queue.update(slots.back());
  }
  const auto send_first = [&] {
    OutMessage& m = queue.at(queue.first());
    if (m.resend.empty())
      m.next_offset = m.total;
    else
      m.resend.clear();
    const std::uint64_t id = m.id;
    queue.update(queue.first());
    return id;
  };
  const auto lose = [&](std::uint64_t id) {
    queue.at(slots[id - 1]).resend.add(0, 500);
    queue.hurry(slots[id - 1]);
  };
  for (std::uint64_t id = 1; id <= 3; ++id) CHECK(send_first() == id);
  const std::uint32_t urgent = queue.add(6, false, {.head = Bytes(9), .tail = {}}, Priority::lock);
  lose(3);
  lose(1);
  lose(2);
  lose(1);  // in the queue already
  CHECK(send_first() == 1);
  queue.update(urgent);
  CHECK(send_first() == 6);
  for (std::uint64_t id = 2; id <= 5; ++id) CHECK(send_first() == id);
  CHECK(queue.empty());
  lose(5);
  queue.remove(slots[4]);
  CHECK(queue.empty());
}

TEST_CASE("rpc: the window follows RFC 9438's curve back to where it was and beyond") {
  constexpr std::size_t kDatagram = 1000;
  constexpr Duration kRtt = milliseconds(100);  // long: far from Reno's region
  Congestion window({.datagram_bytes = kDatagram, .initial_window_bytes = 1'000'000,
                     .is_paced = true});
  Instant now{1'000'000'000};
  window.on_loss(now, now);
  CHECK(window.window_bytes() == 700'000);
  CHECK_FALSE(window.is_slow_start());
  // K = cbrt(1000 * 0.3 / 0.4) = 9.086 s (RFC 9438, 4.2).
  std::size_t before = window.window_bytes();
  const Instant begun = now;
  std::size_t slowest = 1'000'000;
  Instant slowest_at{};
  while (now - begun < seconds(15)) {
    now = now + kRtt;
    for (std::size_t acked = 0, all = window.window_bytes(); acked < all; acked += kDatagram)
      window.on_ack(kDatagram, now, now, kRtt, true);
    CHECK(window.window_bytes() >= before);
    if (window.window_bytes() - before < slowest && now - begun > seconds(1)) {
      slowest = window.window_bytes() - before;
      slowest_at = now;
    }
    before = window.window_bytes();
  }
  CHECK((slowest_at - begun).seconds() == doctest::Approx(9.086).epsilon(0.1));  // the plateau
  // W(15 s) = 1000 + 0.4 * (15 + 0.1 - 9.086)^3 = 1087.
  CHECK(static_cast<double>(window.window_bytes()) == doctest::Approx(1'087'000).epsilon(0.02));
}

TEST_CASE("rpc: time without need of the window is no time to grow by") {
  Congestion busy({.datagram_bytes = 1000, .initial_window_bytes = 1'000'000, .is_paced = true});
  Congestion idle = busy;
  constexpr Duration kRtt = milliseconds(100);
  auto work = [&](Congestion& window, Instant from, Duration time, bool was_limited) {
    for (Instant at = from; at - from < time; at = at + kRtt)
      for (int i = 0; i < 700; ++i) window.on_ack(1000, at, at, kRtt, was_limited);
    return from + time;
  };
  const Instant start{1'000'000'000};
  busy.on_loss(start, start);
  idle.on_loss(start, start);
  Instant at = start + kRtt;
  work(busy, at, seconds(2), true);
  at = work(idle, at, seconds(1), true);
  at = work(idle, at, seconds(60), false);
  work(idle, at, seconds(1), true);
  CHECK(static_cast<double>(idle.window_bytes()) ==
        doctest::Approx(static_cast<double>(busy.window_bytes())).epsilon(0.01));
}

TEST_CASE("rpc: packets of another size leave the window as it is") {
  Congestion window({.datagram_bytes = 1200, .initial_window_bytes = 120'000, .is_paced = true});
  window.on_loss(Instant{1}, Instant{1});
  const auto bytes = window.window_bytes();
  window.set_datagram_bytes(8972);
  CHECK(window.window_bytes() == bytes);
  for (Instant at{2}; at < Instant{0} + seconds(60); at = at + milliseconds(100))
    for (int i = 0; i < 10; ++i) window.on_ack(8972, at, at, milliseconds(100), true);
  CHECK(window.window_bytes() > 120'000);
  for (int i = 0; i < 100; ++i)
    window.on_loss(Instant{0} + seconds(100 + 2 * i), Instant{0} + seconds(101 + 2 * i));
  CHECK(window.window_bytes() == 2 * 8972);
}

TEST_CASE("rpc: pacing spreads a window over its round trip, in bursts that queues hold") {
  constexpr std::size_t kDatagram = 1472;
  constexpr Duration kRtt = milliseconds(20);
  Congestion window({.datagram_bytes = kDatagram, .initial_window_bytes = 200 * kDatagram,
                     .is_paced = true});
  window.on_loss(Instant{1}, Instant{1});  // no slow start
  const std::size_t whole = window.window_bytes();
  Instant now{1'000'000'000};
  std::size_t sent = 0;
  std::size_t burst = 0;
  std::size_t largest_burst = 0;
  const Instant begun = now;
  while (sent < 4 * whole) {
    const Instant next = window.next_send(now);
    if (next > now) {
      now = next;
      burst = 0;
    }
    window.on_sent(kDatagram, now, kRtt);
    sent += kDatagram;
    burst += kDatagram;
    largest_burst = std::max(largest_burst, burst);
  }
  // 1.25 windows a round trip.
  CHECK((now - begun).seconds() == doctest::Approx(4 * 0.020 / 1.25).epsilon(0.1));
  CHECK(largest_burst <= std::max(11 * kDatagram, whole / 4));
  CHECK(largest_burst >= kDatagram);
}

TEST_CASE("rpc: slow start ends when round trips grow, not when one is late") {
  std::uint64_t number = 0;
  SlowStart slow;
  auto round = [&](Duration fastest, unsigned samples = 10) {
    bool is_over = false;
    const std::uint64_t end = number + samples;
    for (; number < end; ++number)
      is_over |= slow.on_round_trip(fastest + microseconds(static_cast<int>(number % 7) * 100),
                                    number, end);
    return is_over;
  };
  for (int i = 0; i < 5; ++i) CHECK_FALSE(round(milliseconds(20)));
  CHECK(slow.growth(1000) == 1000);
  SUBCASE("a small rise says nothing") {
    for (int i = 0; i < 20; ++i) CHECK_FALSE(round(milliseconds(20 + i % 4)));
    CHECK_FALSE(slow.is_conservative());
  }
  SUBCASE("too few samples say nothing") {
    CHECK_FALSE(round(milliseconds(60), 7));
    CHECK_FALSE(slow.is_conservative());
  }
  SUBCASE("one slow round was noise") {
    CHECK_FALSE(round(milliseconds(26)));
    CHECK(slow.is_conservative());
    CHECK(slow.growth(1000) == 250);
    CHECK_FALSE(round(milliseconds(20)));
    CHECK_FALSE(slow.is_conservative());
    for (int i = 0; i < 20; ++i) CHECK_FALSE(round(milliseconds(20)));
  }
  SUBCASE("round trips that stay slow end it after five rounds") {
    int rounds = 0;
    while (!round(milliseconds(26))) REQUIRE(++rounds < 20);
    CHECK(rounds == 5);
  }
}

TEST_CASE("rpc: loss by packet threshold, by time, and spurious loss") {
  SentPackets sent;
  RoundTrip rtt;
  rtt.on_sample(milliseconds(10), Duration{});
  for (int i = 0; i < 5; ++i) {
    sent.begin(Instant{0});
    sent.finish(100, true);
  }
  CHECK(sent.bytes_in_flight() == 500);
  Frame ack;
  ack.type = FrameType::ack;
  ack.largest = 3;
  ack.range_count = 1;
  ack.ranges[0] = {3, 3};
  auto nothing = [](auto&&...) {};
  CHECK(sent.on_ack(ack, Instant{100}, nothing).is_new);
  CHECK(sent.detect_losses(rtt, Instant{100}, nothing) == 1);  // 0: three behind
  CHECK(sent.loss_time() == Instant{0} + rtt.loss_delay());
  CHECK(sent.detect_losses(rtt, sent.loss_time(), nothing) == 2);  // 1 and 2 by time; 4 is ahead
  CHECK(sent.bytes_in_flight() == 100);
  ack.ranges[0] = {0, 3};
  CHECK(sent.on_ack(ack, Instant{200}, nothing).spurious == 3);
  ack.largest = 9;
  CHECK_FALSE(sent.on_ack(ack, Instant{200}, nothing).is_valid);
}

}  // namespace magma::rpc
