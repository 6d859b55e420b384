// The answer owed to one FUSE request. Move-only: whoever holds it owes the answer, and gives it
// exactly once; a Reply that is dropped unanswered is a bug (caught), except while the mount ends.
// errno numbers are made here only, from errors.def.
#pragma once

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif
#include <fuse_lowlevel.h>

#include <cstddef>
#include <string>
#include <utility>

#include "libmagma/base/bytes.h"
#include "libmagma/base/result.h"
#include "libmagma/client/client.h"

namespace magma::mount {

struct Filesystem;

class Reply {
 public:
  explicit Reply(fuse_req_t request) : request_(request) {}
  Reply(Reply&& other) noexcept : request_(std::exchange(other.request_, nullptr)) {}
  Reply& operator=(Reply&&) = delete;
  ~Reply() {
    if (request_ != nullptr) [[unlikely]]
      dropped();
  }

  // Until the answer is given:
  fuse_req_t request() const { return request_; }
  Filesystem& filesystem() const {
    return *static_cast<Filesystem*>(fuse_req_userdata(request_));
  }
  client::Credentials who() const {
    const fuse_ctx* context = fuse_req_ctx(request_);
    return {.uid = context->uid, .gid = context->gid};
  }

  // The answers. True: the kernel took it; false: nobody waits for it any more, so what it would
  // have given (a look-up, an open) is not held.
  bool ok() { return fuse_reply_err(finish(), 0) == 0; }
  bool fail(Code code) { return fuse_reply_err(finish(), errno_of(code)) == 0; }
  bool fail(const Error& error) { return fail(error.code); }
  void none() { fuse_reply_none(finish()); }
  bool entry(const fuse_entry_param& entry) { return fuse_reply_entry(finish(), &entry) == 0; }
  bool created(const fuse_entry_param& entry, const fuse_file_info& file) {
    return fuse_reply_create(finish(), &entry, &file) == 0;
  }
  bool attr(const struct stat& attr, double timeout_s) {
    return fuse_reply_attr(finish(), &attr, timeout_s) == 0;
  }
  bool opened(const fuse_file_info& file) { return fuse_reply_open(finish(), &file) == 0; }
  bool written(std::size_t bytes) { return fuse_reply_write(finish(), bytes) == 0; }
  bool bytes(ByteSpan bytes) {
    return fuse_reply_buf(finish(), reinterpret_cast<const char*>(bytes.data()), bytes.size()) ==
           0;
  }
  bool link_target(const std::string& target) {
    return fuse_reply_readlink(finish(), target.c_str()) == 0;
  }
  bool xattr_size(std::size_t bytes) { return fuse_reply_xattr(finish(), bytes) == 0; }
  bool offset(off_t at) { return fuse_reply_lseek(finish(), at) == 0; }
  bool lock(const struct flock& lock) { return fuse_reply_lock(finish(), &lock) == 0; }
  bool statfs(const struct statvfs& numbers) {
    return fuse_reply_statfs(finish(), &numbers) == 0;
  }

 private:
  fuse_req_t finish();   // takes the request out; filesystem.cc
  void dropped();

  fuse_req_t request_;
};

}  // namespace magma::mount
