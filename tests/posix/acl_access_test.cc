// Who is let in by a POSIX ACL: named users and groups, the mask, the order in which entries are
// asked, directories, what open descriptors keep. See acl_test.cc for the lists themselves.
#include <fcntl.h>
#include <sys/stat.h>

#include <string>

#include "tests/posix/acl.h"

namespace magma::posix {
namespace {

constexpr unsigned kAlice = 60001, kCarol = 60003, kDave = 60004, kFriends = 60200;

// "rwx" as far as the user gets it, by doing it rather than by asking.
std::string granted(const std::string& path, uid_t uid, gid_t gid, std::vector<gid_t> groups = {}) {
  return as_user(uid, gid, std::move(groups), [&] {
    std::string got;
    got += try_open(path, O_RDONLY) == "ok" ? "r" : "-";
    got += try_open(path, O_WRONLY) == "ok" ? "w" : "-";
    got += ::access(path.c_str(), X_OK) == 0 ? "x" : "-";
    std::string asked;
    for (const auto& [bit, letter] : {std::pair{R_OK, "r"}, {W_OK, "w"}, {X_OK, "x"}}) {
      asked += ::access(path.c_str(), bit) == 0 ? letter : "-";
    }
    return got == asked ? got : got + " but access says " + asked;
  });
}

TEST_CASE("acl: named users and groups are let in as far as the mask goes") {
  const Scratch dir("acl");
  make_file(dir / "file", "abc");
  const auto file = dir / "file";
  own(file, kAlice, kTeam);
  const auto list = [](unsigned mask) {
    return acl({{kUserObj, 7}, {kUser, 6, kBob.uid}, {kUser, 0, kCarol}, {kGroupObj, 5},
                {kGroup, 4, kFriends}, {kGroup, 2, 60201}, {kMask, mask}, {kOther, 4}});
  };
  struct Row {
    const char* who;
    uid_t uid;
    gid_t gid;
    std::vector<gid_t> groups;
    const char *mask7, *mask4, *mask0;
  };
  // With an empty mask Linux does not look into the list at all (the group's bits of the mode are
  // empty then): whoever is not in the owning group, the named ones too, is one of the others.
  const Row table[] = {
      {"owner", kAlice, 1, {}, "rwx", "rwx", "rwx"},
      {"named user", kBob.uid, 1, {}, "rw-", "r--", "r--"},
      {"named user who is in the group", kBob.uid, kTeam, {}, "rw-", "r--", "---"},
      {"user named with nothing", kCarol, 1, {}, "---", "---", "r--"},
      {"user named with nothing who is in the group", kCarol, kTeam, {kFriends}, "---", "---",
       "---"},
      {"owning group", kDave, kTeam, {}, "r-x", "r--", "---"},
      {"owning group, supplementary", kDave, 1, {kTeam}, "r-x", "r--", "---"},
      {"named group", kDave, kFriends, {}, "r--", "r--", "r--"},
      {"two named groups", kDave, 1, {kFriends, 60201}, "rw-", "r--", "r--"},
      {"owning and named group", kDave, 1, {kTeam, 60201}, "rwx", "r--", "---"},
      {"others", kDave, 1, {}, "r--", "r--", "r--"},
  };
  for (const auto& row : table) {
    CAPTURE(row.who);
    for (const unsigned mask : {7U, 4U, 0U}) {
      CAPTURE(mask);
      REQUIRE(set_acl(file, kAccess, list(mask)) == "ok");
      const auto wanted = mask == 7 ? row.mask7 : mask == 4 ? row.mask4 : row.mask0;
      CHECK(granted(file, row.uid, row.gid, row.groups) == wanted);
      // chmod of the group's bits is the mask.
      REQUIRE(set_acl(file, kAccess, list(7)) == "ok");
      REQUIRE(did(::chmod(file.c_str(), 0704 | mask << 3)) == "ok");
      CHECK(granted(file, row.uid, row.gid, row.groups) == wanted);
    }
  }
}

TEST_CASE("acl: a change counts from the next open on; descriptors keep what they have") {
  const Scratch dir("acl");
  make_file(dir / "file", "abc", 0600);
  const auto file = dir / "file";
  const auto open_to_bob = acl({{kUserObj, 6}, {kUser, 6, kBob.uid}, {kGroupObj, 0}, {kMask, 6},
                                {kOther, 0}});
  CHECK(granted(file, kBob.uid, kBob.gid) == "---");
  REQUIRE(set_acl(file, kAccess, open_to_bob) == "ok");
  CHECK(granted(file, kBob.uid, kBob.gid) == "rw-");
  Helper bob([&](Channel& channel) {
    if (::setresgid(kBob.gid, kBob.gid, kBob.gid) != 0) ::_exit(1);
    if (::setresuid(kBob.uid, kBob.uid, kBob.uid) != 0) ::_exit(1);
    const Fd fd(::open(file.c_str(), O_RDWR));
    channel.say(did(fd));
    channel.hear();
    channel.say(said({try_read(fd), try_write(fd), try_open(file, O_RDONLY)}));
  });
  REQUIRE(bob.hear() == "ok");
  REQUIRE(remove_acl(file, kAccess) == "ok");
  REQUIRE(did(::chmod(file.c_str(), 0600)) == "ok");
  CHECK(bob.ask("go") == "ok ok EACCES");
  CHECK(granted(file, kBob.uid, kBob.gid) == "---");
}

TEST_CASE("acl: of directories: listing, passing through, changing") {
  const Scratch dir("acl");
  make_dir(dir / "d", 0700);
  make_file(dir / "d/file", "abc", 0644);
  const auto list_of = [](unsigned permissions) {
    return acl({{kUserObj, 7}, {kUser, permissions, kBob.uid}, {kGroupObj, 0}, {kMask, 7},
                {kOther, 0}});
  };
  struct Row {
    unsigned permissions;
    const char* wanted;
  };
  // Listing, opening what is in it, making a file, removing it.
  const Row table[] = {{0, "EACCES EACCES EACCES EACCES"}, {1, "EACCES ok EACCES EACCES"},
                       {4, "ok EACCES EACCES EACCES"},     {5, "ok ok EACCES EACCES"},
                       {2, "EACCES EACCES EACCES EACCES"}, {3, "EACCES ok ok ok"},
                       {7, "ok ok ok ok"}};
  for (const auto& row : table) {
    CAPTURE(row.permissions);
    REQUIRE(set_acl(dir / "d", kAccess, list_of(row.permissions)) == "ok");
    make_file(dir / "d/gone");
    const auto outcome = as_user(kBob, [&] {
      return said({try_open(dir / "d", O_RDONLY | O_DIRECTORY), try_open(dir / "d/file", O_RDONLY),
                   try_open(dir / "d/new", O_WRONLY | O_CREAT),
                   did(::unlink((dir / "d/gone").c_str()))});
    });
    CHECK(outcome == row.wanted);
    ::unlink((dir / "d/new").c_str());
  }
}

TEST_CASE("acl: a file made under a default ACL lets in whom it names") {
  const Scratch dir("acl");
  make_dir(dir / "d", 0755);
  REQUIRE(set_acl(dir / "d", kDefault, acl({{kUserObj, 7}, {kUser, 6, kBob.uid}, {kGroupObj, 0},
                                            {kMask, 6}, {kOther, 0}})) == "ok");
  const Umask scope(077);
  make_dir(dir / "d/x", 0755);
  REQUIRE(try_open(dir / "d/open", O_WRONLY | O_CREAT, 0666) == "ok");
  REQUIRE(try_open(dir / "d/private", O_WRONLY | O_CREAT, 0600) == "ok");
  CHECK(granted(dir / "d/open", kBob.uid, kBob.gid) == "rw-");
  CHECK(granted(dir / "d/private", kBob.uid, kBob.gid) == "---");
  CHECK(granted(dir / "d/open", kDave, 1) == "---");
}

}  // namespace
}  // namespace magma::posix
