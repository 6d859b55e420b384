// Messages of a client's session: beginning and ending it, what a client must know of the ring, and
// what it no longer may believe. Part of the flare protocol (flare_messages.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/ring/slot.h"

namespace magma::wire {

inline constexpr Duration kSessionLease = seconds(10);
// How long a client may believe what it was told (ResponseHead::believe_ms is this or 0).
inline constexpr Duration kTokenTerm = seconds(5);

// Begins or renews a session (kSessionLease); to any volcano. Also tells what a client must know.
struct AttachRequest {
  SessionId session;
  bool fresh = false;      // refused (exists) if the ring knows the session already
  std::string host{};      // for people: who mounts
  std::uint16_t believes_ms = 0;  // for so long it may still believe what it was told before
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("session", s.session);
    v("fresh", s.fresh);
    v("host", s.host);
    v("believes_ms", s.believes_ms);
  }
};

// A name of a directory now leads elsewhere, to nothing, or to something; without a name: the
// attributes or the content of the flare are others. `recalls_writes`: they are what they were, but
// somebody asks for them: writes that are delayed (ResponseHead) are to be sent first.
struct Change {
  Ino ino;
  std::string name{};
  bool recalls_writes = false;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("name", s.name);
    v("recalls_writes", s.recalls_writes);
  }
  friend bool operator==(const Change&, const Change&) = default;
};

// From a volcano to a client: what it believes of these is no longer so. Answered when it, and who
// asks through it, believes it no more.
struct ChangedRequest {
  std::vector<Change> changes{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("changes", s.changes);
  }
};

// Slots first..last have this epoch and these addresses as replicas, primary first.
struct MapRun {
  ring::Slot first, last;
  Epoch epoch;
  std::vector<std::string> replicas{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("first", s.first);
    v("last", s.last);
    v("epoch", s.epoch);
    v("replicas", s.replicas);
  }
};
// Adds the slot after the last one of the runs.
inline void add_slot(std::vector<MapRun>& runs, ring::Slot slot, Epoch epoch,
                     const std::string& primary) {
  if (!runs.empty() && runs.back().epoch == epoch && runs.back().replicas.front() == primary)
    runs.back().last = slot;
  else
    runs.push_back({slot, slot, epoch, {primary}});
}

struct AttachReply {
  std::string nick{};
  std::uint64_t small_file_bytes_max = 0;
  Ino root;
  std::uint32_t map_version = 0;
  std::vector<MapRun> map{};
  // Of the lava map that says whose the slots are; higher in a higher generation of the ring.
  std::uint64_t owners_version = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("nick", s.nick);
    v("small_file_bytes_max", s.small_file_bytes_max);
    v("root", s.root);
    v("map_version", s.map_version);
    v("map", s.map);
    v("owners_version", s.owners_version);
  }
};

struct DetachRequest {  // the session ends: its opens are released
  SessionId session;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("session", s.session);
  }
};

}  // namespace magma::wire
