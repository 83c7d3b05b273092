// Nccl in a program that MPI has started. Not behind <tessera/cuda.cuh>: who has MPI includes it, and links MPI.
#pragma once

#include <mpi.h>
#include <nccl.h>

#include <chrono>
#include <span>

#include <tessera/bootstrap/mpi.hpp>
#include <tessera/cuda/nccl/nccl.cuh>

namespace tessera {

/// Rank and size are the communicator's, of whose ranks each has a device of its own, the calling thread's current one.
/// The communicator is needed no longer afterwards, nor is MPI, and what it is at meanwhile is not disturbed.
///
/// Between MPI_Init and MPI_Finalize, on a thread that may call MPI, by every rank of the communicator. Blocks until
/// all ranks have come, without a limit while MPI waits for them; then, while NCCL does, as long as `timeout`. A rank
/// that cannot begin (no device, no driver) throws what is wrong, all others PeerError that names it and says the same.
/// Throws UsageError, OptionError, CommError that names MPI's call (bootstrap/mpi.hpp), CudaError.
inline Nccl nccl_from_mpi(MPI_Comm communicator, std::chrono::nanoseconds timeout = Nccl::start) {
  const rendezvous::MpiRanks ranks(communicator);
  const rendezvous::Member me{ranks.rank(), ranks.size(), timeout};
  ncclUniqueId id{};
  ranks.all_ready([&] { id = nccl::prepared(me); });
  ranks.broadcast(std::as_writable_bytes(std::span(&id, 1)));
  return Nccl(id, me.rank, me.world, timeout);
}

}  // namespace tessera
