// Raft: messages on the wire (golden files tests/protocol/raft/*.hex; MAGMA_GOLDEN_WRITE=1 rewrites
// them), what their decoder refuses, and the log.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "libmagma/raft/log.h"
#include "libmagma/raft/messages.h"
#include "libmagma/wire/codec.h"

using namespace magma;
using namespace magma::raft;

namespace {

std::filesystem::path golden_directory() {
  const char* source = std::getenv("MAGMA_SRCDIR");
  if (source == nullptr) source = std::getenv("MAGMA_SOURCE");
  return std::filesystem::path(source == nullptr ? "." : source) / "tests/protocol/raft";
}

Configuration members() {
  return {.voters = {NodeId(1), NodeId(2), NodeId(3)}, .learners = {NodeId(0x0102030405060708)}};
}

// One of each kind, every field with a value of its own.
std::vector<std::pair<std::string, Message>> samples() {
  const Position previous{Index(41), Term(6)};
  return {
      {"vote_request", VoteRequest{Term(8), VoteKind::transfer, previous}},
      {"vote_reply", VoteReply{Term(8), VoteKind::pre_vote, Term(9), true}},
      {"append_request", AppendRequest{Term(8),
                                       previous,
                                       Index(40),
                                       0x1122334455,
                                       {{Term(7), EntryKind::no_op, {}},
                                        {Term(7), EntryKind::command, {0xca, 0xfe}},
                                        configuration_entry(Term(8), members())}}},
      {"append_reply", AppendReply{Term(8), 0x1122334455, true, Index(41), {Index(44), Term(8)}}},
      {"snapshot_request", SnapshotRequest{Term(8), 77, {previous, members(), {1, 2, 3}}}},
      {"transfer_request", TransferRequest{Term(8), {{5, 1'500'000'000}, {6, 2'000'000'000}}}},
  };
}

void is_refused(const Message& message) {
  const auto decoded = decode_message(encode_message(message));
  REQUIRE_FALSE(decoded.has_value());
  CHECK(decoded.error().code == Code::malformed);
}

Entry entry(std::uint64_t term) { return {Term(term), EntryKind::no_op, {}}; }

}  // namespace

TEST_CASE("raft: golden messages") {
  std::size_t files = 0;
  for (const auto& [name, message] : samples()) {
    CAPTURE(name);
    const Bytes bytes = encode_message(message);
    const auto path = golden_directory() / (name + ".hex");
    if (std::getenv("MAGMA_GOLDEN_WRITE") != nullptr) {
      std::filesystem::create_directories(golden_directory());
      std::ofstream(path) << "# " << describe(message) << "\n" << to_hex(bytes) << "\n";
    }
    std::ifstream in(path);
    std::string comment, hex;
    std::getline(in, comment);
    std::getline(in, hex);
    CHECK(comment == "# " + describe(message));
    CHECK(hex == to_hex(bytes));
    auto decoded = decode_message(bytes);
    REQUIRE(decoded.has_value());
    CHECK(encode_message(*decoded) == bytes);
    for (std::size_t length = 0; length < bytes.size(); ++length)
      CHECK_FALSE(decode_message(ByteSpan(bytes).first(length)).has_value());
    Bytes longer = bytes;
    longer.push_back(0);
    CHECK_FALSE(decode_message(longer).has_value());
    ++files;
  }
  CHECK(files == std::variant_size_v<Message>);
}

TEST_CASE("raft: the decoder refuses what no node sends") {
  const Position previous{Index(4), Term(3)};
  const auto append = [&](std::vector<Entry> entries) {
    return AppendRequest{Term(5), previous, Index(4), 1, std::move(entries)};
  };
  CHECK(decode_message(encode_message(append({entry(3), entry(5)}))).has_value());
  is_refused(append({entry(5), entry(4)}));  // terms never fall
  is_refused(append({entry(2)}));
  is_refused(append({entry(6)}));  // nor exceed the leader's
  is_refused(append(std::vector<Entry>(kBatchEntriesMax + 1, entry(5))));
  is_refused(append({{Term(5), EntryKind::command, Bytes(kCommandBytesMax + 1)}}));
  is_refused(append(std::vector<Entry>(
      3, {Term(5), EntryKind::command, Bytes(kCommandBytesMax)})));  // too much together
  is_refused(append({{Term(5), EntryKind::no_op, {1}}}));
  is_refused(append({{Term(5), static_cast<EntryKind>(9), {}}}));
  is_refused(append({{Term(5), EntryKind::configuration, {1, 2}}}));
  is_refused(append({configuration_entry(Term(5), {})}));  // without voters
  is_refused(append({configuration_entry(Term(5), {{NodeId(2), NodeId(1)}, {}})}));
  is_refused(append({configuration_entry(Term(5), {{NodeId(2), NodeId(2)}, {}})}));
  is_refused(append({configuration_entry(Term(5), {{NodeId(2)}, {NodeId(2)}})}));
  is_refused(append({configuration_entry(Term(5), {{kNobody, NodeId(2)}, {}})}));
  is_refused(VoteRequest{Term(kNumberMax + 1), VoteKind::vote, previous});
  is_refused(VoteRequest{Term(1), static_cast<VoteKind>(0), previous});
  is_refused(AppendReply{Term(1), ~std::uint64_t{0}, true, Index(1), previous});
  is_refused(SnapshotRequest{Term(8), 1, {previous, members(), Bytes(kSnapshotBytesMax + 1)}});
  is_refused(SnapshotRequest{Term(2), 1, {previous, members(), {}}});
  is_refused(TransferRequest{Term(8), {{1, ~std::uint64_t{0}}}});
  is_refused(TransferRequest{Term(8), std::vector<DeadlineLeft>(kDeadlinesMax + 1)});
  CHECK_FALSE(decode_message({}).has_value());
  const Bytes unknown = {7, 0, 0};
  CHECK_FALSE(decode_message(unknown).has_value());
}

TEST_CASE("raft: the log: terms, members, snapshots") {
  Log log({.last = {Index(3), Term(1)}, .configuration = members(), .state = {}}, {});
  CHECK(log.last_position() == Position{Index(3), Term(1)});
  for (std::uint64_t term : {1u, 2u, 2u}) log.append(entry(term));
  Configuration fewer = members();
  fewer.learners.clear();
  log.append(configuration_entry(Term(4), fewer));
  log.append({Term(4), EntryKind::command, Bytes(10)});
  CHECK(log.last() == Index(8));
  CHECK(log.configuration() == fewer);
  CHECK(log.configuration_index() == Index(7));
  CHECK(log.configuration_before() == members());
  CHECK(log.configuration_at(Index(6)) == members());
  CHECK(log.term_at(Index(2)) == std::nullopt);
  CHECK(log.term_at(Index(3)) == Term(1));
  CHECK(log.term_at(Index(9)) == std::nullopt);
  CHECK(log.last_not_above(Index(99), Term(3)) == Position{Index(6), Term(2)});
  CHECK(log.last_not_above(Index(5), Term(0)) == Position{Index(3), Term(1)});
  CHECK(log.batch(Index(4), 2).size() == 2);
  CHECK(log.entries_from(Index(9)).empty());

  log.truncate_from(Index(7));
  CHECK(log.configuration() == members());
  log.append(configuration_entry(Term(5), fewer));
  log.append({Term(5), EntryKind::command, Bytes(10)});
  log.compact(Index(7), {9}, 2);
  CHECK(log.snapshot() == Snapshot{{Index(7), Term(5)}, fewer, {9}});
  CHECK(log.base() == Index(5));
  CHECK(log.configuration() == fewer);
  CHECK(log.entries_since_snapshot() == 1);
  CHECK(log.bytes_since_snapshot() == 10);
  log.reset({.last = {Index(50), Term(9)}, .configuration = members(), .state = {}});
  CHECK(log.last() == Index(50));
  CHECK(log.configuration() == members());
}
