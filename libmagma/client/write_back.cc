#include "libmagma/client/write_back.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "libmagma/base/check.h"
#include "libmagma/base/log.h"
#include "libmagma/client/file_table.h"
#include "libmagma/wire/attributes.h"

namespace magma::client {

// ---- bytes that are not sent

// The first piece that ends after `offset`.
std::map<std::uint64_t, Bytes>::iterator DirtyRanges::first_after(std::uint64_t offset) {
  auto next = pieces_.upper_bound(offset);
  if (next == pieces_.begin()) return next;
  auto before = std::prev(next);
  return before->first + before->second.size() > offset ? before : next;
}

// Nothing is there yet. What follows a piece becomes a part of it: programs write in a row.
void DirtyRanges::add(std::uint64_t offset, ByteSpan bytes) {
  bytes_ += bytes.size();
  auto next = pieces_.lower_bound(offset);
  if (next != pieces_.begin()) {
    auto& [at, piece] = *std::prev(next);
    if (at + piece.size() == offset && piece.size() + bytes.size() <= kPieceMax) {
      piece.insert(piece.end(), bytes.begin(), bytes.end());
      return;
    }
  }
  pieces_.emplace_hint(next, offset, Bytes(bytes.begin(), bytes.end()));
}

void DirtyRanges::lay(std::uint64_t offset, ByteSpan bytes, bool is_newer) {
  const std::uint64_t end = offset + bytes.size();
  std::uint64_t at = offset;
  while (at < end) {
    auto piece = first_after(at);
    const std::uint64_t start = piece == pieces_.end() ? end : std::min(end, piece->first);
    if (at < start) {
      add(at, bytes.subspan(at - offset, start - at));
      at = start;
      continue;
    }
    const std::uint64_t stop = std::min(end, piece->first + piece->second.size());
    if (is_newer) {
      const ByteSpan part = bytes.subspan(at - offset, stop - at);
      std::copy(part.begin(), part.end(),
                piece->second.begin() + static_cast<std::ptrdiff_t>(at - piece->first));
    }
    at = stop;
  }
}

void DirtyRanges::write(std::uint64_t offset, Bytes bytes) {
  const std::uint64_t end = offset + bytes.size();
  auto next = first_after(offset);
  const bool is_free = next == pieces_.end() || next->first >= end;
  const bool follows = next != pieces_.begin() &&
                       std::prev(next)->first + std::prev(next)->second.size() == offset;
  if (!is_free || follows) return lay(offset, bytes, true);
  bytes_ += bytes.size();
  pieces_.emplace_hint(next, offset, std::move(bytes));
}

void DirtyRanges::put_under(std::uint64_t offset, ByteSpan bytes) { lay(offset, bytes, false); }

bool DirtyRanges::overlaps(std::uint64_t offset, std::uint64_t end) const {
  auto next = const_cast<DirtyRanges*>(this)->first_after(offset);
  return next != pieces_.end() && next->first < end;
}

void DirtyRanges::clear() {
  pieces_.clear();
  bytes_ = 0;
}

DirtyRanges::Batch DirtyRanges::take(
    const std::function<bool(std::uint64_t offset, std::uint64_t end)>& is_barred) {
  Batch batch;
  for (auto next = pieces_.begin(); next != pieces_.end();) {
    auto piece = next++;
    const std::uint64_t offset = piece->first;
    if (!batch.empty() && chunk_of(offset) != chunk_of(batch.extents.front().offset)) break;
    std::size_t length = piece->second.size();
    if (is_barred(offset, offset + length)) continue;
    length = std::min({length, wire::kIoBytesMax - batch.bytes.size(),
                       static_cast<std::size_t>(kChunkBytes - offset % kChunkBytes)});
    Bytes bytes = std::move(piece->second);
    pieces_.erase(piece);
    if (length < bytes.size())
      next = pieces_.emplace(offset + length,
                             Bytes(bytes.begin() + static_cast<std::ptrdiff_t>(length),
                                   bytes.end()))
                 .first;
    bytes.resize(length);
    bytes_ -= length;
    batch.extents.push_back({offset, static_cast<std::uint32_t>(length)});
    if (batch.bytes.empty())
      batch.bytes = std::move(bytes);
    else
      batch.bytes.insert(batch.bytes.end(), bytes.begin(), bytes.end());
    const bool is_full = batch.bytes.size() == wire::kIoBytesMax ||
                         batch.extents.size() == wire::kExtentsMax;
    if (is_full) break;
  }
  return batch;
}

// ---- tokens

WriteBack::File* WriteBack::find(Ino ino) {
  auto found = files_.find(ino);
  return found == files_.end() ? nullptr : &found->second;
}

const WriteBack::File* WriteBack::find(Ino ino) const {
  auto found = files_.find(ino);
  return found == files_.end() ? nullptr : &found->second;
}

void WriteBack::granted(const wire::Attr& attr, Instant made_at, Instant now) {
  if (!is_on_ || is_away_ || attr.is_partial || !S_ISREG(attr.mode)) return;
  if (recalls_.until(attr.ino, made_at, Instant::never()) == Instant{}) return;
  auto recent = recent_.find(attr.ino);
  if (recent != recent_.end() && attr.data_version < recent->second.version) return;
  File& file = files_[attr.ino];
  // It may be older than a write of ours.
  const bool may_be_old = file.through > 0 || attr.data_version < file.version;
  // Asked for by verify(): with it nobody else comes before what is sent then.
  const bool is_verified = file.is_doubtful && file.sending.empty() &&
                           attr.data_version == file.version;
  if (file.has_token || may_be_old || (!file.is_clean() && !is_verified)) return;
  file.has_token = true;
  file.ring_size = attr.size;
  file.size = std::max(attr.size, file.unsent_end());
  file.version = attr.data_version;
  file.granted_at = made_at;
  if (!file.is_doubtful) {  // else verified() does, which compares first
    file.attr = attr;
    file.ring_ctime = attr.ctime;
  }
  file.claim_at = now;
  file.claim_wait = kClaimFirst;
}

void WriteBack::drop_token(File& file, Instant claim_at) {
  file.has_token = false;
  file.attr.reset();
  file.claim_at = std::max(file.claim_at, claim_at);
}

void WriteBack::claimed(Ino ino, Instant now) {
  File* file = find(ino);
  if (file == nullptr) return;
  file->is_claiming = false;
  if (!file->has_token) {
    file->claim_at = std::max(file->claim_at, now + file->claim_wait);
    file->claim_wait = std::min(file->claim_wait * 2, kClaimLast);
  }
  settle(ino, now);
}

// Who asked for the file may believe what he is told for a token's term: till then it would be
// refused.
void WriteBack::recalled(Ino ino, Instant now, UniqueFunction<void()> done) {
  recalls_.changed(ino, now);
  File* file = find(ino);
  if (file != nullptr && file->has_token) ++recalled_;
  if (file != nullptr) drop_token(*file, now + wire::kTokenTerm + milliseconds(500));
  if (file == nullptr || file->placed == 0) return when_clean(ino, now, std::move(done));
  auto shared = std::make_shared<UniqueFunction<void()>>(std::move(done));
  file->recalls.push_back([this, ino, now, shared] {
    when_clean(ino, now, [shared] { (*shared)(); });
  });
}

void WriteBack::forget_tokens(Instant now) {
  recalls_.all_changed(now);
  recent_.clear();  // a loss of power may have taken the ring back behind them
  recent_order_.clear();
  for (auto& [ino, file] : files_) {
    drop_token(file, now + kClaimFirst);
    file.ring_size = 0;  // not known
    file.size = file.unsent_end();
  }
  send_all(now);
}

void WriteBack::session_lost(Instant now) {
  is_away_ = true;
  recalls_.all_changed(now);
  for (auto& [ino, file] : files_) {
    drop_token(file, now + kClaimFirst);
    if (!file.is_clean()) file.is_doubtful = true;
  }
}

void WriteBack::session_renewed(Instant) {
  is_away_ = false;
  std::vector<Ino> doubtful;
  for (const auto& [ino, file] : files_)
    if (file.is_doubtful && file.sending.empty()) doubtful.push_back(ino);
  for (Ino ino : doubtful) owner_.verify(ino);
}

void WriteBack::verified(Ino ino, const wire::Attr* attr, Instant now) {
  File* file = find(ino);
  if (file == nullptr || !file->is_doubtful || is_away_ || !file->sending.empty()) return;
  file->is_doubtful = false;
  if (file->is_clean()) return settle(ino, now);
  if (attr == nullptr || attr->data_version != file->version) {
    lose_dirty(ino, *file, attr == nullptr ? Error{Code::stale, {}} : Error{Code::io, {}});
  } else {
    verify_attributes(ino, *file, *attr);
    if (!file->has_token) file->ring_size = 0;  // not known: `attr` tells what is here, too
    file->due = now;
    pump(ino, now);
  }
  settle(ino, now);
  let_writers_in();
}

void WriteBack::amend(wire::Attr& attr) const {
  const File* file = find(attr.ino);
  if (file != nullptr && (file->has_token || !file->is_clean())) {
    // verify() asks what the ring has of them.
    if (file->setting && !file->is_doubtful) apply(file->setting->change, attr);
    if (file->set && !file->is_doubtful) apply(file->set->change, attr);
    if (file->has_token || attr.size < file->size) attr.size = file->size;
    if (!file->is_clean() || attr.data_version < file->version) attr.believed_until = {};
    return;
  }
  auto recent = recent_.find(attr.ino);
  if (recent == recent_.end() || attr.data_version >= recent->second.version) return;
  attr.size = std::max(attr.size, recent->second.size);
  attr.believed_until = {};
}

void WriteBack::take_note(Ino ino, const File& file) {
  auto [place, is_new] = recent_.insert_or_assign(ino, Recent{file.ring_size, file.version});
  if (!is_new) return;
  recent_order_.push_back(ino);
  if (recent_order_.size() <= kRecentMax) return;
  recent_.erase(recent_order_.front());
  recent_order_.pop_front();
}

// ---- writes

WriteBack::Decision WriteBack::write(Write& write, Bytes& bytes, Instant now,
                                     UniqueFunction<void()> later) {
  if (!is_on_ || has_ended_ || write.length == 0) return {};
  File* file = find(write.ino);
  if (file == nullptr) {
    if (!owner_.is_open_for_write(write.ino)) return {};
    file = &files_[write.ino];
    file->claim_at = now + kClaimFirst;
  }
  if (file->error.code != Code{})
    return {.path = Path::failed, .error = std::exchange(file->error, {})};
  const bool is_behind = !file->waiters.empty() && !write.has_waited;
  write.has_waited = true;
  if (is_behind || file->is_claiming) {
    file->waiters.push_back(std::move(later));
    return {.path = Path::wait};
  }
  // The times that were set are older than it.
  if (file->set || file->setting) {
    file->waiters.push_back(std::move(later));
    hurry(write.ino, *file, now);
    return {.path = Path::wait};
  }
  // Of an append only when it is done: while it waits, the end moves, and the token may go.
  const std::uint64_t place = write.append ? file->size : write.offset;
  const bool is_known = file->has_token || !write.append;
  if (is_known && place > wire::kFileBytesMax - write.length)
    return {.path = Path::failed, .error = {Code::too_big, {}}};
  if (file->has_token && write.may_delay) {
    if (bytes_ > 0 && bytes_ + write.length > kBytesMax) {
      room_waiters_.push_back(std::move(later));
      send_all(now);
      return {.path = Path::wait};
    }
    write.offset = place;
    keep(*file, write, std::move(bytes), now);
    Decision decision{.path = Path::kept};
    decision.reply.offset = write.offset;
    decision.reply.size = file->size;
    decision.reply.is_delayed = true;
    if (file->due <= now) pump(write.ino, now);
    return decision;
  }
  if (!file->is_clean()) {
    file->waiters.push_back(std::move(later));
    hurry(write.ino, *file, now);
    return {.path = Path::wait};
  }
  if (write.may_delay && may_claim(*file, now)) {
    file->waiters.push_back(std::move(later));
    claim(write.ino, *file);
    return {.path = Path::wait};
  }
  ++file->through;
  if (!file->has_token) return {.is_counted = true};
  write.offset = place;
  write.append = false;
  file->size = std::max(file->size, write.offset + write.length);
  ++file->placed;
  return {.is_counted = true, .is_placed = true};
}

bool WriteBack::may_claim(const File& file, Instant now) const {
  return !file.has_token && !file.is_claiming && file.through == 0 && file.is_clean() &&
         now >= file.claim_at && !is_away_;
}

void WriteBack::claim(Ino ino, File& file) {
  file.is_claiming = true;
  ++claims_;
  owner_.claim(ino);
}

void WriteBack::want_token(Ino ino, Instant now) {
  if (!is_on_ || has_ended_ || !owner_.is_open_for_write(ino)) return;
  File& file = files_[ino];
  if (may_claim(file, now) && !file.is_doubtful) claim(ino, file);
}

// Something will have to be sent, if nothing is yet.
void WriteBack::has_something(Ino ino, File& file, Instant now) {
  if (file.has_unsent()) return;
  file.is_much = false;
  file.due = now + kDelay;
  next_due_ = std::min(next_due_, file.due);
  dirty_.insert(ino);
}

void WriteBack::keep(File& file, const Write& write, Bytes bytes, Instant now) {
  ++kept_;
  has_something(write.ino, file, now);
  const std::size_t before = file.dirty.bytes();
  file.dirty.write(write.offset, std::move(bytes));
  bytes_ += file.dirty.bytes() - before;
  if (file.dirty.bytes() >= kHurryBytes && file.due > now) {
    file.due = now;
    file.is_much = true;
  }
  file.size = std::max(file.size, write.offset + write.length);
  file.kill_suidgid = file.kill_suidgid || write.kill_suidgid;
  file.uid = write.uid;
  file.gid = write.gid;
}

void WriteBack::begin_through(Ino ino, Instant now) {
  if (!is_on_) return;
  File& file = files_[ino];
  drop_token(file, now);
  ++file.through;
}

void WriteBack::ended_through(Ino ino, const wire::WriteReply* reply, bool is_placed,
                              Instant now) {
  File* file = find(ino);
  if (file == nullptr || file->through == 0) return;
  --file->through;
  recalls_.changed(ino, now);  // an answer from before tells another size
  if (reply != nullptr && reply->data_version >= file->version) {
    file->version = reply->data_version;
    file->ring_size = reply->size;
    file->ring_ctime = std::max(file->ring_ctime, reply->mtime);
    file->size = std::max(file->size, reply->size);
  }
  if (reply == nullptr)
    drop_token(*file, now);  // the size is not known
  else if (!reply->may_delay)
    drop_token(*file, now + kClaimLast);
  if (is_placed && --file->placed == 0)
    for (auto& recall : std::exchange(file->recalls, {})) recall();
  forget_if_idle(ino);
}

// Answers to requests made before tell another size.
void WriteBack::begin_cut(Ino ino, Instant now) {
  if (!is_on_) return;
  recalls_.changed(ino, now - nanoseconds(1));
  if (File* file = find(ino)) drop_token(*file, now);
}

void WriteBack::ended_cut(Ino ino, Instant begun, Instant now) {
  File* file = find(ino);
  if (file != nullptr && file->granted_at > begun) drop_token(*file, now);
}

bool WriteBack::is_sending(const File& file, std::uint64_t offset, std::uint64_t end) const {
  for (const auto& [number, ranges] : file.sending)
    for (const Range& range : ranges)
      if (range.offset < end && offset < range.end) return true;
  return false;
}

bool WriteBack::may_read(Ino ino, std::uint64_t offset, std::uint64_t length) const {
  const File* file = find(ino);
  if (file == nullptr || file->is_clean()) return true;
  const std::uint64_t end = offset + length;
  if (end > file->ring_size && file->size > file->ring_size) return false;
  return !file->dirty.overlaps(offset, end) && !is_sending(*file, offset, end);
}

// ---- sending

void WriteBack::hurry(Ino ino, File& file, Instant now) {
  file.due = now;
  file.is_much = false;
  pump(ino, now);
}

// A piece under way bars newer bytes of the same place: they must not come before it.
void WriteBack::pump(Ino ino, Instant now) {
  for (;;) {
    File* file = find(ino);
    if (file == nullptr || is_away_ || file->is_doubtful || !file->has_unsent()) return;
    if (file->due > now || file->sending.size() >= kSendingMax) return;
    if (file->dirty.empty()) return pump_attributes(ino, *file);
    if (file->is_much && file->dirty.bytes() <= kSettleBytes) {
      file->is_much = false;
      file->due = now + kDelay;
      next_due_ = std::min(next_due_, file->due);
      return;
    }
    DirtyRanges::Batch batch = file->dirty.take([&](std::uint64_t offset, std::uint64_t end) {
      return is_sending(*file, offset, end);
    });
    if (batch.empty()) return;
    std::vector<Range>& ranges = file->sending[++last_number_];
    for (const wire::Extent& extent : batch.extents)
      ranges.push_back({extent.offset, extent.offset + extent.length});
    ++flushes_;
    Flush flush{.ino = ino,
                .extents = std::move(batch.extents),
                .bytes = std::move(batch.bytes),
                .kill_suidgid = file->kill_suidgid,
                .uid = file->uid,
                .gid = file->gid};
    // The last one takes the attributes along.
    const bool is_last = file->dirty.empty() && file->sending.size() == 1 && file->set &&
                         file->set->uid == file->uid && file->set->gid == file->gid;
    if (is_last) {
      file->setting = std::exchange(file->set, std::nullopt);
      file->setting_number = last_number_;
      flush.attributes = file->setting->change;
    }
    owner_.send(std::move(flush), last_number_);
  }
}

void WriteBack::sent(std::uint64_t number, Flush flush, Sent result, Instant now) {
  File* file = find(flush.ino);
  if (file == nullptr || file->sending.erase(number) == 0) return;
  std::size_t length = 0;
  for (const wire::Extent& extent : flush.extents) length += extent.length;
  bytes_ -= length;
  const bool has_attributes = file->setting && file->setting_number == number;
  if (has_attributes && result.error.code == Code{} && result.reply.set_at) {
    file->setting.reset();
    file->ring_ctime = *result.reply.set_at;
    owner_.on_attributes_sent(flush.ino);
  } else if (has_attributes) {
    take_back(*file, result.error.code == Code::fenced);
  }
  if (result.error.code == Code{}) {
    file->version = std::max(file->version, result.reply.data_version);
    file->ring_size = std::max(file->ring_size, result.reply.size);
    if (!result.reply.set_at) file->ring_ctime = std::max(file->ring_ctime, result.reply.mtime);
    if (!result.reply.may_delay) drop_token(*file, now + kClaimLast);
    owner_.on_sent(flush.ino, result.reply.data_version);
  } else if (result.error.code == Code::fenced && flush.bytes.size() == length) {
    ByteSpan rest = flush.bytes;
    const std::size_t before = file->dirty.bytes();
    for (const wire::Extent& extent : flush.extents) {
      file->dirty.put_under(extent.offset, rest.first(extent.length));
      rest = rest.subspan(extent.length);
    }
    bytes_ += file->dirty.bytes() - before;
    file->is_doubtful = true;
  } else {
    lose(flush.ino, *file, length, result.error);
    drop_token(*file, now + kClaimLast);
  }
  const bool is_to_be_verified =
      file->is_doubtful && file->sending.empty() && file->has_unsent() && !is_away_;
  if (is_to_be_verified) owner_.verify(flush.ino);
  pump(flush.ino, now);
  settle(flush.ino, now);
  let_writers_in();
}

void WriteBack::lose(Ino ino, File& file, std::size_t bytes, Error error) {
  const std::string_view name = file.name.empty() ? "?" : std::string_view(file.name);
  if (bytes > 0)
    log_error("writes_lost ino={:#x} name={} bytes={} error={}", ino.value, name, bytes,
              describe(error));
  else
    log_error("attributes_lost ino={:#x} name={} error={}", ino.value, name, describe(error));
  if (file.error.code == Code{}) file.error = std::move(error);
  file.size = std::max(file.ring_size, file.unsent_end());
  owner_.on_lost(ino);
}

void WriteBack::lose_dirty(Ino ino, File& file, const Error& error) {
  const std::size_t bytes = file.dirty.bytes();
  bytes_ -= bytes;
  file.dirty.clear();
  file.set.reset();
  file.unsure.reset();
  lose(ino, file, bytes, error);
}

// Who waits until it is clean goes on, if it is.
void WriteBack::settle(Ino ino, Instant now) {
  File* file = find(ino);
  if (file == nullptr || !file->is_clean()) return;
  if (dirty_.erase(ino) > 0) take_note(ino, *file);
  file->kill_suidgid = file->is_doubtful = false;
  // One after the other: each may change the record, and a write makes the next ones wait.
  for (; file != nullptr && file->is_clean() && !file->is_claiming && !file->waiters.empty();
       file = find(ino)) {
    auto waiter = std::move(file->waiters.front());
    file->waiters.pop_front();
    waiter();
  }
  if (file != nullptr && !file->is_clean() && !file->waiters.empty()) return hurry(ino, *file, now);
  forget_if_idle(ino);
}

void WriteBack::let_writers_in() {
  while (!room_waiters_.empty() && bytes_ + wire::kIoBytesMax <= kBytesMax) {
    auto waiter = std::move(room_waiters_.front());
    room_waiters_.pop_front();
    waiter();
  }
}

void WriteBack::when_clean(Ino ino, Instant now, UniqueFunction<void()> then) {
  File* file = find(ino);
  if (file == nullptr || file->is_clean()) return then();
  file->waiters.push_back(std::move(then));
  hurry(ino, *file, now);
}

void WriteBack::when_clean(Ino dir, std::string_view name, Instant now,
                           UniqueFunction<void()> then) {
  std::vector<Ino> wanted;
  for (Ino ino : dirty_) {
    const File& file = files_.at(ino);
    if (file.name.empty() || (file.dir == dir && file.name == name)) wanted.push_back(ino);
  }
  auto left = std::make_shared<std::size_t>(wanted.size() + 1);
  auto shared = std::make_shared<UniqueFunction<void()>>(std::move(then));
  auto one_done = [left, shared] {
    if (--*left == 0) (*shared)();
  };
  for (Ino ino : wanted) when_clean(ino, now, one_done);
  one_done();
}

void WriteBack::named(Ino ino, Ino dir, std::string_view name) {
  File* file = find(ino);
  if (file == nullptr) return;
  file->dir = dir;
  file->name = name;
}

void WriteBack::forget_name(Ino dir, std::string_view name) {
  for (auto& [ino, file] : files_)
    if (file.dir == dir && file.name == name) file.name.clear();
}

std::optional<Error> WriteBack::error_of(Ino ino) const {
  const File* file = find(ino);
  if (file == nullptr || file->error.code == Code{}) return std::nullopt;
  return file->error;
}

std::optional<Error> WriteBack::take_error(Ino ino) {
  auto error = error_of(ino);
  if (error) find(ino)->error = {};
  return error;
}

// ---- attributes

namespace {

constexpr std::uint32_t kSetIdBits = S_ISUID | S_ISGID;

// Whether the attributes are as the change makes them.
bool has(const wire::Attr& attr, const wire::SetattrRequest& change) {
  wire::Attr after = attr;
  apply(change, after);
  return after.mode == attr.mode && after.uid == attr.uid && after.gid == attr.gid &&
         after.atime == attr.atime && after.mtime == attr.mtime;
}

// What is set first, then `newer`.
void merge(wire::SetattrRequest& first, const wire::SetattrRequest& newer) {
  first.fields_set |= newer.fields_set;
  if ((newer.fields_set & wire::kSetMode) != 0) first.mode = newer.mode;
  if ((newer.fields_set & wire::kSetUid) != 0) first.uid = newer.uid;
  if ((newer.fields_set & wire::kSetGid) != 0) first.gid = newer.gid;
  if ((newer.fields_set & wire::kSetAtime) != 0) first.atime = newer.atime;
  if ((newer.fields_set & wire::kSetMtime) != 0) first.mtime = newer.mtime;
}

}  // namespace

// Not what changes more than it says: set-id bits and capabilities go with a new owner, ACLs follow
// the mode. The kernel has checked who may.
std::optional<wire::Attr> WriteBack::set(const Attributes& attributes, Instant now) {
  wire::SetattrRequest change = attributes.change;
  File* file = find(change.ino);
  if (file == nullptr || !file->has_token || !file->attr || is_away_ || has_ended_)
    return std::nullopt;
  const wire::Attr& known = *file->attr;
  const bool is_plain_file =
      known.xattr_kinds == 0 && known.nlink == 1 && (known.mode & kSetIdBits) == 0;
  change.fields_set &= ~std::uint32_t{wire::kKillSuidGid};  // there is nothing to clear
  if ((change.fields_set & wire::kSetMode) == 0) change.mode = 0;
  const bool is_plain = is_plain_file && change.fields_set != 0 &&
                        (change.fields_set & ~wire::kSetWithWrite) == 0 &&
                        (change.mode & kSetIdBits) == 0;
  const bool is_in_row = file->waiters.empty() && !file->is_claiming && file->through == 0 &&
                         file->error.code == Code{};
  const bool is_other = file->set && (file->set->uid != attributes.uid ||
                                      file->set->gid != attributes.gid);
  if (!is_plain || !is_in_row || is_other) return std::nullopt;
  ++sets_;
  has_something(change.ino, *file, now);
  if (file->set)
    merge(file->set->change, change);
  else
    file->set = Attributes{change, attributes.uid, attributes.gid};
  apply(change, *file->attr);
  wire::Attr after = *file->attr;
  after.data_version = std::max(after.data_version, file->version);
  amend(after);
  if (file->due <= now) pump(change.ino, now);
  return after;
}

std::optional<std::uint32_t> WriteBack::mode_of(Ino ino) const {
  const File* file = find(ino);
  if (file == nullptr || !file->attr) return std::nullopt;
  return file->attr->mode;
}

void WriteBack::forget_attributes(Ino ino) {
  if (File* file = find(ino)) file->attr.reset();
}

void WriteBack::forget_attributes(Ino dir, std::string_view name) {
  for (auto& [ino, file] : files_)
    if (file.name.empty() || (file.dir == dir && file.name == name)) file.attr.reset();
}

// Behind the writes.
void WriteBack::pump_attributes(Ino ino, File& file) {
  if (!file.sending.empty() || file.setting) return;
  file.setting = std::exchange(file.set, std::nullopt);
  file.setting->change.ino = ino;
  file.setting_number = ++last_number_;
  ++flushes_;
  owner_.send_attributes(*file.setting, file.setting_number);
}

void WriteBack::attributes_sent(std::uint64_t number, Ino ino, Result<wire::Attr> result,
                                Instant now) {
  File* file = find(ino);
  if (file == nullptr || !file->setting || file->setting_number != number) return;
  if (result) {
    file->setting.reset();
    file->ring_ctime = result->ctime;
    owner_.on_attributes_sent(ino);
  } else if (result.error().code == Code::fenced) {
    take_back(*file, true);
    file->is_doubtful = true;
    if (!is_away_) owner_.verify(ino);
  } else {
    file->setting.reset();
    lose(ino, *file, 0, result.error());
    drop_token(*file, now + kClaimLast);
  }
  pump(ino, now);
  settle(ino, now);
}

// They were not set, as far as is known.
void WriteBack::take_back(File& file, bool is_unsure) {
  if (is_unsure) file.unsure = file.setting->change;
  if (file.set) merge(file.setting->change, file.set->change);
  file.set = std::exchange(file.setting, std::nullopt);
}

// In a new session: somebody else may have set them since, or the ring has done it already.
void WriteBack::verify_attributes(Ino ino, File& file, const wire::Attr& attr) {
  const auto unsure = std::exchange(file.unsure, std::nullopt);
  const bool is_as_it_was = attr.ctime == file.ring_ctime;
  file.ring_ctime = attr.ctime;
  if (!file.set || is_as_it_was) return;
  if (unsure && has(attr, *unsure)) {
    if (has(attr, file.set->change)) file.set.reset();
    return;
  }
  file.set.reset();
  lose(ino, file, 0, Error{Code::io, "the attributes were changed by others"});
}

// The volcano takes the token back with the last open for writing.
void WriteBack::released(Ino ino, Instant now) {
  if (!owner_.is_open_for_write(ino)) {
    recalls_.changed(ino, now);  // an answer under way gives none
    if (File* file = find(ino)) drop_token(*file, now);
  }
  forget_if_idle(ino);
}

void WriteBack::forget_if_idle(Ino ino) {
  File* file = find(ino);
  if (file == nullptr || owner_.is_open_for_write(ino)) return;
  const bool is_idle = file->is_clean() && file->waiters.empty() && file->through == 0 &&
                       !file->is_claiming;
  if (!is_idle) return;
  if (file->version > 0) take_note(ino, *file);
  files_.erase(ino);
}

void WriteBack::send_all(Instant now) {
  const std::vector<Ino> all(dirty_.begin(), dirty_.end());
  for (Ino ino : all)
    if (File* file = find(ino)) hurry(ino, *file, now);
}

void WriteBack::end() {
  has_ended_ = true;
  std::vector<Ino> all;
  for (const auto& [ino, file] : files_) all.push_back(ino);
  for (Ino ino : all) {
    File* file = find(ino);
    if (file != nullptr && file->has_unsent())
      lose_dirty(ino, *file, Error{Code::io, "the client has stopped"});
    if (file != nullptr) file->is_claiming = false;
    settle(ino, Instant{});
  }
  let_writers_in();
}

void WriteBack::on_timer(Instant now) {
  if (now < next_due_) return;
  next_due_ = Instant::never();
  const std::vector<Ino> all(dirty_.begin(), dirty_.end());
  for (Ino ino : all) {
    File* file = find(ino);
    if (file == nullptr || !file->has_unsent()) continue;
    if (file->due <= now)
      pump(ino, now);
    else
      next_due_ = std::min(next_due_, file->due);
  }
}

}  // namespace magma::client
