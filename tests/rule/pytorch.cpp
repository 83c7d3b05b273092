// Compares the rules with PyTorch's results (pytorch.txt, written by pytorch.py, which documents the gradients).
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
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
#include "rule/pytorch_gradient.hpp"

namespace tessera {
namespace {

constexpr int elements = 16;

// An update is a few float32 operations. PyTorch may fuse or order some of them differently, so the weights drift apart
// by about one rounding per step. The bound is absolute, in units of the last place at 1. Each case prints its error.
constexpr double tolerance_units = 4;  // the largest error with torch 1.13 and g++ 12 on x86-64 is 2
constexpr double unit = 1.0 / (1 << 23);

// PyTorch's NAdam adds to the weight twice per step and stores the product of momenta as a float32: its own float32
// result differs by up to 5.6 units from its float64 result. The largest error here is 6.
constexpr double nadam_tolerance_units = 8;

using testing::pytorch_gradient;

using Settings = std::map<std::string, double>;

void take(Settings& settings, const char* name, double& value) {
  const auto found = settings.find(name);
  if (found == settings.end()) return;
  value = found->second;
  settings.erase(found);
}

Sgd configure(Sgd rule, Settings& s) {
  double nesterov = 0;
  take(s, "momentum", rule.momentum);
  take(s, "dampening", rule.dampening);
  take(s, "nesterov", nesterov);
  rule.nesterov = nesterov != 0;
  return rule;
}

Adagrad configure(Adagrad rule, Settings& s) {
  take(s, "lr_decay", rule.lr_decay);
  take(s, "initial_accumulator_value", rule.initial_accumulator_value);
  take(s, "epsilon", rule.epsilon);
  return rule;
}

RMSprop configure(RMSprop rule, Settings& s) {
  take(s, "alpha", rule.alpha);
  take(s, "epsilon", rule.epsilon);
  return rule;
}

Adadelta configure(Adadelta rule, Settings& s) {
  take(s, "rho", rule.rho);
  take(s, "epsilon", rule.epsilon);
  return rule;
}

template <class AnyAdam>
AnyAdam configure(AnyAdam rule, Settings& s) {
  take(s, "beta1", rule.beta1);
  take(s, "beta2", rule.beta2);
  take(s, "epsilon", rule.epsilon);
  if constexpr (requires { rule.momentum_decay; }) take(s, "momentum_decay", rule.momentum_decay);
  return rule;
}

struct Case {
  std::string title;
  std::string rule;
  Settings settings;
  std::map<int, std::vector<float>> weights;  // after a step
};

std::vector<Case> read_cases() {
  std::ifstream file(TESSERA_SOURCE_DIR "/tests/rule/pytorch.txt");
  REQUIRE(file.good());
  std::vector<Case> cases;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string word;
    words >> word;
    if (word == "case") {
      Case& now = cases.emplace_back();
      now.title = line;
      words >> now.rule;
      while (words >> word) {
        const auto equals = word.find('=');
        now.settings[word.substr(0, equals)] = std::strtod(word.c_str() + equals + 1, nullptr);
      }
    } else {
      auto& weights = cases.back().weights[std::stoi(word)];
      while (words >> word) weights.push_back(std::strtof(word.c_str(), nullptr));
      REQUIRE(weights.size() == elements);
    }
  }
  return cases;
}

template <class Rule>
void check_case(Case expected, double tolerance) {
  CAPTURE(expected.title);
  Rule rule = configure(Rule{}, expected.settings);
  take(expected.settings, "lr", rule.lr);
  take(expected.settings, "weight_decay", rule.weight_decay);
  REQUIRE(expected.settings.empty());  // no unknown setting remains
  rule.validate();
  std::vector<float> weight(elements);
  for (int i = 0; i < elements; ++i) weight[i] = pytorch_gradient(0, i);
  std::vector<typename Rule::State> state(elements);
  double worst = 0;
  for (int t = 1; t <= 100; ++t) {
    if (t == 51) rule.lr *= 0.25;
    const auto scalars = rule.scalars(t);
    for (int i = 0; i < elements; ++i) weight[i] = rule(weight[i], pytorch_gradient(t, i), state[i], scalars);
    if (!expected.weights.contains(t)) continue;
    for (int i = 0; i < elements; ++i) worst = std::fmax(worst, std::fabs(weight[i] - double{expected.weights[t][i]}));
  }
  CHECK(expected.weights.contains(100));
  CHECK(worst <= tolerance * unit);
  MESSAGE(expected.title << ": off by " << worst / unit << " units at most");
}

template <class Rule>
void check_all_of(const char* name, double tolerance = tolerance_units) {
  int seen = 0;
  for (const Case& one : read_cases())
    if (one.rule == name) {
      check_case<Rule>(one, tolerance);
      ++seen;
    }
  CHECK(seen >= 3);
}

}  // namespace

TEST_CASE("Sgd follows torch.optim.SGD for 100 steps") { check_all_of<Sgd>("Sgd"); }

TEST_CASE("Adam follows torch.optim.Adam for 100 steps") { check_all_of<Adam>("Adam"); }

TEST_CASE("AdamW follows torch.optim.AdamW for 100 steps") { check_all_of<AdamW>("AdamW"); }

TEST_CASE("AMSGrad follows torch.optim.Adam with amsgrad for 100 steps") { check_all_of<AMSGrad>("AMSGrad"); }

TEST_CASE("Adagrad follows torch.optim.Adagrad for 100 steps") { check_all_of<Adagrad>("Adagrad"); }

TEST_CASE("RMSprop follows torch.optim.RMSprop for 100 steps") { check_all_of<RMSprop>("RMSprop"); }

TEST_CASE("Adadelta follows torch.optim.Adadelta for 100 steps") { check_all_of<Adadelta>("Adadelta"); }

TEST_CASE("NAdam follows torch.optim.NAdam for 100 steps") { check_all_of<NAdam>("NAdam", nadam_tolerance_units); }

TEST_CASE("RAdam follows torch.optim.RAdam for 100 steps") { check_all_of<RAdam>("RAdam"); }

}  // namespace tessera
