// What a setattr makes of attributes, where a client does it by itself: mode, owner and times that
// are given. Not the size, nor what depends on the volcano's clock.
#pragma once

#include <sys/stat.h>

#include "libmagma/wire/flare_messages.h"

namespace magma::wire {

inline void apply(const SetattrRequest& change, Attr& attr) {
  if ((change.fields_set & kSetMode) != 0) attr.mode = (attr.mode & S_IFMT) | (change.mode & 07777);
  if ((change.fields_set & kSetUid) != 0) attr.uid = change.uid;
  if ((change.fields_set & kSetGid) != 0) attr.gid = change.gid;
  if ((change.fields_set & kSetAtime) != 0) attr.atime = change.atime;
  if ((change.fields_set & kSetMtime) != 0) attr.mtime = change.mtime;
}

}  // namespace magma::wire
