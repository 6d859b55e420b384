// Every row struct from bytes: byte 0 picks it. What decodes must encode to the same bytes, since
// replicas compare rows by their images. Also names of content files.
#include <cstddef>
#include <cstdint>

#include "libmagma/base/check.h"
#include "libmagma/wire/codec.h"
#include "magmad/store/content_files.h"
#include "magmad/store/rows.h"

namespace {

using namespace magma;

template <class Row>
void check(ByteSpan image) {
  auto row = wire::decode<Row>(image);
  if (!row) return;
  Bytes again = wire::encode(*row);
  MAGMA_CHECK(again == Bytes(image.begin(), image.end()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  ByteSpan image(data + 1, size - 1);
  switch (data[0] % 16) {
    case 0: check<store::SlotRow>(image); break;
    case 1: check<store::InodeRow>(image); break;
    case 2: check<store::EntryRow>(image); break;
    case 3: check<store::LockRow>(image); break;
    case 4: check<store::ChunkRow>(image); break;
    case 5: check<store::AuthorityRow>(image); break;
    case 6: check<store::IntentRow>(image); break;
    case 7: check<store::PartRow>(image); break;
    case 8: check<store::ReplyRow>(image); break;
    case 9: check<store::SessionRow>(image); break;
    case 10: check<store::OpenRow>(image); break;
    case 11: check<store::RowKey>(image); break;
    case 12: check<store::Version>(image); break;
    default: {
      auto id = store::parse_content_name(as_text(image));
      if (id) MAGMA_CHECK(store::content_name(*id) == as_text(image));
      break;
    }
  }
  return 0;
}
