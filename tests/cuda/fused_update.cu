// Compares every rule, precision and schedule in a simple kernel with the same code on the host.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include <tessera/engine/kernels/update.hpp>
#include <tessera/exec/vectorize.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/adadelta.hpp>
#include <tessera/rule/adagrad.hpp>
#include <tessera/rule/adam.hpp>
#include <tessera/rule/adamw.hpp>
#include <tessera/rule/amsgrad.hpp>
#include <tessera/rule/lamb.hpp>
#include <tessera/rule/lars.hpp>
#include <tessera/rule/lion.hpp>
#include <tessera/rule/nadam.hpp>
#include <tessera/rule/radam.hpp>
#include <tessera/rule/rmsprop.hpp>
#include <tessera/rule/schedule.hpp>
#include <tessera/rule/schedule_free_adamw.hpp>
#include <tessera/rule/sgd.hpp>

#include "rule/sign_sgd.inc"

namespace tessera {
namespace {

constexpr index_t elements = 1000;

template <class Body>
__global__ void for_each(index_t n, Body body) {
  for (index_t i = blockIdx.x * index_t{blockDim.x} + threadIdx.x; i < n; i += index_t{gridDim.x} * blockDim.x) body(i);
}

template <class Schedule>
__global__ void rate(Schedule schedule, index_t step, double* out) {
  *out = schedule(step);
}

// A function instead of <<<>>>, so that a host compiler can compile it too (tests/emulation).
template <class... Parameters, class... Arguments>
void launch(unsigned blocks, unsigned threads, void (*kernel)(Parameters...), const Arguments&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  REQUIRE(cudaLaunchKernelEx(&config, kernel, arguments...) == cudaSuccess);
}

// Memory that host and device can both access.
template <class T>
struct Managed {
  T* data = nullptr;
  explicit Managed(index_t n) {
    REQUIRE(cudaMallocManaged(&data, static_cast<std::size_t>(n) * sizeof(T)) == cudaSuccess);
    for (index_t i = 0; i < n; ++i) data[i] = T{};
  }
  ~Managed() { cudaFree(data); }
  Managed(const Managed&) = delete;
};

// The data of an update.
template <class Rule, class Precision>
struct Memory {
  using Master = typename Precision::Master;

  Managed<typename Precision::Reduction> gradient{elements};
  Managed<typename Precision::Parameter> parameter{elements};
  Managed<Master> master{elements};
  Managed<typename Precision::State> state{elements * 4};

  engine::FusedUpdate<Rule, Precision> update(const Rule& rule, index_t step) {
    engine::FusedUpdate<Rule, Precision> element;
    element.gradient = gradient.data;
    element.weight.parameter = parameter.data;
    if constexpr (requires { element.weight.master; }) element.weight.master = master.data;
    if constexpr (requires { element.weight.random; }) element.weight.random = core::StepRandom(7, step);
    for (std::size_t s = 0; s < state_floats<Rule>; ++s) element.state[s] = state.data + s * elements;
    element.rule = rule;
    element.scalars = rule.scalars(step);
    element.scale = 0.5f;
    return element;
  }

  void fill() {
    for (index_t i = 0; i < elements; ++i) {
      gradient.data[i] = typename Precision::Reduction(std::sin(static_cast<float>(i)));
      const float weight = std::cos(static_cast<float>(i));
      if constexpr (std::is_same_v<Master, float>) master.data[i] = weight;
      parameter.data[i] = typename Precision::Parameter(weight);
    }
  }
};

// A device may fuse operations, so a float may differ in its last bits, and a rounded number by one step of its type.
template <class Rule, class Precision>
void check() {
  CAPTURE(Rule::name);
  CAPTURE(Precision::name);
  Memory<Rule, Precision> host, device;
  host.fill(), device.fill();
  for (index_t step = 1; step <= 5; ++step) {
    const engine::FusedUpdate<Rule, Precision> on_host = host.update(Rule{}, step), on_device = device.update(Rule{}, step);
    if constexpr (NeedsTensorNorms<Rule>) {  // its moments are updated in norm_input
      for (index_t i = 0; i < elements; ++i) on_host.norm_input(i);
      launch(4, 128, for_each<engine::MeasuredOf<Rule, Precision>>, elements, engine::MeasuredOf<Rule, Precision>{on_device});
    }
    exec::vectorize(0, elements, on_host);
    launch(4, 128, for_each<engine::FusedUpdate<Rule, Precision>>, elements, on_device);
  }
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  const double tolerance = sizeof(typename Precision::Parameter) == 4 ? 1e-5 : 1.0 / 64;
  int apart = 0, moved = 0;
  for (index_t i = 0; i < elements; ++i) {
    const auto weight = static_cast<double>(static_cast<float>(device.parameter.data[i]));
    const double difference = weight - static_cast<double>(static_cast<float>(host.parameter.data[i]));
    if (!(std::fabs(difference) <= tolerance)) ++apart;  // also counts NaN
    if (weight != static_cast<double>(std::cos(static_cast<float>(i)))) ++moved;
  }
  CHECK(apart == 0);
  CHECK(moved > elements / 2);
}

TEST_CASE_TEMPLATE("a rule updates on the device as on the host", Rule, Sgd, Adam, AdamW, AMSGrad, NAdam, RAdam,
                   Adagrad, RMSprop, Adadelta, Lion, Lamb, Lars, ScheduleFreeAdamW) {
  check<Rule, Fp32>();
}

TEST_CASE_TEMPLATE("a precision stores weights on the device as on the host", Precision, Bf16, Bf16ReduceFp32, Fp16,
                   Bf16Remainder, Bf16Stochastic) {
  check<AdamW, Precision>();
}

TEST_CASE("the rule in docs/rules.md runs on the device") { check<SignSgd, Fp32>(); }

template <class Schedule>
void check_rates(const Schedule& schedule) {
  Managed<double> on_device(1);
  for (const index_t step : {1, 2, 5, 50, 99, 1000}) {
    launch(1, 1, rate<Schedule>, schedule, step, on_device.data);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    CHECK(*on_device.data == doctest::Approx(schedule(step)).epsilon(1e-12));
  }
}

TEST_CASE("a schedule has the same rate on the device and on the host") {
  check_rates(ConstantSchedule{});
  check_rates(WarmupSchedule{.warmup_steps = 10});
  check_rates(LinearSchedule{.warmup_steps = 10, .steps = 100, .floor = 1e-5});
  check_rates(CosineSchedule{.warmup_steps = 10, .steps = 100, .floor = 1e-5});
  check_rates(StepSchedule{.every = 30});
  check_rates(OneCycleSchedule{.steps = 100});
}

}  // namespace
}  // namespace tessera
