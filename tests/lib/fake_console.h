// A made-up backend for the console: a small tree in memory, a key, and answers that come at once
// or when the test says so. For the unit tests and the fuzz target of console::Session.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "magmad/console/backend.h"

namespace magma::test {

class FakeConsole final : public console::Backend, public console::Files {
 public:
  struct Node {
    std::uint32_t mode = 0100644;
    std::string content{};   // of a file; of a symlink its target
    std::uint64_t size = 0;  // if `content` is empty: so many bytes of a pattern
    std::uint32_t uid = 0, gid = 0;
  };

  FakeConsole();

  std::map<std::string, Node> nodes;  // by absolute path; "/" is there
  std::string key = "the right key";
  console::Identity who{"wallace", "wallace.example.org", "127.0.0.1:12000", "1.2.3"};
  console::AccessRules access{};
  std::size_t batch_entries = 3;      // of a directory at a time
  std::size_t piece_bytes = 100'000;  // of a file at a time
  // Answers wait until answer_one(); else they come inside the call.
  bool is_slow = false;
  bool files_fail = false;

  bool answer_one();  // false: nothing waits
  std::size_t questions_open() const { return questions_.size(); }
  std::vector<std::string> erased;
  std::vector<std::string> warnings;
  unsigned shutdowns = 0;
  std::uint64_t bytes_read = 0;  // handed out by readings

  // Backend
  const console::Identity& identity() const override { return who; }
  const console::AccessRules& rules() const override { return access; }
  console::PendingPtr open_files(console::Done<console::Files*> done) override;
  console::PendingPtr lava(console::Done<console::LavaReport> done) override;
  console::CacheReport caches() override;
  console::PendingPtr check_key(std::string typed, console::Done<bool> done) override;
  console::PendingPtr learn_names(std::vector<std::uint32_t> uids, std::vector<std::uint32_t> gids,
                                  UniqueFunction<void()> done) override;
  client::NameSource& names() override { return names_; }
  void warn(std::string_view line) override { warnings.emplace_back(line); }
  console::PendingPtr shut_down(std::string_view who, UniqueFunction<void(std::string)> tell,
                                UniqueFunction<void()> done) override;

  // Files
  console::PendingPtr resolve(std::string_view path, client::PathWalk::Last last,
                              console::Done<client::Flare> done) override;
  std::unique_ptr<console::Listing> list(client::Flare directory) override;
  std::unique_ptr<console::Reading> read(client::Flare file) override;
  console::PendingPtr erase(const client::Flare& flare, console::Done<void> done) override;
  std::vector<client::Holder> holders(ring::Slot slot) override;

  // Calls `answer` now or later; the object returned gives it up.
  console::PendingPtr ask(UniqueFunction<void()> answer);

 private:
  struct Question {
    std::uint64_t id;
    UniqueFunction<void()> answer;
  };
  class Given;
  friend class FakeListing;
  friend class FakeReading;

  std::deque<Question> questions_;
  std::uint64_t last_id_ = 0;
  client::NameSource names_;
};

// The path without ".", ".." and double slashes.
std::string plain_path(std::string_view path);

}  // namespace magma::test
