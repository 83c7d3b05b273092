// A rendezvous of ranks that MPI has started. MPI waits without a limit, so that no rank may be kept waiting for one
// that cannot begin: all say first whether they can, and only then do bytes of rank 0 come to all.
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

/// The ranks of a communicator of MPI's, on a duplicate of it, which has nothing of the caller's messages and whose
/// errors are CommErrors that name MPI's call. Used by one thread, one that may call MPI; every rank calls alike.
class MpiRanks {
 public:
  /// Blocks until all ranks have come. What goes wrong in MPI_Comm_dup itself goes to the communicator's own error
  /// handler, which ends the program unless the caller has set another. Throws UsageError before MPI_Init and after
  /// MPI_Finalize, OptionError for a communicator that is null or not of one group of ranks, CommError.
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

  /// Calls prepare() on every rank. Where it throws a std::exception on some, all throw: those ranks what they threw,
  /// the others PeerError that names the first of them and says the same. Blocks until all have come. Throws CommError.
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
    throw PeerError(message({"rank ", first, " of ", size(), " could not begin: ", reason.data()}));
  }

  /// Brings rank 0's `bytes` to all others, whose `bytes` have the same size, below 2^31. Blocks. Throws CommError.
  void broadcast(std::span<std::byte> bytes) const {
    check(MPI_Bcast(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, 0, duplicate_), "MPI_Bcast");
  }

 private:
  static void check_usable(MPI_Comm communicator) {
    int initialized = 0, finalized = 0, two_groups = 0;
    MPI_Initialized(&initialized);  // these two may be called at any time
    MPI_Finalized(&finalized);
    if (!initialized) throw UsageError("rendezvous: MPI has not begun: call MPI_Init() first");
    if (finalized) throw UsageError("rendezvous: MPI has ended: do this before MPI_Finalize()");
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
