// What travels: design section 2.
#include <doctest/doctest.h>

#include "training.hpp"

namespace tessera {
namespace {

template <class Stage>
struct Wire {
  index_t data = 0;         // elements of gradients and parameters that rank 0 sent in one step
  index_t all_reduced = 0;  // elements that went through an all-reduce
  index_t reduce_scatters = 0;
};

template <class Stage>
Wire<Stage> wire_of_a_step(const Layout& layout, int world, Options options = {}) {
  Wire<Stage> wire;
  run_ranks(world, [&](Local& local) {
    Recording<Local> comm(local);
    Sharded<Adam, Stage, Bf16, Recording<Local>> optimizer(comm, layout, {}, Adam{}, options);
    testing::run_steps(optimizer, comm.rank(), world, 1, options.micro_batches);
    comm.clear();
    testing::LeafGradient gradient = testing::made_up_gradient;
    for (int k = 0; k < options.micro_batches; ++k) testing::run_pass(optimizer, 1, k * world + comm.rank(), gradient);
    optimizer.step();
    for (const Unit u : layout.forward())
      if (!Stage::shards_parameters) static_cast<void>(optimizer.gather(u));
    if (comm.rank() != 0) return;
    for (const auto& record : comm.log()) {
      if (record.kind == Collective::all_reduce)
        wire.all_reduced += record.out_elements;
      else
        wire.data += record.sent_elements;
      wire.reduce_scatters += record.kind == Collective::reduce_scatter;
    }
  });
  return wire;
}

Layout even_layers(int units) {
  Layout layout;
  for (int u = 0; u < units; ++u) {
    layout.add_unit("u" + std::to_string(u));
    layout.add_tensor("w", {64 * 12 * 5});
  }
  return layout;
}

TEST_CASE("a rank sends 2(N-1)/N n elements a step at stages 0 to 2 and 3(N-1)/N n at stage 3") {
  const Layout layout = even_layers(6);
  const index_t n = layout.parameters();
  for (int world : {1, 2, 3, 4, 6})
    for (index_t bucket_bytes : {index_t{1}, index_t{20000}}) {
      const index_t once = n / world * (world - 1);
      CHECK(wire_of_a_step<Stage0>(layout, world, {.bucket_bytes = bucket_bytes}).data == 2 * once);
      CHECK(wire_of_a_step<Stage1>(layout, world, {.bucket_bytes = bucket_bytes}).data == 2 * once);
      CHECK(wire_of_a_step<Stage2>(layout, world, {.bucket_bytes = bucket_bytes}).data == 2 * once);
      CHECK(wire_of_a_step<Stage3>(layout, world, {.bucket_bytes = bucket_bytes}).data == 3 * once);
    }
}

TEST_CASE("gradients are never all-reduced: what is, is the norm's digits and three words per rank and one per unit") {
  const Layout layout = even_layers(3);
  const index_t words = AgreementWords::size(4, layout.units());
  CHECK(wire_of_a_step<Stage0>(layout, 4).all_reduced == words);
  CHECK(wire_of_a_step<Stage1>(layout, 4).all_reduced == words);
  CHECK(wire_of_a_step<Stage2>(layout, 4).all_reduced == words);
  CHECK(wire_of_a_step<Stage3>(layout, 4).all_reduced == words);
}

TEST_CASE("every pass of an accumulation is reduced once, bucket by bucket") {
  const Layout layout = even_layers(4);
  CHECK(wire_of_a_step<Stage2>(layout, 2, {.micro_batches = 3, .bucket_bytes = 1}).reduce_scatters == 12);
  CHECK(wire_of_a_step<Stage0>(layout, 2, {.micro_batches = 3, .bucket_bytes = 1}).reduce_scatters == 12);
}

}  // namespace
}  // namespace tessera
