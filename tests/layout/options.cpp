#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <string>
#include <vector>

#include <tessera/layout/options.hpp>

namespace tessera {
namespace {

TEST_CASE("the defaults are in range") { CHECK_NOTHROW(Options{}.validate()); }

TEST_CASE("an option that is out of range is named") {
  CHECK_THROWS_WITH_AS(Options{.micro_batches = 0}.validate(), doctest::Contains("micro_batches"), OptionError);
  CHECK_THROWS_WITH_AS(Options{.clip_norm = 0}.validate(), doctest::Contains("clip_norm"), OptionError);
  CHECK_THROWS_WITH_AS(Options{.clip_norm = std::nan("")}.validate(), doctest::Contains("clip_norm"), OptionError);
  CHECK_THROWS_WITH_AS(Options{.bucket_bytes = 0}.validate(), doctest::Contains("bucket_bytes"), OptionError);
  CHECK_THROWS_WITH_AS(Options{.prefetch = -1}.validate(), doctest::Contains("prefetch"), OptionError);
  CHECK_THROWS_WITH_AS(Options{.check_weights = -1}.validate(), doctest::Contains("check_weights"), OptionError);
  CHECK_THROWS_WITH_AS(Options{.timeout = std::chrono::nanoseconds{}}.validate(), doctest::Contains("timeout"),
                       OptionError);
}

TEST_CASE("a loss scale that is not a normal number as a float is refused") {
  const auto refuses = [](const LossScale& scale, const char* text) {
    CHECK_THROWS_WITH_AS((Options{.loss_scale = scale}.validate()), doctest::Contains(text), OptionError);
  };
  for (const double bad : {0.0, -1.0, 1e-50, 1e-40, 0x1p-127, 1.17e-38, 3.5e38, HUGE_VAL, std::nan("")}) {
    CAPTURE(bad);
    refuses({.initial = bad, .least = bad}, "loss_scale.initial must be a normal float");
    refuses({.initial = 1, .least = bad}, "loss_scale.least must be a normal float");
  }
  refuses({.initial = 1, .least = 2}, "at most the initial scale, is 2");
  for (const double good : {0x1p-126, 1e-30, 0x1p127, 3.4e38}) {
    CAPTURE(good);
    CHECK_NOTHROW(Options{.loss_scale = {.initial = good, .least = good}}.validate());
  }
}

TEST_CASE("every other option of the loss scale that is out of range is named") {
  const auto refuses = [](const LossScale& scale, const char* text) {
    CHECK_THROWS_WITH_AS(scale.validate(), doctest::Contains(text), OptionError);
  };
  for (const double bad : {1.0, 0.5, HUGE_VAL, std::nan("")})
    refuses({.growth_factor = bad}, "loss_scale.growth_factor must be greater than 1, is ");
  for (const double bad : {1.0, 2.0, 0.0, -0.5, std::nan("")})
    refuses({.backoff_factor = bad}, "loss_scale.backoff_factor must be in (0, 1), is ");
  refuses({.growth_interval = 0}, "loss_scale.growth_interval must be at least 1, is 0");
  refuses({.hysteresis = 0}, "loss_scale.hysteresis must be at least 1, is 0");
}

std::vector<std::string> numbers_of(const Options& options) {
  std::vector<std::string> numbers;
  options.for_each_number([&](const char* name, auto number) {
    numbers.push_back(std::string(name) + " " + std::to_string(static_cast<double>(number)));
  });
  return numbers;
}

TEST_CASE("ranks compare every option that changes what they do, and no option that may differ between ranks") {
  const auto plain = numbers_of({});
  for (const Options& other :
       {Options{.micro_batches = 2}, Options{.clip_norm = 1}, Options{.bucket_bytes = 1}, Options{.prefetch = 2},
        Options{.seed = 1}, Options{.loss_scale = {.initial = 2}}, Options{.loss_scale = {.growth_factor = 4}},
        Options{.loss_scale = {.backoff_factor = 0.25}}, Options{.loss_scale = {.growth_interval = 7}},
        Options{.loss_scale = {.hysteresis = 1}}, Options{.loss_scale = {.consecutive_hysteresis = true}},
        Options{.loss_scale = {.least = 0.5}}, Options{.loss_scale = {.dynamic = false}}, Options{.check_weights = 1}})
    CHECK(plain != numbers_of(other));
  CHECK(plain == numbers_of({.check_gradients = true, .timeout = std::chrono::seconds(1)}));
}

}  // namespace
}  // namespace tessera
