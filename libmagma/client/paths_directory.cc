// DirectoryReader: a batch is one reply of readdir, completed by the attributes and targets that
// it lacks.
#include <sys/stat.h>

#include "libmagma/base/check.h"
#include "libmagma/client/paths.h"

namespace magma::client {

struct DirectoryReader::State {
  State(Tree& the_tree, Flare the_directory, Options the_options)
      : tree(the_tree), directory(std::move(the_directory)), options(the_options) {}

  // An entry of the batch being made.
  struct Item {
    ListedEntry entry;
    Ino ino;
    bool has_attr = false;
    bool is_gone = false;
    CallId call = 0;
  };
  using Shared = std::shared_ptr<State>;

  Tree& tree;
  Flare directory;
  Options options;
  std::uint64_t cookie = 0;
  bool is_first = true;
  bool has_ended = false;
  Done<DirectoryBatch> done;  // empty: nothing is under way
  std::uint64_t batch = 0;    // number of the one under way: late answers are of an older one
  CallId call = 0;            // the readdir
  std::vector<Item> items;
  std::size_t next_item = 0;  // items before it have been looked at
  std::size_t calls = 0;      // under way for items
  bool is_pumping = false;

  bool is_made_up() const { return directory.attr.ino == Profiles::directory(); }
  void add(std::string name, Ino ino, const std::optional<wire::Attr>& attr);
  void add_dots();
  void add_profiles();
  void give_up();

  static void begin(const Shared& s);
  static void on_reply(const Shared& s, Result<wire::ReaddirReply> reply);
  static void pump(const Shared& s);
  static void look_at(const Shared& s, std::size_t index);
  static void on_item(const Shared& s, std::uint64_t number, std::size_t index,
                      std::optional<Error> error);
  static void fail_with(const Shared& s, Error error);
  static void finish(const Shared& s);
};

void DirectoryReader::State::add(std::string name, Ino ino, const std::optional<wire::Attr>& attr) {
  Item& item = items.emplace_back();
  item.entry.name = std::move(name);
  item.ino = ino;
  item.has_attr = attr.has_value();
  if (attr) item.entry.attr = *attr;
}

void DirectoryReader::State::add_dots() {
  if (!options.with_dots) return;
  const bool is_root = directory.attr.ino == tree.root;
  add(".", directory.attr.ino, directory.attr);
  add("..", directory.parent, is_root ? std::optional(directory.attr) : std::nullopt);
}

void DirectoryReader::State::add_profiles() {
  for (std::size_t i = 0; i < tree.profiles.all().size(); ++i) {
    const Ino ino = Profiles::ino_of(i);
    add(tree.profiles.all()[i].name, ino, tree.profiles.attr_of(ino));
  }
}

// Calls still under way are not waited for.
void DirectoryReader::State::give_up() {
  ++batch;
  const CallId readdir = std::exchange(call, 0);
  std::vector<Item> given_up = std::exchange(items, {});
  calls = 0;
  tree.client.cancel(readdir);
  for (const Item& item : given_up) tree.client.cancel(item.call);
}

void DirectoryReader::State::fail_with(const Shared& s, Error error) {
  error.detail = error.detail.empty() ? s->directory.path : s->directory.path + ": " + error.detail;
  auto done = std::move(s->done);
  s->done = nullptr;
  s->give_up();
  done(fail(std::move(error)));
}

void DirectoryReader::State::begin(const Shared& s) {
  ++s->batch;
  s->items.clear();
  s->next_item = 0;
  if (!S_ISDIR(s->directory.attr.mode)) return fail_with(s, Error{Code::not_a_directory, {}});
  if (std::exchange(s->is_first, false)) {
    s->add_dots();
    if (s->directory.attr.ino == s->tree.root && s->options.with_profiles)
      s->add(std::string(Profiles::kName), Profiles::directory(),
             s->tree.profiles.attr_of(Profiles::directory()));
  }
  if (s->is_made_up()) {
    s->add_profiles();
    s->has_ended = true;
    return pump(s);
  }
  wire::ReaddirRequest request;
  request.dir = s->directory.attr.ino;
  request.cookie = s->cookie;
  request.bytes_max = kBatchBytes;
  request.with_attributes = true;
  const std::uint64_t number = s->batch;
  auto answered = [s, number](Result<wire::ReaddirReply> reply) {
    if (s->batch != number) return;
    s->call = 0;
    on_reply(s, std::move(reply));
  };
  const CallId call = s->tree.client.readdir(request, s->tree.who, std::move(answered));
  if (s->batch == number && s->done) s->call = call;
}

void DirectoryReader::State::on_reply(const Shared& s, Result<wire::ReaddirReply> reply) {
  if (!reply) return fail_with(s, std::move(reply.error()));
  if (!reply->end && (reply->entries.empty() || reply->entries.back().cookie <= s->cookie))
    return fail_with(s, Error{Code::malformed, "the listing does not go on"});
  if (!reply->entries.empty()) s->cookie = reply->entries.back().cookie;
  s->has_ended = reply->end;
  for (wire::DirectoryEntry& entry : reply->entries)
    s->add(std::move(entry.name), entry.ino, entry.attr);
  pump(s);
}

// Asks for what entries lack, some at a time, until the batch is whole.
void DirectoryReader::State::pump(const Shared& s) {
  if (std::exchange(s->is_pumping, true)) return;  // answered inside a call made below
  const std::uint64_t number = s->batch;
  while (s->batch == number && s->next_item < s->items.size() && s->calls < kCallsMax)
    look_at(s, s->next_item++);
  s->is_pumping = false;
  if (s->batch == number && s->done && s->next_item == s->items.size() && s->calls == 0) finish(s);
}

// The attributes, then the target, as far as the entry still lacks them.
void DirectoryReader::State::look_at(const Shared& s, std::size_t index) {
  const Item& item = s->items[index];
  const std::uint64_t number = s->batch;
  CallId call = 0;
  ++s->calls;
  if (!item.has_attr) {
    call =
        s->tree.client.getattr(item.ino, s->tree.who, [s, number, index](Result<wire::Attr> attr) {
          if (s->batch != number) return;
          s->items[index].has_attr = attr.has_value();
          if (!attr) return on_item(s, number, index, attr.error());
          s->items[index].entry.attr = std::move(*attr);
          --s->calls;
          look_at(s, index);
        });
  } else if (S_ISLNK(item.entry.attr.mode) && s->options.with_targets) {
    call = s->tree.client.readlink(item.ino, s->tree.who,
                                   [s, number, index](Result<std::string> target) {
                                     if (s->batch != number) return;
                                     if (!target) return on_item(s, number, index, target.error());
                                     s->items[index].entry.target = std::move(*target);
                                     on_item(s, number, index, std::nullopt);
                                   });
  } else {
    return on_item(s, number, index, std::nullopt);
  }
  if (s->batch == number && index < s->items.size() && call != 0) s->items[index].call = call;
}

void DirectoryReader::State::on_item(const Shared& s, std::uint64_t number, std::size_t index,
                                     std::optional<Error> error) {
  --s->calls;
  Item& item = s->items[index];
  item.call = 0;
  if (error && error->code != Code::not_found && error->code != Code::stale) {
    error->detail =
        "'" + item.entry.name + "'" + (error->detail.empty() ? "" : ": " + error->detail);
    return fail_with(s, std::move(*error));
  }
  item.is_gone = error.has_value();
  if (s->batch == number) pump(s);
}

void DirectoryReader::State::finish(const Shared& s) {
  DirectoryBatch result;
  result.is_last = s->has_ended;
  result.entries.reserve(s->items.size());
  for (Item& item : s->items)
    if (!item.is_gone) result.entries.push_back(std::move(item.entry));
  s->items.clear();
  ++s->batch;
  auto done = std::move(s->done);
  s->done = nullptr;
  done(std::move(result));
}

DirectoryReader::DirectoryReader(Tree& tree, Flare directory, Options options)
    : state_(std::make_shared<State>(tree, std::move(directory), options)) {}

DirectoryReader::~DirectoryReader() {
  state_->done = nullptr;
  state_->give_up();
}

void DirectoryReader::next(Done<DirectoryBatch> done) {
  MAGMA_CHECK(!state_->done && !state_->has_ended);
  state_->done = std::move(done);
  State::begin(state_);
}

}  // namespace magma::client
