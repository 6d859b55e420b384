// What a slot is asked for by another one, perhaps of another volcano: it tells what it knows, or
// brings what it has to stable storage. A question changes nothing, so it may be asked again.
#pragma once

#include <cstdint>
#include <string>

#include "libmagma/base/result.h"
#include "libmagma/base/strong.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/ring/key.h"

namespace magma {
class Shard;
}

namespace magma::ops {

// The numbers share a field of SlotMessage with PartKind.
enum class Question : std::uint8_t {
  entry = 64,        // AskEntry -> EntryRow, or not_found
  parent = 65,       // AskInode, of a directory -> AskInode of the one above, or not_found
  sync_file = 66,    // AskInode: a file's content, wherever it is, and this volcano's rows
  sync_chunks = 67,  // AskContent, of the size authority: all chunks, and this volcano's rows
  sync_chunk = 68,   // AskContent: one chunk, and this volcano's rows
  seek = 69,         // AskSeek, of the size authority -> SeekReply
};

struct AskEntry {
  Ino dir;
  std::string name;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("dir", s.dir);
    v("name", s.name);
  }
};

struct AskInode {
  Ino ino;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
  }
};

struct AskContent {
  Ino ino;
  ring::Key key;  // of the file
  std::uint32_t chunk = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("key", s.key);
    v("chunk", s.chunk);
  }
};

struct AskSeek {
  Ino ino;
  ring::Key key;
  std::uint64_t offset = 0;
  bool data = false;  // else a hole
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("key", s.key);
    v("offset", s.offset);
    v("data", s.data);
  }
};

// What was told, or done; the mirrors' sync of that number (Shard::sync_mirrors) is part of it.
struct Told {
  Result<Bytes> bytes;
  std::uint64_t sync = 0;
};

// Answers for the slot of the step under way; `done` may be called later.
void answer_question(Shard& shard, Question question, ByteSpan body,
                     UniqueFunction<void(Told)> done);

// Brings the content of a file to stable storage, wherever it is, for the slot of the step under
// way. What is of this volcano is synced without its rows; of others with theirs.
void sync_contents(Shard& shard, Ino ino, UniqueFunction<void(Result<void>)> done);

// Whether `ino` is `dir` or above it, which other volcanoes may have to be asked for. Requires: no
// directory is being moved meanwhile. What cannot be told counts as above.
void is_above(Shard& shard, Ino ino, Ino dir, UniqueFunction<void(bool)> done);

// The same as far as this volcano knows: false if another would have to be asked.
bool is_above_here(Shard& shard, Ino ino, Ino dir);

}  // namespace magma::ops
