#include "step_cuda.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <tessera/cuda/executor.cuh>
#include <tessera/cuda/local.cuh>
#include <tessera/cuda/nccl.cuh>
#include <tessera/tessera.hpp>

#include "samples.hpp"

using namespace tessera;

namespace {

// One thread that does nothing for so many of its own rounds: it leaves all but one multiprocessor to others.
__global__ void spin_kernel(long long rounds, float* end) {
  float x = 1;
  for (long long i = 0; i < rounds; ++i) x = x * 0.999f + 0.001f;
  *end = x;
}

class Spin {
 public:
  /// A second is so many rounds, found by spinning.
  explicit Spin(Cuda executor) : executor_(executor), end_(executor_.allocate<float>(1)) {
    constexpr double rounds = 1e6;
    run_rounds(rounds);
    wait();
    const auto begin = std::chrono::steady_clock::now();
    run_rounds(rounds);
    wait();
    rounds_a_second_ = rounds / std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

  void operator()(double seconds) { run_rounds(seconds * rounds_a_second_); }

 private:
  void run_rounds(double rounds) {
    if (rounds < 1) return;
    device::launch(spin_kernel, 1, 1, executor_.stream(), static_cast<long long>(rounds), end_.span().data());
  }
  void wait() { executor_.record().wait(); }

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

/// One rank. Every rank does everything, and rank 0 has the times.
template <class Stage, class Comm>
class Measurement {
 public:
  Measurement(Comm& comm, const StepSetting& setting)
      : comm_(comm),
        setting_(setting),
        layout_(layout_of(setting)),
        executor_(comm.executor()),
        queue_(comm_.queue(Duration::seconds(600))),
        word_(executor_.template allocate<float>(1)),
        spin_(executor_) {}

  StepTimes run() {
    StepTimes times;
    times.bytes = Sharded<AdamW, Stage, Fp32, Comm>::plan(layout_, comm_.size(), options()).bytes() * comm_.size();
    std::size_t free = 0, all = 0;
    cuda_check(cudaMemGetInfo(&free, &all), "asking for free memory");
    // The engine's buffers have gone to others before; every rank is to find the same.
    times.fits = agree(times.bytes <= static_cast<std::int64_t>(0.95 * static_cast<double>(free)));
    if (!times.fits) return times;
    measure_kernels(times);
    times.compute = shared(median(times.communication));
    measure_steps(times);
    return times;
  }

 private:
  Options options() const { return {.bucket_bytes = setting_.bucket_bytes, .prefetch = setting_.prefetch}; }

  // All ranks are here, and their devices are at rest.
  void meet() {
    executor_.wait(queue_.all_reduce(word_.span(), {"meeting"}, executor_.record()));
    executor_.record().wait();
  }

  // Rank 0's number, on all.
  double shared(double value) {
    auto number = executor_.template allocate<double>(1);
    value = comm_.rank() == 0 ? value : 0;
    executor_.upload(number.span(), &value);
    executor_.wait(queue_.all_reduce(number.span(), {"a number of rank 0"}, executor_.record()));
    executor_.download(std::span<const double>(number.span()), &value);
    return value;
  }
  bool agree(bool yes) { return shared(yes ? 1 : 0) > 0; }

  template <class Call>
  double seconds(const Call& call) {
    meet();
    const auto begin = std::chrono::steady_clock::now();
    call();
    meet();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

  // In memory of their own, which is given back before the optimizer takes its own.
  void measure_kernels(StepTimes& times) {
    const Sharding sharding(layout_, comm_.size(), setting_.bucket_bytes / static_cast<index_t>(sizeof(float)));
    const auto& flat = sharding.trainable();
    index_t owned = 0;
    for (int b = 0; b < sharding.buckets(); ++b)
      owned += Stage::shards_state ? flat.owned(b, comm_.rank()).size() : flat.range(b).size();
    auto bucket = executor_.template allocate<float>(flat.longest_range());
    auto slice = executor_.template allocate<float>(flat.longest_part());
    const auto communicate = [&] {
      for (int b = 0; b < sharding.buckets(); ++b) {
        const auto whole = bucket.span().first(flat.range(b).size());
        const auto mine = slice.span().first(flat.owned(b, comm_.rank()).size());
        CudaEvent last = queue_.reduce_scatter(std::span<const float>(whole), mine, flat.part(b), {"bucket", b}, {});
        for (int gather = 0; gather < (Stage::shards_parameters ? 2 : 1); ++gather)
          last = queue_.all_gather(std::span<const float>(mine), whole, flat.part(b), {"bucket", b}, last);
        if (b + 1 == sharding.buckets()) executor_.wait(last);
      }
    };
    for (int i = 0; i <= setting_.steps; ++i)
      if (const double s = seconds(communicate); i > 0) times.communication.push_back(s);

    // All numbers of a bucket's size, over and over: what lies in a cache is none of a step's either, if buckets are
    // larger than it.
    auto sum = executor_.template allocate<SquareSum>(1);
    auto rules = executor_.template allocate<StepRule<AdamW>>(1);
    auto numbers = executor_.template allocate<StepNumbers>(1);
    StepNumbers decided;
    decided.outcome.applied = true;
    const StepRule<AdamW> rule{AdamW{}, AdamW{}.at(10)};
    executor_.upload(numbers.span(), &decided);
    executor_.upload(rules.span(), &rule);
    auto gradient = executor_.template allocate<float>(owned), weight = executor_.template allocate<float>(owned),
         m = executor_.template allocate<float>(owned), v = executor_.template allocate<float>(owned);
    UpdateOfStep<AdamW, Fp32> update;
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

  void measure_steps(StepTimes& times) {
    Sharded<AdamW, Stage, Fp32, Comm> optimizer(comm_, layout_, {}, AdamW{}, options());
    const auto step = [&](double compute) {  // a third of it in forward
      for (const Unit u : layout_.forward()) {
        const auto weights = optimizer.gather(u);
        spin_(compute / 3 / setting_.units);
      }
      auto pass = optimizer.backward();
      for (const Unit u : layout_.backward()) {
        const auto weights = optimizer.gather(u);
        static_cast<void>(pass.gradients(u));
        spin_(compute * 2 / 3 / setting_.units);
        pass.ready(u);
      }
      optimizer.step();
    };
    // Several at a time, as a step's last gathers hide behind the next one's forward.
    constexpr int at_a_time = 4;
    for (int i = 0; i <= setting_.steps; ++i)
      for (const double compute : {0.0, times.compute}) {
        const double s = seconds([&] {
          for (int k = 0; k < at_a_time; ++k) step(compute);
          optimizer.finish();
        });
        if (i > 0) (compute > 0 ? times.hidden_step : times.step).push_back(s / at_a_time);
      }
  }

  Comm comm_;
  StepSetting setting_;
  Layout layout_;
  Cuda executor_;
  typename Comm::Queue queue_;
  CudaBuffer<float> word_;
  Spin spin_;
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
