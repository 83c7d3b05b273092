#include <cuda_runtime.h>
#include <doctest/doctest.h>
#include <nccl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <tessera/comm/decorators/recording.hpp>
#include <tessera/cuda/nccl/nccl.cuh>

#include "cuda/nccl_ranks.hpp"
#include "cuda/ranks.hpp"

namespace tessera {
namespace {

using Floats = std::vector<float>;
using Memory = testing::DeviceMemory<float>;

constexpr std::chrono::nanoseconds patient = std::chrono::seconds(30);

static_assert(Communicator<Nccl>);
static_assert(!Nccl::ordered);
static_assert(!needs_workspace<Nccl, bfloat16, bfloat16>() && needs_workspace<Recording<Nccl>, bfloat16, float>());

TEST_CASE("ranks can meet through a shared file, or through any broadcast of bytes") {
  if (!testing::devices_for(3)) return;
  const auto path = std::filesystem::temp_directory_path() / ("tessera_nccl_" + std::to_string(::getpid()));
  ncclUniqueId shared{};
  std::atomic<bool> given = false;
  const auto errors = testing::errors_of_threads(3, [&](int rank) {
    for (const bool by_file : {true, false}) {
      Nccl comm = by_file ? Nccl::from_file(path.string(), rank, 3, patient)
                          : Nccl::from_broadcast(
                                rank, 3,
                                [&](std::span<std::byte> id) {
                                  if (rank == 0) {
                                    std::memcpy(&shared, id.data(), id.size());
                                    given = true;
                                  }
                                  while (!given) std::this_thread::yield();
                                  std::memcpy(id.data(), &shared, id.size());
                                },
                                patient);
      CHECK(comm.rank() == rank);
      CHECK(comm.size() == 3);
      auto queue = comm.queue(patient);
      Memory x(Floats(1, 1.0f));
      queue.post(AllReduce(x.out(), {"x", 0, 0})).wait();
      CHECK(x.get() == Floats{3});
    }
  });
  for (const std::string& error : errors) CHECK(error == "");
}

TEST_CASE("torchrun's variables are sufficient and select the device, and errors in them are named") {
  if (!testing::devices_for(1)) return;
  for (const auto& [name, value] : {std::pair{"RANK", "0"},
                                    {"WORLD_SIZE", "1"},
                                    {"LOCAL_RANK", "0"},
                                    {"MASTER_ADDR", "localhost"},
                                    {"MASTER_PORT", "29500"}})
    setenv(name, value, 1);
  const Nccl comm = Nccl::from_environment();
  CHECK(comm.size() == 1);
  CHECK(comm.executor().device() == 0);
  setenv("MASTER_PORT", "65535", 1);
  CHECK_THROWS_WITH_AS(Nccl::from_environment(), "environment: MASTER_PORT is 65535: the next port is needed",
                       OptionError);
  setenv("MASTER_PORT", "29500", 1);
  setenv("WORLD_SIZE", "99", 1);
  setenv("LOCAL_RANK", "98", 1);
  int devices = 0;
  REQUIRE(cudaGetDeviceCount(&devices) == cudaSuccess);
  const std::string sees = message({"LOCAL_RANK is 98, but this process sees ", devices, " CUDA devices"});
  CHECK_THROWS_WITH_AS(Nccl::from_environment(), doctest::Contains(sees.c_str()), OptionError);
  unsetenv("RANK");
  CHECK_THROWS_WITH_AS(Nccl::from_environment(), doctest::Contains("not set: RANK"), OptionError);
}

TEST_CASE("a framework's communicator is split and left unchanged, and its stream is the compute stream") {
  if (!testing::devices_for(2)) return;
  const ncclUniqueId id = testing::new_id();
  const auto errors = testing::errors_of_threads(2, [&](int rank) {
    ncclComm_t existing = nullptr;
    nccl::check(ncclCommInitRank(&existing, 2, id, rank), "joining");
    const CudaStream compute;
    {
      Nccl comm(existing, compute.get());
      CHECK(comm.rank() == rank);
      CHECK(comm.size() == 2);
      CHECK(comm.executor().stream() == compute.get());
      auto queue = comm.queue(patient);
      Memory x(Floats(8, 1.0f));
      queue.post(AllReduce(x.out(), {"x", 0, 0})).wait();
      CHECK(x.get() == Floats(8, 2.0f));
    }
    Memory x(Floats(8, 1.0f));
    nccl::check(ncclAllReduce(x.in().data(), x.out().data(), 8, ncclFloat32, ncclSum, existing, compute.get()), "sum");
    cuda_check(cudaStreamSynchronize(compute.get()), "waiting");
    CHECK(x.get() == Floats(8, 2.0f));
    nccl::check(ncclCommDestroy(existing), "ending");
  });
  for (const std::string& error : errors) CHECK(error == "");
}

TEST_CASE("a rank that is not valid is refused") {
  if (!testing::devices_for(1)) return;
  CHECK_THROWS_AS(Nccl(ncclUniqueId{}, 1, 1), OptionError);
  CHECK_THROWS_AS(Nccl::from_file("/tmp/x", 0, 0), OptionError);
}

}  // namespace
}  // namespace tessera
