#include "libmagma/wire/node_messages.h"

#include <algorithm>

namespace magma::wire {

namespace {

// Numbers of rpc::Priority; wire does not include rpc.
constexpr std::uint8_t heartbeat = 0;
constexpr std::uint8_t lock = 1;

bool is_sound(const VolcanoFacts& facts) {
  return facts.version.size() <= kVersionBytesMax && facts.mirrors.size() <= ring::kReplicasMax &&
         std::all_of(facts.mirrors.begin(), facts.mirrors.end(), [](const MirrorFact& mirror) {
           return mirror.state >= MirrorState::away && mirror.state <= MirrorState::released;
         });
}

bool is_sound(const ring::Profile& p) {
  return p.nick.size() <= ring::kNickBytesMax && p.fqdn.size() <= ring::kFqdnBytesMax &&
         p.flare.size() <= ring::kAddressBytesMax && p.node.size() <= ring::kAddressBytesMax &&
         p.console.size() <= ring::kAddressBytesMax;
}

bool is_sound(NodeOutcome outcome) {
  return outcome >= NodeOutcome::accepted && outcome <= NodeOutcome::refused;
}

}  // namespace

std::string_view name_of(NodeOp op) {
  switch (op) {
#define MAGMA_NODE_OP(name, number, Request, Response, priority) \
  case NodeOp::name:                                             \
    return #name;
#include "libmagma/wire/node_ops.def"
#undef MAGMA_NODE_OP
  }
  return "?";
}

bool is_known_node_op(std::uint16_t number) { return name_of(static_cast<NodeOp>(number)) != "?"; }

std::uint8_t priority_of(NodeOp op) {
  switch (op) {
#define MAGMA_NODE_OP(name, number, Request, Response, priority) \
  case NodeOp::name:                                             \
    return priority;
#include "libmagma/wire/node_ops.def"
#undef MAGMA_NODE_OP
  }
  return lock;
}

bool is_sound(const RaftRequest& m) { return m.message.size() <= kRaftMessageBytesMax; }
bool is_sound(const NodeEmpty&) { return true; }
bool is_sound(const HeartbeatRequest& m) { return is_sound(m.facts); }
bool is_sound(const HeartbeatReply& m) {
  return m.table.size() <= ring::kVolcanoesMax &&
         std::all_of(m.table.begin(), m.table.end(),
                     [](const VolcanoNews& news) { return is_sound(news.facts); });
}
bool is_sound(const AnnounceRequest& m) { return is_sound(m.profile); }
bool is_sound(const AnnounceReply& m) {
  return is_sound(m.outcome) && m.reason.size() <= kNodeReasonBytesMax &&
         m.address.size() <= ring::kAddressBytesMax;
}
bool is_sound(const JoinRequest& m) {
  return m.version.size() <= kVersionBytesMax && is_sound(m.profile);
}
bool is_sound(const JoinReply& m) {
  return is_sound(m.outcome) && m.reason.size() <= kNodeReasonBytesMax &&
         m.coordinator.size() <= ring::kAddressBytesMax && m.nick.size() <= ring::kNickBytesMax;
}

}  // namespace magma::wire
