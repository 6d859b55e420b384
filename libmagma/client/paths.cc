#include "libmagma/client/paths.h"

#include <sys/stat.h>

#include <deque>
#include <optional>

#include "libmagma/base/check.h"
#include "libmagma/crypto/path_hash.h"
#include "libmagma/crypto/network_key.h"

namespace magma::client {

namespace {

// A component of the path walked so far.
struct Step {
  std::string name;
  Ino ino;
  std::uint32_t type = 0;  // S_IFMT of st_mode
  std::optional<ring::Key> key{};
  std::optional<wire::Attr> attr{};
};

Step step_of(std::string name, const wire::EntryReply& entry) {
  // DT_* is S_IFMT shifted down.
  return {.name = std::move(name),
          .ino = entry.ino,
          .type = entry.attr ? entry.attr->mode & S_IFMT : std::uint32_t{entry.type} << 12,
          .key = entry.key,
          .attr = entry.attr};
}

Step step_of(std::string name, const wire::Attr& attr) {
  return {.name = std::move(name),
          .ino = attr.ino,
          .type = attr.mode & S_IFMT,
          .key = {},
          .attr = attr};
}

}  // namespace

Tree::Tree(Client& ring_client, const wire::AttachReply& reply, WallTime now)
    : client(ring_client), root(reply.root) {
  profiles.set(reply, crypto::uuid_text(ring_client.filesystem()), now);
}

ring::Slot slot_of(const wire::Attr& attr, const ring::Key& key) {
  return attr.placement.in_chunks ? key.slot() : ring::home_of(attr.ino);
}

std::vector<std::string> names_of_path(std::string_view path) {
  std::vector<std::string> names;
  const bool must_be_directory = path.ends_with('/');
  while (!path.empty()) {
    const auto end = path.find('/');
    if (end != 0) names.emplace_back(path.substr(0, end));
    path.remove_prefix(end == std::string_view::npos ? path.size() : end + 1);
  }
  if (must_be_directory && !names.empty()) names.emplace_back(".");
  return names;
}

struct PathWalk::State {
  explicit State(Tree& the_tree) : tree(the_tree) {}

  Tree& tree;
  Done<Flare> done;  // empty: nothing is under way
  Last last{};
  std::deque<std::string> left;  // names still to be walked
  std::vector<Step> steps;       // the root, then what has been walked
  unsigned links_followed = 0;
  std::uint64_t calls_made = 0;
  CallId call = 0;

  // ---- where the walk is
  std::string path(std::string_view and_then = {}) const {
    std::string text;
    for (std::size_t i = 1; i < steps.size(); ++i) (text += '/') += steps[i].name;
    if (!and_then.empty()) (text += '/') += and_then;
    return text.empty() ? "/" : text;
  }

  using Shared = std::shared_ptr<State>;

  // Makes a call of the client that goes on with `next` unless the walk was given up.
  template <class T, class Begin, class Next>
  static void ask(const Shared& s, Begin begin, Next next) {
    const std::uint64_t number = ++s->calls_made;
    auto answered = [s, next = std::move(next)](Result<T> result) mutable {
      s->call = 0;
      if (s->done) next(s, std::move(result));
    };
    const CallId call = begin(Done<T>(std::move(answered)));
    // It may have been answered inside, and another one begun.
    if (s->calls_made == number && s->done) s->call = call;
  }
  static void end(const Shared& s, Result<Flare> result) {
    auto done = std::move(s->done);
    s->done = nullptr;
    done(std::move(result));
  }
  static void fail_at(const Shared& s, Error error, const std::string& where) {
    error.detail = error.detail.empty() ? where : where + ": " + error.detail;
    end(s, fail(std::move(error)));
  }

  static void walk(const Shared& s);
  static void enter(const Shared& s, Step step);
  static void follow(const Shared& s, const std::string& name, const std::string& target);
  static void look_at_last(const Shared& s);
  static void arrive(const Shared& s, std::string target);
};

// Takes names off `left` until a call is under way or the path has ended.
void PathWalk::State::walk(const Shared& s) {
  while (s->done && !s->left.empty()) {
    Step& here = s->steps.back();
    if (here.type != S_IFDIR) return fail_at(s, Error{Code::not_a_directory, {}}, s->path());
    std::string name = std::move(s->left.front());
    s->left.pop_front();
    if (name == ".") continue;
    if (name == "..") {
      if (s->steps.size() > 1) s->steps.pop_back();
      continue;
    }
    if (name.size() > wire::kNameBytesMax)
      return fail_at(s, Error{Code::name_too_long, {}}, s->path(name));
    const Profiles& profiles = s->tree.profiles;
    if (here.ino == s->tree.root && name == Profiles::kName) {
      s->steps.push_back(step_of(name, profiles.attr_of(Profiles::directory())));
      continue;
    }
    if (here.ino == Profiles::directory()) {
      const auto found = profiles.find(name);
      if (!found) return fail_at(s, Error{Code::not_found, {}}, s->path(name));
      s->steps.push_back(step_of(name, profiles.attr_of(*found)));
      continue;
    }
    ask<wire::EntryReply>(
        s,
        [&](Done<wire::EntryReply> done) {
          return s->tree.client.lookup(here.ino, name, s->tree.who, std::move(done));
        },
        [name](const Shared& state, Result<wire::EntryReply> entry) {
          if (!entry) return fail_at(state, entry.error(), state->path(name));
          enter(state, step_of(name, *entry));
        });
    return;
  }
  if (s->done) look_at_last(s);
}

void PathWalk::State::enter(const Shared& s, Step step) {
  const bool follows = step.type == S_IFLNK && (!s->left.empty() || s->last == Last::follow);
  if (!follows) {
    s->steps.push_back(std::move(step));
    return walk(s);
  }
  ask<std::string>(
      s,
      [&](Done<std::string> done) {
        return s->tree.client.readlink(step.ino, s->tree.who, std::move(done));
      },
      [name = step.name](const Shared& state, Result<std::string> target) {
        if (!target) return fail_at(state, target.error(), state->path(name));
        follow(state, name, *target);
      });
}

void PathWalk::State::follow(const Shared& s, const std::string& name, const std::string& target) {
  if (++s->links_followed > kLinksFollowedMax)
    return fail_at(s, Error{Code::symlink_loop, {}}, s->path(name));
  const std::vector<std::string> names = names_of_path(target);
  s->left.insert(s->left.begin(), names.begin(), names.end());
  if (target.starts_with('/')) s->steps.resize(1);
  walk(s);
}

// Attributes and target of what the path has led to.
void PathWalk::State::look_at_last(const Shared& s) {
  Step& here = s->steps.back();
  if (!here.attr)
    return ask<wire::Attr>(
        s,
        [&](Done<wire::Attr> done) {
          return s->tree.client.getattr(here.ino, s->tree.who, std::move(done));
        },
        [](const Shared& state, Result<wire::Attr> attr) {
          if (!attr) return fail_at(state, attr.error(), state->path());
          state->steps.back().attr = std::move(*attr);
          look_at_last(state);
        });
  if (here.type != S_IFLNK) return arrive(s, {});
  ask<std::string>(
      s,
      [&](Done<std::string> done) {
        return s->tree.client.readlink(here.ino, s->tree.who, std::move(done));
      },
      [](const Shared& state, Result<std::string> target) {
        if (!target) return fail_at(state, target.error(), state->path());
        arrive(state, std::move(*target));
      });
}

void PathWalk::State::arrive(const Shared& s, std::string target) {
  Step here = std::move(s->steps.back());
  s->steps.back() = {.name = here.name, .ino = here.ino};
  Flare flare;
  flare.path = s->path();
  if (s->steps.size() > 1) s->steps.pop_back();
  flare.parent_path = s->path();
  flare.parent = s->steps.back().ino;
  flare.attr = std::move(*here.attr);
  flare.target = std::move(target);
  // A directory and a large file keep the key they were made with.
  if (flare.attr.placement.key)
    flare.key = *flare.attr.placement.key;
  else
    flare.key = here.key ? *here.key : crypto::key_of_path(flare.path);
  flare.slot =
      s->tree.profiles.has(flare.attr.ino) ? flare.key.slot() : slot_of(flare.attr, flare.key);
  end(s, std::move(flare));
}

PathWalk::PathWalk(Tree& tree) : state_(std::make_shared<State>(tree)) {}

PathWalk::~PathWalk() {
  state_->done = nullptr;
  state_->tree.client.cancel(state_->call);
}

void PathWalk::resolve(std::string_view path, Last last, Done<Flare> done) {
  State& s = *state_;
  MAGMA_CHECK(!s.done);
  if (!path.starts_with('/'))
    return done(fail(Code::invalid, "'" + std::string(path) + "' is no absolute path"));
  if (path.size() > kPathBytesMax)
    return done(fail(Code::name_too_long, "a path of " + std::to_string(path.size()) + " bytes"));
  const std::vector<std::string> names = names_of_path(path);
  s.left.assign(names.begin(), names.end());
  s.steps.assign(1, {.name = {}, .ino = s.tree.root, .type = S_IFDIR});
  s.links_followed = 0;
  s.last = last;
  s.done = std::move(done);
  State::walk(state_);
}

}  // namespace magma::client
