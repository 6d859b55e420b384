#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include "libmagma/crypto/path_hash.h"

using namespace magma::crypto;
using magma::ring::Key;

namespace {
// The name hash that belongs to a SHA-1 written in hex.
std::uint64_t top_63_bits(std::string_view sha1_hex) {
  return std::stoull(std::string(sha1_hex.substr(0, 16)), nullptr, 16) >> 1;
}
}  // namespace

TEST_CASE("path_hash: the keys of the original") {
  struct {
    const char* path;
    const char* key;
  } const vectors[] = {
      {"/", "42099b4af021e53fd8fd4e056c2568d7c2e3ffa8"},
      {"/example", "81f762fd59d88768b06b8e9de56aef8a95962045"},
      {"/.dht", "a1402b54c45a528a94d0ca3419b991030fbd130b"},
      {"/.dht/wallace", "fa907a688b2f49dcaeba275e49564e9cbb3d6040"},
      {"/.dht/gromit", "4cce50b6019a3ba0ed533030f34f6281757daa6a"},
      {"/etc", "c0bc6f00fb44f015c1ed113e5bb202fd0597bec2"},
      {"/etc/hostname", "d9c5f609a163521eb09b8bce743db9459da8aa83"},
      {"/home", "fb365c1216b59e1cfc86950425867007a60f4435"},
      {"/usr/bin/bash", "6a99c4da02ba99bb9ffa12225a071a8830dc44cf"},
      {"/example/file.txt", "4b91feca3427a55032b9a1264d1af284acfa589f"},
  };
  for (const auto& vector : vectors) {
    CAPTURE(vector.path);
    CHECK(key_of_path(vector.path).hex() == vector.key);
    CHECK(name_hash(vector.path) == top_63_bits(vector.key));
  }
}

TEST_CASE("path_hash: the empty string hashes, but is no path") {
  CHECK(name_hash("") == top_63_bits("da39a3ee5e6b4b0d3255bfef95601890afd80709"));
}

TEST_CASE("path_hash: a child by its parent's key") {
  const Key parent = key_of_path("/example");
  CHECK(key_of_child(parent, "file.txt").hex() == "6b326335ac947d4840b7b7912bd93eab96db92e9");
}

TEST_CASE("path_hash: chunk 0 stays with the file, the others spread") {
  const Key file = key_of_path("/example");
  CHECK(key_of_chunk(file, 0) == file);
  CHECK(key_of_chunk(file, 1).hex() == "05acf8ea3d1511a4354deec69b1b363b4aff48d5");
  CHECK(key_of_chunk(file, 0x01020304).hex() == "e542b67b77941e11a3e986f3def1da530dba3c24");
}

TEST_CASE("path_hash: name hashes leave room for . and .. and fit an off_t") {
  CHECK(name_hash("file.txt") == 0x2a1b21bfd00d3e9f);
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t hash = name_hash("name" + std::to_string(i));
    REQUIRE(hash >= 16);
    REQUIRE(hash <= std::uint64_t{INT64_MAX});
  }
}

TEST_CASE("path_hash: threads do not disturb each other") {
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (std::size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&wrong, t] {
      for (int i = 0; i < 2000; ++i)
        if (key_of_path("/etc").hex() != "c0bc6f00fb44f015c1ed113e5bb202fd0597bec2") ++wrong[t];
    });
  for (auto& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4, 0));
}
