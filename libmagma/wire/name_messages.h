// Messages that make, move and take away names: part of the flare protocol (flare_messages.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/ring/key.h"

namespace magma::wire {

inline constexpr std::size_t kNameStepsMax = 64;  // changes of one ChangeNamesRequest
inline constexpr std::uint32_t kNumbersGiven = 512;  // inode numbers, at once (NamesChanged)

struct CreateRequest {  // regular file, opened as it is made; to the directory's home
  Ino dir;
  std::string name;
  std::uint32_t mode = 0;  // permission bits, before the umask
  std::uint32_t umask = 0; // not used if the directory has a default ACL
  bool exclusive = false;  // O_EXCL; without it the client opens what `exists` tells of
  bool for_write = true;
  bool wants_to_delay = false;  // the next changes of names in the directory
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("dir", s.dir);
    v("name", s.name);
    v("mode", s.mode);
    v("umask", s.umask);
    v("exclusive", s.exclusive);
    v("for_write", s.for_write);
    v("wants_to_delay", s.wants_to_delay);
  }
};

struct MkdirRequest {  // to the parent's home
  Ino dir;
  std::string name;
  std::uint32_t mode = 0;
  std::uint32_t umask = 0;
  ring::Key key;  // SHA1 of the new directory's path
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("dir", s.dir);
    v("name", s.name);
    v("mode", s.mode);
    v("umask", s.umask);
    v("key", s.key);
  }
};

struct SymlinkRequest {
  Ino dir;
  std::string name;
  std::string target;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("dir", s.dir);
    v("name", s.name);
    v("target", s.target);
  }
};

// The rest of what a directory can hold: fifo, socket, device, or a regular file that is not
// opened. To the directory's home.
struct MknodRequest {
  Ino dir;
  std::string name;
  std::uint32_t mode = 0;   // type and permission bits, before the umask
  std::uint32_t umask = 0;  // not used if the directory has a default ACL
  std::uint64_t rdev = 0;   // of a device
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("dir", s.dir);
    v("name", s.name);
    v("mode", s.mode);
    v("umask", s.umask);
    v("rdev", s.rdev);
  }
};

// A regular file without a name, opened as it is made (O_TMPFILE); to the directory's home. It is
// gone with its last open unless link gave it a name.
struct TmpfileRequest {
  Ino dir;
  std::uint32_t mode = 0;
  std::uint32_t umask = 0;
  bool for_write = true;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("dir", s.dir);
    v("mode", s.mode);
    v("umask", s.umask);
    v("for_write", s.for_write);
  }
};

struct LinkRequest {  // to the home of the directory that gets the new name
  Ino ino;
  Ino dir;
  std::string name;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("dir", s.dir);
    v("name", s.name);
  }
};

struct UnlinkRequest {
  Ino dir;
  std::string name;
  bool wants_to_delay = false;  // the next changes of names in `dir`: ResponseHead::may_delay
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("dir", s.dir);
    v("name", s.name);
    v("wants_to_delay", s.wants_to_delay);
  }
};

struct RmdirRequest {
  Ino dir;
  std::string name;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("dir", s.dir);
    v("name", s.name);
  }
};

enum RenameFlag : std::uint32_t { kRenameNoReplace = 1, kRenameExchange = 2 };  // renameat2(2)

struct RenameRequest {  // to the destination directory's home
  Ino from_dir;
  std::string from_name;
  Ino to_dir;
  std::string to_name;
  std::uint32_t flags = 0;
  bool wants_to_delay = false;  // the next changes of names in the directory, if it is one
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("from_dir", s.from_dir);
    v("from_name", s.from_name);
    v("to_dir", s.to_dir);
    v("to_name", s.to_name);
    v("flags", s.flags);
    v("wants_to_delay", s.wants_to_delay);
  }
};

// A regular file that a client has made.
struct MadeFile {
  std::uint32_t mode = 0;  // permission bits, after the umask
  bool is_open = false;    // it is not closed yet,
  bool for_write = false;  // and was opened so
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("mode", s.mode);
    v("is_open", s.is_open);
    v("for_write", s.for_write);
  }
};

// One change that a client has made already, as far as its programs know: of a name that leads to
// no directory, whose inode is at home where the directory is.
struct NameStep {
  std::string name;
  Ino ino;                // that the name leads to; if it does not any more, nothing is done
  std::string to_name{};  // of the same directory, not there before; empty: the name is removed,
  std::optional<MadeFile> made{};  // or made: with a number the client was given (NamesChanged)
  WallTime at{};          // by the client's reckoning of the volcano's clock
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("name", s.name);
    v("ino", s.ino);
    v("to_name", s.to_name);
    v("made", s.made);
    v("at", s.at);
  }
};

// Changes of names that were delayed (ResponseHead::may_delay with the answer to an unlink or
// rename), in order. May be sent again, also in another session.
struct ChangeNamesRequest {  // to the directory's home
  Ino dir;
  std::vector<NameStep> steps{};  // 1 to kNameStepsMax
  bool wants_numbers = false;     // NamesChanged::numbers
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("dir", s.dir);
    v("steps", s.steps);
    v("wants_numbers", s.wants_numbers);
  }
};

struct ChangeNamesReply {
  std::uint32_t done = 0;  // the rest is to be sent again
  std::vector<std::uint32_t> lost{};  // of those done, what could not be: by their index
  // Files made and open for writing of which the client may not delay writes: by their index.
  std::vector<std::uint32_t> without_token{};
  WallTime time{};                    // the volcano's clock
  bool may_delay = true;              // false: the space is nearly used up
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("done", s.done);
    v("lost", s.lost);
    v("without_token", s.without_token);
    v("time", s.time);
    v("may_delay", s.may_delay);
  }
};

}  // namespace magma::wire
