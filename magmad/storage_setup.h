// Before a volcano runs: its storage directory is made, opened or brought into a ring. Part of
// main.cc: blocks, drives a loop of its own while it joins. A refusal leaves the directory as it
// was, and its text says what to do.
#pragma once

#include <memory>
#include <optional>

#include "libmagma/crypto/network_key.h"
#include "libmagma/ring/lava_map.h"
#include "libmagma/sys/clock.h"
#include "libmagma/sys/random.h"
#include "libmagma/sys_real/disk_posix.h"
#include "magmad/options.h"
#include "magmad/store/storage_dir.h"

namespace magma {

struct Opened {
  std::unique_ptr<sys_real::PosixDisk> disk;
  std::optional<sys_real::DirectoryLock> lock;
  store::VolcanoPapers papers;  // written when the storage is made, if `create`
  crypto::Uuid filesystem{};
  crypto::Keyring keys;
  bool create = false;          // the databases are still to be made
  bool is_first_start = false;  // founded or taken in just now
};

// As the command line says: -b makes a network, -r joins one, else the directory's volcano is
// opened.
Result<Opened> open_storage(const MagmadOptions& options, sys::Random& random, sys::Clock& clock);

// What the ring is told of the volcano of these papers, started with these options.
ring::Profile profile_of(const store::VolcanoPapers& papers, const MagmadOptions& options);

}  // namespace magma
