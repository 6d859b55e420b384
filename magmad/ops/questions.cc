#include "magmad/ops/questions.h"

#include <sys/stat.h>

#include <memory>

#include "libmagma/crypto/path_hash.h"
#include "magmad/ops/authority.h"
#include "magmad/ops/content.h"
#include "magmad/ops/operations.h"
#include "magmad/shard.h"

namespace magma::ops {

namespace {

constexpr unsigned kDepthMax = 4096;

using Synced = UniqueFunction<void(Result<void>)>;

// Several syncs under way at once: `then` gets the first error, when the last has ended.
struct Gather {
  Gather(Synced next) : then(std::move(next)) {}
  std::size_t left = 1;  // whoever adds them
  std::optional<Error> error;
  Synced then;
};
using GatherPtr = std::shared_ptr<Gather>;

void ended(const GatherPtr& gather, Result<void> synced) {
  if (!synced && !gather->error) gather->error = std::move(synced.error());
  if (--gather->left > 0) return;
  auto then = std::move(gather->then);
  then(gather->error ? Result<void>(fail(*gather->error)) : Result<void>());
}

void sync_here(Shard& shard, const GatherPtr& gather, const store::ContentId& id) {
  ++gather->left;
  shard.content().sync(id, [gather](Result<void> synced) { ended(gather, std::move(synced)); });
}

void sync_there(Shard& shard, const GatherPtr& gather, ring::Slot from, ring::Slot to,
                Question question, Bytes body) {
  ++gather->left;
  shard.operations().ask(from, to, question, std::move(body), nullptr,
                         [gather](Result<Bytes> told, RequestPtr) {
                           ended(gather, told ? Result<void>() : fail(told.error()));
                         });
}

void sync_chunks(Shard& shard, const GatherPtr& gather, Ino ino, const ring::Key& key) {
  auto authority = authority_of(shard, ino, key);
  if (!authority) return;
  for (std::uint32_t chunk : chunks_from(authority->chunks, 0)) {
    const ring::Slot slot = crypto::key_of_chunk(key, chunk).slot();
    if (shard.is_near(slot))
      sync_here(shard, gather, {slot, ino, chunk});
    else
      sync_there(shard, gather, key.slot(), slot, Question::sync_chunk,
                 wire::encode(AskContent{ino, key, chunk}));
  }
}

void sync_file(Shard& shard, const GatherPtr& gather, Ino ino) {
  auto row = shard.inode(ino);
  if (!row || !S_ISREG(row->mode)) return;
  const ring::Slot home = ring::home_of(ino);
  if (row->place == store::ContentPlace::home_file) sync_here(shard, gather, {home, ino, 0});
  if (row->place != store::ContentPlace::chunks || !row->key) return;
  if (shard.is_near(row->key->slot()))
    sync_chunks(shard, gather, ino, *row->key);
  else
    sync_there(shard, gather, home, row->key->slot(), Question::sync_chunks,
               wire::encode(AskContent{ino, *row->key, 0}));
}

// Then the rows, here and on the mirrors.
GatherPtr before_rows(Shard& shard, UniqueFunction<void(Told)> done) {
  const std::uint64_t mirrors = shard.sync_mirrors();
  auto told = std::make_shared<UniqueFunction<void(Told)>>(std::move(done));
  auto sync_rows = [&shard, told, mirrors](Result<void> synced) {
    if (!synced) return (*told)({fail(synced.error())});
    shard.metadata().sync_all(shard.as_step<void>([told, mirrors](Result<void> rows) {
      if (!rows) return (*told)({fail(rows.error())});
      (*told)({Bytes{}, mirrors});
    }));
  };
  return std::make_shared<Gather>(shard.as_step<void>(std::move(sync_rows)));
}

template <class T>
std::optional<T> body_of(ByteSpan raw, UniqueFunction<void(Told)>& done) {
  auto body = wire::decode<T>(raw);
  if (body) return std::move(*body);
  done({fail(Code::malformed)});
  return std::nullopt;
}

}  // namespace

void sync_contents(Shard& shard, Ino ino, Synced done) {
  auto gather = std::make_shared<Gather>(shard.as_step<void>(std::move(done)));
  const ring::Slot home = ring::home_of(ino);
  if (shard.is_near(home))
    sync_file(shard, gather, ino);
  else
    sync_there(shard, gather, shard.step_slot(), home, Question::sync_file,
               wire::encode(AskInode{ino}));
  ended(gather, {});
}

void answer_question(Shard& shard, Question question, ByteSpan raw,
                     UniqueFunction<void(Told)> done) {
  switch (question) {
    case Question::entry: {
      auto body = body_of<AskEntry>(raw, done);
      if (!body) return;
      auto entry = shard.get<store::EntryRow>(Shard::entry_key(body->dir, body->name));
      return done({entry ? Result<Bytes>(wire::encode(*entry)) : fail(Code::not_found)});
    }
    case Question::parent: {
      auto body = body_of<AskInode>(raw, done);
      if (!body) return;
      auto row = shard.inode(body->ino);
      return done({row ? Result<Bytes>(wire::encode(AskInode{row->parent}))
                       : fail(Code::not_found)});
    }
    case Question::sync_file: {
      auto body = body_of<AskInode>(raw, done);
      if (!body) return;
      GatherPtr gather = before_rows(shard, std::move(done));
      sync_file(shard, gather, body->ino);
      return ended(gather, {});
    }
    case Question::sync_chunks:
    case Question::sync_chunk: {
      auto body = body_of<AskContent>(raw, done);
      if (!body) return;
      GatherPtr gather = before_rows(shard, std::move(done));
      if (question == Question::sync_chunks)
        sync_chunks(shard, gather, body->ino, body->key);
      else
        sync_here(shard, gather,
                  {crypto::key_of_chunk(body->key, body->chunk).slot(), body->ino, body->chunk});
      return ended(gather, {});
    }
    case Question::seek: {
      auto body = body_of<AskSeek>(raw, done);
      if (!body) return;
      auto found = seek_content(shard, body->ino, body->key, body->offset, body->data);
      return done({found ? Result<Bytes>(wire::encode(wire::SeekReply{*found}))
                         : fail(found.error())});
    }
  }
  done({fail(Code::malformed)});
}

namespace {

// A walk to the root, one directory at a time.
struct Walk : std::enable_shared_from_this<Walk> {
  Walk(Shard& s, Ino wanted, Ino from, UniqueFunction<void(bool)> next)
      : shard(s), ino(wanted), current(from), done(std::move(next)) {}

  Shard& shard;
  Ino ino, current;
  unsigned depth = 0;
  UniqueFunction<void(bool)> done;

  void go_on() {
    while (depth++ < kDepthMax) {
      if (current == ino) return done(true);
      if (current == Shard::root()) return done(false);
      if (!shard.is_near(ring::home_of(current))) return ask();
      auto row = shard.inode(current);
      if (!row || row->parent == current) return done(false);
      current = row->parent;
    }
    done(true);  // too deep to tell: refused
  }

  void ask() {
    shard.operations().ask(shard.step_slot(), ring::home_of(current), Question::parent,
                           wire::encode(AskInode{current}), nullptr,
                           [self = shared_from_this()](Result<Bytes> told, RequestPtr) {
                             auto above = told ? wire::decode<AskInode>(*told)
                                               : fail(told.error());
                             if (!above || above->ino == self->current) return self->done(false);
                             self->current = above->ino;
                             self->go_on();
                           });
  }
};

}  // namespace

bool is_above_here(Shard& shard, Ino ino, Ino dir) {
  Ino current = dir;
  for (unsigned depth = 0; depth < kDepthMax; ++depth) {
    if (current == ino) return true;
    if (current == Shard::root() || !shard.is_near(ring::home_of(current))) return false;
    auto row = shard.inode(current);
    if (!row || row->parent == current) return false;
    current = row->parent;
  }
  return true;  // too deep to tell: refused
}

void is_above(Shard& shard, Ino ino, Ino dir, UniqueFunction<void(bool)> done) {
  std::make_shared<Walk>(shard, ino, dir, std::move(done))->go_on();
}

}  // namespace magma::ops
