// For the tests of magmad/replication: a primary and a mirror on simulated storage, without a
// network. MirrorRig gives its Mirror messages as a primary would and collects the answers;
// PrimaryRig writes down in the oplog what it changes, as the shard does.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "magmad/replication/catch_up.h"
#include "magmad/replication/mirrors.h"
#include "tests/lib/content_rig.h"
#include "tests/lib/sim_clock.h"

namespace magma::test {

using replication::CatchUp;
using replication::Piece;
using wire::MirrorChange;
using wire::MirrorChangeKind;
using wire::MirrorMark;
using wire::MirrorPosition;
using wire::MirrorRow;

inline store::RowKey name_row(unsigned slot, std::uint64_t counter, std::string name) {
  return {Table::entry, ino_at(slot, counter).value, 7, std::move(name)};
}
inline MirrorRow row_of(const store::RowKey& key, std::string_view image,
                        Version version = kVersion) {
  std::vector<MirrorRow> rows;
  const ByteSpan bytes = as_bytes(image);
  replication::add_row(rows, key, store::Row{version, Bytes(bytes.begin(), bytes.end())});
  return rows.front();
}
inline MirrorRow erased(const store::RowKey& key) {
  std::vector<MirrorRow> rows;
  replication::add_row(rows, key, std::nullopt);
  return rows.front();
}
inline MirrorRow length_row(const ContentId& id, std::uint64_t length) {
  const Bytes image = wire::encode(ChunkRow{length, 0});
  return row_of(id.row(Table::chunk), as_text(image));
}
inline MirrorChange change_of(MirrorChangeKind kind, const ContentId& id, std::uint64_t offset,
                              std::uint64_t length) {
  return {kind, replication::range_of(id, offset, length)};
}

// All rows that primary and mirror have in common, as text; versions included.
using Rows = std::map<std::tuple<unsigned, std::uint64_t, std::uint64_t, std::string>, std::string>;
inline Rows mirrored_rows(MetadataStore& metadata) {
  Rows rows;
  for (unsigned number = 1; number <= store::kTableLast; ++number) {
    if (!replication::is_mirrored(static_cast<Table>(number))) continue;
    for (unsigned database = 0; database < store::kDatabases; ++database)
      REQUIRE(metadata.scan_database(database, static_cast<Table>(number), [&](const auto& row) {
        rows[{number, row.a, row.b, std::string(row.c)}] =
            std::to_string(row.version.epoch.value) + "." + std::to_string(row.version.seq.value) +
            ":" + to_hex(row.image);
        return true;
      }));
  }
  return rows;
}
// The checksums of all contents: equal bytes, equal rows.
inline Rows sums_rows(MetadataStore& metadata) {
  Rows rows;
  for (unsigned database = 0; database < store::kDatabases; ++database)
    REQUIRE(metadata.scan_database(database, Table::page_sums, [&](const auto& row) {
      rows[{0, row.a, row.b, std::string(row.c)}] = to_hex(row.image);
      return true;
    }));
  return rows;
}
inline std::vector<ContentId> contents_of(MetadataStore& metadata) {
  std::vector<ContentId> ids;
  for (unsigned database = 0; database < store::kDatabases; ++database)
    REQUIRE(metadata.scan_database(database, Table::chunk, [&](const auto& row) {
      ids.push_back({ring::Slot(static_cast<std::uint16_t>(row.a >> ring::kCounterBits)),
                     Ino(row.b), static_cast<std::uint32_t>(row.a & ring::kCounterMask)});
      return true;
    }));
  return ids;
}
inline std::size_t oplog_rows(MetadataStore& metadata, unsigned database) {
  std::size_t count = 0;
  REQUIRE(metadata.scan_oplog(database, 0, [&](const auto&) { return ++count, true; }));
  return count;
}

struct MirrorRig : ContentRig {
  SimClock clock;
  std::map<std::uint64_t, Answer> answers;  // by number of the request
  UniqueFunction<void(Answer)> sink = [this](Answer answer) {
    CHECK(!answers.contains(answer.target.request));
    answers[answer.target.request] = std::move(answer);
  };
  std::unique_ptr<replication::Mirrors> mirror;
  std::uint64_t run = 0, number = 0, sent = 0;
  std::uint64_t number_of_stream = 0;

  explicit MirrorRig(store::MetadataOptions with = {}) : ContentRig(with) { start(true, false); }
  void start(bool clean, bool lost_power) {
    mirror = std::make_unique<replication::Mirrors>(clock, *metadata, *content, sink);
    auto begun = mirror->begin(clean, lost_power);
    if (begun) begun = mirror->recover(clean);
    REQUIRE_MESSAGE(begun, (begun ? std::string() : describe(begun.error())));
  }
  void reopen(bool clean, bool lost_power) {
    if (!clean) disk.kill();
    mirror.reset();
    close();
    open(false);
    start(clean, lost_power);
  }
  void stop_cleanly() {
    REQUIRE(content->sync_now());
    REQUIRE(metadata->close_clean());
    reopen(true, false);
  }
  void lose_power(std::uint64_t seed) {
    SeedRandom random(seed);
    disk.power_cut(random);
    reopen(false, true);
  }

  std::uint64_t send_bytes(wire::FlareOp op, Bytes body) {
    auto request = std::make_unique<Request>();
    request->head.op = static_cast<std::uint16_t>(op);
    request->target = {1, ++sent};
    request->kept = std::move(body);
    request->body = request->kept;
    mirror->handle(std::move(request));
    mirror->pump();
    return sent;
  }
  // The stream of the last hello.
  replication::Mirror& stream() { return *mirror->streams().at(number_of_stream); }
  // Until nothing is left to do.
  void run_all() {
    do {
      executor.run_all();
      mirror->pump();
    } while (mirror->has_work() || executor.pending() > 0);
  }
  // With that number; nothing is waited for.
  template <class Message>
  std::uint64_t send_as(std::uint64_t as, Message message, ByteSpan bytes = {}) {
    message.head = {run, as};
    Bytes body = wire::encode(message);
    body.insert(body.end(), bytes.begin(), bytes.end());
    return send_bytes(wire::OpOf<Message>::op, std::move(body));
  }
  template <class Message>
  std::uint64_t send(const Message& message, ByteSpan bytes = {}) {
    return send_as(++number, message, bytes);
  }
  // The answer: 0 if it went well, all ones if none has come.
  static constexpr Code kNoAnswer = static_cast<Code>(0xffff);
  Code code_of(std::uint64_t request) {
    auto found = answers.find(request);
    if (found == answers.end()) return kNoAnswer;
    return found->second.ok ? Code{} : found->second.code;
  }
  template <class Message>
  Code ask(const Message& message, ByteSpan bytes = {}) {
    const std::uint64_t request = send(message, bytes);
    run_all();
    return code_of(request);
  }
  wire::MirrorHelloReply hello(std::uint64_t primary = 1,
                               const ring::SlotMask& slots = ring::all_slots()) {
    ++run;
    number = 0;
    number_of_stream = store::stream_number(primary, 0);
    const std::uint64_t request =
        send_as(0, wire::MirrorHelloRequest{{}, primary, {}, 0, ring::runs_of(slots)});
    REQUIRE(code_of(request) == Code{});
    auto reply = wire::decode<wire::MirrorHelloReply>(answers[request].body);
    REQUIRE(reply);
    return *reply;
  }
  static bool is_whole(const wire::MirrorHelloReply& reply) {
    return ring::set_of(reply.known).all();
  }
  // Parts of a batch are answered with its last.
  Code pass(Piece& piece) {
    const auto* batch = std::get_if<wire::MirrorBatchRequest>(&piece.message);
    const bool is_part = batch != nullptr && !batch->is_last;
    const Code code =
        std::visit([&](auto& message) { return ask(message, piece.bytes); }, piece.message);
    return is_part && code == kNoAnswer ? Code{} : code;
  }
  template <class Reply>
  Reply last_reply() {
    auto reply = wire::decode<Reply>(answers[sent].body);
    REQUIRE(reply);
    return *reply;
  }
  Code mark(MirrorMark how, MirrorPosition position) {
    wire::MirrorBatchRequest message;
    message.mark = how;
    message.position = position;
    return ask(message);
  }
  store::MirrorStreamRow state() {
    auto row = metadata->get({Table::mirror, 0, number_of_stream, {}});
    REQUIRE(row);
    REQUIRE(row->has_value());
    auto state = wire::decode<store::MirrorStreamRow>((*row)->image);
    REQUIRE(state);
    return *state;
  }
  std::string image(const store::RowKey& key) {
    auto row = metadata->get(key);
    REQUIRE(row);
    return *row ? std::string(as_text((*row)->image)) : "(none)";
  }
};

struct PrimaryRig : ContentRig {
  MirrorPosition position{1, 0};
  std::map<std::uint16_t, store::OplogBody> touched;
  std::vector<MirrorRow> rows;
  std::vector<replication::ContentChange> changes;

  explicit PrimaryRig(store::MetadataOptions with = {}) : ContentRig(with) { begin_stream(1); }
  // Rows of all slots that are used, in each database, as at a start.
  void begin_stream(std::uint64_t stream) {
    position = {stream, 0};
    for (unsigned slot = 0; slot < 8; ++slot)
      put({Table::slot, ring::with_counter(ring::Slot(static_cast<std::uint16_t>(slot)), 0), 0, {}},
          "slot " + std::to_string(slot) + " in " + std::to_string(stream));
    end_batch();
  }
  Version version() const {
    return {Epoch(static_cast<std::uint32_t>(position.stream)), Seq(position.batch + 1)};
  }
  void touch(const store::RowKey& key) { touched[key.slot().value].keys.push_back(key); }
  void touch(const ContentId& id, std::uint64_t offset, std::uint64_t length) {
    touched[id.slot.value].contents.push_back({id.ino, id.chunk, offset, length});
  }
  void put(const store::RowKey& key, std::string_view image) {
    REQUIRE(metadata->put(key, version(), as_bytes(image)));
    rows.push_back(row_of(key, image, version()));
    touch(key);
  }
  void drop(const store::RowKey& key) {
    REQUIRE(metadata->erase(key));
    rows.push_back(erased(key));
    touch(key);
  }
  void set_size(const ContentId& id, std::uint64_t length) {
    const Bytes image = wire::encode(ChunkRow{length, 0});
    put(id.row(Table::chunk), as_text(image));
  }
  void write_at(const ContentId& id, std::uint64_t offset, const Bytes& bytes) {
    REQUIRE(write(id, offset, bytes));
    set_size(id, length_of(id));
    changes.push_back({change_of(MirrorChangeKind::write, id, offset, bytes.size()), bytes});
    touch(id, offset, bytes.size());
  }
  void cut(const ContentId& id, std::uint64_t size) {
    REQUIRE(truncate(id, size));
    set_size(id, size);
    const std::uint64_t rest = replication::kToEnd - size;
    changes.push_back({change_of(MirrorChangeKind::truncate, id, size, rest), {}});
    touch(id, size, rest);
  }
  void forget(const ContentId& id) {
    REQUIRE(content->remove(id));
    drop(id.row(Table::chunk));
    changes.push_back({change_of(MirrorChangeKind::remove, id, 0, replication::kToEnd), {}});
    touch(id, 0, replication::kToEnd);
  }
  replication::Effects end_batch() {
    replication::Effects effects;
    for (auto& [slot, body] : std::exchange(touched, {})) {
      body.batch = position.batch + 1;
      const Bytes image = wire::encode(body);
      REQUIRE(metadata->append_oplog(ring::Slot(slot), version(), image));
      effects.log.push_back({ring::Slot(slot), version().epoch, version().seq, image});
    }
    REQUIRE(commit());
    executor.run_all();
    ++position.batch;
    effects.position = position;
    effects.rows = std::exchange(rows, {});
    effects.changes = std::exchange(changes, {});
    return effects;
  }
  // A batch of a row.
  void name(unsigned slot, const std::string& name, std::string_view image) {
    put(name_row(slot, 20, name), image);
    end_batch();
  }
};

inline std::size_t size_of(const Piece& piece) {
  const std::size_t head =
      std::visit([](const auto& message) { return wire::encode(message).size(); }, piece.message);
  return head + piece.bytes.size();
}

// The pieces of a catching up, passed to the mirror one after the other.
struct Course {
  PrimaryRig& primary;
  MirrorRig& mirror;
  std::unique_ptr<CatchUp> catch_up{};
  std::vector<Piece> pieces{};
  ring::SlotMask slots;
  std::uint64_t primary_number;

  Course(PrimaryRig& from, MirrorRig& to, const ring::SlotMask& of = ring::all_slots(),
         std::uint64_t number = 1)
      : primary(from), mirror(to), slots(of), primary_number(number) {
    begin();
  }
  void begin() {
    auto begun = CatchUp::begin(*primary.metadata, *primary.content, slots, primary.position,
                                mirror.hello(primary_number, slots));
    REQUIRE_MESSAGE(begun, (begun ? std::string() : describe(begun.error())));
    catch_up = std::move(*begun);
  }
  // False if there is none now.
  bool step() {
    auto piece = catch_up->next();
    REQUIRE_MESSAGE(piece, (piece ? std::string() : describe(piece.error())));
    if (!*piece) return false;
    CHECK(size_of(**piece) <= 1u << 20);
    REQUIRE(mirror.pass(**piece) == Code{});
    if (const auto* check = std::get_if<wire::MirrorCheckRequest>(&(*piece)->message))
      catch_up->checked(check->range, mirror.last_reply<wire::MirrorCheckReply>());
    pieces.push_back(std::move(**piece));
    return true;
  }
  void live(const replication::Effects& effects, MirrorMark how = MirrorMark::keep) {
    catch_up->changed(effects);
    for (Piece& piece : replication::pieces_of(effects, slots, how, catch_up.get()))
      REQUIRE(mirror.pass(piece) == Code{});
  }
  void finish() {
    while (!catch_up->is_done())
      if (!step()) REQUIRE((catch_up->is_done() || primary.executor.run_one()));
    REQUIRE(mirror.mark(MirrorMark::whole, primary.position) == Code{});
  }
  template <class Message>
  std::size_t count() const {
    std::size_t count = 0;
    for (const Piece& piece : pieces) count += std::holds_alternative<Message>(piece.message);
    return count;
  }
  // Of all batches among the pieces.
  std::vector<MirrorRow> rows() const {
    std::vector<MirrorRow> all;
    for (const Piece& piece : pieces)
      if (const auto* batch = std::get_if<wire::MirrorBatchRequest>(&piece.message))
        all.insert(all.end(), batch->rows.begin(), batch->rows.end());
    return all;
  }
  std::vector<MirrorChange> changes() const {
    std::vector<MirrorChange> all;
    for (const Piece& piece : pieces)
      if (const auto* batch = std::get_if<wire::MirrorBatchRequest>(&piece.message))
        all.insert(all.end(), batch->changes.begin(), batch->changes.end());
    return all;
  }
};

// The mirror has the rows and the bytes of the primary.
inline void check_equal(PrimaryRig& primary, MirrorRig& mirror) {
  CHECK(mirrored_rows(*primary.metadata) == mirrored_rows(*mirror.metadata));
  CHECK(sums_rows(*primary.metadata) == sums_rows(*mirror.metadata));
  for (const ContentId& id : contents_of(*primary.metadata)) {
    CAPTURE(id.ino.value);
    CHECK((read_cold(primary, id) == read_cold(mirror, id)));
  }
}

}  // namespace magma::test
