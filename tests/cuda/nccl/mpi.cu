// Run with mpirun on several ranks, and alone without it. Processes of the emulation share no NCCL: there, what ranks
// do together is tested up to the first NCCL call; everything else needs a machine with one device per rank.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cuda_runtime.h>
#include <doctest/doctest.h>
#include <mpi.h>
#include <nccl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include <tessera/cuda/nccl/mpi.cuh>

#include "cuda/ranks.hpp"
#include "memory_limit.hpp"
#include "page.hpp"

// [mpi]
tessera::Nccl start() {
  MPI_Comm node;  // the ranks of this machine
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  int local_rank = 0;
  MPI_Comm_rank(node, &local_rank);
  MPI_Comm_free(&node);
  cudaSetDevice(local_rank);
  return tessera::nccl_from_mpi(MPI_COMM_WORLD);
}
// [end]

namespace tessera {
namespace {

using Floats = std::vector<float>;

constexpr std::chrono::nanoseconds patient = std::chrono::seconds(30);

struct Place {
  int rank = 0, size = 1;
};

Place place_in(MPI_Comm communicator) {
  Place place;
  MPI_Comm_rank(communicator, &place.rank);
  MPI_Comm_size(communicator, &place.size);
  return place;
}

// The sum of 1 over all ranks.
float sum_of_ones(const Nccl& comm) {
  auto queue = comm.queue(patient);
  testing::DeviceMemory<float> x(Floats(1, 1.0f));
  queue.post(AllReduce(x.out(), {"x", 0, 0})).wait();
  return x.get()[0];
}

TEST_CASE("each process alone is a world of one rank") {
  const Nccl comm = nccl_from_mpi(MPI_COMM_SELF, patient);
  CHECK(comm.rank() == 0);
  CHECK(comm.size() == 1);
  CHECK(sum_of_ones(comm) == 1);
}

TEST_CASE("ranks of MPI become ranks of NCCL, as docs/cuda.md starts them") {
  CHECK(testing::page_shows("docs/cuda.md", "tests/cuda/nccl/mpi.cu", "mpi"));
  const Place me = place_in(MPI_COMM_WORLD);
  int devices = 0;
  cuda_check(cudaGetDeviceCount(&devices), "counting CUDA devices");
  if (devices < me.size) return;
  const Nccl comm = start();
  CHECK(comm.rank() == me.rank);
  CHECK(comm.size() == me.size);
  CHECK(sum_of_ones(comm) == static_cast<float>(me.size));
}

#if defined(TESSERA_EMULATED_CUDA)

TEST_CASE("ranks that MPI started wait for each other in NCCL up to the timeout") {
  const Place me = place_in(MPI_COMM_WORLD);
  if (me.size == 1) return;
  CHECK_THROWS_WITH_AS(nccl_from_mpi(MPI_COMM_WORLD, std::chrono::milliseconds(200)),
                       doctest::Contains("not all ranks have arrived within 0.2 s"), CommError);
}

TEST_CASE("a rank without a device is named on all ranks, and none waits for it") {
  const Place me = place_in(MPI_COMM_WORLD);
  for (const int without : {me.size - 1, 0}) {
    if (me.rank == without) emulated::broken(cudaErrorNoDevice);
    std::string error, told;
    try {
      nccl_from_mpi(MPI_COMM_WORLD);
    } catch (const CudaError& own) {
      error = own.what();
    } catch (const PeerError& of_peer) {
      error = of_peer.what();
      told = message({"rank ", without, " of ", me.size, " could not start: "});
    }
    emulated::broken(cudaSuccess);
    CHECK(told.empty() == (me.rank == without));
    CHECK(error.find(told) == 0);
    CHECK(error.find("there is no CUDA device") != std::string::npos);
  }
}

#endif

TEST_CASE("a timeout that is not valid is refused on every rank, also if only one has it") {
  const Place me = place_in(MPI_COMM_WORLD);
  const auto start = [&] { nccl_from_mpi(MPI_COMM_WORLD, me.rank == 0 ? std::chrono::nanoseconds{} : patient); };
  if (me.rank == 0)
    CHECK_THROWS_WITH_AS(start(), "rendezvous: timeout must be greater than 0", OptionError);
  else
    CHECK_THROWS_WITH_AS(start(), doctest::Contains("could not start: rendezvous: timeout must be"), PeerError);
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  int devices = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess || devices == 0) {
    std::printf("skipped: there is no CUDA device (%s)\n", cudaGetErrorString(error));
    return 77;
  }
#if !defined(__CUDACC__)  // not tested with a driver that maps memory itself
  tessera::limit_memory();
#endif
  alarm(100);  // ends the program if a rank would wait for a failed peer
  MPI_Init(&argc, &argv);
  const int failed = doctest::Context(argc, argv).run();
  MPI_Finalize();
  return failed;
}
