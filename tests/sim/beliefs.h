// What one simulated client, and a kernel above it, may believe: every attribute and name it was
// told with a time to believe it, until the volcano says that it is no longer so.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "libmagma/client/client.h"

namespace magma::test {

class Beliefs final : public client::ChangeListener {
 public:
  void on_changed(std::vector<wire::Change> changes, UniqueFunction<void()> done) override {
    for (const wire::Change& change : changes) {
      if (change.name.empty())
        attrs.erase(change.ino);
      else
        names.erase({change.ino, change.name});
    }
    done();
  }
  void clear() {
    attrs.clear();
    names.clear();
  }

  struct Name {
    Ino ino;
    Instant until;
  };
  std::map<Ino, wire::Attr> attrs;
  std::map<std::pair<Ino, std::string>, Name> names;
};

}  // namespace magma::test
