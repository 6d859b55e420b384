// One person's (or script's) talk with the console. Sans I/O: bytes in, bytes out, a clock; its
// owner (Console) moves the bytes. One thread. A session is never destroyed inside its own calls.
//
// Input: lines end with CR LF, CR NUL, LF or CR (RFC 854). Backspace, DEL and ^W, ^U edit what has
// come of a line, ^C breaks off the command that runs and forgets what was typed ahead, ^D on an
// empty line leaves. Lines that come while a command runs wait for it.
//
// Bounds: a line kLineBytesMax; lines typed ahead about the same (then wants_input() is false, and
// who reads the socket waits); output kOutputBytesMax: commands pause while has_room() is false, so
// a peer that does not read stops its own command and nothing else. A guest who sends no line for
// kGuestIdleMax is closed, anybody who takes nothing of the last output for kLingerMax.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "libmagma/base/bytes.h"
#include "libmagma/base/time.h"
#include "libmagma/sys/clock.h"
#include "magmad/console/access.h"
#include "magmad/console/backend.h"
#include "magmad/console/telnet.h"

namespace magma::console {

class Session;

// A command that does not end at once. go_on() is called at first and whenever something may have
// changed: room for output, an answer (whose callback ends with session.pump()). It does what it
// can and returns; is_done(): it has nothing more to do. Destroying it breaks it off.
class Running {
 public:
  virtual ~Running() = default;
  virtual void go_on() = 0;
  virtual bool is_done() const = 0;
};

struct SessionOptions {
  bool speaks_telnet = true;  // else bytes are bytes
  Rights rights = Rights::guest;
  std::string who;  // for logs
};

class Session {
 public:
  static constexpr std::size_t kLineBytesMax = 64 * 1024;
  static constexpr std::size_t kAheadBytesMax = 64 * 1024;
  static constexpr std::size_t kRoomBytes = 64 * 1024;      // less output than this: has_room()
  static constexpr std::size_t kPieceBytesMax = 64 * 1024;  // of send_raw() at a time
  static constexpr std::size_t kSaidBytesMax = 24 * 1024;   // of one said line; the rest is cut
  static constexpr std::size_t kOutputBytesMax = 256 * 1024;
  static constexpr Duration kGuestIdleMax = seconds(60);
  static constexpr Duration kLingerMax = seconds(10);
  static constexpr unsigned kKeyTriesMax = 3;

  // Says the banner and the first prompt.
  Session(SessionOptions options, Backend& backend, sys::Clock& clock);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // ---- for the owner
  void receive(ByteSpan bytes);
  void receive_end();  // the peer sends no more: what it asked is still answered
  bool wants_input() const { return ahead_bytes_ < kAheadBytesMax || is_closing_; }
  ByteSpan output() const { return ByteSpan(out_).subspan(out_begin_); }
  void sent(std::size_t bytes);  // so many of output() are gone
  bool is_finished() const;      // to be closed now
  Instant deadline() const;
  void on_timer();
  bool is_guest() const { return options_.rights == Rights::guest; }
  const std::string& who() const { return options_.who; }
  // Says why and ends.
  void close_with(std::string_view line);

  // ---- for commands
  // A line of text; may hold newlines. Longer ones are cut.
  void say(std::string_view line);
  // "WHAT: text of the error".
  void complain(std::string_view what, const Error& error);
  // Bytes as they are, at most kPieceBytesMax of them.
  void send_raw(ByteSpan bytes);
  bool has_room() const { return out_.size() - out_begin_ < kRoomBytes; }
  // Goes on with what can be gone on with; at the end of each callback. The command may be gone
  // after.
  void pump();
  Backend& backend() { return backend_; }
  Rights rights() const { return options_.rights; }
  const std::string& cwd() const { return cwd_; }
  void set_cwd(std::string path) { cwd_ = std::move(path); }
  // `path` as seen from cwd(): absolute, not yet resolved.
  std::string absolute(std::string_view path) const;
  void leave();  // after the output, the end
  // The next line is a key, not to be shown while it is typed.
  void ask_key();
  // What the check of a key said.
  void on_key_checked(const Result<bool>& result);

 private:
  struct Line {
    std::string text{};
    bool is_end = false;        // nothing more comes
    bool says_goodbye = false;  // ^D
    bool is_too_long = false;
  };

  void on_text(ByteSpan bytes);
  void on_byte(std::uint8_t byte);
  void on_signal(Telnet::Signal signal);
  void end_line();
  void push(Line line);
  void erase_character();
  void erase_word();
  void interrupt();
  void prompt();
  void serve(Line line);
  void serve_key(std::string text);
  void close_now();
  void append(ByteSpan bytes);
  void show_typing(bool shown);
  bool pump_once();

  SessionOptions options_;
  Backend& backend_;
  sys::Clock& clock_;
  std::optional<Telnet> telnet_;

  std::string line_;  // being typed
  bool line_is_too_long_ = false;
  bool after_cr_ = false;
  std::deque<Line> ahead_;
  std::size_t ahead_bytes_ = 0;  // of ahead_
  bool input_has_ended_ = false;

  Bytes out_;
  std::size_t out_begin_ = 0;  // sent already

  std::string cwd_ = "/";
  std::unique_ptr<Running> running_;
  bool is_pumping_ = false;
  bool asks_key_ = false;
  unsigned key_tries_ = 0;
  bool is_closing_ = false;
  bool is_dead_ = false;  // to be closed whatever is unsent
  Instant last_line_{};
  Instant last_sent_{};
};

}  // namespace magma::console
