#include <cuda_runtime.h>
#include <doctest/doctest.h>
#include <nccl.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <tessera/core/clock.hpp>
#include <tessera/cuda/exec/executor.cuh>
#include <tessera/cuda/nccl/group.cuh>

#include "cuda/nccl_ranks.hpp"

namespace tessera {
namespace {

using nccl::Group;

constexpr std::chrono::nanoseconds patient = std::chrono::seconds(30);

#if defined(__CUDACC__)
std::size_t registrations() { return 0; }
constexpr bool counted = false;
#else
std::size_t registrations() { return emulated::nccl_registrations(); }
constexpr bool counted = true;
#endif

TEST_CASE("large buffers are NCCL's and registered with every queue, also later queues; small ones are plain memory") {
  if (!testing::devices_for(1)) return;
  auto group = std::make_shared<Group>(testing::new_id(), 0, 1, patient);
  Cuda executor(group->own_stream(), std::make_shared<nccl::RegisteredMemory>(group));
  const auto first = group->open(patient);
  {
    auto large = executor.allocate<float>(index_t{1} << 20);
    auto small = executor.allocate<float>(100);
    CHECK((!counted || registrations() == 1));
    const auto second = group->open(patient);
    CHECK((!counted || registrations() == 2));
    group->close(*second);
    CHECK(executor.allocated_bytes() == (4 << 20) + 400);
  }
  CHECK(registrations() == 0);
  group->close(*first);
}

TEST_CASE("a buffer may outlive its executor and communicator") {
  if (!testing::devices_for(1)) return;
  CudaBuffer<float> buffer;
  {
    auto group = std::make_shared<Group>(testing::new_id(), 0, 1, patient);
    Cuda executor(group->own_stream(), std::make_shared<nccl::RegisteredMemory>(group));
    buffer = executor.allocate<float>(index_t{1} << 20);
  }
  CHECK(buffer.size() == 1 << 20);
}

TEST_CASE("the watchdog finds collectives that are not done in time") {
  if (!testing::devices_for(2)) return;
  const ncclUniqueId id = testing::new_id();
  const auto errors = testing::errors_of_threads(2, [&](int rank) {
    Group group(id, rank, 2, patient);
    const auto channel = group.open(testing::impatient);
    struct Closes {
      Group& group;
      nccl::Channel& channel;
      ~Closes() { group.close(channel); }
    } const closes{group, *channel};
    if (rank == 1) return;
    testing::DeviceMemory<float> x(std::vector<float>(8));
    local::Call call;
    call.kind = Collective::broadcast;
    call.in = call.out = element_type<float>();
    call.pieces = {{8, 0}};
    call.root = 1;
    call.tag = {"weights of step", 4, 5};
    channel->post(call, {},
               [&](auto& turn) {
                 turn.nccl([&](ncclComm_t comm, cudaStream_t stream, nccl::FirstError& error) {
                   error(ncclBroadcast(x.in().data(), x.out().data(), 8, ncclFloat32, 1, comm, stream));
                 });
               })
        .wait();
  });
  REQUIRE(errors.size() == 2);
  CHECK(errors[0] ==
        message({"broadcast of 8 float from rank 1 (weights of step 4, pass 5), operation 0, was not done after ",
                 core::seconds_of(testing::impatient),
                 " s: a rank is missing or made a different call; communicator aborted"}));
  CHECK(errors[1] == "");
}

}  // namespace
}  // namespace tessera
