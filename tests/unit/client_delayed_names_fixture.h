// For tests of delayed changes of names: an owner that answers when it is told to.
#pragma once

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "libmagma/client/delayed_names.h"

namespace magma::test {

using client::DelayedNames;

inline constexpr Instant kStart{1'000'000'000'000};
inline constexpr WallTime kRing{1'700'000'000'000'000'000};  // the volcano's clock at kStart
inline constexpr Ino kDir(1), kOther(2);
inline constexpr std::size_t kHurry = DelayedNames::kHurrySteps;
inline constexpr Ino kFirstNumber(5000);
inline constexpr std::uint32_t kUid = 7, kGid = 8;

using Names = std::vector<std::string>;

inline Names names_of(const std::vector<wire::NameStep>& steps) {
  Names names;
  for (const wire::NameStep& step : steps) names.push_back(step.name);
  return names;
}

// "n<from>" up to, but without, "n<to>".
inline Names numbered(std::size_t from, std::size_t to) {
  Names names;
  for (; from < to; ++from) names.push_back("n" + std::to_string(from));
  return names;
}

// Requests wait until the test answers them, or are answered inside.
struct FakeOwner final : DelayedNames::Owner {
  struct Request {
    std::uint64_t number;
    DelayedNames::Batch batch;
  };
  struct Lost {
    Ino dir;
    wire::NameStep step;
  };
  std::deque<Request> requests;
  std::vector<Lost> lost;
  UniqueFunction<void()> on_send;

  void send_names(const DelayedNames::Batch& batch, std::uint64_t number) override {
    requests.push_back({number, batch});
    if (on_send) on_send();
  }
  void on_name_lost(Ino dir, const wire::NameStep& step) override { lost.push_back({dir, step}); }
};

struct Rig {
  FakeOwner owner;
  DelayedNames names{owner, true};
  Instant now = kStart;
  std::map<Ino, wire::Attr> attrs;  // of the directories, as programs see them
  std::vector<std::string> log;     // what was called
  std::size_t count = 0;            // steps made
  std::uint32_t numbers = 0;        // that come with a token
  unsigned numbers_asked = 0;

  WallTime ring_time() const { return {kRing.ns + (now - kStart).ns}; }
  void pass(Duration time) {
    now = now + time;
    names.on_timer(now);
  }
  wire::Attr& attr(Ino dir = kDir) {
    wire::Attr& attr = attrs[dir];
    if (attr.ino == Ino()) {
      attr.ino = dir;
      attr.mode = S_IFDIR | 0755;
      attr.nlink = 2;
      attr.mtime = attr.ctime = ring_time();
      attr.data_version = 5;
    }
    return attr;
  }
  // A change that the volcano made just now gives the token.
  void grant(Ino dir = kDir) {
    pass(microseconds(10));
    wire::Attr& told = attr(dir);
    told.mtime = told.ctime = ring_time();
    ++told.data_version;
    names.granted({told, {}, kFirstNumber, numbers}, now, now);
  }
  std::optional<wire::Attr> keep(wire::NameStep step, Ino dir = kDir, std::uint32_t uid = kUid,
                                 std::uint32_t gid = kGid) {
    now = now + nanoseconds(10);
    const auto after = names.keep(attr(dir), std::move(step), uid, gid, now);
    if (after) attrs[dir] = *after;
    return after;
  }
  // Removes "n<count>", whose inode is 100 + count.
  std::optional<wire::Attr> remove(Ino dir = kDir, std::uint32_t uid = kUid,
                                   std::uint32_t gid = kGid) {
    const auto after =
        keep({.name = "n" + std::to_string(count), .ino = Ino(100 + count)}, dir, uid, gid);
    if (after) ++count;
    return after;
  }
  // Makes a file, which is open for writing; no inode (0): it may not.
  Ino make(const std::string& name, Ino dir = kDir) {
    const Ino ino = names.next_number(dir);
    const bool is_made = ino != Ino() && keep({.name = name,
                                               .ino = ino,
                                               .made = wire::MadeFile{0644, true, true}},
                                              dir);
    return is_made ? ino : Ino();
  }
  void remove_many(std::size_t many, Ino dir = kDir) {
    for (std::size_t i = 0; i < many; ++i) REQUIRE(remove(dir));
  }
  UniqueFunction<void()> note(std::string what) {
    return [this, what] { log.push_back(what); };
  }
  std::size_t under_way() const { return owner.requests.size(); }
  Names batch(std::size_t which = 0) const {
    REQUIRE(which < owner.requests.size());
    return names_of(owner.requests[which].batch.steps);
  }
  FakeOwner::Request take() {
    REQUIRE_FALSE(owner.requests.empty());
    FakeOwner::Request request = std::move(owner.requests.front());
    owner.requests.pop_front();
    return request;
  }
  // The oldest request is answered; the steps it had.
  Names answer(wire::ChangeNamesReply reply) {
    const FakeOwner::Request request = take();
    if (reply.time == WallTime{}) reply.time = ring_time();
    wire::NamesChanged told{attr(request.batch.dir)};
    if (request.batch.wants_numbers) {
      told.first_number = Ino(kFirstNumber.value + 1000 * ++numbers_asked);
      told.numbers = numbers;
    }
    names.sent(request.number, std::move(reply), &told, now);
    return names_of(request.batch.steps);
  }
  Names answer() {
    REQUIRE_FALSE(owner.requests.empty());
    wire::ChangeNamesReply reply;
    reply.done = static_cast<std::uint32_t>(owner.requests.front().batch.steps.size());
    return answer(std::move(reply));
  }
  Names answer_part(std::uint32_t done) {
    wire::ChangeNamesReply reply;
    reply.done = done;
    return answer(std::move(reply));
  }
  Names refuse(Code code) {
    const FakeOwner::Request request = take();
    names.sent(request.number, fail(code), nullptr, now);
    return names_of(request.batch.steps);
  }
  // Everything is sent and answered; in which order.
  Names drain() {
    Names all;
    for (int rounds = 0; rounds < 1000 && (under_way() > 0 || names.has_dirty()); ++rounds) {
      if (under_way() == 0) pass(milliseconds(1));
      while (under_way() > 0)
        for (std::string& name : answer()) all.push_back(std::move(name));
    }
    CHECK_FALSE(names.has_dirty());
    return all;
  }
  Code take_error(Ino dir = kDir) {
    const auto error = names.take_error(dir);
    return error ? error->code : Code{};
  }
  wire::Attr amended(wire::Attr attr) const {
    names.amend(attr);
    return attr;
  }
};

}  // namespace magma::test
