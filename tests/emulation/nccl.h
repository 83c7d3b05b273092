// NCCL for tests, on the host. Ranks are threads of one process, each with its own device (emulated::devices(n)). As
// with NCCL, a call is an operation on its stream, sums have no fixed order, and if calls do not match or a rank is
// missing, the stream hangs until ncclCommAbort.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "communicator.hpp"

inline const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
    case ncclSystemError: return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    case ncclInternalError: return "internal error - please report this issue to the NCCL developers";
    case ncclInvalidArgument: return "invalid argument (run with NCCL_DEBUG=WARN for details)";
    case ncclInvalidUsage: return "invalid usage (run with NCCL_DEBUG=WARN for details)";
    case ncclRemoteError: return "remote process exited or there was a network error";
    case ncclInProgress: return "NCCL operation in progress";
  }
  return "unknown result code";
}
inline const char* ncclGetLastError(ncclComm_t) { return "of the emulation"; }
inline ncclResult_t ncclGetVersion(int* version) { return *version = NCCL_VERSION_CODE, ncclSuccess; }

namespace emulated {

// The calls of this thread between ncclGroupStart and ncclGroupEnd.
struct Group {
  struct Call {
    Communicator comm;
    cudaStream_t stream;
    std::vector<Part> parts;
  };
  int depth = 0;
  ncclResult_t failed = ncclSuccess;
  std::vector<Call> calls;
  std::vector<Communicator> joining, aborted;
};
inline Group& group() {
  thread_local Group it;
  return it;
}

// For a blocking communicator, waits; otherwise returns its state.
inline ncclResult_t settle(const Communicator& comm) {
  if (comm->blocking) run_until([&] { return comm->aborted || state(*comm) != ncclInProgress; });
  return state(*comm);
}

inline ncclResult_t submit(const char* call, ncclComm_t handle, cudaStream_t stream, Part part, std::size_t in_count,
                           std::size_t out_count) {
  const Lock lock(machine().mutex);
  const Communicator comm = live(handle, call);
  if (part.op >= ncclNumOps) {
    const auto known = comm->scaled_sums.find(part.op);
    if (known == comm->scaled_sums.end() || known->second.type != part.type) return ncclInvalidArgument;
    part.op = ncclSum;
    part.factor = known->second.factor;
  }
  const std::size_t bytes = bytes_of(part.type);
  const auto usable = [&](const void* memory, std::size_t count) {
    return count == 0 || (!is_pageable(memory) && lies_within(memory, count * bytes));
  };
  const bool rooted = part.kind == Kind::broadcast || part.kind == Kind::reduce;
  const bool right = comm->clique == nullptr || !(rooted || part.kind == Kind::send || part.kind == Kind::receive) ||
                     (part.other >= 0 && part.other < comm->clique->ranks);
  if (bytes == 0 || !right || !usable(part.in, in_count) || !usable(part.out, out_count)) return ncclInvalidArgument;
  Group& all = group();
  if (part.count == 0) return ncclSuccess;
  if (all.depth == 0) return launch(comm, stream, {part});
  for (Group::Call& other : all.calls) {
    if (other.comm == comm && other.stream == stream) return other.parts.push_back(part), ncclSuccess;
  }
  all.calls.push_back({comm, stream, {part}});
  return ncclSuccess;
}

// Whether two ranges are disjoint, or `in` is the address of an in-place call.
inline bool apart(const void* in, std::size_t in_bytes, const void* out, std::size_t out_bytes, const void* in_place) {
  const char *a = static_cast<const char*>(in), *b = static_cast<const char*>(out);
  return a == in_place || a + in_bytes <= b || b + out_bytes <= a;
}

inline Communicator make(const ncclConfig_t* config) {
  auto comm = std::make_shared<ncclComm>();
  comm->device = current_device();
  comm->blocking = config == nullptr || config->blocking != 0;
  nccl().communicators[comm.get()] = comm;
  return comm;
}

}  // namespace emulated

inline ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const emulated::Lock lock(emulated::machine().mutex);
  *id = {};
  std::snprintf(id->internal, sizeof id->internal, "emulated %llu",
                static_cast<unsigned long long>(++emulated::nccl().ids));
  return ncclSuccess;
}
inline ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                           ncclConfig_t* config) {
  const emulated::Lock lock(emulated::machine().mutex);
  if (ranks < 1 || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  auto& clique = emulated::nccl().cliques[std::string(id.internal, sizeof id.internal)];
  if (clique == nullptr) clique = std::make_shared<emulated::Clique>(ranks);
  if (clique->ranks != ranks || clique->devices[static_cast<std::size_t>(rank)] >= 0) return ncclInvalidArgument;
  const emulated::Communicator made = emulated::make(config);
  *comm = made.get();
  made->clique = clique;
  made->rank = rank;
  clique->devices[static_cast<std::size_t>(rank)] = made->device;
  clique->joined++;
  emulated::machine().changed.notify_all();
  if (emulated::group().depth > 0) return emulated::group().joining.push_back(made), ncclSuccess;
  return emulated::settle(made);
}
inline ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) {
  return ncclCommInitRankConfig(comm, ranks, id, rank, nullptr);
}
inline ncclResult_t ncclCommSplit(ncclComm_t handle, int color, int key, ncclComm_t* child, ncclConfig_t* config) {
  const emulated::Lock lock(emulated::machine().mutex);
  const emulated::Communicator parent = emulated::live(handle, "ncclCommSplit");
  if (const ncclResult_t now = emulated::ready(*parent); now != ncclSuccess) return now;
  auto& split = emulated::nccl().splits[{parent->clique.get(), parent->splits}];
  if (split == nullptr) split = std::make_shared<emulated::Split>();
  emulated::Communicator made;
  if (color != NCCL_SPLIT_NOCOLOR) {
    made = emulated::make(config);
    made->device = parent->device;
    if (config == nullptr || config->blocking == NCCL_CONFIG_UNDEF_INT) made->blocking = parent->blocking;
  }
  *child = made.get();
  split->entries.push_back({color, key, parent->rank, made});
  parent->unfinished_splits[parent->splits++] = split;
  if (static_cast<int>(split->entries.size()) == parent->clique->ranks) split->form();
  return emulated::settle(parent);
}

inline ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t* error) {
  const emulated::Lock lock(emulated::machine().mutex);
  const emulated::Communicator comm = emulated::live(handle, "ncclCommGetAsyncError");
  emulated::catch_up(*comm);
  if (comm->finalized) emulated::run_some();
  *error = emulated::state(*comm);
  return ncclSuccess;
}
inline ncclResult_t ncclCommFinalize(ncclComm_t handle) {
  const emulated::Lock lock(emulated::machine().mutex);
  const emulated::Communicator comm = emulated::live(handle, "ncclCommFinalize");
  if (const ncclResult_t now = emulated::ready(*comm); now != ncclSuccess) return now;
  comm->finalized = true;
  return emulated::settle(comm);
}
// Waits for its calls and graphs, unless ncclCommFinalize did.
inline ncclResult_t ncclCommDestroy(ncclComm_t handle) {
  const emulated::Lock lock(emulated::machine().mutex);
  const emulated::Communicator comm = emulated::live(handle, "ncclCommDestroy");
  comm->finalized = true;
  emulated::run_until([&] {
    emulated::catch_up(*comm);
    return !emulated::in_graphs(*comm) && (comm->aborted || emulated::state(*comm) != ncclInProgress);
  });
  emulated::nccl().communicators.erase(handle);
  return ncclSuccess;
}
// The calls of this rank end without accessing memory, and its streams continue. Calls of other ranks that need them do
// not end. Waits for the graphs that have calls of it; in a group, at the group's end.
inline ncclResult_t ncclCommAbort(ncclComm_t handle) {
  const emulated::Lock lock(emulated::machine().mutex);
  const emulated::Communicator comm = emulated::live(handle, "ncclCommAbort");
  comm->aborted = true;
  if (comm->clique) comm->clique->dead = true;
  comm->deferred.clear();
  emulated::nccl().communicators.erase(handle);
  emulated::machine().changed.notify_all();
  if (emulated::group().depth > 0) return emulated::group().aborted.push_back(comm), ncclSuccess;
  emulated::run_until([&] { return !emulated::in_graphs(*comm); });
  return ncclSuccess;
}
inline ncclResult_t ncclCommCount(ncclComm_t handle, int* ranks) {
  const emulated::Lock lock(emulated::machine().mutex);
  const emulated::Communicator comm = emulated::live(handle, "ncclCommCount");
  if (comm->clique == nullptr) return ncclInvalidArgument;
  return *ranks = comm->clique->ranks, ncclSuccess;
}
inline ncclResult_t ncclCommUserRank(ncclComm_t handle, int* rank) {
  const emulated::Lock lock(emulated::machine().mutex);
  return *rank = emulated::live(handle, "ncclCommUserRank")->rank, ncclSuccess;
}
inline ncclResult_t ncclCommCuDevice(ncclComm_t handle, int* device) {
  const emulated::Lock lock(emulated::machine().mutex);
  return *device = emulated::live(handle, "ncclCommCuDevice")->device, ncclSuccess;
}

#include "nccl_calls.hpp"
