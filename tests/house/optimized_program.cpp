// A user's program at -O3, where compilers report further warnings about the code that they generate.
#include <cstddef>
#include <cstdint>
#include <vector>

#include <tessera/tessera.hpp>

tessera::Layout line() {
  tessera::Layout layout;
  layout.add_unit("line");
  layout.add_tensor("weight", {5, 3});
  layout.add_tensor("bias", {5}, {.group = 1});
  return layout;
}

void train(tessera::Local& comm, const tessera::Layout& layout) {
  using Optimizer = tessera::Sharded<tessera::Lamb, tessera::Stage3, tessera::Bf16>;
  Optimizer optimizer{comm, layout, {}, std::vector<tessera::Lamb>(2), {.micro_batches = 2}};
  optimizer.initialize([](tessera::Tensor t, std::int64_t i) { return static_cast<float>(t.index + i); });
  for (int k = 0; k < 2; ++k) {
    auto pass = optimizer.backward();
    for (const tessera::Unit u : layout.backward()) {
      const auto weights = optimizer.gather(u);
      const auto gradients = pass.gradients(u);
      for (const tessera::Tensor t : layout.tensors(u))
        for (std::size_t i = 0; i < weights[t].size(); ++i) gradients[t][i] = weights[t][i];
      pass.ready(u);
    }
  }
  optimizer.rule(1).lr *= 2;
  optimizer.step();
}

int main() {
  const tessera::Layout layout = line();
  tessera::run_ranks(2, [&](tessera::Local& comm) { train(comm, layout); });
}
