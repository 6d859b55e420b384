#include "magmad/console/access.h"

#include <fmt/format.h>

namespace magma::console {

namespace {

std::string trusted_users(const AccessRules& rules) {
  return rules.own_uid == 0 ? "root" : fmt::format("root, uid {} (magmad's own)", rules.own_uid);
}

}  // namespace

Admission admit(const AccessRules& rules, const Peer& peer) {
  Admission admission;
  const bool is_uid_known = peer.is_local && peer.uid.has_value();
  admission.who =
      fmt::format("uid={} address={}", is_uid_known ? std::to_string(*peer.uid) : "unknown",
                  peer.address.text());
  if (!peer.is_local && !rules.admits_remote) {
    admission.refusal =
        "This console serves its own machine only: use `magma console`, or start magmad with "
        "--console-remote.";
    return admission;
  }
  const bool is_trusted = is_uid_known && (*peer.uid == 0 || *peer.uid == rules.own_uid);
  admission.rights = is_trusted ? Rights::all : Rights::guest;
  return admission;
}

std::vector<std::string> describe_access(const AccessRules& rules) {
  return {
      "Files, UDP (flare port)",
      "  client key, network key   may mount and do everything with files; who mounts is trusted",
      "                            for the uids of its users (as with NFS sys)",
      "  no key                    nothing; no path and no netblock is treated otherwise",
      "Console, TCP",
      fmt::format("  {:<24}  all commands", trusted_users(rules) + ", local"),
      "  other users, local        help, pwd, print acl, login, exit, quit",
      rules.admits_remote
          ? "  other machines            as other users (--console-remote); telnet is clear text"
          : "  other machines            turned away (no --console-remote)",
      "  after login               all commands; login asks for the network key",
      "Files are read and erased in the console as root: permission bits do not count.",
  };
}

}  // namespace magma::console
