// POSIX access control lists as the raw attributes system.posix_acl_access and _default: what is
// accepted, what it does to the mode and what chmod does to it, inheritance, times. Who is let in
// by one is in acl_access_test.cc.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include <string>

#include "tests/posix/acl.h"

namespace magma::posix {
namespace {

const std::string kTyped = acl({{kUserObj, 6}, {kUser, 4, 1000}, {kGroupObj, 4}, {kMask, 4},
                                {kOther, 0}});

TEST_CASE("acl: set, get, list, remove") {
  const Scratch dir("acl");
  make_file(dir / "file", "", 0640);
  const auto file = dir / "file";
  CHECK(get_acl(file, kAccess) == "ENODATA");
  CHECK(get_acl(file, kDefault) == "ENODATA");
  CHECK(set_acl(file, kAccess, kTyped) == "ok");
  CHECK(get_acl(file, kAccess) == kTyped);
  CHECK(::listxattr(file.c_str(), nullptr, 0) == ssize_t(sizeof "system.posix_acl_access"));
  CHECK(did(::getxattr(file.c_str(), kAccess, nullptr, 0)) == "ok");
  CHECK(::getxattr(file.c_str(), kAccess, nullptr, 0) == ssize_t(kTyped.size()));
  char small[8];
  CHECK(did(::getxattr(file.c_str(), kAccess, small, 8)) == "ERANGE");
  CHECK(mode_of(file) == 0640);
  CHECK(remove_acl(file, kAccess) == "ok");
  CHECK(get_acl(file, kAccess) == "ENODATA");
  CHECK(mode_of(file) == 0640);
  // A default one, on a directory only.
  make_dir(dir / "dir");
  CHECK(set_acl(dir / "dir", kDefault, kTyped) == "ok");
  CHECK(get_acl(dir / "dir", kDefault) == kTyped);
  CHECK(get_acl(dir / "dir", kAccess) == "ENODATA");
  CHECK(mode_of(dir / "dir") == 0755);
  CHECK(remove_acl(dir / "dir", kDefault) == "ok");
  CHECK(get_acl(dir / "dir", kDefault) == "ENODATA");
  CHECK(set_acl(file, kDefault, kTyped) == "EACCES");
  // Removing what is not there is no error, unlike with other attributes.
  CHECK(remove_acl(file, kAccess) == "ok");
  CHECK(remove_acl(file, kDefault) == "ok");
  CHECK(remove_acl(dir / "dir", kDefault) == "ok");
  // Empty ones take it away as well.
  for (const auto& empty : {acl({}), std::string()}) {
    REQUIRE(set_acl(file, kAccess, kTyped) == "ok");
    CHECK(set_acl(file, kAccess, empty) == "ok");
    CHECK(get_acl(file, kAccess) == "ENODATA");
  }
}

TEST_CASE("acl: one that says no more than a mode becomes the mode") {
  const Scratch dir("acl");
  make_file(dir / "file", "", 0600);
  const auto file = dir / "file";
  for (const unsigned mode : {0640U, 0777U, 0U, 0751U}) {
    CAPTURE(mode);
    const auto plain = acl({{kUserObj, mode >> 6}, {kGroupObj, mode >> 3 & 7}, {kOther, mode & 7}});
    CHECK(set_acl(file, kAccess, plain) == "ok");
    CHECK(mode_of(file) == mode);
    CHECK(get_acl(file, kAccess) == "ENODATA");
    // With a mask but nobody named it is kept, and the mask is the group's part of the mode.
    const auto masked =
        acl({{kUserObj, mode >> 6}, {kGroupObj, 7}, {kMask, 5}, {kOther, mode & 7}});
    CHECK(set_acl(file, kAccess, masked) == "ok");
    CHECK(mode_of(file) == ((mode & 0707) | 0050));
    CHECK(get_acl(file, kAccess) == masked);
  }
}

TEST_CASE("acl: chmod changes owner, mask and others; the ACL changes the mode") {
  const Scratch dir("acl");
  make_file(dir / "file");
  const auto file = dir / "file";
  REQUIRE(set_acl(file, kAccess, kTyped) == "ok");
  for (const mode_t mode : {0777U, 0700U, 0071U, 0604U, 04750U}) {
    CAPTURE(mode);
    CHECK(did(::chmod(file.c_str(), mode)) == "ok");
    CHECK(mode_of(file) == mode);
    CHECK(get_acl(file, kAccess) == acl({{kUserObj, mode >> 6 & 7},
                                         {kUser, 4, 1000},
                                         {kGroupObj, 4},
                                         {kMask, mode >> 3 & 7},
                                         {kOther, mode & 7}}));
  }
  const auto more = acl({{kUserObj, 5}, {kUser, 7, 1000}, {kUser, 0, 2000}, {kGroupObj, 7},
                         {kGroup, 1, 3000}, {kMask, 3}, {kOther, 4}});
  CHECK(set_acl(file, kAccess, more) == "ok");
  CHECK(mode_of(file) == 04534);
  CHECK(get_acl(file, kAccess) == more);
  // Suid, sgid and sticky stay as they are when root sets it.
  REQUIRE(did(::chmod(file.c_str(), 07777)) == "ok");
  CHECK(set_acl(file, kAccess, kTyped) == "ok");
  CHECK(mode_of(file) == 07640);
}

TEST_CASE("acl: blobs that make no sense") {
  const Scratch dir("acl");
  make_file(dir / "file", "", 0640);
  make_dir(dir / "dir");
  const Entry user{kUserObj, 6}, group{kGroupObj, 4}, mask{kMask, 7}, other{kOther, 0};
  const Entry named{kUser, 7, 1000}, team{kGroup, 7, 1000};
  struct Row {
    const char* what;
    std::string blob;
    const char* wanted;
  };
  auto wrong_version = kTyped;
  wrong_version[0] = 1;
  const Row table[] = {
      {"no mask for a named user", acl({user, named, group, other}), "EINVAL"},
      {"no mask for a named group", acl({user, group, team, other}), "EINVAL"},
      {"no owner", acl({group, other}), "EINVAL"},
      {"no group", acl({user, other}), "EINVAL"},
      {"no others", acl({user, group}), "EINVAL"},
      {"owner twice", acl({user, user, group, other}), "EINVAL"},
      {"group twice", acl({user, group, group, other}), "EINVAL"},
      {"mask twice", acl({user, group, mask, mask, other}), "EINVAL"},
      {"others twice", acl({user, group, other, other}), "EINVAL"},
      {"wrong order", acl({group, user, other}), "EINVAL"},
      {"user behind group", acl({user, group, named, mask, other}), "EINVAL"},
      {"unknown tag", acl({user, group, {0x40, 7}, other}), "EINVAL"},
      {"permission 8", acl({{kUserObj, 8}, group, other}), "EINVAL"},
      {"nobody named", acl({user, {kUser, 7, 0xffffffff}, group, mask, other}), "EINVAL"},
      {"version 1", wrong_version, "EOPNOTSUPP"},
      {"half an entry", kTyped.substr(0, kTyped.size() - 4), "EINVAL"},
      {"half a header", kTyped.substr(0, 2), "EINVAL"},
      {"right", acl({user, named, group, team, mask, other}), "ok"},
  };
  for (const auto& row : table) {
    CAPTURE(row.what);
    CHECK(set_acl(dir / "file", kAccess, row.blob) == row.wanted);
    CHECK(set_acl(dir / "dir", kDefault, row.blob) == row.wanted);
    if (std::string(row.wanted) != "ok") {
      CHECK(mode_of(dir / "file") == 0640);
      CHECK(get_acl(dir / "file", kAccess) == "ENODATA");
      CHECK(get_acl(dir / "dir", kDefault) == "ENODATA");
    }
  }
}

TEST_CASE("acl: kinds of files, flags, who may") {
  const Scratch dir("acl");
  make_file(dir / "mine");
  own(dir / "mine", kNobody.uid, kNobody.gid);
  make_file(dir / "roots", "", 0666);
  REQUIRE(::symlink("mine", (dir / "link").c_str()) == 0);
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0600) == 0);
  const auto set = [&](const char* name) { return set_acl(dir / name, kAccess, kTyped); };
  CHECK(as_user(kNobody, [&] { return set("mine"); }) == "ok");
  CHECK(as_user(kNobody, [&] { return set("roots"); }) == "EPERM");
  CHECK(as_user(kNobody, [&] { return remove_acl(dir / "roots", kAccess); }) == "EPERM");
  CHECK(as_user(kBob, [&] { return get_acl(dir / "mine", kAccess); }) == kTyped);
  CHECK(as_user(kBob, [&] { return remove_acl(dir / "mine", kAccess); }) == "EPERM");
  CHECK(as_user(kNobody, [&] { return remove_acl(dir / "mine", kAccess); }) == "ok");
  CHECK(set("fifo") == "ok");
  CHECK(get_acl(dir / "fifo", kAccess) == kTyped);
  CHECK(did(::lsetxattr((dir / "link").c_str(), kAccess, kTyped.data(), kTyped.size(), 0)) ==
        "EOPNOTSUPP");
  CHECK(did(::lgetxattr((dir / "link").c_str(), kAccess, nullptr, 0)) == "EOPNOTSUPP");
  // Who sets one and is not in the group loses the setgid bit.
  make_file(dir / "sgid");
  own(dir / "sgid", kNobody.uid, kTeam);
  REQUIRE(did(::chmod((dir / "sgid").c_str(), 02770)) == "ok");
  CHECK(as_user(kNobody.uid, kNobody.gid, {kTeam}, [&] { return set("sgid"); }) == "ok");
  CHECK(mode_of(dir / "sgid") == 02640);
  CHECK(as_user(kNobody, [&] { return set("sgid"); }) == "ok");
  CHECK(mode_of(dir / "sgid") == 0640);
}

TEST_CASE("acl: ctime moves with every change") {
  const Scratch dir("acl");
  make_file(dir / "file");
  make_dir(dir / "dir");
  const auto moved = [&](const std::string& path, const std::function<std::string()>& call) {
    Watch watch({path, dir.path()});
    CHECK(call() == "ok");
    return watch.moved();
  };
  const auto file = dir / "file", folder = dir / "dir";
  CHECK(moved(file, [&] { return set_acl(file, kAccess, kTyped); }) == "c =");
  CHECK(moved(file, [&] { return did(::chmod(file.c_str(), 0666)); }) == "c =");
  CHECK(moved(file, [&] { return remove_acl(file, kAccess); }) == "c =");
  CHECK(moved(folder, [&] { return set_acl(folder, kDefault, kTyped); }) == "c =");
  CHECK(moved(folder, [&] { return remove_acl(folder, kDefault); }) == "c =");
}

TEST_CASE("acl: a default ACL is handed down, masked by the mode and not by the umask") {
  const Scratch dir("acl");
  const Umask scope(077);
  make_dir(dir / "dir", 0777);
  const auto given = acl({{kUserObj, 7}, {kUser, 6, 1000}, {kGroupObj, 5}, {kGroup, 7, 2000},
                          {kMask, 7}, {kOther, 5}});
  REQUIRE(set_acl(dir / "dir", kDefault, given) == "ok");
  const auto with = [](unsigned user, unsigned mask, unsigned other) {
    return acl({{kUserObj, user}, {kUser, 6, 1000}, {kGroupObj, 5}, {kGroup, 7, 2000},
                {kMask, mask}, {kOther, other}});
  };
  const auto in = [&](const char* name) { return dir / "dir/" + name; };
  REQUIRE(try_open(in("file"), O_WRONLY | O_CREAT, 0664) == "ok");
  CHECK(mode_of(in("file")) == 0664);
  CHECK(get_acl(in("file"), kAccess) == with(6, 6, 4));
  CHECK(get_acl(in("file"), kDefault) == "ENODATA");
  REQUIRE(try_open(in("private"), O_WRONLY | O_CREAT, 0600) == "ok");
  CHECK(mode_of(in("private")) == 0600);
  CHECK(get_acl(in("private"), kAccess) == with(6, 0, 0));
  REQUIRE(did(::mkdir(in("sub").c_str(), 0751)) == "ok");
  CHECK(mode_of(in("sub")) == 0751);
  CHECK(get_acl(in("sub"), kAccess) == with(7, 5, 1));
  CHECK(get_acl(in("sub"), kDefault) == given);
  REQUIRE(did(::mkfifo(in("fifo").c_str(), 0666)) == "ok");
  CHECK(mode_of(in("fifo")) == 0664);
  CHECK(get_acl(in("fifo"), kAccess) == with(6, 6, 4));
  REQUIRE(did(::mknod(in("node").c_str(), S_IFREG | 0640, 0)) == "ok");
  CHECK(get_acl(in("node"), kAccess) == with(6, 4, 0));
  REQUIRE(did(::symlink("x", in("link").c_str())) == "ok");
  CHECK(mode_of(in("link")) == 0777);
  const Fd temporary = must_open(dir / "dir", O_TMPFILE | O_RDWR, 0660);
  CHECK((info(temporary).st_mode & 0777) == 0660);
  CHECK(did(::fgetxattr(temporary, kAccess, nullptr, 0)) == "ok");
  // Moving a file in or linking it changes nothing.
  make_file(dir / "outside", "", 0604);
  REQUIRE(::rename((dir / "outside").c_str(), in("moved").c_str()) == 0);
  CHECK(mode_of(in("moved")) == 0604);
  CHECK(get_acl(in("moved"), kAccess) == "ENODATA");
}

TEST_CASE("acl: a default ACL without names gives modes only") {
  const Scratch dir("acl");
  const Umask scope(077);
  make_dir(dir / "dir", 0777);
  const auto given = acl({{kUserObj, 6}, {kGroupObj, 6}, {kOther, 4}});
  REQUIRE(set_acl(dir / "dir", kDefault, given) == "ok");
  CHECK(get_acl(dir / "dir", kDefault) == given);
  REQUIRE(try_open(dir / "dir/file", O_WRONLY | O_CREAT, 0777) == "ok");
  CHECK(mode_of(dir / "dir/file") == 0664);
  CHECK(get_acl(dir / "dir/file", kAccess) == "ENODATA");
  REQUIRE(did(::mkdir((dir / "dir/sub").c_str(), 0771)) == "ok");
  CHECK(mode_of(dir / "dir/sub") == 0660);
  CHECK(get_acl(dir / "dir/sub", kDefault) == given);
  // Without it the umask counts again.
  REQUIRE(remove_acl(dir / "dir", kDefault) == "ok");
  REQUIRE(try_open(dir / "dir/later", O_WRONLY | O_CREAT, 0777) == "ok");
  CHECK(mode_of(dir / "dir/later") == 0700);
}

}  // namespace
}  // namespace magma::posix
