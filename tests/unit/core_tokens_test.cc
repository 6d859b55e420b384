// Tokens: who is told of which change, and how long the one who changed waits.
#include <doctest/doctest.h>

#include "magmad/tokens.h"

using namespace magma;
using Of = Tokens::Of;

namespace {

constexpr SessionId kA(1), kB(2), kC(3);
constexpr Ino kFile(100), kDir(200);
constexpr Instant kStart{1'000'000'000'000};
constexpr Duration kTerm = wire::kTokenTerm + Tokens::kSlack;

struct Fixture {
  Tokens tokens;
  Instant now = kStart;
  std::vector<NoticeId> change(Ino ino, std::string_view name, SessionId by) {
    std::vector<NoticeId> wait_for;
    tokens.changed(ino, name, by, now, wait_for);
    return wait_for;
  }
  bool waits(const std::vector<NoticeId>& notices) const {
    for (NoticeId notice : notices)
      if (tokens.is_open(notice)) return true;
    return false;
  }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "tokens: who changes waits for every other holder, who is told what") {
  CHECK(tokens.grant(kA, kFile, Of::flare, now));
  CHECK(tokens.grant(kB, kFile, Of::flare, now));
  CHECK(tokens.grant(kC, kDir, Of::flare, now));
  const auto waiting = change(kFile, "", kA);
  auto messages = tokens.take_messages();
  REQUIRE(messages.size() == 1);
  CHECK(messages[0].to == kB);
  CHECK(messages[0].changes == std::vector<wire::Change>{{kFile, ""}});
  CHECK(waits(waiting));
  CHECK(tokens.take_messages().empty());
  tokens.confirmed(messages[0].notice);
  CHECK_FALSE(waits(waiting));
  // It believes nothing of it now; A does still.
  CHECK(change(kFile, "", kA).empty());
  CHECK(change(kFile, "", kC).size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "tokens: of a directory's names only the changed one is no longer so") {
  tokens.grant(kA, kDir, Of::names, now);
  CHECK(change(kDir, "", kB).empty());
  CHECK(change(kDir, "x", kB).size() == 1);
  CHECK(change(kDir, "y", kB).size() == 1);
  auto messages = tokens.take_messages();
  REQUIRE(messages.size() == 1);
  CHECK(messages[0].changes == std::vector<wire::Change>{{kDir, "x"}, {kDir, "y"}});
  CHECK(change(kDir, "x", kB).size() == 1);
  CHECK(tokens.take_messages().size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "tokens: each flare is confirmed by itself") {
  tokens.grant(kA, kDir, Of::names, now);
  tokens.grant(kA, kFile, Of::flare, now);
  const auto name = change(kDir, "x", kB), file = change(kFile, "", kB);
  auto messages = tokens.take_messages();
  REQUIRE(messages.size() == 2);
  tokens.confirmed(file[0]);
  CHECK(waits(name));
  CHECK_FALSE(waits(file));
}

TEST_CASE_FIXTURE(Fixture, "tokens: who reads what is not confirmed yet waits as well") {
  tokens.grant(kA, kFile, Of::flare, now);
  const auto waiting = change(kFile, "", kB);
  CHECK(tokens.has_unconfirmed());
  std::vector<NoticeId> reader;
  tokens.add_unconfirmed(kFile, reader);
  CHECK(reader == waiting);
  tokens.add_unconfirmed(kDir, reader);
  CHECK(reader.size() == 1);
  tokens.confirmed(waiting[0]);
  CHECK_FALSE(tokens.has_unconfirmed());
}

TEST_CASE_FIXTURE(Fixture, "tokens: end with their term, and with them the waiting") {
  tokens.grant(kA, kFile, Of::flare, now);
  now = kStart + kTerm - nanoseconds(1);
  const auto waiting = change(kFile, "", kB);
  CHECK(tokens.deadline() == kStart + kTerm);
  tokens.on_timer(now);
  CHECK(waits(waiting));
  now = kStart + kTerm;
  tokens.on_timer(now);
  CHECK_FALSE(waits(waiting));
  tokens.grant(kA, kFile, Of::flare, now);
  now = now + kTerm;
  CHECK(change(kFile, "", kB).empty());
}

TEST_CASE_FIXTURE(Fixture, "tokens: who delays writes to a file hears of its changes") {
  REQUIRE(tokens.grant_writes(kA, kFile, now));
  now = now + kTerm * 2;
  CHECK(change(kFile, "", kA).empty());
  CHECK(change(kDir, "", kB).empty());
  const auto waiting = change(kFile, "", kB);
  const auto messages = tokens.take_messages();
  REQUIRE(messages.size() == 1);
  CHECK(messages[0].to == kA);
  CHECK(messages[0].changes == std::vector<wire::Change>{{kFile, ""}});
  now = now + kTerm * 2;
  tokens.on_timer(now);
  CHECK(waits(waiting));
  tokens.confirmed(messages[0].notice);
  CHECK_FALSE(waits(waiting));
  CHECK(tokens.grant_writes(kA, kFile, now));
  CHECK(change(kFile, "", kB).size() == 1);  // it still does
  tokens.forget(kA);
  CHECK(change(kFile, "", kB).empty());
}

TEST_CASE_FIXTURE(Fixture, "tokens: granted again they last longer, and memory is given back") {
  for (int i = 0; i < 100; ++i) {
    CHECK(tokens.grant(kA, kFile, Of::flare, now));
    now = now + seconds(1);
    tokens.on_timer(now);
  }
  CHECK(tokens.size() == 1);
  CHECK(change(kFile, "", kB).size() == 1);
  CHECK(tokens.size() == 0);
  for (std::uint64_t i = 0; i < 1000; ++i) tokens.grant(kA, Ino(i + 1), Of::flare, now);
  CHECK(tokens.size() == 1000);
  tokens.on_timer(now + kTerm);
  tokens.on_timer(now + kTerm * 3);
  CHECK(tokens.size() == 0);
}

TEST_CASE_FIXTURE(Fixture, "tokens: bounded; who gets none may not believe") {
  for (std::uint64_t i = 0; i < Tokens::kTokensMax; ++i)
    REQUIRE(tokens.grant(kA, Ino(i + 1), Of::flare, now));
  CHECK_FALSE(tokens.grant(kB, kFile, Of::flare, now));
  CHECK(tokens.grant(kA, kFile, Of::flare, now));  // has it
  CHECK(tokens.size() == Tokens::kTokensMax);
}

TEST_CASE_FIXTURE(Fixture, "tokens: a lost message comes again when its session is heard from") {
  tokens.grant(kA, kFile, Of::flare, now);
  const auto waiting = change(kFile, "", kB);
  auto messages = tokens.take_messages();
  REQUIRE(messages.size() == 1);
  tokens.undelivered(messages[0].notice);
  CHECK(tokens.take_messages().empty());
  tokens.heard_from(kB);
  CHECK(tokens.take_messages().empty());
  tokens.heard_from(kA);
  messages = tokens.take_messages();
  REQUIRE(messages.size() == 1);
  CHECK(messages[0].notice == waiting[0]);
  CHECK(waits(waiting));
}

TEST_CASE_FIXTURE(Fixture, "tokens: a session that ends holds nobody up") {
  tokens.grant(kA, kFile, Of::flare, now);
  tokens.grant(kA, kDir, Of::names, now);
  const auto waiting = change(kFile, "", kB);
  tokens.forget(kA);
  CHECK_FALSE(waits(waiting));
  CHECK(change(kDir, "x", kB).empty());
  CHECK(tokens.take_messages().empty());
}

TEST_CASE_FIXTURE(Fixture, "tokens: after a restart the sessions of before may hold any") {
  tokens.begin_grace({kA, kB}, kStart + kTerm, ring::all_slots());
  const auto of_a = change(kFile, "", kA);
  CHECK(of_a.size() == 1);  // B
  std::vector<NoticeId> again;
  tokens.add_grace(kA, again);
  CHECK(again == of_a);
  CHECK(change(kFile, "", kC).size() == 2);
  CHECK(tokens.take_messages().empty());
  SUBCASE("as long as one may") {
    tokens.on_timer(kStart + kTerm - nanoseconds(1));
    CHECK(waits(of_a));
    tokens.on_timer(kStart + kTerm);
  }
  SUBCASE("or as it says itself") {
    tokens.shorten_grace(kB, kStart + milliseconds(10));
    CHECK(tokens.deadline() == kStart + milliseconds(10));
    tokens.shorten_grace(kB, kStart + seconds(4));
    tokens.on_timer(kStart + milliseconds(10));
  }
  SUBCASE("or until it ends") { tokens.forget(kB); }
  CHECK_FALSE(waits(of_a));
  CHECK(change(kFile, "", kA).empty());
}

TEST_CASE_FIXTURE(Fixture, "tokens: of slots that were taken over any session may hold any") {
  constexpr Ino kOther(ring::with_counter(ring::Slot(7), 100));
  ring::SlotMask taken;
  taken.set(7);
  tokens.begin_grace({kA, kB}, kStart + kTerm, taken);
  CHECK(change(kFile, "", kA).empty());
  CHECK_FALSE(tokens.is_unconfirmed(kFile, kA));
  CHECK(change(kOther, "", kA).size() == 1);
  CHECK(tokens.is_unconfirmed(kOther, kA));
  CHECK(tokens.grant_names(kA, kDir, now));
  CHECK_FALSE(tokens.grant_names(kA, kOther, now));
  // More are taken over while the first are waited for: of all until the last may have ended.
  ring::SlotMask more;
  more.set(8);
  tokens.begin_grace({kB, kC}, kStart + kTerm + kTerm, more);
  CHECK(change(kOther, "", kA).size() == 2);
  tokens.on_timer(kStart + kTerm);
  CHECK(change(kOther, "", kC).size() == 1);
  tokens.on_timer(kStart + kTerm + kTerm);
  CHECK(change(kOther, "", kA).empty());
  tokens.begin_grace({kB}, kStart + kTerm * 3, more);
  CHECK(change(kOther, "", kA).empty());
}

TEST_CASE_FIXTURE(Fixture, "tokens: what a tenure knew the next one goes on with") {
  tokens.grant(kB, kFile, Of::flare, now);
  tokens.grant(kB, kDir, Of::flare, now);
  const auto waiting = change(kFile, "", kA);
  auto messages = tokens.take_messages();
  REQUIRE(messages.size() == 1);
  Tokens next = std::move(tokens);
  next.go_on();
  tokens = std::move(next);
  // B was told, but its answer went with its connection.
  CHECK(waits(waiting));
  CHECK(tokens.is_unconfirmed(kFile, kA));
  CHECK(tokens.take_messages().empty());
  std::vector<NoticeId> again;
  tokens.add_grace(kA, again);  // who asks for the same change again waits, too
  CHECK(again == waiting);
  again.clear();
  tokens.add_grace(kB, again);
  CHECK(again.empty());
  CHECK(change(kDir, "", kA).size() == 1);
  tokens.heard_from(kB);
  messages = tokens.take_messages();
  REQUIRE(messages.size() == 2);
  for (const auto& message : messages) tokens.confirmed(message.notice);
  CHECK_FALSE(waits(waiting));
  CHECK_FALSE(tokens.is_unconfirmed(kFile, kA));
  // Later changes are not those of the tenure before.
  tokens.grant(kB, kFile, Of::flare, now);
  CHECK(waits(change(kFile, "", kA)));
  again.clear();
  tokens.add_grace(kA, again);
  CHECK(again.empty());
}

TEST_CASE_FIXTURE(Fixture, "tokens: writes are delayed by one who alone may believe anything") {
  tokens.grant(kB, kFile, Of::flare, now);
  CHECK_FALSE(tokens.grant_writes(kA, kFile, now));
  tokens.grant(kA, kFile, Of::flare, now);
  CHECK(tokens.grant_writes(kA, kFile, now + kTerm));  // B may believe it no more
  CHECK(tokens.grant_writes(kA, kFile, now + kTerm));
  CHECK_FALSE(tokens.grant_writes(kB, kFile, now + kTerm + kTerm));
  CHECK(tokens.is_writer_another(kFile, kB));
  CHECK_FALSE(tokens.is_writer_another(kFile, kA));
  // Not while somebody has still to hear of a change, nor right after a restart.
  tokens.grant(kB, kDir, Of::flare, now);
  const auto waiting = change(kDir, "", kA);
  REQUIRE(waits(waiting));
  CHECK_FALSE(tokens.grant_writes(kA, kDir, now + kTerm));
  tokens.begin_grace({kB}, kStart + kTerm, ring::all_slots());
  CHECK_FALSE(tokens.grant_writes(kA, Ino(300), now));
  CHECK(tokens.grant_writes(kB, Ino(300), now));
}

TEST_CASE_FIXTURE(Fixture, "tokens: writes are recalled once, for all who ask, without end") {
  REQUIRE(tokens.grant_writes(kA, kFile, now));
  CHECK(tokens.recall_writes(kFile, kA) == 0);
  CHECK(tokens.recall_writes(kDir, kB) == 0);
  const NoticeId recall = tokens.recall_writes(kFile, kB);
  REQUIRE(recall != 0);
  CHECK(tokens.recall_writes(kFile, kC) == recall);
  auto messages = tokens.take_messages();
  REQUIRE(messages.size() == 1);
  CHECK(messages[0].to == kA);
  CHECK(messages[0].changes == std::vector<wire::Change>{{kFile, "", true}});
  CHECK_FALSE(tokens.grant_writes(kA, kFile, now));
  tokens.on_timer(now + seconds(100));
  CHECK(tokens.is_open(recall));
  SUBCASE("until it has confirmed") { tokens.confirmed(recall); }
  SUBCASE("or has ended") { tokens.forget(kA); }
  SUBCASE("or nothing is known any more") { tokens.forget_writers(); }
  CHECK_FALSE(tokens.is_open(recall));
  CHECK(tokens.recall_writes(kFile, kB) == 0);
  CHECK(tokens.writers() == 0);
}

TEST_CASE_FIXTURE(Fixture, "tokens: a writer that closes its file is asked for nothing") {
  REQUIRE(tokens.grant_writes(kA, kFile, now));
  tokens.end_writes(kB, kFile);
  CHECK(tokens.is_writer_another(kFile, kB));
  tokens.end_writes(kA, kFile);
  CHECK(tokens.recall_writes(kFile, kB) == 0);
  // One that is being asked is waited for.
  tokens.presume_writes(kA, kFile);
  const NoticeId recall = tokens.recall_writes(kFile, kB);
  tokens.end_writes(kA, kFile);
  CHECK(tokens.is_open(recall));
  CHECK(tokens.recall_writes(kFile, kC) == recall);
}

TEST_CASE_FIXTURE(Fixture, "tokens: names may be delayed where nobody else believes anything") {
  CHECK(tokens.grant_names(kA, kDir, now));
  CHECK_FALSE(tokens.grant_names(kB, kDir, now));
  tokens.end_names(kDir);
  tokens.grant(kB, kFile, Of::flare, now);  // of the same slot
  tokens.grant(kA, kDir, Of::names, now);   // told last
  CHECK_FALSE(tokens.grant_names(kA, kDir, now));
  SUBCASE("until its belief has ended") {
    now = now + kTerm - milliseconds(1);
    CHECK_FALSE(tokens.grant_names(kA, kDir, now));
    now = now + milliseconds(1);
    CHECK(tokens.grant_names(kA, kDir, now));
  }
  SUBCASE("or its session has") {
    tokens.forget(kB);
    CHECK(tokens.grant_names(kA, kDir, now));
  }
}

TEST_CASE_FIXTURE(Fixture, "tokens: of many believers of a slot the last end is what counts") {
  for (int i = 0; i < 20; ++i)
    tokens.grant(SessionId(static_cast<std::uint64_t>(100 + i)), kFile, Of::flare,
                 now + milliseconds(20 - i));
  for (std::uint64_t i = 0; i < 20; ++i) tokens.forget(SessionId(100 + i));
  // Three are known one by one, and are gone; the others count until the last could have ended.
  now = now + kTerm + milliseconds(16);
  CHECK_FALSE(tokens.grant_names(kA, kDir, now));
  now = now + milliseconds(1);
  CHECK(tokens.grant_names(kA, kDir, now));
}
