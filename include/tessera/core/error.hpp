// The exceptions of the library. Each message names the tensor, unit, rank or call and says what to do.
#pragma once

#include <stdexcept>
#include <string>

#include <tessera/core/message.hpp>

namespace tessera {

/// The base class of everything that the library throws.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A layout that is not valid, or a tensor or unit that is not in the layout.
struct LayoutError : Error {
  using Error::Error;
};

/// A caller's buffer that is too small, misaligned or overlaps another.
struct BufferError : Error {
  using Error::Error;
};

/// A buffer of the plan that could not be allocated.
struct MemoryError : Error {
  using Error::Error;
};

/// An option or hyperparameter that is out of range.
struct OptionError : Error {
  using Error::Error;
};

/// A call at the wrong time, such as a second ready() for a unit or a step() between two passes.
struct UsageError : Error {
  using Error::Error;
};

/// A file of a checkpoint that cannot be written or read, or that does not fit the optimizer.
struct CheckpointError : Error {
  using Error::Error;
};

/// An error that involves several ranks and ends the step on all of them.
struct RankError : Error {
  using Error::Error;
};

/// Ranks that do not agree: they differ in configuration or in the calls that they make.
struct AgreementError : RankError {
  using RankError::RankError;
};

/// Construction failed on another rank. That rank throws the cause.
struct PeerError : AgreementError {
  using AgreementError::AgreementError;
};

/// A rank that failed, left, or did not arrive before the timeout.
struct CommError : RankError {
  using RankError::RankError;
};

}  // namespace tessera
