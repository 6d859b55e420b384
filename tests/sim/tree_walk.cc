#include "tests/sim/tree_walk.h"

#include <algorithm>

#include <fmt/format.h>

#include "libmagma/crypto/checksum.h"
#include "libmagma/crypto/path_hash.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::test {

namespace {

constexpr std::uint32_t kReadBytes = 1u << 20;

class Walker {
 public:
  Walker(SimCluster& cluster, unsigned client) : cluster_(cluster), client_(client) {}

  Result<void> directory(NodeId dir, Ino ino, const std::string& path) {
    TRY_VALUE(auto entries, names(ino, path));
    for (const auto& entry : entries) {
      const std::string below = path + "/" + entry.name;
      if (auto known = by_ino_.find(entry.ino.value); known != by_ino_.end()) {
        tree_.model.adopt_name(dir, entry.name, known->second);
        continue;
      }
      TRY_VALUE(auto attr, getattr(entry.ino, below));
      TRY_VALUE(auto node, flare(attr, below));
      const bool is_directory = node.is_directory();
      NodeId id = tree_.model.adopt(dir, entry.name, std::move(node));
      tree_.inos[id] = entry.ino;
      // A directory with two names is walked twice, so that whoever compares sees it.
      if (!is_directory) by_ino_[entry.ino.value] = id;
      if (is_directory) TRY(directory(id, entry.ino, below));
    }
    return {};
  }
  Result<void> root() {
    TRY_VALUE(auto attr, getattr(root_ino(), "/"));
    TRY_VALUE(auto node, flare(attr, "/"));
    tree_.model.adopt_root(std::move(node));
    tree_.inos[kModelRoot] = root_ino();
    return directory(kModelRoot, root_ino(), "");
  }
  WalkedTree take() { return std::move(tree_); }

 private:
  template <class T, class Call>
  Result<T> ask_at(const char* what, const std::string& path, Call call) {
    auto answer = ask<T>(cluster_, client_, std::move(call));
    if (!answer)
      return fail(answer.error().code, fmt::format("{} {} {}", what, path, answer.error().detail));
    return answer;
  }
  Result<wire::Attr> getattr(Ino ino, const std::string& path) {
    return ask_at<wire::Attr>("getattr", path, [&](auto& client, auto done) {
      client.getattr(ino, kRootUser, std::move(done));
    });
  }
  Result<std::vector<wire::DirectoryEntry>> names(Ino ino, const std::string& path) {
    std::vector<wire::DirectoryEntry> entries;
    for (bool end = false; !end;) {
      wire::ReaddirRequest request{ino, entries.empty() ? 0 : entries.back().cookie, 65536, false};
      TRY_VALUE(auto reply,
                ask_at<wire::ReaddirReply>("readdir", path, [&](auto& client, auto done) {
                  client.readdir(request, kRootUser, std::move(done));
                }));
      entries.insert(entries.end(), reply.entries.begin(), reply.entries.end());
      end = reply.end;
      if (!end && reply.entries.empty()) return fail(Code::io, path + " readdir goes nowhere");
    }
    return entries;
  }
  Result<ModelNode> flare(const wire::Attr& attr, const std::string& path) {
    ModelNode node;
    node.mode = attr.mode;
    node.uid = attr.uid;
    node.gid = attr.gid;
    node.nlink = attr.nlink;
    node.rdev = attr.rdev;
    if (attr.xattr_kinds != 0) TRY(xattrs(attr, path, node));
    if (node.is_symlink()) {
      TRY_VALUE(node.target, ask_at<std::string>("readlink", path, [&](auto& client, auto done) {
                  client.readlink(attr.ino, kRootUser, std::move(done));
                }));
    }
    if (node.is_file()) TRY(content(attr, path, node));
    return node;
  }
  Result<void> xattrs(const wire::Attr& attr, const std::string& path, ModelNode& node) {
    TRY_VALUE(auto list,
              ask_at<wire::ListxattrReply>("listxattr", path, [&](auto& client, auto done) {
                client.listxattr(attr.ino, kRootUser, std::move(done));
              }));
    for (const std::string& name : list.names) {
      TRY_VALUE(auto reply,
                ask_at<wire::GetxattrReply>("getxattr", path, [&](auto& client, auto done) {
                  client.getxattr(attr.ino, name, kRootUser, std::move(done));
                }));
      node.xattrs[name] = std::move(reply.value);
    }
    return {};
  }
  Result<void> content(const wire::Attr& attr, const std::string& path, ModelNode& node) {
    for (std::uint64_t at = 0; at < attr.size;) {
      const auto length =
          static_cast<std::uint32_t>(std::min<std::uint64_t>(attr.size - at, kReadBytes));
      TRY_VALUE(auto bytes, ask_at<Bytes>("read", path, [&](auto& client, auto done) {
                  client.read(attr.ino, at, length, kRootUser, std::move(done));
                }));
      if (bytes.size() != length)
        return fail(Code::io, fmt::format("{} read at {}: {} of {} bytes, size {}", path, at,
                                          bytes.size(), length, attr.size));
      for (std::size_t page = 0; page < bytes.size(); page += SparseBytes::kPage) {
        auto part = ByteSpan(bytes).subspan(
            page, std::min<std::size_t>(SparseBytes::kPage, bytes.size() - page));
        // Holes stay holes in the model.
        if (std::any_of(part.begin(), part.end(), [](auto b) { return b != 0; }))
          node.content.write(at + page, part);
      }
      at += length;
    }
    node.content.truncate(attr.size);
    return {};
  }

  SimCluster& cluster_;
  unsigned client_;
  WalkedTree tree_;
  std::map<std::uint64_t, NodeId> by_ino_;  // of what can have several names
};

void dump_below(const ModelFilesystem& model, NodeId id, const std::string& path,
                std::string& out) {
  const ModelNode& node = *model.find(id);
  std::uint32_t sum = 0;
  node.content.for_each_page([&](std::uint64_t offset, const Bytes& page) {
    if (std::any_of(page.begin(), page.end(), [](auto b) { return b != 0; }))
      sum = sum * 31 + crypto::crc32c(page) + static_cast<std::uint32_t>(offset / 4096);
  });
  out +=
      fmt::format("{} {:o} nlink={} {}:{} size={} sum={:08x} {}\n", path.empty() ? "/" : path,
                  node.mode, node.nlink, node.uid, node.gid, node.content.size(), sum, node.target);
  if (node.rdev != 0) out += fmt::format("  rdev={:x}\n", node.rdev);
  for (const auto& [name, value] : node.xattrs)
    out += fmt::format("  {} {} bytes {:08x}\n", name, value.size(), crypto::crc32c(value));
  for (const auto& [name, child] : node.names) dump_below(model, child, path + "/" + name, out);
}

}  // namespace

Ino root_ino() { return Ino(ring::with_counter(crypto::key_of_path("/").slot(), 1)); }

Result<WalkedTree> walk_tree(SimCluster& cluster, unsigned client) {
  Walker walker(cluster, client);
  TRY(walker.root());
  return walker.take();
}

std::string dump_of(const ModelFilesystem& model) {
  std::string out;
  dump_below(model, kModelRoot, "", out);
  return out;
}

}  // namespace magma::test
