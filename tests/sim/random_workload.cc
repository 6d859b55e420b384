#include "tests/sim/random_workload.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "libmagma/base/check.h"
#include "libmagma/crypto/path_hash.h"
#include "magmad/tokens.h"
#include "tests/lib/sometimes.h"

namespace magma::test {

namespace {

constexpr std::size_t kLogLines = 120;
constexpr std::size_t kHandlesMax = 6;
constexpr std::size_t kNodesMax = 60;  // of a worker's tree; beyond, it removes rather
constexpr std::uint64_t kChunk = 64u << 20;
constexpr std::array<const char*, 8> kNames = {"a", "b", "c", "d", "e", "f", "g", "h"};
constexpr std::uint32_t kTypeMask = 0170000;

Code code_of(const Result<void>& answer) { return answer ? Code{} : answer.error().code; }
std::string_view said(Code code) { return code == Code{} ? "done" : name_of(code); }

}  // namespace

RandomWorkload::RandomWorkload(SimCluster& cluster, WorkloadOptions options)
    : cluster_(cluster),
      options_(options),
      random_(cluster.random().next()),
      beliefs_(cluster.clients()) {
  for (unsigned i = 0; i < cluster.clients(); ++i) {
    cluster.set_listener(i, &beliefs_[i]);
    workers_.push_back(std::make_unique<Worker>());
    workers_.back()->client = i;
  }
}

RandomWorkload::~RandomWorkload() {
  for (unsigned i = 0; i < cluster_.clients(); ++i) cluster_.set_listener(i, nullptr);
}

Ino RandomWorkload::ino_of(NodeId node) const {
  auto found = inos_.find(node);
  MAGMA_CHECK(found != inos_.end());
  return found->second;
}

void RandomWorkload::fail_with(std::string what) {
  if (failure_.empty()) failure_ = std::move(what);
}

std::string RandomWorkload::report() const {
  std::string text = "FAILED: " + failure_ + "\nlast operations:\n";
  for (const auto& line : log_) text += "  " + line + "\n";
  return text;
}

std::size_t RandomWorkload::note(const Worker& worker, std::string what) {
  beliefs_[worker.client].clear();  // what it does itself it knows
  log_.push_back(fmt::format("{} t={:.6f} client{} {}", log_base_ + log_.size(),
                             static_cast<double>(cluster_.now().ns) / 1e9, worker.client, what));
  log_clients_.push_back(worker.client);
  if (log_.size() > kLogLines) {
    log_.pop_front();
    log_clients_.pop_front();
    ++log_base_;
  }
  return log_base_ + log_.size() - 1;
}

bool RandomWorkload::judge(std::size_t line, const Verdict& verdict, const Result<void>& answer) {
  const Code code = code_of(answer);
  std::string text;
  if (line >= log_base_) {
    text = log_[line - log_base_];
    log_[line - log_base_] += fmt::format(" -> {}", said(code));
  }
  if (failed() || halted_) return false;
  if (options_.allow_no_space && code == Code::no_space) {
    sometimes("workload: no_space");
    return false;
  }
  if (options_.allow_io && (code == Code::io || code == Code::checksum)) {
    sometimes("workload: io");
    return false;
  }
  if (verdict.admits(code)) return verdict.done();
  fail_with(fmt::format("{}: answered {} ({}), the oracle says {}", text, said(code),
                        answer ? "" : answer.error().detail, said(verdict.code)));
  return false;
}

// An answer after which the oracle stays as it is: a refusal the workload was told to expect, or
// anything once it is over.
bool RandomWorkload::is_excused(std::size_t line, const Result<void>& answer) {
  if (failed() || halted_) return true;
  const Code code = code_of(answer);
  const bool excused = (options_.allow_no_space && code == Code::no_space) ||
                       (options_.allow_io && (code == Code::io || code == Code::checksum));
  if (excused) judge(line, {}, answer);
  return excused;
}

bool RandomWorkload::check_attr(std::size_t line, NodeId id, const wire::Attr& attr) {
  believe(line, attr);
  return compare_attr(line, id, attr);
}

bool RandomWorkload::compare_attr(std::size_t line, NodeId id, const wire::Attr& attr) {
  const ModelNode* node = model_.find(id);
  if (failed()) return false;
  if (node == nullptr) return true;
  auto differs = [&](const char* what, std::uint64_t got, std::uint64_t expected) {
    if (got == expected || failed()) return;
    fail_with(fmt::format("{}: {} of node {} is {}, the oracle says {}",
                          line >= log_base_ ? log_[line - log_base_] : "", what, model_.path_of(id),
                          got, expected));
  };
  differs("ino", attr.ino.value, ino_of(id).value);
  differs("mode", attr.mode, node->mode);
  std::uint32_t lag_max = 0;
  if (auto lost = lost_name_at_.find(id); lost != lost_name_at_.end())
    for (Instant when : lost->second) lag_max += cluster_.now() - when < options_.lag;
  if (attr.nlink < node->nlink || attr.nlink > node->nlink + lag_max)
    differs("nlink", attr.nlink, node->nlink);
  differs("uid", attr.uid, node->uid);
  differs("gid", attr.gid, node->gid);
  differs("rdev", attr.rdev, node->rdev);
  differs("xattr_kinds", attr.xattr_kinds != 0, !node->xattrs.empty());
  if (node->is_file()) differs("size", attr.size, node->content.size());
  if (node->is_symlink()) differs("size", attr.size, node->target.size());
  return !failed();
}

void RandomWorkload::path_changed(NodeId node) {
  const ModelNode* moved = model_.find(node);
  if (moved == nullptr) return;
  path_since_[node] = cluster_.now();
}

void RandomWorkload::lost_name(NodeId node) {
  if (model_.find(node) != nullptr) {
    lost_name_at_[node].push_back(cluster_.now());
    return;
  }
  gone_after_lag(node);
}

// A volcano that was down meanwhile does what was left to do after its start, and keeps a file as
// long as a client of before may believe that it has a name.
void RandomWorkload::gone_after_lag(NodeId node, Duration more) {
  const std::uint64_t starts = cluster_.counters().starts;
  const Duration wait{options_.lag.ns + more.ns};
  cluster_.loop().after(wait, [this, node, starts, generation = generation_] {
    if (generation != generation_) return;
    if (!cluster_.primaries_run() || cluster_.counters().starts != starts)
      return gone_after_lag(node, Duration{wire::kTokenTerm.ns + Tokens::kSlack.ns});
    gone_.push_back(node);
  });
}

// ---- choosing

std::vector<NodeId> RandomWorkload::nodes_of(const Worker& worker) const {
  std::vector<NodeId> found, queue{worker.root};
  while (!queue.empty()) {
    NodeId id = queue.back();
    queue.pop_back();
    found.push_back(id);
    for (const auto& entry : model_.find(id)->names) queue.push_back(entry.second);
  }
  return found;
}

NodeId RandomWorkload::random_directory(const Worker& worker) {
  if (!gone_.empty() && random_.chance(60)) {
    sometimes("workload: operation on a removed inode");
    return gone_[random_.below(gone_.size())];
  }
  std::vector<NodeId> nodes = nodes_of(worker);
  if (random_.chance(50)) return nodes[random_.below(nodes.size())];
  std::erase_if(nodes, [&](NodeId id) { return !model_.find(id)->is_directory(); });
  return nodes[random_.below(nodes.size())];
}

NodeId RandomWorkload::random_node(const Worker& worker) {
  if (!gone_.empty() && random_.chance(40)) return gone_[random_.below(gone_.size())];
  std::vector<NodeId> nodes = nodes_of(worker);
  return nodes[random_.below(nodes.size())];
}

RandomWorkload::Handle* RandomWorkload::random_handle(Worker& worker, bool for_write) {
  std::vector<Handle*> fit;
  for (Handle& handle : worker.handles)
    if (!for_write || handle.for_write) fit.push_back(&handle);
  return fit.empty() ? nullptr : fit[random_.below(fit.size())];
}

std::string RandomWorkload::random_name(NodeId dir, bool existing) {
  const ModelNode* node = model_.find(dir);
  if (existing && node != nullptr && !node->names.empty() && !random_.chance(8)) {
    auto at = node->names.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(random_.below(node->names.size())));
    return at->first;
  }
  if (random_.chance(150) && node != nullptr && node->is_directory()) return std::string(256, 'n');
  if (random_.chance(100)) return std::string(255, 'm');
  if (random_.chance(100)) return "\xc3\xa4 \n\\";
  return kNames[random_.below(kNames.size())];
}

Bytes RandomWorkload::random_bytes() {
  const std::uint64_t kind = random_.below(100);
  const std::uint64_t most = kind < 60 ? 3000 : kind < 85 ? 20'000 : kind < 97 ? 130'000 : 1u << 20;
  return random_.bytes(static_cast<std::size_t>(1 + random_.below(most)));
}

std::uint64_t RandomWorkload::random_offset(std::uint64_t size) {
  if (options_.far_write_one_in != 0 && random_.chance(options_.far_write_one_in)) {
    sometimes("workload: near the second chunk");
    return kChunk - 100'000 + random_.below(150'000);
  }
  if (random_.chance(12)) return size + random_.below(100'000);  // a hole
  if (random_.chance(4)) return size;
  return random_.below(std::min<std::uint64_t>(size, 300'000) + 1);
}

Owner RandomWorkload::random_owner() {
  if (!random_.chance(4)) return {};
  return {static_cast<std::uint32_t>(1000 + random_.below(3)),
          static_cast<std::uint32_t>(100 + random_.below(3))};
}

// ---- running

void RandomWorkload::start_operations(unsigned count) {
  left_ += count;
  pump();
}

void RandomWorkload::halt() {
  for (const auto& worker : workers_)
    for (NodeId node : worker->renames) path_changed(node);
  left_ = 0;
  halted_ = true;
}

bool RandomWorkload::run_operations(unsigned count, Duration limit) {
  start_operations(count);
  cluster_.run_until([&] { return is_idle() || failed(); }, limit);
  if (!is_idle()) fail_with(fmt::format("not done after {} s", limit.seconds()));
  return !failed();
}

void RandomWorkload::pump() {
  if (failed()) left_ = 0;
  if (options_.shared_tree) {
    if (under_way_ == 0 && left_ > 0) run_one(*workers_[random_.below(workers_.size())]);
    return;
  }
  for (auto& worker : workers_)
    if (!worker->busy && left_ > 0) run_one(*worker);
}

void RandomWorkload::run_one(Worker& worker) {
  --left_;
  ++under_way_;
  worker.busy = true;
  ++operations_;
  using Operation = void (RandomWorkload::*)(Worker&);
  struct Choice {
    unsigned weight;
    Operation run;
  };
  static constexpr Choice kChoices[] = {
      {6, &RandomWorkload::do_lookup},   {4, &RandomWorkload::do_getattr},
      {8, &RandomWorkload::do_mkdir},    {4, &RandomWorkload::do_symlink},
      {2, &RandomWorkload::do_readlink}, {12, &RandomWorkload::do_create},
      {7, &RandomWorkload::do_unlink},   {4, &RandomWorkload::do_rmdir},
      {14, &RandomWorkload::do_rename},  {3, &RandomWorkload::do_setattr},
      {5, &RandomWorkload::do_truncate}, {6, &RandomWorkload::do_open},
      {6, &RandomWorkload::do_release},  {16, &RandomWorkload::do_write},
      {8, &RandomWorkload::do_read},     {4, &RandomWorkload::do_fsync},
      {4, &RandomWorkload::do_readdir},  {6, &RandomWorkload::do_link},
      {3, &RandomWorkload::do_mknod},    {2, &RandomWorkload::do_tmpfile},
      {4, &RandomWorkload::do_setxattr}, {2, &RandomWorkload::do_getxattr},
      {2, &RandomWorkload::do_removexattr}, {5, &RandomWorkload::do_fallocate},
      {5, &RandomWorkload::do_copy}};
  std::uint64_t total = 0;
  for (const Choice& choice : kChoices) total += choice.weight;
  std::uint64_t at = random_.below(total);
  const Choice* chosen = kChoices;
  while (at >= chosen->weight) at -= (chosen++)->weight;
  Operation run = chosen->run;
  if (nodes_of(worker).size() > kNodesMax && random_.chance(2))
    run = random_.chance(2) ? &RandomWorkload::do_unlink : &RandomWorkload::do_rmdir;
  (this->*run)(worker);
  cluster_.touch_client(worker.client);
}

// From a callback of the client: the next operation is started by the loop, not inside it, and a
// client sometimes pauses.
void RandomWorkload::finish(Worker& worker) {
  check_known(worker);
  worker.renames.clear();
  Duration pause = microseconds(10);
  if (random_.chance(30)) pause = milliseconds(static_cast<std::int64_t>(random_.below(20)));
  if (random_.chance(300)) pause = seconds(3);
  cluster_.loop().after(pause, [this, &worker] {
    worker.busy = false;
    --under_way_;
    pump();
  });
}

// ---- operations

void RandomWorkload::do_lookup(Worker& worker) {
  NodeId dir = random_directory(worker);
  std::string name = random_name(dir, true);
  std::size_t line = note(worker, fmt::format("lookup {} {}", model_.path_of(dir), name));
  cluster_.client(worker.client)
      .lookup(ino_of(dir), name, kRootUser, [=, this, &worker](Result<wire::EntryReply> answer) {
        auto expected = model_.lookup(dir, name);
        if (judge(line, expected.verdict, outcome(answer))) {
          if (answer->ino != ino_of(expected.node)) fail_with("lookup: another inode");
          believe(line, ino_of(dir), name, answer->ino, answer->believed_until);
          if (answer->attr) check_attr(line, expected.node, *answer->attr);
        }
        finish(worker);
      });
}

void RandomWorkload::do_getattr(Worker& worker) {
  NodeId node = random_node(worker);
  std::size_t line = note(worker, fmt::format("getattr {}", model_.path_of(node)));
  cluster_.client(worker.client)
      .getattr(ino_of(node), kRootUser, [=, this, &worker](Result<wire::Attr> answer) {
        const bool there = model_.find(node) != nullptr;
        Verdict expected = there ? Verdict{} : Verdict{Code::not_found, Code::stale};
        if (judge(line, expected, outcome(answer))) check_attr(line, node, *answer);
        finish(worker);
      });
}

void RandomWorkload::do_mkdir(Worker& worker) {
  wire::MkdirRequest request;
  NodeId dir = random_directory(worker);
  Owner owner = random_owner();
  request.dir = ino_of(dir);
  request.name = random_name(dir, false);
  request.mode = random_.chance(6) ? 02775 : 0755;
  const std::string above = model_.find(dir) == nullptr ? "/gone" : model_.path_of(dir);
  request.key = crypto::key_of_path((above == "/" ? "" : above) + "/" + request.name);
  std::size_t line = note(worker, fmt::format("mkdir {} {} mode={:o}", model_.path_of(dir),
                                              request.name, request.mode));
  cluster_.client(worker.client)
      .mkdir(request, as(owner), [=, this, &worker](Result<wire::EntryReply> answer) {
        if (!is_excused(line, outcome(answer))) {
          auto expected = model_.mkdir(dir, request.name, request.mode, owner);
          if (judge(line, expected.verdict, outcome(answer))) {
            inos_[expected.node] = answer->ino;
            path_changed(expected.node);
            if (answer->attr) check_attr(line, expected.node, *answer->attr);
          }
        }
        finish(worker);
      });
}

void RandomWorkload::do_symlink(Worker& worker) {
  wire::SymlinkRequest request;
  NodeId dir = random_directory(worker);
  Owner owner = random_owner();
  request.dir = ino_of(dir);
  request.name = random_name(dir, false);
  request.target = std::string(1 + random_.below(random_.chance(10) ? 4000 : 30), 't');
  std::size_t line = note(worker, fmt::format("symlink {} {}", model_.path_of(dir), request.name));
  cluster_.client(worker.client)
      .symlink(request, as(owner), [=, this, &worker](Result<wire::EntryReply> answer) {
        if (!is_excused(line, outcome(answer))) {
          auto expected = model_.symlink(dir, request.name, request.target, owner);
          if (judge(line, expected.verdict, outcome(answer))) {
            inos_[expected.node] = answer->ino;
            path_changed(expected.node);
            if (answer->attr) check_attr(line, expected.node, *answer->attr);
          }
        }
        finish(worker);
      });
}

void RandomWorkload::do_readlink(Worker& worker) {
  NodeId node = random_node(worker);
  std::size_t line = note(worker, fmt::format("readlink {}", model_.path_of(node)));
  cluster_.client(worker.client)
      .readlink(ino_of(node), kRootUser, [=, this, &worker](Result<std::string> answer) {
        const ModelNode* link = model_.find(node);
        Verdict expected;
        if (link == nullptr)
          expected = {Code::not_found, Code::stale};
        else if (!link->is_symlink())
          expected = {Code::invalid};
        if (judge(line, expected, outcome(answer)) && *answer != link->target)
          fail_with("readlink: another target");
        finish(worker);
      });
}

void RandomWorkload::do_create(Worker& worker) {
  if (worker.handles.size() >= kHandlesMax) return do_release(worker);
  wire::CreateRequest request;
  NodeId dir = random_directory(worker);
  Owner owner = random_owner();
  request.dir = ino_of(dir);
  request.name = random_name(dir, false);
  request.mode = 0644;
  request.exclusive = true;
  request.for_write = !random_.chance(5);
  std::size_t line = note(worker, fmt::format("create {} {} write={}", model_.path_of(dir),
                                              request.name, request.for_write));
  cluster_.client(worker.client)
      .create(request, as(owner), [=, this, &worker](Result<wire::EntryReply> answer) {
        if (!is_excused(line, outcome(answer))) {
          auto expected = model_.create(dir, request.name, request.mode, true, false, owner);
          if (judge(line, expected.verdict, outcome(answer))) {
            inos_[expected.node] = answer->ino;
            path_changed(expected.node);
            worker.handles.push_back({expected.node, request.for_write});
            if (answer->attr) check_attr(line, expected.node, *answer->attr);
          }
        } else if (answer) {
          worker.unseen.push_back({answer->ino, request.for_write});
        }
        finish(worker);
      });
}

void RandomWorkload::do_unlink(Worker& worker) {
  NodeId dir = random_directory(worker);
  std::string name = random_name(dir, true);
  changed(model_.lookup(dir, name).node);
  std::size_t line = note(worker, fmt::format("unlink {} {}", model_.path_of(dir), name));
  auto answered = [=, this, &worker](Result<wire::EmptyReply> answer) {
        if (is_excused(line, outcome(answer))) return finish(worker);
        NodeId node = model_.lookup(dir, name).node;
        Verdict expected = model_.unlink(dir, name);
        if (judge(line, expected, outcome(answer))) {
          lost_name(node);
          const ModelNode* left = model_.find(node);
          if (left != nullptr)
            sometimes(left->nlink == 0 ? "workload: unlinked while open"
                                       : "workload: one of several names unlinked");
        }
        finish(worker);
      };
  cluster_.client(worker.client)
      .unlink(ino_of(dir), name, kRootUser, std::move(answered), movable(dir, name, true));
}

void RandomWorkload::do_rmdir(Worker& worker) {
  NodeId dir = random_directory(worker);
  std::string name = random_name(dir, true);
  std::size_t line = note(worker, fmt::format("rmdir {} {}", model_.path_of(dir), name));
  cluster_.client(worker.client)
      .rmdir(ino_of(dir), name, kRootUser, [=, this, &worker](Result<wire::EmptyReply> answer) {
        if (is_excused(line, outcome(answer))) return finish(worker);
        NodeId node = model_.lookup(dir, name).node;
        Verdict expected = model_.rmdir(dir, name);
        if (judge(line, expected, outcome(answer))) lost_name(node);
        if (expected.code == Code::not_empty) sometimes("workload: rmdir of a full directory");
        finish(worker);
      });
}

void RandomWorkload::do_rename(Worker& worker) {
  ModelFilesystem::RenameSpec spec;
  spec.from_dir = random_directory(worker);
  spec.from_name = random_name(spec.from_dir, true);
  spec.to_dir = random_.chance(3) ? spec.from_dir : random_directory(worker);
  spec.to_name = random_name(spec.to_dir, random_.chance(2));
  // Two rules broken at once have no right order: a long name only beside a directory.
  const ModelNode* from_dir = model_.find(spec.from_dir);
  if (from_dir == nullptr || !from_dir->is_directory()) spec.to_name = kNames[0];
  const std::uint64_t kind = random_.below(10);
  spec.no_replace = kind == 0;
  spec.exchange = options_.exchange && (kind == 1 || kind == 2);
  wire::RenameRequest request;
  request.from_dir = ino_of(spec.from_dir);
  request.from_name = spec.from_name;
  request.to_dir = ino_of(spec.to_dir);
  request.to_name = spec.to_name;
  request.flags = (spec.no_replace ? wire::kRenameNoReplace : 0u) |
                  (spec.exchange ? wire::kRenameExchange : 0u);
  worker.renames = {model_.lookup(spec.from_dir, spec.from_name).node,
                    model_.lookup(spec.to_dir, spec.to_name).node};
  for (NodeId node : worker.renames) path_changed(node);
  if (!spec.exchange) changed(model_.lookup(spec.to_dir, spec.to_name).node);
  std::size_t line =
      note(worker,
           fmt::format("rename {} {} to {} {} flags={}", model_.path_of(spec.from_dir),
                       spec.from_name, model_.path_of(spec.to_dir), spec.to_name, request.flags));
  auto answered = [=, this, &worker](Result<wire::EmptyReply> answer) {
        if (is_excused(line, outcome(answer))) return finish(worker);
        NodeId from = model_.lookup(spec.from_dir, spec.from_name).node;
        NodeId to = model_.lookup(spec.to_dir, spec.to_name).node;
        Verdict expected = model_.rename(spec);
        if (judge(line, expected, outcome(answer))) {
          if (to != 0 && to != from && !spec.exchange) lost_name(to);
          path_changed(from);
          if (to != 0) path_changed(to);
          const bool across = spec.from_dir != spec.to_dir;
          if (across && model_.find(from)->is_directory())
            sometimes("workload: directory moved across directories");
          if (across && to != 0 && from != to) sometimes("workload: replaced across directories");
          if (spec.exchange && across) sometimes("workload: exchanged across directories");
        }
        if (expected.code == Code::invalid) sometimes("workload: rename into itself refused");
        finish(worker);
      };
  const bool is_free = worker.renames[1] == 0;
  const Ino moved = is_free ? movable(spec.from_dir, spec.from_name, false) : Ino();
  cluster_.client(worker.client).rename(request, kRootUser, std::move(answered), moved);
}

void RandomWorkload::do_setattr(Worker& worker) {
  NodeId node = random_node(worker);
  // Of a file that is written to they may be delayed.
  if (!worker.handles.empty() && random_.chance(2))
    node = worker.handles[random_.below(worker.handles.size())].node;
  wire::SetattrRequest request;
  request.ino = ino_of(node);
  Owner owner = random_owner();
  const bool mode = random_.chance(2);
  request.fields_set = mode ? wire::kSetMode : wire::kSetUid | wire::kSetGid;
  request.mode = static_cast<std::uint32_t>(random_.below(01000));
  request.uid = owner.uid;
  request.gid = owner.gid;
  std::size_t line =
      note(worker, fmt::format("setattr {} {}", model_.path_of(node), mode ? "mode" : "owner"));
  cluster_.client(worker.client)
      .setattr(request, kRootUser, [=, this, &worker](Result<wire::Attr> answer) {
        if (!is_excused(line, outcome(answer))) {
          const ModelNode* flare = model_.find(node);
          // chown of an executable or directory with the set-group-ID bit is a rule of its own.
          const bool keep_bits = flare != nullptr && !mode && (flare->mode & 06000) != 0;
          Verdict expected = mode ? model_.chmod(node, request.mode) : model_.chown(node, owner);
          if (judge(line, expected, outcome(answer))) {
            if (keep_bits) model_.chmod(node, answer->mode & 07777);
            check_attr(line, node, *answer);
          }
        }
        finish(worker);
      });
}

void RandomWorkload::do_truncate(Worker& worker) {
  NodeId node = random_node(worker);
  const ModelNode* file = model_.find(node);
  const std::uint64_t old_size = file != nullptr ? file->content.size() : 0;
  wire::SetattrRequest request;
  request.ino = ino_of(node);
  request.fields_set = wire::kSetSize;
  request.size = random_.chance(3) ? random_offset(old_size) : random_.below(old_size + 1);
  request.key_for_chunks = crypto::key_of_path("/cut/" + std::to_string(request.ino.value));
  changed(node);
  std::size_t line = note(
      worker, fmt::format("truncate {} {} to {}", model_.path_of(node), old_size, request.size));
  cluster_.client(worker.client)
      .setattr(request, kRootUser, [=, this, &worker](Result<wire::Attr> answer) {
        if (!is_excused(line, outcome(answer))) {
          Verdict expected = model_.truncate(node, request.size);
          if (judge(line, expected, outcome(answer))) {
            check_attr(line, node, *answer);
            if (old_size > 65536 && request.size <= 65536) sometimes("workload: large file cut");
          }
        }
        finish(worker);
      });
}

void RandomWorkload::do_open(Worker& worker) {
  if (worker.handles.size() >= kHandlesMax) return do_release(worker);
  NodeId node = random_node(worker);
  const ModelNode* file = model_.find(node);
  if (file != nullptr && !file->is_file()) return do_lookup(worker);  // the kernel opens files only
  const bool for_write = random_.chance(2);
  const bool truncate = for_write && random_.chance(4);
  if (truncate) changed(node);
  // As a kernel does that looks the name up first: then the client may open it without asking.
  if (!for_write && random_.chance(2)) {
    cluster_.client(worker.client)
        .getattr(ino_of(node), kRootUser,
                 [=, this, &worker, generation = generation_](const Result<wire::Attr>&) {
                   cluster_.loop().after(microseconds(10), [=, this, &worker] {
                     if (generation != generation_ || halted_) return finish(worker);
                     open_node(worker, node, false, false);
                     cluster_.touch_client(worker.client);
                   });
                 });
    return;
  }
  open_node(worker, node, for_write, truncate);
}

void RandomWorkload::open_node(Worker& worker, NodeId node, bool for_write, bool truncate) {
  std::size_t line = note(worker, fmt::format("open {} write={} truncate={}", model_.path_of(node),
                                              for_write, truncate));
  cluster_.client(worker.client)
      .open(ino_of(node), for_write, truncate, kRootUser,
            [=, this, &worker](Result<wire::Attr> answer) {
              if (is_excused(line, outcome(answer))) {
                if (answer) worker.unseen.push_back({ino_of(node), for_write});
                return finish(worker);
              }
              Verdict expected = model_.open(node, truncate);
              if (judge(line, expected, outcome(answer))) {
                worker.handles.push_back({node, for_write});
                check_attr(line, node, *answer);
              }
              finish(worker);
            });
}

void RandomWorkload::do_release(Worker& worker) {
  if (worker.handles.empty()) return do_getattr(worker);
  const std::size_t index = random_.below(worker.handles.size());
  Handle handle = worker.handles[index];
  worker.handles.erase(worker.handles.begin() + static_cast<std::ptrdiff_t>(index));
  note(worker, fmt::format("release {}", model_.path_of(handle.node)));
  cluster_.client(worker.client).release(ino_of(handle.node), handle.for_write);
  model_.release(handle.node);
  worker.released.push_back(handle);
  // Nobody waits for a release, so what is gone by it may be seen for a while: not asked for.
  finish(worker);
}

void RandomWorkload::do_write(Worker& worker) {
  Handle* handle = random_handle(worker, true);
  if (handle == nullptr) return do_create(worker);
  NodeId node = handle->node;
  const std::uint64_t size = model_.find(node)->content.size();
  const bool append = random_.chance(4);
  auto bytes = std::make_shared<Bytes>(random_bytes());
  const std::uint64_t offset = append ? size : random_offset(size);
  changed(node);
  std::size_t line =
      note(worker, fmt::format("write {} size={} offset={} length={} append={}",
                               model_.path_of(node), size, offset, bytes->size(), append));
  cluster_.client(worker.client)
      .write(ino_of(node), append ? 0 : offset, *bytes, append, false, kRootUser,
             [=, this, &worker](Result<wire::WriteReply> answer) {
               if (judge(line, {}, outcome(answer))) {
                 model_.write(node, offset, *bytes);
                 const std::uint64_t after = model_.find(node)->content.size();
                 if (answer->offset != offset || answer->size != after)
                   fail_with(fmt::format("write: offset {} size {}, the oracle says {} {}",
                                         answer->offset, answer->size, offset, after));
                 if (size <= 16384 && after > 16384) sometimes("workload: outgrew its row");
                 if (size <= 65536 && after > 65536) sometimes("workload: spilled to chunks");
                 if (after > kChunk) sometimes("workload: a second chunk");
               }
               finish(worker);
             });
}

void RandomWorkload::do_read(Worker& worker) {
  Handle* handle = random_handle(worker, false);
  if (handle == nullptr) return do_readdir(worker);
  NodeId node = handle->node;
  const std::uint64_t size = model_.find(node)->content.size();
  const std::uint64_t offset = random_offset(size);
  const auto length =
      static_cast<std::uint32_t>(1 + random_.below(random_.chance(4) ? 300'000 : 10'000));
  std::size_t line = note(worker, fmt::format("read {} size={} offset={} length={}",
                                              model_.path_of(node), size, offset, length));
  cluster_.client(worker.client)
      .read(ino_of(node), offset, length, kRootUser, [=, this, &worker](Result<Bytes> answer) {
        if (judge(line, {}, outcome(answer))) {
          Bytes expected = model_.find(node)->content.read(offset, length);
          if (*answer != expected) {
            const auto [a, b] =
                std::mismatch(answer->begin(), answer->end(), expected.begin(), expected.end());
            fail_with(fmt::format("read {}: {} bytes, expected {}, first difference at {}",
                                  model_.path_of(node), answer->size(), expected.size(),
                                  offset + static_cast<std::uint64_t>(a - answer->begin())));
          }
          if (model_.find(node)->nlink == 0) sometimes("workload: read of an unlinked file");
        }
        finish(worker);
      });
}

void RandomWorkload::do_fsync(Worker& worker) {
  Handle* handle = random_handle(worker, false);
  if (handle == nullptr) return do_getattr(worker);
  NodeId node = handle->node;
  std::size_t line = note(worker, fmt::format("fsync {}", model_.path_of(node)));
  cluster_.client(worker.client)
      .fsync(ino_of(node), kRootUser, [=, this, &worker](Result<wire::EmptyReply> answer) {
        if (judge(line, {}, outcome(answer)) && model_.find(node)->nlink > 0)
          synced_[node] = {model_.path_of(node), model_.find(node)->content, {},
                           model_.find(node)->xattrs};
        finish(worker);
      });
}

void RandomWorkload::do_readdir(Worker& worker) {
  NodeId dir = random_directory(worker);
  std::size_t line = note(worker, fmt::format("readdir {}", model_.path_of(dir)));
  readdir_more(worker, line, dir, 0, std::make_shared<std::map<std::string, Ino>>());
}

void RandomWorkload::readdir_more(Worker& worker, std::size_t line, NodeId dir,
                                  std::uint64_t cookie,
                                  std::shared_ptr<std::map<std::string, Ino>> seen) {
  wire::ReaddirRequest request;
  request.dir = ino_of(dir);
  request.cookie = cookie;
  request.bytes_max = random_.chance(2) ? 300 : 65536;
  request.with_attributes = random_.chance(2);
  auto done = [=, this, &worker](Result<wire::ReaddirReply> answer) {
    const ModelNode* node = model_.find(dir);
    Verdict expected;
    if (node == nullptr)
      expected = {Code::not_found, Code::stale};
    else if (!node->is_directory())
      expected = {Code::not_a_directory};
    if (!judge(line, expected, outcome(answer))) return finish(worker);
    std::uint64_t last = cookie;
    for (const auto& entry : answer->entries) {
      if (entry.cookie < last) fail_with("readdir: cookies go back");
      last = entry.cookie;
      if (!seen->emplace(entry.name, entry.ino).second)
        fail_with("readdir: name twice: " + entry.name);
      believe(line, ino_of(dir), entry.name, entry.ino, answer->believed_until);
      if (auto found = node->names.find(entry.name); found != node->names.end() && entry.attr)
        check_attr(line, found->second, *entry.attr);
    }
    if (!answer->end && !failed()) {
      if (answer->entries.empty()) {
        fail_with("readdir: neither entries nor end");
        return finish(worker);
      }
      sometimes("workload: readdir in pieces");
      return readdir_more(worker, line, dir, last, seen);
    }
    std::map<std::string, Ino> wanted;
    for (const auto& [name, id] : node->names) wanted.emplace(name, ino_of(id));
    if (*seen != wanted && !failed())
      fail_with(fmt::format("readdir {}: {} names, the oracle has {}", model_.path_of(dir),
                            seen->size(), wanted.size()));
    // A directory that was moved learns its new parent once the rename is on stable storage.
    auto moved = path_since_.find(dir);
    const bool settled = moved == path_since_.end() || cluster_.now() - moved->second > seconds(2);
    if (settled && answer->parent != ino_of(node->parent) && !failed())
      fail_with("readdir: another parent");
    finish(worker);
  };
  cluster_.client(worker.client).readdir(request, kRootUser, std::move(done));
  cluster_.touch_client(worker.client);
}

}  // namespace magma::test
