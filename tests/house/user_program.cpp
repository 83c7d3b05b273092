// A user's program that names all public names. Compiled with a user's flags and without -isystem, the headers must
// give no warning (CMakeLists.txt), also in their instantiations.
#include <cstddef>
#include <sstream>
#include <vector>

#include <tessera/bootstrap/launch.hpp>
#include <tessera/bootstrap/file.hpp>
#include <tessera/bootstrap/tcp.hpp>
#include <tessera/model/simulated.hpp>
#include <tessera/model/step_time.hpp>
#include <tessera/tessera.hpp>
#include <tessera/timeline/trace_events.hpp>

// Instantiates every member, used below or not. Each policy once, in combinations that differ the most.
template class tessera::Sharded<tessera::AdamW, tessera::Stage0>;
template class tessera::Sharded<tessera::AdamW, tessera::Stage1, tessera::Bf16>;
template class tessera::Sharded<tessera::AdamW, tessera::Stage2, tessera::Fp16>;
template class tessera::Sharded<tessera::AdamW, tessera::Stage3, tessera::Bf16>;
template class tessera::Sharded<tessera::Lamb, tessera::Stage3, tessera::Bf16Remainder>;
template class tessera::Sharded<tessera::ScheduleFreeAdamW, tessera::Stage2, tessera::Bf16Stochastic>;
template class tessera::Sharded<tessera::Scheduled<tessera::Lars, tessera::CosineSchedule>, tessera::Stage1>;
template class tessera::Sharded<tessera::Adam, tessera::Stage3, tessera::Fp32, tessera::Recording<tessera::Local>>;
template class tessera::Sharded<tessera::Sgd, tessera::Stage2, tessera::Bf16ReduceFp32,
                                tessera::Simulated<tessera::Recording<tessera::Local>>>;
template class tessera::Sharded<tessera::Lion, tessera::Stage1, tessera::Fp32, tessera::Self>;
template class tessera::Sharded<tessera::AMSGrad, tessera::Stage0, tessera::Fp32, tessera::Self>;
template class tessera::Sharded<tessera::NAdam, tessera::Stage0, tessera::Fp32, tessera::Self>;
template class tessera::Sharded<tessera::RAdam, tessera::Stage0, tessera::Fp32, tessera::Self>;
template class tessera::Sharded<tessera::Adagrad, tessera::Stage0, tessera::Fp32, tessera::Self>;
template class tessera::Sharded<tessera::RMSprop, tessera::Stage0, tessera::Fp32, tessera::Self>;
template class tessera::Sharded<tessera::Adadelta, tessera::Stage0, tessera::Fp32, tessera::Self>;

namespace {

tessera::Layout model() {
  tessera::Layout layout;
  layout.add_unit("embedding");
  const tessera::Tensor embedding = layout.add_tensor("embedding", {16, 8});
  layout.add_unit("block");
  layout.add_tensor("weight", {8, 8});
  layout.add_tensor("bias", {8}, {.group = 1});
  layout.add_tensor("mean", {8}, {.frozen = true});
  const tessera::Unit head = layout.add_unit("head");
  layout.add_tensor("scale", {8});
  layout.tie(head, layout.unit_of(embedding));
  return layout;
}

template <class Optimizer>
bool train(Optimizer& optimizer) {
  using Gradient = typename Optimizer::Gradient;
  const tessera::Layout& layout = optimizer.layout();
  optimizer.initialize(
      [](tessera::Tensor t, std::int64_t i) { return static_cast<float>(t.index) + static_cast<float>(i); });
  for (const tessera::Unit u : layout.forward()) optimizer.gather(u);
  auto pass = optimizer.backward();
  for (const tessera::Unit u : layout.backward()) {
    const auto weights = optimizer.gather(u);
    const auto gradients = pass.gradients(u);
    for (const tessera::Tensor t : layout.tensors(u))
      if (!layout.frozen(t))
        for (std::size_t i = 0; i < weights[t].size(); ++i)
          gradients[t][i] = Gradient(static_cast<float>(gradients[t][i]) + static_cast<float>(weights[t][i]));
    pass.ready(u);
  }
  optimizer.rule(1).lr *= 2;
  const auto report = optimizer.step();
  optimizer.begin_evaluation();
  optimizer.end_evaluation();
  optimizer.finish();
  return report.applied() && report.gradient_norm() > 0;
}

bool seconds_are_known(const tessera::Layout& layout, const tessera::Network& network) {
  using Optimizer = tessera::Sharded<tessera::AdamW, tessera::Stage2, tessera::Bf16>;
  const tessera::Options options;
  const tessera::Sharding sharding(layout, 4, 1024);
  const tessera::Footprint footprint = tessera::footprint_of<tessera::AdamW, tessera::Stage2, tessera::Bf16>();
  const tessera::UnitSeconds units[3] = {{1, 2, 1}, {1, 2, 1}, {1, 2, 1}};
  return Optimizer::plan(layout, 4, options).bytes() > 0 &&
         tessera::step_time(sharding, footprint, options, units, network).seconds > 0;
}

}  // namespace

int main() {
  const tessera::Layout layout = model();
  const tessera::Network network{};
  tessera::Timeline timeline(64);
  tessera::Wire wire(network, 2);
  bool right = seconds_are_known(layout, network);
  tessera::run_ranks(2, [&](tessera::Local& local) {
    tessera::Recording recording(local);
    tessera::Simulated simulated(recording, wire);
    tessera::Sharded<tessera::Sgd, tessera::Stage2, tessera::Bf16ReduceFp32, decltype(simulated)> optimizer{
        simulated, layout, {}, std::vector<tessera::Sgd>(2), {.timeline = &timeline}};
    train(optimizer);
    tessera::Sharded<tessera::Lamb, tessera::Stage3, tessera::Bf16Remainder> lamb{
        local, layout, {}, std::vector<tessera::Lamb>(2)};
    train(lamb);
  });
  std::ostringstream file;
  tessera::write_trace_events(timeline, file);
  return right ? 0 : 1;
}
