#include "libmagma/client/profiles.h"

#include <sys/stat.h>

#include <fmt/format.h>

#include "libmagma/client/ring_words.h"
#include "libmagma/crypto/path_hash.h"

namespace magma::client {

namespace {

std::string key_text(std::uint16_t slot, bool is_last) {
  // 12 bits of the slot, then the rest of the 160: none set, or all.
  return fmt::format("{:03x}{}", slot, std::string(37, is_last ? 'f' : '0'));
}

}  // namespace

void Profiles::set(const wire::AttachReply& reply, std::string_view filesystem, WallTime now) {
  profiles_.clear();
  since_ = now;
  std::string text =
      fmt::format("hashpath = {}\n", crypto::key_of_path("/.dht/" + reply.nick).hex());
  text += fmt::format("nickname = {}\n", reply.nick);
  std::string address;
  for (const wire::MapRun& run : reply.map)
    if (address.empty() && !run.replicas.empty()) address = run.replicas.front();
  std::size_t colon = address.rfind(':');
  text += fmt::format("ipaddr = {}\n", address.substr(0, colon));
  if (colon != std::string::npos) text += fmt::format("port = {}\n", address.substr(colon + 1));
  text += fmt::format("filesystem = {}\n", filesystem);
  text += fmt::format("map_version = {}\n", reply.map_version);
  for (const wire::MapRun& run : reply.map) {
    if (run.replicas.empty() || run.replicas.front() != address) continue;
    text += fmt::format("start_key = {}\nstop_key = {}\n", key_text(run.first.value, false),
                        key_text(run.last.value, true));
  }
  profiles_.push_back({reply.nick, std::move(text)});
}

void Profiles::set(const wire::RingReply& ring, WallTime now) {
  profiles_.clear();
  since_ = now;
  for (const wire::RingVolcano& volcano : ring.volcanoes)
    profiles_.push_back({volcano.nick, profile_text(ring, volcano)});
}

wire::Attr Profiles::attr_of(Ino ino) const {
  wire::Attr attr;
  attr.ino = ino;
  const bool is_directory = ino == directory();
  attr.mode = is_directory ? S_IFDIR | 0555 : S_IFREG | 0444;
  attr.nlink = is_directory ? 2 : 1;
  attr.size = is_directory ? 4096 : text_of(ino).size();
  attr.blocks = 8;
  attr.atime = attr.mtime = attr.ctime = attr.btime = since_;
  return attr;
}

std::optional<Ino> Profiles::find(std::string_view name) const {
  for (std::size_t i = 0; i < profiles_.size(); ++i)
    if (profiles_[i].name == name) return ino_of(i);
  return std::nullopt;
}

}  // namespace magma::client
