// Exports or imports a small model, for exchange.py.
//
//     program export FILE [BYTES]   element i of tensor t is 10 t + i, on 3 ranks; BYTES of data per file
//     program import FILE           prints the sum of each tensor's elements times (1 + index), on 2 ranks
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <tessera/checkpoint.hpp>
#include <tessera/tessera.hpp>

using namespace tessera;

namespace {

Layout model() {
  Layout layout;
  layout.add_unit("embedding");
  layout.add_tensor("weight", {5, 3});
  layout.add_unit("head");
  layout.add_tensor("weight", {2, 3, 7});
  layout.add_tensor("scale", {}, {.frozen = true});
  return layout;
}

template <class Precision>
void export_to(const std::string& path, index_t bytes) {
  run_ranks(3, [&](Local& comm) {
    Sharded<AdamW, Stage3, Precision> optimizer(comm, model(), {}, AdamW{});
    optimizer.initialize([](Tensor t, index_t i) { return static_cast<float>(10 * t.index + i); });
    export_parameters(comm, optimizer, path, {.file_bytes = bytes});
  });
}

void import_from(const std::string& path) {
  run_ranks(2, [&](Local& comm) {
    Sharded<AdamW, Stage2, Fp32> optimizer(comm, model(), {}, AdamW{});
    import_parameters(comm, optimizer, path);
    if (comm.rank() != 0) return;
    const Layout& layout = optimizer.layout();
    for (const Unit u : layout.forward()) {
      const auto weights = optimizer.gather(u);
      for (const Tensor t : layout.tensors(u)) {
        double sum = 0;
        index_t i = 0;
        for (const float weight : weights[t]) sum += static_cast<double>(weight) * static_cast<double>(++i);
        std::printf("%s %.17g\n", layout.name(t).c_str(), sum);
      }
    }
    optimizer.finish();
  });
}

}  // namespace

int main(int count, char** arguments) try {
  const std::vector<std::string> all(arguments, arguments + count);
  if (count == 4 && all[1] == "export") export_to<Fp32>(all[2], std::atoll(arguments[3]));
  else if (count == 3 && all[1] == "export16") export_to<Fp16>(all[2], 1 << 20);
  else if (count == 3 && all[1] == "import") import_from(all[2]);
  else return 2;
} catch (const Error& error) {
  std::puts(error.what());
  return 1;
}
