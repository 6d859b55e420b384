// What the kernel believes of flares that other mounts change. The volcano tells this mount before
// it answers the one who changed (client::ChangeListener); the kernel's attributes, pages and names
// go before the volcano is answered.
//
// The kernel holds the lock of a directory, or of pages, while it waits for an answer of ours, and
// taking back what it believes waits for that lock. So if a request about the flare is under way,
// or comes before the kernel is done, the volcano is answered at once: else our own request, which
// may wait behind the other's change, and the other's would wait for each other. The kernel then
// lets go as soon as our request is answered.
//
// A rename holds the locks of both its directories while it looks up the first name, and only that
// request tells of it: what it says is about one directory. So if the kernel does not let go for
// kBlockedMax while any request is under way, the volcano is answered, too: else two renames of two
// mounts could wait for each other until what was believed has ended by itself.
//
// The loop's thread only.
#pragma once

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif
#include <fuse_lowlevel.h>

#include <array>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "libmagma/base/strong.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/client/client.h"

namespace magma::mount {

struct Filesystem;

class Coherence final : public client::ChangeListener {
 public:
  explicit Coherence(Filesystem& filesystem) : filesystem_(filesystem) {}

  static constexpr Duration kBlockedMax = milliseconds(100);

  void on_changed(std::vector<wire::Change> changes, UniqueFunction<void()> done) override;
  Instant deadline() const;
  void on_timer();
  void on_read(Ino ino) override;
  void on_sent(Ino ino, std::uint64_t data_version) override;
  void on_attributes_sent(Ino ino) override;
  void on_lost(Ino ino) override;
  void on_name_lost(Ino dir, const std::string& name, const std::string& to_name) override;

  // How many names others have changed, as far as this mount was told.
  std::uint64_t name_changes() const { return name_changes_; }
  // The kernel has names that it is still to forget.
  bool has_stale_names() const { return !names_.empty(); }

  // A request about these flares (no inode: none) waits for the ring, until it is answered.
  using Involved = std::array<Ino, 4>;
  void request_begins(fuse_req_t request, const Involved& flares);
  void request_ends(fuse_req_t request);

 private:
  // One `changed` message: for each flare, how many things the kernel is still to let go.
  struct Pending {
    std::unordered_map<Ino, unsigned> left;
    UniqueFunction<void()> done;
    Instant since{};
  };
  using PendingPtr = std::shared_ptr<Pending>;

  // Names of one directory that the kernel is to forget: one call to the kernel at a time, which
  // may have to wait for the directory's lock, and then all that have come meanwhile.
  struct Names {
    std::vector<std::string> names;
    std::vector<UniqueFunction<void()>> done;
    bool is_running = false;
  };

  void let_go(const PendingPtr& pending, const wire::Change& change);
  void forget_names(Ino dir);
  void settle(const PendingPtr& pending);
  void begin(Ino ino);
  void end(Ino ino);

  Filesystem& filesystem_;
  std::vector<PendingPtr> pending_;  // the oldest first
  Instant look_at_{};                // not before
  std::unordered_map<Ino, Names> names_;  // by directory
  std::uint64_t name_changes_ = 0;
  std::unordered_map<fuse_req_t, Involved> under_way_;
  std::unordered_map<Ino, unsigned> busy_;
};

}  // namespace magma::mount
