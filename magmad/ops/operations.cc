#include "magmad/ops/operations.h"

#include <algorithm>
#include <array>

#include "libmagma/base/check.h"
#include "libmagma/base/log.h"
#include "magmad/ops/questions.h"
#include "magmad/shard.h"

namespace magma::ops {

namespace {

enum class PartState : std::uint8_t { prepared = 1, done = 2 };

unsigned database_of(ring::Slot slot) { return slot.value % store::kDatabases; }

// The inode whose chunks a truncate's parts cut or drop; none if they say none.
Ino truncated_inode(const std::vector<PartSpec>& parts) {
  for (const PartSpec& part : parts) {
    if (part.kind == PartKind::cut_chunk)
      if (auto body = wire::decode<CutChunk>(part.body)) return body->ino;
    if (part.kind == PartKind::drop_chunk)
      if (auto body = wire::decode<DropChunk>(part.body)) return body->ino;
  }
  return Ino{};
}

store::RowKey intent_key(OpId op) { return {store::Table::intent, op.value, 0, {}}; }

}  // namespace

// ---- coordinator

OpId Operations::begin(ring::Slot coordinator, OperationKind kind, RequestPtr request) {
  OpId op(shard_.next_counter(coordinator));
  if (request) request->keep();
  Active& active = active_[op.value];
  active.kind = kind;
  active.session = request ? request->head.session : shard_.asker();
  active.request = std::move(request);
  ++shard_.counters().operations;
  return op;
}

void Operations::hold(OpId op, Ino ino, std::string_view name) {
  auto found = active_.find(op.value);
  MAGMA_CHECK(found != active_.end());
  shard_.lock(ino, name, op);
  found->second.locks.emplace_back(ino, std::string(name));
}

void Operations::prepare(OpId op, ring::Slot slot, PartKind kind, Bytes body,
                         UniqueFunction<void(Result<Bytes>)> done) {
  auto found = active_.find(op.value);
  MAGMA_CHECK(found != active_.end());
  auto& parts = found->second.parts;
  MAGMA_CHECK(parts.size() < kPartsMax);
  auto index = static_cast<std::uint16_t>(parts.size());
  parts.push_back({slot, kind, std::move(body), false, false, std::move(done)});
  send_part(op, found->second, index);
}

void Operations::send_part(OpId op, const Active& operation, std::size_t index) {
  const ActivePart& part = operation.parts[index];
  send(Verb::prepare, op, static_cast<std::uint16_t>(index), ring::coordinator_of(op), part.slot,
       part.kind, part.body);
}

void Operations::release(OpId op, const Active& operation) {
  for (const auto& [ino, name] : operation.locks) shard_.unlock(ino, name, op);
}

RequestPtr Operations::abort(OpId op) {
  auto found = active_.find(op.value);
  MAGMA_CHECK(found != active_.end());
  Active operation = std::move(found->second);
  active_.erase(found);
  for (std::size_t i = 0; i < operation.parts.size(); ++i) {
    // Parts not yet answered are aborted too: the abort follows the prepare.
    const ActivePart& part = operation.parts[i];
    if (part.prepared || !part.answered)
      send(Verb::abort, op, static_cast<std::uint16_t>(i), ring::coordinator_of(op), part.slot,
           part.kind, {});
  }
  release(op, operation);
  return std::move(operation.request);
}

RequestPtr Operations::commit(OpId op, std::vector<PartSpec> more, ApplyWhen when) {
  auto found = active_.find(op.value);
  MAGMA_CHECK(found != active_.end());
  Active operation = std::move(found->second);
  active_.erase(found);
  IntentBody intent;
  for (ActivePart& part : operation.parts) {
    MAGMA_CHECK(part.prepared);
    std::uint8_t stage = part.kind == PartKind::rename_lock ? 1 : 0;
    intent.parts.push_back({part.slot, part.kind, true, stage, std::move(part.body)});
  }
  for (PartSpec& spec : more) {
    // What happens at another volcano is not locked here: nobody is told before it has happened.
    const bool is_far = shard_.is_far(ring::coordinator_of(op), spec.slot);
    if (is_far && operation.request && when != ApplyWhen::durable_lazily)
      operation.request->applied = op;
    intent.parts.push_back(std::move(spec));
  }
  release(op, operation);
  store::IntentRow row{static_cast<std::uint8_t>(operation.kind), 1, wire::encode(intent)};
  shard_.put(intent_key(op), row);
  Committed& committed = committed_[op.value];
  committed.kind = operation.kind;
  committed.session = operation.session;
  committed.parts = std::move(intent.parts);
  committed.answered.resize(committed.parts.size());
  switch (when) {
    case ApplyWhen::at_once:
      send_applies(op, committed);
      break;
    case ApplyWhen::durable:
      apply_after_sync_.emplace_back(database_of(ring::coordinator_of(op)), op);
      break;
    case ApplyWhen::durable_lazily:
      apply_lazily_.push_back(op);
      break;
  }
  return std::move(operation.request);
}

void Operations::hold_until_applied(OpId op, Ino ino, std::string_view name) {
  auto found = committed_.find(op.value);
  MAGMA_CHECK(found != committed_.end());
  shard_.lock(ino, name, op);
  found->second.locks.emplace_back(ino, std::string(name));
}

void Operations::hold_links_until_applied(OpId op, Request& request) {
  auto found = committed_.find(op.value);
  MAGMA_CHECK(found != committed_.end());
  std::vector<Ino> inodes;
  for (const PartSpec& part : found->second.parts) {
    if (shard_.is_far(ring::coordinator_of(op), part.slot)) {
      request.applied = op;
      continue;
    }
    if (part.kind == PartKind::drop_link)
      if (auto body = wire::decode<DropLink>(part.body)) inodes.push_back(body->ino);
  }
  for (Ino ino : inodes) {
    shard_.will_change(ino);
    if (!shard_.is_locked(ino, kLinksLockName)) hold_until_applied(op, ino, kLinksLockName);
  }
}

OpId Operations::commit_now(ring::Slot coordinator, OperationKind kind,
                            std::vector<PartSpec> parts, ApplyWhen when) {
  OpId op = begin(coordinator, kind, nullptr);
  // What the parts take away (links, content) is needed if a power cut takes the commit back.
  commit(op, std::move(parts), when);
  return op;
}

// Sends applies of the stage under way, a bounded number at a time.
void Operations::send_applies(OpId op, Committed& operation) {
  std::size_t in_flight = 0;
  for (std::size_t i = 0; i < operation.next; ++i)
    if (!operation.answered[i] && operation.parts[i].stage == operation.stage) ++in_flight;
  while (operation.next < operation.parts.size() && in_flight < kAppliesInFlight) {
    std::size_t i = operation.next++;
    const PartSpec& part = operation.parts[i];
    if (part.stage != operation.stage) continue;
    ++in_flight;
    send(Verb::apply, op, static_cast<std::uint16_t>(i), ring::coordinator_of(op), part.slot,
         part.kind, part.body);
  }
  if (operation.parts.empty()) stage_done(op, operation);
}

// Every part of a stage has answered: the next stage, or all is applied.
void Operations::stage_done(OpId op, Committed& operation) {
  bool more = std::any_of(operation.parts.begin(), operation.parts.end(),
                          [&](const PartSpec& p) { return p.stage > operation.stage; });
  if (more) {
    ++operation.stage;
    operation.next = 0;
    send_applies(op, operation);
    return;
  }
  operation.state = Stage::applied;
  shard_.look_at_held_answers();
  for (const auto& [ino, name] : operation.locks) shard_.unlock(ino, name, op);
  operation.locks.clear();
  std::fill(operation.answered.begin(), operation.answered.end(), false);
  operation.answers = 0;
  to_settle_.push_back(op);
}

void Operations::on_prepared(SlotMessage message) {
  auto found = active_.find(message.op.value);
  if (found == active_.end() || message.index >= found->second.parts.size()) {
    // Aborted meanwhile; the abort is on its way, or was lost between volcanoes.
    const bool is_far = shard_.is_far(message.to, message.from);
    if (is_far && message.code == 0 && !committed_.contains(message.op.value))
      send(Verb::abort, message.op, message.index, message.to, message.from, message.kind, {});
    return;
  }
  ActivePart& part = found->second.parts[message.index];
  if (part.answered) return;
  part.answered = true;
  part.prepared = message.code == 0;
  // What the participant decided (an inode number, the entry found) goes into the intent, so that
  // apply can do it anew if a power cut took the participant's rows but left the commit.
  if (part.prepared && is_answer_record(part.kind)) part.body = message.body;
  auto done = std::move(part.done);
  if (message.code == 0)
    done(std::move(message.body));
  else
    done(fail(static_cast<Code>(message.code)));
}

void Operations::on_applied(const SlotMessage& message) {
  auto found = committed_.find(message.op.value);
  if (found == committed_.end()) return;
  Committed& operation = found->second;
  if (operation.state != Stage::applying || message.index >= operation.parts.size() ||
      operation.answered[message.index])
    return;
  operation.answered[message.index] = true;
  bool stage_open = false;
  for (std::size_t i = 0; i < operation.parts.size() && !stage_open; ++i)
    stage_open = operation.parts[i].stage == operation.stage && !operation.answered[i];
  if (stage_open)
    send_applies(message.op, operation);
  else
    stage_done(message.op, operation);
}

void Operations::on_settled(const SlotMessage& message) {
  auto found = committed_.find(message.op.value);
  if (found == committed_.end()) return;
  Committed& operation = found->second;
  if (operation.state != Stage::settling || message.index >= operation.parts.size() ||
      operation.answered[message.index])
    return;
  operation.answered[message.index] = true;
  if (++operation.answers < operation.parts.size()) return;
  shard_.erase(intent_key(message.op));
  ring::Slot self = ring::coordinator_of(message.op);
  for (std::size_t i = 0; i < operation.parts.size(); ++i) {
    const PartSpec& part = operation.parts[i];
    if (!must_remember(part.kind)) continue;
    SlotMessage forget;
    forget.verb = Verb::forget;
    forget.op = message.op;
    forget.index = static_cast<std::uint16_t>(i);
    forget.from = self;
    forget.to = part.slot;
    forget.from_epoch = shard_.epoch_of(self);
    forget.to_epoch = shard_.epoch_of(part.slot);
    forget.kind = part.kind;
    after_sync_.emplace_back(database_of(self), Outgoing{.message = std::move(forget)});
  }
  committed_.erase(found);
}

void Operations::on_ask(const SlotMessage& message) {
  if (active_.contains(message.op.value) || committed_.contains(message.op.value)) {
    // Its apply comes, or came.
    if (shard_.is_far(message.to, message.from))
      send(Verb::known, message.op, message.index, message.to, message.from, message.kind, {});
    return;
  }
  send(Verb::unknown, message.op, message.index, message.to, message.from, message.kind, {});
}

// ---- participant

store::RowKey Operations::part_key(const SlotMessage& message) const {
  return {store::Table::part, ring::with_counter(message.to, message.index), message.op.value, {}};
}

void Operations::on_prepare(SlotMessage message) {
  auto key = part_key(message);
  const bool is_far = shard_.is_far(message.to, message.from);
  if (is_far && is_in_doubt_with(message.from)) {
    deferred_.push_back(std::move(message));
    return;
  }
  if (is_far) {
    // Asked again, because what was said before may be lost.
    if (auto row = shard_.get<store::PartRow>(key))
      return send_prepared(message, is_answer_record(message.kind) ? row->body : Bytes{},
                           row->body);
    if (!preparing_.insert({key.a, key.b}).second) return;
  }
  auto shared = std::make_shared<SlotMessage>(std::move(message));
  auto generation = generation_;
  auto done = [this, key, shared, generation](Result<Prepared> prepared) {
    if (generation != generation_) return;
    preparing_.erase({key.a, key.b});
    if (!prepared) {
      send(Verb::prepared, shared->op, shared->index, shared->to, shared->from, shared->kind, {},
           prepared.error().code);
      return;
    }
    store::PartRow row{static_cast<std::uint8_t>(shared->kind),
                       static_cast<std::uint8_t>(PartState::prepared),
                       std::move(prepared->record)};
    shard_.put(key, row);
    send_prepared(*shared, std::move(prepared->answer), row.body);
  };
  prepare_part(shard_, {shared->op, shared->to}, shared->kind, std::move(shared->body),
               std::move(done));
}

// Of parts that must be durable before the commit the coordinator of another volcano is told after
// a sync; one of this volcano syncs itself.
void Operations::send_prepared(const SlotMessage& message, Bytes answer, ByteSpan record) {
  send(Verb::prepared, message.op, message.index, message.to, message.from, message.kind,
       std::move(answer));
  if (!shard_.is_far(message.to, message.from) || !must_be_durable(message.kind)) return;
  auto late = std::make_shared<Outgoing>(std::move(outbox_.back()));
  outbox_.pop_back();
  late->waits = shard_.step_waits();
  const unsigned database = database_of(message.to);
  auto content = content_to_sync(message.kind, message.to, record);
  if (!content) {
    after_sync_.emplace_back(database, std::move(*late));
    return;
  }
  auto synced = [this, late, database, generation = generation_](Result<void> done) {
    if (generation != generation_) return;
    if (!done) late->message.code = static_cast<std::uint16_t>(done.error().code);
    after_sync_.emplace_back(database, std::move(*late));
  };
  shard_.content().sync(*content, shard_.as_step<void>(std::move(synced)));
}

void Operations::on_abort(const SlotMessage& message) {
  auto key = part_key(message);
  auto row = shard_.get<store::PartRow>(key);
  if (!row || row->state != static_cast<std::uint8_t>(PartState::prepared)) return;
  abort_part(shard_, {message.op, message.to}, message.kind, row->body);
  shard_.erase(key);
}

void Operations::on_apply(SlotMessage message) {
  auto key = part_key(message);
  // One truncate after the other.
  auto cut = inode_being_cut(message.kind, message.body);
  auto row = shard_.get<store::PartRow>(key);
  bool done_before = row && row->state == static_cast<std::uint8_t>(PartState::done);
  Shard::Lock* cutting = cut ? shard_.find_lock(*cut, kContentLockName) : nullptr;
  if (!done_before && cutting != nullptr) {
    cutting->waiters.push_back([this, message] { on_apply(message); });
    return;
  }
  if (!done_before) {
    const Bytes& record = row ? row->body : message.body;
    apply_part(shard_, {message.op, message.to}, message.kind, record, !row.has_value());
    if (must_remember(message.kind)) {
      store::PartRow done{static_cast<std::uint8_t>(message.kind),
                          static_cast<std::uint8_t>(PartState::done), {}};
      shard_.put(key, done);
    }
  }
  // Of a truncate the coordinator hears when all chunks are cut.
  cutting = cut ? shard_.find_lock(*cut, kContentLockName) : nullptr;
  if (cutting != nullptr)
    cutting->waiters.push_back([this, message] { send_applied(message); });
  else
    send_applied(message);
}

void Operations::send_applied(const SlotMessage& message) {
  send(Verb::applied, message.op, message.index, message.to, message.from, message.kind, {});
}

void Operations::on_settle(const SlotMessage& message) {
  if (!must_remember(message.kind)) {
    auto key = part_key(message);
    if (auto row = shard_.get<store::PartRow>(key)) {
      // A start since it was applied has taken its locks again.
      release_part(shard_, {message.op, message.to}, message.kind, row->body);
      shard_.erase(key);
    }
  }
  SlotMessage settled = message;
  settled.verb = Verb::settled;
  std::swap(settled.from, settled.to);
  std::swap(settled.from_epoch, settled.to_epoch);
  after_sync_.emplace_back(database_of(message.to), Outgoing{.message = std::move(settled)});
}

void Operations::on_forget(const SlotMessage& message) {
  auto key = part_key(message);
  if (shard_.get<store::PartRow>(key)) shard_.erase(key);
}

void Operations::on_unknown(const SlotMessage& message) {
  auto key = part_key(message);
  auto row = shard_.get<store::PartRow>(key);
  if (!row) return;
  if (row->state == static_cast<std::uint8_t>(PartState::prepared))
    abort_part(shard_, {message.op, message.to}, message.kind, row->body);
  shard_.erase(key);
}

// ---- messages

SlotMessage& Operations::send(Verb verb, OpId op, std::uint16_t index, ring::Slot from,
                              ring::Slot to, PartKind kind, Bytes body, Code code) {
  SlotMessage& message = outbox_.emplace_back().message;
  message.verb = verb;
  message.op = op;
  message.index = index;
  message.from = from;
  message.to = to;
  message.from_epoch = shard_.epoch_of(from);
  message.to_epoch = shard_.epoch_of(to);
  message.kind = kind;
  message.code = static_cast<std::uint16_t>(code);
  message.body = std::move(body);
  // Of the operation, wherever the message goes.
  if (auto found = active_.find(op.value); found != active_.end())
    message.session = found->second.session;
  else if (auto done = committed_.find(op.value); done != committed_.end())
    message.session = done->second.session;
  return message;
}

// What it did may be believed otherwise by somebody until these have ended.
void Operations::finish_step(const std::vector<NoticeId>& waits) {
  for (; outbox_finished_ < outbox_.size(); ++outbox_finished_)
    outbox_[outbox_finished_].waits = waits;
}

void Operations::post(Outgoing outgoing) {
  if (!shard_.is_far(outgoing.message.from, outgoing.message.to)) {
    inbox_.push_back(std::move(outgoing.message));
    return;
  }
  outgoing.batch = shard_.position().batch;
  outgoing_.push_back(std::move(outgoing));
}

void Operations::post_outbox() {
  for (Outgoing& outgoing : std::exchange(outbox_, {})) post(std::move(outgoing));
  outbox_finished_ = 0;
}

std::vector<SlotMessage> Operations::take_outgoing() {
  std::vector<SlotMessage> ready;
  if (outgoing_.empty()) return ready;
  std::set<std::uint64_t> held;  // operations: their messages keep their order
  std::deque<Outgoing> waiting;
  for (Outgoing& outgoing : std::exchange(outgoing_, {})) {
    const std::uint64_t op = outgoing.message.op.value;
    if (held.contains(op) || shard_.must_wait(outgoing.waits, outgoing.batch, outgoing.sync)) {
      held.insert(op);
      waiting.push_back(std::move(outgoing));
    } else {
      ready.push_back(std::move(outgoing.message));
    }
  }
  outgoing_ = std::move(waiting);
  return ready;
}

void Operations::deliver() {
  auto messages = std::move(inbox_);
  inbox_.clear();
  const std::uint64_t generation = generation_;
  for (SlotMessage& message : messages) {
    if (!shard_.owns(message.to)) continue;  // not this volcano's any more: asked anew elsewhere
    const bool is_far = shard_.is_far(message.from, message.to);
    if (!is_far && (message.to_epoch != shard_.epoch_of(message.to) ||
                    message.from_epoch != shard_.epoch_of(message.from)))
      continue;
    // It may commit what came before; if that fails, who is left is asked anew (reload).
    shard_.begin_step(message.to, message.session);
    if (generation != generation_) return;
    if (!recalls_names(message)) handle(std::move(message));
  }
}

bool Operations::is_in_doubt_with(ring::Slot coordinator) const {
  return std::any_of(in_doubt_.begin(), in_doubt_.end(), [&](const auto& part) {
    return shard_.is_same_volcano(ring::coordinator_of(OpId(part.second)), coordinator);
  });
}

// Its coordinator has spoken of the part.
void Operations::resolve(const SlotMessage& message) {
  if (in_doubt_.empty()) return;
  const store::RowKey key = part_key(message);
  if (in_doubt_.erase({key.a, key.b}) == 0) return;
  for (SlotMessage& waiting : std::exchange(deferred_, {}))
    (is_in_doubt_with(waiting.from) ? deferred_ : inbox_).push_back(std::move(waiting));
}

void Operations::handle(SlotMessage message) {
  switch (message.verb) {
    case Verb::abort:
    case Verb::apply:
    case Verb::settle:
    case Verb::unknown:
    case Verb::known: resolve(message); break;
    default: break;
  }
  switch (message.verb) {
    case Verb::known: return;
    case Verb::prepare: return on_prepare(std::move(message));
    case Verb::prepared: return on_prepared(std::move(message));
    case Verb::abort: return on_abort(message);
    case Verb::apply: return on_apply(std::move(message));
    case Verb::applied: return on_applied(message);
    case Verb::settle: return on_settle(message);
    case Verb::settled: return on_settled(message);
    case Verb::forget: return on_forget(message);
    case Verb::ask: return on_ask(message);
    case Verb::unknown: return on_unknown(message);
    case Verb::question: return on_question(std::move(message));
    case Verb::reply: return on_reply(std::move(message));
  }
}

void Operations::committed() {
  finish_step(shard_.step_waits());
  post_outbox();
  auto applies = std::move(apply_after_sync_);
  apply_after_sync_.clear();
  auto messages = std::move(after_sync_);
  after_sync_.clear();
  for (unsigned database = 0; database < store::kDatabases; ++database) {
    auto ops = std::make_shared<std::vector<OpId>>();
    auto late = std::make_shared<std::vector<Outgoing>>();
    for (auto& [where, op] : applies)
      if (where == database) ops->push_back(op);
    for (auto& [where, message] : messages)
      if (where == database) late->push_back(std::move(message));
    if (ops->empty() && late->empty()) continue;
    shard_.metadata().sync(database, [this, ops, late, generation = generation_](Result<void> ok) {
      if (!ok || generation != generation_) return;
      for (OpId op : *ops)
        if (auto found = committed_.find(op.value); found != committed_.end())
          send_applies(op, found->second);
      for (Outgoing& message : *late) post(std::move(message));
      // Nothing but messages was made: they need no commit of their own.
      post_outbox();
    });
  }
}

// ---- questions

void Operations::ask(ring::Slot from, ring::Slot to, Question question, Bytes body,
                     RequestPtr request, Answered done) {
  if (request) request->keep();
  // Never used again: an answer to an earlier start's question must not be taken for this one's.
  const std::uint64_t id = shard_.next_counter(from);
  const SessionId session = request ? request->head.session : shard_.asker();
  auto [asked, is_new] = asked_.try_emplace(
      id, Asked{from, to, question, session, std::move(body), std::move(request), std::move(done)});
  send_question(id, asked->second);
}

void Operations::send_question(std::uint64_t id, const Asked& asked) {
  send(Verb::question, OpId(id), 0, asked.from, asked.to, static_cast<PartKind>(asked.question),
       asked.body)
      .session = asked.session;
}

void Operations::on_question(SlotMessage message) {
  auto question = static_cast<Question>(message.kind);
  Bytes body = std::move(message.body);
  auto done = [this, message = std::move(message), generation = generation_](Told told) {
    if (generation != generation_) return;
    Result<Bytes>& bytes = told.bytes;
    send(Verb::reply, message.op, 0, message.to, message.from, message.kind,
         bytes ? std::move(*bytes) : Bytes{}, bytes ? Code{} : bytes.error().code);
    outbox_.back().sync = told.sync;
    outbox_.back().message.session = message.session;
  };
  answer_question(shard_, question, body, std::move(done));
}

void Operations::on_reply(SlotMessage message) {
  auto found = asked_.extract(message.op.value);
  if (!found) return;
  Asked asked = std::move(found.mapped());
  if (message.code == 0)
    asked.done(std::move(message.body), std::move(asked.request));
  else
    asked.done(fail(static_cast<Code>(message.code)), std::move(asked.request));
}

// ---- other volcanoes

void Operations::begin_anew_with(const OwnedSlots& theirs) {
  auto is_theirs = [&](ring::Slot slot) { return theirs[slot.value]; };
  std::erase_if(outgoing_, [&](const Outgoing& o) { return is_theirs(o.message.to); });
  std::erase_if(inbox_, [&](const SlotMessage& m) { return is_theirs(m.from); });
  std::erase_if(deferred_, [&](const SlotMessage& m) { return is_theirs(m.from); });
  std::erase_if(recalled_, [&](const Recalled& r) { return is_theirs(r.message.from); });
  std::erase_if(in_doubt_, [&](const auto& part) {
    return is_theirs(ring::coordinator_of(OpId(part.second)));
  });
  for (const auto& [id, operation] : active_)
    for (std::size_t i = 0; i < operation.parts.size(); ++i)
      if (!operation.parts[i].answered && is_theirs(operation.parts[i].slot))
        send_part(OpId(id), operation, i);
  for (const auto& [id, operation] : committed_) {
    const OpId op(id);
    if (operation.state == Stage::applied) continue;
    const bool applies = operation.state == Stage::applying;
    const std::size_t sent = applies ? operation.next : operation.parts.size();
    for (std::size_t i = 0; i < sent; ++i) {
      const PartSpec& part = operation.parts[i];
      if (operation.answered[i] || !is_theirs(part.slot)) continue;
      if (applies && part.stage != operation.stage) continue;
      send(applies ? Verb::apply : Verb::settle, op, static_cast<std::uint16_t>(i),
           ring::coordinator_of(op), part.slot, part.kind, applies ? part.body : Bytes{});
    }
  }
  for (const auto& [id, asked] : asked_)
    if (is_theirs(asked.to)) send_question(id, asked);
  send_asks(theirs);
}

// Parts whose coordinator may have forgotten them.
void Operations::send_asks(const OwnedSlots& theirs) {
  for (unsigned database = 0; database < store::kDatabases; ++database) {
    auto visit = [&](const store::MetadataStore::ScanRow& row) {
      const OpId op(row.b);
      const ring::Slot slot(static_cast<std::uint16_t>(row.a >> ring::kCounterBits));
      auto image = wire::decode<store::PartRow>(row.image);
      if (image && shard_.owns(slot) && theirs[ring::coordinator_of(op).value])
        send_ask(op, {store::Table::part, row.a, row.b, {}}, static_cast<PartKind>(image->kind));
      return true;
    };
    auto done = shard_.metadata().scan_database(database, store::Table::part, visit);
    if (!done) shard_.poison(done.error());
  }
}

void Operations::send_ask(OpId op, const store::RowKey& part, PartKind kind) {
  const ring::Slot coordinator = ring::coordinator_of(op);
  if (shard_.is_far(part.slot(), coordinator)) in_doubt_.insert({part.a, part.b});
  send(Verb::ask, op, static_cast<std::uint16_t>(part.a & ring::kCounterMask), part.slot(),
       coordinator, kind, {});
}

bool Operations::is_unapplied(OpId op) const {
  auto found = committed_.find(op.value);
  return found != committed_.end() && found->second.state == Stage::applying;
}

bool Operations::has_recovered_unapplied() const {
  return std::any_of(committed_.begin(), committed_.end(), [](const auto& item) {
    return item.second.is_recovered && item.second.state == Stage::applying;
  });
}

// Applies of operations nobody waits for, once everything committed so far is durable.
void Operations::apply_lazy_ones() {
  if (apply_lazily_.empty()) return;
  auto ops = std::make_shared<std::vector<OpId>>(std::move(apply_lazily_));
  apply_lazily_.clear();
  shard_.metadata().sync_all([this, ops, generation = generation_](Result<void> synced) {
    if (!synced || generation != generation_) return;
    for (OpId op : *ops)
      if (auto found = committed_.find(op.value); found != committed_.end())
        send_applies(op, found->second);
  });
}

// Between batches: nothing is uncommitted. Part rows go only when the commit is on stable storage:
// till then they are all that could undo the parts if a loss of power takes it back.
void Operations::on_tick() {
  apply_lazy_ones();
  std::array<std::vector<OpId>, store::kDatabases> ended;
  for (OpId op : std::exchange(to_settle_, {}))
    ended[database_of(ring::coordinator_of(op))].push_back(op);
  for (unsigned database = 0; database < store::kDatabases; ++database) {
    if (ended[database].empty()) continue;
    auto settle = shard_.as_step<void>(
        [this, ops = std::move(ended[database]), generation = generation_](Result<void> synced) {
          if (!synced || generation != generation_) return;
          for (OpId op : ops) send_settles(op);
        });
    shard_.metadata().sync(database, std::move(settle));
  }
}

void Operations::send_settles(OpId op) {
  auto found = committed_.find(op.value);
  if (found == committed_.end() || found->second.state != Stage::applied) return;
  Committed& operation = found->second;
  operation.state = Stage::settling;
  if (operation.parts.empty()) {
    shard_.erase(intent_key(op));
    committed_.erase(found);
    return;
  }
  for (std::size_t i = 0; i < operation.parts.size(); ++i)
    send(Verb::settle, op, static_cast<std::uint16_t>(i), ring::coordinator_of(op),
         operation.parts[i].slot, operation.parts[i].kind, {});
}

// ---- restart

Result<void> Operations::reload() {
  ++generation_;
  active_.clear();
  committed_.clear();
  to_settle_.clear();
  inbox_.clear();
  outbox_.clear();
  outbox_finished_ = 0;
  outgoing_.clear();
  asked_.clear();
  preparing_.clear();
  in_doubt_.clear();
  deferred_.clear();
  recalled_.clear();
  after_sync_.clear();
  apply_after_sync_.clear();
  apply_lazily_.clear();
  std::optional<Error> broken;
  for (unsigned database = 0; database < store::kDatabases; ++database) {
    auto visit_intent = [&](const store::MetadataStore::ScanRow& row) {
      if (!shard_.owns(ring::coordinator_of(OpId(row.a)))) return true;
      auto image = wire::decode<store::IntentRow>(row.image);
      auto body = image ? wire::decode<IntentBody>(image->body) : fail(Code::malformed);
      if (!body) {
        broken = Error{Code::io, "malformed intent " + std::to_string(row.a)};
        return false;
      }
      Committed& operation = committed_[row.a];
      operation.kind = static_cast<OperationKind>(image->kind);
      operation.parts = std::move(body->parts);
      operation.answered.resize(operation.parts.size());
      return true;
    };
    TRY(shard_.metadata().scan_database(database, store::Table::intent, visit_intent));
    auto visit_part = [&](const store::MetadataStore::ScanRow& row) {
      auto image = wire::decode<store::PartRow>(row.image);
      if (!image) {
        broken = Error{Code::io, "malformed part of operation " + std::to_string(row.b)};
        return false;
      }
      OpId op(row.b);
      ring::Slot slot(static_cast<std::uint16_t>(row.a >> ring::kCounterBits));
      if (!shard_.owns(slot)) return true;
      auto kind = static_cast<PartKind>(image->kind);
      if (image->state == static_cast<std::uint8_t>(PartState::prepared))
        restore_part(shard_, {op, slot}, kind, image->body);
      send_ask(op, {store::Table::part, row.a, row.b, {}}, kind);
      return true;
    };
    TRY(shard_.metadata().scan_database(database, store::Table::part, visit_part));
  }
  if (broken) return fail(*broken);
  for (auto& [id, operation] : committed_) {
    ++shard_.counters().operations_recovered;
    operation.is_recovered = true;
    if (operation.kind == OperationKind::truncate)
      if (Ino ino = truncated_inode(operation.parts); ino != Ino{})
        if (!shard_.is_locked(ino, kContentLockName))
          hold_until_applied(OpId(id), ino, kContentLockName);
  }
  // Renames first: what was moved out of a directory that is removed must not go with it.
  for (const bool renames : {true, false})
    for (auto& [id, operation] : committed_)
      if ((operation.kind == OperationKind::rename) == renames) send_applies(OpId(id), operation);
  post_outbox();
  return {};
}

std::vector<RequestPtr> Operations::take_requests() {
  std::vector<RequestPtr> requests;
  for (auto& [id, operation] : active_)
    if (operation.request) requests.push_back(std::move(operation.request));
  for (auto& [id, asked] : asked_)
    if (asked.request) requests.push_back(std::move(asked.request));
  return requests;
}

}  // namespace magma::ops
