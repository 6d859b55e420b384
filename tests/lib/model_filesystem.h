// The oracle of the simulator: one tree in memory that behaves as a POSIX filesystem (ext4 where
// POSIX leaves it open) and says of each operation what a correct Magma answers: which code, which
// attributes, which bytes. Operations are by node, as the wire's are by inode number. Knows nothing
// of Magma's placement, sessions or times.
//
// Some refusals have two right answers, because two rules are broken and the order is nobody's
// promise: Verdict holds both. A node that is gone is `gone` (Magma: not_found or stale).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/base/result.h"
#include "tests/lib/sparse_bytes.h"

namespace magma::test {

using NodeId = std::uint64_t;  // never reused; 0 is none
inline constexpr NodeId kModelRoot = 1;

struct Verdict {
  Code code{};  // Code{}: done
  Code also{};  // a second right answer to a refusal, or Code{}

  bool done() const { return code == Code{}; }
  // Whether an answer of Magma (Code{}: done) is right.
  bool admits(Code answer) const;
  friend bool operator==(const Verdict&, const Verdict&) = default;
};

struct ModelNode {
  std::uint32_t mode = 0;  // st_mode
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t nlink = 0;
  SparseBytes content{};                  // regular file
  std::string target{};                   // symlink
  std::uint64_t rdev = 0;                 // device
  std::map<std::string, Bytes> xattrs{};  // user.*
  std::map<std::string, NodeId> names{};  // directory
  NodeId parent = 0;                      // directory
  std::uint32_t opens = 0;

  bool is_directory() const { return (mode & 0170000) == 0040000; }
  bool is_file() const { return (mode & 0170000) == 0100000; }
  bool is_symlink() const { return (mode & 0170000) == 0120000; }
};

struct Owner {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

class ModelFilesystem {
 public:
  ModelFilesystem();

  struct Made {
    Verdict verdict;
    NodeId node = 0;
    bool is_new = false;
  };
  Made lookup(NodeId dir, std::string_view name) const;
  Made mkdir(NodeId dir, std::string_view name, std::uint32_t mode, Owner owner);
  Made symlink(NodeId dir, std::string_view name, std::string_view target, Owner owner);
  // Opens what it made or found.
  Made create(NodeId dir, std::string_view name, std::uint32_t mode, bool exclusive, bool truncate,
              Owner owner);
  // A node that is open can get a name also when it has none.
  Verdict link(NodeId node, NodeId dir, std::string_view name);
  // `mode` with the type: fifo, socket, device or a regular file, which is not opened.
  Made mknod(NodeId dir, std::string_view name, std::uint32_t mode, std::uint64_t rdev,
             Owner owner);
  // A regular file without a name, opened.
  Made tmpfile(NodeId dir, std::uint32_t mode, Owner owner);
  Verdict unlink(NodeId dir, std::string_view name);
  Verdict rmdir(NodeId dir, std::string_view name);
  struct RenameSpec {
    NodeId from_dir;
    std::string from_name;
    NodeId to_dir;
    std::string to_name;
    bool no_replace = false;
    bool exchange = false;
  };
  Verdict rename(const RenameSpec& spec);
  Verdict truncate(NodeId node, std::uint64_t size);
  Verdict chmod(NodeId node, std::uint32_t permissions);
  Verdict chown(NodeId node, Owner owner);
  Verdict write(NodeId node, std::uint64_t offset, ByteSpan bytes);
  struct FallocateSpec {
    bool punch = false;  // with keep_size
    bool zero = false;
    bool keep_size = false;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
  };
  Verdict fallocate(NodeId node, const FallocateSpec& spec);
  struct CopySpec {
    NodeId from;
    std::uint64_t from_offset;
    NodeId to;
    std::uint64_t to_offset;
    std::uint64_t length;
  };
  // How many bytes of the source there are to copy.
  std::uint64_t bytes_to_copy(const CopySpec& spec) const;
  Verdict copy(const CopySpec& spec);
  enum class XattrMust : std::uint8_t { nothing, be_new, exist };
  Verdict setxattr(NodeId node, const std::string& name, Bytes value, XattrMust must);
  Verdict getxattr(NodeId node, const std::string& name) const;
  Verdict removexattr(NodeId node, const std::string& name);
  Verdict open(NodeId node, bool truncate);
  void release(NodeId node);  // a node with neither name nor open is gone

  // nullptr: gone.
  const ModelNode* find(NodeId node) const;
  std::vector<NodeId> all() const;
  std::string path_of(NodeId node) const;  // of a directory or a file with a name; for people
  std::vector<std::string> paths_of(NodeId node) const;  // by all its names
  std::size_t size() const { return nodes_.size(); }
  // Whether `above` is `below` or a directory over it.
  bool is_within(NodeId above, NodeId below) const;
  // For a model that is to take over what a walk of the real tree found.
  NodeId adopt(NodeId dir, std::string name, ModelNode node);
  void adopt_name(NodeId dir, std::string name, NodeId node);  // another one of a file
  void adopt_root(ModelNode root);  // without its names

 private:
  ModelNode* get(NodeId node);
  std::optional<Verdict> directory_problem(NodeId dir, std::string_view name) const;
  NodeId child(NodeId dir, std::string_view name) const;
  Made make(NodeId dir, std::string_view name, ModelNode node, Owner owner);
  void drop_link(NodeId node);
  void drop_if_unused(NodeId node);
  Verdict check_replace(const RenameSpec& spec, NodeId from, NodeId to) const;
  void set_entry(NodeId dir, const std::string& name, NodeId node);

  std::map<NodeId, ModelNode> nodes_;
  NodeId next_ = kModelRoot + 1;
};

}  // namespace magma::test
