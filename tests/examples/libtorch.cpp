#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adamw.h>

#include <tessera/tessera.hpp>

#include "libtorch/sharded_module.hpp"
#include "libtorch/train.hpp"
#include "page.hpp"

// After libtorch, whose glog defines another CHECK that ends the program.
#include <doctest/doctest.h>

namespace libtorch {
namespace {

template <class Stage>
using Optimizer = tessera::Sharded<tessera::AdamW, Stage>;

torch::nn::Sequential small_model() {
  return torch::nn::Sequential(
      {{"hidden", torch::nn::Linear(6, 5)}, {"tanh", torch::nn::Tanh()}, {"output", torch::nn::Linear(5, 3)}});
}

// Copies element by element, so that the memory is the test's own.
std::vector<torch::Tensor> copies(const torch::nn::Sequential& model) {
  std::vector<torch::Tensor> tensors;
  for (const auto& parameter : model->parameters()) tensors.push_back(parameter.detach().clone());
  return tensors;
}

// The largest difference of two curves, relative to the second.
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]) / b[i]);
  return largest;
}

TEST_CASE("the loss curve equals torch::optim::AdamW's at every stage, up to float rounding") {
  const mlp::Split digits = mlp::load_split("");
  example::Options options;
  options.steps = 100;
  options.lr = 0.003;
  const auto alone = train_alone(options, digits.training, digits.held_out);
  CHECK(alone.losses.front() > 2);
  CHECK(alone.losses.back() < 0.5);
  // Differences: how a batch's gradient is summed (two halves, then one sum) and the order of AdamW's operations. These
  // are a few roundings per step, which a hundred steps hardly amplify. The largest difference seen is 6.5 epsilon.
  const double tolerance = 32.0 * std::numeric_limits<float>::epsilon();
  std::vector<double> first;
  for (int stage = 0; stage < 4; ++stage) {
    CAPTURE(stage);
    options.stage = stage;
    const auto sharded = train(options, digits.training, digits.held_out);
    CHECK(distance(sharded.losses, alone.losses) < tolerance);
    if (first.empty()) first = sharded.losses;
    CHECK(sharded.losses == first);
  }
  options.micro_batches = 2;
  CHECK(distance(train(options, digits.training, digits.held_out).losses, alone.losses) < tolerance);
  // A learning rate larger by a thousandth gives another curve, which exceeds the tolerance.
  options.lr *= 1.001;
  CHECK(distance(train_alone(options, digits.training, digits.held_out).losses, alone.losses) > tolerance);
}

TEST_CASE("parameters and gradients are in the caller's buffers") {
  auto model = small_model();
  const tessera::Layout layout = layout_of(model);
  const auto need = Optimizer<tessera::Stage0>::required(layout, 1);
  const auto parameters = torch::zeros(need.parameters), gradients = torch::zeros(need.gradients);
  tessera::run_ranks(1, [&](tessera::Local& comm) {
    Optimizer<tessera::Stage0> optimizer(comm, layout, {span_of(parameters), span_of(gradients)}, tessera::AdamW{});
    optimizer.initialize(weights_of(model));
    auto replica = small_model();
    ShardedModule sharded(replica, optimizer);
    const auto x = torch::rand({4, 6}), y = torch::rand({4, 3});
    sharded.backward(torch::mse_loss(sharded.forward(x), y));
    torch::mse_loss(model->forward(x), y).backward();
    for (const tessera::Tensor t : layout.tensors()) {
      const torch::Tensor of_model = model->parameters()[t.index];
      const torch::Tensor of_replica = replica->parameters()[t.index];
      CHECK(of_replica.data_ptr<float>() == parameters.data_ptr<float>() + layout.offset(t));
      CHECK(of_replica.equal(of_model));
      const auto place = gradients.slice(0, layout.offset(t), layout.offset(t) + layout.elements(t));
      CHECK(place.view(of_model.sizes()).equal(of_model.grad()));
      CHECK(!of_replica.grad().defined());  // a view of a bucket is valid during the pass only
    }
    optimizer.step();
  });
}

TEST_CASE("a unit is ready with its last gradient, while autograd continues") {
  struct Spy : torch::nn::Module {
    explicit Spy(std::function<void()> when_differentiated) : look(std::move(when_differentiated)) {}
    torch::Tensor forward(torch::Tensor x) {
      x.register_hook([look = look](const torch::Tensor&) { look(); });
      return x;
    }
    std::function<void()> look;
  };
  std::string missing;  // the message of step() in the middle
  std::function<void()> ask;
  torch::nn::Sequential model({{"hidden", torch::nn::AnyModule(torch::nn::Linear(6, 5))},
                               {"spy", torch::nn::AnyModule(Spy([&] { ask(); }))},
                               {"output", torch::nn::AnyModule(torch::nn::Linear(5, 3))}});
  tessera::run_ranks(1, [&](tessera::Local& comm) {
    Optimizer<tessera::Stage0> optimizer(comm, layout_of(model), {}, tessera::AdamW{});
    optimizer.initialize(weights_of(model));
    ShardedModule sharded(model, optimizer);
    ask = [&] {
      try {
        optimizer.step();
      } catch (const tessera::UsageError& error) {
        missing = error.what();
      }
    };
    sharded.backward(sharded.forward(torch::rand({4, 6})).sum());
    // Names the unit that backward computes first among those that are not ready.
    CHECK(missing.find("unit 'hidden' was never ready") != std::string::npos);
    CHECK(optimizer.step().applied());
  });
}

TEST_CASE("a partly frozen module trains its other parameters, at stage 3") {
  const auto freeze = [](torch::nn::Sequential model) {
    model->parameters()[0].set_requires_grad(false);  // hidden.weight
    for (const auto& parameter : model[2]->parameters()) parameter.set_requires_grad(false);
    return model;
  };
  auto model = freeze(small_model());
  const auto x = torch::rand({4, 6}), y = torch::rand({4, 3});
  torch::optim::AdamW torchs(model->parameters(), torch::optim::AdamWOptions(0.1));
  const auto before = copies(model);
  const tessera::Layout layout = layout_of(model);
  tessera::run_ranks(2, [&](tessera::Local& comm) {
    Optimizer<tessera::Stage3> optimizer(comm, layout, {}, tessera::AdamW{.lr = 0.1});
    optimizer.initialize([&](tessera::Tensor t, tessera::index_t i) { return before[t.index].data_ptr<float>()[i]; });
    ShardedModule sharded(freeze(small_model()), optimizer);
    for (int step = 0; step < 3; ++step) {
      sharded.backward(torch::mse_loss(sharded.forward(x), y));
      CHECK(optimizer.step().applied());
    }
    if (comm.rank() == 0)
      for (int step = 0; step < 3; ++step) {
        torchs.zero_grad();
        torch::mse_loss(model->forward(x), y).backward();
        torchs.step();
      }
    for (const tessera::Unit u : layout.forward()) {
      const auto w = optimizer.gather(u);
      if (comm.rank() != 0) continue;
      for (const tessera::Tensor t : layout.tensors(u)) {
        const auto now = torch::from_blob(const_cast<float*>(w[t].data()), before[t.index].sizes());
        CHECK(now.equal(before[t.index]) == layout.frozen(t));
        CHECK(now.allclose(model->parameters()[t.index], 1e-5, 1e-6));
      }
    }
  });
}

TEST_CASE("at stage 3 parameters are accessible only within forward and backward") {
  auto model = small_model();
  tessera::run_ranks(2, [&](tessera::Local& comm) {
    Optimizer<tessera::Stage3> optimizer(comm, layout_of(model), {}, tessera::AdamW{});
    optimizer.initialize(weights_of(model));
    auto replica = small_model();
    ShardedModule sharded(replica, optimizer);
    const auto lie_nowhere = [&] {
      for (const auto& parameter : replica->parameters())
        if (parameter.storage().data() != nullptr) return false;
      return true;
    };
    CHECK(lie_nowhere());
    const auto loss = sharded.forward(torch::rand({4, 6})).sum();
    CHECK(lie_nowhere());
    sharded.backward(loss);
    CHECK(lie_nowhere());
  });
}

TEST_CASE("an exception in one rank's backward reaches all ranks through autograd, and the step can be repeated") {
  auto model = small_model();
  const tessera::Layout layout = layout_of(model);
  const tessera::Options each_unit_travels_alone{.bucket_bytes = 1, .prefetch = 0};
  const auto x = torch::rand({4, 6}), y = torch::rand({4, 3});
  tessera::run_ranks(2, [&](tessera::Local& comm) {
    Optimizer<tessera::Stage3> optimizer(comm, layout, {}, tessera::AdamW{}, each_unit_travels_alone);
    optimizer.initialize(weights_of(model));
    ShardedModule sharded(small_model(), optimizer);
    const auto out = sharded.forward(x);
    if (comm.rank() == 0) {
      out.register_hook([](const torch::Tensor&) { throw std::out_of_range("the user's own"); });
      CHECK_THROWS_WITH_AS(sharded.backward(torch::mse_loss(out, y)), "the user's own", std::out_of_range);
    } else {
      CHECK_THROWS_AS(sharded.backward(torch::mse_loss(out, y)), tessera::CommError);
    }
    sharded.backward(torch::mse_loss(sharded.forward(x), y));
    CHECK(optimizer.step().applied());
  });
}

TEST_CASE("misuse is reported") {
  auto model = small_model();
  const tessera::Layout layout = layout_of(model);
  const auto x = torch::rand({4, 6});

  SUBCASE("a backward that bypasses the optimizer") {
    tessera::run_ranks(1, [&](tessera::Local& comm) {
      Optimizer<tessera::Stage0> optimizer(comm, layout, {}, tessera::AdamW{});
      optimizer.initialize(weights_of(model));
      ShardedModule sharded(small_model(), optimizer);
      CHECK_THROWS_WITH_AS(sharded.forward(x).sum().backward(), doctest::Contains("call ShardedModule::backward"),
                           tessera::UsageError);
    });
  }
  SUBCASE("a parameter that does not affect the loss") {
    struct Spare : torch::nn::Module {
      torch::nn::Linear used = register_module("used", torch::nn::Linear(6, 3));
      torch::nn::Linear spare = register_module("spare", torch::nn::Linear(6, 3));
      torch::Tensor forward(torch::Tensor x) { return used->forward(x); }
    };
    const torch::nn::Sequential wasteful({{"block", torch::nn::AnyModule(Spare())}});
    tessera::run_ranks(1, [&](tessera::Local& comm) {
      Optimizer<tessera::Stage0> optimizer(comm, layout_of(wasteful), {}, tessera::AdamW{});
      optimizer.initialize(weights_of(wasteful));
      ShardedModule sharded(wasteful, optimizer);
      sharded.backward(sharded.forward(x).sum());
      CHECK_THROWS_WITH_AS(optimizer.step(), doctest::Contains("unit 'block' was never ready"), tessera::UsageError);
    });
  }
  SUBCASE("a parameter of two children") {
    const torch::nn::Linear both(6, 6);
    const torch::nn::Sequential tied({{"first", both}, {"second", both}});
    CHECK_THROWS_WITH_AS(layout_of(tied), doctest::Contains("second.weight is another child's parameter too"),
                         std::invalid_argument);
  }
  SUBCASE("parameters of type double") {
    auto doubles = small_model();
    doubles->to(torch::kDouble);
    CHECK_THROWS_WITH_AS(layout_of(doubles), "hidden.weight is not of floats", std::invalid_argument);
  }
  SUBCASE("the layout of another module") {
    tessera::run_ranks(1, [&](tessera::Local& comm) {
      Optimizer<tessera::Stage0> optimizer(comm, layout, {}, tessera::AdamW{});
      const torch::nn::Sequential other({{"hidden", torch::nn::Linear(6, 5)}});
      CHECK_THROWS_WITH_AS(ShardedModule(other, optimizer), doctest::Contains("is not layout_of(module)"),
                           std::invalid_argument);
    });
  }
}

TEST_CASE("docs/libtorch.md shows the code that is compiled here") {
  CHECK(tessera::testing::page_shows("docs/libtorch.md", "examples/libtorch/train.cpp", "alone"));
  CHECK(tessera::testing::page_shows("docs/libtorch.md", "examples/libtorch/train.cpp", "sharded"));
}

}  // namespace
}  // namespace libtorch
