// Compares the fused AdamW update with the memory bandwidth. The ceiling, measured in the same run, reads and writes
// the same streams with the same loop and only adds. The last column compares with an update that only has the square
// root and the division.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <tessera/core/bfloat16.hpp>
#include <tessera/engine/kernels/update.hpp>
#include <tessera/exec/host.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/adamw.hpp>

using namespace tessera;

namespace {

template <class Gradient, class Parameter>
struct Ceiling {
  const Gradient* gradient;
  float* weight;
  Parameter* parameter;
  float* m;
  float* v;

  TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept {
    const auto g = static_cast<float>(gradient[i]);
    const float w = weight[i] + g;
    weight[i] = w;
    m[i] += g;
    v[i] += g;
    if constexpr (sizeof(Parameter) == 2)
      parameter[i].bits = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(w) >> 16);
  }

  TESSERA_ALWAYS_INLINE void prefetch(index_t i) const noexcept {
    exec::vector_code::prefetch_block(gradient + i);
    for (float* const stream : {weight, m, v}) exec::vector_code::prefetch_block(stream + i);
    if constexpr (sizeof(Parameter) == 2) exec::vector_code::prefetch_block(parameter + i);
  }
};

// A lower bound for every version of the update: its square root and division, in the first-level cache, and no more.
struct RootAndDivision {
  float* x;

  TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept { x[i] = 3.0f / ::sqrtf(x[i]); }
};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

template <class Call>
double seconds(Call&& call) {
  const auto begin = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

struct Line {
  const char* precision;
  index_t n;
  int threads;
  double update_rate, ceiling_rate, divider_rate;  // bytes per second
};

// Small sizes are repeated within a sample, so that every sample takes milliseconds.
template <class Precision>
Line measure(const char* precision, index_t n, int threads, int repeats) {
  using Parameter = typename Precision::Parameter;
  using Gradient = typename Precision::Reduction;
  Host host(threads);
  auto gradient = host.allocate<Gradient>(n);
  auto weight = host.allocate<float>(n), m = host.allocate<float>(n), v = host.allocate<float>(n);
  auto parameter = host.allocate<Parameter>(sizeof(Parameter) == 2 ? n : 0);
  for (index_t i = 0; i < n; ++i)
    gradient.span()[static_cast<std::size_t>(i)] = Gradient(1e-3f * static_cast<float>(1 + i % 97));

  const AdamW rule{};
  engine::FusedUpdate<AdamW, Precision> update{.gradient = gradient.span().data(),
                                       .state = {m.span().data(), v.span().data()},
                                       .rule = rule,
                                       .scalars = rule.scalars(10),
                                       .scale = 0.5f};
  if constexpr (sizeof(Parameter) == 2)
    update.weight = {parameter.span().data(), weight.span().data()};
  else
    update.weight = {weight.span().data()};
  const Ceiling<Gradient, Parameter> ceiling{gradient.span().data(), weight.span().data(), parameter.span().data(),
                                             m.span().data(), v.span().data()};
  const int passes = static_cast<int>(std::max<index_t>(1, (index_t{1} << 24) / n));
  const auto run = [&](const auto& body) {
    return seconds([&] {
             for (int pass = 0; pass < passes; ++pass) host.for_each(n, body);
           }) /
           passes;
  };
  std::vector<float> few(2048, 2.0f);
  const auto divide = [&] {
    constexpr int again = 8192;  // as long a sample as the others
    const auto size = static_cast<index_t>(few.size());
    return seconds([&] {
             for (int pass = 0; pass < again; ++pass) exec::vectorize(0, size, RootAndDivision{few.data()});
           }) /
           static_cast<double>(again * size);
  };
  std::vector<double> updates, ceilings, divisions;
  run(ceiling), run(update);
  for (int repeat = 0; repeat < repeats; ++repeat) {
    updates.push_back(run(update));
    ceilings.push_back(run(ceiling));
    ceilings.push_back(run(ceiling));
    updates.push_back(run(update));
    divisions.push_back(divide());
  }
  const double bytes =
      static_cast<double>(n) * (sizeof(Gradient) + 6 * sizeof(float) + (sizeof(Parameter) == 2 ? 2 : 0));
  return {precision,
          n,
          threads,
          bytes / median(updates),
          bytes / median(ceilings),
          bytes / static_cast<double>(n) / median(divisions) * threads};
}

std::string row(const Line& line) {
  char text[160];
  std::snprintf(text, sizeof text, "| %s | %lld | %d | %.1f | %.1f | %.3f | %.3f |", line.precision,
                static_cast<long long>(line.n), line.threads, line.update_rate * 1e-9, line.ceiling_rate * 1e-9,
                line.update_rate / line.ceiling_rate, std::min(1.0, line.divider_rate / line.ceiling_rate));
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<index_t> sizes{index_t{1} << 20, index_t{1} << 24, index_t{1} << 27};
  std::vector<int> threads{1, 2};
  int repeats = 10;
  std::string markdown;
  CLI::App app{"The fused AdamW update against a ceiling that reads and writes the same bytes and only adds"};
  app.add_option("--sizes", sizes, "elements")->delimiter(',')->check(CLI::PositiveNumber);
  app.add_option("--threads", threads, "threads")->delimiter(',')->check(CLI::PositiveNumber);
  app.add_option("--repeats", repeats, "samples, each A B B A")->check(CLI::PositiveNumber);
  app.add_option("--markdown", markdown, "also append the table to this file");
  CLI11_PARSE(app, argc, argv);

  std::ostringstream table;
  const auto say = [&](const std::string& line) {
    std::puts(line.c_str());
    std::fflush(stdout);
    table << line << '\n';
  };
  say("| precision | elements | threads | update GB/s | ceiling GB/s | ratio | divider allows |");
  say("| --- | --- | --- | --- | --- | --- | --- |");
  for (const index_t n : sizes) {
    for (const int t : threads) {
      say(row(measure<Fp32>("fp32", n, t, repeats)));
      say(row(measure<Bf16>("bf16 + fp32 master", n, t, repeats)));
    }
  }
  if (!markdown.empty()) std::ofstream(markdown, std::ios::app) << table.str();
}
