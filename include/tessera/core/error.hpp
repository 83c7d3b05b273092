// The exceptions of the library. Each message names the tensor, unit, rank or call concerned and says what to do.
#pragma once

#include <stdexcept>
#include <string>

#include <tessera/core/message.hpp>

namespace tessera {

/// Everything that the library throws.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A layout that cannot be, or a tensor or unit that it does not have.
struct LayoutError : Error {
  using Error::Error;
};

/// A buffer of the caller's that is too small, misaligned or overlaps another.
struct BufferError : Error {
  using Error::Error;
};

/// A buffer of the plan that could not be allocated.
struct MemoryError : Error {
  using Error::Error;
};

/// An option or hyperparameter out of its range.
struct OptionError : Error {
  using Error::Error;
};

/// A call at the wrong time: ready twice, a step in the middle of accumulation.
struct UsageError : Error {
  using Error::Error;
};

/// What went wrong between ranks, and ends the step on all of them.
struct RankError : Error {
  using Error::Error;
};

/// Ranks that do not build or call the same.
struct AgreementError : RankError {
  using RankError::RankError;
};

/// Another rank could not be built; that rank throws what was wrong.
struct PeerError : AgreementError {
  using AgreementError::AgreementError;
};

/// A rank that failed, left or did not come in time.
struct CommError : RankError {
  using RankError::RankError;
};

}  // namespace tessera
