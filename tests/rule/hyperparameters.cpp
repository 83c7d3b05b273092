#include <doctest/doctest.h>

#include <string>
#include <type_traits>
#include <vector>

#include <tessera/rule/adamw.hpp>
#include <tessera/rule/hyperparameters.hpp>
#include <tessera/rule/schedule.hpp>
#include <tessera/rule/scheduled.hpp>
#include <tessera/rule/sgd.hpp>

namespace tessera {
namespace {

struct Named {
  std::string name;
  std::size_t index;
  double number;
  friend bool operator==(const Named&, const Named&) = default;
};

template <class Rule>
std::vector<Named> all_of(const Rule& rule) {
  std::vector<Named> all;
  rule::for_each_hyperparameter(rule, [&](const char* name, std::size_t index, auto number) {
    all.push_back({name, index, static_cast<double>(number)});
  });
  return all;
}

TEST_CASE("every member of a rule is visited by name, in declaration order") {
  CHECK(all_of(AdamW{.lr = 0.5, .epsilon = 2}) == std::vector<Named>{{"lr", 0, 0.5},
                                                                       {"beta1", 1, 0.9},
                                                                       {"beta2", 2, 0.999},
                                                                       {"epsilon", 3, 2},
                                                                       {"weight_decay", 4, 0.01}});
  CHECK(all_of(Sgd{.nesterov = true}).back() == Named{"nesterov", 4, 1});
}

TEST_CASE("the members of a nested rule and of its schedule are visited too") {
  const auto all = all_of(Scheduled<Sgd, LinearSchedule>{{.lr = 7}, {.peak = 3, .steps = 9}});
  REQUIRE(all.size() == 9);
  CHECK(all[0] == Named{"lr", 0, 7});
  CHECK(all[5] == Named{"peak", 0, 3});
  CHECK(all[7] == Named{"steps", 2, 9});
}

enum class Kind : short { plain = 3, other };

struct OfAUser {
  std::array<float, 3> betas{1, 2, 3};
  bool on = true;
  struct Inner {
    char padded = 4;
    double number = 5;
  } inner;
  Kind kind = Kind::other;
};

TEST_CASE("a user's rule needs no names: numbers in arrays, structs, flags and enumerations have an index") {
  const std::string name = "hyperparameter";
  CHECK(all_of(OfAUser{}) == std::vector<Named>{{name, 0, 1},
                                                 {name, 1, 2},
                                                 {name, 2, 3},
                                                 {name, 1, 1},
                                                 {name, 0, 4},
                                                 {name, 1, 5},
                                                 {name, 3, 4}});
}

struct Nothing {};

TEST_CASE("a rule without hyperparameters has none to visit") { CHECK(all_of(Nothing{}).empty()); }

TEST_CASE("a visitor may change the numbers of a rule that is not const, enumerations too") {
  OfAUser rule;
  rule::for_each_hyperparameter(rule, [](const char*, std::size_t, auto& number) {
    number = static_cast<std::remove_reference_t<decltype(number)>>(0);
  });
  for (const Named& each : all_of(rule)) CHECK(each.number == 0);
  CHECK(static_cast<short>(rule.kind) == 0);
}

}  // namespace
}  // namespace tessera
