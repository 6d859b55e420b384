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
