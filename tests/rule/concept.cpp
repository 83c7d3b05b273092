// What is a rule, and above all what is not.
#include <doctest/doctest.h>

#include <tessera/rule/adam.hpp>
#include <tessera/rule/adamw.hpp>
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
}  // namespace

TEST_CASE("the shipped rules conform and what is not a rule does not") {
  static_assert(UpdateRule<Sgd> && UpdateRule<Adam> && UpdateRule<AdamW>);  // the others in their own tests
  static_assert(!UpdateRule<Throwing> && !UpdateRule<NoState> && !UpdateRule<Unnamed> && !UpdateRule<int>);
  static_assert(PlainFloats<Nothing> && !PlainFloats<Integers> && !PlainFloats<Mixed> && !PlainFloats<Doubles>);
  CHECK_THROWS_WITH_AS(AdamW{.beta1 = 1.5}.validate(), "AdamW: beta1 must be in [0, 1), is 1.5", OptionError);
  CHECK_THROWS_AS(Sgd{.lr = __builtin_nan("")}.validate(), OptionError);
}
}  // namespace tessera
