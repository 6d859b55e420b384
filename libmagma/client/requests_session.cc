// Requests: what becomes of them when links, the session or the map change.
#include <algorithm>

#include "libmagma/base/check.h"
#include "libmagma/base/log.h"
#include "libmagma/client/completion.h"
#include "libmagma/client/requests.h"

namespace magma::client {

void Requests::on_link_up(LinkIndex link) { pump_link(link); }

bool Requests::is_link_wanted(LinkIndex link) const {
  return link < queues_.size() && !queues_[link].empty();
}

void Requests::on_session_usable(bool is_new) {
  if (is_new) {
    lanes_.reset();
    std::vector<wire::OpenRequest> again;
    std::vector<Credentials> whose;
    files_.for_each_open([&](Ino ino, const File& file) {
      if (delayed_names_.is_made_later(ino)) return;  // it is open when it is made
      for (std::uint32_t i = 0; i < file.readers + file.writers; ++i) {
        wire::OpenRequest message;
        message.ino = ino;
        message.for_write = i >= file.readers;
        again.push_back(message);
        whose.push_back({.uid = file.uid, .gid = file.gid});
      }
    });
    for (std::size_t i = 0; i < again.size(); ++i) {
      AnyDone none;
      Token id = admit(wire::FlareOp::open, ring::home_of(again[i].ino), whose[i], none);
      if (id == 0) break;
      Request& request = *slab_.find(id);
      request.role = Request::Role::reopen;
      put_head(request, whose[i]);
      wire::encode_to(request.head, again[i]);
      ++reopening_;
      dispatch(id);
    }
  }
  std::deque<Token> held = std::exchange(held_, {});
  for (Token id : held) {
    Request* request = slab_.find(id);
    if (request != nullptr && request->state == Request::State::held) dispatch(id);
  }
  pump_lanes();
  pump_releases(true);
}

// Changes that were sent may have been done: their callers get `fenced`. Opens are made again and
// releases of the old session are moot. Everything else waits for the new session.
void Requests::on_session_lost(SessionId old) {
  releases_.clear();
  lanes_.reset();
  directories_.clear();
  local_opens_.forget_all(clock_.now());
  local_opens_.tell_all(clock_.now());
  std::vector<Token> all;
  slab_.ids(all);
  for (Token id : all) {
    Request* request = slab_.find(id);
    if (request == nullptr) continue;
    if (request->kind != wire::OpKind::change && !request->is_bound) continue;
    bool is_moot = request->role == Request::Role::release ||
                   request->role == Request::Role::reopen;
    bool was_sent = request->sequence != 0 && request->session == old;
    if (!is_moot && !was_sent && !request->is_bound) continue;
    unsend(*request);
    Answer answer;
    answer.code = Code::fenced;
    complete(id, answer);
  }
}

// Requests whose slot has another primary now are sent there, with the same lane and sequence:
// what the old primary acknowledged, the new one knows; what it did not, it can no longer do.
void Requests::on_routes_changed() {
  files_.begin_anew();
  directories_.clear();
  local_opens_.forget_all(clock_.now());
  slab_.ids(walk_);
  std::vector<Token> ids = std::exchange(walk_, {});
  for (Token id : ids) {
    Request* request = slab_.find(id);
    if (request == nullptr) continue;
    bool is_elsewhere = router_.route(request->slot).link != request->link;
    switch (request->state) {
      case Request::State::queued:
        if (is_elsewhere) dispatch(id);
        break;
      case Request::State::sent:
        if (!is_elsewhere) break;
        unsend(*request);
        if (request->is_given_up) {
          Answer dropped;
          dropped.code = Code::interrupted;
          complete(id, dropped);
        } else {
          dispatch(id);
        }
        break;
      case Request::State::resting:
        if (request->needs_map) dispatch(id);
        break;
      default: break;
    }
  }
  walk_ = std::move(ids);
}

}  // namespace magma::client
