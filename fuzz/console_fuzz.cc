// The whole console session on any bytes: telnet, line editing, parser, commands, over a made-up
// volcano. Byte 0 chooses rights, telnet or not, and whether answers come later; the rest is what
// the peer sends, in pieces; bytes of it also decide when output is taken and answers come. The
// bounds of session.h hold, and nothing of a name reaches the peer that could command a terminal.
#include <cstdlib>

#include "libmagma/base/check.h"
#include "libmagma/base/log.h"
#include "magmad/console/session.h"
#include "tests/lib/fake_console.h"
#include "tests/lib/sim_clock.h"

namespace {

// What a session says must not depend on logs.
void no_log(magma::LogLevel, std::string_view) {}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace magma;
  if (size < 2) return 0;
  log_to(no_log);
  test::FakeConsole fake;
  fake.nodes["/dir"] = {.mode = 0040755};
  fake.nodes["/dir/a\x1b[2J"] = {.content = "text\n"};
  fake.nodes["/dir/link"] = {.mode = 0120777, .content = "\x1b]0;x\a"};
  fake.nodes["/big"] = {.size = 300'000};
  fake.is_slow = (data[0] & 4) != 0;
  test::SimClock clock;
  const bool speaks_telnet = (data[0] & 2) != 0;
  console::Session session(
      {.speaks_telnet = speaks_telnet,
       .rights = (data[0] & 1) != 0 ? console::Rights::all : console::Rights::guest,
       .who = "fuzz"},
      fake, clock);
  const auto check = [&] {
    MAGMA_CHECK(session.output().size() <= console::Session::kOutputBytesMax);
    // Only files may send an escape, and telnet, where it is the number of an option.
    const ByteSpan out = session.output();
    for (std::size_t i = 0; i < out.size() && fake.bytes_read == 0; ++i)
      MAGMA_CHECK(out[i] != 0x1b || (i > 0 && out[i - 1] >= 0xfb));
  };
  ByteSpan left(data + 1, size - 1);
  while (!left.empty() && !session.is_finished()) {
    const std::uint8_t step = left[0];
    const std::size_t length = std::min<std::size_t>(left.size(), 1 + step % 61);
    if (session.wants_input()) session.receive(left.first(length));
    left = left.subspan(length);
    check();
    if (step % 3 == 0) fake.answer_one();
    if (step % 5 != 0) session.sent(std::min<std::size_t>(session.output().size(), 40'000));
    if (step % 17 == 0) clock.advance(seconds(step % 7));
    if (clock.now() >= session.deadline()) session.on_timer();
    check();
  }
  session.receive_end();
  for (unsigned i = 0; i < 10'000 && !session.is_finished(); ++i) {
    session.sent(session.output().size());
    fake.answer_one();
    check();
  }
  MAGMA_CHECK(session.is_finished());
  return 0;
}
