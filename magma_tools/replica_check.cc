#include "magma_tools/replica_check.h"

#include <sys/stat.h>

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "magma_tools/ring_text.h"
#include "magmad/store/database.h"
#include "magmad/store/rows.h"

namespace magma::tools {

namespace {

using client::bytes_text;
using client::printable;

// For one piece; a mirror's disk may be slow.
constexpr Duration kPiecePatience = seconds(70);
constexpr Duration kAgain = milliseconds(500);
// A volcano that restarts, or a mirror that is away for a moment, is waited for so long.
constexpr Duration kGiveUpAfter = seconds(20);
// While nothing is compared: whether slots have moved.
constexpr Duration kLookAgain = seconds(2);
constexpr unsigned kRoundsMax = 5;  // of pairs that are there since

std::string why_not(const Result<wire::CompareReply>& reply) {
  if (reply) return "it is not in sync";
  if (reply.error().code == Code::not_found) return "the primary does not know it as a mirror";
  return describe(reply.error());
}

bool is_primary(const wire::RingVolcano& volcano) { return !volcano.slices.empty(); }
bool is_mirror(const wire::RingVolcano& volcano) { return !volcano.copies.empty(); }
// Of some of its slots.
bool is_mirror_of(const wire::RingVolcano& mirror, const wire::RingVolcano& primary) {
  return std::any_of(mirror.copies.begin(), mirror.copies.end(), [&](const auto& copies) {
    return std::any_of(primary.slices.begin(), primary.slices.end(), [&](const auto& slice) {
      return copies.first <= slice.last && slice.first <= copies.last;
    });
  });
}

bool is_pair(const wire::RingReply& ring, std::uint16_t primary, std::uint16_t mirror) {
  const auto find = [&](std::uint16_t id) {
    return std::find_if(ring.volcanoes.begin(), ring.volcanoes.end(),
                        [&](const wire::RingVolcano& v) { return v.id == id; });
  };
  const auto one = find(primary), other = find(mirror);
  return one != ring.volcanoes.end() && other != ring.volcanoes.end() && is_primary(*one) &&
         is_mirror_of(*other, *one);
}

// One mirror of one primary, from the first piece to the last.
class Comparer {
 public:
  Comparer(const Target& target, const wire::RingVolcano& primary, const wire::RingVolcano& mirror,
           bool reads_content, ReplicaReport::Mirror& report)
      : target_(target), primary_(primary), mirror_(mirror), report_(report), progress_(clock_) {
    request_.mirror = mirror.id;
    request_.reads_content = reads_content;
  }

  // Errors: interrupted.
  Result<void> run() {
    since_ = clock_.now();
    while (!report_.is_complete) {
      auto reply = ask();
      if (reply && reply->is_in_sync) {
        since_ = clock_.now();
        take(std::move(*reply));
        continue;
      }
      if (!reply && reply.error().code == Code::interrupted) return fail(reply.error());
      const std::string why = why_not(reply);
      const bool is_final = !reply && class_of(reply.error().code) != ErrorClass::retry;
      if (is_final || clock_.now() - since_ >= kGiveUpAfter) {
        report_.why_not = why;
        break;
      }
      TRY(rest());
      if (!is_still_so()) break;
    }
    progress_.wipe();
    return {};
  }

 private:
  Result<wire::CompareReply> ask() {
    if (!host_) {
      TRY_VALUE(host_, Host::connect(target_, primary_.flare, crypto::Role::client));
    }
    auto reply = host_->ask(request_, kPiecePatience);
    if (!reply && reply.error().code != Code::overloaded) host_.reset();
    return reply;
  }

  bool is_still_so() {
    if (clock_.now() - looked_ < kLookAgain) return true;
    looked_ = clock_.now();
    auto ring = ask_ring(target_, nullptr);
    if (!ring) return true;  // nobody who knows better
    report_.has_moved = !is_pair(*ring, primary_.id, mirror_.id);
    return !report_.has_moved;
  }

  Result<void> rest() {
    if (host_) return host_->driver().pause(kAgain);
    TRY_VALUE(auto driver, Driver::make());
    return driver->pause(kAgain);
  }

  void take(wire::CompareReply reply) {
    report_.rows += reply.rows;
    report_.bytes += reply.bytes;
    report_.differences_total += reply.differences.size();
    for (wire::Difference& difference : reply.differences)
      if (report_.differences.size() < ReplicaReport::kListedMax)
        report_.differences.push_back(std::move(difference));
    if (reply.next)
      request_.cursor = std::move(*reply.next);
    else
      report_.is_complete = true;
    if (!progress_.is_due()) return;
    progress_.show(fmt::format("{}: {} rows, {} of content, {} differences",
                               printable(report_.nick), report_.rows, bytes_text(report_.bytes),
                               report_.differences_total));
  }

  const Target& target_;
  const wire::RingVolcano& primary_;
  const wire::RingVolcano& mirror_;
  ReplicaReport::Mirror& report_;
  sys_real::Clock clock_;
  Progress progress_;
  wire::CompareRequest request_{};
  Instant since_{};   // the last piece
  Instant looked_{};  // at the ring
  std::unique_ptr<Host> host_;
};

// Goes through the tree until all are found. What is nowhere in it has no path.
class PathFinder {
 public:
  PathFinder(Network& network, std::set<std::uint64_t> wanted)
      : network_(network), wanted_(std::move(wanted)), progress_(network.driver().clock()) {}

  Result<std::map<std::uint64_t, std::string>> run() {
    TRY_VALUE(client::Flare root, network_.resolve("/", client::PathWalk::Last::keep));
    look_at(root.attr.ino.value, "/");
    enter(std::move(root));
    while (!levels_.empty() && !wanted_.empty()) TRY(step());
    return std::move(found_);
  }

 private:
  struct Level {
    client::Flare directory;
    std::unique_ptr<client::DirectoryReader> reader;
    std::vector<client::ListedEntry> entries{};
    std::size_t next = 0;
    bool is_last = false;
  };

  void enter(client::Flare directory) {
    Level level{.directory = directory, .reader = nullptr};
    level.reader = std::make_unique<client::DirectoryReader>(
        network_.tree(), std::move(directory),
        client::DirectoryReader::Options{
            .with_dots = false, .with_targets = false, .with_profiles = false});
    levels_.push_back(std::move(level));
  }

  Result<void> step() {
    Level& level = levels_.back();
    if (level.next == level.entries.size()) {
      if (level.is_last) return levels_.pop_back(), Result<void>();
      auto batch = network_.driver().await<client::DirectoryBatch>(
          [&](client::Done<client::DirectoryBatch> done) { level.reader->next(std::move(done)); });
      if (!batch && class_of(batch.error().code) == ErrorClass::retry) return fail(batch.error());
      if (!batch && batch.error().code == Code::interrupted) return fail(batch.error());
      if (!batch) return levels_.pop_back(), Result<void>();  // gone, or it cannot be read
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
    look_at(flare.attr.ino.value, flare.path);
    if (progress_.is_due())
      progress_.show(fmt::format("looking for the paths of {} flares", wanted_.size()));
    if (S_ISDIR(flare.attr.mode)) enter(std::move(flare));
    return {};
  }

  void look_at(std::uint64_t ino, const std::string& path) {
    if (wanted_.erase(ino) > 0) found_[ino] = path;
  }

  Network& network_;
  std::set<std::uint64_t> wanted_;
  Progress progress_;
  std::map<std::uint64_t, std::string> found_;
  std::vector<Level> levels_;
};

void find_paths(const Target& target, ReplicaReport& report) {
  std::set<std::uint64_t> wanted;
  for (const auto& mirror : report.mirrors)
    for (const wire::Difference& difference : mirror.differences)
      if (const std::uint64_t ino = inode_of(difference)) wanted.insert(ino);
  if (wanted.empty()) return;
  auto network = Network::attach(target);
  if (!network) return;  // the numbers must do
  if (auto paths = PathFinder(**network, std::move(wanted)).run()) report.paths = std::move(*paths);
}

std::string flare_text(const ReplicaReport& report, const wire::Difference& difference) {
  const std::uint64_t ino = inode_of(difference);
  if (ino == 0) return fmt::format("slot {:03x}", difference.key.a >> ring::kCounterBits);
  const auto path = report.paths.find(ino);
  return path != report.paths.end() ? printable(path->second) : fmt::format("inode {:016x}", ino);
}

std::uint64_t content_offset(const wire::Difference& difference) {
  constexpr std::uint64_t kChunk = std::uint64_t{64} << 20;
  return (difference.key.a & ring::kCounterMask) * kChunk;
}

}  // namespace

std::uint64_t ReplicaReport::differences_total() const {
  std::uint64_t total = 0;
  for (const Mirror& mirror : mirrors) total += mirror.differences_total;
  return total;
}

bool ReplicaReport::is_complete() const {
  return std::all_of(mirrors.begin(), mirrors.end(),
                     [](const Mirror& mirror) { return mirror.is_complete; });
}

bool has_mirrors(const wire::RingReply& ring) {
  return std::any_of(ring.volcanoes.begin(), ring.volcanoes.end(), is_mirror);
}

Result<ReplicaReport> compare_replicas(const Target& target, const wire::RingReply& first,
                                       bool reads_content) {
  ReplicaReport report;
  sys_real::Clock clock;
  const Instant begun = clock.now();
  std::set<std::pair<std::uint16_t, std::uint16_t>> compared;
  wire::RingReply ring = first;
  for (unsigned round = 0; round < kRoundsMax; ++round) {
    bool has_moved = false;
    for (const wire::RingVolcano& primary : ring.volcanoes) {
      if (!is_primary(primary)) continue;
      for (const wire::RingVolcano& mirror : ring.volcanoes) {
        if (mirror.id == primary.id || !is_mirror_of(mirror, primary)) continue;
        if (!compared.emplace(primary.id, mirror.id).second) continue;
        auto& told = report.mirrors.emplace_back();
        told.nick = mirror.nick;
        told.primary = primary.nick;
        TRY(Comparer(target, primary, mirror, reads_content, told).run());
        if (!told.has_moved) continue;
        has_moved = true;
        compared.erase({primary.id, mirror.id});
      }
    }
    std::erase_if(report.mirrors,
                  [](const ReplicaReport::Mirror& mirror) { return mirror.has_moved; });
    if (!has_moved) break;
    if (auto now = ask_ring(target, nullptr)) ring = std::move(*now);
  }
  find_paths(target, report);
  report.time = clock.now() - begun;
  return report;
}

// ---- words

namespace {

using store::Table;

Table table_of(const wire::Difference& difference) { return static_cast<Table>(difference.table); }

// What of the flare, or of the slot.
std::string what_text(const wire::Difference& difference) {
  const wire::MirrorKey& key = difference.key;
  switch (table_of(difference)) {
    case Table::inode: return "attributes";
    case Table::inline_data: return "content of the row";
    case Table::entry: return "name " + printable(key.c);
    case Table::xattr: return "attribute " + printable(key.c);
    case Table::chunk:
      return fmt::format("content from byte {} on", content_offset(difference) + difference.offset);
    case Table::page_sums: {
      std::uint64_t mib = 0;
      for (char byte : key.c) mib = mib << 8 | static_cast<std::uint8_t>(byte);
      return fmt::format("checksums of the MiB from byte {} on",
                         content_offset(difference) + (mib << 20));
    }
    default:
      return fmt::format("row of table {} ({:x}, {:x})", store::name_of(table_of(difference)),
                         key.a, key.b);
  }
}

std::string_view kind_text(wire::DifferenceKind kind) {
  switch (kind) {
    case wire::DifferenceKind::missing: return "the mirror lacks it";
    case wire::DifferenceKind::surplus: return "only the mirror has it";
    case wire::DifferenceKind::other: return "the mirror has another";
    case wire::DifferenceKind::damaged: return "the mirror's bytes do not match their checksums";
    case wire::DifferenceKind::damaged_here:
      return "the primary's bytes do not match their checksums";
    case wire::DifferenceKind::unreadable: return "the mirror cannot read it";
    case wire::DifferenceKind::unreadable_here: return "the primary cannot read it";
  }
  return "differs";
}

std::string_view kind_name(wire::DifferenceKind kind) {
  switch (kind) {
    case wire::DifferenceKind::missing: return "missing";
    case wire::DifferenceKind::surplus: return "surplus";
    case wire::DifferenceKind::other: return "other";
    case wire::DifferenceKind::damaged: return "damaged";
    case wire::DifferenceKind::damaged_here: return "damaged_here";
    case wire::DifferenceKind::unreadable: return "unreadable";
    case wire::DifferenceKind::unreadable_here: return "unreadable_here";
  }
  return "unknown";
}

Json difference_json(const ReplicaReport& report, const ReplicaReport::Mirror& mirror,
                     const wire::Difference& difference) {
  const std::uint64_t ino = inode_of(difference);
  const auto path = report.paths.find(ino);
  return {{"text", difference_text(report, mirror, difference)},
          {"kind", kind_name(difference.kind)},
          {"table", store::name_of(table_of(difference))},
          {"slot", fmt::format("{:03x}", difference.key.a >> ring::kCounterBits)},
          {"ino", ino == 0 ? Json() : Json(ino)},
          {"path", path == report.paths.end() ? Json() : Json(json_text(path->second))},
          {"name", difference.table == static_cast<std::uint8_t>(Table::entry)
                       ? Json(json_text(difference.key.c))
                       : Json()}};
}

}  // namespace

std::uint64_t inode_of(const wire::Difference& difference) {
  switch (table_of(difference)) {
    case Table::inode:
    case Table::inline_data:
    case Table::entry:  // of the directory
    case Table::lock:
    case Table::open:
    case Table::orphan:
    case Table::xattr:
    case Table::file_lock: return difference.key.a;
    case Table::chunk:
    case Table::authority:
    case Table::page_sums: return difference.key.b;
    default: return 0;
  }
}

std::string difference_text(const ReplicaReport& report, const ReplicaReport::Mirror& mirror,
                            const wire::Difference& difference) {
  return fmt::format("{}: {}: {}: {}", printable(mirror.nick), flare_text(report, difference),
                     what_text(difference), kind_text(difference.kind));
}

std::string replica_text(const ReplicaReport& report) {
  std::string text;
  for (const ReplicaReport::Mirror& mirror : report.mirrors) {
    for (const wire::Difference& difference : mirror.differences)
      text += "difference: " + difference_text(report, mirror, difference) + "\n";
    if (mirror.differences_total > mirror.differences.size())
      text += fmt::format("difference: {}: {} more not listed\n", printable(mirror.nick),
                          mirror.differences_total - mirror.differences.size());
  }
  for (const ReplicaReport::Mirror& mirror : report.mirrors) {
    const std::string found = mirror.differences_total == 0
                                  ? "the same"
                                  : fmt::format("{} differences", mirror.differences_total);
    text += fmt::format(
        "{} as {}: {}, {} rows, {} of content compared{}\n", printable(mirror.nick),
        printable(mirror.primary),
        mirror.is_complete ? found : "not complete (" + mirror.why_not + "), " + found, mirror.rows,
        bytes_text(mirror.bytes),
        &mirror == &report.mirrors.back() ? " in " + duration_text(report.time) : std::string());
  }
  return text;
}

Json replica_json(const ReplicaReport& report) {
  Json mirrors = Json::array();
  for (const ReplicaReport::Mirror& mirror : report.mirrors) {
    Json differences = Json::array();
    for (const wire::Difference& difference : mirror.differences)
      differences.push_back(difference_json(report, mirror, difference));
    mirrors.push_back({{"mirror", json_text(mirror.nick)},
                       {"primary", json_text(mirror.primary)},
                       {"complete", mirror.is_complete},
                       {"why_not", mirror.is_complete ? Json() : Json(mirror.why_not)},
                       {"rows", mirror.rows},
                       {"bytes", mirror.bytes},
                       {"differences_total", mirror.differences_total},
                       {"differences", std::move(differences)}});
  }
  return mirrors;
}

}  // namespace magma::tools
