#include "step_cuda.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <tessera/cuda/exec/executor.cuh>
#include <tessera/cuda/local/local.cuh>
#include <tessera/cuda/nccl/nccl.cuh>
#include <tessera/tessera.hpp>

#include "samples.hpp"
#include "stopwatch.cuh"

using namespace tessera;

namespace {

// One thread that only counts: all other multiprocessors are free for other kernels.
__global__ void spin_kernel(long long rounds, float* end) {
  float x = 1;
  for (long long i = 0; i < rounds; ++i) x = x * 0.999f + 0.001f;
  *end = x;
}

class Spin {
 public:
  /// Measures the number of rounds per second.
  explicit Spin(Cuda executor) : executor_(executor), end_(executor_.allocate<float>(1)) {
    constexpr double rounds = 1e7;  // about 20 ms, in which the clock frequency rises
    run_rounds(rounds);
    Stopwatch watch(executor_.stream());
    watch.begin();
    run_rounds(rounds);
    watch.end();
    rounds_a_second_ = rounds / watch.seconds();
  }

  void operator()(double seconds) { run_rounds(seconds * rounds_a_second_); }

 private:
  void run_rounds(double rounds) {
    if (rounds < 1) return;
    device::launch(spin_kernel, 1, 1, executor_.stream(), static_cast<long long>(rounds), end_.span().data());
  }

  Cuda executor_;
  CudaBuffer<float> end_;
  double rounds_a_second_ = 0;
};

Layout layout_of(const StepSetting& setting) {
  Layout layout;
  for (int u = 0; u < setting.units; ++u) {
    layout.add_unit("unit " + std::to_string(u));
    layout.add_tensor("weight", {setting.elements / setting.units});
  }
  return layout;
}

/// One rank. Every rank runs everything, and rank 0 has the times.
template <class Stage, class Comm>
class Measurement {
 public:
  Measurement(Comm& comm, const StepSetting& setting)
      : comm_(comm),
        setting_(setting),
        layout_(layout_of(setting)),
        executor_(comm.executor()),
        queue_(comm_.queue(std::chrono::seconds(600))),
        word_(executor_.template allocate<float>(1)),
        spin_(executor_),
        watch_(executor_.stream()) {}

  StepTimes run() {
    StepTimes times;
    times.bytes = plan().bytes() * comm_.size();
    std::size_t free = 0, all = 0;
    cuda_check(cudaMemGetInfo(&free, &all), "asking for free memory");
    // Earlier optimizers have freed their buffers; every rank must find the same amount of free memory.
    times.fits = agree(times.bytes <= static_cast<std::int64_t>(0.95 * static_cast<double>(free)));
    if (!times.fits) return times;
    measure_kernels(times);
    measure_steps(times);
    return times;
  }

 private:
  Options options() const { return {.bucket_bytes = setting_.bucket_bytes, .prefetch = setting_.prefetch}; }
  Plan plan() const { return Sharded<AdamW, Stage, Fp32, Comm>::plan(layout_, comm_.size(), options()); }

  // Later work on this rank's stream waits for the work of all ranks so far.
  void meet() { executor_.wait(queue_.post(AllReduce(word_.span(), {"meeting"}), executor_.record())); }

  // Rank 0's number, on all ranks.
  double shared(double value) {
    auto number = executor_.template allocate<double>(1);
    value = comm_.rank() == 0 ? value : 0;
    executor_.upload(number.span(), &value);
    executor_.wait(queue_.post(AllReduce(number.span(), {"a number of rank 0"}), executor_.record()));
    executor_.download(std::span<const double>(number.span()), &value);
    return value;
  }
  bool agree(bool yes) { return shared(yes ? 1 : 0) > 0; }

  // Returns when it is done on all ranks.
  template <class Call>
  double seconds(const Call& call) {
    meet();
    executor_.record().wait();
    watch_.begin();
    call();
    meet();
    watch_.end();
    return watch_.seconds();
  }

  // Uses its own memory, which is freed before the optimizer allocates.
  void measure_kernels(StepTimes& times) {
    const Sharding sharding(layout_, comm_.size(), setting_.bucket_bytes / static_cast<index_t>(sizeof(float)));
    const auto& flat = sharding.partition();
    index_t owned = 0;
    for (int b = 0; b < sharding.buckets(); ++b)
      owned += Stage::shards_state ? flat.owned(b, comm_.rank()).size() : flat.range(b).size();
    auto bucket = executor_.template allocate<float>(sharding.longest_bucket(sharding.trainable()));
    auto slice = executor_.template allocate<float>(sharding.longest_part());
    const auto of_all_buckets = [&](const auto& post) {
      return seconds([&] {
        CudaEvent last;
        for (int b = 0; b < sharding.buckets(); ++b)
          last = post(b, bucket.span().first(flat.range(b).size()),
                      slice.span().first(flat.owned(b, comm_.rank()).size()));
        executor_.wait(last);
      });
    };
    if (Stage::shards_parameters)
      times.gathers_a_step = 2 - static_cast<double>(plan().gathered_buckets.copies) / sharding.buckets();
    for (int i = 0; i <= setting_.steps; ++i) {
      const double reductions = of_all_buckets([&](int b, std::span<float> whole, std::span<float> mine) {
        return queue_.post(ReduceScatter(std::span<const float>(whole), mine, flat.part(b), {"bucket", b}), {});
      });
      const double gathers = of_all_buckets([&](int b, std::span<float> whole, std::span<float> mine) {
        return queue_.post(AllGather(std::span<const float>(mine), whole, flat.part(b), {"bucket", b}), {});
      });
      const double clear = seconds([&] {
        for (int b = 0; b < sharding.buckets(); ++b)
          executor_.for_each(flat.range(b).size(), engine::Zero<float>{bucket.span().data()});
      });
      if (i == 0) continue;
      times.reductions.push_back(reductions);
      times.gathers.push_back(gathers);
      times.clear.push_back(clear);
    }

    // All numbers of a bucket's size, repeatedly: if buckets exceed the cache, a step does not find them there either.
    auto sum = executor_.template allocate<SquareSum>(1);
    auto rules = executor_.template allocate<engine::StepRule<AdamW>>(1);
    auto numbers = executor_.template allocate<engine::StepNumbers>(1);
    engine::StepNumbers decided;
    decided.outcome.applied = true;
    const engine::StepRule<AdamW> rule{AdamW{}, AdamW{}.scalars(10)};
    executor_.upload(numbers.span(), &decided);
    executor_.upload(rules.span(), &rule);
    auto gradient = executor_.template allocate<float>(owned), weight = executor_.template allocate<float>(owned),
         m = executor_.template allocate<float>(owned), v = executor_.template allocate<float>(owned);
    engine::UpdateOfStep<AdamW, Fp32> update;
    update.element.gradient = gradient.span().data();
    update.element.weight = {weight.span().data()};
    update.element.state[0] = m.span().data();
    update.element.state[1] = v.span().data();
    update.rule = rules.span().data();
    update.numbers = numbers.span().data();
    for (int i = 0; i <= setting_.steps; ++i) {
      const double norm =
          seconds([&] { executor_.add_squares(std::span<const float>(gradient.span()), 0, sum.span().data()); });
      const double of_update = seconds([&] { executor_.for_each(owned, update); });
      if (i > 0) times.norm.push_back(norm), times.update.push_back(of_update);
    }
  }

  // Computes as long as the communication that can overlap with it: in forward the gathers, in backward the reductions,
  // and at stage 3 the gathers of what is not held any more. At stage 0 gradients are gathered, all in backward.
  void measure_steps(StepTimes& times) {
    const double reductions = shared(median(times.reductions)), gathers = shared(median(times.gathers));
    const double forward = Stage::shards_state ? gathers : 0;
    const double backward = reductions + (Stage::shards_state ? times.gathers_a_step - 1 : 1) * gathers;
    Sharded<AdamW, Stage, Fp32, Comm> optimizer(comm_, layout_, {}, AdamW{}, options());
    optimizer.initialize([](Tensor, index_t) { return 0.0f; });
    const auto step = [&](double share) {
      for (const Unit u : layout_.forward()) {
        const auto weights = optimizer.gather(u);
        spin_(share * forward / setting_.units);
      }
      auto pass = optimizer.backward();
      for (const Unit u : layout_.backward()) {
        const auto weights = optimizer.gather(u);
        static_cast<void>(pass.gradients(u));
        spin_(share * backward / setting_.units);
        pass.ready(u);
      }
      optimizer.step();
    };
    const auto compute = [&] {
      for (int u = 0; u < setting_.units; ++u) spin_(forward / setting_.units);
      for (int u = 0; u < setting_.units; ++u) spin_(backward / setting_.units);
    };
    // From the end of one step to the end of a later one, without a stop between: the last gathers of a step overlap
    // with the forward of the next one.
    constexpr int at_a_time = 4;
    const auto seconds_of = [&](const auto& call) {
      meet();
      executor_.record().wait();
      call();
      watch_.begin();
      for (int k = 0; k < at_a_time; ++k) call();
      watch_.end();
      optimizer.finish();
      return watch_.seconds() / at_a_time;
    };
    for (int i = 0; i <= setting_.steps; ++i) {
      const double plain = seconds_of([&] { step(0); });
      const double spun = seconds_of(compute);
      const double hidden = seconds_of([&] { step(1); });
      if (i == 0) continue;
      times.step.push_back(plain);
      times.compute.push_back(spun);
      times.hidden_step.push_back(hidden);
    }
  }

  Comm comm_;
  StepSetting setting_;
  Layout layout_;
  Cuda executor_;
  typename Comm::Queue queue_;
  CudaBuffer<float> word_;
  Spin spin_;
  Stopwatch watch_;
};

template <class Stage>
StepTimes measure(const StepSetting& setting, int world) {
  StepTimes times;
  if (world == 0) {
    Nccl comm = Nccl::from_broadcast(0, 1, [](std::span<std::byte>) {});
    times = Measurement<Stage, Nccl>(comm, setting).run();
  } else {
    run_cuda_ranks(world,
                   [&](CudaLocal& comm) {
                     StepTimes mine = Measurement<Stage, CudaLocal>(comm, setting).run();
                     if (comm.rank() == 0) times = mine;
                   },
                   {.devices = {0}});
  }
  return times;
}

}  // namespace

StepTimes measure_step(const StepSetting& setting, int stage, int world) {
  switch (stage) {
    case 0: return measure<Stage0>(setting, world);
    case 1: return measure<Stage1>(setting, world);
    case 2: return measure<Stage2>(setting, world);
    default: return measure<Stage3>(setting, world);
  }
}
