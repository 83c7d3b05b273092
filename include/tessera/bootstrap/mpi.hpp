// A rendezvous of ranks that MPI started. MPI calls have no timeout. So all ranks first report whether they are ready,
// and rank 0 broadcasts its bytes only if all are.
#pragma once

#include <mpi.h>

#include <array>
#include <cstddef>
#include <exception>
#include <span>
#include <string_view>

#include <tessera/core/error.hpp>
#include <tessera/core/message.hpp>

namespace tessera::rendezvous {

/// The ranks of a duplicate of an MPI communicator. The duplicate separates its messages from the caller's, and its
/// errors are CommErrors that name the MPI call. Use it on one thread that may call MPI; all calls are collective.
class MpiRanks {
 public:
  /// Blocks until all ranks call it. Errors of MPI_Comm_dup itself go to the communicator's own error handler, which
  /// aborts the program unless the caller set another. Throws UsageError before MPI_Init and after MPI_Finalize,
  /// OptionError for MPI_COMM_NULL or an intercommunicator, CommError.
  explicit MpiRanks(MPI_Comm communicator) {
    check_usable(communicator);
    check(MPI_Comm_dup(communicator, &duplicate_), "MPI_Comm_dup");
    check(MPI_Comm_set_errhandler(duplicate_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check(MPI_Comm_rank(duplicate_, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(duplicate_, &size_), "MPI_Comm_size");
  }
  MpiRanks(const MpiRanks&) = delete;
  MpiRanks& operator=(const MpiRanks&) = delete;
  ~MpiRanks() { MPI_Comm_free(&duplicate_); }  // collective, though the standard expects it to be local

  int rank() const noexcept { return rank_; }
  int size() const noexcept { return size_; }

  /// Calls prepare() on every rank. If it throws a std::exception on some ranks, all ranks throw: those ranks rethrow
  /// it, the others throw PeerError with the first such rank and its message. Blocks until all ranks call it. Throws
  /// CommError.
  template <class Prepare>
  void all_ready(const Prepare& prepare) const {
    std::exception_ptr failure;
    std::array<char, 256> reason{};
    try {
      prepare();
    } catch (const std::exception& error) {
      failure = std::current_exception();
      std::string_view(error.what()).copy(reason.data(), reason.size() - 1);
    }
    int first = failure ? rank() : size();
    check(MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, duplicate_), "MPI_Allreduce");
    if (first == size()) return;
    check(MPI_Bcast(reason.data(), static_cast<int>(reason.size()), MPI_CHAR, first, duplicate_), "MPI_Bcast");
    if (failure) std::rethrow_exception(failure);
    throw PeerError(message({"rank ", first, " of ", size(), " could not start: ", reason.data()}));
  }

  /// Copies rank 0's `bytes` to all ranks. `bytes` has the same size on all, below 2^31. Blocks. Throws CommError.
  void broadcast(std::span<std::byte> bytes) const {
    check(MPI_Bcast(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, 0, duplicate_), "MPI_Bcast");
  }

 private:
  static void check_usable(MPI_Comm communicator) {
    int initialized = 0, finalized = 0, two_groups = 0;
    MPI_Initialized(&initialized);  // this and the next call are legal at any time
    MPI_Finalized(&finalized);
    if (!initialized) throw UsageError("rendezvous: MPI is not initialized: call MPI_Init() first");
    if (finalized) throw UsageError("rendezvous: MPI is finalized: do this before MPI_Finalize()");
    if (communicator == MPI_COMM_NULL)
      throw OptionError("rendezvous: the communicator is MPI_COMM_NULL: this process is none of its ranks");
    check(MPI_Comm_test_inter(communicator, &two_groups), "MPI_Comm_test_inter");
    if (two_groups)
      throw OptionError("rendezvous: an intercommunicator joins two groups of ranks: use MPI_Intercomm_merge() first");
  }

  static void check(int result, const char* call) {
    if (result == MPI_SUCCESS) return;
    std::array<char, MPI_MAX_ERROR_STRING + 1> why{};
    int length = 0;
    MPI_Error_string(result, why.data(), &length);
    throw CommError(message({call, ": ", why.data()}));
  }

  MPI_Comm duplicate_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace tessera::rendezvous
