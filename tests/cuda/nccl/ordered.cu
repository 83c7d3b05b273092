#include <cuda_runtime.h>
#include <doctest/doctest.h>
#include <nccl.h>

#include <chrono>
#include <tessera/comm/decorators/recording.hpp>
#include <vector>
#include <tessera/cuda/nccl/ordered.cuh>

#include "comm/local/cases.hpp"
#include "cuda/nccl_ranks.hpp"

namespace tessera {
namespace {

namespace cases = local_cases;
using InOrder = testing::OverNccl<Ordered<Nccl>>;

static_assert(Communicator<Ordered<Nccl>>);
static_assert(OrdersSums<Nccl::Queue, ReduceScatter<float>> && OrdersSums<Nccl::Queue, AllReduce<double>>);
static_assert(needs_workspace<Ordered<Nccl>, float, float>() && !needs_workspace<Nccl, float, float>());
static_assert(needs_workspace<Recording<Nccl>, bfloat16, float>());

TEST_CASE("reduce_scatter sums in the fixed tree, with complete, shorter and empty slices, also in place") {
  cases::reduce_scatter_sums_in_the_tree<InOrder>();
}
TEST_CASE("bfloat16 is summed in float and rounded once") { cases::bfloat16_is_summed_in_float<InOrder>(); }
TEST_CASE("sums are scaled in float before they are rounded, also in place") {
  cases::sums_are_scaled_in_float_before_they_are_rounded<InOrder>();
}
TEST_CASE("each group and each set of peers gathers its own vector") {
  cases::groups_and_peers_gather_among_themselves<InOrder>();
}
TEST_CASE("in groups, a rank gets the piece of its group's slice of the world's sum that it owns") {
  cases::in_groups_a_rank_gets_the_slice_that_divides_its_groups<InOrder>();
}
TEST_CASE("all_reduce sums floats in the tree, and integers modulo 2^64") {
  cases::all_reduce_sums_floats_and_integers<InOrder>();
}
TEST_CASE("a call of several pieces handles each of them, also shorter and empty ones") {
  cases::a_call_of_several_pieces_does_each_of_them<InOrder>();
}
TEST_CASE("a sum continues from call to call, with the bits of one call over all leaves") {
  cases::a_sum_goes_on_from_call_to_call<InOrder>();
}
TEST_CASE("sums without an order pass through to the communicator below") {
  cases::calls_posted_together_are_done_in_their_order<InOrder>();
  cases::all_gather_puts_every_slice_at_its_place<InOrder>();
  cases::all_to_all_transposes_and_broadcast_copies<InOrder>();
}

TEST_CASE("a reduction with too small a workspace reports the required size before anything is sent") {
  testing::run_nccl_ranks(2, [](Nccl& nccl) {
    Ordered<Nccl> comm(nccl);
    auto queue = comm.queue(std::chrono::seconds(30));
    testing::DeviceMemory<float> x(std::vector<float>(128, 1.0f)), y(std::vector<float>(64));
    ReduceScatter sum(x.in(), y.out(), 64, {"g", 0, 0});
    std::string error;
    try {
      queue.post(sum);
    } catch (const BufferError& caught) {
      error = caught.what();
    }
    CHECK(error == "reduce_scatter (g 0, pass 0) has a workspace of 0 bytes and needs 512");
    auto workspace = comm.executor().allocate<std::byte>(512);
    sum.workspace = workspace.span();
    queue.post(sum, comm.executor().record()).wait();
    CHECK(y.get() == std::vector<float>(64, 2.0f));
  });
}

TEST_CASE("calls that pass a decorator below are summed in order too, and recorded") {
  testing::run_nccl_ranks(2, [](Nccl& nccl) {
    Recording<Nccl> recording(nccl);
    Ordered<Recording<Nccl>> comm(recording);
    auto queue = comm.queue(std::chrono::seconds(30));
    testing::DeviceMemory<float> x(std::vector<float>(128, 1.0f)), y(std::vector<float>(64));
    auto workspace = comm.executor().allocate<std::byte>(512);
    queue.post(ReduceScatter(x.in(), y.out(), 64, {"g", 0, 0}, 1, workspace.span()), comm.executor().record()).wait();
    CHECK(y.get() == std::vector<float>(64, 2.0f));
    CHECK(recording.sent(Collective::reduce_scatter) == 64);
  });
}

}  // namespace
}  // namespace tessera
