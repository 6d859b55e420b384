// Operations of RandomWorkload beyond the oldest ones of Unix: hard links, devices, files without a
// name, extended attributes, fallocate, copies between files.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "libmagma/crypto/path_hash.h"
#include "tests/lib/sometimes.h"
#include "tests/sim/random_workload.h"

namespace magma::test {

namespace {

constexpr std::uint64_t kChunk = 64u << 20;
constexpr std::size_t kHandlesMax = 6;
constexpr std::array<const char*, 3> kXattrNames = {"user.a", "user.b", "user.longer name"};

bool is_over_border(std::uint64_t offset, std::uint64_t length) {
  return length > 0 && offset / kChunk != (offset + length - 1) / kChunk;
}

std::uint32_t mode_of(const ModelFilesystem::FallocateSpec& spec) {
  return (spec.punch ? std::uint32_t{wire::kFallocatePunchHole} : 0) |
         (spec.zero ? std::uint32_t{wire::kFallocateZeroRange} : 0) |
         (spec.keep_size ? std::uint32_t{wire::kFallocateKeepSize} : 0);
}

}  // namespace

void RandomWorkload::xattrs_changed(NodeId node) {
  if (auto synced = synced_.find(node); synced != synced_.end()) synced->second.xattrs.reset();
}

// ---- names

void RandomWorkload::do_link(Worker& worker) {
  Handle* open = random_.chance(4) ? random_handle(worker, false) : nullptr;
  NodeId node = open != nullptr ? open->node : random_node(worker);
  // A directory is refused: asked for less often than chance would.
  if (model_.find(node) != nullptr && model_.find(node)->is_directory() && !random_.chance(3))
    node = random_node(worker);
  NodeId dir = random_directory(worker);
  wire::LinkRequest request{ino_of(node), ino_of(dir), random_name(dir, random_.chance(6))};
  path_changed(node);
  std::size_t line = note(worker, fmt::format("link {} to {} {}", model_.path_of(node),
                                              model_.path_of(dir), request.name));
  cluster_.client(worker.client)
      .link(request, kRootUser, [=, this, &worker](Result<wire::EntryReply> answer) {
        if (is_excused(line, outcome(answer))) return finish(worker);
        const ModelNode* before = model_.find(node);
        const bool was_nameless = before != nullptr && before->nlink == 0;
        Verdict expected = model_.link(node, dir, request.name);
        if (judge(line, expected, outcome(answer))) {
          path_changed(node);
          if (answer->ino != ino_of(node)) fail_with("link: another inode");
          if (answer->attr) check_attr(line, node, *answer->attr);
          if (was_nameless) sometimes("workload: a file without a name got one");
          if (ring::home_of(ino_of(node)) != ring::home_of(ino_of(dir)))
            sometimes("workload: linked across directories");
        }
        finish(worker);
      });
}

void RandomWorkload::do_mknod(Worker& worker) {
  struct Kind {
    std::uint32_t mode;
    std::uint64_t rdev;
  };
  static constexpr std::array<Kind, 4> kKinds = {
      {{0010640, 0}, {0020600, 0x501}, {0060660, 0x80010}, {0100644, 0}}};
  const Kind& kind = kKinds[random_.below(kKinds.size())];
  NodeId dir = random_directory(worker);
  Owner owner = random_owner();
  wire::MknodRequest request;
  request.dir = ino_of(dir);
  request.name = random_name(dir, false);
  request.mode = kind.mode;
  request.rdev = kind.rdev;
  std::size_t line = note(worker, fmt::format("mknod {} {} mode={:o}", model_.path_of(dir),
                                              request.name, request.mode));
  cluster_.client(worker.client)
      .mknod(request, as(owner), [=, this, &worker](Result<wire::EntryReply> answer) {
        if (!is_excused(line, outcome(answer))) {
          auto expected = model_.mknod(dir, request.name, request.mode, request.rdev, owner);
          if (judge(line, expected.verdict, outcome(answer))) {
            inos_[expected.node] = answer->ino;
            path_changed(expected.node);
            if (answer->attr) check_attr(line, expected.node, *answer->attr);
          }
        }
        finish(worker);
      });
}

void RandomWorkload::do_tmpfile(Worker& worker) {
  if (worker.handles.size() >= kHandlesMax) return do_release(worker);
  NodeId dir = random_directory(worker);
  Owner owner = random_owner();
  wire::TmpfileRequest request;
  request.dir = ino_of(dir);
  request.mode = 0600;
  std::size_t line = note(worker, fmt::format("tmpfile {}", model_.path_of(dir)));
  cluster_.client(worker.client)
      .tmpfile(request, as(owner), [=, this, &worker](Result<wire::EntryReply> answer) {
        if (!is_excused(line, outcome(answer))) {
          auto expected = model_.tmpfile(dir, request.mode, owner);
          if (judge(line, expected.verdict, outcome(answer))) {
            inos_[expected.node] = answer->ino;
            worker.handles.push_back({expected.node, true});
            if (answer->attr) check_attr(line, expected.node, *answer->attr);
          }
        } else if (answer) {
          worker.unseen.push_back({answer->ino, true});
        }
        finish(worker);
      });
}

// ---- extended attributes

void RandomWorkload::do_setxattr(Worker& worker) {
  using Must = ModelFilesystem::XattrMust;
  NodeId node = random_node(worker);
  const std::uint64_t kind = random_.below(6);
  const Must must = kind == 0 ? Must::be_new : kind == 1 ? Must::exist : Must::nothing;
  wire::SetxattrRequest request;
  request.ino = ino_of(node);
  request.name = kXattrNames[random_.below(kXattrNames.size())];
  request.value = random_.bytes(
      static_cast<std::size_t>(random_.below(random_.chance(10) ? 60'000 : 500)));
  request.flags = must == Must::be_new  ? std::uint32_t{wire::kXattrCreate}
                  : must == Must::exist ? std::uint32_t{wire::kXattrReplace}
                                        : 0;
  xattrs_changed(node);
  std::size_t line =
      note(worker, fmt::format("setxattr {} {} length={} flags={}", model_.path_of(node),
                               request.name, request.value.size(), request.flags));
  cluster_.client(worker.client)
      .setxattr(request, kRootUser, [=, this, &worker](Result<wire::Attr> answer) {
        if (!is_excused(line, outcome(answer))) {
          Verdict expected = model_.setxattr(node, request.name, request.value, must);
          if (judge(line, expected, outcome(answer))) check_attr(line, node, *answer);
        }
        finish(worker);
      });
}

void RandomWorkload::do_getxattr(Worker& worker) {
  NodeId node = random_node(worker);
  const std::string name = kXattrNames[random_.below(kXattrNames.size())];
  std::size_t line = note(worker, fmt::format("getxattr {} {}", model_.path_of(node), name));
  cluster_.client(worker.client)
      .getxattr(ino_of(node), name, kRootUser,
                [=, this, &worker](Result<wire::GetxattrReply> answer) {
                  if (judge(line, model_.getxattr(node, name), outcome(answer))) {
                    sometimes("workload: read an attribute");
                    if (answer->value != model_.find(node)->xattrs.at(name))
                      fail_with("getxattr: another value");
                  }
                  finish(worker);
                });
}

void RandomWorkload::do_removexattr(Worker& worker) {
  NodeId node = random_node(worker);
  std::string name = kXattrNames[random_.below(kXattrNames.size())];
  // One that there is, rather.
  const ModelNode* flare = model_.find(node);
  if (flare != nullptr && !flare->xattrs.empty() && !random_.chance(4))
    name = flare->xattrs.begin()->first;
  xattrs_changed(node);
  std::size_t line = note(worker, fmt::format("removexattr {} {}", model_.path_of(node), name));
  cluster_.client(worker.client)
      .removexattr(ino_of(node), name, kRootUser, [=, this, &worker](Result<wire::Attr> answer) {
        if (!is_excused(line, outcome(answer))) {
          Verdict expected = model_.removexattr(node, name);
          if (judge(line, expected, outcome(answer))) check_attr(line, node, *answer);
        }
        finish(worker);
      });
}

// ---- content

void RandomWorkload::do_fallocate(Worker& worker) {
  Handle* handle = random_handle(worker, true);
  for (Handle& other : worker.handles)
    if (other.for_write && model_.find(other.node)->content.size() > kChunk && random_.chance(2))
      handle = &other;
  NodeId node = handle != nullptr ? handle->node : 0;
  if (handle == nullptr || random_.chance(12)) {
    // What is no file is refused; a file must be open.
    NodeId other = random_node(worker);
    const ModelNode* flare = model_.find(other);
    if (flare == nullptr || !flare->is_file()) node = other;
  }
  if (node == 0) return do_create(worker);
  const ModelNode* file = model_.find(node);
  ModelFilesystem::FallocateSpec spec;
  const std::uint64_t kind = random_.below(8);
  spec.punch = kind < 3;
  spec.zero = kind == 3 || kind == 4;
  spec.keep_size = spec.punch || random_.chance(3);
  if (random_.chance(40)) spec.punch = spec.zero = true;  // refused
  spec.offset = random_offset(file == nullptr ? 0 : file->content.size());
  spec.length = 1 + random_.below(random_.chance(3) ? 200'000 : 10'000);
  // Over a chunk border: of a file that reaches there often, and some files are made to.
  const bool is_huge = file != nullptr && file->content.size() > kChunk;
  if (options_.far_write_one_in != 0 && random_.chance(is_huge ? 2 : 8))
    spec.offset = kChunk - 1 - random_.below(spec.length);
  wire::FallocateRequest request;
  request.ino = ino_of(node);
  request.mode = mode_of(spec);
  request.offset = request.from = spec.offset;
  request.length = spec.length;
  request.key_for_chunks = crypto::key_of_path("/grown/" + std::to_string(request.ino.value));
  changed(node);
  std::size_t line = note(
      worker, fmt::format("fallocate {} size={} mode={} offset={} length={}", model_.path_of(node),
                          file == nullptr ? 0 : file->content.size(), request.mode, spec.offset,
                          spec.length));
  fallocate_more(worker, line, node, spec, request);
}

// As the mount does it: from where the last answer says, until it is at the end.
void RandomWorkload::fallocate_more(Worker& worker, std::size_t line, NodeId node,
                                    const ModelFilesystem::FallocateSpec& spec,
                                    wire::FallocateRequest request) {
  auto done = [=, this, &worker](Result<wire::FallocateReply> answer) {
    if (is_excused(line, outcome(answer))) return finish(worker);
    const std::uint64_t end = spec.offset + spec.length;
    if (answer && answer->next != end) {
      if (answer->next <= request.from || answer->next > end) {
        fail_with(fmt::format("fallocate: goes on at {}, from {}", answer->next, request.from));
        return finish(worker);
      }
      sometimes("workload: fallocate in pieces");
      wire::FallocateRequest more = request;
      more.from = answer->next;
      return fallocate_more(worker, line, node, spec, more);
    }
    Verdict expected = model_.fallocate(node, spec);
    if (judge(line, expected, outcome(answer))) {
      check_attr(line, node, answer->attr);
      if (spec.punch) sometimes("workload: punched a hole");
    }
    finish(worker);
  };
  cluster_.client(worker.client).fallocate(request, kRootUser, std::move(done));
  cluster_.touch_client(worker.client);
}

void RandomWorkload::do_copy(Worker& worker) {
  Handle* to = random_handle(worker, true);
  Handle* from = random_handle(worker, false);
  if (to == nullptr || from == nullptr) return do_open(worker);
  const std::uint64_t from_size = model_.find(from->node)->content.size();
  ModelFilesystem::CopySpec spec{};
  spec.from = from->node;
  spec.to = to->node;
  spec.from_offset = random_offset(from_size);
  spec.length = 1 + random_.below(random_.chance(4) ? 300'000 : 30'000);
  spec.to_offset = random_offset(model_.find(to->node)->content.size());
  if (from_size > kChunk && random_.chance(2))
    spec.from_offset = kChunk - 1 - random_.below(spec.length);
  if (spec.from == spec.to) {
    // The kernel refuses what overlaps and cuts at the end.
    spec.from_offset = random_.below(from_size + 1);
    spec.length = model_.bytes_to_copy(spec);
    if (spec.length == 0) return do_write(worker);
    spec.to_offset = spec.from_offset + spec.length;
  }
  const std::uint64_t wanted = model_.bytes_to_copy(spec);
  const std::uint64_t to_size = model_.find(spec.to)->content.size();
  if (wanted > 0) changed(spec.to);
  std::size_t line = note(
      worker, fmt::format("copy {} at {} (size {}) to {} at {} (size {}) length={}",
                          model_.path_of(spec.from), spec.from_offset, from_size,
                          model_.path_of(spec.to), spec.to_offset, to_size, spec.length));
  cluster_.client(worker.client)
      .copy(ino_of(spec.from), spec.from_offset, ino_of(spec.to), spec.to_offset, spec.length,
            false, kRootUser, [=, this, &worker](Result<std::uint64_t> answer) {
              if (is_excused(line, outcome(answer))) return finish(worker);
              Verdict expected = model_.copy(spec);
              if (judge(line, expected, outcome(answer))) {
                if (*answer != wanted)
                  fail_with(fmt::format("copy: {} bytes, the oracle says {}", *answer, wanted));
                if (wanted > 0) sometimes("workload: copied");
                const std::uint64_t size = model_.find(spec.to)->content.size();
                if (to_size <= 65536 && size > 65536) sometimes("workload: spilled by a copy");
                if (is_over_border(spec.to_offset, wanted) ||
                    is_over_border(spec.from_offset, wanted))
                  sometimes("workload: copied over a chunk border");
              }
              finish(worker);
            });
}

// What the name leads to, as a mount knows it that has just looked it up; no inode: a directory, or
// `is_removed` and it has other names.
Ino RandomWorkload::movable(NodeId dir, const std::string& name, bool is_removed) const {
  const NodeId node = model_.lookup(dir, name).node;
  const ModelNode* found = node == 0 ? nullptr : model_.find(node);
  if (found == nullptr || found->is_directory() || (is_removed && found->nlink != 1)) return {};
  return ino_of(node);
}

}  // namespace magma::test
