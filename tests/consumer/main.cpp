// The smallest program of a user: two ranks find the weights that minimize a quadratic loss.
#include <atomic>
#include <cmath>
#include <cstdio>

#include <tessera/tessera.hpp>

int main() {
  tessera::Layout layout;
  layout.add_unit("line");
  layout.add_tensor("weight", {5});

  std::atomic<int> wrong = 0;
  tessera::run_ranks(2, [&](tessera::Local& comm) {
    tessera::Sharded<tessera::Adam, tessera::Stage3> optimizer{comm, layout, {}, tessera::Adam{.lr = 0.05f}};
    optimizer.initialize([](tessera::Tensor, std::int64_t) { return 0.0f; });
    for (int step = 0; step < 500; ++step) {
      auto pass = optimizer.backward();
      for (const tessera::Unit u : layout.backward()) {
        const auto weights = optimizer.gather(u);
        const auto gradients = pass.gradients(u);
        for (const tessera::Tensor t : layout.tensors(u))
          for (std::size_t i = 0; i < weights[t].size(); ++i) gradients[t][i] += weights[t][i] - static_cast<float>(i);
        pass.ready(u);
      }
      optimizer.step();
    }
    for (const tessera::Unit u : layout.forward()) {
      const auto weights = optimizer.gather(u);
      for (const tessera::Tensor t : layout.tensors(u))
        for (std::size_t i = 0; i < weights[t].size(); ++i)
          if (!(std::fabs(weights[t][i] - static_cast<float>(i)) < 0.01f)) ++wrong;
    }
  });
  std::printf("%d weights are wrong\n", wrong.load());
  return wrong == 0 ? 0 : 1;
}
