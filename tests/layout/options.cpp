#include <doctest/doctest.h>

#include <cmath>

#include <tessera/layout/options.hpp>

namespace tessera {
namespace {

TEST_CASE("the defaults are in range") { CHECK_NOTHROW(Options{}.check()); }

TEST_CASE("an option out of its range is named") {
  CHECK_THROWS_WITH_AS(Options{.micro_batches = 0}.check(), doctest::Contains("micro_batches"), OptionError);
  CHECK_THROWS_WITH_AS(Options{.clip_norm = 0}.check(), doctest::Contains("clip_norm"), OptionError);
  CHECK_THROWS_WITH_AS(Options{.clip_norm = std::nan("")}.check(), doctest::Contains("clip_norm"), OptionError);
  CHECK_THROWS_WITH_AS(Options{.bucket_bytes = 0}.check(), doctest::Contains("bucket_bytes"), OptionError);
  CHECK_THROWS_WITH_AS(Options{.prefetch = -1}.check(), doctest::Contains("prefetch"), OptionError);
  CHECK_THROWS_WITH_AS(Options{.timeout = Duration{}}.check(), doctest::Contains("timeout"),
                       OptionError);
}

TEST_CASE("options that change what ranks do change the digest, the timeout does not") {
  const auto plain = Options{}.digest();
  CHECK(plain != Options{.micro_batches = 2}.digest());
  CHECK(plain != Options{.clip_norm = 1}.digest());
  CHECK(plain != Options{.bucket_bytes = 1}.digest());
  CHECK(plain != Options{.prefetch = 2}.digest());
  CHECK(plain == Options{.timeout = Duration::seconds(1)}.digest());
}

}  // namespace
}  // namespace tessera
