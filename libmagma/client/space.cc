#include "libmagma/client/space.h"

#include <memory>
#include <utility>

namespace magma::client {

namespace {

class SpaceSum {
 public:
  SpaceSum(std::size_t volcanoes, Done<wire::StatfsReply> done)
      : left_(volcanoes), done_(std::move(done)) {}

  void add(Result<wire::StatfsReply> told) {
    if (left_ == 0) return;  // it was answered with an error
    if (!told) {
      left_ = 0;
      return done_(std::move(told));
    }
    sum_.block_bytes = told->block_bytes;
    sum_.blocks += told->blocks;
    sum_.blocks_free += told->blocks_free;
    sum_.blocks_available += told->blocks_available;
    sum_.files += told->files;
    sum_.files_free += told->files_free;
    if (--left_ == 0) done_(sum_);
  }

 private:
  std::size_t left_;
  wire::StatfsReply sum_;
  Done<wire::StatfsReply> done_;
};

}  // namespace

Token sum_space(Requests& requests, const std::vector<Router::Owner>& owners, Credentials who,
                Done<wire::StatfsReply> done) {
  // Shared by the requests under way.
  auto sum = std::make_shared<SpaceSum>(owners.size(), std::move(done));
  Token first = 0;
  for (const Router::Owner& owner : std::vector(owners)) {
    Done<wire::StatfsReply> add = [sum](Result<wire::StatfsReply> told) {
      sum->add(std::move(told));
    };
    const Token id = requests.begin(owner.slot, who, wire::StatfsRequest{}, std::move(add));
    if (first == 0) first = id;
  }
  return first;
}

}  // namespace magma::client
