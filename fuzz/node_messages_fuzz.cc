// Decoders of the node protocol. The first byte chooses the message: 0: a request with its head, as
// a node port gets it; 1: an answer; others: each struct of node_ops.def in turn. What decodes must
// encode to the same bytes, print as a line, and be sound or not without more.
#include "libmagma/base/check.h"
#include "libmagma/raft/messages.h"
#include "libmagma/wire/describe.h"
#include "libmagma/wire/node_messages.h"
#include "magmad/node/links.h"

namespace {

using namespace magma;

template <class Message>
void check_message(ByteSpan in) {
  auto message = wire::decode<Message>(in);
  if (!message) return;
  MAGMA_CHECK(as_text(wire::encode(*message)) == as_text(in));
  MAGMA_CHECK(!wire::describe("message", *message).empty());
  if (!wire::is_sound(*message)) return;
  if constexpr (std::is_same_v<Message, wire::RaftRequest>) {
    auto inner = raft::decode_message(message->message);
    if (inner) MAGMA_CHECK(as_text(raft::encode_message(*inner)) == as_text(message->message));
  }
}

void check_request(ByteSpan in) {
  auto head = wire::decode_front<wire::NodeRequestHead>(in);
  if (!head || !wire::is_known_node_op(head->first.op)) return;
  switch (static_cast<wire::NodeOp>(head->first.op)) {
#define MAGMA_NODE_OP(name, number, Request, Response, priority) \
  case wire::NodeOp::name:                                       \
    check_message<wire::Request>(head->second);                  \
    break;
#include "libmagma/wire/node_ops.def"
#undef MAGMA_NODE_OP
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteSpan in{data + 1, size - 1};
  unsigned choice = 2;
  if (data[0] == 0) check_request(in);
  if (data[0] == 1) (void)node::decode_node_answer(in);
#define MAGMA_NODE_OP(name, number, Request, Response, priority)  \
  if (data[0] == choice++) check_message<wire::Request>(in);      \
  if (data[0] == choice++) check_message<wire::Response>(in);
#include "libmagma/wire/node_ops.def"
#undef MAGMA_NODE_OP
  return 0;
}
