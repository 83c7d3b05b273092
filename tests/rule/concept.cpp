// Which types are update rules, and above all which are not.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <tessera/rule/adadelta.hpp>
#include <tessera/rule/adagrad.hpp>
#include <tessera/rule/adam.hpp>
#include <tessera/rule/adamw.hpp>
#include <tessera/rule/amsgrad.hpp>
#include <tessera/rule/nadam.hpp>
#include <tessera/rule/radam.hpp>
#include <tessera/rule/rmsprop.hpp>
#include <tessera/rule/sgd.hpp>

namespace tessera {
namespace {
struct Throwing : Adam {
  float operator()(float w, float, State&, const Scalars&) const { return w; }
};
struct NoState {
  float lr = 1;
};
struct Unnamed : Adam {
  static constexpr std::array<const char*, 1> state_names{"m"};
};
struct Integers { int a; };
struct Mixed { float a; int b; };
struct Doubles { double a; };
struct Nothing {};
struct TwiceTheSame : Adam {
  static constexpr std::array<const char*, 2> state_names{"exp_avg", "exp_avg"};
};
struct TakenName : Adam {
  static constexpr std::array<const char*, 2> state_names{"exp_avg", "trained"};
};

template <class Rule>
std::vector<std::string> state_of() {
  return {Rule::state_names.begin(), Rule::state_names.end()};
}
}  // namespace

TEST_CASE("the library's rules satisfy UpdateRule, and types that are not rules do not") {
  static_assert(UpdateRule<Sgd> && UpdateRule<Adam> && UpdateRule<AdamW>);  // the others: in their own tests
  static_assert(!UpdateRule<Throwing> && !UpdateRule<NoState> && !UpdateRule<Unnamed> && !UpdateRule<int>);
  static_assert(PlainFloats<Nothing> && !PlainFloats<Integers> && !PlainFloats<Mixed> && !PlainFloats<Doubles>);
  CHECK_THROWS_WITH_AS(AdamW{.beta1 = 1.5}.validate(), "AdamW: beta1 must be in [0, 1), is 1.5", OptionError);
  CHECK_THROWS_AS(Sgd{.lr = __builtin_nan("")}.validate(), OptionError);
}

TEST_CASE("state arrays have the names of torch.optim") {
  const std::vector<std::string> adam{"exp_avg", "exp_avg_sq"};
  CHECK(state_of<Adam>() == adam);
  CHECK(state_of<AdamW>() == adam);
  CHECK(state_of<NAdam>() == adam);
  CHECK(state_of<RAdam>() == adam);
  CHECK(state_of<AMSGrad>() == std::vector<std::string>{"exp_avg", "exp_avg_sq", "max_exp_avg_sq"});
  CHECK(state_of<Sgd>() == std::vector<std::string>{"momentum_buffer"});
  CHECK(state_of<Adagrad>() == std::vector<std::string>{"sum"});
  CHECK(state_of<RMSprop>() == std::vector<std::string>{"square_avg"});
  CHECK(state_of<Adadelta>() == std::vector<std::string>{"square_avg", "acc_delta"});
}

TEST_CASE("state names must differ from each other and from the names of the other arrays") {
  static_assert(has_distinct_state_names<Adam>() && has_distinct_state_names<Sgd>());
  static_assert(!has_distinct_state_names<TwiceTheSame>() && !has_distinct_state_names<TakenName>());
}
}  // namespace tessera
