// Reading, writing, copying and syncing the content of files: finds out where it is, cuts requests
// at chunk borders, follows content that has moved to its chunks or was truncated, and sends fsync
// to every slot that was written. Used by ClientImpl. One thread.
//
// An operation is a small object with up to two parts (read), one part at a time (write: in order,
// so that what is on the volcano is always a beginning of what was asked; copy: likewise) or one
// per slot (fsync). A part is a request of Requests. An answer that tells another placement makes
// the operation begin its open parts again, at most kMovesMax times in a row.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <variant>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/client/client.h"
#include "libmagma/client/file_table.h"
#include "libmagma/client/requests.h"
#include "libmagma/client/slab.h"

namespace magma::client {

inline constexpr unsigned kMovesMax = 8;
inline constexpr std::size_t kOperationsMax = 65536;
inline constexpr std::uint32_t kCopyBytesMax = 1u << 30;  // of one call
inline constexpr std::uint64_t kPageBytes = 4096;
inline constexpr CallId kOperationBit = 1ull << 63;  // in a CallId: an operation, not a request

// CRC32C of each whole page, aligned in the file, that `bytes` at `offset` cover.
std::vector<std::uint32_t> page_sums_of(std::uint64_t offset, ByteSpan bytes);
// The same of several pieces, whose bytes follow one after the other.
std::vector<std::uint32_t> page_sums_of(const std::vector<wire::Extent>& extents, ByteSpan bytes);

class ContentIo {
 public:
  struct Config {
    std::size_t write_bytes_in_flight_max = 0;
    bool fail_when_away = false;
    Duration stall;
  };
  ContentIo(Config config, Requests& requests, FileTable& files, KeySource& keys,
            sys::Clock& clock);

  // From the ring's answer to attach.
  void set_small_file_bytes_max(std::uint64_t bytes) { small_file_bytes_max_ = bytes; }
  std::uint64_t small_file_bytes_max() const { return small_file_bytes_max_; }

  CallId read(Ino ino, std::uint64_t offset, std::uint32_t length, Credentials who,
              Done<Bytes> done);
  CallId write(Ino ino, std::uint64_t offset, Bytes bytes, bool append, bool kill_suidgid,
               Credentials who, Done<wire::WriteReply> done);
  // Writes pieces that rise and lie in one chunk, at most wire::kExtentsMax and 1 MiB in all. The
  // bytes come back with the answer. `attributes` are set as well, if the answer says so (set_at).
  struct Pieces {
    Ino ino{};
    std::vector<wire::Extent> extents{};
    Bytes bytes{};
    bool kill_suidgid = false;
    std::optional<wire::SetattrRequest> attributes{};
  };
  using PiecesDone = UniqueFunction<void(Result<wire::WriteReply>, Bytes)>;
  CallId write_pieces(Pieces pieces, Credentials who, PiecesDone done);
  CallId fsync(Ino ino, Credentials who, Done<wire::EmptyReply> done);
  CallId copy(Ino from, std::uint64_t from_offset, Ino to, std::uint64_t to_offset,
              std::uint64_t length, bool kill_suidgid, Credentials who,
              Done<std::uint64_t> done);
  void cancel(CallId call);

  Instant deadline() const;
  void on_timer();
  std::size_t under_way() const { return slab_.size(); }
  std::uint64_t moved() const { return moved_; }
  std::size_t write_bytes_in_flight() const { return bytes_in_flight_; }

 private:
  using Id = std::uint64_t;
  using Done3 = std::variant<std::monostate, Done<Bytes>, Done<wire::WriteReply>,
                             Done<wire::EmptyReply>, Done<std::uint64_t>, PiecesDone>;
  struct Operation {
    enum class Kind : std::uint8_t { none, read, write, fsync, copy };
    Kind kind = Kind::none;
    bool append = false;
    bool kill_suidgid = false;
    bool has_asked_attr = false;   // once is enough
    bool is_waiting = false;       // a write beyond the bytes in flight
    bool is_moved = false;         // some part was told another placement
    bool is_behind = false;        // or that it knows an old one
    bool wants_chunk = false;      // a write: the chunk is to be made first
    bool copies_itself = false;    // a copy: the volcanoes cannot
    bool is_bound = false;         // to the session (Requests)
    std::uint32_t moves = 0;       // in a row
    std::uint32_t pending = 0;     // parts under way
    std::uint32_t length = 0;
    std::uint32_t position = 0;    // write: bytes acknowledged; read: start of part 1 in `bytes`
    std::uint32_t part_length = 0; // write: of the part under way
    Ino ino;
    Ino source;                    // copy
    std::uint64_t source_offset = 0;
    std::uint64_t offset = 0;
    std::uint64_t truncate_number = 0;  // write: that the part was sent under
    std::uint64_t stamp = 0;       // fsync: of the file when it began
    Credentials who;
    Instant since{};
    Error error{};                 // the first part's that failed; code 0: none
    Bytes bytes;                   // write: the payload, read: the result
    std::vector<wire::Extent> extents;  // write: if it is of several pieces
    std::optional<wire::SetattrRequest> attributes;  // write: to be set by it
    std::vector<Token> requests;   // of the parts
    Done3 done;

    // Write: what the part under way covers of the file, with what is between its pieces.
    std::uint32_t span() const {
      if (extents.empty()) return part_length;
      return static_cast<std::uint32_t>(extents.back().offset + extents.back().length - offset);
    }
    void reset();
  };

  Id admit(Operation::Kind kind, Ino ino, Credentials who, Done3& done);
  Operation* find(Id id) { return slab_.find(id); }
  void finish(Id id, Error error, const wire::WriteReply* written);
  // Begins a part; `request` must call part_done or so exactly once.
  template <class Message>
  void begin_part(Id id, ring::Slot slot, const Message& message, RawDone done, Bytes tail = {});
  // Whether the operation waits for more parts or was restarted or ended.
  bool is_settled(Id id, Operation& op);
  void note_failure(Operation& op, Answer& answer);
  void ask_attr(Id id);
  void step(Id id);

  void step_read(Id id);
  void read_part(Id id, std::uint64_t offset, std::uint32_t length, std::uint32_t at,
                 const wire::Placement* placement);
  void on_read(Id id, std::uint32_t at, std::uint32_t length, Answer& answer);

  void start_or_queue(Id id);
  void pump_writes();
  void step_write(Id id);
  void on_written(Id id, Answer& answer);
  void reserve(Id id);
  void publish(Id id, std::uint64_t offset);
  void on_published(Id id, Answer& answer);
  void part_written(Id id, wire::WriteReply written);

  void step_copy(Id id);
  void on_copied(Id id, Answer& answer);
  void copy_piece(Id id);
  void piece_copied(Id id, Result<std::uint32_t> copied);

  void step_fsync(Id id);
  void fsync_part(Id id, ring::Slot slot, std::vector<std::uint32_t> chunks);
  void on_synced(Id id, Answer& answer);

  Config config_;
  Requests& requests_;
  FileTable& files_;
  KeySource& keys_;
  sys::Clock& clock_;
  std::uint64_t small_file_bytes_max_ = 0;
  Slab<Operation> slab_;
  std::deque<Id> waiting_writes_;
  std::size_t bytes_in_flight_ = 0;
  bool is_pumping_ = false;
  std::uint64_t moved_ = 0;
};

}  // namespace magma::client
