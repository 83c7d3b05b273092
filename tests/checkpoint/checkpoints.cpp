// A run that is saved and resumed, at any stage and world size, and what happens to files that are damaged, missing or
// of another model.
#include <doctest/doctest.h>

#include <barrier>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <tessera/checkpoint.hpp>

#include "page.hpp"
#include "scratch.hpp"
#include "training.hpp"

namespace {

template <class Optimizer>
void run_step(Optimizer& optimizer, int step) {
  tessera::testing::run_pass(optimizer, step, 0);
  static_cast<void>(optimizer.step());
}

// [train]
void train(tessera::Local& comm, const tessera::Layout& layout, const std::string& folder, int batches) {
  tessera::Sharded<tessera::AdamW, tessera::Stage3, tessera::Bf16> optimizer(comm, layout, {}, tessera::AdamW{});
  tessera::Checkpoints checkpoints(comm, optimizer, folder, {.keep = 3});
  int batch = 0;
  if (checkpoints.names().empty())
    optimizer.initialize([](tessera::Tensor, tessera::index_t) { return 0.02f; });
  else
    batch = checkpoints.load().at("batch");
  for (; batch < batches; ++batch) {
    run_step(optimizer, batch);
    if (batch % 2 == 1) checkpoints.save({{"batch", batch + 1}});
  }
}
// [end]

}  // namespace

namespace tessera {
namespace {

using doctest::Contains;
using testing::content;
using testing::ragged_layout;
using testing::Scratch;

constexpr index_t leaves = 4;  // micro-batches of each step, on any number of ranks

template <class Optimizer, class Comm>
void run_step(Optimizer& optimizer, const Comm& comm, int step) {
  optimizer.begin_step(leaves);
  for (index_t leaf = comm.rank(); leaf < round_up(leaves, index_t{comm.size()}); leaf += comm.size())
    testing::run_pass(optimizer, step, leaf);
  static_cast<void>(optimizer.step());
}

Options options_for(int world, index_t bucket_bytes) {
  return {.micro_batches = static_cast<int>(ceil_div(leaves, index_t{world})), .clip_norm = 0.5,
          .bucket_bytes = bucket_bytes, .loss_scale = {.initial = 1024, .growth_interval = 2}, .seed = 9};
}

// Two steps, a checkpoint, and two more steps.
template <class Optimizer, class Rules>
std::vector<float> saved(const std::string& folder, int world, const Rules& rules, const Layout& layout) {
  std::vector<float> parameters;
  run_ranks(world, [&](Local& comm) {
    Optimizer optimizer(comm, layout, {}, rules, options_for(world, 700));
    optimizer.initialize(testing::made_up_weight);
    Checkpoints checkpoints(comm, optimizer, folder);
    for (int step = 0; step < 2; ++step) run_step(optimizer, comm, step);
    checkpoints.save({{"position", 1234}, {"name", "as the caller likes"}});
    for (int step = 2; step < 4; ++step) run_step(optimizer, comm, step);
    const auto mine = testing::parameters_of(optimizer);
    if (comm.rank() == 0) parameters = mine;
  });
  return parameters;
}

// The two steps after the checkpoint.
template <class Optimizer, class Rules>
std::vector<float> resumed(const std::string& folder, int world, const Rules& rules, const Layout& layout) {
  std::vector<float> parameters;
  run_ranks(world, [&](Local& comm) {
    Options options = options_for(world, 2000);
    options.seed = 1;  // the checkpoint has the seed and all hyperparameters of the run
    options.clip_norm = 100;
    Optimizer optimizer(comm, layout, {}, rules, options);
    Checkpoints checkpoints(comm, optimizer, folder);
    const auto user = checkpoints.load();
    CHECK(user.at("position") == 1234);
    for (int step = 2; step < 4; ++step) run_step(optimizer, comm, step);
    const auto mine = testing::parameters_of(optimizer);
    if (comm.rank() == 0) parameters = mine;
  });
  return parameters;
}

TEST_CASE("the loop of docs/checkpoint.md resumes where it was stopped") {
  CHECK(testing::page_shows("docs/checkpoint.md", "tests/checkpoint/checkpoints.cpp", "train"));
  const Scratch scratch;
  const Layout layout = [] {
    Layout small;
    small.add_unit("u");
    small.add_tensor("w", {100});
    return small;
  }();
  run_ranks(2, [&](Local& comm) { train(comm, layout, scratch / "run", 5); });
  run_ranks(3, [&](Local& comm) { train(comm, layout, scratch / "run", 8); });
  run_ranks(1, [&](Local& comm) {
    Sharded<AdamW, Stage0, Bf16> optimizer(comm, layout, {}, AdamW{});
    Checkpoints checkpoints(comm, optimizer, scratch / "run");
    CHECK(checkpoints.names() == std::vector<std::string>{"step-00000008", "step-00000006", "step-00000004"});
    CHECK(checkpoints.load().at("batch") == 8);
    CHECK(optimizer.steps() == 8);
  });
}

TEST_CASE("a run resumed at another stage, world size and bucket size has the bits of the undisturbed run") {
  const Scratch scratch;
  const Layout layout = ragged_layout();
  const std::vector<Adam> rules{Adam{.lr = 0.01f}, Adam{.lr = 0.02f}}, others(2);
  const auto expected = saved<Sharded<Adam, Stage3, Fp16>>(scratch / "run", 3, rules, layout);
  CHECK(resumed<Sharded<Adam, Stage1, Fp16>>(scratch / "run", 2, others, layout) == expected);
  CHECK(resumed<Sharded<Adam, Stage0, Fp16>>(scratch / "run", 1, others, layout) == expected);
#ifndef TESSERA_FEW_POLICIES
  CHECK(resumed<Sharded<Adam, StageHybrid, Fp16>>(scratch / "run", 4, others, layout) == expected);
  CHECK(saved<Sharded<Adam, Stage0, Fp16>>(scratch / "whole", 2, rules, layout) == expected);
  CHECK(resumed<Sharded<Adam, Stage3, Fp16>>(scratch / "whole", 5, others, layout) == expected);
#endif
}

TEST_CASE("precisions with other master weights, rules with norms, and several rules are resumed to the bit") {
  const Scratch scratch;
  const auto check = [&]<class Rule, class Precision>(std::type_identity<Rule>, std::type_identity<Precision>,
                                                      const auto& rules, const Layout& layout) {
    const std::string folder = scratch / (rule::name<Rule>() + Precision::name);
    const auto expected = saved<Sharded<Rule, Stage3, Precision>>(folder, 2, rules, layout);
    CHECK(resumed<Sharded<Rule, Stage1, Precision>>(folder, 3, rules, layout) == expected);
  };
  const Layout layout = ragged_layout();
  check(std::type_identity<Lamb>{}, std::type_identity<Bf16Remainder>{}, std::vector<Lamb>(2), layout);
#ifndef TESSERA_FEW_POLICIES
  check(std::type_identity<AdamW>{}, std::type_identity<Bf16Stochastic>{}, std::vector<AdamW>(2), layout);
  Layout two;
  two.add_unit("a");
  two.add_tensor("w", {301});
  two.add_tensor("b", {70}, {.rule = 1});
  two.add_tensor("fixed", {9}, {.frozen = true});
  using Both = Rules<Lion, AdamW>;
  check(std::type_identity<Both>{}, std::type_identity<Bf16>{}, Both{Lion{}, AdamW{}}, two);
#endif
}

TEST_CASE("a run saved during an evaluation is resumed in it") {
  const Scratch scratch;
  const Layout layout = ragged_layout();
  const std::vector<ScheduleFreeAdamW> rules(2, ScheduleFreeAdamW{.lr = 0.05f});
  std::vector<float> evaluated, expected, found;
  run_ranks(2, [&](Local& comm) {
    Sharded<ScheduleFreeAdamW, Stage3, Fp32> optimizer(comm, layout, {}, rules, options_for(2, 700));
    optimizer.initialize(testing::made_up_weight);
    Checkpoints checkpoints(comm, optimizer, scratch / "run");
    run_step(optimizer, comm, 0);
    optimizer.begin_evaluation();
    checkpoints.save();
    const auto mine = testing::parameters_of(optimizer);
    optimizer.end_evaluation();
    run_step(optimizer, comm, 1);
    const auto after = testing::parameters_of(optimizer);
    if (comm.rank() == 0) evaluated = mine, expected = after;
  });
  run_ranks(3, [&](Local& comm) {
    Sharded<ScheduleFreeAdamW, Stage1, Fp32> optimizer(comm, layout, {}, rules, options_for(3, 700));
    Checkpoints checkpoints(comm, optimizer, scratch / "run");
    checkpoints.load();
    CHECK(testing::parameters_of(optimizer) == evaluated);
    optimizer.end_evaluation();
    run_step(optimizer, comm, 1);
    const auto after = testing::parameters_of(optimizer);
    if (comm.rank() == 0) found = after;
  });
  CHECK(found == expected);
}

// A small optimizer on one rank.
struct Small {
  Self comm;
  Sharded<AdamW, Stage1, Bf16, Self> optimizer;
  Checkpoints<AdamW, Stage1, Bf16, Self> checkpoints;

  explicit Small(const std::string& folder, const Layout& layout = of(20), const CheckpointOptions& options = {})
      : optimizer(comm, layout, {}, AdamW{}), checkpoints(comm, optimizer, folder, options) {
    optimizer.initialize(testing::made_up_weight);
  }

  static Layout of(index_t elements) {
    Layout layout;
    layout.add_unit("u");
    layout.add_tensor("w", {elements});
    return layout;
  }
  void step(int number) {
    testing::run_pass(optimizer, number, 0);
    static_cast<void>(optimizer.step());
  }
};

TEST_CASE("any listed checkpoint can be loaded, and the oldest ones are removed") {
  const Scratch scratch;
  Small small(scratch / "run", Small::of(20), {.keep = 2});
  CHECK(small.checkpoints.names().empty());
  CHECK_THROWS_WITH_AS(small.checkpoints.load(), Contains("/run: there is no checkpoint"), CheckpointError);
  std::vector<std::vector<float>> after;
  for (int step = 0; step < 3; ++step) {
    small.step(step);
    small.checkpoints.save({{"step", step}});
    after.push_back(testing::parameters_of(small.optimizer));
  }
  CHECK(small.checkpoints.names() == std::vector<std::string>{"step-00000003", "step-00000002"});
  CHECK(small.checkpoints.load("step-00000002").at("step") == 1);
  CHECK(testing::parameters_of(small.optimizer) == after[1]);
  CHECK(small.optimizer.steps() == 2);
  CHECK(small.checkpoints.load().at("step") == 2);
  CHECK(testing::parameters_of(small.optimizer) == after[2]);
  CHECK_THROWS_WITH_AS(small.checkpoints.load("step-00000001"), Contains("cannot open the file"), CheckpointError);
  CHECK_THROWS_WITH_AS(small.checkpoints.load("../run"), Contains("is not the name of a checkpoint"), CheckpointError);
  CHECK_THROWS_AS(Small(scratch / "run", Small::of(20), {.keep = 0}), OptionError);
}

TEST_CASE("what does not fit the optimizer is named, and the optimizer stays as it was") {
  const Scratch scratch;
  Small small(scratch / "run");
  small.step(0);
  small.checkpoints.save();
  const auto refused = [&](auto& optimizer, auto& comm, const char* why) {
    Checkpoints checkpoints(comm, optimizer, scratch / "run");
    const auto before = testing::parameters_of(optimizer);
    CHECK_THROWS_WITH_AS(checkpoints.load(), Contains(why), CheckpointError);
    CHECK(testing::parameters_of(optimizer) == before);
    CHECK(optimizer.steps() == 0);
  };
  Small longer(scratch / "run", Small::of(21));
  refused(longer.optimizer, longer.comm, "tensor 'u.w' has shape [20] in the checkpoint, and [21] in the layout");
  Self comm;
  Sharded<AdamW, Stage1, Fp32, Self> fp32(comm, Small::of(20), {}, AdamW{});
  fp32.initialize(testing::made_up_weight);
  refused(fp32, comm, "precision is \"Bf16\" in the checkpoint, and \"Fp32\" here");
  Sharded<Lion, Stage1, Bf16, Self> lion(comm, Small::of(20), {}, Lion{});
  lion.initialize(testing::made_up_weight);
  refused(lion, comm, "rules is");
}

TEST_CASE("what could be saved and not loaded is refused when it is saved") {
  const Scratch scratch;
  Layout ambiguous;  // both tensors are "a.b.c"
  ambiguous.add_unit("a");
  ambiguous.add_tensor("b.c", {4});
  ambiguous.add_unit("a.b");
  ambiguous.add_tensor("c", {4});
  Small two(scratch / "two", ambiguous);
  CHECK_THROWS_WITH_AS(two.checkpoints.save(), Contains("there are two tensors 'a.b.c'"), CheckpointError);
  Small small(scratch / "run");
  small.checkpoints.save({{"good", 1}});
  CHECK_THROWS_WITH_AS(small.checkpoints.save({{"bad", "\xff"}}), Contains("/run: does not have the format"),
                       CheckpointError);
  const std::string large(100'000'000, 'x');
  CHECK_THROWS_WITH_AS(small.checkpoints.save({{"large", large}}), Contains("more than the limit of 100 MB"),
                       CheckpointError);
  CHECK(small.checkpoints.names().size() == 1);
  CHECK(small.checkpoints.load().at("good") == 1);
}

TEST_CASE("a save in the middle of a step is refused") {
  const Scratch scratch;
  Small small(scratch / "run");
  auto pass = small.optimizer.backward();
  CHECK_THROWS_AS(small.checkpoints.save(), UsageError);
  CHECK(!std::filesystem::exists(scratch / "run"));
}

TEST_CASE("if a rank cannot write, all ranks learn of it, and the earlier checkpoint stays") {
  const Scratch scratch;
  const Layout layout = ragged_layout();
  std::mutex mutex;
  std::vector<std::string> errors(3);
  run_ranks(3, [&](Local& comm) {
    Sharded<AdamW, Stage3, Fp32> optimizer(comm, layout, {}, std::vector<AdamW>(2));
    optimizer.initialize(testing::made_up_weight);
    Checkpoints checkpoints(comm, optimizer, scratch / "run");
    checkpoints.save({{"round", 1}});
    if (comm.rank() == 1)
      std::filesystem::create_directories(scratch / "run/partial/rank-00001.safetensors");
    try {
      checkpoints.save({{"round", 2}});
    } catch (const PeerError& error) {
      const std::scoped_lock lock(mutex);
      errors[to_size(comm.rank())] = message({"peer: ", error.what()});
    } catch (const CheckpointError& error) {
      const std::scoped_lock lock(mutex);
      errors[to_size(comm.rank())] = message({"own: ", error.what()});
    }
    CHECK(checkpoints.load().at("round") == 1);
    if (comm.rank() == 1) std::filesystem::remove_all(scratch / "run/partial/rank-00001.safetensors");
    checkpoints.save({{"round", 3}});
    CHECK(checkpoints.load().at("round") == 3);
  });
  CHECK(errors[1].find("own: " + (scratch / "run/partial/rank-00001.safetensors: cannot create the file")) == 0);
  for (const int rank : {0, 2})
    CHECK(errors[to_size(rank)].find("rank 1 could not write its part of the checkpoint") != std::string::npos);
}

TEST_CASE("if a rank finds damage, all ranks learn of it, and a later load of a good checkpoint works") {
  const Scratch scratch;
  const Layout layout = ragged_layout();
  std::barrier damaged(2);
  run_ranks(2, [&](Local& comm) {
    Sharded<AdamW, Stage3, Fp32> optimizer(comm, layout, {}, std::vector<AdamW>(2), options_for(2, 700));
    optimizer.initialize(testing::made_up_weight);
    Checkpoints checkpoints(comm, optimizer, scratch / "run");
    checkpoints.save();
    const auto before = testing::parameters_of(optimizer);
    run_step(optimizer, comm, 0);
    checkpoints.save();
    if (comm.rank() == 1) {
      const std::string path = scratch / "run/step-00000001/rank-00001.safetensors";
      std::string text = content(path);
      text.back() ^= 1;
      testing::write(path, text);
    }
    damaged.arrive_and_wait();
    try {
      checkpoints.load();
      FAIL_CHECK("loaded a damaged checkpoint");
    } catch (const CheckpointError& error) {
      CHECK(comm.rank() == 1);
      CHECK(std::string(error.what()).find("is damaged") != std::string::npos);
    } catch (const PeerError&) {
      CHECK(comm.rank() == 0);
    }
    CHECK_THROWS_WITH_AS(static_cast<void>(optimizer.gather(Unit{0})), Contains("weights"), UsageError);
    checkpoints.load("step-00000000");
    CHECK(testing::parameters_of(optimizer) == before);
  });
}

// Calls load() after `change` of each file of the checkpoint, which must throw, or have no effect.
template <class Change>
void for_each_damage(const std::string& folder, Small& small, const std::vector<float>& expected, index_t stride,
                     const Change& change) {
  index_t refused = 0;
  const std::string files[]{folder + "/checkpoints.json", folder + "/step-00000001/manifest.json",
                            folder + "/step-00000001/rank-00000.safetensors"};
  for (const std::string& path : files) {
    const std::string good = content(path);
    REQUIRE(good.size() > 50);
    for (index_t k = 0;; k += stride) {
      const auto bad = change(good, k);
      if (!bad) break;
      testing::write(path, *bad);
      try {
        small.checkpoints.load();
        CHECK(testing::parameters_of(small.optimizer) == expected);
      } catch (const CheckpointError& error) {
        ++refused;
        if (std::string(error.what()).find(folder) != 0) FAIL_CHECK(error.what());
      }
    }
    testing::write(path, good);
  }
  CHECK(refused > 100 / stride);
  small.checkpoints.load();
  CHECK(testing::parameters_of(small.optimizer) == expected);
}

#ifdef TESSERA_FEW_POLICIES
constexpr index_t stride = 37;
#else
constexpr index_t stride = 1;
#endif

TEST_CASE("every changed bit and every cut of a checkpoint is refused with the file's name, or has no effect") {
  const Scratch scratch;
  Small small(scratch / "run");
  small.step(0);
  small.checkpoints.save();
  const auto expected = testing::parameters_of(small.optimizer);
  using Changed = std::optional<std::string>;
  for_each_damage(scratch / "run", small, expected, stride, [](std::string text, index_t k) -> Changed {
    if (k / 8 >= std::ssize(text)) return {};
    text[to_size(k / 8)] = static_cast<char>(text[to_size(k / 8)] ^ 1 << k % 8);
    return text;
  });
  for_each_damage(scratch / "run", small, expected, stride, [](const std::string& text, index_t k) -> Changed {
    if (k >= std::ssize(text)) return {};
    return text.substr(0, to_size(k));
  });
}

}  // namespace
}  // namespace tessera
