#include <doctest/doctest.h>

#include <tessera/bootstrap/file_limit.hpp>

namespace tessera {
namespace {

rlimit now() {
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  return limit;
}

// Restores the limit of this program at the end of a test.
struct Kept {
  rlimit before = now();
  ~Kept() { setrlimit(RLIMIT_NOFILE, &before); }
};

TEST_CASE("the soft limit of open files is raised to the hard limit while it is needed") {
  const Kept kept;
  const rlimit low{64, kept.before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &low) == 0);
  {
    bootstrap::FileLimit limit;
    CHECK(limit.count() == 64);
    CHECK(now().rlim_cur == 64);
    CHECK(limit.raise());
    CHECK(now().rlim_cur == low.rlim_max);
    CHECK(limit.count() == static_cast<std::int64_t>(low.rlim_max));
    CHECK_FALSE(limit.raise());
  }
  CHECK(now().rlim_cur == 64);
}

TEST_CASE("a limit that was changed by others in the meantime is not restored") {
  const Kept kept;
  const rlimit low{64, kept.before.rlim_max}, theirs{80, kept.before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &low) == 0);
  {
    bootstrap::FileLimit limit;
    CHECK(limit.raise());
    REQUIRE(setrlimit(RLIMIT_NOFILE, &theirs) == 0);
  }
  CHECK(now().rlim_cur == 80);
}

}  // namespace
}  // namespace tessera
