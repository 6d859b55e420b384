// What ls and inspect print.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "libmagma/client/listing.h"
#include "libmagma/crypto/path_hash.h"

using namespace magma;
using namespace magma::client;

namespace {

NameSource people() {
  return {.user = [](std::uint32_t id) { return id == 0 ? "root" : std::string(); },
          .group = [](std::uint32_t id) { return id == 100 ? "users" : std::string(); }};
}

wire::Attr attr_of(std::uint32_t mode, std::uint64_t size) {
  wire::Attr attr;
  attr.mode = mode;
  attr.size = size;
  return attr;
}

}  // namespace

TEST_CASE("listing: modes as ls shows them") {
  CHECK(mode_text(S_IFDIR | 0755) == "drwxr-xr-x");
  CHECK(mode_text(S_IFREG | 0640) == "-rw-r-----");
  CHECK(mode_text(S_IFLNK | 0777) == "lrwxrwxrwx");
  CHECK(mode_text(S_IFCHR | 0600) == "crw-------");
  CHECK(mode_text(S_IFBLK | 0060) == "b---rw----");
  CHECK(mode_text(S_IFIFO | 0001) == "p--------x");
  CHECK(mode_text(S_IFSOCK) == "s---------");
  CHECK(mode_text(S_IFREG | 06755) == "-rwsr-sr-x");
  CHECK(mode_text(S_IFREG | 06644) == "-rwSr-Sr--");
  CHECK(mode_text(S_IFDIR | 01777) == "drwxrwxrwt");
  CHECK(mode_text(S_IFDIR | 01776) == "drwxrwxrwT");
  CHECK(mode_text(0644) == "?rw-r--r--");
}

TEST_CASE("listing: a name cannot speak to the terminal") {
  CHECK(printable("plain name.txt") == "plain name.txt");
  CHECK(printable("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8c\x8b") ==
        "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8c\x8b");
  CHECK(printable("a\nb\tc") == "a\\nb\\tc");
  CHECK(printable("\x1b[31mred") == "\\x1b[31mred");
  CHECK(printable("back\\slash") == "back\\\\slash");
  CHECK(printable("del\x7f") == "del\\x7f");
  CHECK(printable("\xc2\x9b"
                  "1m") == "\\xc2\\x9b1m");  // CSI as one character
  CHECK(printable("\xe2\x80\xae"
                  "gpj.exe") == "\\xe2\\x80\\xaegpj.exe");  // right to left
  // Not UTF-8: a stray byte, an overlong slash, a surrogate, a cut character, beyond Unicode.
  CHECK(printable("a\xff") == "a\\xff");
  CHECK(printable("\xc0\xaf") == "\\xc0\\xaf");
  CHECK(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");
  CHECK(printable("x\xe2\x82") == "x\\xe2\\x82");
  CHECK(printable("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");
  CHECK(printable(std::string_view("\0", 1)) == "\\x00");
}

TEST_CASE("listing: lines") {
  NameSource names = people();
  wire::Attr attr = attr_of(S_IFDIR | 0755, 4096);
  CHECK(listing_line("src", attr, {}, names) == "drwxr-xr-x root     0               4096 src");
  attr.uid = 1234567890;
  attr.gid = 100;
  CHECK(listing_line("src", attr, {}, names) == "drwxr-xr-x 1234567890 users           4096 src");
  wire::Attr link = attr_of(S_IFLNK | 0777, 5);
  CHECK(listing_line("now", link, "to\nday", names) ==
        "lrwxrwxrwx root     0                  5 now -> to\\nday");
  wire::Attr large = attr_of(S_IFREG | 0600, 17592186044416);
  CHECK(listing_line("l", large, {}, names) == "-rw------- root     0        17592186044416 l");
  wire::Attr device = attr_of(S_IFBLK | 0660, 0);
  device.rdev = makedev(0x12345, 0x6789a);
  CHECK(listing_line("sda", device, {}, names) == "brw-rw---- root     0        74565, 424090 sda");
  NameSource nobody;
  CHECK(listing_line("src", attr, {}, nobody) == "drwxr-xr-x 1234567890 100             4096 src");
  CHECK(total_line(0) == "-- total entries: 0");
  CHECK(total_line(12) == "-- total entries: 12");
}

TEST_CASE("listing: inspect") {
  NameSource names = people();
  Flare flare;
  flare.path = "/example";
  flare.key = crypto::key_of_path(flare.path);
  flare.slot = flare.key.slot();
  flare.attr = attr_of(S_IFREG | 0644, 12);
  flare.attr.gid = 7;
  CHECK(inspect_text(flare, {{"wallace", "10.0.0.1:12000"}, {"", "10.0.0.2:12000"}}, names) ==
        "path     /example\n"
        "type     regular file\n"
        "uid      0 (root)\n"
        "gid      7\n"
        "size     12\n"
        "key      81f762fd59d88768b06b8e9de56aef8a95962045\n"
        "slot     81f\n"
        "owner    wallace (10.0.0.1:12000)\n"
        "replica  10.0.0.2:12000\n");
  flare.attr.mode = S_IFLNK | 0777;
  flare.target = "some\x01where";
  const std::string text = inspect_text(flare, {}, names);
  CHECK(text.find("type     symlink\ntarget   some\\x01where\n") != std::string::npos);
  CHECK(text.find("owner    unknown\n") != std::string::npos);
  CHECK(slot_text(ring::Slot(10)) == "00a");
}
