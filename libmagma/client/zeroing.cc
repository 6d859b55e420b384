#include "libmagma/client/zeroing.h"

#include <algorithm>
#include <memory>

namespace magma::client {

namespace {

struct Zeroing : std::enable_shared_from_this<Zeroing> {
  Zeroing(Client& c, const wire::FallocateRequest& r, Credentials w, Done<wire::FallocateReply> d)
      : client(c), request(r), who(w), done(std::move(d)), at(r.offset), end(r.offset + r.length) {}

  Client& client;
  const wire::FallocateRequest request;
  const Credentials who;
  Done<wire::FallocateReply> done;
  std::uint64_t at;
  const std::uint64_t end;
  std::uint64_t size = 0;

  void start() {
    client.getattr(request.ino, who, [self = shared_from_this()](Result<wire::Attr> attr) {
      if (!attr) return self->done(fail(attr.error()));
      self->size = attr->size;
      self->go_on();
    });
  }

  void go_on() {
    const std::uint64_t stop = std::min(end, size);
    if (at >= stop) return finish();
    const std::uint64_t length = std::min<std::uint64_t>(stop - at, wire::kIoBytesMax);
    client.write(request.ino, at, Bytes(length), false, request.kill_suidgid, who,
                 [self = shared_from_this(), length](Result<wire::WriteReply> written) {
                   if (!written) return self->done(fail(written.error()));
                   self->at += length;
                   self->go_on();
                 });
  }

  void finish() {
    auto last = [self = shared_from_this()](Result<wire::Attr> attr) {
      if (!attr) return self->done(fail(attr.error()));
      self->done(wire::FallocateReply{self->end, std::move(*attr)});
    };
    const bool grows = end > size && (request.mode & wire::kFallocateKeepSize) == 0;
    if (!grows) {
      client.getattr(request.ino, who, std::move(last));
      return;
    }
    wire::SetattrRequest change;
    change.ino = request.ino;
    change.fields_set = wire::kSetSize | (request.kill_suidgid ? wire::kKillSuidGid : 0u);
    change.size = end;
    client.setattr(std::move(change), who, std::move(last));
  }
};

}  // namespace

bool is_zeroing(const wire::FallocateRequest& request) {
  const bool punches = request.mode == (wire::kFallocatePunchHole | wire::kFallocateKeepSize);
  return punches || (request.mode & ~std::uint32_t{wire::kFallocateKeepSize}) ==
                        wire::kFallocateZeroRange;
}

void write_zeros(Client& client, const wire::FallocateRequest& request, Credentials who,
                 Done<wire::FallocateReply> done) {
  std::make_shared<Zeroing>(client, request, who, std::move(done))->start();
}

}  // namespace magma::client
