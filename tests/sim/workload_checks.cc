// The parts of RandomWorkload that look at the whole tree: its beginning, the walk that compares
// everything with the oracle, and what a power cut may have changed.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "libmagma/base/check.h"
#include "libmagma/crypto/path_hash.h"
#include "tests/lib/sometimes.h"
#include "tests/sim/random_workload.h"
#include "tests/sim/tree_walk.h"

namespace magma::test {

namespace {

constexpr std::uint32_t kReadBytes = 1u << 18;
// Metadata is synced each second; a path older than this is there after a power cut.
constexpr Duration kMetadataSettled = milliseconds(2500);

// What is there must be one tree: as many names as an inode counts.
std::optional<std::string> links_problem(const ModelFilesystem& model) {
  for (NodeId id : model.all()) {
    const ModelNode& node = *model.find(id);
    std::size_t links = model.paths_of(id).size();
    if (node.is_directory()) {
      links = 2;
      for (const auto& entry : node.names) links += model.find(entry.second)->is_directory();
    }
    if (!node.is_directory() && links > 1) sometimes("power cut: a file with several names");
    if (links != node.nlink)
      return fmt::format("{} has nlink {}, {} were found", model.path_of(id), node.nlink, links);
  }
  return std::nullopt;
}

}  // namespace

bool RandomWorkload::begin() {
  inos_[kModelRoot] = root_ino();
  if (options_.shared_tree) return true;
  for (auto& worker : workers_) {
    wire::MkdirRequest request;
    request.dir = ino_of(kModelRoot);
    request.name = fmt::format("w{}", worker->client);
    request.mode = 0755;
    request.key = crypto::key_of_path("/" + request.name);
    auto made = ask<wire::EntryReply>(cluster_, worker->client, [&](auto& client, auto done) {
      client.mkdir(request, kRootUser, std::move(done));
    });
    if (!made) {
      fail_with("mkdir of a worker's directory: " + std::string(name_of(made.error().code)));
      return false;
    }
    worker->root = model_.mkdir(kModelRoot, request.name, request.mode, {}).node;
    inos_[worker->root] = made->ino;
    path_since_[worker->root] = cluster_.now();
  }
  return true;
}

bool RandomWorkload::release_all() {
  for (auto& worker : workers_) {
    for (const Handle& handle : worker->handles) {
      cluster_.client(worker->client).release(ino_of(handle.node), handle.for_write);
      model_.release(handle.node);
    }
    worker->handles.clear();
    cluster_.touch_client(worker->client);
  }
  cluster_.run_for(seconds(1));
  return !failed();
}

bool RandomWorkload::verify_content(NodeId id) {
  const SparseBytes& content = model_.find(id)->content;
  std::vector<std::pair<std::uint64_t, std::uint32_t>> ranges;
  content.for_each_page([&](std::uint64_t offset, const Bytes&) {
    if (!ranges.empty() && ranges.back().first + ranges.back().second == offset &&
        ranges.back().second + SparseBytes::kPage <= kReadBytes)
      ranges.back().second += SparseBytes::kPage;
    else
      ranges.emplace_back(offset, SparseBytes::kPage);
  });
  ranges.emplace_back(content.size(), 100);  // nothing there
  if (content.size() > 0) ranges.emplace_back(random_.below(content.size()), 5000);
  const unsigned reader = static_cast<unsigned>(random_.below(workers_.size()));
  for (const auto& [offset, length] : ranges) {
    auto bytes = ask<Bytes>(cluster_, reader,
                            [&, offset = offset, length = length](auto& client, auto done) {
                              client.read(ino_of(id), offset, length, kRootUser, std::move(done));
                            });
    if (!bytes) {
      fail_with(fmt::format("verify: read {} at {}: {}", model_.path_of(id), offset,
                            describe(bytes.error())));
      return false;
    }
    Bytes expected = content.read(offset, length);
    if (*bytes == expected) continue;
    std::size_t at = 0;
    while (at < bytes->size() && at < expected.size() && (*bytes)[at] == expected[at]) ++at;
    fail_with(fmt::format("verify: {} (size {}) differs at {}: got {} bytes, expected {}",
                          model_.path_of(id), content.size(), offset + at, bytes->size(),
                          expected.size()));
    return false;
  }
  return true;
}

bool RandomWorkload::verify_xattrs(NodeId id) {
  const auto& expected = model_.find(id)->xattrs;
  if (expected.empty()) return true;  // check_attr has seen that there are none
  auto list = ask<wire::ListxattrReply>(cluster_, 0, [&](auto& client, auto done) {
    client.listxattr(ino_of(id), kRootUser, std::move(done));
  });
  if (!list || list->names.size() != expected.size()) {
    fail_with(fmt::format("verify: listxattr {}: {} names, the oracle has {}", model_.path_of(id),
                          list ? list->names.size() : 0, expected.size()));
    return false;
  }
  for (const auto& [name, value] : expected) {
    auto reply =
        ask<wire::GetxattrReply>(cluster_, 0, [&, name = name](auto& client, auto done) {
          client.getxattr(ino_of(id), name, kRootUser, std::move(done));
        });
    if (reply && reply->value == value) continue;
    fail_with(fmt::format("verify: getxattr {} {}: {}", model_.path_of(id), name,
                          reply ? "another value" : describe(reply.error())));
    return false;
  }
  return true;
}

bool RandomWorkload::verify_directory(NodeId dir) {
  const ModelNode& node = *model_.find(dir);
  std::map<std::string, Ino> seen;
  std::uint64_t cookie = 0;
  for (bool end = false; !end;) {
    wire::ReaddirRequest request{ino_of(dir), cookie, 65536, true};
    auto reply = ask<wire::ReaddirReply>(cluster_, 0, [&](auto& client, auto done) {
      client.readdir(request, kRootUser, std::move(done));
    });
    if (!reply) {
      fail_with("verify: readdir " + model_.path_of(dir) + ": " + describe(reply.error()));
      return false;
    }
    for (const auto& entry : reply->entries) {
      seen[entry.name] = entry.ino;
      cookie = entry.cookie;
    }
    end = reply->end || reply->entries.empty();
  }
  for (const auto& [name, ino] : seen)
    if (!node.names.contains(name))
      fail_with("verify: " + model_.path_of(dir) + " has " + name + ", the oracle has not");
  for (const auto& [name, id] : node.names) {
    auto found = seen.find(name);
    if (found == seen.end())
      fail_with("verify: " + model_.path_of(dir) + " lacks " + name);
    else if (found->second != ino_of(id))
      fail_with("verify: " + model_.path_of(dir) + "/" + name + " is another inode");
  }
  return !failed();
}

bool RandomWorkload::verify() {
  if (failed()) return false;
  for (NodeId id : model_.all()) {
    const ModelNode* node = model_.find(id);
    auto attr = ask<wire::Attr>(cluster_, 0, [&](auto& client, auto done) {
      client.getattr(ino_of(id), kRootUser, std::move(done));
    });
    if (!attr) {
      fail_with("verify: getattr " + model_.path_of(id) + ": " + describe(attr.error()));
      return false;
    }
    Worker nobody;
    std::size_t line = note(nobody, "verify " + model_.path_of(id));
    if (!compare_attr(line, id, *attr)) return false;
    if (node->is_directory() && !verify_directory(id)) return false;
    if (node->is_file() && !verify_content(id)) return false;
    if (!verify_xattrs(id)) return false;
  }
  return !failed();
}

// Whether this way to the node is old enough to be on stable storage.
bool RandomWorkload::is_settled(NodeId node, const std::string& path, Instant cut_at) const {
  for (const auto& [other, since] : path_since_) {
    if (model_.find(other) == nullptr || cut_at - since > kMetadataSettled) continue;
    if (other == node || path.starts_with(model_.path_of(other) + "/")) return false;
  }
  return true;
}

void RandomWorkload::check_synced(NodeId node, const std::string& path,
                                  const ModelFilesystem& fresh, NodeId found) {
  sometimes("power cut: a synced file was checked");
  const Synced& synced = synced_.at(node);
  const ModelNode* file = fresh.find(found);
  if (file == nullptr)
    fail_with("after power cut: the synced file " + path + " is not there");
  else if (!(file->content == synced.content))
    fail_with("after power cut: the synced file " + path + " has other content");
  else if (synced.xattrs && file->xattrs != *synced.xattrs)
    fail_with("after power cut: the synced file " + path + " has other attributes");
}

// Of the old tree: files fsynced and not touched since, whose path is old enough, must be as they
// were, by all their names. What else there is must be readable and is taken over as it is.
bool RandomWorkload::verify_after_power_cut(Instant cut_at) {
  for (Beliefs& beliefs : beliefs_) beliefs.clear();  // of what the power cut took back
  if (failed()) return false;
  MAGMA_CHECK(is_idle());
  halted_ = false;
  cluster_.run_for(seconds(3));  // what recovery drives on has ended
  // Opens of the last second may be gone, and with them who has what to send (ADR 14).
  for (const auto& worker : workers_) {
    const Instant patience = cluster_.now() + seconds(30);
    const client::Client& client = cluster_.client(worker->client);
    while (client.stats().delayed_files + client.stats().delayed_directories > 0) {
      cluster_.run_for(milliseconds(100));
      if (cluster_.now() < patience) continue;
      fail_with(fmt::format("client{} does not send what it delays", worker->client));
      return false;
    }
  }
  auto walked = walk_tree(cluster_, 0);
  if (!walked) {
    fail_with(
        fmt::format("after power cut: {} {}", name_of(walked.error().code), walked.error().detail));
    return false;
  }
  ModelFilesystem& fresh = walked->model;
  std::map<std::string, NodeId> by_path;
  for (NodeId id : fresh.all())
    for (const std::string& path : fresh.paths_of(id)) by_path[path] = id;
  for (const auto& entry : synced_) {
    const NodeId node = entry.first;
    if (model_.find(node) == nullptr || model_.find(node)->nlink == 0) continue;
    NodeId first = 0;
    for (const std::string& path : model_.paths_of(node)) {
      if (!is_settled(node, path, cut_at)) continue;
      auto found = by_path.find(path);
      const NodeId id = found == by_path.end() ? 0 : found->second;
      check_synced(node, path, fresh, id);
      if (first != 0 && id != first) fail_with("after power cut: " + path + " is another file");
      first = id;
    }
  }
  if (auto problem = links_problem(fresh)) fail_with("after power cut: " + *problem);
  if (failed()) return false;
  take_over(std::move(walked->model), std::move(walked->inos));
  return true;
}

// The clients' open files are still open for them where the inode is still there.
void RandomWorkload::take_over(ModelFilesystem fresh, std::map<NodeId, Ino> inos) {
  model_ = std::move(fresh);
  std::map<std::uint64_t, NodeId> by_ino;
  for (const auto& [id, ino] : inos) by_ino[ino.value] = id;
  for (auto& worker : workers_) {
    // A power cut takes back a release that was not synced: those of before once more.
    for (const auto* handles : {&worker->released, &worker->handles})
      for (const Handle& handle : *handles)
        cluster_.client(worker->client).release(ino_of(handle.node), handle.for_write);
    // And an open that was answered after it, or just before: nobody will use it.
    for (const auto& [ino, for_write] : std::exchange(worker->unseen, {}))
      cluster_.client(worker->client).release(ino, for_write);
    worker->released.clear();
    worker->handles.clear();
    cluster_.touch_client(worker->client);
    auto root = by_ino.find(ino_of(worker->root).value);
    worker->root = root == by_ino.end() ? kModelRoot : root->second;
    // A worker that lost its directory would work in everybody's.
    if (root == by_ino.end() && !options_.shared_tree) options_.shared_tree = true;
  }
  inos_ = std::move(inos);
  synced_.clear();
  path_since_.clear();
  gone_.clear();
  lost_name_at_.clear();
  ++generation_;
  cluster_.run_for(seconds(3));  // releases arrive, what nobody has open is reaped
}

// ---- what clients believe

void RandomWorkload::believe(std::size_t line, const wire::Attr& attr) {
  if (line < log_base_) return;
  const unsigned client = log_clients_[line - log_base_];
  // What is told replaces what was, as in a kernel, also for no time at all.
  if (attr.believed_until <= cluster_.client_now(client))
    beliefs_[client].attrs.erase(attr.ino);
  else
    beliefs_[client].attrs[attr.ino] = attr;
}

void RandomWorkload::believe(std::size_t line, Ino dir, const std::string& name, Ino ino,
                             Instant until) {
  if (line < log_base_) return;
  const unsigned client = log_clients_[line - log_base_];
  if (until <= cluster_.client_now(client)) return;
  beliefs_[client].names[{dir, name}] = {ino, until};
}

// Nobody believes what is no longer so. (Only if one operation ends before the next begins.)
void RandomWorkload::check_beliefs() {
  if (!options_.shared_tree) return;
  std::map<Ino, NodeId> nodes;
  for (const auto& [node, ino] : inos_)
    if (model_.find(node) != nullptr) nodes[ino] = node;
  const std::size_t line = log_base_ + log_.size() - 1;
  for (unsigned client = 0; client < beliefs_.size(); ++client) {
    const Beliefs& beliefs = beliefs_[client];
    const Instant now = cluster_.client_now(client);
    for (const auto& [ino, attr] : beliefs.attrs) {
      auto node = nodes.find(ino);
      if (node == nodes.end() || attr.believed_until <= now) continue;
      sometimes("client: another client's change left attributes believed");
      if (!compare_attr(line, node->second, attr)) {
        failure_ += fmt::format(" (believed by client{})", client);
        return;
      }
    }
    for (const auto& [place, name] : beliefs.names) {
      auto dir = nodes.find(place.first);
      if (dir == nodes.end() || name.until <= now) continue;
      auto found = model_.find(dir->second)->names.find(place.second);
      const bool is_so = found != model_.find(dir->second)->names.end() &&
                         ino_of(found->second) == name.ino;
      if (!is_so)
        return fail_with(fmt::format("believed: {} in {}", place.second,
                                     model_.path_of(dir->second)));
    }
  }
}

// What a client believes of directories and files that nobody else changes is so.
void RandomWorkload::check_known(const Worker& worker) {
  if (failed() || halted_) return;
  const client::Client& client = cluster_.client(worker.client);
  sometimes("client: opened without asking", client.stats().local_opens);
  sometimes("client: delayed a write", client.stats().delayed_writes);
  sometimes("client: delayed setting attributes", client.stats().delayed_sets);
  sometimes("client: was asked for delayed writes", client.stats().write_recalls);
  sometimes("client: asked to delay writes", client.stats().write_claims);
  sometimes("client: told of an open", client.stats().keeps);
  sometimes("client: delayed a change of names", client.stats().delayed_names);
  sometimes("client: made a file later", client.stats().delayed_files_made);
  for (NodeId id : nodes_of(worker)) {
    const ModelNode& node = *model_.find(id);
    if (!node.is_directory()) {
      auto known = client.known_file(ino_of(id));
      if (!known) continue;
      sometimes("client: attributes of a file known");
      compare_attr(log_base_ + log_.size() - 1, id, known->attr);
      continue;
    }
    for (const auto& entry : node.names)
      if (client.knows_absent(ino_of(id), entry.first))
        return fail_with("believed absent: " + entry.first + " in " + model_.path_of(id));
    if (client.knows_absent(ino_of(id), "never made")) sometimes("client: absent names known");
    auto known = client.known_directory(ino_of(id));
    if (!known) continue;
    sometimes("client: attributes of a changed directory known");
    compare_attr(log_base_ + log_.size() - 1, id, known->attr);
  }
  check_beliefs();
}

}  // namespace magma::test
