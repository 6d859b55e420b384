// Answers of the shard: when they may go. They are committed after what they tell of in other
// databases, and wait until nobody believes what they have made untrue (tokens.h).
#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "libmagma/base/log.h"
#include "magmad/ops/operations.h"
#include "magmad/shard.h"

namespace magma {

namespace {
constexpr Duration kRecallPatience = seconds(2);
}

ReplyTarget Shard::finish_lane(const Request& request) {
  if (wire::kind_of(request.op()) != wire::OpKind::change) return request.target;
  auto session = sessions_.find(request.head.session);
  if (session == sessions_.end() || request.head.lane >= wire::kLanes) return request.target;
  Lane& lane = session->second.lanes[request.head.lane];
  if (lane.sequence != request.head.sequence || !lane.under_way) return request.target;
  lane.under_way = false;
  return lane.target;
}

void Shard::push_answer(const Request& request, bool ok, Code code, Bytes body, Bytes payload) {
  Answer& answer = answers_.emplace_back();
  answer.target = request.target;
  answer.op = request.op();
  answer.ok = ok;
  answer.code = code;
  answer.body = std::move(body);
  answer.payload = std::move(payload);
  answer.session = request.head.session;
  answer.lane = request.head.lane;
  answer.sequence = request.head.sequence;
  answer.waits = request.waits;
  answer.batch = request.batch;
  answer.applied = request.applied;
  answer.may_delay = ok && request.may_delay;
}

void Shard::tells_content(Request& request, const store::ContentId& id) const {
  tokens_.add_unconfirmed(id.ino, request.waits);
  request.batch = std::max(request.batch, slots_[id.slot.value].last_batch);
}

void Shard::answer_raw(RequestPtr request, Bytes body, Bytes payload) {
  request->target = finish_lane(*request);
  if (wire::kind_of(request->op()) == wire::OpKind::change &&
      sessions_.contains(request->head.session)) {
    store::ReplyRow row{request->head.sequence, 0, body};
    put({store::Table::reply, ring::with_counter(request->head.slot, request->head.lane),
         request->head.session.value, {}},
        row);
    commit_before_reply(request->head.slot);
  }
  push_answer(*request, true, Code{}, std::move(body), std::move(payload));
  // While an entry is still on its way out of the directory its attributes are not told (getattr).
  if (request->names_changed && !has_name_locks(request->names_changed->directory.ino))
    answers_.back().names_changed = std::move(request->names_changed);
}

void Shard::answer_when_synced(RequestPtr request, std::uint64_t sync) {
  answer(std::move(request), wire::EmptyReply{});
  answers_.back().sync = sync;
}

void Shard::new_step(SessionId session, std::optional<ring::Slot> slot) {
  finish_step();
  step_.session = session;
  step_.slot = slot;
}

// Gives the answers of the step what they must wait for. One of another session tells what that one
// may not believe.
void Shard::finish_step() {
  operations_->finish_step(step_.waits);
  for (std::size_t i = step_.first_answer; i < answers_.size(); ++i) {
    Answer& answer = answers_[i];
    answer.waits.insert(answer.waits.end(), step_.waits.begin(), step_.waits.end());
    answer.batch = std::max(answer.batch, step_.batch);
    answer.is_believed = answer.ok && step_.tells && step_.is_believed &&
                         answer.session == step_.session;
  }
  step_ = Step{};
  step_.first_answer = answers_.size();
}

void Shard::begin_step(ring::Slot slot, SessionId session) {
  new_step(session, slot);
  databases_touched_ = 0;
  const unsigned mine = 1u << (slot.value % store::kDatabases);
  for (unsigned first : committed_first_)
    if ((first & mine) != 0) return commit_early();
}

void Shard::begin_step_of_any_slot() {
  new_step(SessionId());
  databases_touched_ = 0;
  const bool is_any_ordered = std::any_of(committed_first_.begin(), committed_first_.end(),
                                          [](unsigned first) { return first != 0; });
  if (is_any_ordered) commit_early();
}

// If that fails, the answers it has made into errors stay.
void Shard::commit_early() {
  if (commit_batch()) {
    std::move(answers_.begin(), answers_.end(), std::back_inserter(answers_committed_));
    answers_.clear();
  }
  step_.first_answer = answers_.size();
}

// Orders the next commit: what the request has changed in other databases before its reply.
void Shard::commit_before_reply(ring::Slot reply) {
  const unsigned mine = reply.value % store::kDatabases;
  const unsigned others = databases_touched_ & ~(1u << mine);
  if (others == 0) return;
  committed_first_[mine] |= others;
  std::array<unsigned, store::kDatabases> order{};
  unsigned placed = 0;
  for (unsigned& next : order) {
    auto is_next = [&](unsigned database) {
      return (placed >> database & 1) == 0 && (committed_first_[database] & ~placed) == 0;
    };
    next = 0;
    while (next < store::kDatabases && !is_next(next)) ++next;
    if (next == store::kDatabases) return poison(Error{Code::io, "commits that want each other"});
    placed |= 1u << next;
  }
  metadata_.set_commit_order(order);
}

// Errors are not recorded: nothing was done, and asking again may be answered anew.
void Shard::refuse(RequestPtr request, Code code) {
  ++stats_.refused;
  request->target = finish_lane(*request);
  push_answer(*request, false, code, {}, {});
}

void Shard::refuse(RequestPtr request, const Error& error) {
  if (error.code == Code::io || error.code == Code::checksum) {
    ++stats_.io_errors;
    log_error("request_failed op={} slot={} error={} detail={}", wire::name_of(request->op()),
              request->head.slot.value, name_of(error.code), error.detail);
  }
  refuse(std::move(request), error.code);
}

// It may tell of a change made before a restart, and who asks goes on elsewhere with what he was
// told: so it waits for those who were to be told of that change.
void Shard::refuse_moved(RequestPtr request, Code code, const wire::MovedReply& moved) {
  request->target = finish_lane(*request);
  tokens_.add_grace(request->head.session, request->waits);
  push_answer(*request, false, code, wire::encode(moved), {});
}

// ---- tokens

namespace {

// Whose change it is when a row becomes another one; nobody's for rows that nobody is told of.
Ino subject_of(const store::RowKey& key) {
  switch (key.table) {
    case store::Table::inode:
    case store::Table::entry: return Ino(key.a);
    case store::Table::authority: return Ino(key.b);
    default: return Ino();
  }
}

}  // namespace

void Shard::note_reading(const store::RowKey& key) {
  if (Ino subject = subject_of(key); subject != Ino())
    tokens_.add_unconfirmed(subject, step_.waits);
}

void Shard::note_change(const store::RowKey& key) {
  Ino subject = subject_of(key);
  if (subject == Ino()) return;
  tokens_.changed(subject, key.table == store::Table::entry ? std::string_view(key.c) : "",
                  step_.session, now_, step_.waits);
}

void Shard::told(Ino ino, Tokens::Of what) {
  step_.tells = true;
  if (tokens_.has_names_of_others(ring::home_of(ino), step_.session)) {
    step_.is_believed = false;
    return;
  }
  if (step_.session == SessionId() || !tokens_.grant(step_.session, ino, what, now_))
    step_.is_believed = false;
}

bool Shard::recall_writes(RequestPtr& request, Ino ino) {
  const NoticeId recall = tokens_.recall_writes(ino, request->head.session);
  // `keep` waits for nobody: a change may wait for it.
  if (recall == 0 || request->op() == wire::FlareOp::keep) return false;
  return wait_for_recall(request, recall);
}

bool Shard::wait_for_recall(RequestPtr& request, NoticeId recall) {
  if (recalling_.size() >= kParkedMax) {
    refuse(std::move(request), Code::overloaded);
    return true;
  }
  request->keep();
  recalling_.push_back({recall, now_, std::move(request)});
  return true;
}

namespace {

// Whether who asks learns nothing of names and links by the answer, or is himself waited for.
bool is_blind_to_names(wire::FlareOp op) {
  switch (op) {
    case wire::FlareOp::read:
    case wire::FlareOp::write:
    case wire::FlareOp::content:
    case wire::FlareOp::fsync:
    case wire::FlareOp::publish:
    case wire::FlareOp::reserve:
    case wire::FlareOp::release:
    case wire::FlareOp::keep:
    case wire::FlareOp::statfs:
    case wire::FlareOp::lock:
    case wire::FlareOp::lock_wait:
    case wire::FlareOp::test_lock:
    case wire::FlareOp::set_locks:
    case wire::FlareOp::change_names: return true;
    default: return false;
  }
}

}  // namespace

bool Shard::recall_names(RequestPtr& request, Ino dir) {
  const NoticeId recall = tokens_.recall_names(dir, request->head.session);
  return recall != 0 && wait_for_recall(request, recall);
}

bool Shard::recall_names(RequestPtr& request) {
  const bool is_of_slot = wire::kind_of(request->op()) != wire::OpKind::session;
  if (!tokens_.has_names() || !is_of_slot || is_blind_to_names(request->op())) return false;
  return recall_names(request, request->head.slot);
}

bool Shard::recall_names(RequestPtr& request, ring::Slot slot) {
  if (!tokens_.has_names()) return false;
  const NoticeId recall = tokens_.recall_names(slot, request->head.session, now_);
  return recall != 0 && wait_for_recall(request, recall);
}

// The row tells the volcano after a restart, or the one that takes the slot over, whom to ask.
bool Shard::let_delay_names(Request& request, Ino dir) {
  const SessionId session = request.head.session;
  if (!sessions_.contains(session) || is_locked(dir) || has_name_locks(dir) ||
      !has_plenty_of_space() || !tokens_.grant_names(session, dir, now_))
    return false;
  give_numbers(*request.names_changed, ring::home_of(dir));
  auto row = names_rows_.find(dir);
  if (row != names_rows_.end() && row->second == session) return true;
  if (row != names_rows_.end()) drop_names_row(dir);
  names_rows_[dir] = session;
  put({store::Table::open, dir.value, session.value, {}}, store::OpenRow{.delays_names = true});
  return true;
}

void Shard::give_numbers(wire::NamesChanged& told, ring::Slot slot) {
  told.first_number = new_inos(slot, wire::kNumbersGiven);
  told.numbers = told.first_number == Ino() ? 0 : wire::kNumbersGiven;
}

void Shard::drop_names_row(Ino dir) {
  auto row = names_rows_.find(dir);
  if (row == names_rows_.end()) return;
  erase({store::Table::open, dir.value, row->second.value, {}});
  names_rows_.erase(row);
}

void Shard::forget_names(Ino dir) {
  drop_names_row(dir);
  tokens_.end_names(dir);
}

// Rows of tokens that have ended.
void Shard::sweep_names() {
  tokens_.recall_idle_names(now_);
  std::vector<Ino> ended;
  for (const auto& [dir, session] : names_rows_)
    if (tokens_.names_holder(dir) != session) ended.push_back(dir);
  for (Ino dir : ended) drop_names_row(dir);
}

// Near the end of the space what is written must be known to fit before the writer is told so.
void Shard::let_delay(Request& request, Ino ino) {
  if (may_delay_writes(request.head.session, ino)) request.may_delay = true;
}

bool Shard::may_delay_writes(SessionId asker, Ino ino) {
  auto session = sessions_.find(asker);
  if (session == sessions_.end() || !is_near(ring::home_of(ino))) return false;
  auto mine = session->second.opens.find(ino.value);
  const OpenCount all = opens_of(ino);
  const bool is_only = mine != session->second.opens.end() && mine->second.writers > 0 &&
                       mine->second.writers == all.writers &&
                       mine->second.readers == all.readers;
  // Who has the token decides about locks.
  return is_only && has_plenty_of_space() && !file_locks_.has_others(ino, asker) &&
         tokens_.grant_writes(asker, ino, now_);
}

void Shard::look_at_recalls() {
  if (recalling_looked_at_ == tokens_.ended()) return;
  recalling_looked_at_ = tokens_.ended();
  for (Recalling& waiting : std::exchange(recalling_, {})) {
    if (tokens_.is_open(waiting.recall))
      recalling_.push_back(std::move(waiting));
    else
      ready_.push_back(std::move(waiting.request));
  }
  operations_->look_at_recalled();
}

// The writer may be gone. Who asks hears that this volcano is not, and asks again.
void Shard::refuse_old_recalls() {
  for (Recalling& waiting : std::exchange(recalling_, {})) {
    if (now_ - waiting.since < kRecallPatience)
      recalling_.push_back(std::move(waiting));
    else
      refuse(std::move(waiting.request), Code::locked);
  }
  operations_->refuse_recalled(now_ - kRecallPatience);
}

// The rows of opens tell who may delay writes.
void Shard::presume_writers() {
  tokens_.forget_writers();
  std::unordered_map<std::uint64_t, unsigned> sessions_of;
  for (const auto& [id, session] : sessions_)
    for (const auto& [ino, row] : session.opens) sessions_of[ino] += row.writers > 0;
  for (const auto& [id, session] : sessions_)
    for (const auto& [ino, row] : session.opens)
      if (row.writers > 0 && sessions_of[ino] == 1) tokens_.presume_writes(id, Ino(ino));
  for (const auto& [dir, session] : names_rows_) tokens_.presume_names(session, dir, now_);
}

void Shard::send_held(UniqueFunction<void(Answer)>& send) {
  const bool is_news = std::exchange(has_news_of_held_, false);
  if (held_looked_at_ == tokens_.ended() && !is_news) return;
  held_looked_at_ = tokens_.ended();
  std::deque<Answer> waiting;
  for (Answer& answer : std::exchange(held_, {})) {
    if (is_held_back(answer))
      waiting.push_back(std::move(answer));
    else
      send(std::move(answer));
  }
  held_ = std::move(waiting);
}

bool Shard::is_held_back(Answer& answer) {
  if (answer.applied != OpId() && !operations_->is_unapplied(answer.applied))
    answer.applied = OpId();
  if (answer.is_replay && !operations_->has_recovered_unapplied()) answer.is_replay = false;
  return must_wait(answer.waits, answer.batch, answer.sync) || answer.applied != OpId() ||
         answer.is_replay;
}

bool Shard::must_wait(std::vector<NoticeId>& waits, std::uint64_t batch,
                      std::uint64_t sync) const {
  std::erase_if(waits, [&](NoticeId notice) { return !tokens_.is_open(notice); });
  return !waits.empty() || batch > replicated_ || sync > synced_;
}

std::uint64_t Shard::connection_of(SessionId session) const {
  auto found = sessions_.find(session);
  return found == sessions_.end() ? 0 : found->second.connection;
}

}  // namespace magma
