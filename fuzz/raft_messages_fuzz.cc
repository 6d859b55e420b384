// Raft's decoder, and a node fed with what it lets through: whatever peers say, the node stays
// sound. Input: steps, each a byte of flags (bits 0-1: sender, bit 2: the node stands for election
// first, bits 3-7: time that passes, in 250 ms), a u16 length and a message.
#include "libmagma/base/check.h"
#include "libmagma/raft/raft.h"

namespace {

using namespace magma;

class Same final : public sys::Random {
 public:
  void fill(MutableByteSpan bytes) override {
    for (auto& b : bytes) b = 77;
  }
};

raft::Stored stored() {
  raft::Stored out = raft::founding(raft::NodeId(1), {1, 2, 3});
  out.snapshot.configuration.voters = {raft::NodeId(1), raft::NodeId(2), raft::NodeId(3)};
  out.hard.term = raft::Term(2);
  out.entries = {{raft::Term(1), raft::EntryKind::no_op, {}},
                 {raft::Term(2), raft::EntryKind::command, {7}}};
  return out;
}

void step(raft::Raft& node, raft::Event event, Instant now) {
  std::uint64_t written = 0;
  raft::Output output = node.step(std::move(event), now);
  for (auto& action : output.actions) {
    MAGMA_CHECK(!raft::describe(action).empty());
    if (auto* persist = std::get_if<raft::Persist>(&action)) {
      written = persist->sequence;
      raft::Index index = persist->first;
      for (const auto& entry : persist->entries) {
        MAGMA_CHECK(raft::is_valid(entry));
        index = index + 1;
      }
      MAGMA_CHECK(index == node.log().last() + 1);
    }
  }
  MAGMA_CHECK(node.commit_index() <= node.log().last());
  if (written > 0) step(node, raft::Persisted{written}, now);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Same random;
  Instant now{seconds(10).ns};
  raft::Raft node(raft::NodeId(1), stored(), {}, random, now);
  ByteReader in({data, size});
  while (in.left() >= 3) {
    const auto flags = in.get<std::uint8_t>();
    const std::size_t length = in.get<std::uint16_t>();
    const ByteSpan bytes = in.get_raw(std::min(length, in.left()));
    now = now + milliseconds(250) * (flags >> 3);
    if ((flags & 4) != 0) step(node, raft::Tick{}, now);
    auto message = raft::decode_message(bytes);
    if (!message) continue;
    MAGMA_CHECK(as_text(raft::encode_message(*message)) == as_text(bytes));
    MAGMA_CHECK(!raft::describe(*message).empty());
    step(node, raft::Received{raft::NodeId(flags & 3), std::move(*message)}, now);
    if (node.is_ready()) step(node, raft::Propose{1, {9}}, now);
  }
  return 0;
}
