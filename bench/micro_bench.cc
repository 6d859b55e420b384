// What the parts of a request cost, each alone and in one thread: seal and open a packet, checksum,
// hash a path, encode and decode a message, one metadata transaction on a real disk.
//   micro_bench [DIRECTORY for the databases, made and removed; default: below TMPDIR or /tmp]
// Figures are the fastest of five runs of about 0.2 s: what it takes when nobody disturbs.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "libmagma/base/check.h"
#include "libmagma/crypto/checksum.h"
#include "libmagma/crypto/path_hash.h"
#include "libmagma/crypto/seal.h"
#include "libmagma/sys_real/clock.h"
#include "libmagma/sys_real/disk_posix.h"
#include "libmagma/wire/codec.h"
#include "libmagma/wire/flare_messages.h"
#include "magmad/store/metadata_store.h"

namespace {

using namespace magma;

constexpr int kRuns = 5;
constexpr Duration kRunTime = milliseconds(200);

template <class Result>
auto must(Result result) {
  if (result) return std::move(*result);
  std::fprintf(stderr, "micro_bench: %s\n", describe(result.error()).c_str());
  std::exit(1);
}
void must(Result<void> result) {
  if (result) return;
  std::fprintf(stderr, "micro_bench: %s\n", describe(result.error()).c_str());
  std::exit(1);
}

// Keeps the compiler from throwing away what is measured.
template <class T>
void use(const T& value) {
  asm volatile("" : : "g"(&value) : "memory");
}

template <class Work>
void measure(const char* name, std::size_t bytes, Work work) {
  sys_real::Clock clock;
  double best_us = 1e12;
  for (int run = 0; run < kRuns; ++run) {
    const Instant begun = clock.now();
    std::uint64_t times = 0;
    Duration spent{};
    while ((spent = clock.now() - begun) < kRunTime) {
      for (int i = 0; i < 16; ++i) work();
      times += 16;
    }
    best_us = std::min(best_us, static_cast<double>(spent.ns) / 1e3 / static_cast<double>(times));
  }
  if (bytes == 0)
    std::printf("%-44s %9.2f us\n", name, best_us);
  else
    std::printf("%-44s %9.2f us %9.0f MB/s\n", name, best_us,
                static_cast<double>(bytes) / best_us);
}

void measure_crypto() {
  for (crypto::Suite suite : {crypto::Suite::aes128_gcm, crypto::Suite::chacha20_poly1305}) {
    crypto::DirectionKey key;
    key.suite = suite;
    crypto::Sealer sealer(key);
    crypto::Opener opener(key);
    const std::string suite_name = suite == crypto::Suite::aes128_gcm ? "AES-128-GCM" : "ChaCha20";
    for (std::size_t size : {std::size_t{128}, std::size_t{1400}, std::size_t{65000}}) {
      const Bytes header(16), plain(size, 7);
      Bytes sealed(size + crypto::kTagBytes), copy;
      std::uint64_t number = 0;
      const std::string what = suite_name + ", " + std::to_string(size) + " bytes";
      measure(("seal " + what).c_str(), size,
              [&] { sealer.seal(++number, header, plain, sealed); });
      measure(("open " + what).c_str(), size, [&] {
        copy = sealed;
        auto opened = opener.open(number, header, copy);
        MAGMA_CHECK(opened.has_value());
      });
    }
  }
  const Bytes page(4096, 7);
  measure("CRC32C of a page", page.size(), [&] { use(crypto::crc32c(page)); });
  measure("SHA-1 of a path of 40 bytes", 0,
          [&] { use(crypto::key_of_path("/home/somebody/a-directory/a-file-name.txt")); });
}

void measure_messages() {
  wire::RequestHead head;
  head.op = static_cast<std::uint16_t>(wire::FlareOp::create);
  const wire::CreateRequest create{Ino(42), "a-file-name.txt", 0644, 022, true, true};
  Bytes out;
  measure("encode a create request with its head", 0, [&] {
    out.clear();
    wire::encode_to(out, head);
    wire::encode_to(out, create);
    use(out);
  });
  measure("decode a create request with its head", 0, [&] {
    auto front = wire::decode_front<wire::RequestHead>(out);
    MAGMA_CHECK(front.has_value());
    auto message = wire::decode<wire::CreateRequest>(front->second);
    MAGMA_CHECK(message.has_value());
  });
}

class InlineExecutor final : public sys::Executor {
 public:
  void run(UniqueFunction<void()> work, UniqueFunction<void()> done) override {
    work();
    done();
  }
};

// The rows of one create in one slot, as ops::create writes them, and the commit.
void measure_transactions(const std::string& directory) {
  auto disk = must(sys_real::PosixDisk::open_directory(directory, true));
  InlineExecutor executor;
  auto store = must(store::MetadataStore::open(*disk, executor, true));
  const ring::Slot slot(5);
  store::InodeRow inode;
  inode.mode = 0100644;
  std::uint64_t counter = 100;
  const std::uint64_t dir = ring::with_counter(slot, 16);
  Bytes touched(60, 1);
  auto create = [&](int in_one_commit) {
    for (int i = 0; i < in_one_commit; ++i) {
      const std::uint64_t ino = ring::with_counter(slot, ++counter);
      const store::Version version{Epoch(1), Seq(counter)};
      must(store->put({store::Table::inode, ino, 0, {}}, version, wire::encode(inode)));
      must(store->put({store::Table::entry, dir, counter * 0x9e3779b97f4a7c15ULL,
                       "file" + std::to_string(counter)},
                      version, wire::encode(store::EntryRow{Ino(ino), 8, {}, 0})));
      must(store->put({store::Table::inode, dir, 0, {}}, version, wire::encode(inode)));
      must(store->put({store::Table::open, ino, 77, {}}, version,
                      wire::encode(store::OpenRow{0, 1})));
      must(store->put({store::Table::reply, ring::with_counter(slot, 3), 77, {}}, version,
                      Bytes(180, 1)));
    }
    must(store->append_oplog(slot, {Epoch(1), Seq(counter)}, touched));
    must(store->commit());
    store->checkpoint_if_due();
  };
  measure("transaction of one create", 0, [&] { create(1); });
  measure("transaction of sixteen creates", 0, [&] { create(16); });
  measure("get an inode row", 0, [&] {
    auto row = store->get({store::Table::inode, dir, 0, {}});
    MAGMA_CHECK(row.has_value());
  });
}

}  // namespace

int main(int argc, char** argv) {
  namespace fs = std::filesystem;
  measure_crypto();
  measure_messages();
  const fs::path base = argc > 1 ? fs::path(argv[1]) : fs::temp_directory_path();
  const fs::path directory = base / ("magma-micro-bench." + std::to_string(::getpid()));
  fs::create_directories(directory);
  measure_transactions(directory.string());
  fs::remove_all(directory);
  return 0;
}
