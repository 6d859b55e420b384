// Which network a path or an option means.
#include <doctest/doctest.h>

#include "magma_tools/target.h"

using namespace magma;
using namespace magma::tools;

namespace {

Surroundings on_mounts() {
  Surroundings around;
  around.directory = "/home/tom";
  around.mounts = sys_real::parse_mountinfo(
      "22 1 254:0 / / rw - ext4 /dev/vda1 rw\n"
      "30 22 0:41 / /mnt/magma rw - fuse.magma a,b:12100:/ rw\n"
      "31 30 0:42 / /mnt/magma/tmp rw - tmpfs tmpfs rw\n"
      "32 22 0:41 /projects/x /home/tom/x rw - fuse.magma a:/ rw\n"
      "33 22 0:43 / /mnt/six rw - fuse.magma [::1]:/ rw\n"
      "34 22 0:44 / /mnt/odd rw - fuse.magma nonsense rw\n");
  return around;
}

using Hosts = std::vector<std::string>;

}  // namespace

TEST_CASE("tools: hosts") {
  CHECK(parse_hosts("a").value() == Hosts{"a"});
  CHECK(parse_hosts("a,b:1,[::1]:2").value() == Hosts{"a", "b:1", "[::1]:2"});
  CHECK(parse_hosts("").error().code == Code::invalid);
  CHECK(parse_hosts("a,,b").error().code == Code::invalid);
  std::string many = "h";
  for (std::size_t i = 0; i < kHostsMax; ++i) many += ",h";
  CHECK(parse_hosts(many).error().code == Code::invalid);
}

TEST_CASE("tools: plain paths") {
  CHECK(plain_path("/a", "b") == "/a/b");
  CHECK(plain_path("/a", "/b//c/./d/") == "/b/c/d");
  CHECK(plain_path("/a/b", "../../../c") == "/c");
  CHECK(plain_path("/", ".") == "/");
  CHECK(plain_path("/a", "..") == "/");
}

TEST_CASE("tools: a named host makes paths those of the network") {
  Surroundings around = on_mounts();
  TargetOptions options{.hosts = "x,y", .port = 12345, .key_file = "/k"};
  auto target = choose_target(options, around, "/mnt/magma/a/../b");
  REQUIRE(target);
  CHECK(target->hosts == Hosts{"x", "y"});
  CHECK(target->port == 12345);
  CHECK(target->key_file == "/k");
  CHECK(target->path == "/mnt/magma/a/../b");  // symlinks decide what ".." is
  CHECK(choose_target(options, around, std::nullopt)->path.empty());
  auto relative = choose_target(options, around, "a");
  CHECK(relative.error().code == Code::invalid);
  CHECK(relative.error().detail.find("--host") != std::string::npos);

  around.host = "z";
  around.key_file = "/e";
  auto by_variable = choose_target({}, around, "/a");
  REQUIRE(by_variable);
  CHECK(by_variable->hosts == Hosts{"z"});
  CHECK(by_variable->key_file == "/e");
  CHECK(choose_target({}, around, "a").error().detail.find("MAGMA_HOST") != std::string::npos);
  CHECK(choose_target(options, around, "/a")->hosts == Hosts{"x", "y"});
  CHECK(choose_target(options, around, "/a")->key_file == "/k");
}

TEST_CASE("tools: a path below a mount names hosts and path") {
  const Surroundings around = on_mounts();
  const auto path_of = [&](std::string_view path) -> std::string {
    auto target = choose_target({}, around, path);
    return target ? target->path : "! " + std::string(name_of(target.error().code));
  };
  auto target = choose_target({}, around, "/mnt/magma/a/b");
  REQUIRE(target);
  CHECK(target->hosts == Hosts{"a", "b:12100"});
  CHECK(target->path == "/a/b");
  CHECK(target->mountpoint == "/mnt/magma");
  CHECK(target->key_file == kDefaultKeyFile);
  CHECK(path_of("/mnt/magma") == "/");
  CHECK(path_of("/mnt/magma/") == "/");
  CHECK(path_of("/mnt/magma/a/") == "/a/");
  CHECK(path_of("/mnt/magma/a/../..") == "! invalid");
  CHECK(path_of("../../mnt/magma/c") == "/c");
  CHECK(path_of("x/y") == "/projects/x/y");  // a bind mount
  CHECK(path_of("x") == "/projects/x");
  CHECK(path_of("/mnt/magma2") == "! invalid");
  CHECK(path_of("/mnt/magma/tmp/f") == "! invalid");  // another filesystem is mounted there
  CHECK(choose_target({}, around, "/mnt/six/a")->hosts == Hosts{"[::1]"});
  CHECK(choose_target({}, around, "/mnt/odd/a").error().detail.find("nonsense") !=
        std::string::npos);
  // A symlink outside that leads to the mount.
  CHECK(choose_target({}, around, "/home/tom/link", "/mnt/magma/deep")->path == "/deep");
  CHECK(choose_target({}, around, std::nullopt).error().code == Code::invalid);
}

TEST_CASE("tools: why nobody can be reached names host and next step") {
  Target target;
  target.hosts = {"a", "b"};
  target.key_file = "/etc/magma/key";
  CHECK(connect_error(target, {Code::unreachable, "10.0.0.1:12000 (no answer)"}).detail ==
        "no volcano answers at 10.0.0.1:12000 (no answer) (is magmad running there?)");
  const std::string wrong = connect_error(target, {Code::wrong_key, {}}).detail;
  CHECK(wrong.find("/etc/magma/key") != std::string::npos);
  CHECK(wrong.find("a, b") != std::string::npos);
}
