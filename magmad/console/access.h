// Who may use the console, and for what. Pure.
//
// | peer                                        | rights                                       |
// |---------------------------------------------|----------------------------------------------|
// | root or magmad's own user, on this machine  | all                                          |
// | another user of this machine                | guest: help, pwd, print acl, login, exit     |
// | another machine                             | none; guest with --console-remote            |
// | a session over the ring's own protocol      | all: it has the ring key                     |
// | who has logged in with the network key      | all                                          |
//
// With all rights files are read and erased as root (uid 0): whoever holds the network key, as
// magmad's own user does, could do so with a mount as well.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "libmagma/sys/address.h"

namespace magma::console {

enum class Rights : std::uint8_t { guest, all };

struct Peer {
  sys::Address address;
  // The peer is a process of this machine: its socket was found, or its address is loopback or our
  // own.
  bool is_local = false;
  std::optional<std::uint32_t> uid;  // of a local peer; unknown: as any other user
};

struct AccessRules {
  std::uint32_t own_uid = 0;   // magmad's effective uid
  bool admits_remote = false;  // --console-remote
};

struct Admission {
  std::optional<Rights> rights;  // nothing: turned away
  std::string who;               // for logs: "uid=1000 address=127.0.0.1:41000"
  std::string refusal;           // what a peer that is turned away is told: one line
};
Admission admit(const AccessRules& rules, const Peer& peer);

// `print acl`: the rules as lines.
std::vector<std::string> describe_access(const AccessRules& rules);

}  // namespace magma::console
