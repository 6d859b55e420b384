// FileReader: a window of reads that are under way or wait to be fetched, in the file's order.
#include <sys/stat.h>

#include <algorithm>
#include <deque>

#include "libmagma/base/check.h"
#include "libmagma/client/paths.h"

namespace magma::client {

namespace {
constexpr std::uint32_t kPartBytes = wire::kIoBytesMax;
}

struct FileReader::State {
  State(Tree& the_tree, Flare the_file, Options the_options)
      : tree(the_tree), file(std::move(the_file)), options(the_options) {}

  struct Part {
    std::uint64_t offset = 0;
    CallId call = 0;
    bool is_here = false;
    Bytes bytes{};
  };
  using Shared = std::shared_ptr<State>;

  Tree& tree;
  Flare file;
  Options options;
  Done<Bytes> done;         // empty: nobody waits
  std::deque<Part> parts;   // in order
  std::uint64_t asked = 0;  // bytes of the file that were asked for
  CallId open_call = 0;
  bool is_begun = false;
  bool is_opening = false;
  bool is_open = false;
  bool is_asking = false;
  bool is_over = false;  // given up, ended or failed: answers still to come are dropped
  std::optional<Error> error{};

  bool is_made_up() const { return tree.profiles.has(file.attr.ino); }
  Part* find(std::uint64_t offset) {
    for (Part& part : parts)
      if (part.offset == offset) return &part;
    return nullptr;
  }
  std::optional<Error> refusal() const {
    if (S_ISDIR(file.attr.mode)) return Error{Code::is_a_directory, file.path};
    if (!S_ISREG(file.attr.mode)) return Error{Code::invalid, file.path + " is no regular file"};
    return std::nullopt;
  }
  void stop();

  static void begin(const Shared& s);
  static void open(const Shared& s);
  static void ask(const Shared& s);
  static void ask_one(const Shared& s);
  static void on_part(const Shared& s, std::uint64_t offset, Result<Bytes> bytes);
  static void deliver(const Shared& s);
  static void fail_with(const Shared& s, Error error);
};

// Nothing more is wanted of the volcanoes.
void FileReader::State::stop() {
  is_over = true;
  std::deque<Part> given_up = std::exchange(parts, {});
  tree.client.cancel(std::exchange(open_call, 0));
  for (const Part& part : given_up) tree.client.cancel(part.call);
  if (std::exchange(is_open, false)) tree.client.release(file.attr.ino, false, false);
}

void FileReader::State::fail_with(const Shared& s, Error error) {
  error.detail = error.detail.empty() ? s->file.path : s->file.path + ": " + error.detail;
  s->error = error;
  auto waiting = std::move(s->done);
  s->done = nullptr;
  s->stop();
  if (waiting) waiting(fail(std::move(error)));
}

void FileReader::State::begin(const Shared& s) {
  s->is_begun = true;
  if (auto refused = s->refusal()) {
    s->error = refused;
    s->is_over = true;
    auto waiting = std::move(s->done);
    s->done = nullptr;
    return waiting(fail(std::move(*refused)));
  }
  if (s->is_made_up()) {
    const std::string& text = s->tree.profiles.text_of(s->file.attr.ino);
    s->is_over = true;
    auto waiting = std::move(s->done);
    s->done = nullptr;
    return waiting(Bytes(text.begin(), text.end()));
  }
  if (s->options.hold_open) return open(s);
  ask(s);
}

void FileReader::State::open(const Shared& s) {
  s->is_opening = true;
  auto opened = [s](Result<wire::Attr> attr) {
    s->is_opening = false;
    s->open_call = 0;
    if (s->is_over) {
      if (attr) s->tree.client.release(s->file.attr.ino, false, false);
      return;
    }
    if (!attr) return fail_with(s, std::move(attr.error()));
    s->is_open = true;
    s->file.attr = std::move(*attr);
    ask(s);
  };
  const CallId call =
      s->tree.client.open(s->file.attr.ino, false, false, s->tree.who, std::move(opened));
  if (s->is_opening) s->open_call = call;
}

// Keeps the window full. Past the size known there is one read at a time: it finds the end.
void FileReader::State::ask(const Shared& s) {
  if (std::exchange(s->is_asking, true)) return;  // answered inside a call made below
  while (!s->is_over && s->parts.size() < std::max<std::size_t>(s->options.parts_ahead, 1) &&
         (s->parts.empty() || s->asked < s->file.attr.size))
    ask_one(s);
  s->is_asking = false;
  deliver(s);
}

void FileReader::State::ask_one(const Shared& s) {
  const std::uint64_t offset = s->asked;
  s->asked += kPartBytes;
  s->parts.push_back({.offset = offset});
  const CallId call = s->tree.client.read(
      s->file.attr.ino, offset, kPartBytes, s->tree.who,
      [s, offset](Result<Bytes> bytes) { on_part(s, offset, std::move(bytes)); });
  if (Part* part = s->find(offset); part != nullptr && !part->is_here) part->call = call;
}

void FileReader::State::on_part(const Shared& s, std::uint64_t offset, Result<Bytes> bytes) {
  Part* part = s->is_over ? nullptr : s->find(offset);
  if (part == nullptr) return;
  if (!bytes) return fail_with(s, std::move(bytes.error()));
  part->is_here = true;
  part->call = 0;
  part->bytes = std::move(*bytes);
  if (!s->is_asking) deliver(s);
}

void FileReader::State::deliver(const Shared& s) {
  if (!s->done || s->is_over || s->parts.empty() || !s->parts.front().is_here) return;
  Bytes bytes = std::move(s->parts.front().bytes);
  s->parts.pop_front();
  auto waiting = std::move(s->done);
  s->done = nullptr;
  // Fewer bytes than asked for come only at the end.
  if (bytes.size() < kPartBytes) s->stop();
  waiting(std::move(bytes));
}

FileReader::FileReader(Tree& tree, Flare file, Options options)
    : state_(std::make_shared<State>(tree, std::move(file), options)) {}

FileReader::~FileReader() {
  state_->done = nullptr;
  state_->stop();
}

void FileReader::next(Done<Bytes> done) {
  MAGMA_CHECK(!state_->done);
  if (state_->error) return done(fail(*state_->error));
  if (state_->is_over) return done(Bytes{});
  state_->done = std::move(done);
  if (!state_->is_begun) return State::begin(state_);
  State::ask(state_);
}

}  // namespace magma::client
