// A WriteBack with a made-up ring behind it, for its tests.
#pragma once

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "libmagma/client/file_table.h"
#include "libmagma/client/write_back.h"
#include "tests/lib/store_fixture.h"

namespace magma::test::write_back {

using client::DirtyRanges;
using client::kChunkBytes;
using client::WriteBack;
using Path = WriteBack::Path;

inline constexpr Instant kStart{1'000'000'000'000};
inline constexpr Ino kFile(10), kOther(11), kThird(12), kDir(1);
inline constexpr std::size_t kMiB = 1u << 20;

inline Bytes bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

// The files as the ring has them. Requests wait until the test answers them.
struct FakeOwner final : WriteBack::Owner {
  struct Request {
    std::uint64_t number;
    WriteBack::Flush flush;
  };
  struct Set {
    std::uint64_t number;
    WriteBack::Attributes attributes;
  };
  struct File {
    std::string content{};
    std::uint64_t version = 0;
  };
  std::map<Ino, File> files;
  std::vector<Request> requests;
  std::vector<Set> sets;
  WallTime ctime{1000};  // of all
  bool sets_with_writes = true;
  std::vector<Ino> claims, verifies;
  std::vector<std::pair<Ino, std::uint64_t>> told;
  std::vector<Ino> lost, attributes_told;
  std::set<Ino> closed;
  UniqueFunction<void()> on_send, on_claim;

  void send(WriteBack::Flush flush, std::uint64_t number) override {
    requests.push_back({number, std::move(flush)});
    if (on_send) on_send();
  }
  void send_attributes(WriteBack::Attributes attributes, std::uint64_t number) override {
    sets.push_back({number, std::move(attributes)});
    if (on_send) on_send();
  }
  void claim(Ino ino) override {
    claims.push_back(ino);
    if (on_claim) on_claim();
  }
  void verify(Ino ino) override { verifies.push_back(ino); }
  bool is_open_for_write(Ino ino) override { return !closed.contains(ino); }
  void on_sent(Ino ino, std::uint64_t version) override { told.emplace_back(ino, version); }
  void on_attributes_sent(Ino ino) override { attributes_told.push_back(ino); }
  void on_lost(Ino ino) override { lost.push_back(ino); }

  void store(Ino ino, std::uint64_t offset, ByteSpan bytes) {
    std::string& content = files[ino].content;
    if (content.size() < offset + bytes.size()) content.resize(offset + bytes.size());
    std::copy(bytes.begin(), bytes.end(), content.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  wire::WriteReply reply_of(Ino ino) {
    wire::WriteReply reply;
    reply.size = files[ino].content.size();
    reply.data_version = ++files[ino].version;
    return reply;
  }
  wire::WriteReply store(const WriteBack::Flush& flush) {
    ByteSpan rest = flush.bytes;
    for (const wire::Extent& extent : flush.extents) {
      store(flush.ino, extent.offset, rest.first(extent.length));
      rest = rest.subspan(extent.length);
    }
    CHECK(rest.empty());
    return reply_of(flush.ino);
  }
  wire::Attr attr(Ino ino) {
    wire::Attr attr;
    attr.ino = ino;
    attr.mode = S_IFREG | 0644;
    attr.nlink = 1;
    attr.ctime = ctime;
    attr.size = files[ino].content.size();
    attr.data_version = files[ino].version;
    attr.believed_until = Instant::never();
    return attr;
  }
};

inline wire::SetattrRequest set_fields(std::uint32_t fields) {
  wire::SetattrRequest change;
  change.ino = kFile;
  change.fields_set = fields;
  return change;
}

struct Rig {
  FakeOwner owner;
  WriteBack back{owner, true};
  Instant now = kStart;
  std::vector<std::string> log;  // what was called
  bool is_placed = false;  // the last write

  explicit Rig(std::size_t size = 0) { owner.files[kFile] = {std::string(size, '.'), 5}; }
  void pass(Duration time) {
    now = now + time;
    back.on_timer(now);
  }
  void grant(Ino ino = kFile) {
    pass(nanoseconds(1));
    back.granted(owner.attr(ino), now, now);
  }
  UniqueFunction<void()> note(std::string what) {
    return [this, what] { log.push_back(what); };
  }
  WriteBack::Decision write(WriteBack::Write& write, Bytes bytes) {
    write.length = bytes.size();
    WriteBack::Decision decision = back.write(write, bytes, now, note("later"));
    is_placed = decision.is_placed;
    return decision;
  }
  WriteBack::Decision write(std::uint64_t offset, std::string_view text, Ino ino = kFile) {
    WriteBack::Write one{.ino = ino, .offset = offset};
    return write(one, bytes_of(text));
  }
  Path write_big(std::uint64_t offset, std::size_t length = kMiB, Ino ino = kFile) {
    WriteBack::Write one{.ino = ino, .offset = offset};
    return write(one, Bytes(length, static_cast<std::uint8_t>('a' + offset / length % 26))).path;
  }
  // A write that may go through does, and is answered.
  Path write_through(std::uint64_t offset, std::string_view text, Ino ino = kFile) {
    const Path path = write(offset, text, ino).path;
    if (path == Path::through) end_through(offset, text, ino);
    return path;
  }
  void end_through(std::uint64_t offset, std::string_view text, Ino ino = kFile) {
    owner.store(ino, offset, as_bytes(text));
    const wire::WriteReply reply = owner.reply_of(ino);
    back.ended_through(ino, &reply, std::exchange(is_placed, false), now);
  }
  std::size_t under_way() const { return owner.requests.size(); }
  FakeOwner::Request take(std::size_t which = 0) {
    REQUIRE(which < owner.requests.size());
    auto place = owner.requests.begin() + static_cast<std::ptrdiff_t>(which);
    FakeOwner::Request request = std::move(*place);
    owner.requests.erase(place);
    return request;
  }
  void answer(std::size_t which = 0, bool may_delay = true) {
    FakeOwner::Request request = take(which);
    WriteBack::Sent sent{.reply = owner.store(request.flush)};
    if (request.flush.attributes && owner.sets_with_writes) sent.reply.set_at = owner.ctime;
    sent.reply.may_delay = may_delay;
    back.sent(request.number, std::move(request.flush), std::move(sent), now);
  }
  void answer_all() {
    while (under_way() > 0) answer();
  }
  void refuse(Code code, std::size_t which = 0) {
    FakeOwner::Request request = take(which);
    back.sent(request.number, std::move(request.flush), {.error = {code, {}}}, now);
  }
  void lose_session() {
    back.session_lost(now);
    while (under_way() > 0) refuse(Code::fenced);
  }
  void verified(Ino ino = kFile) {
    const wire::Attr attr = owner.attr(ino);
    back.verified(ino, &attr, now);
  }
  wire::Attr amended(Ino ino = kFile) {
    wire::Attr attr = owner.attr(ino);
    back.amend(attr);
    return attr;
  }
  // Attributes, delayed or not.
  std::optional<wire::Attr> set(wire::SetattrRequest change, Ino ino = kFile) {
    change.ino = ino;
    return back.set({change, 0, 0}, now);
  }
  std::optional<wire::Attr> set_mode(std::uint32_t mode) {
    wire::SetattrRequest change = set_fields(wire::kSetMode);
    change.mode = mode;
    return set(change);
  }
  // The one that is under way ends so.
  void set_done(Result<wire::Attr> result) {
    REQUIRE(owner.sets.size() == 1);
    const auto number = owner.sets.front().number;
    owner.sets.clear();
    back.attributes_sent(number, kFile, std::move(result), now);
  }
  std::string_view content(Ino ino = kFile) { return owner.files[ino].content; }
};

inline bool is_believed(const wire::Attr& attr) { return attr.believed_until != Instant{}; }

}  // namespace magma::test::write_back
