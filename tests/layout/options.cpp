#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

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

std::vector<std::string> numbers_of(const Options& options) {
  std::vector<std::string> numbers;
  options.for_each_number([&](const char* name, auto number) {
    numbers.push_back(std::string(name) + " " + std::to_string(static_cast<double>(number)));
  });
  return numbers;
}

TEST_CASE("every option that changes what ranks do is among the numbers that they compare, the timeout is not") {
  const auto plain = numbers_of({});
  for (const Options& other :
       {Options{.micro_batches = 2}, Options{.clip_norm = 1}, Options{.bucket_bytes = 1}, Options{.prefetch = 2},
        Options{.seed = 1}, Options{.loss_scale = {.initial = 2}}, Options{.loss_scale = {.factor = 4}},
        Options{.loss_scale = {.window = 7}}, Options{.loss_scale = {.hysteresis = 1}},
        Options{.loss_scale = {.least = 0.5}}, Options{.loss_scale = {.dynamic = false}}})
    CHECK(plain != numbers_of(other));
  CHECK(plain == numbers_of({.timeout = Duration::seconds(1)}));
}

}  // namespace
}  // namespace tessera
