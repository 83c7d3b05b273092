// The ranks of a run on devices: threads of this process, or processes connected by NCCL.
#pragma once

#include <cuda_runtime.h>

#include <optional>
#include <type_traits>
#include <utility>

#include <tessera/comm/decorators/recording.hpp>
#include <tessera/cuda/runtime/error.cuh>
#include <tessera/cuda/local/local.cuh>
#include <tessera/cuda/nccl/nccl.cuh>

#include "common/cuda/options.hpp"
#include "common/options.hpp"

namespace example::cuda {

/// Throws WrongOption with one line that says what is missing on this machine.
inline void require_device() {
  int devices = 0;
  try {
    tessera::cuda_check(cudaGetDeviceCount(&devices), "looking for CUDA devices");
  } catch (const tessera::CudaError& error) {
    throw WrongOption(error.what());
  }
  if (devices == 0) throw WrongOption("there is no CUDA device");
}

/// Calls train(comm) for every rank of this process, with a Recording as comm. Returns rank 0's result.
template <class Train>
auto run_local(const example::Options& run, const Options& options, const Train& train) {
  using Comm = tessera::Recording<tessera::CudaLocal>;
  std::optional<std::invoke_result_t<const Train&, Comm&>> told;
  require_device();
  const auto one = [&](tessera::CudaLocal& local) {
    Comm comm(local);
    auto mine = train(comm);
    if (comm.rank() == 0) told = std::move(mine);
  };
  tessera::run_cuda_ranks(run.ranks, one, {.devices = options.devices});
  return told;
}

/// Calls train(comm) for the one rank of this process. Returns its result if it is rank 0.
template <class Train>
auto run_nccl(const Train& train) {
  using Comm = tessera::Recording<tessera::Nccl>;
  require_device();
  Comm comm(tessera::Nccl::from_environment());
  std::optional<std::invoke_result_t<const Train&, Comm&>> mine = train(comm);
  if (comm.rank() != 0) mine.reset();
  return mine;
}

template <class Train>
auto run_ranks(const example::Options& run, const Options& options, const Train& train) {
  return options.communicator == "nccl" ? run_nccl(train) : run_local(run, options, train);
}

}  // namespace example::cuda
