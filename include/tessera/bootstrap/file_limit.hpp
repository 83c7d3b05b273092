// The limit of files, sockets among them, that this process may have open.
#pragma once

#include <sys/resource.h>

#include <cstdint>

namespace tessera::bootstrap {

/// Raises the soft limit when asked to, up to the hard one, and puts it back at its end: programs that use select() or
/// close every possible file rely on a low one.
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

  /// False if there is no room above.
  bool raise() noexcept {
    if (raised_ || before_.rlim_cur >= before_.rlim_max) return false;
    const rlimit highest{before_.rlim_max, before_.rlim_max};
    return raised_ = ::setrlimit(RLIMIT_NOFILE, &highest) == 0;
  }

  /// How many may be open now.
  std::int64_t count() const noexcept {
    return static_cast<std::int64_t>(raised_ ? before_.rlim_max : before_.rlim_cur);
  }

 private:
  rlimit before_{};
  bool raised_ = false;
};

}  // namespace tessera::bootstrap
