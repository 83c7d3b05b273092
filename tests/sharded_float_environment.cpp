#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include <doctest/doctest.h>

#include <tessera/tessera.hpp>

#include "float_environment.hpp"
#include "training.hpp"

using namespace tessera;
using tessera::testing::StrangeEnvironment;

namespace {

// Where the environment is changed: nowhere, on the thread that starts the ranks (and so on all of them), or on one
// rank.
enum class Strange { nowhere, everywhere, on_rank_1 };

// A finite number, computed without arithmetic. Every second one is a denormal or nearly as small (around 1e-40).
template <class T>
T gradient(std::uint64_t step, std::uint64_t leaf, std::uint64_t tensor, std::uint64_t i) {
  const std::uint64_t random = tessera::testing::hash(step, leaf, tensor, i);
  const auto low = static_cast<std::uint32_t>(random), high = static_cast<std::uint32_t>(random >> 32);
  if constexpr (std::is_same_v<T, float>) {
    const std::uint32_t exponent = low & 1 ? 0 : (low >> 1) % 120 + 2;
    return bits_as<float>((high & 0x807fffffu) | exponent << 23);
  } else if constexpr (std::is_same_v<T, bfloat16>) {
    const std::uint32_t exponent = low & 1 ? 0 : (low >> 1) % 120 + 2;
    return bits_as<bfloat16>(static_cast<std::uint16_t>((high & 0x807fu) | exponent << 7));
  } else {
    const std::uint32_t exponent = low & 1 ? 0 : (low >> 1) % 20;
    return bits_as<float16>(static_cast<std::uint16_t>((high & 0x83ffu) | exponent << 10));
  }
}

// Arithmetic whose result differs in any other than the default environment.
float first_weight(Tensor tensor, index_t i) {
  const volatile float tiny = 1e-20f, third = 1.0f / 3;
  const auto of_element = static_cast<float>(1 + (7 * i + tensor.index) % 19);
  return i % 3 == 0 ? tiny * tiny * of_element : third * of_element;
}

template <class Optimizer>
void run_step(Optimizer& optimizer, int rank, int step) {
  using Gradient = typename Optimizer::Gradient;
  const Layout& layout = optimizer.layout();
  for (int k = 0; k < 3; ++k) {
    auto pass = optimizer.backward();
    for (const Unit u : layout.backward()) {
      static_cast<void>(optimizer.gather(u));
      const auto gradients = pass.gradients(u);
      for (const Tensor t : layout.tensors(u)) {
        if (layout.frozen(t)) continue;
        std::uint64_t i = 0;
        for (auto& element : gradients[t])
          element = gradient<Gradient>(static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(3 * rank + k),
                                       static_cast<std::uint64_t>(t.index), i++);
      }
      pass.ready(u);
    }
  }
}

template <class Optimizer>
void note_bits(Optimizer& optimizer, std::vector<std::uint64_t>& seen) {
  for (const Unit u : optimizer.layout().forward()) {
    const auto weights = optimizer.gather(u);
    for (const Tensor t : optimizer.layout().tensors(u))
      for (const auto value : weights[t])
        if constexpr (sizeof(value) == 4)
          seen.push_back(bits_as<std::uint32_t>(value));
        else
          seen.push_back(value.bits);
  }
}

template <class Rule, class Stage, class Precision>
std::vector<std::uint64_t> bits(const Rule& rule, Strange strange, index_t inline_bytes) {
  std::vector<std::uint64_t> seen;
  std::atomic<int> lost = 0;
  std::optional<StrangeEnvironment> of_all;
  if (strange == Strange::everywhere) of_all.emplace();
  run_ranks(
      2,
      [&](Local& comm) {
        const bool is_strange = strange == Strange::everywhere || (strange == Strange::on_rank_1 && comm.rank() == 1);
        std::optional<StrangeEnvironment> of_rank;
        if (is_strange) of_rank.emplace();
        const auto look = [&] { lost += is_strange && !StrangeEnvironment::holds(); };
        Sharded<Rule, Stage, Precision, Local> optimizer(
            comm, tessera::testing::ragged_layout(), {}, std::vector<Rule>{rule, rule},
            {.micro_batches = 3, .clip_norm = 0.3, .bucket_bytes = 1 << 10});
        look();
        optimizer.initialize(first_weight);
        look();
        for (int step = 0; step < 4; ++step) {
          run_step(optimizer, comm.rank(), step);
          look();
          const auto report = optimizer.step();
          look();
          if (comm.rank() == 0) seen.push_back(bits_as<std::uint64_t>(report.gradient_norm()));
        }
        optimizer.begin_evaluation();
        look();
        std::vector<std::uint64_t> here;
        note_bits(optimizer, here);
        optimizer.end_evaluation();
        note_bits(optimizer, here);
        look();
        if (comm.rank() == 0) seen.insert(seen.end(), here.begin(), here.end());
      },
      {.inline_bytes = inline_bytes});
  CHECK(lost == 0);
  return seen;
}

template <class Rule, class Stage, class Precision>
void check(const Rule& rule) {
  const auto expected = bits<Rule, Stage, Precision>(rule, Strange::nowhere, 0);
  for (const Strange strange : {Strange::everywhere, Strange::on_rank_1})
    for (const index_t inline_bytes : {index_t{0}, index_t{1} << 30}) {
      const bool same = bits<Rule, Stage, Precision>(rule, strange, inline_bytes) == expected;
      CHECK(same);
    }
}

}  // namespace

TEST_CASE(
    "the calling thread's environment changes no bit, whichever thread moves memory, and is restored after each call") {
  SUBCASE("fp32 with denormal gradients and weights") {
    check<AdamW, Stage2, Fp32>({.lr = 1e-2, .epsilon = 1e-30});
  }
  SUBCASE("a rule with norms of tensors") { check<Lamb, Stage1, Fp32>({.lr = 1e-2}); }
  SUBCASE("stochastic rounding and a schedule") {
    check<Scheduled<Sgd, CosineSchedule>, Stage0, Bf16Stochastic>(
        {{.momentum = 0.9}, {.peak = 0.1, .warmup_steps = 2, .steps = 5, .floor = 0.01}});
  }
  SUBCASE("a loss scale and float16") { check<Adam, Stage3, Fp16>({.lr = 1e-2}); }
  SUBCASE("evaluation weights and bfloat16") { check<ScheduleFreeAdamW, Stage1, Bf16>({.lr = 1e-2}); }
}
