// The client of a lava ring: file operations as asynchronous calls. It keeps one session with the
// ring, routes every request by slot with its lava map, tries again until a volcano answers
// (`onfail=wait`) and makes sure that no change is done twice: a retried request carries the same
// (session, lane, sequence).
//
// Sans I/O and single-threaded: fed by on_datagram/on_timer, sends through sys::Datagrams. Every
// call takes a callback that is called exactly once, possibly inside the call. Used by mount.magma,
// magma_tools and the simulator.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/base/result.h"
#include "libmagma/base/strong.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/client/directory_cache.h"
#include "libmagma/client/reach.h"
#include "libmagma/crypto/network_key.h"
#include "libmagma/ring/key.h"
#include "libmagma/rpc/rpc.h"
#include "libmagma/sys/clock.h"
#include "libmagma/sys/datagrams.h"
#include "libmagma/sys/random.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::client {

struct Credentials {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

template <class T>
using Done = UniqueFunction<void(Result<T>)>;

// Names a call so that it can be given up. 0 is none.
using CallId = std::uint64_t;

struct ClientConfig {
  std::vector<sys::Address> hosts;     // volcanoes to begin with, flare port
  crypto::Keyring keys;                // empty client secret if `passphrase` is used
  std::string passphrase;              // turned into keys once a volcano told the UUID
  std::string host_name;               // for people: who mounts
  bool fail_when_away = false;         // onfail=eio: fail after `stall` instead of waiting
  Duration stall = seconds(5);
  Reach reach = Reach::direct;
  std::size_t datagram_bytes_max = rpc::kDatagramBytesMax;
  std::size_t write_bytes_in_flight_max = 64u << 20;
  bool delays_writes = false;          // where a volcano allows it (write_back.h)
  bool delays_names = false;           // the same (delayed_names.h)
};

// Keys of flares by their paths, as the mount knows them (only asked when a file outgrows its
// home). Without a path: crypto::key_of_child(parent's key, name).
class KeySource {
 public:
  virtual ~KeySource() = default;
  virtual ring::Key key_of(Ino ino) = 0;
};

// Who keeps what a client was told: the mount, and with it the kernel.
class ChangeListener {
 public:
  virtual ~ChangeListener() = default;
  // These are others now. `done` must be called, on the client's thread and before its flush(),
  // when nothing of them is believed any more, also what was told since the call by earlier
  // requests; somebody's change waits for it.
  virtual void on_changed(std::vector<wire::Change> changes, UniqueFunction<void()> done) = 0;
  // An open of this client, through which the file was read, has ended: its access time may be
  // another. (Of its own changes a client is not told.)
  virtual void on_read(Ino) {}
  // Writes of this client that were delayed (wire::WriteReply) are with the ring now.
  virtual void on_sent(Ino, std::uint64_t /*data_version*/) {}
  // The same of attributes: what was asked for before may not tell them.
  virtual void on_attributes_sent(Ino) {}
  // Some are lost: what is kept of the content has never been the ring's.
  virtual void on_lost(Ino) {}
  // A change of a name that was told as done is not: it leads where it led before. `to_name`: that
  // it was moved to; empty: it was removed.
  virtual void on_name_lost(Ino /*dir*/, const std::string& /*name*/,
                            const std::string& /*to_name*/) {}
};

using KnownAttributes = DirectoryCache::Known;

struct Opened {
  wire::Attr attr;
  // All bytes of a small file as the open found them; nothing if they did not come along.
  std::optional<Bytes> content{};
};

class ClientImpl;

class Client {
 public:
  Client(ClientConfig config, sys::Clock& clock, sys::Random& random, sys::Datagrams& datagrams,
         KeySource& keys);
  ~Client();

  // Outlives the client; nullptr: nobody.
  void set_listener(ChangeListener* listener);
  // Connects and attaches; once. Errors: unreachable (no volcano among the hosts answered within
  // `patience`, detail names them), wrong_key, wrong_version. After it has succeeded the client
  // reconnects by itself for ever.
  void start(Duration patience, Done<wire::AttachReply> done);
  // Ends the session cleanly (bounded by `patience`), then calls `done`; calls still under way get
  // `io`. A client that is destroyed without it calls nobody back.
  void stop(Duration patience, UniqueFunction<void()> done);
  bool is_connected() const;
  const crypto::Uuid& filesystem() const;
  // Addresses of the volcanoes that hold a slot, as the lava map of the last attach has them: the
  // primary (a map names no mirrors yet). Empty if none is known.
  std::vector<std::string> volcanoes_of(ring::Slot slot) const;

  // Whether a name is known not to be in a directory that this client is changing, so that a
  // look-up of it may be spared (see directory_cache.h).
  bool knows_absent(Ino dir, std::string_view name) const;
  // The attributes of such a directory after the last change.
  std::optional<KnownAttributes> known_directory(Ino dir) const;
  // The same of a regular file that is not written to.
  std::optional<KnownAttributes> known_file(Ino ino) const;

  CallId lookup(Ino dir, std::string_view name, Credentials who, Done<wire::EntryReply> done);
  CallId getattr(Ino ino, Credentials who, Done<wire::Attr> done);
  CallId setattr(wire::SetattrRequest change, Credentials who, Done<wire::Attr> done);
  CallId readlink(Ino ino, Credentials who, Done<std::string> done);
  CallId create(wire::CreateRequest request, Credentials who, Done<wire::EntryReply> done);
  CallId mkdir(wire::MkdirRequest request, Credentials who, Done<wire::EntryReply> done);
  CallId symlink(wire::SymlinkRequest request, Credentials who, Done<wire::EntryReply> done);
  // `ino`: that the name leads to, if the caller is sure of it, and that it is no directory and has
  // no other name. Then it may be done a little later (delayed_names.h).
  CallId unlink(Ino dir, std::string_view name, Credentials who, Done<wire::EmptyReply> done,
                Ino ino = {});
  CallId rmdir(Ino dir, std::string_view name, Credentials who, Done<wire::EmptyReply> done);
  // `ino` as for unlink; it may have other names.
  CallId rename(wire::RenameRequest request, Credentials who, Done<wire::EmptyReply> done,
                Ino ino = {});
  CallId open(Ino ino, bool for_write, bool truncate, Credentials who, Done<wire::Attr> done);
  // As open for reading; the bytes come along if the file is small and of another version than
  // `known_version`.
  CallId open_with_content(Ino ino, std::optional<std::uint64_t> known_version, Credentials who,
                           Done<Opened> done);
  CallId mknod(wire::MknodRequest request, Credentials who, Done<wire::EntryReply> done);
  CallId tmpfile(wire::TmpfileRequest request, Credentials who, Done<wire::EntryReply> done);
  CallId link(wire::LinkRequest request, Credentials who, Done<wire::EntryReply> done);
  // Ends one open of `ino`; nobody need wait for it. `was_read`: the access time may follow.
  void release(Ino ino, bool for_write, bool was_read = false);
  // Up to `length` bytes at `offset`, fewer only at the end of the file. Any length up to 1 MiB;
  // split over chunks here.
  CallId read(Ino ino, std::uint64_t offset, std::uint32_t length, Credentials who,
              Done<Bytes> done);
  // Writes all of `bytes` (at most 1 MiB), or fails. Handles the spill to chunks. With
  // `may_delay` they may be sent later (write_back.h): then the reply says so, and tells no version
  // and no time.
  CallId write(Ino ino, std::uint64_t offset, Bytes bytes, bool append, bool kill_suidgid,
               Credentials who, Done<wire::WriteReply> done, bool may_delay = true);
  // A program closes the file: done when what was written is sent. The error of writes that were
  // delayed and then lost; fsync and the next write end it.
  CallId close(Ino ino, Done<wire::EmptyReply> done);
  CallId fsync(Ino ino, Credentials who, Done<wire::EmptyReply> done);
  // Copies up to 1 GiB at the volcano; fewer bytes only at the end of the source. The result is
  // the number of bytes copied.
  CallId copy(Ino from, std::uint64_t from_offset, Ino to, std::uint64_t to_offset,
              std::uint64_t length, bool kill_suidgid, Credentials who,
              Done<std::uint64_t> done);
  // One step of a fallocate: to be called again with from = next until next is the end.
  CallId fallocate(wire::FallocateRequest request, Credentials who,
                   Done<wire::FallocateReply> done);
  CallId seek(wire::SeekRequest request, Credentials who, Done<wire::SeekReply> done);

  CallId setxattr(wire::SetxattrRequest request, Credentials who, Done<wire::Attr> done);
  CallId getxattr(Ino ino, std::string_view name, Credentials who,
                  Done<wire::GetxattrReply> done);
  CallId listxattr(Ino ino, Credentials who, Done<wire::ListxattrReply> done);
  CallId removexattr(Ino ino, std::string_view name, Credentials who, Done<wire::Attr> done);

  // An advisory lock; would_block if it cannot be had now, then wait_for_lock tells when to try
  // again. Locks end with the session.
  CallId lock(wire::LockRequest request, Credentials who, Done<wire::LockReply> done);
  CallId wait_for_lock(wire::LockRequest request, Credentials who, Done<wire::EmptyReply> done);
  CallId test_lock(wire::LockRequest request, Credentials who, Done<wire::TestLockReply> done);

  CallId readdir(wire::ReaddirRequest request, Credentials who, Done<wire::ReaddirReply> done);
  CallId statfs(Credentials who, Done<wire::StatfsReply> done);
  // The ring as the volcano that serves the root knows it. not_found: it knows of none yet.
  CallId ring(Done<wire::RingReply> done);

  // Gives a call up (Ctrl-C): its callback gets `interrupted` at once. A change that was already
  // sent may still happen.
  void cancel(CallId call);
  // The kernel has forgotten the inode: placement knowledge may go.
  void forget(Ino ino);

  // To be driven by a loop or the simulator.
  void on_datagram(const sys::Address& from, MutableByteSpan datagram);
  void flush();  // after each batch of datagrams or calls
  Instant deadline() const;
  void on_timer();
  // Whether an answer is awaited (so that polling briefly before sleeping may pay).
  bool is_waiting() const;

  struct Stats {
    std::uint64_t calls = 0, retries = 0, reconnects = 0, moved = 0, sessions = 0;
    std::uint64_t relayed = 0;  // volcanoes that are reached through another one now
    std::uint64_t local_opens = 0;  // opens that were not asked for (local_opens.h)
    std::uint64_t keeps = 0;        // of them, told later
    std::uint64_t delayed_writes = 0;
    std::uint64_t delayed_sets = 0;   // of attributes
    std::uint64_t delayed_sent = 0;   // the requests they went in
    std::uint64_t delayed_bytes = 0;  // not sent, now
    std::uint64_t delayed_files = 0;  // of which something is not sent, now
    std::uint64_t write_recalls = 0, write_claims = 0;
    std::uint64_t delayed_names = 0;       // changes of them
    std::uint64_t delayed_files_made = 0;   // of them: files that were made
    std::uint64_t delayed_directories = 0;  // of which some are not sent, now
    std::uint64_t delayed_names_sent = 0;  // the requests they went in
    std::uint64_t own_locks = 0;       // calls about locks that were decided here (own_locks.h)
    std::uint64_t lock_sets = 0;       // the requests that told of them
  };
  Stats stats() const;
  const rpc::Counters& counters() const;

 private:
  std::unique_ptr<ClientImpl> impl_;
};

}  // namespace magma::client
