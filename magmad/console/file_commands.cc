// cd, ls, cat, inspect, erase. Each is a small machine: it asks for the network's files, for the
// flare its path names, and then goes on by itself; one question is under way at a time.
#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "libmagma/base/log.h"
#include "magmad/console/commands.h"
#include "magmad/console/text.h"

namespace magma::console {

namespace {

using client::DirectoryBatch;
using client::Flare;
using client::ListedEntry;
using Last = client::PathWalk::Last;

bool is_directory(const wire::Attr& attr) { return (attr.mode & 0170000) == 0040000; }

// What all of them share: files, then the flare, then begin(). An answer that comes inside the
// question's own call is not acted on there (the loop of go_on() does), so that no depth of calls
// grows with the length of a file.
class FileCommand : public Running {
 public:
  FileCommand(Session& session, std::string name, std::string path, Last last)
      : session_(session), name_(std::move(name)), path_(std::move(path)), last_(last) {}

  void go_on() override {
    if (std::exchange(goes_on_, true)) return;
    while (!is_done_ && !waits_ && session_.has_room()) step();
    goes_on_ = false;
  }
  bool is_done() const override { return is_done_; }

 protected:
  // The flare is known.
  virtual void begin(Flare flare) = 0;
  // The next thing to do after begin(). Not called while an answer is awaited.
  virtual void go() = 0;

  // Around each question: before it, and at the end of its callback (the command may be gone after
  // answered()).
  void ask() { waits_ = true; }
  void answered() {
    waits_ = false;
    session_.pump();
  }
  void done() { is_done_ = true; }
  void fail(const Error& error) {
    session_.complain(name_ + " " + path_, error);
    done();
  }
  Session& session() { return session_; }
  Files& files() { return *files_; }
  const std::string& path() const { return path_; }
  PendingPtr pending_;

 private:
  void step() {
    if (files_ == nullptr) return open_files();
    if (!is_resolved_) return resolve();
    go();
  }
  void open_files() {
    ask();
    keep(session_.backend().open_files([this](Result<Files*> files) {
      if (files)
        files_ = *files;
      else
        fail(files.error());
      answered();
    }));
  }
  void resolve() {
    is_resolved_ = true;
    ask();
    keep(files_->resolve(session_.absolute(path_), last_, [this](Result<Flare> flare) {
      if (flare)
        begin(std::move(*flare));
      else
        fail(flare.error());
      answered();
    }));
  }

 protected:
  // The question is kept until the next one is asked.
  void keep(PendingPtr pending) { pending_ = std::move(pending); }

 private:
  Session& session_;
  std::string name_;
  std::string path_;
  Last last_;
  Files* files_ = nullptr;
  bool is_resolved_ = false;
  bool waits_ = false;
  bool goes_on_ = false;
  bool is_done_ = false;
};

// ---- cd

class Cd final : public FileCommand {
 public:
  Cd(Session& session, std::string path)
      : FileCommand(session, "cd", std::move(path), Last::follow) {}

 private:
  void begin(Flare flare) override {
    if (!is_directory(flare.attr)) return fail({Code::not_a_directory, {}});
    session().set_cwd(std::move(flare.path));
    done();
  }
  void go() override {}
};

// ---- ls

// Up to so many entries are sorted; a larger directory is shown as it comes, by the hash of its
// names, because it would have to be held in memory.
constexpr std::size_t kSortedMax = 2000;
constexpr std::size_t kSortedBytesMax = 1u << 20;

class Ls final : public FileCommand {
 public:
  Ls(Session& session, std::string path)
      : FileCommand(session, "ls", std::move(path), Last::keep) {}

 private:
  enum class Phase : std::uint8_t { collect, name, print };

  void begin(Flare flare) override {
    if (is_directory(flare.attr)) {
      listing_ = files().list(std::move(flare));
      return;
    }
    is_single_ = true;
    entries_.push_back({flare.path, flare.attr, std::move(flare.target)});
    is_last_ = true;
  }

  void go() override {
    switch (phase_) {
      case Phase::collect:
        if (is_last_ || entries_.size() >= kSortedMax || bytes_ >= kSortedBytesMax || is_large_)
          return end_collecting();
        return read();
      case Phase::name: return learn_names();
      case Phase::print: return print();
    }
  }

  void read() {
    ask();
    listing_->next([this](Result<DirectoryBatch> batch) {
      if (batch)
        take(std::move(*batch));
      else
        fail(batch.error());
      answered();
    });
  }
  void take(DirectoryBatch batch) {
    is_last_ = batch.is_last;
    for (ListedEntry& entry : batch.entries) {
      bytes_ += sizeof entry + entry.name.size() + entry.target.size();
      entries_.push_back(std::move(entry));
    }
    // Of what is not collected any more, each batch is printed at once.
    if (is_large_) phase_ = Phase::name;
  }
  void end_collecting() {
    if (is_last_)
      std::sort(entries_.begin(), entries_.end(),
                [](const ListedEntry& a, const ListedEntry& b) { return a.name < b.name; });
    else
      is_large_ = true;
    phase_ = Phase::name;
  }
  void learn_names() {
    std::vector<std::uint32_t> uids;
    std::vector<std::uint32_t> gids;
    for (const ListedEntry& entry : entries_) {
      uids.push_back(entry.attr.uid);
      gids.push_back(entry.attr.gid);
    }
    phase_ = Phase::print;
    ask();
    keep(session().backend().learn_names(std::move(uids), std::move(gids), [this] { answered(); }));
  }
  void print() {
    client::NameSource& names = session().backend().names();
    for (; at_ < entries_.size(); ++at_) {
      if (!session().has_room()) return;
      const ListedEntry& entry = entries_[at_];
      session().say(client::listing_line(entry.name, entry.attr, entry.target, names));
    }
    total_ += entries_.size();
    entries_.clear();
    at_ = 0;
    if (!is_last_) return read();
    if (!is_single_) session().say(client::total_line(total_));
    done();
  }

  std::unique_ptr<Listing> listing_;
  std::vector<ListedEntry> entries_;
  std::size_t at_ = 0;  // the next to print
  std::size_t bytes_ = 0;
  std::uint64_t total_ = 0;  // printed
  Phase phase_ = Phase::collect;
  bool is_last_ = false;
  bool is_large_ = false;  // too large to be sorted
  bool is_single_ = false;
};

// ---- cat

class Cat final : public FileCommand {
 public:
  Cat(Session& session, std::string path)
      : FileCommand(session, "cat", std::move(path), Last::follow) {}

 private:
  void begin(Flare flare) override {
    if (is_directory(flare.attr)) return fail({Code::is_a_directory, {}});
    if ((flare.attr.mode & 0170000) != 0100000)
      return fail({Code::invalid, "it is a " + std::string(client::type_text(flare.attr.mode))});
    reading_ = files().read(std::move(flare));
  }
  void go() override {
    if (at_ < bytes_.size()) {
      const std::size_t length = std::min(bytes_.size() - at_, Session::kPieceBytesMax);
      session().send_raw(ByteSpan(bytes_).subspan(at_, length));
      at_ += length;
      return;
    }
    ask();
    reading_->next([this](Result<Bytes> bytes) {
      at_ = 0;
      if (!bytes) {
        fail(bytes.error());
      } else {
        bytes_ = std::move(*bytes);
        if (bytes_.empty()) done();
      }
      answered();
    });
  }

  std::unique_ptr<Reading> reading_;
  Bytes bytes_;
  std::size_t at_ = 0;
};

// ---- inspect

class Inspect final : public FileCommand {
 public:
  Inspect(Session& session, std::string path)
      : FileCommand(session, "inspect", std::move(path), Last::keep) {}

 private:
  void begin(Flare flare) override { flare_ = std::move(flare); }
  void go() override {
    if (std::exchange(knows_names_, true)) return tell();
    ask();
    keep(session().backend().learn_names({flare_->attr.uid}, {flare_->attr.gid},
                                         [this] { answered(); }));
  }
  void tell() {
    std::string text =
        client::inspect_text(*flare_, files().holders(flare_->slot), session().backend().names());
    if (text.ends_with('\n')) text.pop_back();
    if (is_parent_) session().say("\nparent");
    session().say(text);
    if (is_parent_ || flare_->path == "/") return done();
    is_parent_ = true;
    knows_names_ = false;
    ask();
    const std::string parent = flare_->parent_path;
    keep(files().resolve(parent, Last::keep, [this](Result<Flare> flare) {
      if (flare)
        flare_ = std::move(*flare);
      else
        fail(flare.error());
      answered();
    }));
  }

  std::optional<Flare> flare_;
  bool knows_names_ = false;
  bool is_parent_ = false;
};

// ---- erase

class Erase final : public FileCommand {
 public:
  Erase(Session& session, std::string path)
      : FileCommand(session, "erase", std::move(path), Last::keep) {}

 private:
  void begin(Flare flare) override {
    if (is_directory(flare.attr)) return fail({Code::is_a_directory, "only files are erased"});
    flare_ = std::move(flare);
  }
  void go() override {
    log_info("console_command who={} command={}", session().who(), "erase " + flare_->path);
    ask();
    keep(files().erase(*flare_, [this](Result<void> result) {
      if (result) {
        session().say("Erased " + client::printable(flare_->path));
        done();
      } else {
        fail(result.error());
      }
      answered();
    }));
  }

  std::optional<Flare> flare_;
};

std::string first_or(Arguments& arguments, std::string_view otherwise) {
  return arguments.empty() ? std::string(otherwise) : std::move(arguments[0]);
}

}  // namespace

std::unique_ptr<Running> run_cd(Session& session, Arguments arguments) {
  return std::make_unique<Cd>(session, first_or(arguments, "/"));
}
std::unique_ptr<Running> run_ls(Session& session, Arguments arguments) {
  return std::make_unique<Ls>(session, first_or(arguments, "."));
}
std::unique_ptr<Running> run_cat(Session& session, Arguments arguments) {
  return std::make_unique<Cat>(session, std::move(arguments[0]));
}
std::unique_ptr<Running> run_inspect(Session& session, Arguments arguments) {
  return std::make_unique<Inspect>(session, first_or(arguments, "."));
}
std::unique_ptr<Running> run_erase(Session& session, Arguments arguments) {
  return std::make_unique<Erase>(session, std::move(arguments[0]));
}

}  // namespace magma::console
