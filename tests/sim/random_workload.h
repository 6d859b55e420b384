// Random file operations of 1-3 simulated clients, each answer compared with the oracle: code,
// attributes, bytes. Either all clients work in one tree, one operation at a time, or each at once
// in a directory of its own. Answers are exact also across crashes: a client repeats a request
// until a volcano answers, and a change is done once.
//
// The first difference stops the workload; report() then has it and the last operations.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/lib/model_filesystem.h"
#include "tests/lib/sim_cluster.h"
#include "tests/sim/beliefs.h"
#include "tests/sim/tree_walk.h"

namespace magma::test {

struct WorkloadOptions {
  bool shared_tree = true;
  // One operation in so many writes past 64 MiB or cuts there; 0: none.
  unsigned far_write_one_in = 400;
  // How long an operation that was answered may still be on its way to another slot.
  Duration lag = seconds(2);
  bool exchange = true;         // RENAME_EXCHANGE is among the operations
  bool allow_no_space = false;  // no_space may answer a change that takes space
  bool allow_io = false;        // io may answer anything that touches content
};

inline client::Credentials as(Owner owner) { return {owner.uid, owner.gid}; }

template <class T>
Result<void> outcome(const Result<T>& answer) {
  if (answer) return {};
  return fail(answer.error());
}

class RandomWorkload {
 public:
  RandomWorkload(SimCluster& cluster, WorkloadOptions options);
  ~RandomWorkload();

  // Makes the clients' directories. False: failed.
  bool begin();
  // Plans `count` more operations and lets them run by themselves while the cluster runs.
  void start_operations(unsigned count);
  // No more operations, and what is under way may be answered in any way: before a power cut.
  void halt();
  bool is_idle() const { return left_ == 0 && under_way_ == 0; }
  // start_operations and run until they are done, at most `limit` of simulated time.
  bool run_operations(unsigned count, Duration limit = seconds(600));
  // Walks everything and compares it with the oracle, and reads all content.
  bool verify();
  // After a power cut: what must be there is there, and the oracle takes over what else there is.
  bool verify_after_power_cut(Instant cut_at);
  // Lets go of every open file.
  bool release_all();

  bool failed() const { return !failure_.empty(); }
  std::string report() const;
  void fail_with(std::string what);
  std::uint64_t operations() const { return operations_; }

  ModelFilesystem& model() { return model_; }
  Ino ino_of(NodeId node) const;

 private:
  struct Handle {
    NodeId node = 0;
    bool for_write = false;
  };
  struct Worker {
    unsigned client = 0;
    NodeId root = kModelRoot;
    std::vector<Handle> handles{};
    std::vector<Handle> released{};  // since the last power cut
    std::vector<NodeId> renames{};   // what its rename, under way, is about
    // Answered when any answer was right: the oracle knows nothing of them.
    struct Unseen {
      Ino ino;
      bool for_write = false;
    };
    std::vector<Unseen> unseen{};
    bool busy = false;
  };
  struct Synced {  // a file whose content is promised
    std::string path;
    SparseBytes content{};
    Instant path_since{};
    // As they were at the fsync; nothing: changed since.
    std::optional<std::map<std::string, Bytes>> xattrs{};
  };

  void pump();
  void run_one(Worker& worker);
  void finish(Worker& worker);
  // Begins an operation's line in the log; complete() ends it.
  std::size_t note(const Worker& worker, std::string what);
  // Compares an answer's code with the verdict; true if both say it was done.
  bool judge(std::size_t line, const Verdict& verdict, const Result<void>& answer);
  bool is_excused(std::size_t line, const Result<void>& answer);
  bool check_attr(std::size_t line, NodeId node, const wire::Attr& attr);
  void check_known(const Worker& worker);
  void check_beliefs();
  bool compare_attr(std::size_t line, NodeId node, const wire::Attr& attr);
  void believe(std::size_t line, const wire::Attr& attr);
  void believe(std::size_t line, Ino dir, const std::string& name, Ino ino, Instant until);
  void changed(NodeId node) { synced_.erase(node); }
  void xattrs_changed(NodeId node);
  void path_changed(NodeId node);
  // A name of the node went: it is gone, or lives while it is open. The inode's home may hear of it
  // only once the commit is on stable storage; until then it is not asked, and its nlink may lag.
  void lost_name(NodeId node);
  void gone_after_lag(NodeId node, Duration more = {});

  void do_lookup(Worker& worker);
  void do_getattr(Worker& worker);
  void do_mkdir(Worker& worker);
  void do_symlink(Worker& worker);
  void do_readlink(Worker& worker);
  void do_create(Worker& worker);
  Ino movable(NodeId dir, const std::string& name, bool is_removed) const;
  void do_unlink(Worker& worker);
  void do_rmdir(Worker& worker);
  void do_rename(Worker& worker);
  void do_setattr(Worker& worker);
  void do_truncate(Worker& worker);
  void do_open(Worker& worker);
  void open_node(Worker& worker, NodeId node, bool for_write, bool truncate);
  void do_release(Worker& worker);
  void do_write(Worker& worker);
  void do_read(Worker& worker);
  void do_fsync(Worker& worker);
  void do_readdir(Worker& worker);
  void do_link(Worker& worker);
  void do_mknod(Worker& worker);
  void do_tmpfile(Worker& worker);
  void do_setxattr(Worker& worker);
  void do_getxattr(Worker& worker);
  void do_removexattr(Worker& worker);
  void do_fallocate(Worker& worker);
  void fallocate_more(Worker& worker, std::size_t line, NodeId node,
                      const ModelFilesystem::FallocateSpec& spec, wire::FallocateRequest request);
  void do_copy(Worker& worker);
  void readdir_more(Worker& worker, std::size_t line, NodeId dir, std::uint64_t cookie,
                    std::shared_ptr<std::map<std::string, Ino>> seen);

  NodeId random_directory(const Worker& worker);
  NodeId random_node(const Worker& worker);
  Handle* random_handle(Worker& worker, bool for_write);
  std::string random_name(NodeId dir, bool existing);
  std::uint64_t random_offset(std::uint64_t size);
  Bytes random_bytes();
  Owner random_owner();
  std::vector<NodeId> nodes_of(const Worker& worker) const;

  bool verify_directory(NodeId dir);
  bool verify_content(NodeId node);
  bool verify_xattrs(NodeId node);
  // A synced file, by one of its names, in what is there after a power cut.
  void check_synced(NodeId node, const std::string& path, const ModelFilesystem& fresh,
                    NodeId found);
  bool is_settled(NodeId node, const std::string& path, Instant cut_at) const;
  void take_over(ModelFilesystem fresh, std::map<NodeId, Ino> inos);

  SimCluster& cluster_;
  WorkloadOptions options_;
  SeedRandom random_;
  ModelFilesystem model_;
  std::map<NodeId, Ino> inos_;  // also of nodes that are gone
  std::vector<std::unique_ptr<Worker>> workers_;
  std::map<NodeId, Synced> synced_;
  std::map<NodeId, Instant> path_since_;
  std::vector<NodeId> gone_;
  std::map<NodeId, std::vector<Instant>> lost_name_at_;
  unsigned generation_ = 0;  // of the oracle: a power cut begins a new one
  bool halted_ = false;
  unsigned left_ = 0;
  unsigned under_way_ = 0;
  std::uint64_t operations_ = 0;
  std::deque<std::string> log_;
  std::deque<unsigned> log_clients_;  // of each line
  std::vector<Beliefs> beliefs_;      // by client
  std::uint64_t log_base_ = 0;
  std::string failure_;
};

}  // namespace magma::test
