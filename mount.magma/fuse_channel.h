// The way to the kernel: mounts, reads requests from /dev/fuse and hands them to the operations of
// filesystem.h, unmounts.
//
// libfuse 3.14 is driven through fuse_session_custom_io, for what it does not do itself: the write
// hook adds FUSE_PARALLEL_DIROPS and FUSE_HANDLE_KILLPRIV_V2 to the INIT reply (without them the
// kernel serialises look-ups in a directory, and asks for an attribute before each write), and the
// read hook sees the flags of WRITE, OPEN, CREATE and SETATTR that libfuse drops.
//
// One thread, the loop's, except for the helper that detaches the mount.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "libmagma/base/owned.h"
#include "libmagma/base/result.h"
#include "mount.magma/filesystem.h"

namespace magma::mount {

struct MountRequest {
  std::string mountpoint;  // a real path
  std::string source;
  std::vector<std::string> options;  // for libfuse and the kernel
};

class FuseChannel {
 public:
  static constexpr int kRequestsPerWakeUp = 16;  // then datagrams have their turn

  // Mounts. `filesystem` outlives the channel.
  static Result<std::unique_ptr<FuseChannel>> mount(Filesystem& filesystem,
                                                    const MountRequest& request);
  ~FuseChannel();

  int fd() const { return fd_; }
  // Serves the requests that are there.
  void on_readable();
  fuse_session* session() const { return session_.get(); }
  // The kernel and we have agreed (INIT): the mount is usable.
  bool is_ready() const { return is_ready_; }
  // Unmounted, by whomever.
  bool has_ended() const { return has_ended_; }
  // Takes the mount out of the tree, in the background; requests go on being served until the
  // last user is gone.
  void detach();
  // Ends the connection now; whoever still uses the mount gets errors.
  void close();

 private:
  friend struct ChannelHooks;
  FuseChannel(Filesystem& filesystem, std::string mountpoint)
      : filesystem_(filesystem), mountpoint_(std::move(mountpoint)) {}
  void note_request(ByteSpan raw);
  void patch_init(void* reply, std::size_t size);
  void adapt_request();

  Filesystem& filesystem_;
  std::string mountpoint_;
  Owned<fuse_session, fuse_session_destroy> session_;
  fuse_buf buffer_{};
  int fd_ = -1;
  bool has_setxattr_ext_ = false;  // SETXATTR has flags of its own
  bool is_ready_ = false;
  bool has_ended_ = false;
  std::uint64_t init_unique_ = 0;
  std::uint32_t init_offered_ = 0;
  std::thread detacher_;
};

// Larger reads: the kernel's read-ahead is 128 KiB whatever FUSE agrees on, until root raises it.
// Does nothing without the right.
void raise_read_ahead(const std::string& mountpoint);

}  // namespace magma::mount
