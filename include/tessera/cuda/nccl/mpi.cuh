// Nccl in a program that MPI started. Not included by <tessera/cuda.cuh>: include it in a program that links MPI.
#pragma once

#include <mpi.h>
#include <nccl.h>

#include <chrono>
#include <span>

#include <tessera/bootstrap/mpi.hpp>
#include <tessera/cuda/nccl/nccl.cuh>

namespace tessera {

/// Rank and size are those of the MPI communicator. Each rank must have a device of its own: the calling thread's
/// current device. The library does not use MPI or the communicator after this call, and its messages do not mix with
/// others.
///
/// Call it between MPI_Init and MPI_Finalize, on every rank, on a thread that may call MPI. Blocks until all ranks call
/// it: without a limit in MPI, then up to `timeout` in NCCL. If a rank cannot start (no device, no driver), it throws
/// the error, and all others throw PeerError with its rank and message.
/// Throws UsageError, OptionError, CommError that names the MPI call (bootstrap/mpi.hpp), CudaError.
inline Nccl nccl_from_mpi(MPI_Comm communicator, std::chrono::nanoseconds timeout = Nccl::start) {
  const rendezvous::MpiRanks ranks(communicator);
  const rendezvous::Member me{ranks.rank(), ranks.size(), timeout};
  ncclUniqueId id{};
  ranks.all_ready([&] { id = nccl::prepared(me); });
  ranks.broadcast(std::as_writable_bytes(std::span(&id, 1)));
  return Nccl(id, me.rank, me.world, timeout);
}

}  // namespace tessera
