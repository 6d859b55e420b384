#include "magmad/storage_setup.h"

#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <utility>

#include <fmt/format.h>

#include "config.h"
#include "libmagma/base/log.h"
#include "libmagma/ring/profile_rules.h"
#include "libmagma/sys/executor.h"
#include "libmagma/sys_real/clock.h"
#include "libmagma/sys_real/key_file.h"
#include "libmagma/sys_real/loop.h"
#include "libmagma/sys_real/random.h"
#include "libmagma/sys_real/resolve.h"
#include "libmagma/sys_real/udp.h"
#include "libmagma/wire/lava_map_codec.h"
#include "magmad/node/joining.h"
#include "magmad/node/node.h"
#include "magmad/store/metadata_store.h"
#include "magmad/store/raft_store.h"
#include "magmad/store/rows.h"

namespace magma {

namespace {

constexpr std::string_view kKeyFile = "network.key";  // in the storage directory

Result<crypto::Keyring> given_keys(const MagmadOptions& options, const crypto::Uuid& filesystem) {
  if (!options.key_file.empty()) return sys_real::read_key_file(options.key_file);
  TRY_VALUE(crypto::Secret secret, crypto::secret_from_passphrase(options.passphrase, filesystem));
  return crypto::keyring_from_network_secret(secret);
}

std::string utc_text(WallTime when) {
  std::time_t whole = static_cast<std::time_t>(when.ns / 1'000'000'000);
  std::tm parts{};
  gmtime_r(&whole, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

// Kept in the storage directory, so that a restart needs no key.
Result<void> keep_key(const MagmadOptions& options, const Opened& opened) {
  const std::string path = options.directory + "/" + std::string(kKeyFile);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT)
    return fail(Code::io, "cannot replace " + path);
  return sys_real::write_key_file(path, crypto::network_key_file_text(*opened.keys.network));
}

// A founder's Raft log: the map of a ring of one, in which it alone votes. Not yet used, so one
// that is there was left by a start that was interrupted.
Result<void> found_ring(const MagmadOptions& options, Opened& opened) {
  opened.papers.format = store::kStorageFormat;
  opened.papers.volcano = 1;
  TRY_VALUE(const ring::LavaMap map,
            node::founded_map(opened.filesystem, profile_of(opened.papers, options),
                              options.copies.value_or(node::kCopiesDefault),
                              opened.papers.shares_slots));
  TRY(store::remove_raft_store(*opened.disk));
  TRY_VALUE(auto store, store::create_raft_store(*opened.disk));
  const raft::Persist first = raft::founding_write(raft::NodeId(1), wire::encode_map(map));
  return store->write({&first, 1});
}

std::uint64_t new_storage_number(sys::Random& random) {
  std::uint64_t number = 0;
  while (number == 0) number = random.next();
  return number;
}

// A directory of the time before there were rings: the founder of one.
Result<void> upgrade(const MagmadOptions& options, sys::Random& random, Opened& opened) {
  opened.papers.storage = new_storage_number(random);
  TRY(found_ring(options, opened));
  TRY(store::write_papers(*opened.disk, opened.papers));
  log_info("storage_upgraded directory={} format={}", options.directory, store::kStorageFormat);
  return {};
}

Result<void> make_network(const MagmadOptions& options, sys::Random& random, sys::Clock& clock,
                          store::StorageState state, Opened& opened) {
  if (state == store::StorageState::ours)
    return fail(Code::exists, options.directory +
                                  " already holds a volcano: start it without -b, or give "
                                  "another directory");
  if (options.key_file.empty() && options.passphrase.empty())
    return fail(Code::invalid,
                "-b needs a key: --key-file F (make one with `magma keygen F`), or -k TEXT");
  TRY(store::clear_unfinished(*opened.disk));
  opened.filesystem = crypto::make_uuid(random);
  opened.papers.uuid = crypto::uuid_text(opened.filesystem);
  opened.papers.nick = options.nick;
  opened.papers.fqdn = options.fqdn;
  opened.papers.small_files = options.small_file_bytes.value_or(65536);
  opened.papers.created = utc_text(clock.wall_now());
  opened.papers.shares_slots = !options.one_primary;
  TRY_VALUE(opened.keys, given_keys(options, opened.filesystem));
  if (!opened.keys.network)
    return fail(Code::bad_key_file, options.key_file +
                                        " holds a client key; a volcano needs the "
                                        "network key");
  opened.papers.storage = new_storage_number(random);
  TRY(keep_key(options, opened));
  TRY(found_ring(options, opened));
  opened.create = true;
  opened.is_first_start = true;
  return {};
}

Result<void> open_network(const MagmadOptions& options, sys::Random& random,
                          store::StorageState state, Opened& opened) {
  if (state == store::StorageState::empty)
    return fail(Code::not_magma, options.directory +
                                     " is empty: make a new network with -b, join one with -r, or "
                                     "give the directory of a volcano");
  if (state == store::StorageState::unfinished)
    return fail(Code::not_magma, options.directory + " was left unfinished by a -b: run -b again");
  TRY_VALUE(opened.papers, store::read_papers(*opened.disk));
  TRY_VALUE(opened.filesystem, crypto::parse_uuid(opened.papers.uuid));
  if (opened.papers.volcano == 0 && opened.papers.storage != 0)
    return fail(Code::not_magma,
                options.directory + " has not been taken in by its ring yet: run -r again");
  TRY_VALUE(opened.keys, sys_real::read_key_file(options.directory + "/" + std::string(kKeyFile)));
  if (!options.key_file.empty() || !options.passphrase.empty()) {
    TRY_VALUE(crypto::Keyring given, given_keys(options, opened.filesystem));
    if (!given.network || !opened.keys.network || !given.network->same_as(*opened.keys.network))
      return fail(Code::wrong_key, "the key is not the one of the network in " + options.directory);
  }
  if (opened.papers.storage == 0) TRY(upgrade(options, random, opened));
  return {};
}

// ---- taking over

// Nothing else happens before the volcano runs, so work may block.
class InlineExecutor final : public sys::Executor {
 public:
  void run(UniqueFunction<void()> work, UniqueFunction<void()> done) override {
    work();
    done();
  }
};

Result<store::MirrorStreamRow> of_earlier_version(ByteSpan image) {
  TRY_VALUE(auto state, wire::decode<store::MirrorStateRow>(image));
  store::MirrorStreamRow row;
  if (state.is_whole) row.known = ring::runs_of(ring::all_slots());
  row.is_mixed = state.is_whole && state.is_mixed;
  return row;
}

// The map that the volcano knew last; of version 0 if it never had one.
Result<ring::LavaMap> last_map(sys::Disk& disk) {
  auto before = store::open_raft_store(disk);
  if (!before && before.error().code != Code::not_found) return fail(before.error());
  raft::Stored stored;
  if (before) {
    TRY_VALUE(stored, (*before)->load());
  }
  if (stored.snapshot.state.empty()) return ring::LavaMap();
  TRY_VALUE(ring::LavaMap map, wire::decode_map(stored.snapshot.state));
  for (const raft::Entry& entry : stored.entries) {
    if (entry.kind != raft::EntryKind::command) continue;
    TRY_VALUE(const ring::Command command, wire::decode_command(entry.data));
    (void)ring::apply_command(map, command);  // what is refused is no news
  }
  return map;
}

// Whether the directory has everything: what it served itself, or has a copy of.
Result<void> check_copy(const MagmadOptions& options, const Opened& opened) {
  InlineExecutor executor;
  TRY_VALUE(auto metadata, store::MetadataStore::open(*opened.disk, executor, false));
  TRY_VALUE(const ring::LavaMap map, last_map(*opened.disk));
  const ring::VolcanoId self(static_cast<std::uint16_t>(opened.papers.volcano));
  ring::SlotMask slots;
  for (unsigned n = 0; map.shares_slots && n < ring::kSlotCount; ++n)
    slots[n] = map.slots[n].last_serving == self;
  bool is_mixed = false;
  std::optional<Error> broken;
  auto visit = [&](const store::MetadataStore::ScanRow& row) {
    if (row.a != 0) return true;
    auto state = row.b == 0 ? of_earlier_version(row.image)
                            : wire::decode<store::MirrorStreamRow>(row.image);
    if (!state) {
      broken = state.error();
      return false;
    }
    if (ring::is_sound(state->known) && !state->is_mixed) slots |= ring::set_of(state->known);
    is_mixed = is_mixed || state->is_mixed;
    return true;
  };
  TRY(metadata->scan_database(0, store::Table::mirror, visit));
  if (broken) return fail(std::move(*broken));
  if (slots.all()) return {};
  return fail(Code::invalid,
              fmt::format("{} cannot take over: {}", options.directory,
                          is_mixed
                              ? "it was catching up with the founder when it ended, so its copy is "
                                "of several moments; take another mirror if there is one"
                              : fmt::format("it has {} of {} slots; take another volcano",
                                            slots.count(), ring::kSlotCount)));
}

// The ring of one that this volcano founds: of a higher generation than the one it was in.
Result<ring::LavaMap> map_after(const MagmadOptions& options, Opened& opened) {
  TRY_VALUE(const ring::LavaMap before, last_map(*opened.disk));
  const bool is_known = before.version > 0;
  const std::uint32_t generation = is_known ? before.generation : 1;
  const std::uint8_t copies = is_known ? before.copies : node::kCopiesDefault;
  TRY_VALUE(ring::LavaMap map, node::founded_map(opened.filesystem,
                                                 profile_of(opened.papers, options), copies,
                                                 opened.papers.shares_slots));
  map.generation = generation + 1;
  return map;
}

// In this order: after a crash in between the same command goes on.
Result<void> take_over(const MagmadOptions& options, sys::Random& random,
                       store::StorageState state, Opened& opened) {
  TRY(open_network(options, random, state, opened));
  TRY_VALUE(const ring::LavaMap before, last_map(*opened.disk));
  const ring::VolcanoId self(static_cast<std::uint16_t>(opened.papers.volcano));
  const bool decides_alone = before.version > 0 ? before.voters == std::vector{self}
                                                : self == ring::kFounder;
  if (decides_alone || (self == ring::kFounder && !opened.papers.shares_slots))
    return fail(Code::exists, options.directory +
                                  " is of the volcano that decides about its ring, there is "
                                  "nothing to take over: start it without --take-over");
  TRY(check_copy(options, opened));
  opened.papers.volcano = ring::kFounder.value;
  opened.papers.storage = new_storage_number(random);
  TRY_VALUE(const ring::LavaMap map, map_after(options, opened));
  TRY(store::remove_raft_store(*opened.disk));
  TRY_VALUE(auto raft, store::create_raft_store(*opened.disk));
  const raft::Persist first = raft::founding_write(raft::NodeId(1), wire::encode_map(map));
  TRY(raft->write({&first, 1}));
  raft.reset();
  TRY(store::write_papers(*opened.disk, opened.papers));
  opened.is_first_start = true;
  log_warning("taken_over directory={} nick={} generation={} hint={}", options.directory,
              opened.papers.nick, map.generation,
              "the founder that was lost must never be started again");
  return {};
}

// ---- joining

// Socket and loop for as long as it takes.
class JoinDriver {
 public:
  static Result<std::unique_ptr<JoinDriver>> make(const MagmadOptions& options) {
    auto hosts = sys_real::resolve(options.ring, kNodePort);
    if (!hosts) return fail(hosts.error().code, "-r " + options.ring + ": " + hosts.error().detail);
    std::unique_ptr<JoinDriver> driver(new JoinDriver);
    sys::Address own = options.address;
    own.port = options.node_port;
    TRY_VALUE(driver->socket_, sys_real::UdpSocket::bind(own));
    driver->joining_.emplace(std::move(*hosts), driver->clock_, driver->random_, *driver->socket_);
    TRY(driver->wire_up());
    return driver;
  }

  Result<crypto::Uuid> discover() {
    return await<crypto::Uuid>([this](auto done) { joining_->discover(std::move(done)); });
  }
  Result<node::Joining::Accepted> join(const crypto::Keyring& keys, wire::JoinRequest request) {
    return await<node::Joining::Accepted>(
        [&](auto done) { joining_->join(keys, std::move(request), std::move(done)); });
  }

 private:
  JoinDriver() : loop_(clock_) {}

  Result<void> wire_up() {
    on_datagram_ = [this](const sys::Address& from, MutableByteSpan datagram) {
      joining_->on_datagram(from, datagram);
    };
    TRY_VALUE(watch_, loop_.watch(socket_->fd(), sys_real::kReadable, [this](unsigned events) {
      if ((events & sys_real::kWritable) != 0) socket_->on_writable();
      if ((events & sys_real::kReadable) != 0) socket_->receive(on_datagram_);
    }));
    socket_->on_want_writable([this](bool want) {
      watch_.set_events(sys_real::kReadable | (want ? sys_real::kWritable : 0));
    });
    loop_.set_deadline([this] { return joining_->deadline(); }, [this] { joining_->on_timer(); });
    loop_.on_flush([this] { joining_->flush(); });
    return {};
  }

  template <class T, class Begin>
  Result<T> await(Begin begin) {
    std::optional<Result<T>> answer;
    begin([&](Result<T> result) {
      answer = std::move(result);
      loop_.stop();
    });
    while (!answer) loop_.run();
    return std::move(*answer);
  }

  sys_real::Clock clock_;
  sys_real::Random random_;
  sys_real::Loop loop_;
  std::unique_ptr<sys_real::UdpSocket> socket_;
  std::optional<node::Joining> joining_;
  sys_real::UdpSocket::OnDatagram on_datagram_;
  sys_real::Loop::Watch watch_;
};

// Whether the directory may join the filesystem at all. True: an attempt that was cut off goes on.
Result<bool> check_directory(const MagmadOptions& options, store::StorageState state,
                             const Opened& opened) {
  if (state != store::StorageState::ours) return false;
  const store::VolcanoPapers& papers = opened.papers;
  const std::string there = crypto::uuid_text(opened.filesystem);
  if (papers.uuid != there)
    return fail(Code::wrong_filesystem,
                fmt::format("{} belongs to {} of filesystem {}, but {} is of {}: give an empty "
                            "directory",
                            options.directory, papers.nick, papers.uuid, options.ring, there));
  if (papers.volcano != 0 || papers.storage == 0)
    return fail(Code::exists, fmt::format("{} is {} of this ring already: start it without -r",
                                          options.directory, papers.nick));
  return true;
}

// In this order, so that a crash at any moment leaves a directory with which the same command goes
// on: papers with the directory's number, which the ring remembers; the ring's answer; databases
// and Raft log, made anew; papers with the volcano's number (by Daemon, when all is there).
Result<void> join_network(const MagmadOptions& options, sys::Random& random, sys::Clock& clock,
                          store::StorageState state, Opened& opened) {
  if (state == store::StorageState::ours) {
    TRY_VALUE(opened.papers, store::read_papers(*opened.disk));
  }
  if (options.key_file.empty() && options.passphrase.empty())
    return fail(Code::invalid, "-r needs the network key of the ring: --key-file F, or -k TEXT");
  TRY_VALUE(auto driver, JoinDriver::make(options));
  TRY_VALUE(opened.filesystem, driver->discover());
  TRY_VALUE(const bool goes_on, check_directory(options, state, opened));
  TRY_VALUE(opened.keys, given_keys(options, opened.filesystem));
  if (!opened.keys.network)
    return fail(Code::bad_key_file, options.key_file +
                                        " holds a client key; a volcano needs the "
                                        "network key");
  store::VolcanoPapers papers;
  papers.uuid = crypto::uuid_text(opened.filesystem);
  papers.nick = options.nick;
  papers.fqdn = options.fqdn;
  papers.created = utc_text(clock.wall_now());
  papers.storage = goes_on ? opened.papers.storage : new_storage_number(random);
  TRY(store::clear_unfinished(*opened.disk));
  TRY(store::write_papers(*opened.disk, papers));
  auto accepted = driver->join(opened.keys, {.version = PACKAGE_VERSION,
                                             .filesystem = opened.filesystem,
                                             .profile = profile_of(papers, options)});
  if (!accepted) {
    // Nobody knows of the number, so it need not be kept (unless an answer may have been lost).
    if (!goes_on && accepted.error().code != Code::timeout) TRY(store::remove_papers(*opened.disk));
    return fail(accepted.error());
  }
  papers.volcano = accepted->volcano.value;
  papers.small_files = accepted->small_files;
  papers.shares_slots = accepted->shares_slots;
  opened.papers = papers;
  TRY(keep_key(options, opened));
  TRY_VALUE(auto store, store::create_raft_store(*opened.disk));
  opened.create = true;
  opened.is_first_start = !goes_on;
  log_info("joined volcano={} by={} filesystem={}", papers.volcano, accepted->by, papers.uuid);
  return {};
}

}  // namespace

ring::Profile profile_of(const store::VolcanoPapers& papers, const MagmadOptions& options) {
  sys::Address node = options.address;
  node.port = options.node_port;
  ring::Profile profile{.nick = papers.nick,
                        .fqdn = papers.fqdn,
                        .flare = options.address.text(),
                        .node = node.text(),
                        .console = options.console ? options.console->text() : "",
                        .storage = papers.storage};
  // A name of a time when any text would do.
  if (!ring::bad_profile(profile).empty()) profile.fqdn = papers.nick + ".local";
  return profile;
}

Result<Opened> open_storage(const MagmadOptions& options, sys::Random& random, sys::Clock& clock) {
  Opened opened;
  const bool makes = options.bootstrap || !options.ring.empty();
  auto disk = sys_real::PosixDisk::open_directory(options.directory, makes);
  if (!disk && disk.error().code == Code::not_found && makes)
    return fail(Code::not_found, "cannot make " + options.directory +
                                     ": the directory it is to be "
                                     "in does not exist");
  if (!disk && disk.error().code == Code::not_found)
    return fail(Code::not_found, options.directory +
                                     " does not exist: make it, or start a new "
                                     "network with -b");
  if (!disk) return fail(disk.error());
  opened.disk = std::move(*disk);
  auto look = [&]() -> Result<store::StorageState> {
    auto state = store::inspect_storage(*opened.disk);
    if (!state) return fail(state.error().code, options.directory + ": " + state.error().detail);
    return state;
  };
  TRY(look());  // before the lock file is put into what may be somebody else's directory
  TRY_VALUE(opened.lock, sys_real::lock_directory(options.directory));
  TRY_VALUE(store::StorageState state, look());
  if (options.bootstrap)
    TRY(make_network(options, random, clock, state, opened));
  else if (options.take_over)
    TRY(take_over(options, random, state, opened));
  else if (!options.ring.empty())
    TRY(join_network(options, random, clock, state, opened));
  else
    TRY(open_network(options, random, state, opened));
  return opened;
}

}  // namespace magma
