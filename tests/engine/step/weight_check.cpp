#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <vector>

#include <tessera/comm/local/local.hpp>
#include <tessera/engine/memory/tensor_slice.hpp>
#include <tessera/engine/step/weight_check.hpp>
#include <tessera/stage/stage.hpp>

namespace tessera::engine {
namespace {

Layout five_tensors() {
  Layout layout;
  for (const char* unit : {"a", "b"}) {
    layout.add_unit(unit);
    layout.add_tensor("w", {100});
    layout.add_tensor("empty", {0});
  }
  layout.add_tensor("frozen", {3}, {.frozen = true});
  return layout;
}

// The parameters of a rank, replicated or sharded.
struct Parameters {
  const Layout* layout;
  std::vector<float> all = std::vector<float>(static_cast<std::size_t>(layout->parameter_elements()), 1.0f);

  std::span<const float> tensor(Tensor t) const {
    return std::span(all).subspan(static_cast<std::size_t>(layout->offset(t)), static_cast<std::size_t>(layout->elements(t)));
  }
  std::span<const float> shard() const { return all; }
  void post_all() {}
  void before_read() {}

  template <bool to_write, class Visit>
  void for_each_slice(bool, Visit& visit) const {
    for (const Tensor t : layout->tensors()) visit(TensorSlice<const float>{"parameter", t, 0, tensor(t)});
  }
};

struct State {
  int differs = -1;
  std::uint64_t digest(Tensor t, bool) const { return t.index == differs; }

  template <bool to_write, class Visit>
  void for_each_slice(bool, bool, Visit& visit) const {
    const float kept = static_cast<float>(differs);
    visit(TensorSlice<const float>{"momentum", Tensor{0}, 0, {&kept, 1}});
  }
};

// Calls f(check, rank) on every rank and returns the errors.
template <class Stage, class F>
std::vector<std::string> errors_of(int world, int every, const Layout& layout, F f, int group_size = 1) {
  std::vector<std::string> errors(static_cast<std::size_t>(world));
  run_ranks(world, [&](Local& comm) {
    Host host;
    auto room = host.allocate<std::uint64_t>(world);
    auto queue = comm.queue(std::chrono::seconds(10));
    WeightCheck<Stage, Local> check(layout, host, queue, room.span(), comm.rank(), {world, group_size}, every);
    std::string& error = errors[static_cast<std::size_t>(comm.rank())];
    try {
      f(check, comm.rank());
    } catch (const AgreementError& e) {
      error = std::string("agreement: ") + e.what();
    } catch (const UsageError& e) {
      error = std::string("usage: ") + e.what();
    }
  });
  for (const std::string& error : errors) CHECK(error == errors[0]);
  return errors;
}

TEST_CASE("the first of many tensors that differs is named on all ranks, with both digests") {
  const Layout layout = five_tensors();
  for (const Tensor changed : layout.tensors()) {
    if (layout.elements(changed) == 0) continue;
    const auto error = errors_of<Stage1>(4, 0, layout, [&](auto& check, int rank) {
      Parameters parameters{&layout};
      const auto change = [&](Tensor t) { parameters.all[static_cast<std::size_t>(layout.offset(t)) + 1] = 2; };
      if (rank == 2)
        for (int t = changed.index; t < layout.tensors().size(); ++t)
          if (layout.elements(Tensor{t}) > 0) change(Tensor{t});
      check.came_in("take_parameters()", 0, parameters);
    })[0];
    CAPTURE(error);
    const std::string name = layout.name(changed);
    CHECK(error.starts_with("agreement: take_parameters(): ranks differ in the parameters of '" + name +
                            "': rank 0 has digest "));
    CHECK(error.find(", rank 2 has ") != std::string::npos);
  }
  CHECK(errors_of<Stage1>(4, 0, layout, [&](auto& check, int) {
          Parameters parameters{&layout};
          check.came_in("take_parameters()", 0, parameters);
        })[0].empty());
}

TEST_CASE("padding between units is not compared") {
  const Layout layout = five_tensors();
  CHECK(errors_of<Stage0>(2, 0, layout, [&](auto& check, int rank) {
          Parameters parameters{&layout};
          parameters.all[100] = static_cast<float>(rank);
          check.came_in("take_parameters()", 0, parameters);
        })[0].empty());
}

TEST_CASE("ranks of which one clears its state get an error, also at stage 3") {
  const Layout layout = five_tensors();
  const auto error = errors_of<Stage3>(3, 0, layout, [&](auto& check, int rank) {
    Parameters parameters{&layout};
    check.came_in("take_parameters()", 0, parameters, rank == 1);
  })[0];
  CHECK(error == "agreement: take_parameters(): clear_state is false on rank 0 and true on rank 1: call it alike");
}

TEST_CASE("different functions are found by a few elements of each tensor, including the first and the last") {
  const Layout layout = five_tensors();
  for (const index_t element : {0, 99}) {
    const auto error = errors_of<Stage3>(3, 0, layout, [&](auto& check, int rank) {
      auto value = [&](Tensor t, index_t i) { return rank == 1 && t.index == 2 && i == element ? 1.0f : 0.0f; };
      check.require_same_function(0, value);
    })[0];
    CHECK(error.find("initialize(): ranks differ in the first weights of 'b.w': rank 0 has") != std::string::npos);
  }
  int asked = 0;
  CHECK(errors_of<Stage3>(1, 0, layout, [&](auto& check, int) {
          auto value = [&](Tensor t, index_t i) {
            ++asked;
            CHECK(i >= 0);
            CHECK(i < layout.elements(t));
            return static_cast<float>(i);
          };
          check.require_same_function(0, value);
        })[0].empty());
  CHECK(asked <= 64);
}

TEST_CASE("replicated data is compared at the requested interval: at stage 0 also what lies beside the parameters") {
  const Layout layout = five_tensors();
  const auto run = [&]<class Stage>(Stage, index_t step) {
    return errors_of<Stage>(3, 4, layout, [&](auto& check, int rank) {
      State state{rank == 1 ? 2 : -1};
      Parameters parameters{&layout};
      check.check(step, parameters, state);
    })[0];
  };
  CHECK(run(Stage0{}, 8).find("ranks differ in the master weights or optimizer state of 'b.w': rank 0 has digest ") !=
        std::string::npos);
  CHECK(run(Stage0{}, 7).empty());
  CHECK(run(Stage1{}, 8).empty());
}

TEST_CASE("parameters that were written since the last step are found on all ranks, also at stage 3") {
  const Layout layout = five_tensors();
  const auto run = [&]<class Stage>(Stage, index_t step, bool forget) {
    return errors_of<Stage>(3, 2, layout, [&](auto& check, int rank) {
      Parameters parameters{&layout};
      State state;
      check.note(step, parameters);
      if (rank == 2) parameters.all[7] = 5;
      if (forget) check.forget();
      check.check(step, parameters, state);
    })[0];
  };
  CHECK(run(Stage3{}, 2, false).starts_with("usage: the parameter buffer of rank 2 was written"));
  CHECK(run(Stage1{}, 2, false).starts_with("usage: the parameter buffer of rank 2 was written"));
  CHECK(run(Stage1{}, 3, false).empty());
  CHECK(run(Stage3{}, 2, true).empty());
  CHECK(run(Stage1{}, 2, true).starts_with("agreement: Options::check_weights: ranks differ"));
}

TEST_CASE("peers that hold the same part of what groups hold are compared, and no others") {
  const Layout layout = five_tensors();
  const auto run = [&]<class Stage>(Stage, int differs, int state_differs) {
    return errors_of<Stage>(
        6, 1, layout,
        [&](auto& check, int rank) {
          Parameters parameters{&layout};
          for (float& value : parameters.all) value = static_cast<float>(rank % 3);
          if (rank == differs) parameters.all[0] = 9;
          State state{rank == state_differs ? 1 : -1};
          check.note(1, parameters);
          check.check(1, parameters, state);
        },
        3)[0];
  };
  CHECK(run(StageHybrid{}, -1, -1).empty());
  CHECK(run(StageHybrid{}, 4, -1).starts_with(
      "agreement: Options::check_weights: ranks 1 and 4 hold the same part of the parameters and differ in it: rank 1"));
  CHECK(run(StageHybrid{}, -1, 2).find("ranks 2 and 5 hold the same part of the master weights or optimizer state") !=
        std::string::npos);
  CHECK(run(StageHybridState{}, -1, 2).empty());
}

}  // namespace
}  // namespace tessera::engine
