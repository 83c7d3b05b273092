// Several rules in one optimizer: each tensor gets the bits that it gets from an optimizer with its rule alone, and
// what concerns all tensors (norm, clipping, loss scale, skipped steps, agreement) spans the rules.
#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#include "page.hpp"
#include "training.hpp"

namespace tessera {
namespace {

using doctest::Contains;
using testing::Outcome;

// Three units of tensors of two rules each, none of whose sizes are multiples of 64, and one unit of one rule.
// alone: frozen are also the tensors of all rules but this one, which has index 0 then.
Layout mixed_layout(int rules, int alone = -1) {
  Layout layout;
  const auto add = [&](const char* name, index_t elements, int rule, bool frozen = false) {
    rule %= rules;
    layout.add_tensor(name, {elements},
                      {.frozen = frozen || (alone >= 0 && rule != alone), .rule = alone >= 0 ? 0 : rule});
  };
  for (const char* unit : {"a", "b", "c"}) {
    layout.add_unit(unit);
    add("weight", 301, 0);
    add("bias", 37, 1);
    add("running", 9, 0, true);
    add("scale", 130, 2);
    add("empty", 0, 1);
  }
  layout.add_unit("head");
  add("weight", 70, 1);
  return layout;
}

template <class Optimizer, class Rules>
Outcome train(const Layout& layout, const Rules& rules, int world, const Options& options) {
  Outcome outcome;
  run_ranks(world, [&](Local& comm) {
    Optimizer optimizer(comm, layout, {}, rules, options);
    optimizer.initialize(testing::made_up_weight);
    const Outcome mine = testing::run_steps(optimizer, comm.rank(), world, 3, options.micro_batches);
    CHECK(optimizer.bytes() == optimizer.plan().bytes());
    CHECK(optimizer.peak_bytes() == optimizer.plan().bytes());
    if (comm.rank() == 0) outcome = mine;
  });
  return outcome;
}

// The parameters of the tensors of `rule` in `outcome`, one after another.
std::vector<float> of_rule(int rule, int rules, const Outcome& outcome) {
  const Layout layout = mixed_layout(rules);
  std::vector<float> found;
  std::size_t next = 0;
  for (const Tensor t : layout.tensors())
    for (index_t i = 0; i < layout.elements(t); ++i, ++next)
      if (!layout.frozen(t) && layout.rule(t) == rule) found.push_back(outcome.parameters[next]);
  CHECK(next == outcome.parameters.size());
  return found;
}

using LionAndAdamW = Rules<Lion, AdamW>;
const LionAndAdamW lion_and_adamw{Lion{.lr = 0.01f}, AdamW{.lr = 0.02f}};

// [rules]
tessera::Layout two_rules() {
  tessera::Layout layout;
  layout.add_unit("block");
  layout.add_tensor("weight", {768, 768}, {.rule = 0});
  layout.add_tensor("norm", {768}, {.rule = 1});
  return layout;
}

void set_rates(tessera::Local& comm) {
  using tessera::AdamW, tessera::Lion;
  tessera::Sharded<tessera::Rules<Lion, AdamW>, tessera::Stage2, tessera::Bf16> optimizer(
      comm, two_rules(), {}, {Lion{.lr = 1e-4f}, AdamW{.lr = 3e-4f}});
  optimizer.rule<AdamW>().lr = 1e-4f;  // between steps, on every rank
}
// [end]

TEST_CASE("docs/rules.md shows an optimizer of two rules that runs") {
  CHECK(testing::page_shows("docs/rules.md", "tests/sharded_rules.cpp", "rules"));
  run_ranks(2, [](Local& comm) { set_rates(comm); });
  CHECK(two_rules().offset(two_rules().find("block.norm")) == 768 * 768);
}

TEST_CASE("the tensors of each rule get the bits of an optimizer with that rule alone") {
  const Options options{.micro_batches = 2, .bucket_bytes = 900};
  const Outcome both = train<Sharded<LionAndAdamW, Stage2, Bf16>>(mixed_layout(2), lion_and_adamw, 3, options);
  const Outcome lion = train<Sharded<Lion, Stage0, Bf16>>(mixed_layout(2, 0), Lion{.lr = 0.01f}, 3, options);
  const Outcome adamw = train<Sharded<AdamW, Stage0, Bf16>>(mixed_layout(2, 1), AdamW{.lr = 0.02f}, 3, options);
  CHECK(of_rule(0, 2, both) == of_rule(0, 2, lion));
  CHECK(of_rule(1, 2, both) == of_rule(1, 2, adamw));
}

TEST_CASE("several rules have the same bits at every stage and world size, also with clipping and accumulation") {
  std::vector<Outcome> outcomes;
  for (const int world : {1, 2, 4}) {
    const Options options{
        .micro_batches = 4 / world, .clip_norm = 0.5, .bucket_bytes = 900, .group_size = max(world / 2, 1)};
    const auto add = [&]<class Stage>(Stage) {
      outcomes.push_back(train<Sharded<LionAndAdamW, Stage, Bf16>>(mixed_layout(2), lion_and_adamw, world, options));
    };
    add(Stage2{});
    add(Stage3{});
#ifndef TESSERA_FEW_POLICIES
    add(Stage0{});
    add(Stage1{});
    add(StageHybrid{});
    add(StageHybridState{});
#endif
  }
  CHECK(outcomes.front().norms.front() > 0.5);  // so clipping changes the steps
  for (const Outcome& outcome : outcomes) CHECK(outcome == outcomes.front());
}

using Three = Rules<Sgd, Lamb, ScheduleFreeAdamW>;
const Three three{Sgd{.lr = 0.1f}, Lamb{.lr = 0.05f}, ScheduleFreeAdamW{.lr = 0.03f}};

TEST_CASE("rules that need tensor norms or evaluation weights mix with others") {
  const Options options{.bucket_bytes = 900};
  for (const int world : {1, 3}) {
    const auto sharded = train<Sharded<Three, Stage3, Fp32>>(mixed_layout(3), three, world, options);
    const auto whole = train<Sharded<Three, Stage0, Fp32>>(mixed_layout(3), three, world, options);
    CHECK(sharded == whole);
    const auto alone = [&](int rule, const auto& value) {
      using Rule = std::remove_cvref_t<decltype(value)>;
      const auto outcome = train<Sharded<Rule, Stage0, Fp32>>(mixed_layout(3, rule), value, world, options);
      CHECK(of_rule(rule, 3, sharded) == of_rule(rule, 3, outcome));
    };
    alone(0, Sgd{.lr = 0.1f});
    alone(1, Lamb{.lr = 0.05f});
    alone(2, ScheduleFreeAdamW{.lr = 0.03f});
  }
}

TEST_CASE("an evaluation changes the tensors whose rule has other weights to evaluate, and restores them") {
  run_ranks(2, [](Local& comm) {
    Sharded<Three, Stage3, Fp32> optimizer(comm, mixed_layout(3), {}, three, {.bucket_bytes = 900});
    optimizer.initialize(testing::made_up_weight);
    for (int step = 0; step < 2; ++step) {
      testing::run_pass(optimizer, step, comm.rank());
      static_cast<void>(optimizer.step());
    }
    Outcome trained, evaluated;
    trained.parameters = testing::parameters_of(optimizer);
    optimizer.begin_evaluation();
    evaluated.parameters = testing::parameters_of(optimizer);
    for (const int rule : {0, 1}) CHECK(of_rule(rule, 3, evaluated) == of_rule(rule, 3, trained));
    CHECK(of_rule(2, 3, evaluated) != of_rule(2, 3, trained));
    std::map<std::string, int> arrays;
    optimizer.for_each_held_slice([&](const auto& slice) {
      if (std::string(slice.array) == "trained") CHECK(optimizer.layout().rule(slice.tensor) == 2);
      ++arrays[slice.array];
    });
    CHECK(arrays["trained"] > 0);
    optimizer.end_evaluation();
    CHECK(testing::parameters_of(optimizer) == trained.parameters);
  });
}

TEST_CASE("a rank holds only the state that each tensor's rule needs, and the plan has a row for each rule") {
  Layout layout;
  layout.add_unit("u");
  layout.add_tensor("matrix", {64 * 40}, {.rule = 0});
  layout.add_tensor("vector", {64 * 8}, {.group = 1, .rule = 1});
  using Optimizer = Sharded<LionAndAdamW, Stage2, Bf16>;
  constexpr index_t float_bytes = 4;
  const Plan plan = Optimizer::plan(layout, 4);
  CHECK(plan.optimizer_state.bytes() == 64 * 10 * float_bytes);
  CHECK(plan.of_rule(0).optimizer_state.bytes() == plan.optimizer_state.bytes());
  CHECK(plan.of_rule(1).optimizer_state.bytes() == 2 * 64 * 2 * float_bytes);
  CHECK(std::string(plan.of_rule(1).optimizer_state.name) == "optimizer state of rule 1");
  CHECK(plan.of_rule(2).optimizer_state.bytes() == 0);
  CHECK(plan.step_rules.elements == 1);
  CHECK(plan.of_rule(1).step_rules.elements == 2);
  index_t sum = 0;
  for (const Allocation& allocation : plan.allocations()) sum += allocation.bytes();
  CHECK(sum == plan.bytes());
  static_assert([] {
    Layout small;
    small.add_unit("u");
    small.add_tensor("w", {10});
    small.add_tensor("v", {10}, {.rule = 1});
    return Optimizer::plan(small, 2).of_rule(1).optimizer_state.elements == 64;
  }());
}

TEST_CASE("a bucket is one reduce-scatter and one all-gather, whatever the number of rules") {
  run_ranks(2, [](Local& local) {
    Recording<Local> comm(local);
    Sharded<LionAndAdamW, Stage2, Bf16, Recording<Local>> optimizer(comm, mixed_layout(2), {}, lion_and_adamw,
                                                                    {.bucket_bytes = 900});
    optimizer.initialize(testing::made_up_weight);
    comm.clear();
    testing::run_pass(optimizer, 0, comm.rank());
    static_cast<void>(optimizer.step());
    std::map<std::string, int> calls;
    index_t reduced = 0;
    for (const Record& record : comm.log()) {
      ++calls[name(record.kind)];
      if (record.kind == Collective::reduce_scatter) reduced += record.in_elements;
    }
    CHECK(calls["reduce_scatter"] == 4);  // buckets of one unit
    CHECK(calls["all_gather"] == 4);
    CHECK(calls["all_reduce"] == 1);
    CHECK(reduced == 3 * (301 + 130 + 37) + 70);  // a unit has no padding within the space of a rule
  });
}

TEST_CASE("an overflow in a tensor of one rule skips the step of all rules, and the report names the tensor") {
  run_ranks(2, [](Local& comm) {
    Sharded<LionAndAdamW, Stage3, Fp16> optimizer(comm, mixed_layout(2), {}, lion_and_adamw, {.bucket_bytes = 900});
    optimizer.initialize(testing::made_up_weight);
    const auto before = testing::parameters_of(optimizer);
    const Tensor bad = optimizer.layout().find("b.bias");
    REQUIRE(optimizer.layout().rule(bad) == 1);
    testing::run_pass(optimizer, 0, comm.rank(), [&](index_t, index_t leaf, Tensor t, index_t i) {
      return t == bad && i == 36 && leaf == 1 ? std::numeric_limits<float>::infinity() : 1e-3f;
    });
    const auto report = optimizer.step();
    CHECK(!report.applied());
    CHECK(std::isnan(report.gradient_norm()));
    CHECK(report.first_non_finite() == "b.bias");
    CHECK(testing::parameters_of(optimizer) == before);
  });
}

TEST_CASE("hyperparameters are set per rule and group, and ranks that differ in one learn which") {
  std::mutex mutex;
  std::vector<std::string> errors;
  run_ranks(2, [&](Local& comm) {
    Layout layout;
    layout.add_unit("u");
    layout.add_tensor("w", {100}, {.rule = 0});
    layout.add_tensor("v", {100}, {.rule = 1});
    layout.add_tensor("x", {100}, {.group = 1, .rule = 1});
    using Optimizer = Sharded<LionAndAdamW, Stage1, Fp32>;
    Optimizer optimizer(comm, layout, {}, {std::vector<Lion>{{}}, std::vector<AdamW>{AdamW{.lr = 1}, AdamW{.lr = 2}}});
    optimizer.initialize(testing::made_up_weight);
    CHECK(optimizer.rule<AdamW>(1).lr == 2);
    CHECK_THROWS_WITH_AS(optimizer.rule<Lion>(1), "there is no hyperparameter group 1: 1 rules were given",
                         OptionError);
    optimizer.rule<AdamW>(1).lr = static_cast<float>(1 + comm.rank());
    testing::run_pass(optimizer, 0, comm.rank());
    try {
      static_cast<void>(optimizer.step());
    } catch (const AgreementError& error) {
      const std::scoped_lock lock(mutex);
      errors.push_back(error.what());
    }
  });
  REQUIRE(errors.size() == 2);
  for (const std::string& error : errors)
    CHECK(error.find("AdamW.lr of group 1: rank 0 has 1, rank 1 has 2") != std::string::npos);
}

TEST_CASE("a layout whose tensors have rules or groups that were not given is refused") {
  run_ranks(1, [](Local& comm) {
    using Optimizer = Sharded<LionAndAdamW, Stage1, Fp32>;
    Layout layout;
    layout.add_unit("u");
    layout.add_tensor("w", {10}, {.rule = 2});
    CHECK_THROWS_WITH_AS(Optimizer(comm, layout, {}, lion_and_adamw),
                         "tensor 'u.w' has rule 2, but the optimizer has rules 0 to 1: Rules<Lion, AdamW>",
                         OptionError);
    using One = Sharded<AdamW, Stage1, Fp32>;
    CHECK_THROWS_WITH_AS(One(comm, layout, {}, AdamW{}),
                         "tensor 'u.w' has rule 2, but the optimizer has one rule, AdamW", OptionError);
    Layout groups;
    groups.add_unit("u");
    groups.add_tensor("w", {10}, {.group = 1, .rule = 1});
    CHECK_THROWS_WITH_AS(Optimizer(comm, groups, {}, lion_and_adamw),
                         Contains("tensor 'u.w' is of hyperparameter group 1, but 1 rules were given"), OptionError);
  });
  Layout layout;
  layout.add_unit("u");
  CHECK_THROWS_WITH_AS(layout.add_tensor("w", {10}, {.rule = 4}), Contains("tensor 'w' has rule 4, which is not one of 0 to 3"), LayoutError);
}

TEST_CASE("the arrays of rules without tensors are empty") {
  Layout layout;
  layout.add_unit("u");
  layout.add_tensor("w", {100});
  layout.add_tensor("frozen", {10}, {.frozen = true, .rule = 3});
  run_ranks(2, [&](Local& comm) {
    using Four = Rules<Lion, AdamW, Sgd, Adam>;
    Sharded<Four, Stage3, Fp32> optimizer(comm, layout, {}, Four{Lion{}, AdamW{}, Sgd{}, Adam{}});
    optimizer.initialize(testing::made_up_weight);
    std::map<std::string, index_t> elements;
    optimizer.for_each_owned_slice([&](const auto& slice) { elements[slice.array] += std::ssize(slice.elements); });
    CHECK(elements.size() == 2);
    CHECK(elements["exp_avg"] == (comm.rank() == 0 ? 64 : 36));
  });
}

TEST_CASE("a rule without tensors and an optimizer whose layout uses one rule work") {
  Layout layout;
  layout.add_unit("u");
  layout.add_tensor("w", {100});
  const Options options{.bucket_bytes = 900};
  const Outcome both = train<Sharded<LionAndAdamW, Stage2, Bf16>>(layout, lion_and_adamw, 2, options);
  const Outcome lion = train<Sharded<Lion, Stage0, Bf16>>(layout, Lion{.lr = 0.01f}, 2, options);
  CHECK(both == lion);
}

// The arrays of a rank's slices, by tensor and array, over all ranks.
using Files = std::map<std::string, std::vector<std::byte>>;

TEST_CASE("a run with several rules is saved at one stage and world size and continues at another") {
  std::mutex mutex;
  Files files;
  ControlState<Three> control;
  Outcome undisturbed, resumed;
  constexpr index_t leaves = 3;
  const auto file_of = [](const Layout& layout, const auto& slice) {
    return layout.name(slice.tensor) + "/" + slice.array;
  };
  const auto step = [](auto& optimizer, Local& comm, int s) {
    optimizer.begin_step(leaves);
    for (int leaf = comm.rank(); leaf < (comm.size() == 1 ? leaves : comm.size()); leaf += comm.size())
      testing::run_pass(optimizer, s, leaf);
    static_cast<void>(optimizer.step());
  };
  run_ranks(3, [&](Local& comm) {
    Sharded<Three, Stage3, Fp32> optimizer(comm, mixed_layout(3), {}, three, {.bucket_bytes = 900});
    optimizer.initialize(testing::made_up_weight);
    step(optimizer, comm, 0);
    optimizer.for_each_owned_slice([&](const auto& slice) {
      const std::scoped_lock lock(mutex);
      auto& file = files[file_of(optimizer.layout(), slice)];
      const auto bytes = std::as_bytes(slice.elements);
      file.resize(to_size(optimizer.layout().elements(slice.tensor)) * sizeof(float));
      std::memcpy(file.data() + to_size(slice.first) * sizeof(float), bytes.data(), bytes.size());
    });
    if (comm.rank() == 0) control = optimizer.control_state();
    else static_cast<void>(optimizer.control_state());
    step(optimizer, comm, 1);
    const auto parameters = testing::parameters_of(optimizer);
    if (comm.rank() == 0) undisturbed.parameters = parameters;
  });
  CHECK(files.contains("a.scale/exp_avg_sq"));
  CHECK(files.contains("a.bias/exp_avg"));
  CHECK(!files.contains("a.weight/exp_avg"));
  run_ranks(1, [&](Local& comm) {
    Sharded<Three, Stage0, Fp32> optimizer(comm, mixed_layout(3), {}, three,
                                           {.micro_batches = leaves, .bucket_bytes = 2000});
    optimizer.set_control_state(control);
    optimizer.load_slices([&](const auto& slice) {
      const auto& file = files.at(file_of(optimizer.layout(), slice));
      const auto bytes = std::as_writable_bytes(slice.elements);
      std::memcpy(bytes.data(), file.data() + to_size(slice.first) * sizeof(float), bytes.size());
    });
    step(optimizer, comm, 1);
    resumed.parameters = testing::parameters_of(optimizer);
  });
  CHECK(resumed == undisturbed);
}

}  // namespace
}  // namespace tessera
