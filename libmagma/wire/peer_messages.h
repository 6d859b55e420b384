// Messages between volcanoes that are primaries of different slots: what one's slots tell the
// other's (magmad/ops/operations.h), over the flare port, with the ring key. Part of the flare
// protocol (flare_messages.h), operations of kind `peer`. And what a new primary asks the one
// before it.
//
// A *run* is one course of messages between two volcanoes, both ways, over one connection. Either
// begins it; each side draws a number for itself, which the other puts into each of its requests,
// so nothing of another run is taken for one of this. The requests of each side are numbered 1, 2,
// 3 ...; their messages are taken in that order, each once. A request is answered when its messages
// were taken, not when anything has been done.
//
// A run ends when its connection does, and when either side has lost what it knew. What of it has
// not been taken then is never taken. Both ask anew for what they have no answer to before the next
// run's first message.
#pragma once

#include <cstdint>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/base/strong.h"
#include "libmagma/ring/slot.h"
#include "libmagma/ring/slot_mask.h"

namespace magma::wire {

// Slots first..last, of one volcano, with the epoch that it gave them at its start.
struct PeerSlots {
  ring::Slot first, last;
  Epoch epoch;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("first", s.first);
    v("last", s.last);
    v("epoch", s.epoch);
  }
};

// Begins a run. wrong_epoch: the volcanoes do not agree about whose slots are whose.
struct PeerBeginRequest {
  std::uint64_t volcano = 0;  // number of who asks
  std::uint64_t run = 0;      // as the asker calls it
  std::vector<PeerSlots> slots{};  // that the asker is primary of, ascending
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("volcano", s.volcano);
    v("run", s.run);
    v("slots", s.slots);
  }
};

struct PeerBeginReply {
  std::uint64_t run = 0;  // as the asked calls it
  std::vector<PeerSlots> slots{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("run", s.run);
    v("slots", s.slots);
  }
};

// What one slot tells another: ops::SlotMessage.
struct PeerMessage {
  std::uint8_t verb = 0;
  OpId op;
  std::uint16_t index = 0;
  ring::Slot from, to;
  Epoch from_epoch, to_epoch;
  std::uint8_t kind = 0;
  std::uint16_t code = 0;
  Bytes body{};
  SessionId session{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("verb", s.verb);
    v("op", s.op);
    v("index", s.index);
    v("from", s.from);
    v("to", s.to);
    v("from_epoch", s.from_epoch);
    v("to_epoch", s.to_epoch);
    v("kind", s.kind);
    v("code", s.code);
    v("body", s.body);
    v("session", s.session);
  }
};

// old_sequence: of another run.
struct PeerMessagesRequest {
  std::uint64_t run = 0;  // as the asked calls it
  std::uint64_t number = 0;
  std::vector<PeerMessage> messages{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("run", s.run);
    v("number", s.number);
    v("messages", s.messages);
  }
};

// Does the asked volcano no longer serve these slots? Ring key only. It says yes only if it has a
// map at least as new as the asker's, and that names another primary: so it will not begin again
// either.
struct ReleasedRequest {
  std::uint64_t version = 0;  // of the asker's map
  ring::SlotRuns slots{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("version", s.version);
    v("slots", s.slots);
  }
};

inline constexpr std::size_t kReleasedSessionsMax = 4096;

struct ReleasedReply {
  ring::SlotRuns slots{};  // those of the asked ones that it does not serve
  // Who may still believe what it told of them, for at most kTokenTerm from now.
  std::vector<SessionId> sessions{};
  bool may_others = false;  // and it does not know of all
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("slots", s.slots);
    v("sessions", s.sessions);
    v("may_others", s.may_others);
  }
};

}  // namespace magma::wire
