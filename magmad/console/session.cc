#include "magmad/console/session.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <openssl/crypto.h>

#include "libmagma/base/check.h"
#include "libmagma/base/log.h"
#include "magmad/console/commands.h"
#include "magmad/console/text.h"

namespace magma::console {

namespace {

constexpr std::uint8_t kControlC = 3;
constexpr std::uint8_t kControlD = 4;
constexpr std::uint8_t kBackspace = 8;
constexpr std::uint8_t kControlU = 21;
constexpr std::uint8_t kControlW = 23;
constexpr std::uint8_t kDelete = 127;

// So much of a path is shown in the prompt: its end.
constexpr std::size_t kPromptPathMax = 256;
// Sent bytes at the front of the buffer are dropped when there are so many.
constexpr std::size_t kCompactBytes = 32 * 1024;
constexpr std::size_t kLineOverhead = 64;  // of a line that waits, so that empty ones count

void wipe(std::string& text) {
  OPENSSL_cleanse(text.data(), text.size());
  text.clear();
}

// A key being compared.
class KeyCheck final : public Running {
 public:
  KeyCheck(Session& session, std::string key) : session_(session), key_(std::move(key)) {}
  ~KeyCheck() override { wipe(key_); }
  void go_on() override {
    if (std::exchange(is_asked_, true)) return;
    pending_ = session_.backend().check_key(std::move(key_),
                                            [this, &session = session_](Result<bool> result) {
                                              is_done_ = true;
                                              session.on_key_checked(result);
                                              session.pump();
                                            });
  }
  bool is_done() const override { return is_done_; }

 private:
  Session& session_;
  std::string key_;
  PendingPtr pending_;
  bool is_asked_ = false;
  bool is_done_ = false;
};

}  // namespace

Session::Session(SessionOptions options, Backend& backend, sys::Clock& clock)
    : options_(std::move(options)), backend_(backend), clock_(clock) {
  if (options_.speaks_telnet)
    telnet_.emplace(Telnet::Events{.text = [this](ByteSpan bytes) { on_text(bytes); },
                                   .signal = [this](Telnet::Signal signal) { on_signal(signal); },
                                   .send = [this](ByteSpan bytes) { append(bytes); }});
  last_line_ = last_sent_ = clock_.now();
  const Identity& identity = backend_.identity();
  say("");
  say("Welcome to MAGMA version " + identity.version);
  say(fmt::format("This is server {} ({})", identity.nick, identity.address));
  say("Type help to see the commands.");
  if (is_guest()) say("You are not logged in: most commands are refused until you type login.");
  prompt();
}

Session::~Session() {
  wipe(line_);
  for (Line& line : ahead_) wipe(line.text);
}

// ---- input

void Session::receive(ByteSpan bytes) {
  if (is_closing_) return;
  if (telnet_)
    telnet_->receive(bytes);
  else
    on_text(bytes);
  pump();
}

void Session::receive_end() {
  if (std::exchange(input_has_ended_, true) || is_closing_) return;
  if (!line_.empty() || line_is_too_long_) end_line();
  push({.is_end = true});
  pump();
}

void Session::on_text(ByteSpan bytes) {
  for (const std::uint8_t byte : bytes) {
    if (is_closing_) return;
    on_byte(byte);
  }
}

void Session::on_byte(std::uint8_t byte) {
  if (std::exchange(after_cr_, false) && (byte == '\n' || byte == 0)) return;
  switch (byte) {
    case '\r': after_cr_ = true; return end_line();
    case '\n': return end_line();
    case kControlC: return interrupt();
    case kControlD:
      if (line_.empty()) push({.is_end = true, .says_goodbye = true});
      return;
    case kBackspace:
    case kDelete: return erase_character();
    case kControlU:
      wipe(line_);
      line_is_too_long_ = false;
      return;
    case kControlW: return erase_word();
    default: break;
  }
  if (byte < 0x20 && byte != '\t') return;
  if (line_.size() >= kLineBytesMax) {
    line_is_too_long_ = true;
    return;
  }
  line_.push_back(static_cast<char>(byte));
}

void Session::on_signal(Telnet::Signal signal) {
  if (is_closing_) return;
  switch (signal) {
    case Telnet::Signal::interrupt: return interrupt();
    case Telnet::Signal::end: return on_byte(kControlD);
    case Telnet::Signal::erase_character: return erase_character();
    case Telnet::Signal::erase_line: return on_byte(kControlU);
    case Telnet::Signal::are_you_there:
      if (has_room()) say(fmt::format("[{} is here]", backend_.identity().nick));
      return;
    case Telnet::Signal::violation:
      return close_with("This is not telnet as the console speaks it. Goodbye.");
  }
}

void Session::end_line() {
  Line line{.text = std::move(line_), .is_too_long = line_is_too_long_};
  line_ = {};
  line_is_too_long_ = false;
  if (line.is_too_long) wipe(line.text);
  push(std::move(line));
}

void Session::push(Line line) {
  // Somebody who sends on although wants_input() is false, within one call of receive().
  ahead_bytes_ += line.text.size() + kLineOverhead;
  ahead_.push_back(std::move(line));
}

void Session::erase_character() {
  // A UTF-8 character goes as a whole.
  while (!line_.empty() && (static_cast<std::uint8_t>(line_.back()) & 0xc0) == 0x80)
    line_.pop_back();
  if (!line_.empty()) line_.pop_back();
}

void Session::erase_word() {
  while (!line_.empty() && line_.back() == ' ') line_.pop_back();
  while (!line_.empty() && line_.back() != ' ') line_.pop_back();
}

void Session::interrupt() {
  for (Line& line : ahead_) wipe(line.text);
  ahead_.clear();
  ahead_bytes_ = 0;
  wipe(line_);
  line_is_too_long_ = false;
  running_.reset();
  // What a command has said already and is not sent yet (cat of a large file) is not wanted any
  // more; a cut telnet command in it would garble what follows, so it stays as it is.
  show_typing(true);
  asks_key_ = false;
  say("^C");
  prompt();
}

// ---- commands

void Session::pump() {
  if (std::exchange(is_pumping_, true)) return;
  while (pump_once()) {
  }
  is_pumping_ = false;
}

// One step; false: nothing can go on now.
bool Session::pump_once() {
  if (is_dead_) return false;
  if (running_) {
    if (!running_->is_done() && has_room()) running_->go_on();
    if (!running_->is_done()) return false;
    running_.reset();
    if (!is_closing_ && !asks_key_) prompt();
    return true;
  }
  if (is_closing_ || ahead_.empty() || !has_room()) return false;
  Line line = std::move(ahead_.front());
  ahead_.pop_front();
  ahead_bytes_ -= line.text.size() + kLineOverhead;
  serve(std::move(line));
  return true;
}

void Session::serve(Line line) {
  if (line.is_end) {
    if (line.says_goodbye) say("Goodbye.");
    return leave();
  }
  last_line_ = clock_.now();
  if (line.is_too_long) {
    say(fmt::format("The line is too long: at most {} bytes.", kLineBytesMax));
    if (asks_key_) {
      asks_key_ = false;
      show_typing(true);
    }
    return prompt();
  }
  if (asks_key_) return serve_key(std::move(line.text));
  if (const std::string_view what = browser_line(line.text); !what.empty()) {
    backend_.warn(fmt::format("console_closed who={} reason={}", log_value(options_.who),
                              log_value(what)));
    return close_now();
  }
  running_ = run_line(*this, line.text);
  if (!running_ && !is_closing_ && !asks_key_) prompt();
}

void Session::close_now() {
  is_closing_ = is_dead_ = true;
  running_.reset();
  ahead_.clear();
  ahead_bytes_ = 0;
}

void Session::ask_key() {
  asks_key_ = true;
  show_typing(false);
  append(as_bytes("Network key: "));
}

void Session::serve_key(std::string text) {
  asks_key_ = false;
  show_typing(true);
  say("");
  if (text.empty()) return prompt();
  ++key_tries_;  // here, so that breaking a check off is a try as well
  running_ = std::make_unique<KeyCheck>(*this, std::move(text));
}

void Session::on_key_checked(const Result<bool>& result) {
  if (result && *result) {
    options_.rights = Rights::all;
    key_tries_ = 0;
    log_info("console_login who={}", options_.who);
    return say("Logged in: all commands may be used.");
  }
  if (!result) return complain("login", result.error());
  backend_.warn("console_login_failed who=" + log_value(options_.who));
  say("That is not the key of this network.");
  if (key_tries_ < kKeyTriesMax) return;
  say("Too many wrong keys. Goodbye.");
  leave();
}

std::string Session::absolute(std::string_view path) const {
  if (path.starts_with('/')) return std::string(path);
  if (path.empty()) return cwd_;
  return (cwd_ == "/" ? cwd_ : cwd_ + "/") + std::string(path);
}

void Session::leave() {
  is_closing_ = true;
  last_sent_ = clock_.now();
}

void Session::close_with(std::string_view line) {
  running_.reset();
  say(line);
  leave();
}

// ---- output

void Session::append(ByteSpan bytes) {
  if (is_dead_) return;
  // Everything that is said is asked for with has_room(); only answers to telnet's own commands and
  // to ^C can get here without. Who floods us with those and does not read is closed.
  if (out_.size() - out_begin_ + bytes.size() > kOutputBytesMax) {
    backend_.warn("console_output_overflow who=" + log_value(options_.who));
    is_closing_ = is_dead_ = true;
    return;
  }
  if (out_.size() == out_begin_) last_sent_ = clock_.now();
  out_.insert(out_.end(), bytes.begin(), bytes.end());
}

void Session::say(std::string_view text) {
  const bool is_cut = text.size() > kSaidBytesMax;
  std::string line;
  line.reserve(text.size() + 16);
  for (const char c : text.substr(0, kSaidBytesMax)) {
    if (c == '\n') line += '\r';
    line += c;
  }
  line += is_cut ? "... (cut)\r\n" : "\r\n";
  send_raw(as_bytes(line));
}

void Session::complain(std::string_view what, const Error& error) {
  const std::string_view text = text_of(error.code);
  std::string line = client::printable(what) + ": " + std::string(text);
  if (!error.detail.empty()) line += " (" + client::printable(error.detail) + ")";
  say(line);
}

void Session::send_raw(ByteSpan bytes) {
  if (telnet_)
    telnet_->send(bytes);
  else
    append(bytes);
}

void Session::show_typing(bool shown) {
  if (telnet_) telnet_->show_typing(shown);
}

void Session::prompt() {
  std::string path = client::printable(cwd_);
  if (path.size() > kPromptPathMax) path = "..." + path.substr(path.size() - kPromptPathMax);
  const std::string text = fmt::format("\r\nMAGMA [{}]:{}> ", backend_.identity().nick, path);
  send_raw(as_bytes(text));
}

void Session::sent(std::size_t bytes) {
  MAGMA_CHECK(bytes <= out_.size() - out_begin_);
  if (bytes == 0) return;
  last_sent_ = clock_.now();
  out_begin_ += bytes;
  if (out_begin_ == out_.size()) {
    out_.clear();
    out_begin_ = 0;
    if (out_.capacity() > kRoomBytes) out_.shrink_to_fit();
  } else if (out_begin_ >= kCompactBytes) {
    out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(out_begin_));
    out_begin_ = 0;
  }
  if (has_room()) pump();
}

bool Session::is_finished() const { return is_dead_ || (is_closing_ && out_.size() == out_begin_); }

// ---- time

Instant Session::deadline() const {
  if (is_finished()) return Instant::never();
  if (is_closing_) return last_sent_ + kLingerMax;
  if (is_guest()) return last_line_ + kGuestIdleMax;
  return Instant::never();
}

void Session::on_timer() {
  if (clock_.now() < deadline()) return;
  if (is_closing_) {
    is_dead_ = true;
  } else {
    close_with("\nNothing was typed for a minute. Goodbye.");
  }
}

}  // namespace magma::console
