// The process's limit of open files, which include sockets.
#pragma once

#include <sys/resource.h>

#include <cstdint>

namespace tessera::bootstrap {

/// raise() sets the soft limit to the hard limit, and the destructor restores it: programs that use select() or close
/// every possible file depend on a low limit.
class FileLimit {
 public:
  FileLimit() noexcept { ::getrlimit(RLIMIT_NOFILE, &before_); }
  FileLimit(const FileLimit&) = delete;
  FileLimit& operator=(const FileLimit&) = delete;
  ~FileLimit() {
    rlimit now{};
    if (raised_ && ::getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == before_.rlim_max) {  // still ours
      now.rlim_cur = before_.rlim_cur;
      ::setrlimit(RLIMIT_NOFILE, &now);
    }
  }

  /// Returns false if the limit cannot be raised further.
  bool raise() noexcept {
    if (raised_ || before_.rlim_cur >= before_.rlim_max) return false;
    const rlimit highest{before_.rlim_max, before_.rlim_max};
    return raised_ = ::setrlimit(RLIMIT_NOFILE, &highest) == 0;
  }

  /// The current limit.
  std::int64_t count() const noexcept {
    return static_cast<std::int64_t>(raised_ ? before_.rlim_max : before_.rlim_cur);
  }

 private:
  rlimit before_{};
  bool raised_ = false;
};

}  // namespace tessera::bootstrap
