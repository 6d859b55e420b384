// Files that are opened for reading without asking: when the volcano is told of them.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include "libmagma/client/local_opens.h"

using namespace magma;
using client::LocalOpens;
using Told = LocalOpens::Told;

namespace {

constexpr Instant kStart{1'000'000'000'000};
constexpr Instant after(std::int64_t ms) { return kStart + milliseconds(ms); }
constexpr Ino kFile(10), kOther(11);
constexpr WallTime kNow{1'700'000'000'000'000'000};

wire::Attr attr_of(Ino ino, Instant until = after(5'000)) {
  wire::Attr attr;
  attr.ino = ino;
  attr.mode = S_IFREG | 0644;
  attr.nlink = 1;
  attr.size = 7;
  attr.mtime = attr.ctime = WallTime{kNow.ns - 2'000'000'000};
  attr.atime = WallTime{kNow.ns - 1'000'000'000};
  attr.believed_until = until;
  return attr;
}

}  // namespace

TEST_CASE("local opens: only of regular files with one name, while their attributes are believed") {
  LocalOpens opens;
  CHECK(opens.open(kFile, kStart) == nullptr);
  auto cannot = [&](auto change) {
    wire::Attr attr = attr_of(kFile);
    change(attr);
    opens.learn(attr, kStart);
    CHECK(opens.open(kFile, after(1)) == nullptr);
  };
  cannot([](wire::Attr& attr) { attr.mode = S_IFDIR | 0755; });
  cannot([](wire::Attr& attr) { attr.nlink = 2; });
  cannot([](wire::Attr& attr) { attr.nlink = 0; });
  cannot([](wire::Attr& attr) { attr.is_partial = true; });
  cannot([](wire::Attr& attr) { attr.believed_until = {}; });
  cannot([](wire::Attr& attr) { attr.believed_until = after(1'001); });  // ends too soon
  opens.learn(attr_of(kFile), kStart);
  const wire::Attr* attr = opens.open(kFile, after(1));
  REQUIRE(attr != nullptr);
  CHECK(attr->size == 7);
  // What is learned later counts, also that it may not be opened so any more.
  wire::Attr linked = attr_of(kFile);
  linked.nlink = 2;
  opens.learn(linked, after(2));
  CHECK(opens.open(kFile, after(3)) == nullptr);
}

TEST_CASE("local opens: an answer to a request made before a change teaches nothing") {
  LocalOpens opens;
  opens.learn(attr_of(kFile), kStart);
  opens.changed(kFile, after(10));
  CHECK(opens.open(kFile, after(11)) == nullptr);
  opens.learn(attr_of(kFile), after(10));
  CHECK(opens.open(kFile, after(11)) == nullptr);
  opens.learn(attr_of(kFile), after(11));
  CHECK(opens.open(kFile, after(12)) != nullptr);
  opens.forget_all(after(20));
  opens.learn(attr_of(kFile), after(20));
  CHECK(opens.open(kFile, after(21)) == nullptr);
}

TEST_CASE("local opens: one that is closed soon is never told") {
  LocalOpens opens;
  opens.learn(attr_of(kFile), kStart);
  REQUIRE(opens.open(kFile, after(1)) != nullptr);
  REQUIRE(opens.open(kFile, after(2)) != nullptr);
  CHECK(opens.has_untold());
  auto first = opens.close(kFile, true, kNow);
  REQUIRE(first.has_value());
  CHECK_FALSE(first->is_told);
  auto last = opens.close(kFile, false, kNow);
  REQUIRE(last.has_value());
  CHECK_FALSE(last->is_told);
  CHECK_FALSE(last->is_access_due);  // relatime: it is younger than the changes
  CHECK_FALSE(opens.has_untold());
  CHECK(opens.due(after(10'000)).empty());
  CHECK_FALSE(opens.close(kFile, false, kNow).has_value());
}

TEST_CASE("local opens: the access time is due as relatime of mount(8) says") {
  auto is_due = [](auto change, bool was_read = true) {
    LocalOpens opens;
    wire::Attr attr = attr_of(kFile);
    change(attr);
    opens.learn(attr, kStart);
    opens.open(kFile, after(1));
    return opens.close(kFile, was_read, kNow)->is_access_due;
  };
  CHECK_FALSE(is_due([](wire::Attr&) {}));
  CHECK(is_due([](wire::Attr& attr) { attr.mtime = attr.atime; }));
  CHECK(is_due([](wire::Attr& attr) { attr.ctime = attr.atime; }));
  auto old = [](wire::Attr& attr) {
    attr.atime = WallTime{kNow.ns - std::int64_t{24} * 3600 * 1'000'000'000};
    attr.mtime = attr.ctime = WallTime{attr.atime.ns - 1};
  };
  CHECK(is_due(old));
  CHECK_FALSE(is_due(old, false));
}

TEST_CASE("local opens: a file whose access time this client has set is believed, and read again") {
  LocalOpens opens;
  wire::Attr attr = attr_of(kFile);
  attr.mtime = attr.atime;
  opens.learn(attr, kStart);
  REQUIRE(opens.open(kFile, after(1)) != nullptr);
  CHECK(opens.close(kFile, true, kNow)->is_access_due);
  opens.access_time_set(kFile, kNow, after(1));
  const wire::Attr* known = opens.known(kFile, after(2));
  REQUIRE(known != nullptr);
  CHECK(known->atime == kNow);
  CHECK(known->mtime == attr.mtime);
  REQUIRE(opens.open(kFile, after(2)) != nullptr);
  CHECK_FALSE(opens.close(kFile, true, kNow)->is_access_due);
  CHECK(opens.known(kFile, after(4'999)) != nullptr);
  CHECK(opens.known(kFile, after(5'000)) == nullptr);  // no longer believed
  opens.names_change_begins();
  CHECK(opens.known(kFile, after(3)) == nullptr);
  opens.names_change_ends(after(3));
  CHECK(opens.known(kFile, after(3)) == nullptr);
  opens.access_time_set(kFile, kNow, after(4));
  CHECK(opens.open(kFile, after(4)) == nullptr);
  opens.learn(attr, after(4));
  CHECK(opens.known(kFile, after(5)) != nullptr);
  opens.access_time_set(kFile, kNow, after(2));  // a late answer: the names changed since
  CHECK(opens.known(kFile, after(5)) == nullptr);
}

TEST_CASE("local opens: told before the belief ends, and once") {
  LocalOpens opens;
  opens.learn(attr_of(kFile), kStart);
  REQUIRE(opens.open(kFile, after(1)) != nullptr);
  CHECK(opens.deadline() == after(4'000));
  CHECK(opens.due(after(3'999)).empty());
  CHECK(opens.due(after(4'000)) == std::vector<Ino>{kFile});
  CHECK(opens.due(after(4'001)).empty());
  CHECK(opens.has_untold());
  opens.told(kFile, Told::failed, after(4'001));
  CHECK(opens.due(after(4'001)).empty());
  CHECK(opens.due(opens.deadline()) == std::vector<Ino>{kFile});
  opens.told(kFile, Told::done, after(4'200));
  CHECK_FALSE(opens.has_untold());
  CHECK(opens.deadline() == Instant::never());
  CHECK(opens.close(kFile, false, kNow)->is_told);
  CHECK(opens.size() == 0);
}

TEST_CASE("local opens: closed while it is told") {
  LocalOpens opens;
  opens.learn(attr_of(kFile), kStart);
  opens.open(kFile, after(1));
  opens.tell_all(after(2));
  REQUIRE(opens.due(after(2)).size() == 1);
  CHECK_FALSE(opens.is_closed(kFile));
  CHECK_FALSE(opens.close(kFile, false, kNow)->is_told);
  CHECK(opens.is_closed(kFile));
  CHECK(opens.has_untold());  // it may count soon
  opens.told(kFile, Told::done, after(3));
  CHECK_FALSE(opens.has_untold());
  CHECK(opens.size() == 0);
}

TEST_CASE("local opens: who waits for one goes on when it is told, closed, or gone") {
  enum class How : std::uint8_t { told, closed, gone };
  for (How how : {How::told, How::closed, How::gone}) {
    LocalOpens opens;
    opens.learn(attr_of(kFile), kStart);
    opens.learn(attr_of(kOther), kStart);
    opens.open(kFile, after(1));
    opens.open(kOther, after(1));
    int one = 0, all = 0;
    opens.when_told(Ino(99), after(2), [&] { ++one; });
    CHECK(one == 1);  // nobody has opened it
    opens.when_told(kFile, after(2), [&] { ++one; });
    CHECK(opens.due(after(2)) == std::vector<Ino>{kFile});
    opens.when_all_told(after(3), [&] { ++all; });
    CHECK(opens.due(after(3)) == std::vector<Ino>{kOther});
    CHECK(one == 1);
    if (how == How::closed) opens.close(kFile, false, kNow);
    opens.told(kFile, how == How::gone ? Told::gone : Told::done, after(4));
    CHECK(one == 2);
    CHECK(all == 0);
    opens.told(kOther, Told::done, after(5));
    CHECK(all == 1);
  }
}

TEST_CASE("local opens: none while this client takes names away, and nothing is believed after") {
  LocalOpens opens;
  opens.learn(attr_of(kFile), kStart);
  opens.names_change_begins();
  CHECK(opens.open(kFile, after(1)) == nullptr);
  opens.names_change_begins();
  opens.names_change_ends(after(2));
  opens.learn(attr_of(kFile), after(3));
  CHECK(opens.open(kFile, after(4)) == nullptr);
  opens.names_change_ends(after(5));
  CHECK(opens.open(kFile, after(6)) == nullptr);
  opens.learn(attr_of(kFile), after(6));
  CHECK(opens.open(kFile, after(7)) != nullptr);
}
