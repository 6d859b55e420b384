// SHA-1 for placement (never for security): keys of paths, of chunks, and the order of names in a
// directory. The digest is fetched from OpenSSL once (a fetch per call costs 3x, takes locks).
#pragma once

#include <cstdint>
#include <string_view>

#include "libmagma/ring/key.h"

namespace magma::crypto {

// SHA1(path). Requires: the path is absolute ("/", "/a/b") and without a trailing '/' unless "/".
ring::Key key_of_path(std::string_view path);
// SHA1(parent's key || '/' || name): the key of a child whose path is not known.
ring::Key key_of_child(const ring::Key& parent, std::string_view name);
// Placement of chunk `chunk` of a large file: the file's own key for chunk 0,
// SHA1(key || chunk as 4 bytes big-endian) for the others.
ring::Key key_of_chunk(const ring::Key& file, std::uint32_t chunk);
// Order of a name within its directory and its readdir cookie: the top 63 bits of SHA1(name),
// raised to at least 16 (lower cookies are taken by "." and "..").
std::uint64_t name_hash(std::string_view name);

}  // namespace magma::crypto
