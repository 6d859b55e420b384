// Reads a whole tree through a simulated client: what is really there, as a ModelFilesystem. And
// small helpers to make one call and wait for its answer. Every test of the simulator that looks at
// a tree uses these.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "tests/lib/model_filesystem.h"
#include "tests/lib/sim_cluster.h"

namespace magma::test {

inline constexpr Duration kAnswerLimit = seconds(120);
inline constexpr client::Credentials kRootUser{};

// Calls `call(client, done)` and runs the cluster until `done` was called. timeout if it never is.
template <class T, class Call>
Result<T> ask(SimCluster& cluster, unsigned client, Call call) {
  auto answer = std::make_shared<std::optional<Result<T>>>();  // shared with the callback
  call(cluster.client(client), [answer](Result<T> result) { *answer = std::move(result); });
  cluster.touch_client(client);
  if (!cluster.run_until([&] { return answer->has_value(); }, kAnswerLimit))
    return fail(Code::timeout, "no answer in simulated time");
  return std::move(**answer);
}

Ino root_ino();

struct WalkedTree {
  ModelFilesystem model;
  std::map<NodeId, Ino> inos{};
};
// Everything must be readable: any refusal is returned, with the path in its detail.
Result<WalkedTree> walk_tree(SimCluster& cluster, unsigned client);

// One line a path: type, mode, nlink, owner, size, sum of the content; and one for each extended
// attribute.
std::string dump_of(const ModelFilesystem& model);

}  // namespace magma::test
