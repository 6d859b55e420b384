#include "tests/lib/model_filesystem.h"

#include <algorithm>

#include "libmagma/base/check.h"

namespace magma::test {

namespace {

constexpr std::uint32_t kDirectory = 0040000, kFile = 0100000, kSymlink = 0120000;
constexpr std::uint32_t kSetGid = 02000;
constexpr std::size_t kNameMax = 255;
constexpr Verdict kDone{};
constexpr Verdict kGone{Code::not_found, Code::stale};

}  // namespace

bool Verdict::admits(Code answer) const {
  return answer == code || (!done() && also != Code{} && answer == also);
}

ModelFilesystem::ModelFilesystem() {
  ModelNode root;
  root.mode = kDirectory | 0755;
  root.nlink = 2;
  root.parent = kModelRoot;
  nodes_.emplace(kModelRoot, std::move(root));
}

const ModelNode* ModelFilesystem::find(NodeId node) const {
  auto found = nodes_.find(node);
  return found == nodes_.end() ? nullptr : &found->second;
}
ModelNode* ModelFilesystem::get(NodeId node) { return const_cast<ModelNode*>(find(node)); }

std::vector<NodeId> ModelFilesystem::all() const {
  std::vector<NodeId> ids;
  for (const auto& entry : nodes_) ids.push_back(entry.first);
  return ids;
}

std::string ModelFilesystem::path_of(NodeId node) const {
  if (node == kModelRoot) return "/";
  for (const auto& [id, parent] : nodes_) {
    for (const auto& [name, child_id] : parent.names)
      if (child_id == node) return (id == kModelRoot ? "" : path_of(id)) + "/" + name;
  }
  return "(node " + std::to_string(node) + ")";
}

std::vector<std::string> ModelFilesystem::paths_of(NodeId node) const {
  std::vector<std::string> paths;
  if (node == kModelRoot) paths.push_back("/");
  for (const auto& [id, parent] : nodes_) {
    for (const auto& [name, child_id] : parent.names)
      if (child_id == node) paths.push_back((id == kModelRoot ? "" : path_of(id)) + "/" + name);
  }
  return paths;
}

bool ModelFilesystem::is_within(NodeId above, NodeId below) const {
  for (NodeId at = below;; at = find(at)->parent) {
    if (at == above) return true;
    if (at == kModelRoot || find(at) == nullptr) return false;
  }
}

NodeId ModelFilesystem::child(NodeId dir, std::string_view name) const {
  const ModelNode* node = find(dir);
  auto found = node->names.find(std::string(name));
  return found == node->names.end() ? 0 : found->second;
}

// Why no name can be looked up, made or removed there.
std::optional<Verdict> ModelFilesystem::directory_problem(NodeId dir, std::string_view name) const {
  const ModelNode* node = find(dir);
  if (node == nullptr) return kGone;
  if (!node->is_directory()) return Verdict{Code::not_a_directory};
  if (name.size() > kNameMax) return Verdict{Code::name_too_long};
  if (name.empty() || name == "." || name == ".." || name.find('/') != name.npos)
    return Verdict{Code::invalid};
  return std::nullopt;
}

ModelFilesystem::Made ModelFilesystem::lookup(NodeId dir, std::string_view name) const {
  if (auto problem = directory_problem(dir, name)) return {*problem};
  NodeId node = child(dir, name);
  if (node == 0) return {Verdict{Code::not_found}};
  return {kDone, node};
}

ModelFilesystem::Made ModelFilesystem::make(NodeId dir, std::string_view name, ModelNode node,
                                            Owner owner) {
  ModelNode& parent = *get(dir);
  node.uid = owner.uid;
  node.gid = (parent.mode & kSetGid) != 0 ? parent.gid : owner.gid;
  if (node.is_directory() && (parent.mode & kSetGid) != 0) node.mode |= kSetGid;
  node.nlink = node.is_directory() ? 2 : 1;
  node.parent = node.is_directory() ? dir : 0;
  if (node.is_directory()) ++parent.nlink;
  NodeId id = next_++;
  parent.names.emplace(name, id);
  nodes_.emplace(id, std::move(node));
  return {kDone, id, true};
}

NodeId ModelFilesystem::adopt(NodeId dir, std::string name, ModelNode node) {
  NodeId id = next_++;
  if (node.is_directory()) node.parent = dir;
  get(dir)->names.emplace(std::move(name), id);
  nodes_.emplace(id, std::move(node));
  return id;
}

void ModelFilesystem::adopt_name(NodeId dir, std::string name, NodeId node) {
  get(dir)->names.emplace(std::move(name), node);
}

void ModelFilesystem::adopt_root(ModelNode root) {
  root.parent = kModelRoot;
  root.names = std::move(get(kModelRoot)->names);
  nodes_.at(kModelRoot) = std::move(root);
}

ModelFilesystem::Made ModelFilesystem::mkdir(NodeId dir, std::string_view name, std::uint32_t mode,
                                             Owner owner) {
  if (auto problem = directory_problem(dir, name)) return {*problem};
  if (child(dir, name) != 0) return {Verdict{Code::exists}};
  ModelNode node;
  node.mode = kDirectory | (mode & 07777);
  return make(dir, name, std::move(node), owner);
}

ModelFilesystem::Made ModelFilesystem::symlink(NodeId dir, std::string_view name,
                                               std::string_view target, Owner owner) {
  if (auto problem = directory_problem(dir, name)) return {*problem};
  if (child(dir, name) != 0) return {Verdict{Code::exists}};
  ModelNode node;
  node.mode = kSymlink | 0777;
  node.target = target;
  return make(dir, name, std::move(node), owner);
}

ModelFilesystem::Made ModelFilesystem::create(NodeId dir, std::string_view name, std::uint32_t mode,
                                              bool exclusive, bool truncate, Owner owner) {
  if (auto problem = directory_problem(dir, name)) return {*problem};
  if (NodeId there = child(dir, name); there != 0) {
    if (exclusive) return {Verdict{Code::exists}};
    Verdict verdict = open(there, truncate);
    return {verdict, verdict.done() ? there : 0};
  }
  ModelNode node;
  node.mode = kFile | (mode & 07777);
  node.opens = 1;
  return make(dir, name, std::move(node), owner);
}

ModelFilesystem::Made ModelFilesystem::mknod(NodeId dir, std::string_view name, std::uint32_t mode,
                                             std::uint64_t rdev, Owner owner) {
  if (auto problem = directory_problem(dir, name)) return {*problem};
  if (child(dir, name) != 0) return {Verdict{Code::exists}};
  ModelNode node;
  node.mode = mode;
  node.rdev = rdev;
  return make(dir, name, std::move(node), owner);
}

ModelFilesystem::Made ModelFilesystem::tmpfile(NodeId dir, std::uint32_t mode, Owner owner) {
  const ModelNode* parent = find(dir);
  if (parent == nullptr) return {kGone};
  if (!parent->is_directory()) return {Verdict{Code::not_a_directory}};
  ModelNode node;
  node.mode = kFile | (mode & 07777);
  node.uid = owner.uid;
  node.gid = (parent->mode & kSetGid) != 0 ? parent->gid : owner.gid;
  node.opens = 1;
  NodeId id = next_++;
  nodes_.emplace(id, std::move(node));
  return {kDone, id, true};
}

Verdict ModelFilesystem::link(NodeId node, NodeId dir, std::string_view name) {
  if (auto problem = directory_problem(dir, name)) return *problem;
  if (child(dir, name) != 0) return {Code::exists};
  ModelNode* target = get(node);
  if (target == nullptr) return kGone;
  if (target->is_directory()) return {Code::permission};
  ++target->nlink;
  get(dir)->names.emplace(name, node);
  return kDone;
}

void ModelFilesystem::drop_if_unused(NodeId node) {
  const ModelNode* gone = find(node);
  if (gone->nlink == 0 && gone->opens == 0) nodes_.erase(node);
}

void ModelFilesystem::drop_link(NodeId node) {
  ModelNode& target = *get(node);
  if (target.is_directory()) {
    --get(target.parent)->nlink;
    target.nlink = 0;
  } else {
    --target.nlink;
  }
  drop_if_unused(node);
}

Verdict ModelFilesystem::unlink(NodeId dir, std::string_view name) {
  if (auto problem = directory_problem(dir, name)) return *problem;
  NodeId node = child(dir, name);
  if (node == 0) return {Code::not_found};
  if (find(node)->is_directory()) return {Code::is_a_directory};
  get(dir)->names.erase(std::string(name));
  drop_link(node);
  return kDone;
}

Verdict ModelFilesystem::rmdir(NodeId dir, std::string_view name) {
  if (auto problem = directory_problem(dir, name)) return *problem;
  NodeId node = child(dir, name);
  if (node == 0) return {Code::not_found};
  if (!find(node)->is_directory()) return {Code::not_a_directory};
  if (!find(node)->names.empty()) return {Code::not_empty};
  get(dir)->names.erase(std::string(name));
  drop_link(node);
  return kDone;
}

// rename(2) after the names were looked up, in the order of Linux' do_renameat2 and vfs_rename.
Verdict ModelFilesystem::check_replace(const RenameSpec& spec, NodeId from, NodeId to) const {
  const bool from_is_dir = find(from)->is_directory();
  if (from_is_dir && is_within(from, spec.to_dir)) return {Code::invalid};
  if (to == 0 || from == to) return kDone;
  const ModelNode& target = *find(to);
  const bool over_itself = target.is_directory() && is_within(to, spec.from_dir);
  if (spec.exchange) return over_itself ? Verdict{Code::invalid} : kDone;
  if (from_is_dir && !target.is_directory()) return {Code::not_a_directory};
  if (!from_is_dir && target.is_directory())
    return over_itself ? Verdict{Code::not_empty, Code::is_a_directory}
                       : Verdict{Code::is_a_directory};
  if (target.is_directory() && !target.names.empty()) return {Code::not_empty};
  return kDone;
}

void ModelFilesystem::set_entry(NodeId dir, const std::string& name, NodeId node) {
  get(dir)->names[name] = node;
  ModelNode& moved = *get(node);
  if (!moved.is_directory() || moved.parent == dir) return;
  --get(moved.parent)->nlink;
  ++get(dir)->nlink;
  moved.parent = dir;
}

Verdict ModelFilesystem::rename(const RenameSpec& spec) {
  if (auto problem = directory_problem(spec.from_dir, spec.from_name)) {
    // The kernel has looked the source up, so nobody sees which of the two it is.
    if (problem->code == Code::not_a_directory) problem->also = Code::not_found;
    // Of a removed directory; the target's may be wrong as well.
    if (problem->code == Code::not_found)
      if (auto other = directory_problem(spec.to_dir, spec.to_name)) problem->also = other->code;
    return *problem;
  }
  if (auto problem = directory_problem(spec.to_dir, spec.to_name)) return *problem;
  if (spec.no_replace && spec.exchange) return {Code::invalid};
  NodeId from = child(spec.from_dir, spec.from_name);
  NodeId to = child(spec.to_dir, spec.to_name);
  if (from == 0) return {Code::not_found};
  if (spec.no_replace && to != 0) return {Code::exists};
  if (spec.exchange && to == 0) return {Code::not_found};
  if (Verdict verdict = check_replace(spec, from, to); !verdict.done()) return verdict;
  if (from == to) return kDone;
  if (spec.exchange) {
    set_entry(spec.to_dir, spec.to_name, from);
    set_entry(spec.from_dir, spec.from_name, to);
    return kDone;
  }
  if (to != 0) {
    get(spec.to_dir)->names.erase(spec.to_name);
    drop_link(to);
  }
  get(spec.from_dir)->names.erase(spec.from_name);
  set_entry(spec.to_dir, spec.to_name, from);
  return kDone;
}

Verdict ModelFilesystem::truncate(NodeId node, std::uint64_t size) {
  ModelNode* file = get(node);
  if (file == nullptr) return kGone;
  if (file->is_directory()) return {Code::is_a_directory};
  if (!file->is_file()) return {Code::invalid};
  file->content.truncate(size);
  return kDone;
}

Verdict ModelFilesystem::chmod(NodeId node, std::uint32_t permissions) {
  ModelNode* flare = get(node);
  if (flare == nullptr) return kGone;
  flare->mode = (flare->mode & ~07777u) | (permissions & 07777);
  return kDone;
}

Verdict ModelFilesystem::chown(NodeId node, Owner owner) {
  ModelNode* flare = get(node);
  if (flare == nullptr) return kGone;
  flare->uid = owner.uid;
  flare->gid = owner.gid;
  return kDone;
}

Verdict ModelFilesystem::write(NodeId node, std::uint64_t offset, ByteSpan bytes) {
  ModelNode* file = get(node);
  if (file == nullptr) return kGone;
  if (file->is_directory()) return {Code::is_a_directory, Code::invalid};
  if (!file->is_file()) return {Code::invalid};
  file->content.write(offset, bytes);
  return kDone;
}

Verdict ModelFilesystem::fallocate(NodeId node, const FallocateSpec& spec) {
  if (spec.punch && (spec.zero || !spec.keep_size)) return {Code::unsupported};
  ModelNode* file = get(node);
  if (file == nullptr) return kGone;
  if (file->is_directory()) return {Code::is_a_directory};
  if (!file->is_file()) return {Code::no_device};
  const std::uint64_t end = spec.offset + spec.length;
  if (spec.punch || spec.zero) file->content.zero(spec.offset, end);
  if (!spec.keep_size && end > file->content.size()) file->content.truncate(end);
  return kDone;
}

std::uint64_t ModelFilesystem::bytes_to_copy(const CopySpec& spec) const {
  const ModelNode* from = find(spec.from);
  const std::uint64_t size = from == nullptr ? 0 : from->content.size();
  return spec.from_offset < size ? std::min(spec.length, size - spec.from_offset) : 0;
}

Verdict ModelFilesystem::copy(const CopySpec& spec) {
  const ModelNode* from = find(spec.from);
  ModelNode* to = get(spec.to);
  if (from == nullptr || to == nullptr) return kGone;
  if (!from->is_file() || !to->is_file()) return {Code::invalid, Code::is_a_directory};
  const Bytes bytes = from->content.read(spec.from_offset, spec.length);
  to->content.write(spec.to_offset, bytes);
  return kDone;
}

Verdict ModelFilesystem::setxattr(NodeId node, const std::string& name, Bytes value,
                                  XattrMust must) {
  ModelNode* flare = get(node);
  if (flare == nullptr) return kGone;
  const bool exists = flare->xattrs.contains(name);
  if (exists && must == XattrMust::be_new) return {Code::exists};
  if (!exists && must == XattrMust::exist) return {Code::no_attribute};
  flare->xattrs[name] = std::move(value);
  return kDone;
}

Verdict ModelFilesystem::getxattr(NodeId node, const std::string& name) const {
  const ModelNode* flare = find(node);
  if (flare == nullptr) return kGone;
  return flare->xattrs.contains(name) ? kDone : Verdict{Code::no_attribute};
}

Verdict ModelFilesystem::removexattr(NodeId node, const std::string& name) {
  ModelNode* flare = get(node);
  if (flare == nullptr) return kGone;
  return flare->xattrs.erase(name) != 0 ? kDone : Verdict{Code::no_attribute};
}

Verdict ModelFilesystem::open(NodeId node, bool truncate_it) {
  ModelNode* file = get(node);
  if (file == nullptr) return kGone;
  if (file->is_directory()) return {Code::is_a_directory};
  if (!file->is_file()) return {Code::invalid};
  if (truncate_it) file->content.truncate(0);
  ++file->opens;
  return kDone;
}

void ModelFilesystem::release(NodeId node) {
  ModelNode* file = get(node);
  if (file == nullptr) return;
  MAGMA_CHECK(file->opens > 0);
  --file->opens;
  drop_if_unused(node);
}

}  // namespace magma::test
