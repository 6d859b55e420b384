// magma fsck DIR: whether a stopped volcano's storage agrees with itself. Takes the directory's
// lock, so that no magmad runs meanwhile; changes nothing but the lock file.
#include <unistd.h>

#include <cstdio>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "libmagma/sys_real/clock.h"
#include "libmagma/sys_real/disk_posix.h"
#include "magma_tools/tools.h"
#include "magmad/store/fsck.h"
#include "magmad/store/storage_dir.h"

namespace magma::tools {

namespace {

using store::FsckReport;

struct Arguments {
  std::string directory;
  bool deep = false;
  bool json = false;
};

constexpr Duration kQuietTime = seconds(2);  // a check that is quicker shows no progress
constexpr Duration kProgressEvery = milliseconds(200);

int failed(const std::string& directory, const Error& error) {
  std::string text = error.code == Code::in_use
                         ? error.detail + ": is its magmad running? stop it first"
                         : directory + ": " + describe(error);
  std::fprintf(stderr, "magma fsck: %s\n", text.c_str());
  return kFailed;
}

// Nothing else happens in this process, so work may block.
class InlineExecutor final : public sys::Executor {
 public:
  void run(UniqueFunction<void()> work, UniqueFunction<void()> done) override {
    work();
    done();
  }
};

// A line on the terminal that is written over, and wiped at the end.
class Progress {
 public:
  Progress() : is_terminal_(::isatty(STDERR_FILENO) == 1), begun_(clock_.now()) {}
  ~Progress() {
    if (shown_) std::fprintf(stderr, "\r\033[K");
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void operator()(std::uint64_t done, std::uint64_t total) {
    if (!is_terminal_ || total == 0) return;
    Instant now = clock_.now();
    if (now - begun_ < kQuietTime || (shown_ && now - last_ < kProgressEvery)) return;
    std::fprintf(stderr, "\rchecking: %3u%%", static_cast<unsigned>(100 * done / total));
    std::fflush(stderr);
    last_ = now;
    shown_ = true;
  }

 private:
  sys_real::Clock clock_;
  bool is_terminal_;
  Instant begun_;
  Instant last_{};
  bool shown_ = false;
};

nlohmann::json texts(const std::vector<store::FsckProblem>& list) {
  auto array = nlohmann::json::array();
  for (const auto& item : list) array.push_back(item.what);
  return array;
}

void print_json(const FsckReport& report, bool unclean) {
  nlohmann::json json = {
      {"clean", report.clean()},
      {"clean_stop", !unclean},
      {"problems_total", report.problems_total},
      {"problems", texts(report.problems)},
      {"notes_total", report.notes_total},
      {"notes", texts(report.notes)},
      {"inodes", report.inodes},
      {"directories", report.directories},
      {"files", report.files},
      {"others", report.others},
      {"entries", report.entries},
      {"chunks", report.chunks},
      {"content_files", report.content_files},
      {"operations", report.operations},
      {"orphans", report.orphans},
      {"hot_ranges", report.hot_ranges},
      {"pages_checked", report.pages_checked},
  };
  // What is in a damaged database need not be UTF-8.
  auto text = json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
  std::printf("%s\n", text.c_str());
}

void print_list(const char* kind, const std::vector<store::FsckProblem>& list,
                std::uint64_t total) {
  for (const auto& item : list) std::printf("%s: %s\n", kind, item.what.c_str());
  if (total > list.size())
    std::printf("%s: %s more not listed\n", kind, std::to_string(total - list.size()).c_str());
}

void print_text(const FsckReport& report, bool unclean, bool deep) {
  print_list("problem", report.problems, report.problems_total);
  print_list("note", report.notes, report.notes_total);
  if (unclean)
    std::printf("note: the last stop was no clean one; the next start recovers what it left\n");
  if (report.operations > 0)
    std::printf("note: operations under way left %s rows; the next start ends them\n",
                std::to_string(report.operations).c_str());
  std::string summary = fmt::format(
      "{} inodes ({} directories, {} files), {} entries, {} content files", report.inodes,
      report.directories, report.files, report.entries, report.content_files);
  if (deep) summary += fmt::format(", {} pages compared", report.pages_checked);
  if (report.clean())
    std::printf("clean: %s\n", summary.c_str());
  else
    std::printf("%s problems: %s\n", std::to_string(report.problems_total).c_str(),
                summary.c_str());
}

int fsck(const Arguments& arguments) {
  auto disk = sys_real::PosixDisk::open_directory(arguments.directory, false);
  if (!disk) return failed(arguments.directory, disk.error());
  auto papers = (*disk)->exists("volcano.json");
  if (!papers) return failed(arguments.directory, papers.error());
  if (!*papers)
    return failed(arguments.directory, Error{Code::not_magma, "it holds no volcano.json"});
  auto lock = sys_real::lock_directory(arguments.directory);
  if (!lock) return failed(arguments.directory, lock.error());
  auto told = store::read_papers(**disk);
  if (!told) return failed(arguments.directory, told.error());
  auto stopped = (*disk)->exists("clean");
  if (!stopped) return failed(arguments.directory, stopped.error());

  InlineExecutor executor;
  Result<FsckReport> report = [&] {
    Progress progress;
    store::FsckOptions options;
    options.deep = arguments.deep;
    options.unclean = !*stopped;
    options.progress = [&progress](std::uint64_t done, std::uint64_t total) {
      progress(done, total);
    };
    return told->shares_slots ? store::fsck_by_parts(**disk, executor, std::move(options))
                              : store::fsck(**disk, executor, std::move(options));
  }();
  if (!report) return failed(arguments.directory, report.error());
  if (arguments.json)
    print_json(*report, !*stopped);
  else
    print_text(*report, !*stopped, arguments.deep);
  return report->clean() ? kDone : kProblems;
}

}  // namespace

void add_fsck(CLI::App& app, Chosen& chosen) {
  CLI::App* command =
      app.add_subcommand("fsck", "Check a storage directory whose volcano is stopped");
  auto arguments = std::make_shared<Arguments>();  // shared by the parser and `chosen`
  command->add_option("DIR", arguments->directory, "Storage directory (magmad -d)")->required();
  command->add_flag("--deep", arguments->deep, "Also compare content with its checksums");
  command->add_flag("--json", arguments->json, "Report as JSON");
  command->footer("\nExit codes: 0 clean, 1 wrong usage, 2 failed, 4 problems were found.");
  command->callback([arguments, &chosen] { chosen = [arguments] { return fsck(*arguments); }; });
}

}  // namespace magma::tools
