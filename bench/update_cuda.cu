#include "update_cuda.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <tessera/core/bfloat16.hpp>
#include <tessera/core/float16.hpp>
#include <tessera/cuda/exec/executor.cuh>
#include <tessera/engine/memory/optimizer_state.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/adamw.hpp>

#include "stopwatch.cuh"

using namespace tessera;

namespace {

struct Scalars {
  float lr, decay, b1, b2, eps, correction1, root_of_correction2, scale;
};

template <class T>
struct alignas(4 * sizeof(T)) Four {
  T of[4];
};

// AdamW in its simplest form, four elements per thread: what a user would write with one rule and one precision. A
// Parameter of float is its own master weight.
template <class Gradient, class Parameter>
__global__ void bare_adamw(const Four<Gradient>* gradients, Four<Parameter>* parameters, float4* weights, float4* ms,
                           float4* vs, index_t quarters, Scalars s) {
  const index_t i =
      static_cast<index_t>(blockIdx.x) * static_cast<index_t>(blockDim.x) + static_cast<index_t>(threadIdx.x);
  if (i >= quarters) return;
  const Four<Gradient> g = gradients[i];
  float4 w = weights[i], m = ms[i], v = vs[i];
  const auto update = [&](float gradient, float& weight, float& first, float& second) {
    gradient *= s.scale;
    weight *= s.decay;
    first = s.b1 * first + (1 - s.b1) * gradient;
    second = s.b2 * second + (1 - s.b2) * gradient * gradient;
    weight -= s.lr / s.correction1 * first / (sqrtf(second) / s.root_of_correction2 + s.eps);
  };
  update(static_cast<float>(g.of[0]), w.x, m.x, v.x);
  update(static_cast<float>(g.of[1]), w.y, m.y, v.y);
  update(static_cast<float>(g.of[2]), w.z, m.z, v.z);
  update(static_cast<float>(g.of[3]), w.w, m.w, v.w);
  weights[i] = w;
  ms[i] = m;
  vs[i] = v;
  if constexpr (sizeof(Parameter) == 2)
    parameters[i] = {{Parameter(w.x), Parameter(w.y), Parameter(w.z), Parameter(w.w)}};
}

template <class T>
struct Fill {
  T* values;
  TESSERA_HD void operator()(index_t i) const noexcept { values[i] = T(1e-3f * static_cast<float>(1 + i % 97)); }
};

template <class Precision>
UpdateRates measure(std::int64_t elements, int repeats) {
  using Parameter = typename Precision::Parameter;
  using Gradient = typename Precision::Reduction;
  constexpr bool has_master = sizeof(Parameter) == 2;
  const index_t n = (elements + 3) / 4 * 4;
  Cuda executor;
  auto gradient = executor.allocate<Gradient>(n);
  auto weight = executor.allocate<float>(n), m = executor.allocate<float>(n), v = executor.allocate<float>(n);
  auto parameter = executor.allocate<Parameter>(has_master ? n : 0);
  const index_t copied = std::min<index_t>(n, index_t{1} << 29);
  auto from = executor.allocate<float>(copied), to = executor.allocate<float>(copied);
  executor.for_each(n, Fill<Gradient>{gradient.span().data()});

  // What step() leaves on the device for its updates.
  const AdamW rule{};
  const engine::StepRule<AdamW> step_rule{rule, rule.scalars(10)};
  engine::StepNumbers step_numbers;
  step_numbers.outcome.applied = true;
  step_numbers.outcome.gradient_scale = 0.5f;
  auto rules = executor.allocate<engine::StepRule<AdamW>>(1);
  auto numbers = executor.allocate<engine::StepNumbers>(1);
  executor.upload(rules.span(), &step_rule);
  executor.upload(numbers.span(), &step_numbers);
  engine::UpdateOfStep<AdamW, Precision> update;
  update.element.gradient = gradient.span().data();
  if constexpr (has_master)
    update.element.weight = {parameter.span().data(), weight.span().data()};
  else
    update.element.weight = {weight.span().data()};
  update.element.state[0] = m.span().data();
  update.element.state[1] = v.span().data();
  update.rule = rules.span().data();
  update.numbers = numbers.span().data();

  const Scalars scalars{.lr = 1e-3f,
                        .decay = 1 - 1e-3f * 1e-2f,
                        .b1 = 0.9f,
                        .b2 = 0.999f,
                        .eps = 1e-8f,
                        .correction1 = 1 - std::pow(0.9f, 10.0f),
                        .root_of_correction2 = std::sqrt(1 - std::pow(0.999f, 10.0f)),
                        .scale = 0.5f};
  const auto run_update = [&] { executor.for_each(n, update); };
  const auto run_bare = [&] {
    const index_t quarters = n / 4;
    device::launch(bare_adamw<Gradient, Parameter>, static_cast<unsigned>((quarters + 255) / 256), 256,
                   executor.stream(), reinterpret_cast<const Four<Gradient>*>(gradient.span().data()),
                   reinterpret_cast<Four<Parameter>*>(parameter.span().data()),
                   reinterpret_cast<float4*>(weight.span().data()), reinterpret_cast<float4*>(m.span().data()),
                   reinterpret_cast<float4*>(v.span().data()), quarters, scalars);
  };
  const auto run_copy = [&] {
    cuda_check(cudaMemcpyAsync(to.span().data(), from.span().data(), to.span().size_bytes(), cudaMemcpyDeviceToDevice,
                               executor.stream()),
               "copying device memory");
  };
  // Bytes per second. Short work is repeated within a sample, so that launch overhead does not count.
  Stopwatch watch(executor.stream());
  const auto rate = [&](double bytes, const auto& call) {
    const int times = static_cast<int>(std::clamp(32e9 / bytes, 1.0, 64.0));  // about 10 ms
    cuda_check(cudaStreamSynchronize(executor.stream()), "waiting");
    watch.begin();
    for (int i = 0; i < times; ++i) call();
    watch.end();
    return bytes * times / watch.seconds();
  };
  const double update_bytes = static_cast<double>(n) * (sizeof(Gradient) + 6 * sizeof(float) + (has_master ? 2 : 0));
  const double copy_bytes = 2 * static_cast<double>(copied) * sizeof(float);

  UpdateRates rates{.precision = Precision::name};
  rate(update_bytes, run_update), rate(update_bytes, run_bare), rate(copy_bytes, run_copy);
  for (int repeat = 0; repeat < repeats; ++repeat) {
    rates.update.push_back(rate(update_bytes, run_update));
    rates.copy.push_back(rate(copy_bytes, run_copy));
    rates.bare.push_back(rate(update_bytes, run_bare));
    rates.bare.push_back(rate(update_bytes, run_bare));
    rates.copy.push_back(rate(copy_bytes, run_copy));
    rates.update.push_back(rate(update_bytes, run_update));
  }
  return rates;
}

}  // namespace

UpdateRates measure_fp32(std::int64_t elements, int repeats) { return measure<Fp32>(elements, repeats); }
UpdateRates measure_bf16(std::int64_t elements, int repeats) { return measure<Bf16>(elements, repeats); }
UpdateRates measure_fp16(std::int64_t elements, int repeats) { return measure<Fp16>(elements, repeats); }
