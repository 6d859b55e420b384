#include "tests/lib/faulty_disk.h"

#include <utility>

namespace magma::test {

Result<void> FaultyDisk::look() const {
  if (frozen_) return fail(Code::io, "the process is dead");
  return {};
}

Result<void> FaultyDisk::change() {
  TRY(look());
  if (freezes_ && left_ == 0) {
    frozen_ = true;
    return look();
  }
  if (freezes_) --left_;
  ++changes_;
  return {};
}

class FaultyFile final : public sys::File {
 public:
  FaultyFile(FaultyDisk& disk, std::unique_ptr<sys::File> file)
      : disk_(disk), file_(std::move(file)) {}

  Result<std::size_t> read_at(MutableByteSpan out, std::uint64_t offset) override {
    TRY(disk_.look());
    return file_->read_at(out, offset);
  }
  Result<std::size_t> read_at_nowait(MutableByteSpan out, std::uint64_t offset) override {
    TRY(disk_.look());
    return file_->read_at_nowait(out, offset);
  }
  void drop_cache(std::uint64_t offset, std::uint64_t length) override {
    file_->drop_cache(offset, length);
  }
  Result<void> write_at(ByteSpan bytes, std::uint64_t offset) override {
    TRY(disk_.change());
    return file_->write_at(bytes, offset);
  }
  Result<void> truncate(std::uint64_t size) override {
    TRY(disk_.change());
    return file_->truncate(size);
  }
  Result<std::uint64_t> size() override {
    TRY(disk_.look());
    return file_->size();
  }
  Result<void> punch_hole(std::uint64_t offset, std::uint64_t length) override {
    TRY(disk_.change());
    return file_->punch_hole(offset, length);
  }
  Result<std::uint64_t> seek_data(std::uint64_t from) override {
    TRY(disk_.look());
    return file_->seek_data(from);
  }
  Result<std::uint64_t> seek_hole(std::uint64_t from) override {
    TRY(disk_.look());
    return file_->seek_hole(from);
  }
  Result<std::uint64_t> allocated_bytes() override {
    TRY(disk_.look());
    return file_->allocated_bytes();
  }
  Result<void> sync() override {
    TRY(disk_.change());
    if (disk_.lies_) return {};
    return file_->sync();
  }

 private:
  FaultyDisk& disk_;
  std::unique_ptr<sys::File> file_;
};

Result<std::unique_ptr<sys::File>> FaultyDisk::open(std::string_view path, Open how) {
  if (how == Open::create || how == Open::create_new)
    TRY(change());
  else
    TRY(look());
  TRY_VALUE(auto file, disk_.open(path, how));
  return std::unique_ptr<sys::File>(std::make_unique<FaultyFile>(*this, std::move(file)));
}
Result<bool> FaultyDisk::exists(std::string_view path) {
  TRY(look());
  return disk_.exists(path);
}
Result<void> FaultyDisk::remove(std::string_view path) {
  TRY(change());
  return disk_.remove(path);
}
Result<void> FaultyDisk::rename(std::string_view from, std::string_view to) {
  TRY(change());
  return disk_.rename(from, to);
}
Result<void> FaultyDisk::make_directory(std::string_view path) {
  TRY(change());
  return disk_.make_directory(path);
}
Result<std::vector<std::string>> FaultyDisk::list(std::string_view path) {
  TRY(look());
  return disk_.list(path);
}
Result<void> FaultyDisk::sync_directory(std::string_view path) {
  TRY(change());
  if (lies_) return {};
  return disk_.sync_directory(path);
}
Result<sys::DiskSpace> FaultyDisk::space() {
  TRY(look());
  return disk_.space();
}

}  // namespace magma::test
