// Logistic regression on made-up data at every ZeRO stage, sharded over 4 ranks (threads of one process):
//   g++ -std=c++20 -O2 -pthread -I include examples/hello.cpp -o hello && ./hello
#include <cmath>
#include <cstdio>
#include <random>

#include <tessera/tessera.hpp>

using namespace tessera;

constexpr std::size_t inputs = 100, samples = 64;

template <class Stage>
void train() {
  Layout layout;  // the model: one unit with one tensor
  const Unit linear = layout.add_unit("linear");
  const Tensor weight = layout.add_tensor("weight", {inputs});

  run_ranks(4, [&](Local& comm) {
    Sharded<AdamW, Stage> optimizer(comm, layout, {}, AdamW{.lr = 0.01});
    optimizer.initialize([](Tensor, index_t) { return 0.0f; });
    std::mt19937 random(static_cast<unsigned>(comm.rank()));  // each rank draws samples of its own
    std::normal_distribution<float> normal;

    for (int step = 1; step <= 150; ++step) {
      auto pass = optimizer.backward();
      const auto weights = optimizer.gather(linear);
      const auto w = weights[weight];
      const auto gradient = pass.gradients(linear)[weight];
      float loss = 0;
      for (std::size_t s = 0; s < samples; ++s) {
        float x[inputs], sum = 0, z = 0;
        for (std::size_t i = 0; i < inputs; ++i) sum += x[i] = normal(random), z += w[i] * x[i];
        const float y = sum > 0, p = 1 / (1 + std::exp(-z));  // the label, and the model's probability of it
        for (std::size_t i = 0; i < inputs; ++i) gradient[i] += (p - y) * x[i] / samples;
        loss -= std::log(y > 0 ? p : 1 - p) / samples;
      }
      pass.ready(linear);
      optimizer.step();
      if (comm.rank() == 0 && step % 50 == 0)
        std::printf("%s  step %3d  loss %.6f\n", Stage::name, step, loss);
    }
  });
}

int main() { train<Stage0>(), train<Stage1>(), train<Stage2>(), train<Stage3>(); }
