// The console's sessions over a made-up volcano: telnet, line editing, commands, rights, login,
// back-pressure, and what a hostile peer may try.
#include <doctest/doctest.h>

#include <algorithm>

#include "libmagma/base/log.h"
#include "magmad/console/commands.h"
#include "magmad/console/session.h"
#include "tests/lib/fake_console.h"
#include "tests/lib/sim_clock.h"

using namespace magma;
using console::Rights;
using console::Session;
using console::SessionOptions;
using test::FakeConsole;

namespace {

constexpr char kIac = '\xff';

// A person at a session: takes all output at once.
struct Person {
  explicit Person(Rights rights = Rights::all, bool speaks_telnet = true)
      : session({.speaks_telnet = speaks_telnet, .rights = rights, .who = "test"}, fake, clock) {}
  void types(std::string_view text) { session.receive(as_bytes(text)); }
  // All that was said since the last call.
  std::string hears() {
    std::string all;
    while (!session.output().empty()) {
      all += as_text(session.output());
      session.sent(session.output().size());
    }
    return all;
  }
  // What a line is answered, without the prompt that follows.
  std::string asks(std::string_view line) {
    hears();
    types(std::string(line) + "\r\n");
    std::string answer = hears();
    const std::size_t prompt = answer.rfind("\r\nMAGMA [");
    return prompt == std::string::npos ? answer : answer.substr(0, prompt);
  }
  FakeConsole fake;
  test::SimClock clock;
  Session session;
};

bool holds(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

TEST_CASE("console session: banner and prompt") {
  Person person;
  const std::string said = person.hears();
  CHECK(said ==
        "\r\nWelcome to MAGMA version 1.2.3\r\nThis is server wallace (127.0.0.1:12000)\r\n"
        "Type help to see the commands.\r\n\r\nMAGMA [wallace]:/> ");
}

TEST_CASE("console session: help has a line for every command, right-aligned") {
  Person person;
  const std::string help = person.asks("help");
  for (const console::Command& command : console::commands()) CHECK(holds(help, command.name));
  CHECK(std::count(help.begin(), help.end(), '\n') == std::ptrdiff_t(console::commands().size()));
  CHECK(holds(help, "\r\n           pwd  the present directory\r\n"));
}

TEST_CASE("console session: commands are matched by whole words, case does not count") {
  Person person;
  person.fake.nodes["/exit"] = {.content = "x"};
  CHECK(holds(person.asks("ls /exit"), "/exit"));  // the original took this for `exit`
  CHECK_FALSE(person.session.is_finished());
  CHECK(holds(person.asks("PRINT Debug"), "network"));
  CHECK(holds(person.asks("helpme"), "Command unknown: helpme. Type help"));
  CHECK(holds(person.asks("print"), "Did you mean: print cache, print debug, print acl?"));
  CHECK(holds(person.asks("cat"), "Too few arguments. Usage: cat PATH"));
  CHECK(holds(person.asks("ls a b"), "Too many arguments. Usage: ls [PATH]"));
  CHECK(holds(person.asks("cat 'a"), "This cannot be read: a ' without its end."));
  CHECK(person.asks("") == "");
}

TEST_CASE("console session: all ends of line, and editing") {
  for (const std::string_view end : {std::string_view("\r\n"), std::string_view("\n"),
                                     std::string_view("\r"), std::string_view("\r\0", 2)}) {
    Person person;
    person.hears();
    person.types("pwd");
    person.types(end);
    CHECK(person.hears() == "/\r\n\r\nMAGMA [wallace]:/> ");
  }
  Person person;
  CHECK(person.asks("pwx\bd") == "/\r\n");
  CHECK(person.asks("pwx\x7f\xc3\xa4\x7f"
                    "d") == "/\r\n");  // a character of two bytes goes at once
  CHECK(person.asks("some junk\x15pwd") == "/\r\n");
  CHECK(person.asks("some junk\x17\x17pwd") == "/\r\n");
  CHECK(person.asks("\b\b\x17pwd") == "/\r\n");
  CHECK(person.asks(std::string_view("p\0w\x01"
                                     "d",
                                     5)) == "/\r\n");  // control characters are dropped
  // One line in many pieces, two lines in one piece.
  person.hears();
  for (const char c : std::string_view("pwd\r\n")) person.types({&c, 1});
  CHECK(person.hears() == "/\r\n\r\nMAGMA [wallace]:/> ");
  person.types("pwd\r\npwd\r\n");
  const std::string twice = person.hears();
  CHECK(twice == "/\r\n\r\nMAGMA [wallace]:/> /\r\n\r\nMAGMA [wallace]:/> ");
}

TEST_CASE("console session: a line that is too long is refused, the next one is read") {
  Person person;
  person.hears();
  const std::string piece(10'000, 'x');
  for (int i = 0; i < 20; ++i) person.types(piece);
  person.types("\r\n");
  CHECK(holds(person.hears(), "The line is too long: at most 65536 bytes."));
  CHECK(person.asks("pwd") == "/\r\n");
}

TEST_CASE("console session: cd, pwd and the prompt") {
  Person person;
  person.fake.nodes["/a"] = {.mode = 0040755};
  person.fake.nodes["/a/b"] = {.mode = 0040755};
  person.fake.nodes["/a/c"] = {.mode = 0040755};
  person.fake.nodes["/file"] = {.content = "x"};
  person.hears();
  person.types("cd a/b\r\n");
  CHECK(person.hears() == "\r\nMAGMA [wallace]:/a/b> ");
  CHECK(person.asks("pwd") == "/a/b\r\n");
  person.asks("cd ..");  // the original joined names without a slash
  CHECK(person.asks("pwd") == "/a\r\n");
  person.asks("cd ../a/./b/../c");
  CHECK(person.asks("pwd") == "/a/c\r\n");
  CHECK(person.asks("cd /file") == "cd /file: not a directory\r\n");
  CHECK(holds(person.asks("cd /none"), "no such file or directory"));
  CHECK(person.asks("pwd") == "/a/c\r\n");
  person.asks("cd");
  CHECK(person.asks("pwd") == "/\r\n");
}

TEST_CASE("console session: ls sorts, counts, and shows no name as it is") {
  Person person;
  person.fake.nodes["/d"] = {.mode = 0040755};
  person.fake.nodes["/d/b"] = {.content = "12345", .uid = 1234};
  person.fake.nodes["/d/a\x1b[2J\n"] = {.content = "x"};
  person.fake.nodes["/d/c"] = {.mode = 0120777, .content = "b"};
  person.fake.nodes["/d/e"] = {.mode = 0040700};
  const std::string listing = person.asks("ls d");
  CHECK(listing ==
        "-rw-r--r-- root     root               1 a\\x1b[2J\\n\r\n"
        "-rw-r--r-- 1234     root               5 b\r\n"
        "lrwxrwxrwx root     root               1 c -> b\r\n"
        "drwx------ root     root               0 e\r\n"
        "-- total entries: 4\r\n");
  CHECK(person.asks("ls d/b") == "-rw-r--r-- 1234     root               5 /d/b\r\n");
  CHECK(holds(person.asks("cd 'no\x1b[1m'"), "no such file or directory"));
}

TEST_CASE("console session: a directory too large to be sorted is shown whole") {
  Person person;
  for (int i = 0; i < 5000; ++i) person.fake.nodes["/" + std::to_string(i)] = {.content = "x"};
  person.fake.batch_entries = 700;
  const std::string listing = person.asks("ls");
  CHECK(holds(listing, "-- total entries: 5000\r\n"));
  CHECK(std::count(listing.begin(), listing.end(), '\n') == 5001);
}

TEST_CASE("console session: cat gives the bytes, with IAC doubled for telnet alone") {
  const std::string content(
      "a\xff"
      "b\x1b[m\n\0\r",
      9);
  for (const bool speaks_telnet : {true, false}) {
    Person person(Rights::all, speaks_telnet);
    person.fake.nodes["/f"] = {.content = content};
    std::string wanted = content;
    if (speaks_telnet) wanted.insert(1, 1, kIac);
    CHECK(person.asks("cat f") == wanted);
  }
  Person person;
  person.fake.nodes["/d"] = {.mode = 0040755};
  person.fake.nodes["/p"] = {.mode = 0010644};
  person.fake.nodes["/empty"] = {};
  CHECK(person.asks("cat d") == "cat d: is a directory\r\n");
  CHECK(holds(person.asks("cat p"), "it is a fifo"));
  CHECK(person.asks("cat empty") == "");
}

TEST_CASE("console session: inspect, erase, lava, caches") {
  Person person;
  person.fake.nodes["/d"] = {.mode = 0040755};
  person.fake.nodes["/d/f"] = {.content = "12", .uid = 7};
  const std::string inspected = person.asks("inspect d/f");
  CHECK(holds(inspected, "/d/f\r\n"));
  CHECK(holds(inspected, "regular file"));
  CHECK(holds(inspected, "wallace (127.0.0.1:12000)"));
  CHECK(holds(inspected, "\r\nparent\r\n"));
  CHECK(holds(inspected, "directory"));
  CHECK_FALSE(holds(person.asks("inspect"), "parent"));  // of /
  CHECK(holds(person.asks("erase d"), "only files are erased"));
  CHECK(person.asks("erase d/f") == "Erased /d/f\r\n");
  CHECK(person.fake.erased == std::vector<std::string>{"/d/f"});
  CHECK(holds(person.asks("erase d/f"), "no such file or directory"));
  const std::string lava = person.asks("lava");
  CHECK(holds(lava, "wallace (wallace.example.org)\r\n"));
  CHECK(holds(lava, "start key   0000000000000000000000000000000000000000\r\n"));
  CHECK(holds(lava, "1.0 KiB free of 4.0 KiB"));
  CHECK(holds(lava, "gromit (gromit.example.org)\r\n"));
  CHECK(holds(lava, "alive       no, silent for 12 s\r\n"));
  CHECK(holds(lava, "holds       mirror, behind\r\n"));
  CHECK(holds(lava, "keys        not counted yet\r\n"));
  CHECK(holds(lava, "Copies: 2 wanted, 1 had.\r\n"));
  CHECK(holds(lava, "The ring is degraded: one copy of everything; gromit is away.\r\n"));
  CHECK(holds(person.asks("cache load"), "7  content files held open (note)"));
  const std::string cache = person.asks("print cache");
  CHECK(holds(cache, "[0000000000000010] [2] [123]\r\nand 6 more\r\n"));
  CHECK(holds(cache, "ho\\x1bst"));
}

TEST_CASE("console session: debug switches the channels of the log") {
  Person person;
  log_enable('n', false);
  CHECK(person.asks("debug on n") == "[*] n  network\r\n");
  CHECK(log_enabled('n'));
  CHECK(holds(person.asks("print debug"), "[*] n  network"));
  CHECK(person.asks("debug off n") == "[ ] n  network\r\n");
  CHECK_FALSE(log_enabled('n'));
  CHECK(holds(person.asks("debug on Q"), "There is no channel 'Q'"));
  CHECK(holds(person.asks("debug on nn"), "There is no channel"));
  CHECK(holds(person.asks("debug off z"), "always on"));
}

TEST_CASE("console session: shutdown says so, ends the session and stops the network once") {
  Person person;
  CHECK(holds(person.asks("shutdown"), "The network stops"));
  CHECK(person.fake.shutdowns == 1);
  CHECK(person.session.is_finished());
  // It takes its time, and tells of each volcano.
  Person waiting;
  waiting.fake.is_slow = true;
  CHECK(holds(waiting.asks("shutdown"), "The network stops"));
  CHECK_FALSE(waiting.session.is_finished());
  REQUIRE(waiting.fake.answer_one());
  CHECK(holds(waiting.hears(), "gromit at 127.0.0.2:12000 has ended"));
  CHECK(waiting.session.is_finished());
  CHECK(waiting.fake.shutdowns == 1);
}

TEST_CASE("console session: exit, quit, ^D, and the peer's end") {
  for (const char* line : {"exit", "quit", "\x04"}) {
    Person person;
    CHECK(holds(person.asks(line), "Goodbye."));
    CHECK(person.session.is_finished());
  }
  Person typing;
  typing.types(
      "pw\x04"
      "d\r\n");  // ^D in a line is nothing
  CHECK_FALSE(typing.session.is_finished());
  // What was asked before the end is answered, also a last line without its end.
  Person piping;
  piping.fake.nodes["/f"] = {.content = "content"};
  piping.hears();
  piping.types("cat f\npwd");
  piping.session.receive_end();
  const std::string said = piping.hears();
  CHECK(holds(said, "content"));
  CHECK(holds(said, "/\r\n"));
  CHECK(piping.session.is_finished());
}

TEST_CASE("console session: guests get what tells nothing of the files") {
  Person guest(Rights::guest);
  CHECK(holds(guest.hears(), "You are not logged in"));
  for (const char* line : {"ls", "cd /", "cat /f", "inspect /", "erase /f", "lava", "cache load",
                           "print cache", "print debug", "debug on n", "debug off n", "shutdown"}) {
    CAPTURE(line);
    CHECK(holds(guest.asks(line), "is for root, for the user magmad runs as, and after login."));
  }
  CHECK(guest.fake.shutdowns == 0);
  CHECK(guest.asks("pwd") == "/\r\n");
  CHECK(holds(guest.asks("help"), "(after login)"));
  CHECK(holds(guest.asks("print acl"), "Console, TCP"));
}

TEST_CASE("console session: login hides what is typed and gives all rights") {
  Person guest(Rights::guest);
  guest.hears();
  guest.types("login\r\n");
  CHECK(guest.hears() == "\xff\xfb\x01Network key: ");  // IAC WILL ECHO
  guest.types("\xff\xfd\x01the right key\r\n");         // IAC DO ECHO
  const std::string said = guest.hears();
  CHECK(said.starts_with("\xff\xfc\x01\r\n"));  // IAC WONT ECHO
  CHECK(holds(said, "Logged in"));
  CHECK_FALSE(holds(said, "right key"));
  CHECK_FALSE(guest.session.is_guest());
  CHECK(holds(guest.asks("ls"), "total entries"));
  CHECK(holds(guest.asks("login"), "already"));
}

TEST_CASE("console session: wrong keys are told, and the third ends the session") {
  Person guest(Rights::guest);
  for (unsigned i = 1; i <= Session::kKeyTriesMax; ++i) {
    CHECK_FALSE(guest.session.is_finished());
    const std::string said = guest.asks("login\r\nwrong");
    CHECK(holds(said, "That is not the key of this network."));
    CHECK(holds(said, "Too many") == (i == Session::kKeyTriesMax));
  }
  CHECK(guest.session.is_finished());
  CHECK(guest.session.is_guest());
  CHECK(guest.fake.warnings.size() == Session::kKeyTriesMax);
}

TEST_CASE("console session: breaking a check of a key off is a try as well") {
  Person guest(Rights::guest);
  guest.fake.is_slow = true;
  for (unsigned i = 1; i < Session::kKeyTriesMax; ++i) {
    guest.types("login\r\nwrong\r\n");
    CHECK(guest.fake.questions_open() == 1);
    guest.types("\x03");
    CHECK(guest.fake.questions_open() == 0);
  }
  guest.fake.is_slow = false;
  guest.asks("login\r\nwrong");
  CHECK(guest.session.is_finished());
}

TEST_CASE("console session: a browser's request ends the session before anything is done") {
  for (const char* line : {"POST / HTTP/1.1", "GET /shutdown HTTP/1.1", "Host: localhost:12002"}) {
    Person person;
    person.hears();
    person.types(std::string(line) + "\r\nshutdown\r\nerase /f\r\n");
    CHECK(person.session.is_finished());
    CHECK(person.hears() == "");
    CHECK(person.fake.shutdowns == 0);
    CHECK(person.fake.warnings.size() == 1);
  }
}

TEST_CASE("console telnet: commands and options of a client") {
  Person person;
  person.hears();
  // WILL SGA, DO ECHO, DO SGA: all refused, and what is typed between arrives.
  person.types(
      "p\xff\xfb\x03w\xff\xfd\x01"
      "d\xff\xfd\x03\r\n");
  const std::string said = person.hears();
  CHECK(holds(said, "\xff\xfe\x03"));
  CHECK(holds(said, "\xff\xfc\x01"));
  CHECK(holds(said, "\xff\xfc\x03"));
  CHECK(holds(said, "/\r\n"));
  // A command cut in two, and a doubled IAC, which is a byte of the line.
  person.types("pw\xff");
  person.types(
      "\xf1"
      "d\r\n");  // NOP
  CHECK(person.hears() == "/\r\n\r\nMAGMA [wallace]:/> ");
  person.fake.nodes["/\xff"] = {.content = "odd name"};
  CHECK(person.asks("cat \xff\xff") == "odd name");
  person.types("junk\xff\xf8pwd\r\n");  // EL
  CHECK(holds(person.hears(), "/\r\n"));
  person.types("\xff\xf6");  // AYT
  CHECK(holds(person.hears(), "[wallace is here]"));
  person.types("\xff\xec");  // EOF
  CHECK(holds(person.hears(), "Goodbye."));
}

TEST_CASE("console telnet: subnegotiations end the session, however they are cut") {
  // MCCP2: libtelnet alone would begin to inflate what follows, and run it.
  const std::string attack(
      "pwd\r\n\xff\xfa\x56\xff\xf0"
      "x\x9c pwd\r\n",
      16);
  for (std::size_t cut = 0; cut < attack.size(); ++cut) {
    Person person;
    person.hears();
    person.types(attack.substr(0, cut));
    person.types(attack.substr(cut));
    const std::string said = person.hears();
    CHECK(holds(said, "Goodbye."));
    CHECK(person.session.is_finished());
  }
  // 255 is also the number of an option: the 250 after it begins nothing.
  Person person;
  person.hears();
  person.types("\xff\xfd\xff\xfa pwd\r\n");
  CHECK_FALSE(person.session.is_finished());
}

TEST_CASE("console session: a slow reader stops the command, not the volcano") {
  FakeConsole fake;
  fake.nodes["/big"] = {.size = 3'000'000};
  test::SimClock clock;
  Session session({.rights = Rights::all, .who = "test"}, fake, clock);
  session.receive(as_bytes("cat /big\r\n"));
  const std::uint64_t read_at_first = fake.bytes_read;
  CHECK(session.output().size() <= Session::kOutputBytesMax);
  CHECK(read_at_first <= 2 * fake.piece_bytes);
  for (int i = 0; i < 100; ++i) session.pump();
  CHECK(fake.bytes_read == read_at_first);
  // Taken bit by bit everything comes, in order, and the bound holds.
  std::string all;
  std::size_t most = 0;
  while (!session.output().empty()) {
    most = std::max(most, session.output().size());
    const auto bytes = session.output().first(std::min<std::size_t>(session.output().size(), 9999));
    all += as_text(bytes);
    session.sent(bytes.size());
  }
  CHECK(most <= Session::kOutputBytesMax);
  const std::size_t begin = all.find(std::string("\0\1\2", 3));
  REQUIRE(begin != std::string::npos);
  CHECK(all.size() - begin > 3'000'000);
  for (std::size_t i = 0; i < 3'000'000; ++i)
    if (static_cast<std::uint8_t>(all[begin + i]) != i % 251) FAIL("byte " << i << " is wrong");
}

TEST_CASE("console session: ^C and IP break off what runs and forget what was typed ahead") {
  for (const char* stop : {"\x03", "\xff\xf4"}) {
    FakeConsole fake;
    fake.nodes["/big"] = {.size = 3'000'000};
    fake.is_slow = true;
    test::SimClock clock;
    Session session({.rights = Rights::all, .who = "test"}, fake, clock);
    session.receive(as_bytes("cat /big\r\nshutdown\r\n"));
    CHECK(fake.answer_one());
    CHECK(fake.questions_open() == 1);
    session.receive(as_bytes(stop));
    CHECK(fake.questions_open() == 0);
    CHECK(fake.shutdowns == 0);
    session.receive(as_bytes("pwd\r\n"));
    CHECK(holds(as_text(session.output()), "^C"));
    CHECK(as_text(session.output()).ends_with("/\r\n\r\nMAGMA [wallace]:/> "));
  }
}

TEST_CASE("console session: a command of which the answer never comes goes with its session") {
  FakeConsole fake;
  fake.is_slow = true;
  test::SimClock clock;
  for (const char* line : {"ls", "cat /f", "cd /", "lava", "inspect /", "erase /x"}) {
    Session session({.rights = Rights::all, .who = "test"}, fake, clock);
    session.receive(as_bytes(std::string(line) + "\r\n"));
    CHECK(fake.questions_open() == 1);
  }
  CHECK(fake.questions_open() == 0);
}

TEST_CASE("console session: answers that come later lead to the same output") {
  std::string outputs[2];
  for (const bool is_slow : {false, true}) {
    Person person;
    person.fake.is_slow = is_slow;
    for (int i = 0; i < 20; ++i)
      person.fake.nodes["/" + std::to_string(i)] = {.content = "content"};
    person.hears();
    person.types("ls\r\ncat 7\r\ninspect 3\r\nerase 5\r\ncd 4\r\nlava\r\npwd\r\n");
    std::string& output = outputs[is_slow];
    do output += person.hears();
    while (person.fake.answer_one());
    output += person.hears();
  }
  CHECK(outputs[0] == outputs[1]);
  CHECK(holds(outputs[0], "Erased /5"));
}

TEST_CASE("console session: what is typed ahead is bounded") {
  FakeConsole fake;
  fake.is_slow = true;
  test::SimClock clock;
  Session session({.rights = Rights::all, .who = "test"}, fake, clock);
  session.receive(as_bytes("ls\r\n"));
  unsigned lines = 0;
  for (; session.wants_input() && lines < 100'000; ++lines) session.receive(as_bytes("pwd\r\n"));
  CHECK(lines < 2000);
  fake.is_slow = false;
  while (fake.answer_one()) session.sent(session.output().size());
  while (!session.output().empty()) session.sent(session.output().size());
  CHECK(session.wants_input());
}

TEST_CASE("console session: a flood of telnet options without reading ends the session") {
  FakeConsole fake;
  test::SimClock clock;
  Session session({.rights = Rights::guest, .who = "test"}, fake, clock);
  std::string flood;
  for (int i = 0; i < 5000; ++i) flood += "\xff\xfd\x05";
  for (int i = 0; i < 50 && !session.is_finished(); ++i) session.receive(as_bytes(flood));
  CHECK(session.is_finished());
  CHECK(session.output().size() <= Session::kOutputBytesMax);
  CHECK(fake.warnings.size() == 1);
}

TEST_CASE("console session: guests who type nothing are closed, others are not") {
  Person guest(Rights::guest);
  guest.hears();
  guest.clock.advance(Session::kGuestIdleMax - milliseconds(1));
  guest.types("pw");  // no line
  guest.session.on_timer();
  CHECK_FALSE(guest.session.is_finished());
  guest.clock.advance(milliseconds(1));
  REQUIRE(guest.session.deadline() <= guest.clock.now());
  guest.session.on_timer();
  CHECK(holds(guest.hears(), "Goodbye."));
  CHECK(guest.session.is_finished());
  Person root;
  CHECK(root.session.deadline() == Instant::never());
}

TEST_CASE("console session: who does not take the last output is closed all the same") {
  Person person;
  person.types("exit\r\n");
  CHECK_FALSE(person.session.is_finished());
  person.clock.advance(Session::kLingerMax);
  person.session.on_timer();
  CHECK(person.session.is_finished());
}

TEST_CASE("console session: files that cannot be reached are said to be so") {
  Person person;
  person.fake.files_fail = true;
  CHECK(person.asks("ls") == "ls .: volcano unreachable\r\n");
  person.fake.files_fail = false;
  CHECK(holds(person.asks("ls"), "total entries"));
}
