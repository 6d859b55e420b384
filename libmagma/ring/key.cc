#include "libmagma/ring/key.h"

#include <algorithm>

namespace magma::ring {

Result<Key> Key::parse(std::string_view hex) {
  Bytes raw;
  if (!from_hex(hex, raw) || raw.size() != 20)
    return fail(Code::invalid, "a key is 40 hex digits, not '" + std::string(hex) + "'");
  Key key;
  std::copy(raw.begin(), raw.end(), key.bytes.begin());
  return key;
}

Key Key::highest() {
  Key key;
  key.bytes.fill(0xff);
  return key;
}

Result<Key> Key::next() const {
  Key key = *this;
  for (std::size_t i = key.bytes.size(); i-- > 0;)
    if (++key.bytes[i] != 0) return key;
  return fail(Code::out_of_range, "no key after ff..ff");
}

Result<Key> Key::previous() const {
  Key key = *this;
  for (std::size_t i = key.bytes.size(); i-- > 0;)
    if (key.bytes[i]-- != 0) return key;
  return fail(Code::out_of_range, "no key before 00..00");
}

Key first_key(Slot slot) {
  Key key;
  key.bytes[0] = static_cast<std::uint8_t>(slot.value >> 4);
  key.bytes[1] = static_cast<std::uint8_t>(slot.value << 4);
  return key;
}

Key last_key(Slot slot) {
  Key key = Key::highest();
  key.bytes[0] = static_cast<std::uint8_t>(slot.value >> 4);
  key.bytes[1] = static_cast<std::uint8_t>(slot.value << 4 | 0x0f);
  return key;
}

}  // namespace magma::ring
