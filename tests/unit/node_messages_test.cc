// The bytes of the node protocol: tests/protocol/golden_node/<op>_{request,reply}.hex.
#include <doctest/doctest.h>

#include <string>

#include "libmagma/wire/describe.h"
#include "libmagma/wire/node_messages.h"
#include "tests/lib/golden_file.h"
#include "tests/lib/sample_message.h"

using namespace magma;
using namespace magma::wire;

namespace {

test::GoldenFolder& golden() {
  static test::GoldenFolder folder("golden_node");
  return folder;
}

template <class T>
void check_golden(const std::string& name) {
  CAPTURE(name);
  const T message = test::sample<T>();
  const Bytes stored = golden().check(name, describe(name, message), encode(message));
  auto decoded = decode<T>(stored);
  REQUIRE(decoded.has_value());
  CHECK(encode(*decoded) == stored);
  for (std::size_t length = 0; length < stored.size(); ++length)
    CHECK_FALSE(decode<T>(ByteSpan(stored).first(length)).has_value());
}

}  // namespace

TEST_CASE("node messages: golden") {
  check_golden<NodeRequestHead>("request_head");
  check_golden<NodeResponseHead>("response_head");
#define MAGMA_NODE_OP(name, number, Request, Response, priority) \
  check_golden<Request>(#name "_request");                       \
  check_golden<Response>(#name "_reply");
#include "libmagma/wire/node_ops.def"
#undef MAGMA_NODE_OP
  golden().check_nothing_left();
}

TEST_CASE("node messages: what is beyond its limits is not sound") {
  RaftRequest raft;
  raft.message.resize(kRaftMessageBytesMax);
  CHECK(is_sound(raft));
  raft.message.push_back(0);
  CHECK_FALSE(is_sound(raft));

  JoinRequest join;
  CHECK(is_sound(join));
  join.profile.nick.assign(ring::kNickBytesMax + 1, 'a');
  CHECK_FALSE(is_sound(join));

  AnnounceReply announce;
  CHECK(is_sound(announce));
  announce.outcome = static_cast<NodeOutcome>(9);
  CHECK_FALSE(is_sound(announce));

  HeartbeatReply heartbeat;
  heartbeat.table.resize(ring::kVolcanoesMax);
  CHECK(is_sound(heartbeat));
  heartbeat.table.back().facts.version.assign(kVersionBytesMax + 1, 'x');
  CHECK_FALSE(is_sound(heartbeat));
  heartbeat.table.resize(ring::kVolcanoesMax + 1);
  CHECK_FALSE(is_sound(heartbeat));
}

TEST_CASE("node messages: names and numbers of operations") {
  CHECK(name_of(NodeOp::join) == "join");
  CHECK(is_known_node_op(100));
  CHECK_FALSE(is_known_node_op(0));
  CHECK(priority_of(NodeOp::raft) == 0);
  CHECK(priority_of(NodeOp::join) == 1);
}
