// A shard without network: requests go in, answers come out, storage is simulated. For tests of
// magmad/shard and magmad/ops.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <doctest/doctest.h>

#include "libmagma/crypto/path_hash.h"
#include "libmagma/wire/codec.h"
#include "libmagma/wire/flare_messages.h"
#include "magmad/shard.h"
#include "magmad/store/storage_dir.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/sim_executor.h"
#include "tests/lib/store_fixture.h"

namespace magma::test {

class ShardBench {
 public:
  static constexpr SessionId kSession{77};

  explicit ShardBench(std::uint64_t small_files = 65536) : small_files_(small_files) {
    start(true);
    attach();
  }
  ~ShardBench() { stop(); }  // the shard before its stores

  // ---- the life of the volcano
  void start(bool create) {
    executor_ = std::make_unique<SimExecutor>();
    auto metadata = store::MetadataStore::open(disk, *executor_, create);
    REQUIRE(metadata);
    metadata_ = std::move(*metadata);
    auto content = store::ContentStore::open(disk, *executor_, *metadata_);
    REQUIRE(content);
    content_ = std::move(*content);
    shard = std::make_unique<Shard>(ShardConfig{"wallace", "127.0.0.1:12000", small_files_}, clock_,
                                    disk, *metadata_, *content_);
    if (create) REQUIRE(shard->format());
    auto begun = shard->begin(false);
    REQUIRE_MESSAGE(begun, (begun ? std::string() : describe(begun.error())));
    settle();
  }
  void stop() {
    executor_->drop();
    shard.reset();
    content_.reset();
    metadata_.reset();
  }
  void kill() {
    disk.kill();
    stop();
    start(false);
  }
  void power_cut(std::uint64_t seed) {
    SeedRandom random(seed);
    disk.power_cut(random);
    stop();
    start(false);
  }
  void attach() {
    answers_.clear();
    send(wire::AttachRequest{kSession, !attached_, "test"}, ring::Slot(0));
    settle();
    REQUIRE(take().ok);
    attached_ = true;
  }

  // ---- requests
  template <class Message>
  std::uint64_t send(const Message& message, ring::Slot slot, ByteSpan payload = {}) {
    auto request = std::make_unique<Request>();
    wire::RequestHead& head = request->head;
    head.op = static_cast<std::uint16_t>(wire::OpOf<Message>::op);
    head.slot = slot;
    head.epoch = shard->epoch_of(slot);
    head.session = kSession;
    if (wire::kind_of(wire::OpOf<Message>::op) == wire::OpKind::change) {
      head.lane = lane;
      head.sequence = repeat ? sequence : ++sequence;
    }
    request->target = {1, ++sent_};
    wire::encode_to(request->kept, message);
    request->kept.insert(request->kept.end(), payload.begin(), payload.end());
    request->body = request->kept;
    shard->handle(std::move(request));
    return sent_;
  }
  // Runs everything until nothing is left to do.
  void settle() {
    UniqueFunction<void(Answer)> collect = [this](Answer answer) {
      answers_.push_back(std::move(answer));
    };
    for (int i = 0; i < 10000; ++i) {
      shard->flush(collect);
      if (!executor_->run_one() && !shard->has_work()) return;
    }
    FAIL("the shard does not come to rest");
  }
  void pass(Duration time) {
    clock_.now_ns += time.ns;
    shard->on_timer();
    settle();
  }
  Answer take() {
    REQUIRE(!answers_.empty());
    Answer answer = std::move(answers_.back());
    answers_.pop_back();
    return answer;
  }
  // Sends, settles, and gives the answer; the error's code otherwise.
  template <class Message>
  Result<typename wire::OpOf<Message>::Reply> ask(const Message& message, ring::Slot slot,
                                                  ByteSpan payload = {}) {
    answers_.clear();
    send(message, slot, payload);
    settle();
    for (int i = 0; i < 20 && answers_.empty(); ++i) pass(milliseconds(5));  // retry_later
    last = take();
    if (!last.ok) return fail(last.code);
    auto reply = wire::decode<typename wire::OpOf<Message>::Reply>(last.body);
    REQUIRE(reply);
    return *reply;
  }

  // ---- operations, by inode
  Result<wire::EntryReply> mkdir(Ino dir, const std::string& name, const std::string& path) {
    return ask(wire::MkdirRequest{dir, name, 0755, 0, crypto::key_of_path(path)},
               ring::home_of(dir));
  }
  Result<wire::EntryReply> create(Ino dir, const std::string& name) {
    return ask(wire::CreateRequest{dir, name, 0644, 0, true, true}, ring::home_of(dir));
  }
  Result<wire::EntryReply> lookup(Ino dir, const std::string& name) {
    return ask(wire::LookupRequest{dir, name}, ring::home_of(dir));
  }
  Result<wire::Attr> getattr(Ino ino) {
    auto reply = ask(wire::GetattrRequest{ino}, ring::home_of(ino));
    if (!reply) return fail(reply.error());
    return reply->attr;
  }
  Result<wire::EmptyReply> rename(Ino from, const std::string& a, Ino to, const std::string& b,
                                  std::uint32_t flags = 0) {
    return ask(wire::RenameRequest{from, a, to, b, flags}, ring::home_of(to));
  }
  Result<wire::EmptyReply> unlink(Ino dir, const std::string& name) {
    return ask(wire::UnlinkRequest{dir, name}, ring::home_of(dir));
  }
  Result<wire::EmptyReply> rmdir(Ino dir, const std::string& name) {
    return ask(wire::RmdirRequest{dir, name}, ring::home_of(dir));
  }
  Result<wire::ReleaseReply> release(Ino ino) {
    return ask(wire::ReleaseRequest{ino, true}, ring::home_of(ino));
  }
  // Writes as a client does: at home, then at the chunks the answer tells of.
  Code write(Ino ino, std::uint64_t offset, const std::string& bytes) {
    return write(ino, offset, bytes, crypto::key_of_path("/spilled/" + std::to_string(ino.value)));
  }
  Code write(Ino ino, std::uint64_t offset, const std::string& bytes, const ring::Key& spill_key) {
    wire::WriteRequest message;
    message.ino = ino;
    message.offset = offset;
    message.key_for_chunks = spill_key;
    for (int tries = 0; tries < 4; ++tries) {
      ring::Slot slot = ring::home_of(ino);
      if (message.key) {
        auto chunk = static_cast<std::uint32_t>(offset / store::kChunkBytes);
        slot = crypto::key_of_chunk(*message.key, chunk).slot();
      }
      auto reply = ask(message, slot, as_bytes(bytes));
      if (reply) return Code{};
      if (last.code != Code::moved_to_chunks) return last.code;
      auto moved = wire::decode<wire::MovedReply>(last.body);
      REQUIRE(moved);
      message.key = moved->placement.key;
      message.mark = moved->placement.mark;
      message.truncate_number = moved->placement.truncate_number;
    }
    return Code::moved_to_chunks;
  }
  Result<std::string> read(Ino ino, std::uint64_t offset, std::uint32_t length) {
    auto attr = getattr(ino);
    if (!attr) return fail(attr.error());
    wire::ReadRequest message;
    message.ino = ino;
    message.offset = offset;
    message.length = length;
    ring::Slot slot = ring::home_of(ino);
    if (attr->placement.in_chunks) {
      message.key = attr->placement.key;
      message.truncate_number = attr->placement.truncate_number;
      slot = crypto::key_of_chunk(*message.key,
                                  static_cast<std::uint32_t>(offset / store::kChunkBytes))
                 .slot();
    }
    auto reply = ask(message, slot);
    if (!reply) return fail(reply.error());
    std::string bytes(as_text(last.payload));
    std::uint64_t there = attr->size > offset ? attr->size - offset : 0;
    bytes.resize(std::min<std::uint64_t>(length, there));
    return bytes;
  }
  Result<wire::Attr> truncate(Ino ino, std::uint64_t size) {
    wire::SetattrRequest message;
    message.ino = ino;
    message.fields_set = wire::kSetSize;
    message.size = size;
    message.key_for_chunks = crypto::key_of_path("/spilled/" + std::to_string(ino.value));
    auto reply = ask(message, ring::home_of(ino));
    if (!reply) return fail(reply.error());
    return reply->attr;
  }
  std::vector<std::string> names(Ino dir) {
    auto reply = ask(wire::ReaddirRequest{dir, 0, 65536, true}, ring::home_of(dir));
    std::vector<std::string> list;
    REQUIRE(reply);
    for (const auto& entry : reply->entries) {
      CHECK(entry.attr);
      list.push_back(entry.name);
    }
    std::sort(list.begin(), list.end());
    return list;
  }
  std::size_t rows(store::Table table) {
    std::size_t count = 0;
    for (unsigned database = 0; database < store::kDatabases; ++database)
      REQUIRE(metadata_->scan_database(database, table, [&](const auto&) {
        ++count;
        return true;
      }));
    return count;
  }
  // Long enough for operations to settle and be forgotten.
  void rest() {
    for (int i = 0; i < 8; ++i) pass(milliseconds(1100));
  }

  Ino root() const { return Shard::root(); }
  sys::Clock& clock() { return clock_; }
  void skip(Duration time) { clock_.now_ns += time.ns; }
  store::MetadataStore& metadata() { return *metadata_; }
  store::ContentStore& content() { return *content_; }
  SimExecutor& executor() { return *executor_; }

  SimDisk disk;
  std::unique_ptr<Shard> shard;
  Answer last;
  std::uint16_t lane = 0;
  std::uint32_t sequence = 0;
  bool repeat = false;  // the next request repeats the last sequence

 private:
  struct BenchClock final : sys::Clock {
    std::int64_t now_ns = 1'000'000'000'000;
    Instant now() override { return Instant{now_ns}; }
    WallTime wall_now() override { return WallTime{1'700'000'000'000'000'000 + now_ns}; }
  };

  std::uint64_t small_files_;
  bool attached_ = false;
  BenchClock clock_;
  std::unique_ptr<SimExecutor> executor_;
  std::unique_ptr<store::MetadataStore> metadata_;
  std::unique_ptr<store::ContentStore> content_;
  std::vector<Answer> answers_;
  std::uint64_t sent_ = 0;
};

}  // namespace magma::test
