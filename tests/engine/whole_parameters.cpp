#include <doctest/doctest.h>

#include <vector>

#include <tessera/comm/local.hpp>
#include <tessera/engine/whole_parameters.hpp>

#include "drops_first.hpp"

namespace tessera {
namespace {

Layout two_units() {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {200});
  layout.add_tensor("frozen", {3}, {.frozen = true});
  layout.add_unit("b");
  layout.add_tensor("w", {10});
  return layout;
}

TEST_CASE("what each rank wrote into its part is everywhere after publishing, and a caller's buffer is used") {
  for (int world = 1; world <= 4; ++world)
    run_ranks(world, [&](Local& comm) {
      const Layout layout = two_units();
      const Sharding sharding(layout, world, 1);
      Host host;
      auto queue = comm.queue(Duration::seconds(10));
      Footprint footprint;
      footprint.state_sharded = true;
      std::vector<float> buffer(layout.parameter_elements());
      WholeParameters<Local, float, true> parameters(sharding, comm.rank(), host, queue, make_plan(sharding, {}, footprint), {}, buffer);
      const testing::DropsFirst drops_first(queue);
      for (index_t round = 1; round <= 3; ++round) {
        parameters.before_update();
        for (int b = 0; b < sharding.buckets(); ++b) {
          const Range own = sharding.trainable().owned(b, comm.rank());
          for (index_t i = own.begin; i < own.end; ++i) *parameters.at(b, i) = static_cast<float>(round * 1000 + i);
          parameters.publish(b, round);
        }
        for (const Unit u : layout.forward()) {
          const auto weights = parameters.gather(u);
          const index_t begin = layout.trainable(u).begin;
          for (index_t i = 0; i < layout.trainable(u).size(); ++i) CHECK(weights.trainable()[i] == static_cast<float>(round * 1000 + begin + i));
        }
      }
      CHECK(host.allocated_bytes() == 0);
      CHECK(parameters.at_frozen(0, 2) == buffer.data() + layout.frozen_begin() + 2);
      CHECK(parameters.gather(Unit{0})[layout.find("a.frozen")].data() == buffer.data() + layout.frozen_begin());
    });
}

}  // namespace
}  // namespace tessera
