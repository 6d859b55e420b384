// magma bench [PATH]: a short benchmark of a network as one client sees it: round trips, making,
// looking up and removing files, writing and reading 1 MiB at a time. It works in a scratch
// directory of its own below PATH and removes it at the end, also after an error or Ctrl-C.
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include <fmt/format.h>

#include "libmagma/crypto/path_hash.h"
#include "magma_tools/command.h"

namespace magma::tools {

namespace {

constexpr std::uint64_t kFilesMax = 20'000;     // made by one run
constexpr std::uint64_t kCallsMax = 1'000'000;  // timed in one step
constexpr std::uint32_t kPieceBytes = 1u << 20;
constexpr unsigned kPiecesAhead = 4;

struct Arguments {
  TargetOptions target;
  std::string path = "/";
  double seconds = 2;
  unsigned parallel = 1;
  std::uint64_t mib = 256;
  bool json = false;
};

struct Rate {
  std::uint64_t count = 0;
  Duration time{};
  std::vector<std::int64_t> latencies{};  // ns, sorted
  double per_second() const {
    return time.ns > 0 ? static_cast<double>(count) / time.seconds() : 0;
  }
  double percentile_us(double share) const {
    if (latencies.empty()) return 0;
    const auto at = static_cast<std::size_t>(share * static_cast<double>(latencies.size() - 1));
    return static_cast<double>(latencies[at]) / 1000;
  }
};

// Begins call number n; `done` is called when it has been answered.
using BeginCall = UniqueFunction<void(std::uint64_t n, client::Done<bool> done)>;

// Makes calls, some at a time, until the time is over or so many were made.
class Pump {
 public:
  Pump(Driver& driver, BeginCall begin, unsigned parallel, Duration time, std::uint64_t count_max)
      : driver_(driver),
        begin_(std::move(begin)),
        parallel_(parallel),
        time_(time),
        count_max_(count_max) {}

  Result<Rate> run() {
    began_ = driver_.clock().now();
    auto made = driver_.await<bool>([this](client::Done<bool> done) {
      done_ = std::move(done);
      for (unsigned i = 0; i < parallel_; ++i) next();
      end_if_over();
    });
    if (!made) {  // an answer that is still to come begins no other call
      error_ = made.error();
      done_ = nullptr;
      return fail(std::move(made.error()));
    }
    rate_.time = driver_.clock().now() - began_;
    std::sort(rate_.latencies.begin(), rate_.latencies.end());
    return std::move(rate_);
  }

 private:
  void next() {
    const Instant now = driver_.clock().now();
    if (error_ || begun_ == count_max_ || now - began_ >= time_) return;
    ++under_way_;
    begin_(begun_++, [this, now](Result<bool> result) {
      --under_way_;
      if (!result && !error_) error_ = result.error();
      if (result) {
        ++rate_.count;
        rate_.latencies.push_back((driver_.clock().now() - now).ns);
      }
      next();
      end_if_over();
    });
  }
  void end_if_over() {
    if (under_way_ > 0 || !done_) return;
    auto done = std::move(done_);
    done_ = nullptr;
    if (error_) return done(fail(*error_));
    done(true);
  }

  Driver& driver_;
  BeginCall begin_;
  unsigned parallel_;
  Duration time_;
  std::uint64_t count_max_;
  Instant began_{};
  std::uint64_t begun_ = 0;
  std::size_t under_way_ = 0;
  std::optional<Error> error_{};
  client::Done<bool> done_;
  Rate rate_;
};

class Bench {
 public:
  Bench(const Arguments& arguments, Network& network)
      : arguments_(arguments), network_(network), progress_(network.driver().clock()) {}

  Result<void> run(const std::string& path) {
    TRY_VALUE(client::Flare parent, network_.resolve(path, client::PathWalk::Last::follow));
    if (!S_ISDIR(parent.attr.mode)) return fail(Code::not_a_directory, parent.path);
    parent_ = parent.attr.ino;
    TRY(measure("rpc", "a round trip (getattr)", [this](std::uint64_t, client::Done<bool> done) {
      client().getattr(parent_, {}, forget_value<wire::Attr>(std::move(done)));
    }));
    TRY(make_scratch(parent));
    auto measured = measure_all();
    auto removed = remove_scratch();
    progress_.wipe();
    TRY(measured);
    return removed;
  }

  void print() const {
    if (arguments_.json) {
      std::fputs(dumped(json_).c_str(), stdout);
      return;
    }
    std::fputs(text_.c_str(), stdout);
  }

 private:
  client::Client& client() { return network_.client(); }
  template <class T, class Begin>
  Result<T> await(Begin begin) {
    return network_.driver().await<T>(std::move(begin));
  }
  template <class T>
  static client::Done<T> forget_value(client::Done<bool> done) {
    return [done = std::move(done)](Result<T> result) mutable {
      if (!result) return done(fail(std::move(result.error())));
      done(true);
    };
  }
  Duration time_limit() const {
    return nanoseconds(static_cast<std::int64_t>(arguments_.seconds * 1e9));
  }
  static std::string name_of(std::uint64_t n) { return "f" + std::to_string(n); }

  // A rate of small calls; the number of them that were made.
  Result<std::uint64_t> measure(const char* key, const char* what, BeginCall begin,
                                std::uint64_t count_max = kCallsMax, bool is_timed = true) {
    progress_.show(what);
    const Duration limit = is_timed ? time_limit() : seconds(3600);
    // Kept past an interrupt: late answers still know it.
    pumps_.push_back(std::make_unique<Pump>(network_.driver(), std::move(begin),
                                            arguments_.parallel, limit, count_max));
    TRY_VALUE(Rate rate, pumps_.back()->run());
    json_[key] = {{"count", rate.count},
                  {"per_second", rate.per_second()},
                  {"p50_us", rate.percentile_us(0.5)},
                  {"p99_us", rate.percentile_us(0.99)}};
    text_ += fmt::format("{:<26} {:>9.0f}/s   p50 {:>8.1f} us   p99 {:>8.1f} us   ({} calls)\n",
                         what, rate.per_second(), rate.percentile_us(0.5), rate.percentile_us(0.99),
                         rate.count);
    return rate.count;
  }

  Result<void> measure_all() {
    TRY_VALUE(std::uint64_t files, measure(
                                       "create", "create a file",
                                       [this](std::uint64_t n, client::Done<bool> done) {
                                         create(name_of(n), std::move(done));
                                       },
                                       kFilesMax));
    TRY(measure("stat", "stat it (lookup)",
                [this, files](std::uint64_t n, client::Done<bool> done) {
                  client().lookup(scratch_, name_of(n % files), {},
                                  forget_value<wire::EntryReply>(std::move(done)));
                }));
    TRY(measure(
        "unlink", "unlink it",
        [this](std::uint64_t n, client::Done<bool> done) {
          client().unlink(scratch_, name_of(n), {},
                          forget_value<wire::EmptyReply>(std::move(done)));
        },
        files, false));
    return measure_throughput();
  }

  void create(const std::string& name, client::Done<bool> done) {
    wire::CreateRequest request;
    request.dir = scratch_;
    request.name = name;
    request.mode = 0600;
    request.exclusive = true;
    client().create(request, {},
                    [this, done = std::move(done)](Result<wire::EntryReply> entry) mutable {
                      if (!entry) return done(fail(std::move(entry.error())));
                      client().release(entry->ino, true);
                      done(true);
                    });
  }

  // ---- throughput

  Result<void> measure_throughput() {
    wire::CreateRequest request;
    request.dir = scratch_;
    request.name = "data";
    request.mode = 0600;
    TRY_VALUE(auto entry, await<wire::EntryReply>([&](client::Done<wire::EntryReply> done) {
                client().create(request, {}, std::move(done));
              }));
    data_ = entry.ino;
    auto done = write_and_read();
    client().release(data_, true);
    return done;
  }

  Result<void> write_and_read() {
    Bytes piece(kPieceBytes);
    network_.driver().random().fill(piece);
    TRY(measure_pieces("write", "write, 1 MiB at a time",
                       [this, piece](std::uint64_t n, client::Done<bool> done) {
                         client().write(data_, n * kPieceBytes, piece, false, false, {},
                                        forget_value<wire::WriteReply>(std::move(done)));
                       }));
    const Instant before = network_.driver().clock().now();
    TRY(await<wire::EmptyReply>(
        [&](client::Done<wire::EmptyReply> done) { client().fsync(data_, {}, std::move(done)); }));
    const Duration synced = network_.driver().clock().now() - before;
    json_["fsync_seconds"] = synced.seconds();
    text_ += fmt::format("{:<26} {:>9.1f} ms\n", "fsync of it", synced.seconds() * 1000);
    return measure_pieces(
        "read", "read it", [this, piece](std::uint64_t n, client::Done<bool> done) {
          client().read(data_, n * kPieceBytes, kPieceBytes, {},
                        [&piece, done = std::move(done)](Result<Bytes> bytes) mutable {
                          if (!bytes) return done(fail(std::move(bytes.error())));
                          if (*bytes != piece)
                            return done(fail(Code::io, "what was read is not what was written"));
                          done(true);
                        });
        });
  }

  Result<void> measure_pieces(const char* key, const char* what, BeginCall begin) {
    progress_.show(what);
    pumps_.push_back(std::make_unique<Pump>(network_.driver(), std::move(begin), kPiecesAhead,
                                            seconds(3600), arguments_.mib));
    TRY_VALUE(Rate rate, pumps_.back()->run());
    json_[key] = {{"mib", rate.count}, {"mib_per_second", rate.per_second()}};
    text_ += fmt::format("{:<26} {:>9.1f} MiB/s ({} MiB)\n", what, rate.per_second(), rate.count);
    return {};
  }

  // ---- the scratch directory

  Result<void> make_scratch(const client::Flare& parent) {
    scratch_name_ = fmt::format(".magma-bench-{:016x}", network_.driver().random().next());
    scratch_path_ = (parent.path == "/" ? "" : parent.path) + "/" + scratch_name_;
    wire::MkdirRequest request;
    request.dir = parent_;
    request.name = scratch_name_;
    request.mode = 0700;
    request.key = crypto::key_of_path(scratch_path_);
    TRY_VALUE(auto entry, await<wire::EntryReply>([&](client::Done<wire::EntryReply> done) {
                client().mkdir(request, {}, std::move(done));
              }));
    scratch_ = entry.ino;
    return {};
  }

  // Calls that were under way at an interrupt may still make files: so until the directory goes.
  Result<void> remove_scratch() {
    constexpr unsigned kTries = 20;
    network_.driver().forget_interrupt();
    Result<void> done;
    for (unsigned i = 0; i < kTries; ++i) {
      done = remove_entries();
      if (done) done = remove_directory();
      if (done || done.error().code != Code::not_empty) break;
      TRY(network_.driver().pause(milliseconds(100)));
    }
    if (!done)
      return fail(done.error().code,
                  scratch_path_ + " is left behind, remove it by hand: " + describe(done.error()));
    return {};
  }

  Result<void> remove_entries() {
    auto flare = network_.resolve(scratch_path_, client::PathWalk::Last::keep);
    if (!flare) return fail(flare.error());
    client::DirectoryReader reader(network_.tree(), *flare, {.with_dots = false});
    bool is_last = false;
    while (!is_last) {
      TRY_VALUE(auto batch,
                await<client::DirectoryBatch>([&](client::Done<client::DirectoryBatch> done) {
                  reader.next(std::move(done));
                }));
      is_last = batch.is_last;
      for (const client::ListedEntry& entry : batch.entries) {
        auto gone = await<wire::EmptyReply>([&](client::Done<wire::EmptyReply> done) {
          client().unlink(scratch_, entry.name, {}, std::move(done));
        });
        if (!gone && gone.error().code != Code::not_found) return fail(gone.error());
      }
    }
    return {};
  }

  Result<void> remove_directory() {
    TRY(await<wire::EmptyReply>([&](client::Done<wire::EmptyReply> done) {
      client().rmdir(parent_, scratch_name_, {}, std::move(done));
    }));
    return {};
  }

  const Arguments& arguments_;
  Network& network_;
  Progress progress_;
  std::vector<std::unique_ptr<Pump>> pumps_;
  Ino parent_, scratch_, data_;
  std::string scratch_name_, scratch_path_;
  Json json_ = Json::object();
  std::string text_;
};

int bench(const Arguments& arguments) {
  const bool is_named = !arguments.target.hosts.empty() || !look_around().host.empty();
  auto path = arguments.path != "/" || is_named ? std::optional<std::string_view>(arguments.path)
                                                : std::nullopt;
  Opened opened = open_network("bench", arguments.target, path);
  if (!opened.network) return opened.code;
  // Before the network: it calls nobody back once the bench is gone.
  auto bench = std::make_unique<Bench>(arguments, *opened.network);
  auto done = bench->run(opened.target.path);
  bench->print();
  opened.network.reset();
  if (std::fflush(stdout) != 0) return failed("bench", "standard output cannot be written");
  return done ? kDone : failed("bench", done.error());
}

}  // namespace

void add_bench(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("bench", "Measure a network as one client sees it");
  auto arguments = std::make_shared<Arguments>();  // shared by the parser and `chosen`
  add_target_options(*command, arguments->target);
  command->add_option("PATH", arguments->path, "Directory to work below")->capture_default_str();
  command->add_option("--seconds", arguments->seconds, "For each of the small operations")
      ->check(CLI::Range(0.1, 600.0))
      ->capture_default_str();
  command->add_option("--parallel", arguments->parallel, "Small operations under way at a time")
      ->check(CLI::Range(1, 128))
      ->capture_default_str();
  command->add_option("--mib", arguments->mib, "To be written and read, 4 MiB ahead")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  command->add_flag("--json", arguments->json, "Report as JSON");
  command->footer(
      "\nThere is no mount between: rates through a mount differ. Files are made (at most 20000),\n"
      "written and removed in a directory .magma-bench-..., which is removed, too, also after\n"
      "Ctrl-C. Access and modification times of PATH change.\n"
      "Exit codes: 0 done, 1 wrong usage, 2 failed or interrupted.");
  command->callback([arguments, &chosen] { chosen = [arguments] { return bench(*arguments); }; });
}

}  // namespace magma::tools
