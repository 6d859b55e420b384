// Sessions of people who come over the flare protocol (`magma console`): ConsoleGateway, which the
// `console` operation knows, by the sessions of Console. They have shown the network key: all
// rights, and no telnet.
#pragma once

#include <map>
#include <vector>

#include "magmad/console/console.h"
#include "magmad/console_gateway.h"

namespace magma::console {

class Gateway final : public ConsoleGateway {
 public:
  explicit Gateway(Console& console) : console_(console) {}  // which outlives it
  ~Gateway() override;

  Result<void> open(TalkId talk, std::string_view who, UniqueFunction<void()> changed) override;
  void input(TalkId talk, ByteSpan bytes) override;
  bool wants_input(TalkId talk) const override;
  Bytes take_output(TalkId talk, std::size_t bytes_max) override;
  bool has_ended(TalkId talk) const override;
  void close(TalkId talk) override;

  // After each round of the loop: tells who has something new.
  void on_flush();

 private:
  struct Talk {
    Session* session = nullptr;
    UniqueFunction<void()> changed;
    // What its opener knows, or has seen with its own eyes: only news are told.
    bool had_output = false;
    bool wanted_input = true;
    bool had_ended = false;
  };
  static bool is_news(Talk& talk);

  Console& console_;
  std::map<TalkId, Talk> talks_;
};

}  // namespace magma::console
