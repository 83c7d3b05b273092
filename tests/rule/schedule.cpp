// Compares the schedules with PyTorch's results (schedule.txt, written by schedule.py), their formulas and limits.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <limits>
#include <map>
#include <numbers>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include <tessera/tessera.hpp>

#include "page.hpp"
#include "training.hpp"

namespace tessera {
namespace {

constexpr index_t far_beyond = std::numeric_limits<index_t>::max();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

// Relative to the peak. PyTorch computes a rate from the previous one, so its rounding errors accumulate.
constexpr double tolerance = 1e-13;

constexpr bool near(double rate, double expected, double peak) {
  const double off = rate - expected;
  return off <= tolerance * peak && -off <= tolerance * peak;
}

using Settings = std::map<std::string, double>;

template <class Number>
void take(Settings& settings, const char* name, Number& value) {
  const auto found = settings.find(name);
  if (found == settings.end()) return;
  value = static_cast<Number>(found->second);
  settings.erase(found);
}

WarmupSchedule configure(WarmupSchedule schedule, Settings& s) {
  take(s, "peak", schedule.peak);
  take(s, "warmup_steps", schedule.warmup_steps);
  return schedule;
}

template <class Decay>
requires requires(Decay d) { d.floor; }
Decay configure(Decay schedule, Settings& s) {
  take(s, "peak", schedule.peak);
  take(s, "warmup_steps", schedule.warmup_steps);
  take(s, "steps", schedule.steps);
  take(s, "floor", schedule.floor);
  return schedule;
}

StepSchedule configure(StepSchedule schedule, Settings& s) {
  take(s, "lr", schedule.lr);
  take(s, "factor", schedule.factor);
  take(s, "every", schedule.every);
  return schedule;
}

OneCycleSchedule configure(OneCycleSchedule schedule, Settings& s) {
  take(s, "peak", schedule.peak);
  take(s, "steps", schedule.steps);
  take(s, "warmup_share", schedule.warmup_share);
  take(s, "start_divisor", schedule.start_divisor);
  take(s, "end_divisor", schedule.end_divisor);
  return schedule;
}

struct Case {
  std::string title;
  std::string schedule;
  Settings settings;
  std::vector<double> rates;  // of steps 1, 2, ...
};

std::vector<Case> read_cases() {
  std::istringstream file(testing::read_file("tests/rule/schedule.txt"));
  std::vector<Case> cases;
  for (std::string line, word; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    if (line.starts_with("case ")) {
      Case& now = cases.emplace_back();
      now.title = line;
      words >> word >> now.schedule;
      while (words >> word) {
        const auto equals = word.find('=');
        now.settings[word.substr(0, equals)] = std::strtod(word.c_str() + equals + 1, nullptr);
      }
    } else {
      while (words >> word) cases.back().rates.push_back(std::strtod(word.c_str(), nullptr));
    }
  }
  return cases;
}

template <class Schedule>
void check_against_pytorch(int cases) {
  for (Case expected : read_cases()) {
    if (expected.schedule != Schedule::name) continue;
    CAPTURE(expected.title);
    const Schedule schedule = configure(Schedule{}, expected.settings);
    REQUIRE(expected.settings.empty());  // no unknown setting remains
    schedule.validate();
    REQUIRE(expected.rates.size() >= 5);
    const double peak = *std::max_element(expected.rates.begin(), expected.rates.end());
    for (std::size_t i = 0; i < expected.rates.size(); ++i) {
      const index_t step = static_cast<index_t>(i) + 1;
      CAPTURE(step);
      const double rate = schedule(step);
      CHECK_MESSAGE(near(rate, expected.rates[i], peak), rate, " is not ", expected.rates[i]);
    }
    --cases;
  }
  CHECK(cases == 0);
}

template <class Schedule, class Field>
void refuses(Schedule schedule, Field Schedule::*field, std::type_identity_t<Field> value, const std::string& text) {
  schedule.*field = value;
  CAPTURE(value);
  CHECK_THROWS_WITH_AS(schedule.validate(), doctest::Contains((Schedule::name + (": " + text)).c_str()), OptionError);
}

template <class Schedule>
void refuses_what_no_rate_can_be(Schedule schedule, double Schedule::*field, const std::string& name) {
  for (const double bad : {nan, -1e-9, infinity, -infinity, 1e39})
    refuses(schedule, field, bad, name + " must be in [0, 3.4e38], is ");
}

template <class Decay>
void check_refusals_of_a_decay() {
  const Decay good{.peak = 1e-3, .warmup_steps = 10, .steps = 100, .floor = 1e-5};
  CHECK_NOTHROW(good.validate());
  CHECK_NOTHROW(Decay{.peak = 0, .warmup_steps = 0, .steps = 1, .floor = 0}.validate());
  CHECK_NOTHROW(Decay{.peak = 1, .warmup_steps = 0, .steps = 1, .floor = 1}.validate());
  refuses_what_no_rate_can_be(good, &Decay::peak, "peak");
  refuses(good, &Decay::warmup_steps, -1, "warmup_steps must be at least 0, is -1");
  refuses(good, &Decay::warmup_steps, 100, "steps must be above warmup_steps, is 100");
  refuses(good, &Decay::steps, 0, "steps must be at least 1, is 0");
  refuses(good, &Decay::steps, -5, "steps must be at least 1, is -5");
  refuses(good, &Decay::steps, 10, "steps must be above warmup_steps, is 10");
  for (const double bad : {nan, -1e-9, infinity, -infinity, 2e-3})
    refuses(good, &Decay::floor, bad, "floor must be in [0, peak], is ");
  CHECK_THROWS_AS(Decay{}.validate(), OptionError);  // the length is required
}

}  // namespace

TEST_CASE("cos_pi equals the standard library's cosine") {
  double worst = 0;
  for (int i = 0; i <= 100003; ++i) {
    const double x = i / 100003.0;
    const long double expected = std::cos(std::numbers::pi_v<long double> * static_cast<long double>(x));
    worst = std::max(worst, static_cast<double>(std::fabs(static_cast<long double>(schedules::cos_pi(x)) - expected)));
  }
  CHECK(worst <= 1e-15);
  MESSAGE("off by " << worst << " at most");
  static_assert(schedules::cos_pi(0) == 1 && schedules::cos_pi(0.5) == 0 && schedules::cos_pi(1) == -1);
}

TEST_CASE("WarmupSchedule follows torch's LinearLR") { check_against_pytorch<WarmupSchedule>(2); }

TEST_CASE("LinearSchedule follows torch's LinearLR, also after a warm-up") { check_against_pytorch<LinearSchedule>(3); }

TEST_CASE("CosineSchedule follows torch's CosineAnnealingLR, also after a warm-up") {
  check_against_pytorch<CosineSchedule>(3);
}

TEST_CASE("StepSchedule follows torch's StepLR") { check_against_pytorch<StepSchedule>(2); }

TEST_CASE("OneCycleSchedule follows torch's OneCycleLR") { check_against_pytorch<OneCycleSchedule>(4); }

TEST_CASE("over a long run every schedule equals its formula") {
  constexpr double peak = 6e-4, floor = 6e-5;
  constexpr index_t warmup = 200, steps = 10000;
  for (index_t s = 1; s <= steps; s += s < 300 ? 1 : 37) {
    CAPTURE(s);
    const double t = static_cast<double>(s) - 1;
    const double up = std::fmin(1.0, (t + 1) / 200);
    const double x = (t - 200) / 9800;
    const double cosine = floor + (peak - floor) * (1 + std::cos(std::numbers::pi * x)) / 2;
    const double linear = peak + (floor - peak) * x;
    CHECK(ConstantSchedule{.lr = peak}(s) == peak);
    CHECK(near(WarmupSchedule{.peak = peak, .warmup_steps = warmup}(s), peak * up, peak));
    CHECK(near(LinearSchedule{.peak = peak, .warmup_steps = warmup, .steps = steps, .floor = floor}(s),
               s <= warmup ? peak * up : linear, peak));
    CHECK(near(CosineSchedule{.peak = peak, .warmup_steps = warmup, .steps = steps, .floor = floor}(s),
               s <= warmup ? peak * up : cosine, peak));
    CHECK(near(StepSchedule{.lr = peak, .factor = 0.5, .every = 300}(s), peak * std::pow(0.5, std::floor(t / 300)),
               peak));
    const double top = 0.1 * 10000 - 1;
    const double share = t <= top ? (1 - std::cos(std::numbers::pi * t / top)) / 2
                                  : (1 + std::cos(std::numbers::pi * (t - top) / (9999 - top))) / 2;
    const double low = t <= top ? peak / 20 : peak / 20 / 500;
    CHECK(near(
        OneCycleSchedule{.peak = peak, .steps = steps, .warmup_share = 0.1, .start_divisor = 20, .end_divisor = 500}(s),
        low + (peak - low) * share, peak));
  }
}

TEST_CASE("a warm-up does not begin at 0, and its last step has the peak rate") {
  const auto check = [](const auto& schedule) {
    CHECK(near(schedule(1), 0.3 / 7, 0.3));
    CHECK(schedule(6) < 0.3);
    CHECK(schedule(7) == 0.3);
    CHECK(schedule(8) == 0.3);  // the first step of a decay has the peak rate, as in PyTorch
  };
  check(WarmupSchedule{.peak = 0.3, .warmup_steps = 7});
  check(LinearSchedule{.peak = 0.3, .warmup_steps = 7, .steps = 20});
  check(CosineSchedule{.peak = 0.3, .warmup_steps = 7, .steps = 20});
  CHECK(WarmupSchedule{.peak = 0.3, .warmup_steps = 7}(far_beyond) == 0.3);
  CHECK(WarmupSchedule{.peak = 0.3, .warmup_steps = 1}(1) == 0.3);
}

TEST_CASE("a decay without warm-up begins at the peak, and its floor begins after the last step") {
  const auto check = [](const auto& schedule) {
    CHECK(schedule(1) == 0.3);
    CHECK(schedule(2) < 0.3);
    CHECK(schedule(20) > 0.01);
    CHECK(schedule(20) < schedule(19));
    CHECK(schedule(21) == 0.01);
    CHECK(schedule(far_beyond) == 0.01);  // PyTorch's cosine would rise again
  };
  check(LinearSchedule{.peak = 0.3, .steps = 20, .floor = 0.01});
  check(CosineSchedule{.peak = 0.3, .steps = 20, .floor = 0.01});
  CHECK(CosineSchedule{.peak = 0.3, .steps = 1}(1) == 0.3);
  CHECK(CosineSchedule{.peak = 0.3, .steps = 1}(2) == 0);
}

TEST_CASE("a step schedule is constant for `every` steps") {
  const StepSchedule schedule{.lr = 0.8, .factor = 0.5, .every = 10};
  CHECK(schedule(1) == 0.8);
  CHECK(schedule(10) == 0.8);
  CHECK(schedule(11) == 0.4);
  CHECK(schedule(20) == 0.4);
  CHECK(schedule(21) == 0.2);
  CHECK(schedule(101) == 0.8 / 1024);
  CHECK(schedule(far_beyond) == 0);
  CHECK(StepSchedule{.lr = 0.8, .factor = 0, .every = 1}(1) == 0.8);
  CHECK(StepSchedule{.lr = 0.8, .factor = 0, .every = 1}(2) == 0);
  CHECK(StepSchedule{.lr = 0.8, .factor = 1, .every = 1}(far_beyond) == 0.8);
}

TEST_CASE("one cycle rises, falls, and stays at its lowest rate") {
  const OneCycleSchedule schedule{.peak = 1, .steps = 40, .warmup_share = 0.25, .start_divisor = 8, .end_divisor = 16};
  CHECK(schedule(1) == 0.125);
  CHECK(schedule(2) > 0.125);
  CHECK(schedule(9) < 1);
  CHECK(schedule(10) == 1);
  CHECK(schedule(11) < 1);
  CHECK(schedule(39) > 0.125 / 16);
  CHECK(schedule(40) == 0.125 / 16);
  CHECK(schedule(41) == 0.125 / 16);
  CHECK(schedule(far_beyond) == 0.125 / 16);
  CHECK(OneCycleSchedule{.peak = 1, .steps = 4, .warmup_share = 0.25}(1) == 1);  // PyTorch divides 0 by 0
  CHECK(OneCycleSchedule{.peak = 1, .steps = 4, .warmup_share = 1}(far_beyond) == 1);
  CHECK(OneCycleSchedule{.peak = 1, .steps = 1, .warmup_share = 0}(1) == 1 / 25.0 / 1e4);
  CHECK(OneCycleSchedule{.peak = 1, .steps = 1, .warmup_share = 1}(1) == 1);
}

TEST_CASE("a step below 1 counts as step 1") {
  const auto check = [](const auto& schedule) {
    for (const index_t step : {index_t{0}, index_t{-1}, std::numeric_limits<index_t>::min()})
      CHECK(schedule(step) == schedule(1));
  };
  check(ConstantSchedule{});
  check(WarmupSchedule{.warmup_steps = 5});
  check(LinearSchedule{.steps = 9});
  check(LinearSchedule{.warmup_steps = 5, .steps = 9});
  check(CosineSchedule{.steps = 9});
  check(CosineSchedule{.warmup_steps = 5, .steps = 9});
  check(StepSchedule{.every = 2});
  check(OneCycleSchedule{.steps = 9});
}

TEST_CASE("schedules are constant expressions, with the values that are computed at run time") {
  constexpr ConstantSchedule constant{.lr = 0.25};
  constexpr WarmupSchedule warmup{.peak = 0.5, .warmup_steps = 4};
  constexpr LinearSchedule linear{.peak = 0.5, .steps = 4, .floor = 0.25};
  constexpr CosineSchedule cosine{.peak = 1e-3, .warmup_steps = 100, .steps = 10000, .floor = 1e-5};
  constexpr StepSchedule stairs{.lr = 0.5, .factor = 0.5, .every = 3};
  constexpr OneCycleSchedule cycle{.peak = 0.5, .steps = 100};
  static_assert(
      (constant.validate(), warmup.validate(), linear.validate(), cosine.validate(), stairs.validate(), cycle.validate(), true));
  static_assert(constant(1) == 0.25 && constant(far_beyond) == 0.25);
  static_assert(warmup(1) == 0.125 && warmup(3) == 0.375 && warmup(4) == 0.5 && warmup(far_beyond) == 0.5);
  static_assert(linear(1) == 0.5 && linear(2) == 0.4375 && linear(4) == 0.3125 && linear(5) == 0.25);
  static_assert(cosine(100) == 1e-3 && near(cosine(1), 1e-5, 1e-3) && near(cosine(5051), 505e-6, 1e-3));
  static_assert(cosine(10001) == 1e-5 && cosine(far_beyond) == 1e-5);
  static_assert(stairs(3) == 0.5 && stairs(4) == 0.25 && stairs(far_beyond) == 0);
  static_assert(near(cycle(1), 0.02, 0.5) && cycle(30) == 0.5 && near(cycle(100), 0.02e-4, 1e-4));
  constexpr double of_cosine = cosine(1234), of_cycle = cycle(77);
  volatile index_t step = 1234;  // not a constant
  CHECK(near(cosine(step), of_cosine, 1e-3));
  step = 77;
  CHECK(near(cycle(step), of_cycle, 0.5));
}

TEST_CASE("every setting that is out of range is rejected with schedule and field") {
  CHECK_NOTHROW(ConstantSchedule{.lr = 0}.validate());
  refuses_what_no_rate_can_be(ConstantSchedule{}, &ConstantSchedule::lr, "lr");

  const WarmupSchedule warmup{.warmup_steps = 1};
  CHECK_NOTHROW(warmup.validate());
  refuses_what_no_rate_can_be(warmup, &WarmupSchedule::peak, "peak");
  refuses(warmup, &WarmupSchedule::warmup_steps, 0, "warmup_steps must be at least 1, is 0");
  refuses(warmup, &WarmupSchedule::warmup_steps, -7, "warmup_steps must be at least 1, is -7");

  check_refusals_of_a_decay<LinearSchedule>();
  check_refusals_of_a_decay<CosineSchedule>();

  const StepSchedule stairs{.every = 1};
  CHECK_NOTHROW(stairs.validate());
  CHECK_NOTHROW(StepSchedule{.lr = 0, .factor = 0, .every = 1}.validate());
  refuses_what_no_rate_can_be(stairs, &StepSchedule::lr, "lr");
  for (const double bad : {nan, -1e-9, 1.5, infinity, -infinity})
    refuses(stairs, &StepSchedule::factor, bad, "factor must be in [0, 1], is ");
  refuses(stairs, &StepSchedule::every, 0, "every must be at least 1, is 0");
  refuses(stairs, &StepSchedule::every, -1, "every must be at least 1, is -1");

  const OneCycleSchedule cycle{.steps = 1};
  CHECK_NOTHROW(cycle.validate());
  CHECK_NOTHROW(OneCycleSchedule{.peak = 0, .steps = 1, .warmup_share = 0}.validate());
  refuses_what_no_rate_can_be(cycle, &OneCycleSchedule::peak, "peak");
  refuses(cycle, &OneCycleSchedule::steps, 0, "steps must be at least 1, is 0");
  refuses(cycle, &OneCycleSchedule::steps, -1, "steps must be at least 1, is -1");
  for (const double bad : {nan, -1e-9, 1.5, infinity, -infinity})
    refuses(cycle, &OneCycleSchedule::warmup_share, bad, "warmup_share must be in [0, 1], is ");
  for (const double bad : {nan, 0.0, -1.0, infinity, -infinity}) {
    refuses(cycle, &OneCycleSchedule::start_divisor, bad, "start_divisor must be in (0, 3.4e38], is ");
    refuses(cycle, &OneCycleSchedule::end_divisor, bad, "end_divisor must be in (0, 3.4e38], is ");
  }
}

namespace {

// [rules.md]
template <class Optimizer, class Backward>
void train(Optimizer& optimizer, tessera::index_t batches, Backward backward) {
  const tessera::CosineSchedule schedule{.peak = 1e-3, .warmup_steps = 100, .steps = batches, .floor = 1e-5};
  schedule.validate();
  for (tessera::index_t batch = 0; batch < batches; ++batch) {
    optimizer.rule().lr = schedule(optimizer.steps() + 1);
    backward(optimizer, batch);
    optimizer.step();
  }
}
// [end]

}  // namespace

TEST_CASE("the page shows the training loop that is compiled here") {
  CHECK(testing::page_shows("docs/rules.md", "tests/rule/schedule.cpp", "rules.md"));
}

TEST_CASE("the page's training loop uses the rates of the schedule, and a skipped step does not advance the rate") {
  constexpr index_t batches = 120, skipped = 3;
  constexpr CosineSchedule schedule{.peak = 1e-3, .warmup_steps = 100, .steps = batches, .floor = 1e-5};
  std::vector<double> expected;  // of each batch
  double path = 0;               // of a weight whose gradient is always 1
  for (index_t batch = 0; batch < batches; ++batch) {
    expected.push_back(schedule(batch <= skipped ? batch + 1 : batch));
    if (batch != skipped) path += expected.back();
  }
  run_ranks(2, [&](Local& comm) {
    Layout layout;
    layout.add_unit("unit");
    layout.add_tensor("weight", {3});
    Sharded<Sgd, Stage2> optimizer(comm, layout, {}, Sgd{});
    optimizer.initialize([](Tensor, index_t) { return 1.0f; });
    std::vector<double> rates;
    train(optimizer, batches, [&](auto& trained, index_t batch) {
      rates.push_back(trained.rule().lr);
      testing::run_pass(trained, batch, comm.rank(), [](index_t step, index_t, Tensor, index_t) {
        return step == skipped ? std::numeric_limits<float>::quiet_NaN() : 1.0f;
      });
    });
    CHECK(rates == expected);
    CHECK(optimizer.steps() == batches - 1);
    for (const float weight : testing::parameters_of(optimizer))
      CHECK(std::fabs(weight - (1 - path)) < 1e-5);  // 119 roundings of a float near 1
  });
}

}  // namespace tessera
