#include "libmagma/client/completion.h"

#include <algorithm>

#include "libmagma/wire/codec.h"

namespace magma::client {

namespace {

using wire::FlareOp;

// Calls `visit` with the attributes in the answer, by reference, and encodes the answer anew. What
// follows the reply (an open brings content) stays as it is.
template <class Reply, class Visit>
std::optional<Bytes> change(ByteSpan body, Visit visit) {
  auto front = wire::decode_front<Reply>(body);
  if (!front || !visit(front->first)) return std::nullopt;
  Bytes bytes = wire::encode(front->first);
  bytes.insert(bytes.end(), front->second.begin(), front->second.end());
  return bytes;
}

template <class Visit>
std::optional<Bytes> change_attr(FlareOp op, ByteSpan body, Visit visit) {
  switch (op) {
    case FlareOp::getattr:
    case FlareOp::setattr:
    case FlareOp::open:
    case FlareOp::setxattr:
    case FlareOp::removexattr:
      return change<wire::AttrReply>(body, [&](wire::AttrReply& r) { return visit(r.attr); });
    case FlareOp::fallocate:
      return change<wire::FallocateReply>(body,
                                          [&](wire::FallocateReply& r) { return visit(r.attr); });
    case FlareOp::lookup:
    case FlareOp::link:
    case FlareOp::mkdir:
      return change<wire::EntryReply>(
          body, [&](wire::EntryReply& r) { return r.attr && visit(*r.attr); });
    default: return std::nullopt;
  }
}

bool has_entry(FlareOp op) {
  return op == FlareOp::lookup || op == FlareOp::link || op == FlareOp::mkdir;
}

}  // namespace

Missing missing_in(FlareOp op, ByteSpan body) {
  if (has_entry(op)) {
    auto front = wire::decode_front<wire::EntryReply>(body);
    if (front && !front->first.attr) return wire::GetattrRequest{front->first.ino};
  }
  Missing missing;
  change_attr(op, body, [&](const wire::Attr& attr) {
    if (attr.is_partial && attr.placement.key)
      missing = wire::ContentRequest{attr.ino, *attr.placement.key};
    return false;
  });
  return missing;
}

std::optional<Bytes> completed(FlareOp op, ByteSpan body, const wire::AttrReply& told) {
  if (!has_entry(op)) return std::nullopt;
  return change<wire::EntryReply>(body, [&](wire::EntryReply& reply) {
    reply.attr = told.attr;
    return reply.ino == told.attr.ino;
  });
}

std::optional<Bytes> completed(FlareOp op, ByteSpan body, const wire::ContentReply& told) {
  return change_attr(op, body, [&](wire::Attr& attr) {
    attr.size = told.size;
    attr.blocks = told.blocks;
    attr.mtime = told.mtime;
    attr.ctime = std::max(attr.ctime, told.ctime);
    attr.data_version = told.data_version;
    attr.placement.truncate_number = told.truncate_number;
    attr.is_partial = false;
    return true;
  });
}

}  // namespace magma::client
