// The rest of nccl.h: groups, collectives, memory, and functions for tests.
#pragma once

inline ncclResult_t ncclGroupStart() { return ++emulated::group().depth, ncclSuccess; }
inline ncclResult_t ncclGroupEnd() {
  emulated::Group& group = emulated::group();
  if (group.depth == 0) return ncclInvalidUsage;
  if (--group.depth > 0) return ncclSuccess;
  const emulated::Lock lock(emulated::machine().mutex);
  ncclResult_t worst = ncclSuccess;
  const auto note = [&](ncclResult_t result) {
    if (worst == ncclSuccess || worst == ncclInProgress) worst = result == ncclSuccess ? worst : result;
  };
  for (const auto& comm : std::exchange(group.aborted, {}))
    emulated::run_until([&] { return !emulated::in_graphs(*comm); });
  for (const auto& comm : std::exchange(group.joining, {})) note(emulated::settle(comm));
  for (auto& call : std::exchange(group.calls, {})) note(emulated::launch(call.comm, call.stream, call.parts));
  return worst;
}

inline ncclResult_t ncclAllReduce(const void* in, void* out, std::size_t n, ncclDataType_t type, ncclRedOp_t op,
                                  ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = n * emulated::bytes_of(type);
  if (!emulated::apart(in, bytes, out, bytes, out)) return ncclInvalidArgument;
  return emulated::submit("ncclAllReduce", comm, stream, {emulated::Kind::all_reduce, in, out, n, type, op, 0}, n, n);
}
inline ncclResult_t ncclReduce(const void* in, void* out, std::size_t n, ncclDataType_t type, ncclRedOp_t op, int root,
                               ncclComm_t comm, cudaStream_t stream) {
  int rank = 0;
  ncclCommUserRank(comm, &rank);
  return emulated::submit("ncclReduce", comm, stream, {emulated::Kind::reduce, in, out, n, type, op, root}, n,
                          rank == root ? n : 0);
}
inline ncclResult_t ncclBroadcast(const void* in, void* out, std::size_t n, ncclDataType_t type, int root,
                                  ncclComm_t comm, cudaStream_t stream) {
  int rank = 0;
  ncclCommUserRank(comm, &rank);
  return emulated::submit("ncclBroadcast", comm, stream, {emulated::Kind::broadcast, in, out, n, type, ncclSum, root},
                          rank == root ? n : 0, n);
}
inline ncclResult_t ncclReduceScatter(const void* in, void* out, std::size_t n, ncclDataType_t type, ncclRedOp_t op,
                                      ncclComm_t comm, cudaStream_t stream) {
  int rank = 0, ranks = 0;
  ncclCommUserRank(comm, &rank), ncclCommCount(comm, &ranks);
  const std::size_t bytes = n * emulated::bytes_of(type), all = n * static_cast<std::size_t>(ranks);
  const char* in_place = static_cast<const char*>(out) - static_cast<std::size_t>(rank) * bytes;
  if (!emulated::apart(in, bytes * static_cast<std::size_t>(ranks), out, bytes, in_place)) return ncclInvalidArgument;
  return emulated::submit("ncclReduceScatter", comm, stream, {emulated::Kind::reduce_scatter, in, out, n, type, op, 0},
                          all, n);
}
inline ncclResult_t ncclAllGather(const void* in, void* out, std::size_t n, ncclDataType_t type, ncclComm_t comm,
                                  cudaStream_t stream) {
  int rank = 0, ranks = 0;
  ncclCommUserRank(comm, &rank), ncclCommCount(comm, &ranks);
  const std::size_t bytes = n * emulated::bytes_of(type), all = n * static_cast<std::size_t>(ranks);
  const char* in_place = static_cast<const char*>(out) + static_cast<std::size_t>(rank) * bytes;
  if (!emulated::apart(in, bytes, out, bytes * static_cast<std::size_t>(ranks), in_place)) return ncclInvalidArgument;
  return emulated::submit("ncclAllGather", comm, stream, {emulated::Kind::all_gather, in, out, n, type, ncclSum, 0}, n,
                          all);
}
inline ncclResult_t ncclSend(const void* in, std::size_t n, ncclDataType_t type, int peer, ncclComm_t comm,
                             cudaStream_t stream) {
  return emulated::submit("ncclSend", comm, stream, {emulated::Kind::send, in, nullptr, n, type, ncclSum, peer}, n, 0);
}
inline ncclResult_t ncclRecv(void* out, std::size_t n, ncclDataType_t type, int peer, ncclComm_t comm,
                             cudaStream_t stream) {
  return emulated::submit("ncclRecv", comm, stream, {emulated::Kind::receive, nullptr, out, n, type, ncclSum, peer}, 0,
                          n);
}

// Valid for this communicator and type until it is destroyed. Calls that already use it keep their factor.
inline ncclResult_t ncclRedOpCreatePreMulSum(ncclRedOp_t* op, void* scalar, ncclDataType_t type,
                                             ncclScalarResidence_t residence, ncclComm_t handle) {
  const emulated::Lock lock(emulated::machine().mutex);
  const emulated::Communicator comm = emulated::live(handle, "ncclRedOpCreatePreMulSum");
  if (const ncclResult_t now = emulated::ready(*comm); now != ncclSuccess) return now;
  if (residence != ncclScalarHostImmediate) return ncclInvalidArgument;  // no other is used
  int id = ncclNumOps;
  while (comm->scaled_sums.count(id) != 0) ++id;
  emulated::with_type(type, [&](auto zero) {
    std::memcpy(&zero, scalar, sizeof zero);
    comm->scaled_sums[id] = {type, static_cast<double>(zero)};
  });
  return *op = static_cast<ncclRedOp_t>(id), ncclSuccess;
}
inline ncclResult_t ncclRedOpDestroy(ncclRedOp_t op, ncclComm_t handle) {
  const emulated::Lock lock(emulated::machine().mutex);
  const std::size_t known = emulated::live(handle, "ncclRedOpDestroy")->scaled_sums.erase(op);
  return known != 0 ? ncclSuccess : ncclInvalidArgument;
}

inline ncclResult_t ncclMemAlloc(void** memory, std::size_t bytes) {
  const cudaError_t error = emulated::allocate(memory, bytes, cudaMemoryTypeDevice, NCCL_WIN_REQUIRED_ALIGNMENT);
  return error == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}
inline ncclResult_t ncclMemFree(void* memory) {
  const cudaError_t error = emulated::free(memory, cudaMemoryTypeDevice, NCCL_WIN_REQUIRED_ALIGNMENT);
  return error == cudaSuccess ? ncclSuccess : ncclInvalidArgument;
}
inline ncclResult_t ncclCommRegister(ncclComm_t handle, void* memory, std::size_t bytes, void** registration) {
  const emulated::Lock lock(emulated::machine().mutex);
  if (emulated::is_pageable(memory) || !emulated::lies_within(memory, bytes)) return ncclInvalidArgument;
  *registration = reinterpret_cast<void*>(++emulated::nccl().registrations);
  emulated::live(handle, "ncclCommRegister")->registered.insert(*registration);
  return ncclSuccess;
}
inline ncclResult_t ncclCommDeregister(ncclComm_t handle, void* registration) {
  const emulated::Lock lock(emulated::machine().mutex);
  const std::size_t known = emulated::live(handle, "ncclCommDeregister")->registered.erase(registration);
  return known != 0 ? ncclSuccess : ncclInvalidArgument;
}
// Only for memory from ncclMemAlloc.
inline ncclResult_t ncclCommWindowRegister(ncclComm_t comm, void* memory, std::size_t bytes, ncclWindow_t* window,
                                           int) {
  if (reinterpret_cast<std::uintptr_t>(memory) % NCCL_WIN_REQUIRED_ALIGNMENT != 0) return ncclInvalidArgument;
  return ncclCommRegister(comm, memory, bytes, reinterpret_cast<void**>(window));
}
inline ncclResult_t ncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t window) {
  return ncclCommDeregister(comm, window);
}

namespace emulated {

/// From now on ncclCommGetAsyncError returns `error`, as after the failure of a peer.
inline void nccl_fail(ncclComm_t comm, ncclResult_t error) {
  const Lock lock(machine().mutex);
  live(comm, "nccl_fail")->failed = error;
}

/// The number of communicators that were created and neither destroyed nor aborted.
inline std::size_t nccl_communicators() {
  const Lock lock(machine().mutex);
  return nccl().communicators.size();
}

/// The number of registrations, including windows, of existing communicators.
inline std::size_t nccl_registrations() {
  const Lock lock(machine().mutex);
  std::size_t count = 0;
  for (const auto& [handle, comm] : nccl().communicators) count += comm->registered.size();
  return count;
}

/// The number of operations from ncclRedOpCreatePreMulSum that were not destroyed, of existing communicators.
inline std::size_t nccl_scaled_sums() {
  const Lock lock(machine().mutex);
  std::size_t count = 0;
  for (const auto& [handle, comm] : nccl().communicators) count += comm->scaled_sums.size();
  return count;
}

}  // namespace emulated
