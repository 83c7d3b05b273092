// The optimizer on a device: compares stages, world sizes, and device with host.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/cuda/local/local.cuh>
#include <tessera/cuda/local/self.cuh>

#include "cuda/ranks.hpp"
#include "cuda/device_training.hpp"
#include "cuda/late.hpp"

namespace tessera {
namespace {

using testing::Trained;
using testing::train_on;

constexpr int steps = 4, micro_batches = 8;
constexpr index_t broken_step = 2;  // the step number as backward reads it

// A device may fuse operations; the emulation has the host's arithmetic.
#if defined(__CUDACC__)
constexpr bool same_arithmetic = false;
#else
constexpr bool same_arithmetic = true;
#endif

template <class Rule, class Stage, class Precision>
Trained on_device(int world, int leaves = micro_batches) {
  Trained first;
  run_cuda_ranks(
      world,
      [&](CudaLocal& comm) {
        const Trained mine = train_on<Rule, Stage, Precision>(comm, Rule{}, steps, leaves, broken_step);
        if (comm.rank() == 0) first = mine;
      },
      {.devices = {0}});
  return first;
}

template <class Rule, class Stage, class Precision>
Trained on_host() {
  Trained trained;
  run_ranks(2, [&](Local& comm) {
    const Trained mine = train_on<Rule, Stage, Precision>(comm, Rule{}, steps, micro_batches, broken_step);
    if (comm.rank() == 0) trained = mine;
  });
  return trained;
}

void check_near(const Trained& device, const Trained& host) {
  CHECK(device.applied == host.applied);
  CHECK(device.scales == host.scales);
  REQUIRE(device.parameters.size() == host.parameters.size());
  if (same_arithmetic) {
    CHECK(device.same_model(host));
    return;
  }
  int apart = 0;
  for (std::size_t i = 0; i < host.parameters.size(); ++i)
    if (!(std::abs(device.parameters[i] - host.parameters[i]) <= 0.02f)) ++apart;
  CHECK(apart == 0);
}

// The result of rank 0, with gradients that are not finite in one step.
Trained at_every_stage(int world, int leaves) {
  CAPTURE(world);
  const Trained expected = on_device<AdamW, Stage0, Fp16>(world, leaves);
  CHECK(expected.applied == std::vector<bool>{true, true, false, true});
  CHECK(on_device<AdamW, Stage1, Fp16>(world, leaves) == expected);
  CHECK(on_device<AdamW, Stage2, Fp16>(world, leaves) == expected);
  CHECK(on_device<AdamW, Stage3, Fp16>(world, leaves) == expected);
  return expected;
}

TEST_CASE("every stage, and every world size that is a power of two, has the same bits, those of the host") {
  const Trained one = at_every_stage(1, micro_batches);
  for (const int world : {2, 4, 8}) CHECK(at_every_stage(world, micro_batches).same_model(one));
  check_near(one, on_host<AdamW, Stage1, Fp16>());
}

TEST_CASE("every stage has the same bits for any world size") {
  for (const int world : {3, 5, 6, 7}) at_every_stage(world, world);
}

TEST_CASE("a rule with norms of tensors has the same bits at every stage") {
  const Trained one = on_device<Lamb, Stage0, Bf16>(1);
  CHECK(one.applied == std::vector<bool>{true, true, false, true});
  CHECK(on_device<Lamb, Stage3, Bf16>(2).same_model(one));
  CHECK(on_device<Lamb, Stage3, Bf16>(8).same_model(one));
}

TEST_CASE("two groups of ranks have the bits of one rank, with norms of tensors too") {
  const Trained one = on_device<AdamW, Stage0, Fp16>(1);
  CHECK(on_device<AdamW, StageHybridState, Fp16>(4).same_model(one));
  CHECK(on_device<AdamW, StageHybridState, Fp16>(8).same_model(one));
  CHECK(on_device<Lamb, StageHybrid, Bf16>(4).same_model(on_device<Lamb, Stage0, Bf16>(1)));
}

template <class Stage, class Precision>
void evaluate() {
  run_cuda_ranks(
      2,
      [&](CudaLocal& comm) {
        const ScheduleFreeAdamW rule{.lr = 0.1};
        Sharded<ScheduleFreeAdamW, Stage, Precision, CudaLocal> optimizer(
            comm, testing::ragged_layout(), {}, {rule, rule}, {.bucket_bytes = 1000});
        optimizer.initialize(testing::made_up_weight);
        testing::Training training(optimizer, comm.executor(), comm.rank(), 2, 1, -1);
        for (int s = 0; s < 3; ++s) static_cast<void>(training.step());
        const std::vector<float> trained = training.end().parameters;
        for (int i = 0; i < 3; ++i) {
          optimizer.begin_evaluation();
          CHECK(training.end().parameters != trained);
          optimizer.end_evaluation();
          CHECK(training.end().parameters == trained);
        }
        CHECK(training.step().applied());
        CHECK(optimizer.bytes() == optimizer.plan().bytes());
      },
      {.devices = {0}});
}

TEST_CASE("the end of an evaluation restores the trained weights exactly, whatever is stored of them") {
  evaluate<Stage1, Fp32>();
  evaluate<Stage2, Bf16>();
  evaluate<Stage3, Bf16Remainder>();
  evaluate<Stage3, Bf16Stochastic>();
}

template <class Stage>
void late_gradients() {
  Trained expected, late;
  const auto train = [](Trained& into, auto prepare) {
    run_cuda_ranks(
        2,
        [&](CudaLocal& comm) {
          const Trained mine = train_on<AdamW, Stage, Fp16>(comm, AdamW{}, steps, micro_batches, broken_step, prepare);
          if (comm.rank() == 1) into = mine;
        },
        {.devices = {0}});
  };
  train(expected, [](auto&) {});
  train(late, [](auto& training) {
    training.make_gradients_on(Cuda(), [](Cuda& side) { testing::delay(side.stream()); });
  });
  CHECK(late == expected);
}

// The reduction waits for the producer's stream: Reduce::join.
TEST_CASE("gradients that another stream writes are waited for") {
  late_gradients<Stage1>();
  late_gradients<Stage2>();
}

// If compute reads or writes too early, it does so before these collectives have begun.
template <class Stage>
Trained with_late_collectives() {
  Trained first;
  run_cuda_ranks(
      2,
      [&](CudaLocal& comm) {
        const testing::Late<CudaLocal> late(comm);
        const Trained mine = train_on<AdamW, Stage, Fp16>(late, AdamW{}, steps, micro_batches, broken_step);
        if (comm.rank() == 0) first = mine;
      },
      {.devices = {0}});
  return first;
}

TEST_CASE("collectives that begin late change no bit") {
  CHECK(with_late_collectives<Stage1>() == on_device<AdamW, Stage1, Fp16>(2));
  CHECK(with_late_collectives<Stage3>() == on_device<AdamW, Stage3, Fp16>(2));
}

// If a collective sends data before compute has written it, or overwrites data that compute still reads, bits change
// here.
template <class Stage>
Trained with_late_compute() {
  Trained first;
  run_cuda_ranks(
      2,
      [&](CudaLocal& comm) {
        const Trained mine = train_on<AdamW, Stage, Fp16>(
            comm, AdamW{}, steps, micro_batches, broken_step,
            [](auto& training) { training.compute_late([](Cuda& cuda) { testing::delay(cuda.stream()); }); });
        if (comm.rank() == 0) first = mine;
      },
      {.devices = {0}});
  return first;
}

TEST_CASE("compute that is late changes no bit") {
  CHECK(with_late_compute<Stage0>() == on_device<AdamW, Stage0, Fp16>(2));
  CHECK(with_late_compute<Stage1>() == on_device<AdamW, Stage1, Fp16>(2));
  CHECK(with_late_compute<Stage2>() == on_device<AdamW, Stage2, Fp16>(2));
  CHECK(with_late_compute<Stage3>() == on_device<AdamW, Stage3, Fp16>(2));
}

// The bytes of each array of each tensor, and the control state, saved by one world of devices for another.
struct Saved {
  std::mutex mutex;
  std::map<std::string, std::vector<char>> tensors;
  ControlState<AdamW> control;
};

template <class Stage>
Trained train_and_save(int world, index_t first, index_t last, Saved* from, Saved* to) {
  Trained rank_0;
  run_cuda_ranks(
      world,
      [&](CudaLocal& comm) {
        using Optimizer = Sharded<AdamW, Stage, Fp16, CudaLocal>;
        Optimizer optimizer(comm, testing::ragged_layout(), {}, {AdamW{}, AdamW{}},
                            {.micro_batches = micro_batches / world,
                             .bucket_bytes = 1000,
                             .loss_scale = {.initial = 256, .growth_interval = 2, .hysteresis = 1}});
        Cuda executor = comm.executor();
        testing::Training training(optimizer, executor, comm.rank(), world, micro_batches / world, broken_step);
        const auto bytes_of = [&](const auto& slice, std::map<std::string, std::vector<char>>& tensors) {
          auto& bytes = tensors[optimizer.layout().name(slice.tensor) + "/" + slice.array];
          bytes.resize(to_size(optimizer.layout().elements(slice.tensor)) * sizeof(slice.elements[0]));
          return bytes.data() + to_size(slice.first) * sizeof(slice.elements[0]);
        };
        if (from) {
          optimizer.set_control_state(from->control);
          optimizer.load_slices([&](auto slice) {
            using T = typename decltype(slice)::Element;
            const std::scoped_lock lock(from->mutex);
            std::vector<T> host(slice.elements.size());
            std::memcpy(host.data(), bytes_of(slice, from->tensors), slice.elements.size_bytes());
            executor.upload(slice.elements, static_cast<const T*>(host.data()));
          });
          training.skip_steps(first);
        } else {
          optimizer.initialize(testing::made_up_weight);
        }
        for (index_t s = first; s < last; ++s) training.note(training.step());
        if (to) {
          optimizer.for_each_owned_slice([&](auto slice) {
            using T = std::remove_const_t<typename decltype(slice)::Element>;
            std::vector<T> host(slice.elements.size());
            executor.download(slice.elements, host.data());
            const std::scoped_lock lock(to->mutex);
            std::memcpy(bytes_of(slice, to->tensors), host.data(), slice.elements.size_bytes());
          });
          const auto control = optimizer.control_state();
          const std::scoped_lock lock(to->mutex);
          to->control = control;
        }
        const Trained mine = training.end();
        if (comm.rank() == 0) rank_0 = mine;
      },
      {.devices = {0}});
  return rank_0;
}

TEST_CASE("training resumes at another stage and world size of devices with the bits of the uninterrupted run") {
  const Trained undisturbed = train_and_save<Stage1>(2, 0, steps, nullptr, nullptr);
  const auto behind = [](const auto& all, index_t first) {
    return std::remove_cvref_t<decltype(all)>(all.begin() + first, all.end());
  };
  for (const index_t step : {1, 3}) {
    CAPTURE(step);
    Saved saved;
    train_and_save<Stage3>(4, 0, step, nullptr, &saved);
    CHECK(saved.control.steps == (step == 3 ? 2 : 1));
    const Trained resumed = train_and_save<Stage0>(1, step, steps, &saved, nullptr);
    CHECK(resumed.parameters == undisturbed.parameters);
    CHECK(resumed.norms == behind(undisturbed.norms, step));
    CHECK(resumed.scales == behind(undisturbed.scales, step));
    CHECK(resumed.applied == behind(undisturbed.applied, step));
  }
}

struct SetToOne {
  float16* at;
  TESSERA_HD void operator()(index_t i) const noexcept { at[i] = float16(1.0f); }
};

// An optimizer with late gathers. The training does not wait for all of the gathered weights.
template <class Stage>
class Blind {
 public:
  explicit Blind(const CudaLocal& comm)
      : executor_(comm.executor()),
        rank_(comm.rank()),
        optimizer_(testing::Late(comm, &sent_), testing::ragged_layout(), {}, std::vector<AdamW>(2),
                   {.bucket_bytes = 1000, .prefetch = 1}) {
    optimizer_.initialize(testing::made_up_weight);
  }

  void step() {
    const Layout& layout = optimizer_.layout();
    if constexpr (Stage::shards_parameters)
      for (const Unit u : layout.forward()) static_cast<void>(optimizer_.gather(u));
    auto pass = optimizer_.backward();
    for (const Unit u : layout.backward()) {
      // Stage 1 sends everything that an update wrote, and a rank does not wait for units without a gradient. Stage 3
      // gathers what is requested and prefetches the next unit: in backward nothing waits for the first.
      if (!Stage::shards_parameters && u.index % 2 != rank_) {
        pass.skip(u);
        continue;
      }
      if (!Stage::shards_parameters || u.index > 0) static_cast<void>(optimizer_.gather(u));
      const std::span<float16> gradients = pass.gradients(u).trainable();
      executor_.for_each(std::ssize(gradients), SetToOne{gradients.data()});
      pass.ready(u);
    }
    optimizer_.step();
  }

  auto& optimizer() { return optimizer_; }
  const testing::Sent& sent() const { return sent_; }

 private:
  testing::Sent sent_;
  Cuda executor_;
  int rank_;
  Sharded<AdamW, Stage, Fp16, testing::Late<CudaLocal>> optimizer_;
};

// write: any operation that writes weights, after a step has posted its gathers.
template <class Stage, class Write>
void write_behind_late_gathers(Write write) {
  run_cuda_ranks(
      2,
      [&](CudaLocal& comm) {
        INFO(std::string(Stage::name));
        Blind<Stage> blind(comm);
        const int before = blind.sent().gathers();
        for (int s = 0; s < 3; ++s) {
          blind.step();
          write(blind.optimizer());
        }
        CHECK(blind.sent().gathers() >= before + 6);  // buckets that nothing waited for
        CHECK(blind.sent().changed() == 0);
      },
      {.devices = {0}});
}

// A rank that requests weights has waited for the gathers before the next update and reads the result of the last one.
// A rank that does not request them has not waited. In both cases nothing may write memory that a queue still reads
// (comm/communicator.hpp): before_update of WholeParameters and of ShardedParameters.
TEST_CASE("the next update and new initial weights do not overwrite data that a late gather still sends") {
  const auto in_turn = [](auto stage) {
    using Chosen = decltype(stage);
    write_behind_late_gathers<Chosen>([](auto&) {});
    write_behind_late_gathers<Chosen>([](auto& optimizer) { optimizer.initialize(testing::made_up_weight); });
  };
  in_turn(Stage1{});
  in_turn(Stage3{});
}

TEST_CASE("a late gather of earlier weights does not overwrite new initial weights") {
  run_cuda_ranks(
      2,
      [&](CudaLocal& comm) {
        Blind<Stage1> blind(comm);
        blind.step();
        blind.optimizer().initialize([](Tensor, index_t) { return 3.0f; });
        for (const Unit u : blind.optimizer().layout().forward()) {
          const auto weights = blind.optimizer().gather(u);
          std::vector<float16> host(weights.trainable().size());
          comm.executor().download(weights.trainable(), host.data());
          CHECK(std::all_of(host.begin(), host.end(), [](float16 w) { return static_cast<float>(w) == 3; }));
        }
      },
      {.devices = {0}});
}

// Two steps from weights in the caller's memory, taken at the beginning or in the middle of training.
template <class Stage>
std::vector<float> from_own_memory(bool afterwards) {
  std::vector<float> first;
  run_cuda_ranks(
      2,
      [&](CudaLocal& comm) {
        using Optimizer = Sharded<AdamW, Stage, Bf16, CudaLocal>;
        const Layout layout = testing::ragged_layout();
        const Options options{.bucket_bytes = 1000, .check_weights = 1, .check_gradients = true};
        Cuda executor = comm.executor();
        auto own = executor.template allocate<bfloat16>(Optimizer::required(layout, 2, options).parameters);
        std::vector<bfloat16> weights(own.span().size());
        for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = bfloat16(0.25f * static_cast<float>(i % 7));
        executor.upload(own.span(), weights.data());
        Optimizer optimizer(comm, layout, {.parameters = own.span()}, {AdamW{}, AdamW{}}, options);
        const auto two_steps = [&] {
          testing::Training training(optimizer, comm.executor(), comm.rank(), 2, 1, -1);
          for (int s = 0; s < 2; ++s) CHECK(training.step().applied());
          return training.end().parameters;
        };
        if (afterwards) {
          two_steps();
          optimizer.finish();
          executor.upload(own.span(), weights.data());
          CHECK_THROWS_AS(static_cast<void>(optimizer.backward()), UsageError);  // the weights were not taken
          optimizer.take_parameters({.clear_state = true});
        }
        const auto mine = two_steps();
        CHECK(optimizer.steps() == 2);
        if (comm.rank() == 0) first = mine;
      },
      {.devices = {0}});
  return first;
}

TEST_CASE("weights in the caller's memory are taken, compared and checked on a device too") {
  CHECK(from_own_memory<Stage0>(true) == from_own_memory<Stage0>(false));
  CHECK(from_own_memory<Stage1>(true) == from_own_memory<Stage1>(false));
}

TEST_CASE("if a rank's rule differs, no rank applies the step, and each gets the error when it asks") {
  std::vector<std::string> errors(2);
  run_cuda_ranks(
      2,
      [&](CudaLocal& comm) {
        Sharded<AdamW, Stage1, Fp16, CudaLocal> optimizer(comm, testing::ragged_layout(), {}, {AdamW{}, AdamW{}},
                                                            {.loss_scale = {.initial = 256}});
        optimizer.initialize(testing::made_up_weight);
        testing::Training training(optimizer, comm.executor(), comm.rank(), 2, 1, -1);
        const Trained before = training.end();
        if (comm.rank() == 1) optimizer.rule(0).lr = 0.5;
        const auto report = training.step();
        try {
          static_cast<void>(report.applied());
        } catch (const AgreementError& error) {
          errors[static_cast<std::size_t>(comm.rank())] = error.what();
        }
        optimizer.rule(0).lr = 0.5;
        CHECK_THROWS_AS(training.step(), AgreementError);  // thrown here unless it was asked for before
        CHECK(optimizer.steps() == 0);
        CHECK(training.step().applied());
        CHECK(optimizer.steps() == 1);
        CHECK(before.parameters != training.end().parameters);
      },
      {.devices = {0}});
  CHECK(errors[0].find("rank 1 has another number of micro-batches, clip_norm, hyperparameter") != std::string::npos);
  CHECK(errors[1] == errors[0]);
}

TEST_CASE("a parameter that an update makes infinite is named on all ranks by the next step's report") {
  run_cuda_ranks(
      2,
      [&](CudaLocal& comm) {
        Sharded<AdamW, Stage1, Fp16, CudaLocal> optimizer(comm, testing::ragged_layout(), {},
                                                            {AdamW{}, AdamW{.lr = 3e38}},
                                                            {.loss_scale = {.initial = 256}});
        optimizer.initialize(testing::made_up_weight);
        testing::Training training(optimizer, comm.executor(), comm.rank(), 2, 1, -1);
        const auto first = training.step();
        CHECK(first.applied());
        CHECK(first.first_non_finite_weight().empty());
        CHECK(training.step().first_non_finite_weight() == "body.bias");  // the first of the group
        const std::string found = optimizer.finish().first_non_finite_weight();
        CHECK((found == "body.bias" || found == "head.bias"));
      },
      {.devices = {0}});
}

TEST_CASE("memory that a device cannot access is refused on every rank before anything is launched") {
  std::vector<std::string> errors(2);
  std::vector<float16> host(2000);
  run_cuda_ranks(
      2,
      [&](CudaLocal& comm) {
        using Optimizer = Sharded<AdamW, Stage1, Fp16, CudaLocal>;
        Optimizer::Buffers buffers;
        if (comm.rank() == 1) buffers.parameters = host;
        try {
          Optimizer optimizer(comm, testing::ragged_layout(), buffers, {AdamW{}, AdamW{}});
        } catch (const Error& error) {
          errors[static_cast<std::size_t>(comm.rank())] = error.what();
        }
      },
      {.devices = {0}});
  CHECK(errors[1].find("parameters: it is host memory") == 0);
  CHECK(errors[0].find("rank 1 could not be built") == 0);
}

}  // namespace
}  // namespace tessera
