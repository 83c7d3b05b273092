#include <cuda_runtime.h>
#include <doctest/doctest.h>
#include <nccl.h>

#include <chrono>
#include <vector>

#include <tessera/cuda/nccl/ordered.cuh>

#include "comm/local/cases.hpp"
#include "cuda/nccl_ranks.hpp"

namespace tessera {
namespace {

namespace cases = local_cases;
using InOrder = testing::OverNccl<Ordered<Nccl>>;

static_assert(Communicator<Ordered<Nccl>>);
static_assert(StagingQueue<Ordered<Nccl>::Queue>);
static_assert(stages_reductions<Ordered<Nccl>, float, float>());

TEST_CASE("reduce_scatter sums in the fixed tree, whole, ragged, short, empty and in place") {
  cases::reduce_scatter_sums_in_the_tree<InOrder>();
}
TEST_CASE("bfloat16 is summed in float and rounded once") { cases::bfloat16_is_summed_in_float<InOrder>(); }
TEST_CASE("sums are scaled in float before they are rounded, in place too") {
  cases::sums_are_scaled_in_float_before_they_are_rounded<InOrder>();
}
TEST_CASE("all_reduce sums floats in the tree, and integers modulo 2^64") {
  cases::all_reduce_sums_floats_and_integers<InOrder>();
}
TEST_CASE("what has no order is the communicator's own") {
  cases::all_gather_puts_every_slice_at_its_place<InOrder>();
  cases::all_to_all_transposes_and_broadcast_copies<InOrder>();
}

TEST_CASE("a reduction that was lent too little says how much it needs, before anything is sent") {
  testing::run_nccl_ranks(2, [](Nccl& nccl) {
    Ordered<Nccl> comm(nccl);
    auto queue = comm.queue(std::chrono::seconds(30));
    testing::DeviceMemory<float> x(std::vector<float>(128, 1.0f)), y(std::vector<float>(64));
    std::string error;
    try {
      queue.reduce_scatter(x.in(), y.out(), 64, 1, {"g", 0, 0});
    } catch (const BufferError& caught) {
      error = caught.what();
    }
    CHECK(error ==
          "a reduction in fixed order of 128 float was lent 0 bytes to stage them, and needs 512: call lend()");
    auto staging = comm.executor().allocate<std::byte>(512);
    queue.lend(staging.span());
    queue.reduce_scatter(x.in(), y.out(), 64, 1, {"g", 0, 0}, comm.executor().record()).wait();
    CHECK(y.get() == std::vector<float>(64, 2.0f));
  });
}

}  // namespace
}  // namespace tessera
