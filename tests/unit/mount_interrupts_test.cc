#include <doctest/doctest.h>

#include <unistd.h>

#include <string>

#include <fmt/format.h>

#include "mount.magma/interrupts.h"
#include "libmagma/sys_real/mount_table.h"

namespace {

using magma::Instant;
using magma::milliseconds;
using magma::mount::Interrupts;
using magma::mount::wants_to_stop;

constexpr std::uint64_t signal_bit(int number) { return std::uint64_t{1} << (number - 1); }
constexpr int kHup = 1, kInt = 2, kKill = 9, kUsr1 = 10, kAlrm = 14, kTerm = 15, kChld = 17,
              kTstp = 20, kUrg = 23, kProf = 27, kWinch = 28;

struct Signals {
  std::uint64_t own = 0, shared = 0, blocked = 0, ignored = 0, caught = 0;
};

bool stops(const Signals& s) {
  return wants_to_stop(fmt::format(
      "Name:\tgit\nThreads:\t1\nSigQ:\t0/1\nSigPnd:\t{:016x}\nShdPnd:\t{:016x}\n"
      "SigBlk:\t{:016x}\nSigIgn:\t{:016x}\nSigCgt:\t{:016x}\nCapInh:\t0\n",
      s.own, s.shared, s.blocked, s.ignored, s.caught));
}

TEST_CASE("interrupts: timers and the like do not disturb a program that handles them") {
  for (int number : {kAlrm, kProf, kUsr1, kUrg}) {
    CAPTURE(number);
    CHECK_FALSE(stops({.shared = signal_bit(number), .caught = signal_bit(number)}));
  }
  for (int number : {kChld, kUrg, kWinch, kTstp}) {
    CAPTURE(number);
    CHECK_FALSE(stops({.own = signal_bit(number)}));
  }
  CHECK_FALSE(stops({}));
}

TEST_CASE("interrupts: whoever is asked to stop, or is about to die, need not wait") {
  CHECK(stops({.own = signal_bit(kKill)}));
  CHECK(stops({.own = signal_bit(kKill), .caught = ~0ull}));
  CHECK(stops({.shared = signal_bit(kAlrm)}));  // not caught: its default is to end the process
  for (int number : {kInt, kTerm, kHup}) {
    CAPTURE(number);
    CHECK(stops({.shared = signal_bit(number)}));
    CHECK(stops({.shared = signal_bit(number), .caught = signal_bit(number)}));
    CHECK_FALSE(stops({.shared = signal_bit(number), .ignored = signal_bit(number)}));
    CHECK_FALSE(stops({.shared = signal_bit(number), .blocked = signal_bit(number)}));
  }
}

TEST_CASE("interrupts: what cannot be told counts as wanting to stop") {
  CHECK(wants_to_stop(std::string_view("")));
  CHECK(wants_to_stop(std::string_view("Name:\tx\nSigPnd:\tzz\n")));
  CHECK(wants_to_stop(pid_t{0}));
  CHECK(wants_to_stop(pid_t{0x7ffffff0}));
  CHECK_FALSE(wants_to_stop(::getpid()));
}

TEST_CASE("interrupts: those that wait are looked at again until answered") {
  Interrupts interrupts;
  const Instant start{1000};
  CHECK(interrupts.deadline() == Instant::never());
  int some_request = 0;
  auto* request = reinterpret_cast<fuse_req*>(&some_request);
  CHECK_FALSE(interrupts.set_call(request, 5));
  // A process that does not exist any more wants to stop.
  interrupts.add({.request = request, .call = 5, .pid = 0x7ffffff0}, start);
  CHECK(interrupts.deadline() == start + Interrupts::kLookAgain);
  CHECK(interrupts.due(start + milliseconds(1)).empty());
  CHECK(interrupts.set_call(request, 6));
  auto due = interrupts.due(start + Interrupts::kLookAgain);
  REQUIRE(due.size() == 1);
  CHECK(due[0] == 6);
  CHECK(interrupts.deadline() > start + Interrupts::kLookAgain);
  interrupts.remove(request);
  CHECK(interrupts.deadline() == Instant::never());
}

TEST_CASE("mount table: parses mountinfo") {
  auto mounts = magma::sys_real::parse_mountinfo(
      "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
      "garbage\n"
      "36 22 0:41 / /mnt/with\\040blank rw,nosuid - fuse.magma a,b:/ rw,user_id=0\n"
      "37 22 0:42 / /mnt/x rw master:3 propagate_from:2 - tmpfs tmpfs rw\n"
      "38 22 0:43 / /mnt/x ro - fuse.magma h:/ rw");
  REQUIRE(mounts.size() == 4);
  auto blank = magma::sys_real::mounted_at(mounts, "/mnt/with blank");
  REQUIRE(blank.has_value());
  CHECK(blank->device == "0:41");
  CHECK(blank->type == "fuse.magma");
  CHECK(blank->source == "a,b:/");
  CHECK(blank->root == "/");
  CHECK(magma::sys_real::mounted_at(mounts, "/mnt/x")->device == "0:43");  // the uppermost
  CHECK_FALSE(magma::sys_real::mounted_at(mounts, "/mnt").has_value());
  CHECK(magma::sys_real::parse_mountinfo("").empty());
}

}  // namespace
