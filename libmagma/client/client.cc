#include "libmagma/client/client.h"

#include <utility>

#include "libmagma/base/posix_acl.h"
#include "libmagma/client/client_impl.h"
#include "libmagma/client/space.h"
#include "libmagma/client/zeroing.h"

namespace magma::client {

Client::Client(ClientConfig config, sys::Clock& clock, sys::Random& random,
               sys::Datagrams& datagrams, KeySource& keys)
    : impl_(std::make_unique<ClientImpl>(std::move(config), clock, random, datagrams, keys)) {}
Client::~Client() = default;

void Client::set_listener(ChangeListener* listener) { impl_->set_listener(listener); }
void Client::start(Duration patience, Done<wire::AttachReply> done) {
  impl_->start(patience, std::move(done));
}
void Client::stop(Duration patience, UniqueFunction<void()> done) {
  impl_->stop(patience, std::move(done));
}
bool Client::is_connected() const { return impl_->is_running() && impl_->links().is_any_up(); }
const crypto::Uuid& Client::filesystem() const { return impl_->links().filesystem(); }

std::vector<std::string> Client::volcanoes_of(ring::Slot slot) const {
  return impl_->volcanoes_of(slot);
}

bool Client::knows_absent(Ino dir, std::string_view name) const {
  return impl_->requests().directories().is_absent(dir, name, impl_->now());
}

std::optional<KnownAttributes> Client::known_directory(Ino dir) const {
  return impl_->requests().directories().attr_of(dir, impl_->now());
}

std::optional<KnownAttributes> Client::known_file(Ino ino) const {
  if (impl_->write_back().is_dirty(ino)) return std::nullopt;
  const Instant now = impl_->now();
  const wire::Attr* attr = impl_->requests().known_file(ino, now);
  if (attr == nullptr) return std::nullopt;
  return KnownAttributes{*attr, attr->believed_until - now};
}

CallId Client::lookup(Ino dir, std::string_view name, Credentials who,
                      Done<wire::EntryReply> done) {
  if (impl_->refuse(done)) return 0;
  wire::LookupRequest message;
  message.dir = dir;
  message.name = name;
  auto start = [this, who, message = std::move(message)](Done<wire::EntryReply> then) {
    return impl_->requests().begin(ring::home_of(message.dir), who, message, std::move(then));
  };
  if (!impl_->delayed_names().touches(dir, name)) return start(std::move(done));
  return impl_->after_names(dir, std::move(done), std::move(start));
}

CallId Client::getattr(Ino ino, Credentials who, Done<wire::Attr> done) {
  if (impl_->refuse(done)) return 0;
  auto start = [this, ino, who](Done<wire::Attr> then) {
    wire::GetattrRequest message;
    message.ino = ino;
    return impl_->requests().begin(ring::home_of(ino), who, message, std::move(then));
  };
  return impl_->ordered(ino, std::move(done), std::move(start));
}

CallId Client::setattr(wire::SetattrRequest change, Credentials who, Done<wire::Attr> done) {
  if (impl_->refuse(done)) return 0;
  bool grows = (change.fields_set & wire::kSetSize) != 0 &&
               change.size > impl_->content().small_file_bytes_max();
  if (grows && change.key_for_chunks == ring::Key{})
    change.key_for_chunks = impl_->keys().key_of(change.ino);
  const Ino ino = change.ino;
  const bool cuts = (change.fields_set & wire::kSetSize) != 0;
  if (impl_->delays(change, who, done)) return 0;
  impl_->write_back().forget_attributes(ino);
  auto start = [this, who, change = std::move(change)](Done<wire::Attr> then) {
    return impl_->requests().begin(ring::home_of(change.ino), who, change, std::move(then));
  };
  if (cuts) return impl_->ordered_change(ino, std::move(done), std::move(start));
  return impl_->ordered(ino, std::move(done), std::move(start));
}

CallId Client::readlink(Ino ino, Credentials who, Done<std::string> done) {
  if (impl_->refuse(done)) return 0;
  wire::ReadlinkRequest message;
  message.ino = ino;
  return impl_->requests().begin(ring::home_of(ino), who, message, std::move(done));
}

CallId Client::create(wire::CreateRequest request, Credentials who, Done<wire::EntryReply> done) {
  if (impl_->refuse(done) || impl_->makes(request, who, done)) return 0;
  auto named = [this, dir = request.dir, name = request.name,
                done = std::move(done)](Result<wire::EntryReply> entry) mutable {
    if (entry) impl_->write_back().named(entry->ino, dir, name);
    done(std::move(entry));
  };
  const Ino dir = request.dir;
  auto start = [this, who, request = std::move(request)](Done<wire::EntryReply> then) mutable {
    request.wants_to_delay = impl_->delayed_names().wants_token(request.dir, impl_->now());
    return impl_->requests().begin_create(request, who, std::move(then));
  };
  return impl_->after_names(dir, Done<wire::EntryReply>(std::move(named)), std::move(start));
}

CallId Client::mkdir(wire::MkdirRequest request, Credentials who, Done<wire::EntryReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->make_name(std::move(request), who, std::move(done));
}

CallId Client::symlink(wire::SymlinkRequest request, Credentials who,
                       Done<wire::EntryReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->make_name(std::move(request), who, std::move(done));
}

CallId Client::unlink(Ino dir, std::string_view name, Credentials who,
                      Done<wire::EmptyReply> done, Ino ino) {
  if (impl_->refuse(done)) return 0;
  impl_->write_back().forget_attributes(dir, name);
  NameChange change{.dir = dir, .name = std::string(name), .removes = true};
  if (impl_->delays(change, ino, who)) {
    done(wire::EmptyReply());
    return 0;
  }
  auto start = [this, who, change = std::move(change)](Done<wire::EmptyReply> then) {
    const bool wants = impl_->delayed_names().wants_token(change.dir, impl_->now());
    const wire::UnlinkRequest message{change.dir, change.name, wants};
    return impl_->requests().begin_names(ring::home_of(change.dir), who, message, change,
                                         std::move(then));
  };
  return impl_->after_names(dir, std::move(done), std::move(start));
}

CallId Client::rmdir(Ino dir, std::string_view name, Credentials who,
                     Done<wire::EmptyReply> done) {
  if (impl_->refuse(done)) return 0;
  wire::RmdirRequest message;
  message.dir = dir;
  message.name = name;
  auto start = [this, who, message = std::move(message)](Done<wire::EmptyReply> then) {
    return impl_->requests().begin_names(
        ring::home_of(message.dir), who, message,
        {.dir = message.dir, .name = message.name, .removes = true}, std::move(then));
  };
  return impl_->after_all_names(std::move(done), std::move(start));
}

CallId Client::rename(wire::RenameRequest request, Credentials who, Done<wire::EmptyReply> done,
                      Ino ino) {
  if (impl_->refuse(done)) return 0;
  NameChange names{.dir = request.to_dir,
                   .name = request.to_name,
                   .from_dir = request.from_dir,
                   .from_name = request.from_name,
                   .exchanges = (request.flags & wire::kRenameExchange) != 0};
  const Ino dir = request.from_dir;
  const std::string name = request.from_name;
  impl_->write_back().forget_attributes(request.to_dir, request.to_name);
  std::optional<std::pair<Ino, std::string>> exchanged;
  if (names.exchanges) exchanged.emplace(request.to_dir, request.to_name);
  auto ask = [this, who, request = std::move(request), names](Done<wire::EmptyReply> then) mutable {
    request.wants_to_delay = names.dir == names.from_dir && !names.exchanges &&
                             impl_->delayed_names().wants_token(names.dir, impl_->now());
    return impl_->requests().begin_names(ring::home_of(request.to_dir), who, request, names,
                                         std::move(then));
  };
  auto start = [this, who, ino, names = std::move(names),
                ask = std::move(ask)](Done<wire::EmptyReply> then) mutable -> CallId {
    if (names.exchanges || !impl_->delays(names, ino, who))
      return impl_->after_all_names(std::move(then), std::move(ask));
    then(wire::EmptyReply());
    return 0;
  };
  // Which files wait is decided before the names are forgotten.
  auto wait = [this, dir, name, exchanged](UniqueFunction<void()> then) {
    WriteBack& writes = impl_->write_back();
    writes.when_clean(dir, name, impl_->now(), std::move(then));
    writes.forget_attributes(dir, name);
    writes.forget_name(dir, name);
    if (exchanged) writes.forget_name(exchanged->first, exchanged->second);
  };
  if (impl_->write_back().has_dirty())
    return impl_->deferred(std::move(done), std::move(wait), std::move(start));
  wait([] {});
  return start(std::move(done));
}

CallId Client::open(Ino ino, bool for_write, bool truncate, Credentials who,
                    Done<wire::Attr> done) {
  if (impl_->refuse(done) || impl_->has_no_room(ino, done)) return 0;
  if (!for_write && !truncate)
    if (const wire::Attr* attr = impl_->requests().open_locally(ino)) {
      done(wire::Attr(*attr));
      return 0;
    }
  wire::OpenRequest message;
  message.ino = ino;
  message.for_write = for_write;
  message.truncate = truncate;
  return impl_->ordered(ino, std::move(done), [this, message, who](Done<wire::Attr> then) {
    if (!message.truncate) return impl_->requests().begin_open(message, who, std::move(then));
    const Instant begun = impl_->now();
    impl_->write_back().begin_cut(message.ino, begun);
    Done<wire::Attr> cut = [this, ino = message.ino, begun,
                            then = std::move(then)](Result<wire::Attr> attr) mutable {
      impl_->write_back().ended_cut(ino, begun, impl_->now());
      then(std::move(attr));
    };
    return impl_->requests().begin_open(message, who, std::move(cut));
  });
}

CallId Client::open_with_content(Ino ino, std::optional<std::uint64_t> known_version,
                                 Credentials who, Done<Opened> done) {
  constexpr std::uint64_t kNoVersion = ~std::uint64_t{0};  // of no file
  if (impl_->refuse(done) || impl_->has_no_room(ino, done)) return 0;
  if (const wire::Attr* attr = impl_->requests().open_locally(ino)) {
    done(Opened{.attr = *attr});
    return 0;
  }
  wire::OpenRequest message;
  message.ino = ino;
  message.content_unless = known_version.value_or(kNoVersion);
  return impl_->ordered(ino, std::move(done), [this, message, who](Done<Opened> then) {
    return impl_->requests().begin_open(message, who, std::move(then));
  });
}

CallId Client::mknod(wire::MknodRequest request, Credentials who, Done<wire::EntryReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->make_name(std::move(request), who, std::move(done));
}

CallId Client::tmpfile(wire::TmpfileRequest request, Credentials who,
                       Done<wire::EntryReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->requests().begin_tmpfile(request, who, std::move(done));
}

CallId Client::link(wire::LinkRequest request, Credentials who, Done<wire::EntryReply> done) {
  if (impl_->refuse(done)) return 0;
  const Ino ino = request.ino;
  impl_->write_back().forget_name(ino);
  impl_->write_back().forget_attributes(ino);
  auto start = [this, who, request = std::move(request)](Done<wire::EntryReply> then) {
    return impl_->make_name(request, who, std::move(then));
  };
  return impl_->ordered(ino, std::move(done),
                        [this, start = std::move(start)](Done<wire::EntryReply> then) {
                          return impl_->after_all_names(std::move(then), start);
                        });
}

void Client::release(Ino ino, bool for_write, bool was_read) {
  impl_->release(ino, for_write, was_read);
}

CallId Client::read(Ino ino, std::uint64_t offset, std::uint32_t length, Credentials who,
                    Done<Bytes> done) {
  if (impl_->refuse(done)) return 0;
  auto start = [this, ino, offset, length, who](Done<Bytes> then) {
    return impl_->content().read(ino, offset, length, who, std::move(then));
  };
  if (impl_->write_back().may_read(ino, offset, length)) return start(std::move(done));
  return impl_->ordered(ino, std::move(done), start);
}

CallId Client::write(Ino ino, std::uint64_t offset, Bytes bytes, bool append, bool kill_suidgid,
                     Credentials who, Done<wire::WriteReply> done, bool may_delay) {
  if (impl_->refuse(done)) return 0;
  WriteBack::Write write{.ino = ino,
                         .offset = offset,
                         .length = bytes.size(),
                         .append = append,
                         .may_delay = may_delay,
                         .kill_suidgid = kill_suidgid,
                         .uid = who.uid,
                         .gid = who.gid};
  return impl_->write(write, std::move(bytes), who, std::move(done));
}

CallId Client::close(Ino ino, Done<wire::EmptyReply> done) {
  if (impl_->refuse(done)) return 0;
  auto tell = [this, ino](Done<wire::EmptyReply> then) {
    if (auto lost = impl_->write_back().error_of(ino))
      then(fail(std::move(*lost)));
    else
      then(wire::EmptyReply());
    return CallId{0};
  };
  return impl_->after_writes(ino, std::move(done), std::move(tell));
}

CallId Client::fsync(Ino ino, Credentials who, Done<wire::EmptyReply> done) {
  if (impl_->refuse(done)) return 0;
  impl_->delayed_names().synced(ino);
  auto sync = [this, ino, who](Done<wire::EmptyReply> then) {
    auto lost = impl_->write_back().take_error(ino);
    if (!lost) lost = impl_->delayed_names().take_error(ino);
    if (lost) {
      then(fail(std::move(*lost)));
      return CallId{0};
    }
    return impl_->content().fsync(ino, who, std::move(then));
  };
  // What was removed before is gone, too, as with a journal.
  return impl_->ordered(ino, std::move(done), [this, sync](Done<wire::EmptyReply> then) {
    return impl_->after_all_names(std::move(then), sync);
  });
}

CallId Client::copy(Ino from, std::uint64_t from_offset, Ino to, std::uint64_t to_offset,
                    std::uint64_t length, bool kill_suidgid, Credentials who,
                    Done<std::uint64_t> done) {
  if (impl_->refuse(done)) return 0;
  auto start = [=, this](Done<std::uint64_t> then) {
    return impl_->content().copy(from, from_offset, to, to_offset, length, kill_suidgid, who,
                                 std::move(then));
  };
  auto when_source_is = [this, to, start](Done<std::uint64_t> then) {
    return impl_->ordered_change(to, std::move(then), start);
  };
  return impl_->ordered(from, std::move(done), when_source_is);
}

CallId Client::fallocate(wire::FallocateRequest request, Credentials who,
                         Done<wire::FallocateReply> done) {
  if (impl_->refuse(done)) return 0;
  bool grows = (request.mode & wire::kFallocateKeepSize) == 0 &&
               request.offset + request.length > impl_->content().small_file_bytes_max();
  if (grows && request.key_for_chunks == ring::Key{})
    request.key_for_chunks = impl_->keys().key_of(request.ino);
  const Ino ino = request.ino;
  auto start = [this, request = std::move(request),
                who](Done<wire::FallocateReply> then) mutable -> CallId {
    const ring::Slot home = ring::home_of(request.ino);
    if (!is_zeroing(request)) return impl_->requests().begin(home, who, request, std::move(then));
    auto answered = [this, request, who, then = std::move(then)](
                        Result<wire::FallocateReply> reply) mutable {
      if (reply || reply.error().code != Code::unsupported) return then(std::move(reply));
      write_zeros(*this, request, who, std::move(then));
    };
    return impl_->requests().begin(home, who, request,
                                   Done<wire::FallocateReply>(std::move(answered)));
  };
  return impl_->ordered_change(ino, std::move(done), std::move(start));
}

CallId Client::seek(wire::SeekRequest request, Credentials who, Done<wire::SeekReply> done) {
  if (impl_->refuse(done)) return 0;
  const Ino ino = request.ino;
  return impl_->ordered(
      ino, std::move(done), [this, who, request = std::move(request)](Done<wire::SeekReply> then) {
        return impl_->requests().begin(ring::home_of(request.ino), who, request, std::move(then));
      });
}

namespace {

// cp -p sets the mode by an access list that says no more than permission bits do: the mode it
// makes of `mode`, if it is known and the request is of that kind.
std::optional<std::uint32_t> mode_of_access_list(const wire::SetxattrRequest& request,
                                                 std::optional<std::uint32_t> mode) {
  if (!mode || request.name != "system.posix_acl_access" || request.flags != 0)
    return std::nullopt;
  const auto list = parse_acl(request.value);
  if (!list || list->empty()) return std::nullopt;
  const AclMode made = magma::mode_of(*list, *mode);
  if (!made.is_equivalent) return std::nullopt;
  return made.mode & 07777;
}

}  // namespace

CallId Client::setxattr(wire::SetxattrRequest request, Credentials who, Done<wire::Attr> done) {
  if (impl_->refuse(done)) return 0;
  const Ino ino = request.ino;
  if (auto mode = mode_of_access_list(request, impl_->write_back().mode_of(ino))) {
    wire::SetattrRequest change;
    change.ino = ino;
    change.fields_set = wire::kSetMode;
    change.mode = *mode;
    if (impl_->delays(change, who, done)) return 0;
  }
  impl_->write_back().forget_attributes(ino);
  auto start = [this, who, request = std::move(request)](Done<wire::Attr> then) {
    return impl_->requests().begin(ring::home_of(request.ino), who, request, std::move(then));
  };
  return impl_->ordered(ino, std::move(done), std::move(start));
}

CallId Client::getxattr(Ino ino, std::string_view name, Credentials who,
                        Done<wire::GetxattrReply> done) {
  if (impl_->refuse(done)) return 0;
  wire::GetxattrRequest message;
  message.ino = ino;
  message.name = name;
  auto start = [this, who, ino, message = std::move(message)](Done<wire::GetxattrReply> then) {
    return impl_->requests().begin(ring::home_of(ino), who, message, std::move(then));
  };
  return impl_->ordered(ino, std::move(done), std::move(start));
}

CallId Client::listxattr(Ino ino, Credentials who, Done<wire::ListxattrReply> done) {
  if (impl_->refuse(done)) return 0;
  wire::ListxattrRequest message;
  message.ino = ino;
  auto start = [this, who, ino, message = std::move(message)](Done<wire::ListxattrReply> then) {
    return impl_->requests().begin(ring::home_of(ino), who, message, std::move(then));
  };
  return impl_->ordered(ino, std::move(done), std::move(start));
}

CallId Client::removexattr(Ino ino, std::string_view name, Credentials who,
                           Done<wire::Attr> done) {
  if (impl_->refuse(done)) return 0;
  wire::RemovexattrRequest message;
  message.ino = ino;
  message.name = name;
  impl_->write_back().forget_attributes(ino);
  return impl_->ordered(
      ino, std::move(done), [this, who, ino, message = std::move(message)](Done<wire::Attr> then) {
        return impl_->requests().begin(ring::home_of(ino), who, message, std::move(then));
      });
}

CallId Client::lock(wire::LockRequest request, Credentials who, Done<wire::LockReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->lock(request, who, std::move(done));
}

CallId Client::wait_for_lock(wire::LockRequest request, Credentials who,
                             Done<wire::EmptyReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->wait_for_lock(request, who, std::move(done));
}

CallId Client::test_lock(wire::LockRequest request, Credentials who,
                         Done<wire::TestLockReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->test_lock(request, who, std::move(done));
}

CallId Client::readdir(wire::ReaddirRequest request, Credentials who,
                       Done<wire::ReaddirReply> done) {
  if (impl_->refuse(done)) return 0;
  const Ino dir = request.dir;
  auto start = [this, who, request = std::move(request)](Done<wire::ReaddirReply> then) {
    Done<wire::ReaddirReply> listed = [this, dir = request.dir, after = request.cookie,
                                       then = std::move(then)](auto reply) mutable {
      if (reply) impl_->requests().note_listed(dir, after, *reply);
      then(std::move(reply));
    };
    return impl_->requests().begin(ring::home_of(request.dir), who, request, std::move(listed));
  };
  return impl_->after_names(dir, std::move(done), std::move(start));
}

CallId Client::statfs(Credentials who, Done<wire::StatfsReply> done) {
  if (impl_->refuse(done)) return 0;
  auto start = [this, who](Done<wire::StatfsReply> then) {
    if (const auto& owners = impl_->owners(); owners.size() > 1)
      return sum_space(impl_->requests(), owners, who, std::move(then));
    return impl_->requests().begin(impl_->root_slot(), who, wire::StatfsRequest{},
                                   std::move(then));
  };
  return impl_->after_all_names(std::move(done), std::move(start));
}

CallId Client::ring(Done<wire::RingReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->requests().begin(
      impl_->root_slot(), {}, wire::RingRequest{},
      RawDone([done = std::move(done)](Answer& answer) mutable {
        if (!answer.is_ok()) return done(fail(answer.code, std::move(answer.detail)));
        done(wire::decode<wire::RingReply>(answer.body));
      }));
}

void Client::cancel(CallId call) {
  if (call != 0) impl_->cancel(call);
}

void Client::forget(Ino ino) { impl_->files().forget(ino, impl_->clock().now()); }

void Client::on_datagram(const sys::Address& from, MutableByteSpan datagram) {
  impl_->links().endpoint().on_datagram(from, datagram);
}

void Client::flush() {
  impl_->after_events();
  impl_->links().endpoint().flush();
}

Instant Client::deadline() const { return impl_->deadline(); }

void Client::on_timer() {
  impl_->on_timer();
  flush();
}

bool Client::is_waiting() const { return impl_->is_waiting(); }
Client::Stats Client::stats() const { return impl_->stats(); }
const rpc::Counters& Client::counters() const { return impl_->links().endpoint().counters(); }

}  // namespace magma::client
