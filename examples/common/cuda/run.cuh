// The ranks of a run on devices: threads of this process, or processes that NCCL joins.
#pragma once

#include <cuda_runtime.h>

#include <optional>
#include <type_traits>
#include <utility>

#include <tessera/comm/recording.hpp>
#include <tessera/cuda/error.cuh>
#include <tessera/cuda/local.cuh>
#include <tessera/cuda/nccl.cuh>

#include "common/cuda/options.hpp"
#include "common/options.hpp"

namespace example::cuda {

/// Throws WrongOption: one line that says what this machine lacks.
inline void require_device() {
  int devices = 0;
  try {
    tessera::cuda_check(cudaGetDeviceCount(&devices), "looking for CUDA devices");
  } catch (const tessera::CudaError& error) {
    throw WrongOption(error.what());
  }
  if (devices == 0) throw WrongOption("there is no CUDA device");
}

/// train(comm) for every rank, comm being a Recording: what rank 0's gave, in the process that has it.
template <class Train>
auto run_ranks(const example::Options& run, const Options& options, Train train) {
  using Local = tessera::Recording<tessera::CudaLocal>;
  using Nccl = tessera::Recording<tessera::Nccl>;
  std::optional<std::invoke_result_t<Train&, Local&>> told;
  const auto one = [&](auto comm) {
    auto mine = train(comm);
    if (comm.rank() == 0) told = std::move(mine);
  };
  require_device();
  if (options.communicator == "nccl") {
    one(Nccl(tessera::Nccl::from_environment()));
  } else {
    tessera::run_cuda_ranks(run.ranks, [&](tessera::CudaLocal& local) { one(Local(local)); },
                            {.devices = options.devices});
  }
  return told;
}

}  // namespace example::cuda
