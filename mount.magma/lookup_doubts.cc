#include "mount.magma/lookup_doubts.h"

namespace magma::mount {

LookupDoubts::Answer LookupDoubts::judge(pid_t thread, Ino dir, std::string_view name,
                                         bool in_doubt, Instant now) {
  if (!in_doubt && threads_.empty()) return Answer::tell;
  if (auto found = threads_.find(thread); found != threads_.end()) {
    const Refused& refused = found->second;
    const bool is_same = refused.dir == dir && refused.name == name;
    if (!is_same && now - refused.at < kRetryMax) return Answer::tell;
    threads_.erase(found);
    if (is_same) return in_doubt ? Answer::tell_apart : Answer::tell;
  }
  if (!in_doubt) return Answer::tell;
  if (thread == 0 || !has_room(now)) return Answer::tell_apart;
  threads_[thread] = {dir, std::string(name), now};
  return Answer::ask_again;
}

bool LookupDoubts::has_room(Instant now) {
  if (threads_.size() < kThreadsMax) return true;
  std::erase_if(threads_, [&](const auto& thread) { return now - thread.second.at >= kRetryMax; });
  return threads_.size() < kThreadsMax;
}

}  // namespace magma::mount
