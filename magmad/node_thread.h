// The thread of a volcano's Node: a loop, a socket on the node port, a store thread, the Raft
// store. Part of main.cc. Everything of the Node happens on that thread; what goes in and out is
// posted from loop to loop, values only:
//
//   in    tick(): the shard is well, and facts of it
//   out   RingView (immutable), and the node's failure
#pragma once

#include <memory>
#include <string>

#include "libmagma/base/unique_function.h"
#include "libmagma/sys_real/loop.h"
#include "libmagma/sys_real/udp.h"
#include "magmad/node/node.h"

namespace magma {

class NodeThread {
 public:
  struct Config {
    node::NodeConfig node;
    std::unique_ptr<sys_real::UdpSocket> socket;  // bound to the node port
    std::string directory;                        // the storage directory, which has raft.db
  };
  struct Callbacks {  // called on the loop `main`
    UniqueFunction<void(node::RingViewPtr)> on_view;
    UniqueFunction<void(const Error&)> on_failed;
  };
  // Opens the store, then runs the node. `main` outlives this. Errors: what the store says; nothing
  // has been started then.
  static Result<std::unique_ptr<NodeThread>> start(Config config, sys_real::Loop& main,
                                                   Callbacks callbacks);
  // Ends the node and its thread. What it posted to `main` before may still come: `callbacks` are
  // not called any more.
  ~NodeThread();
  NodeThread(const NodeThread&) = delete;
  NodeThread& operator=(const NodeThread&) = delete;

  // On the thread of `main`.
  void tick(wire::VolcanoFacts facts);

 private:
  struct Inside;
  explicit NodeThread(std::unique_ptr<Inside> inside);
  std::unique_ptr<Inside> inside_;
};

}  // namespace magma
