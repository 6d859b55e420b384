#include "magmad/console/key_gate.h"

#include <algorithm>
#include <utility>

#include <openssl/crypto.h>

namespace magma::console {

namespace {

void wipe(std::string& text) {
  OPENSSL_cleanse(text.data(), text.size());
  text.clear();
}

}  // namespace

bool is_network_key(std::string_view text, const crypto::Secret& network,
                    const crypto::Uuid& filesystem) {
  constexpr std::string_view kBlanks = " \t";
  std::string_view trimmed = text;
  while (!trimmed.empty() && kBlanks.find(trimmed.front()) != std::string_view::npos)
    trimmed.remove_prefix(1);
  while (!trimmed.empty() && kBlanks.find(trimmed.back()) != std::string_view::npos)
    trimmed.remove_suffix(1);
  const auto is_it = [&](std::string_view key_file) {
    const auto keyring = crypto::parse_key_file(key_file);
    return keyring && keyring->network && keyring->network->same_as(network);
  };
  if (is_it(trimmed)) return true;
  std::string line = "magma-key-v1 network ";
  line.reserve(line.size() + trimmed.size());  // no reallocation leaves a copy behind
  line += trimmed;
  const bool is_digits = is_it(line);
  wipe(line);
  if (is_digits) return true;
  const auto secret = crypto::secret_from_passphrase(text, filesystem);
  return secret && secret->same_as(network);
}

class KeyGate::Given final : public Pending {
 public:
  Given(std::weak_ptr<KeyGate*> gate, std::uint64_t id) : gate_(std::move(gate)), id_(id) {}
  ~Given() override {
    if (auto gate = gate_.lock()) (*gate)->give_up(id_);
  }

 private:
  std::weak_ptr<KeyGate*> gate_;
  std::uint64_t id_;
};

KeyGate::KeyGate(const crypto::Keyring& keys, const crypto::Uuid& filesystem, sys::Clock& clock,
                 sys::Executor& executor)
    : keys_(keys), filesystem_(filesystem), clock_(clock), executor_(executor) {}

KeyGate::~KeyGate() {
  for (Check& check : waiting_) wipe(check.key);
}

PendingPtr KeyGate::check(std::string key, Done<bool> done) {
  if (!keys_.network) {
    wipe(key);
    done(fail(Code::unsupported, "this volcano was started without the network key"));
    return nullptr;
  }
  const std::uint64_t id = ++last_id_;
  waiting_.push_back({id, std::move(key), std::move(done)});
  start_next();
  return std::make_unique<Given>(self_, id);
}

void KeyGate::start_next() {
  if (is_running_ || waiting_.empty()) return;
  is_running_ = true;
  has_result_ = false;
  started_ = clock_.now();
  // The executor's thread gets copies: it shares nothing with us.
  struct Work {
    std::string key;
    crypto::Secret network;
    crypto::Uuid filesystem;
    bool result = false;
  };
  auto work = std::make_shared<Work>();  // shared by the two functions below
  work->key = std::move(waiting_.front().key);
  work->network = *keys_.network;
  work->filesystem = filesystem_;
  executor_.run(
      [work] {
        work->result = is_network_key(work->key, work->network, work->filesystem);
        wipe(work->key);
      },
      [work, weak = std::weak_ptr<KeyGate*>(self_)] {
        auto gate = weak.lock();
        if (!gate) return;
        (*gate)->has_result_ = true;
        (*gate)->result_ = work->result;
      });
}

// A check that runs goes on, so that giving up does not let more keys be tried.
void KeyGate::give_up(std::uint64_t id) {
  auto found = std::find_if(waiting_.begin(), waiting_.end(),
                            [&](const Check& check) { return check.id == id; });
  if (found == waiting_.end()) return;
  found->done = nullptr;
  if (found == waiting_.begin() && is_running_) return;
  wipe(found->key);
  waiting_.erase(found);
}

Instant KeyGate::deadline() const {
  if (!is_running_) return Instant::never();
  if (has_result_) return started_ + kCheckTime;
  // The result comes through the loop, which asks for the deadline anew then.
  return Instant::never();
}

void KeyGate::on_timer() {
  if (!is_running_ || !has_result_ || clock_.now() < started_ + kCheckTime) return;
  is_running_ = false;
  Check check = std::move(waiting_.front());
  waiting_.pop_front();
  const bool result = result_;
  start_next();
  if (check.done) check.done(result);
}

}  // namespace magma::console
