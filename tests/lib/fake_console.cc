#include "tests/lib/fake_console.h"

#include <algorithm>
#include <utility>

#include "libmagma/crypto/path_hash.h"

namespace magma::test {

using client::DirectoryBatch;
using client::Flare;
using console::Done;
using console::PendingPtr;

class FakeConsole::Given final : public console::Pending {
 public:
  Given(FakeConsole& fake, std::uint64_t id) : fake_(fake), id_(id) {}
  ~Given() override {
    std::erase_if(fake_.questions_, [this](const Question& q) { return q.id == id_; });
  }

 private:
  FakeConsole& fake_;
  std::uint64_t id_;
};

FakeConsole::FakeConsole() {
  nodes["/"] = {.mode = 0040755};
  names_.user = [](std::uint32_t uid) { return uid == 0 ? std::string("root") : std::string(); };
  names_.group = [](std::uint32_t gid) { return gid == 0 ? std::string("root") : std::string(); };
}

PendingPtr FakeConsole::shut_down(std::string_view, UniqueFunction<void(std::string)> tell,
                                  UniqueFunction<void()> done) {
  ++shutdowns;
  return ask([tell = std::move(tell), done = std::move(done)]() mutable {
    tell("gromit at 127.0.0.2:12000 has ended");
    done();
  });
}

PendingPtr FakeConsole::ask(UniqueFunction<void()> answer) {
  if (!is_slow) {
    answer();
    return nullptr;
  }
  questions_.push_back({++last_id_, std::move(answer)});
  return std::make_unique<Given>(*this, last_id_);
}

bool FakeConsole::answer_one() {
  if (questions_.empty()) return false;
  auto answer = std::move(questions_.front().answer);
  questions_.pop_front();
  answer();
  return true;
}

std::string plain_path(std::string_view path) {
  std::vector<std::string_view> names;
  while (!path.empty()) {
    const std::string_view name = path.substr(0, path.find('/'));
    path.remove_prefix(std::min(path.size(), name.size() + 1));
    if (name == ".." && !names.empty()) names.pop_back();
    if (!name.empty() && name != "." && name != "..") names.push_back(name);
  }
  std::string plain;
  for (const std::string_view name : names) plain += "/" + std::string(name);
  return plain.empty() ? "/" : plain;
}

PendingPtr FakeConsole::open_files(Done<console::Files*> done) {
  return ask([this, done = std::move(done)]() mutable {
    if (files_fail)
      done(fail(Code::unreachable));
    else
      done(this);
  });
}

PendingPtr FakeConsole::lava(Done<console::LavaReport> done) {
  return ask([this, done = std::move(done)]() mutable {
    console::LavaReport report;
    report.copies = "2 wanted, 1 had";
    report.health = "degraded: one copy of everything; gromit is away";
    report.lines.push_back({.nick = who.nick,
                            .fqdn = who.fqdn,
                            .address = who.address,
                            .alive = "yes",
                            .state = "up",
                            .vote = "votes, coordinator",
                            .holds = "primary of 4096 slots",
                            .slices = {ring::Slice::whole()},
                            .keys = nodes.size(),
                            .free_bytes = 1024,
                            .total_bytes = 4096});
    report.lines.push_back({.nick = "gromit",
                            .fqdn = "gromit.example.org",
                            .address = "127.0.0.2:12000",
                            .alive = "no, silent for 12 s",
                            .state = "joining",
                            .vote = "learns",
                            .holds = "mirror, behind"});
    done(std::move(report));
  });
}

console::CacheReport FakeConsole::caches() {
  console::CacheReport report;
  report.loads = {{"content files held open", 7, "note"}};
  report.files = {{Ino(0x10), 2, ring::Slot(0x123)}};
  report.sessions = {{0xabc, "ho\x1bst", 3, seconds(2)}};
  report.files_more = 6;
  return report;
}

PendingPtr FakeConsole::check_key(std::string typed, Done<bool> done) {
  return ask([is_right = typed == key, done = std::move(done)]() mutable { done(is_right); });
}

PendingPtr FakeConsole::learn_names(std::vector<std::uint32_t>, std::vector<std::uint32_t>,
                                    UniqueFunction<void()> done) {
  return ask(std::move(done));
}

namespace {

Flare flare_of(const std::string& path, const FakeConsole::Node& node) {
  Flare flare;
  flare.path = path;
  const std::size_t slash = path.rfind('/');
  flare.parent_path = slash == 0 ? "/" : path.substr(0, slash);
  flare.key = crypto::key_of_path(path);
  flare.slot = flare.key.slot();
  flare.attr.mode = node.mode;
  flare.attr.uid = node.uid;
  flare.attr.gid = node.gid;
  flare.attr.size = node.content.empty() ? node.size : node.content.size();
  if ((node.mode & 0170000) == 0120000) flare.target = node.content;
  return flare;
}

}  // namespace

PendingPtr FakeConsole::resolve(std::string_view path, client::PathWalk::Last, Done<Flare> done) {
  return ask([this, plain = plain_path(path), done = std::move(done)]() mutable {
    const auto found = nodes.find(plain);
    if (found == nodes.end())
      done(fail(Code::not_found, plain));
    else
      done(flare_of(plain, found->second));
  });
}

class FakeListing final : public console::Listing {
 public:
  FakeListing(FakeConsole& fake, const std::string& path) : fake_(fake) {
    const std::string prefix = path == "/" ? path : path + "/";
    for (const auto& [name, node] : fake.nodes)
      if (name.size() > prefix.size() && name.starts_with(prefix) &&
          name.find('/', prefix.size()) == std::string::npos) {
        Flare flare = flare_of(name, node);
        entries_.push_back({name.substr(prefix.size()), flare.attr, flare.target});
      }
    // As a volcano does: not by name.
    std::reverse(entries_.begin(), entries_.end());
  }
  void next(Done<DirectoryBatch> done) override {
    pending_ = fake_.ask([this, done = std::move(done)]() mutable {
      DirectoryBatch batch;
      while (at_ < entries_.size() && batch.entries.size() < fake_.batch_entries)
        batch.entries.push_back(entries_[at_++]);
      batch.is_last = at_ == entries_.size();
      done(std::move(batch));
    });
  }

 private:
  FakeConsole& fake_;
  std::vector<client::ListedEntry> entries_;
  std::size_t at_ = 0;
  PendingPtr pending_;
};

class FakeReading final : public console::Reading {
 public:
  FakeReading(FakeConsole& fake, const FakeConsole::Node& node) : fake_(fake), node_(node) {}
  void next(Done<Bytes> done) override {
    pending_ = fake_.ask([this, done = std::move(done)]() mutable {
      const std::uint64_t size = node_.content.empty() ? node_.size : node_.content.size();
      Bytes bytes;
      for (; at_ < size && bytes.size() < fake_.piece_bytes; ++at_)
        bytes.push_back(node_.content.empty() ? static_cast<std::uint8_t>(at_ % 251)
                                              : static_cast<std::uint8_t>(node_.content[at_]));
      fake_.bytes_read += bytes.size();
      done(std::move(bytes));
    });
  }

 private:
  FakeConsole& fake_;
  FakeConsole::Node node_;
  std::uint64_t at_ = 0;
  PendingPtr pending_;
};

std::unique_ptr<console::Listing> FakeConsole::list(Flare directory) {
  return std::make_unique<FakeListing>(*this, directory.path);
}

std::unique_ptr<console::Reading> FakeConsole::read(Flare file) {
  return std::make_unique<FakeReading>(*this, nodes[file.path]);
}

PendingPtr FakeConsole::erase(const Flare& flare, Done<void> done) {
  return ask([this, path = flare.path, done = std::move(done)]() mutable {
    erased.push_back(path);
    if (nodes.erase(path) == 1)
      done({});
    else
      done(fail(Code::not_found));
  });
}

std::vector<client::Holder> FakeConsole::holders(ring::Slot) { return {{who.nick, who.address}}; }

}  // namespace magma::test
