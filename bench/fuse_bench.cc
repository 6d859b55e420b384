// What the kernel's FUSE costs alone: a filesystem in this process that answers everything at once
// and lets nothing be cached. One thread asks, one answers: two wake-ups a request, as between a
// program and mount.magma. Root (or fusermount3) and /dev/fuse.
//   fuse_bench [SECONDS for each figure]
#define FUSE_USE_VERSION 34
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr fuse_ino_t kFile = 2;
constexpr std::size_t kFileBytes = 1 << 30;

struct stat attributes(fuse_ino_t node) {
  struct stat s {};
  s.st_ino = node;
  s.st_nlink = 1;
  s.st_mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644;
  s.st_size = node == FUSE_ROOT_ID ? 0 : static_cast<off_t>(kFileBytes);
  return s;
}

void op_getattr(fuse_req_t request, fuse_ino_t node, fuse_file_info*) {
  const struct stat s = attributes(node);
  fuse_reply_attr(request, &s, 0);
}
void op_lookup(fuse_req_t request, fuse_ino_t, const char* name) {
  if (std::strcmp(name, "file") != 0) {
    fuse_reply_err(request, ENOENT);
    return;
  }
  fuse_entry_param entry{};
  entry.ino = kFile;
  entry.attr = attributes(kFile);
  fuse_reply_entry(request, &entry);
}
void op_open(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
  file->direct_io = 1;
  fuse_reply_open(request, file);
}
void op_read(fuse_req_t request, fuse_ino_t, std::size_t size, off_t, fuse_file_info*) {
  static const std::vector<char> zeros(1 << 20);
  fuse_reply_buf(request, zeros.data(), std::min(size, zeros.size()));
}
void op_write(fuse_req_t request, fuse_ino_t, const char*, std::size_t size, off_t,
              fuse_file_info*) {
  fuse_reply_write(request, size);
}

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::_Exit(1);
}

template <class Work>
void measure(const char* name, double seconds, Work work) {
  using clock = std::chrono::steady_clock;
  const auto begun = clock::now();
  std::uint64_t times = 0;
  double spent = 0;
  while ((spent = std::chrono::duration<double>(clock::now() - begun).count()) < seconds) {
    for (int i = 0; i < 16; ++i) work();
    times += 16;
  }
  std::printf("%-44s %9.2f us\n", name, spent * 1e6 / static_cast<double>(times));
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 1.0;
  std::string mountpoint = "/tmp/magma-fuse-bench.XXXXXX";
  if (::mkdtemp(mountpoint.data()) == nullptr) die("mkdtemp");
  fuse_lowlevel_ops operations{};
  operations.getattr = op_getattr;
  operations.lookup = op_lookup;
  operations.open = op_open;
  operations.read = op_read;
  operations.write = op_write;
  char program[] = "fuse_bench";
  char* arguments[] = {program, nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, arguments);
  fuse_session* session = fuse_session_new(&args, &operations, sizeof operations, nullptr);
  if (session == nullptr || fuse_session_mount(session, mountpoint.c_str()) != 0) {
    std::fprintf(stderr, "fuse_bench: cannot mount on %s\n", mountpoint.c_str());
    return 1;
  }
  std::thread server([&] { fuse_session_loop(session); });
  const std::string path = mountpoint + "/file";
  {
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) die("open");
    struct stat s {};
    measure("fstat: one request", seconds, [&] {
      if (::fstat(fd, &s) != 0) die("fstat");
    });
    measure("stat: look-up", seconds, [&] {
      if (::stat(path.c_str(), &s) != 0) die("stat");
    });
    std::vector<char> buffer(1 << 20);
    for (std::size_t size : {std::size_t{4096}, buffer.size()}) {
      const std::string bytes = std::to_string(size) + " bytes, direct";
      measure(("read of " + bytes).c_str(), seconds, [&] {
        if (::pread(fd, buffer.data(), size, 0) < 0) die("pread");
      });
      measure(("write of " + bytes).c_str(), seconds, [&] {
        if (::pwrite(fd, buffer.data(), size, 0) < 0) die("pwrite");
      });
    }
    ::close(fd);
  }
  fuse_session_unmount(session);
  server.join();
  fuse_session_destroy(session);
  fuse_opt_free_args(&args);
  ::rmdir(mountpoint.c_str());
  return 0;
}
