#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <vector>

#include <tessera/engine/step/control_state.hpp>
#include <tessera/rule/adam.hpp>

namespace tessera::engine {
namespace {

using doctest::Contains;

constexpr Options options{.loss_scale = {.initial = 256, .hysteresis = 3, .least = 2}};

const std::vector<Adam> current(2);

ControlState<Adam> usable() {
  ControlState<Adam> state;
  state.loss_scale = 64;
  state.rules = state.first_rules = {Adam{}, Adam{.lr = 1}};
  return state;
}

void refused(const char* why, void (*change)(ControlState<Adam>&), bool scales_loss = true) {
  ControlState<Adam> state = usable();
  if (!scales_loss) state.loss_scale = 1;
  change(state);
  CHECK_THROWS_WITH_AS(state.validate(options, current, scales_loss), Contains(why), OptionError);
}

TEST_CASE("a control state with an impossible value is refused with the field and the value") {
  CHECK_NOTHROW(usable().validate(options, current, true));
  refused("steps must not be negative, is -1", [](auto& state) { state.steps = -1; });
  refused("attempts must be at least the steps applied, is 4",
          [](auto& state) { state.steps = 5, state.attempts = 4; });
  refused("evaluation_changes must not be negative, is -2", [](auto& state) { state.evaluation_changes = -2; });
  refused("clip_norm must be greater than 0, is 0", [](auto& state) { state.clip_norm = 0; });
  refused("rules has 1", [](auto& state) { state.rules.pop_back(); });
  refused("first_rules has 3", [](auto& state) { state.first_rules.push_back({}); });
  refused("loss_scale must be at least Options::loss_scale.least and finite as a float, is 1",
          [](auto& state) { state.loss_scale = 1; });
  refused("finite as a float", [](auto& state) { state.loss_scale = 1e39; });
  refused("finite as a float", [](auto& state) { state.loss_scale = std::numeric_limits<double>::quiet_NaN(); });
  refused("overflows_left must be between 1 and Options::loss_scale.hysteresis, is 4",
          [](auto& state) { state.overflows_left = 4; });
  refused("overflows_left must be between", [](auto& state) { state.overflows_left = 0; });
  refused("clean_steps must not be negative, is -1", [](auto& state) { state.clean_steps = -1; });
  refused("this precision does not scale the loss, is 2", [](auto& state) { state.loss_scale = 2; }, false);
}

TEST_CASE("a static loss scale is that of the options") {
  constexpr Options fixed{.loss_scale = {.initial = 256, .dynamic = false}};
  CHECK_THROWS_WITH_AS(usable().validate(fixed, current, true), Contains("not dynamic, is 64"), OptionError);
  ControlState<Adam> state = usable();
  state.loss_scale = 256;
  CHECK_NOTHROW(state.validate(fixed, current, true));
}

TEST_CASE("an evaluation is open after an odd number of changes") {
  ControlState<Adam> state;
  CHECK(!state.evaluating());
  state.evaluation_changes = 3;
  CHECK(state.evaluating());
}

TEST_CASE("each number of a control state changes the comparison") {
  const std::vector<void (*)(ControlState<Adam>&)> changes{
      [](auto& state) { state.steps = 1; },
      [](auto& state) { state.attempts = 1; },
      [](auto& state) { state.loss_scale = 2; },
      [](auto& state) { state.overflows_left = 2; },
      [](auto& state) { state.clean_steps = 1; },
      [](auto& state) { state.evaluation_changes = 1; },
      [](auto& state) { state.seed = 1; },
      [](auto& state) { state.clip_norm = 1; },
      [](auto& state) { state.rules[1].beta1 = 0.5; },
      [](auto& state) { state.first_rules[1].beta1 = 0.5; },
  };
  const ControlState<Adam> state = usable();
  for (const auto change : changes) {
    ControlState<Adam> other = usable();
    change(other);
    CHECK(digest_of(other, other.rules) != digest_of(state, state.rules));
  }
}

}  // namespace
}  // namespace tessera::engine
