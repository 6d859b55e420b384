// main() of posix_tests: the POSIX and Linux semantics of a directory, as ext4 has them.
//
//   MAGMA_POSIX_DIR   an existing directory to test in; every user must be able to reach it
//   MAGMA_POSIX_DIR2  the same directory through a second mount (optional)
//
// As root. Exit codes: 0 passed, 1 failed, 2 cannot be run here (the reason is on stderr). A run
// without a single test case fails.
#define DOCTEST_CONFIG_IMPLEMENT
#include "tests/posix/harness.h"

#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

using magma::posix::places;

// Counts what ran, for "nothing ran" to be a failure.
struct Counter : doctest::IReporter {
  static inline unsigned matching = 0;
  explicit Counter(const doctest::ContextOptions&) {}
  void test_run_end(const doctest::TestRunStats& stats) override {
    matching = stats.numTestCasesPassingFilters;
  }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_case_start(const doctest::TestCaseData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};
REGISTER_LISTENER("counter", 1, Counter);

int refuse(const std::string& reason) {
  std::fprintf(stderr, "posix_tests: %s\n", reason.c_str());
  return 2;
}

// "" or what is wrong with the places.
std::string find_places() {
  const char* first = std::getenv("MAGMA_POSIX_DIR");
  const char* second = std::getenv("MAGMA_POSIX_DIR2");
  if (first == nullptr || *first == '\0') return "MAGMA_POSIX_DIR is not set";
  if (second == nullptr || *second == '\0') second = first;
  for (auto* place : {&first, &second}) {
    char* real = ::realpath(*place, nullptr);
    if (real == nullptr) return std::string(*place) + " is not there";
    (place == &first ? places().first : places().second) = real;
    std::free(real);
  }
  places().are_two = places().first != places().second;
  if (::geteuid() != 0) return "needs root";
  for (const auto& place : {places().first, places().second}) {
    const auto reached = magma::posix::as_user(
        magma::posix::kNobody, [&] { return magma::posix::did(::chdir(place.c_str())); });
    if (reached != "ok") return "an unprivileged user cannot reach " + place + ": " + reached;
  }
  return "";
}

}  // namespace

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  context.setAsDefaultForAssertsOutOfTestCases();
  ::umask(022);
  std::signal(SIGPIPE, SIG_IGN);
  bool only_lists = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    for (const char* word : {"-ltc", "--list-test-cases", "-h", "--help", "-v", "--version"}) {
      if (argument == word) only_lists = true;
    }
  }
  if (!only_lists) {
    if (const auto wrong = find_places(); !wrong.empty()) return refuse(wrong);
  }
  const int code = context.run();
  if (context.shouldExit() || only_lists) return code;
  if (Counter::matching == 0) return refuse("no test case ran");
  return code;
}
