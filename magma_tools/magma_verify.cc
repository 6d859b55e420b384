// magma verify [PATH]: reads every flare of a tree through the volcanoes, as any client does, and
// compares what comes with what its attributes say. The volcano runs and is used meanwhile: what
// changes while it is looked at is not compared. Of the whole tree, or with --replicas instead of
// it, mirrors are compared with their primary (replica_check.h).
//
// What reading can find: content that does not match its checksums (of what the volcano reads from
// its disk: pages in its memory were compared when they came there, or come from a client), content
// that is not there, sizes, link counts and symlinks that do not agree. Memory: a batch of entries
// for each level of the tree, and the inodes with several names, up to a bound.
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <unordered_map>

#include <fmt/format.h>

#include "magma_tools/command.h"
#include "magma_tools/replica_check.h"
#include "magma_tools/ring_text.h"

namespace magma::tools {

namespace {

using client::bytes_text;

constexpr std::size_t kProblemsListed = 1000;
constexpr std::size_t kLinksMax = 1'000'000;  // inodes with several names that are remembered

struct Arguments {
  TargetOptions target;
  std::string path = "/";
  bool json = false;
  bool only_replicas = false;
  bool quick = false;
};

struct Report {
  std::uint64_t files = 0, directories = 0, symlinks = 0, others = 0;
  std::uint64_t bytes = 0;
  std::uint64_t changed = 0;        // while they were looked at: not compared
  std::uint64_t links_unknown = 0;  // of more inodes than can be remembered
  std::uint64_t problems_total = 0;
  std::vector<std::string> problems;  // the first kProblemsListed
  Duration time{};
  // Of the volcano, while this ran; from whoever it was asked.
  std::optional<std::uint64_t> reads_disk{}, reads_cached{};
  std::uint64_t flares() const { return files + directories + symlinks + others; }
};

class Verifier {
 public:
  Verifier(Network& network, Report& report)
      : network_(network), report_(report), progress_(network.driver().clock()) {}

  Result<void> run(const std::string& path) {
    TRY_VALUE(client::Flare top, network_.resolve(path, client::PathWalk::Last::keep));
    is_whole_ = top.path == "/";
    if (S_ISDIR(top.attr.mode))
      enter(std::move(top));
    else
      TRY(look_at(std::move(top)));
    while (!levels_.empty()) TRY(step());
    if (is_whole_) TRY(compare_links());
    progress_.wipe();
    return {};
  }

 private:
  struct Level {
    client::Flare directory;
    std::unique_ptr<client::DirectoryReader> reader;
    std::vector<client::ListedEntry> entries{};
    std::size_t next = 0;
    std::uint64_t subdirectories = 0;
    bool is_last = false;
  };
  struct Links {
    std::uint32_t nlink = 0;
    std::uint32_t seen = 0;
    std::string path{};
  };

  template <class T, class Begin>
  Result<T> await(Begin begin) {
    return network_.driver().await<T>(std::move(begin));
  }

  void problem(const std::string& path, std::string_view what) {
    ++report_.problems_total;
    if (report_.problems.size() < kProblemsListed)
      report_.problems.push_back(client::printable(path) + ": " + std::string(what));
  }

  void enter(client::Flare directory) {
    Level level;
    level.directory = directory;
    level.reader = std::make_unique<client::DirectoryReader>(
        network_.tree(), std::move(directory),
        client::DirectoryReader::Options{.with_dots = false, .with_profiles = false});
    levels_.push_back(std::move(level));
  }

  // The next entry of the deepest directory, or its end.
  Result<void> step() {
    Level& level = levels_.back();
    if (level.next == level.entries.size()) {
      if (level.is_last) return leave();
      auto batch = await<client::DirectoryBatch>(
          [&](client::Done<client::DirectoryBatch> done) { level.reader->next(std::move(done)); });
      if (!batch) return give_up_directory(batch.error());
      level.entries = std::move(batch->entries);
      level.next = 0;
      level.is_last = batch->is_last;
      return {};
    }
    client::ListedEntry& entry = level.entries[level.next++];
    client::Flare flare;
    flare.parent_path = level.directory.path;
    flare.path = (flare.parent_path == "/" ? "" : flare.parent_path) + "/" + entry.name;
    flare.parent = level.directory.attr.ino;
    flare.attr = std::move(entry.attr);
    flare.target = std::move(entry.target);
    if (!S_ISDIR(flare.attr.mode)) return look_at(std::move(flare));
    ++level.subdirectories;
    enter(std::move(flare));
    return {};
  }

  Result<void> give_up_directory(const Error& error) {
    const client::Flare directory = std::move(levels_.back().directory);
    levels_.pop_back();
    if (ends_all(error)) return fail(error);
    if (error.code == Code::not_found || error.code == Code::stale)
      ++report_.changed;
    else
      problem(directory.path, "cannot be listed: " + std::string(text_of(error.code)));
    return {};
  }

  // A directory has been gone through: two links, and one more for each in it.
  Result<void> leave() {
    Level level = std::move(levels_.back());
    levels_.pop_back();
    ++report_.directories;
    show_progress();
    if (level.directory.attr.nlink == level.subdirectories + 2) return forget(level.directory);
    TRY_VALUE(bool is_same, is_unchanged(level.directory));
    if (is_same)
      problem(level.directory.path, fmt::format("has {} links and {} directories in it",
                                                level.directory.attr.nlink, level.subdirectories));
    return forget(level.directory);
  }

  Result<void> look_at(client::Flare flare) {
    note_link(flare);
    if (S_ISREG(flare.attr.mode)) {
      ++report_.files;
      TRY(read_file(flare));
    } else if (S_ISLNK(flare.attr.mode)) {
      ++report_.symlinks;
      if (flare.target.size() != flare.attr.size)
        problem(flare.path, fmt::format("the target has {} bytes, the size is {}",
                                        flare.target.size(), flare.attr.size));
    } else {
      ++report_.others;
    }
    show_progress();
    return forget(flare);
  }

  Result<void> forget(const client::Flare& flare) {
    network_.client().forget(flare.attr.ino);
    return {};
  }

  Result<void> read_file(const client::Flare& flare) {
    client::FileReader reader(network_.tree(), flare, {.hold_open = false});
    std::uint64_t size = 0;
    while (true) {
      auto bytes = await<Bytes>([&](client::Done<Bytes> done) { reader.next(std::move(done)); });
      if (!bytes) return unreadable(flare, size, bytes.error());
      if (bytes->empty()) break;
      size += bytes->size();
      report_.bytes += bytes->size();
      show_progress();
    }
    if (size == flare.attr.size) return {};
    TRY_VALUE(bool is_same, is_unchanged(flare));
    if (is_same)
      problem(flare.path,
              fmt::format("{} bytes can be read, the size is {}", size, flare.attr.size));
    return {};
  }

  Result<void> unreadable(const client::Flare& flare, std::uint64_t offset, const Error& error) {
    if (ends_all(error)) return fail(error);
    if (error.code == Code::stale || error.code == Code::not_found) {
      TRY_VALUE(bool is_same, is_unchanged(flare));
      if (!is_same) return {};
    }
    problem(flare.path,
            fmt::format("cannot be read after byte {}: {}", offset, text_of(error.code)));
    return {};
  }

  // Errors that are not of one flare.
  static bool ends_all(const Error& error) {
    return class_of(error.code) == ErrorClass::retry || error.code == Code::interrupted;
  }

  // Whether the flare still is as it was seen. If not, that is counted.
  Result<bool> is_unchanged(const client::Flare& flare) {
    auto attr = await<wire::Attr>([&](client::Done<wire::Attr> done) {
      network_.client().getattr(flare.attr.ino, {}, std::move(done));
    });
    if (!attr && ends_all(attr.error())) return fail(attr.error());
    const bool is_same = attr && attr->ctime == flare.attr.ctime &&
                         attr->mtime == flare.attr.mtime && attr->size == flare.attr.size &&
                         attr->nlink == flare.attr.nlink;
    if (!is_same) ++report_.changed;
    return is_same;
  }

  void note_link(const client::Flare& flare) {
    if (flare.attr.nlink < 2 || !is_whole_) return;
    auto known = links_.find(flare.attr.ino.value);
    if (known != links_.end()) {
      ++known->second.seen;
    } else if (links_.size() < kLinksMax) {
      links_[flare.attr.ino.value] = {flare.attr.nlink, 1, flare.path};
    } else {
      ++report_.links_unknown;
    }
  }

  Result<void> compare_links() {
    if (report_.links_unknown > 0) return {};
    for (const auto& [ino, links] : links_) {
      if (links.seen == links.nlink) continue;
      auto flare = network_.resolve(links.path, client::PathWalk::Last::keep);
      if (!flare && ends_all(flare.error())) return fail(flare.error());
      // Whatever touches the link count sets ctime.
      if (!flare || flare->attr.ino.value != ino || flare->attr.nlink != links.nlink ||
          flare->attr.ctime.ns >= begun_.ns) {
        ++report_.changed;
        continue;
      }
      problem(links.path,
              fmt::format("has {} links, {} names were found", links.nlink, links.seen));
    }
    return {};
  }

  void show_progress() {
    if (!progress_.is_due()) return;
    const double time = (network_.driver().clock().now() - started_).seconds();
    progress_.show(fmt::format(
        "{} flares, {}, {}/s, {} problems", report_.flares(), bytes_text(report_.bytes),
        bytes_text(
            static_cast<std::uint64_t>(static_cast<double>(report_.bytes) / std::max(time, 0.001))),
        report_.problems_total));
  }

  Network& network_;
  Report& report_;
  Progress progress_;
  Instant started_ = network_.driver().clock().now();
  WallTime begun_ = network_.driver().clock().wall_now();
  std::vector<Level> levels_;
  std::unordered_map<std::uint64_t, Links> links_;
  bool is_whole_ = false;
};

struct Reads {
  std::uint64_t disk = 0, cached = 0;
};

// How often the volcanoes named have read content. Nothing if one does not tell.
std::optional<Reads> reads_of(const Target& target) {
  Reads reads;
  for (const std::string& name : target.hosts) {
    auto host = Host::connect(target, name, crypto::Role::client);
    if (!host) return std::nullopt;
    auto status = (*host)->ask(wire::StatusRequest{}, kAnswerPatience);
    if (!status) return std::nullopt;
    for (const wire::StatusCounter& counter : status->counters) {
      if (counter.name == "content.reads_disk" || counter.name == "content.reads_ahead")
        reads.disk += counter.value;
      if (counter.name == "content.reads_cached") reads.cached += counter.value;
    }
  }
  return reads;
}

void print_text(const Report& report) {
  for (const std::string& line : report.problems) std::printf("problem: %s\n", line.c_str());
  if (report.problems_total > report.problems.size())
    std::printf("problem: %llu more not listed\n",
                static_cast<unsigned long long>(report.problems_total - report.problems.size()));
  const double time = std::max(report.time.seconds(), 0.001);
  std::string text =
      fmt::format("{}: {} files ({}), {} directories, {} symlinks, {} others in {} ({}/s)\n",
                  report.problems_total == 0 ? std::string("no problem")
                                             : fmt::format("{} problems", report.problems_total),
                  report.files, bytes_text(report.bytes), report.directories, report.symlinks,
                  report.others, duration_text(report.time),
                  bytes_text(static_cast<std::uint64_t>(static_cast<double>(report.bytes) / time)));
  if (report.changed > 0)
    text += fmt::format("note: {} changed while they were looked at and were not compared\n",
                        report.changed);
  if (report.links_unknown > 0)
    text += "note: too many files have several names: link counts were not compared\n";
  if (report.reads_disk)
    text += fmt::format(
        "note: of the volcano's reads meanwhile {} came from its disk and were "
        "compared with their checksums, {} from its memory and were not\n",
        *report.reads_disk, *report.reads_cached);
  std::fputs(text.c_str(), stdout);
}

Json tree_json(const Report& report, bool is_complete) {
  Json problems = Json::array();
  for (const std::string& line : report.problems) problems.push_back(line);
  Json json = {{"complete", is_complete},           {"problems_total", report.problems_total},
               {"problems", std::move(problems)},   {"files", report.files},
               {"directories", report.directories}, {"symlinks", report.symlinks},
               {"others", report.others},           {"bytes", report.bytes},
               {"changed", report.changed},         {"links_compared", report.links_unknown == 0},
               {"seconds", report.time.seconds()}};
  json["reads_disk"] = report.reads_disk ? Json(*report.reads_disk) : Json();
  json["reads_cached"] = report.reads_cached ? Json(*report.reads_cached) : Json();
  return json;
}

// What came out of it: of the tree, of the replicas, or both.
struct Outcome {
  std::optional<Report> tree{};
  Result<void> tree_done{};
  std::optional<ReplicaReport> replicas{};
};

// The exit code; 0: go on.
int verify_tree(const Arguments& arguments, const Target& target,
                std::optional<std::string_view> path, Outcome& outcome) {
  const auto before = reads_of(target);
  Report& report = outcome.tree.emplace();
  {
    Opened opened = open_network("verify", arguments.target, path);
    if (!opened.network) return opened.code;
    sys_real::Clock clock;
    const Instant begun = clock.now();
    outcome.tree_done = Verifier(*opened.network, report).run(opened.target.path);
    report.time = clock.now() - begun;
  }
  const auto after = reads_of(target);
  if (before && after && after->disk >= before->disk && after->cached >= before->cached) {
    report.reads_disk = after->disk - before->disk;
    report.reads_cached = after->cached - before->cached;
  }
  return kDone;
}

// Without a ring (tests), or mirrors, there is nothing to compare: that is an error only for who
// asked for it.
int verify_replicas(const Arguments& arguments, const Target& target, Outcome& outcome) {
  auto ring = ask_ring(target);
  if (!ring && !arguments.only_replicas && ring.error().code == Code::not_found) return kDone;
  if (!ring) return failed("verify", ring.error());
  if (!has_mirrors(*ring)) {
    if (!arguments.only_replicas) return kDone;
    return failed("verify",
                  "no volcano of this ring mirrors another: there is one copy of each flare");
  }
  auto compared = compare_replicas(target, *ring, !arguments.quick);
  if (!compared) return failed("verify", compared.error());
  outcome.replicas = std::move(*compared);
  return kDone;
}

void print(const Arguments& arguments, const Outcome& outcome) {
  if (arguments.json) {
    Json json = Json::object();
    if (outcome.tree) json = tree_json(*outcome.tree, outcome.tree_done.has_value());
    if (outcome.replicas) json["replicas"] = replica_json(*outcome.replicas);
    std::fputs(dumped(json).c_str(), stdout);
    return;
  }
  if (outcome.tree) print_text(*outcome.tree);
  if (outcome.replicas) std::fputs(replica_text(*outcome.replicas).c_str(), stdout);
}

int exit_code(const Outcome& outcome) {
  if (!outcome.tree_done)
    return failed("verify",
                  "not complete: " + client::printable(describe(outcome.tree_done.error())));
  if (outcome.replicas && !outcome.replicas->is_complete())
    return failed("verify", "not complete: a mirror could not be compared to the end");
  const bool has_problems = (outcome.tree && outcome.tree->problems_total > 0) ||
                            (outcome.replicas && outcome.replicas->differences_total() > 0);
  return has_problems ? kProblems : kDone;
}

int verify(const Arguments& arguments) {
  const bool path_given = arguments.path != "/";
  if (arguments.only_replicas && path_given)
    return failed("verify", "--replicas compares everything: give no path"), kUsage;
  const bool is_named = !arguments.target.hosts.empty() || !look_around().host.empty();
  auto path =
      path_given || is_named ? std::optional<std::string_view>(arguments.path) : std::nullopt;
  auto target = find_target(arguments.target, look_around(), path);
  if (!target) {
    failed("verify", target.error().detail);
    return target.error().code == Code::invalid ? kUsage : kFailed;
  }
  Outcome outcome;
  int code = arguments.only_replicas ? kDone : verify_tree(arguments, *target, path, outcome);
  const bool is_whole = !path_given && outcome.tree_done;
  if (code == kDone && is_whole) code = verify_replicas(arguments, *target, outcome);
  if (code != kDone && !outcome.tree) return code;
  print(arguments, outcome);
  if (std::fflush(stdout) != 0) return failed("verify", "standard output cannot be written");
  return code != kDone ? code : exit_code(outcome);
}

}  // namespace

void add_verify(CLI::App& app, Chosen& chosen) {
  CLI::App* command =
      app.add_subcommand("verify", "Read a running network and compare it with its attributes");
  auto arguments = std::make_shared<Arguments>();  // shared by the parser and `chosen`
  add_target_options(*command, arguments->target);
  command->add_option("PATH", arguments->path, "Tree or file")->capture_default_str();
  command->add_flag("--replicas", arguments->only_replicas,
                    "Only compare mirrors with their primary; else that follows if PATH is /");
  command->add_flag("--quick", arguments->quick,
                    "Compare rows and checksums of mirrors, without reading contents");
  command->add_flag("--json", arguments->json, "Report as JSON");
  command->footer(
      "\nReads every file below PATH and compares its length, a directory's links, a symlink's\n"
      "length and, if PATH is /, the number of names of files with several. Volcanoes compare\n"
      "with their checksums what they read from disk; what comes from their memory they do not:\n"
      "the last lines tell how much was which (of all clients' reads).\n"
      "Mirrors in sync are compared with their primary while both work: every row, the checksums\n"
      "of every content, and on both the contents with these. What differs is named, with its\n"
      "path if it has one. magma fsck --deep on a stopped volcano compares all it has alone.\n"
      "Exit codes: 0 no problem, 1 wrong usage, 2 failed or not complete, 4 problems or "
      "differences.");
  command->callback([arguments, &chosen] { chosen = [arguments] { return verify(*arguments); }; });
}

}  // namespace magma::tools
