// What the tool prints: numbers, times, JSON.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include "magma_tools/command.h"

using namespace magma;
using namespace magma::tools;

TEST_CASE("tools: amounts and times for people") {
  CHECK(client::bytes_text(0) == "0 B");
  CHECK(client::bytes_text(1023) == "1023 B");
  CHECK(client::bytes_text(1536) == "1.5 KiB");
  CHECK(client::bytes_text(std::uint64_t{3} << 40) == "3.0 TiB");
  CHECK(client::bytes_text(~std::uint64_t{0}) == "16.0 EiB");
  CHECK(duration_text(milliseconds(1500)) == "1.5 s");
  CHECK(duration_text(seconds(61)) == "1 min 1 s");
  CHECK(duration_text(seconds(3 * 3600 + 120)) == "3 h 2 min");
  CHECK(duration_text(seconds(90000)) == "1 d 1 h");
  CHECK(time_text(WallTime{1'700'000'000'000'000'000}) == "2023-11-14T22:13:20Z");
}

TEST_CASE("tools: names in JSON are text or escaped") {
  CHECK(json_text("caf\xc3\xa9\n") == "caf\xc3\xa9\n");  // JSON has an escape of its own for it
  CHECK(json_text("a\xff") == "a\\xff");
  CHECK(json_text("") == "");
  CHECK(Json::parse(dumped({{"name", json_text("\xfe\xff")}}))["name"] == "\\xfe\\xff");
}

TEST_CASE("tools: JSON of a flare") {
  client::Flare flare;
  flare.path = "/l";
  flare.attr.ino = Ino(77);
  flare.attr.mode = S_IFLNK | 0777;
  flare.attr.size = 3;
  flare.target = "a/b";
  flare.slot = ring::Slot(10);
  const Json json = flare_json(flare, {{"wallace", "10.0.0.1:12000"}});
  CHECK(json["type"] == "symlink");
  CHECK(json["mode"] == "0777");
  CHECK(json["target"] == "a/b");
  CHECK(json["slot"] == "00a");
  CHECK(json["volcanoes"][0]["nick"] == "wallace");
  CHECK(!json.contains("rdev"));
  flare.attr.mode = S_IFCHR | 0600;
  CHECK(flare_json(flare, {}).contains("rdev"));
  CHECK(!flare_json(flare, {}).contains("target"));
}
