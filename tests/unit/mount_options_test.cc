#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "mount.magma/options.h"

namespace {

using magma::mount::Options;
using magma::mount::parse_options;

Options parsed(const std::vector<std::string>& arguments) {
  auto options = parse_options(arguments);
  CAPTURE((options ? std::string() : options.error().detail));
  REQUIRE(options.has_value());
  return *options;
}

std::string refusal(const std::vector<std::string>& arguments) {
  auto options = parse_options(arguments);
  REQUIRE_FALSE(options.has_value());
  CHECK(options.error().code == magma::Code::invalid);
  return options.error().detail;
}

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("mount options: the original's style") {
  Options o = parsed({"--host=a,b:12100", "--ip=127.0.0.2", "-p", "12345", "--key=secret words",
                      "-s", "-f", "--debug=Fr", "/mnt"});
  CHECK(o.hosts == std::vector<std::string>{"a", "b:12100"});
  CHECK(o.bind_ip == "127.0.0.2");
  CHECK(o.port == 12345);
  CHECK(o.passphrase == "secret words");
  CHECK(o.mountpoint == "/mnt");
  CHECK(o.foreground);
  CHECK_FALSE(o.fake);
  CHECK_FALSE(o.sloppy);
  CHECK(o.debug_channels == "Fr");
  CHECK(magma::mount::source_name(o) == "a:12345,b:12100:/");
}

TEST_CASE("mount options: values after a blank and glued to the letter") {
  Options o = parsed({"--host", "h", "-p12001", "--keyphrase", "x y", "/m"});
  CHECK(o.hosts == std::vector<std::string>{"h"});
  CHECK(o.port == 12001);
  CHECK(o.passphrase == "x y");
}

TEST_CASE("mount options: defaults") {
  Options o = parsed({"/m"});
  CHECK(o.hosts == std::vector<std::string>{"localhost"});
  CHECK(o.port == 12000);
  CHECK_FALSE(o.foreground);
  CHECK_FALSE(o.read_only);
  CHECK_FALSE(o.fail_when_away);
  CHECK(o.stall == magma::seconds(5));
  CHECK(o.key_file.empty());
}

TEST_CASE("mount options: mount(8)'s style") {
  Options o = parsed({"one,[::1]:12100,two:/", "/mnt/x", "-sfnv", "-o",
                      "rw,_netdev,noauto,user,x-systemd.automount,key-file=/k,port=1,noexec",
                      "-o", "nosuid,onfail=eio,stall=30,weird=1,allow_other,ro"});
  CHECK(o.hosts == std::vector<std::string>{"one", "[::1]:12100", "two"});
  CHECK(o.mountpoint == "/mnt/x");
  CHECK(o.fake);
  CHECK_FALSE(o.foreground);
  CHECK(o.sloppy);
  CHECK(o.verbose);
  CHECK(o.key_file == "/k");
  CHECK(o.port == 1);
  CHECK(o.fail_when_away);
  CHECK(o.stall == magma::seconds(30));
  CHECK_FALSE(o.through_hosts);
  CHECK(parsed({"h:/", "/m", "-o", "noproxy,proxy"}).through_hosts);
  CHECK_FALSE(parsed({"h:/", "/m", "-o", "proxy,noproxy"}).through_hosts);
  CHECK(o.allow_other);
  CHECK(o.read_only);  // the last of ro and rw
  CHECK(o.kernel_options == std::vector<std::string>{"noexec", "nosuid"});
}

TEST_CASE("mount options: the style decides what -f and -s mean; long options do not change") {
  CHECK(parsed({"-f", "/m"}).foreground);
  CHECK(parsed({"h:/", "/m", "-f"}).fake);
  CHECK_FALSE(parsed({"h:/", "/m", "-f"}).foreground);
  CHECK(parsed({"--foreground", "h:/", "/m"}).foreground);
  CHECK(parsed({"--fake", "/m"}).fake);
  CHECK(parsed({"h:/", "/m", "-t", "fuse.magma"}).hosts[0] == "h");
  CHECK(parsed({"--", "h:/", "-odd"}).mountpoint == "-odd");
}

TEST_CASE("mount options: the source shown never has the key, and brackets IPv6") {
  Options o = parsed({"--host=::1", "--key=hunter2hunter2", "/m"});
  CHECK(magma::mount::source_name(o) == "[::1]:/");
}

TEST_CASE("mount options: what is wrong is said") {
  CHECK(says(refusal({}), "no mount point"));
  CHECK(says(refusal({"a:/", "/m", "extra"}), "extra"));
  CHECK(says(refusal({"nohost", "/m"}), "HOST[,HOST...]:/"));
  CHECK(says(refusal({":/", "/m"}), "HOST"));
  CHECK(says(refusal({"h:/sub", "/m"}), "h:/"));
  CHECK(says(refusal({"::1:/", "/m"}), "brackets"));
  CHECK(says(refusal({"a,,b:/", "/m"}), "empty host"));
  CHECK(says(refusal({"--host=h", "h:/", "/m"}), "use one"));
  CHECK(says(refusal({"-p", "70000", "/m"}), "65535"));
  CHECK(says(refusal({"-p", "12x", "/m"}), "12x"));
  CHECK(says(refusal({"/m", "-o"}), "lacks"));
  CHECK(says(refusal({"/m", "-x"}), "-x"));
  CHECK(says(refusal({"/m", "--nonsense=1"}), "--nonsense"));
  CHECK(says(refusal({"h:/", "/m", "-o", "weird=1"}), "'weird'"));
  CHECK(says(refusal({"h:/", "/m", "-o", "onfail=maybe"}), "maybe"));
  CHECK(says(refusal({"h:/", "/m", "-o", "stall=0"}), "stall"));
  CHECK(says(refusal({"h:/", "/m", "-o", "remount"}), "remount"));
  CHECK(says(refusal({"--key=a", "--key-file=b", "/m"}), "use one"));
  CHECK(says(refusal({"--key=", "/m"}), "empty"));
  // -s of the original's style is no sloppiness.
  CHECK(says(refusal({"-s", "/m", "-o", "weird"}), "weird"));
}

TEST_CASE("mount options: a key among -o options is refused and not repeated") {
  std::string text = refusal({"h:/", "/m", "-o", "key=topsecret"});
  CHECK(says(text, "key-file"));
  CHECK_FALSE(says(text, "topsecret"));
  CHECK_FALSE(says(refusal({"/m", "--keys=topsecret"}), "topsecret"));
}

TEST_CASE("mount options: the key leaves the arguments") {
  std::string program = "mount.magma", glued = "--key=secret", name = "--keyphrase",
              value = "hidden", other = "--key-file=/k";
  char* argv[] = {program.data(), glued.data(), name.data(), value.data(), other.data(), nullptr};
  CHECK(magma::mount::hide_key_arguments(5, argv));
  CHECK_FALSE(says(glued, "secret"));
  CHECK_FALSE(says(value, "hidden"));
  CHECK(glued.starts_with("--key=*"));
  CHECK(other == "--key-file=/k");
  char* harmless[] = {program.data(), other.data(), nullptr};
  CHECK_FALSE(magma::mount::hide_key_arguments(2, harmless));
}

TEST_CASE("mount options: help and version need nothing else") {
  CHECK(parsed({"-h"}).show_help);
  CHECK(parsed({"--version"}).show_version);
  CHECK(says(magma::mount::help_text(), "onfail=eio"));
}

}  // namespace
