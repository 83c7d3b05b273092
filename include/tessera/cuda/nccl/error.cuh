// Error texts of NCCL, and NCCL's types for the library's element types.
#pragma once

#include <nccl.h>

#include <concepts>
#include <cstdint>
#include <string>

#include <tessera/core/bfloat16.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/float16.hpp>
#include <tessera/core/math.hpp>
#include <tessera/core/message.hpp>

namespace tessera::nccl {

static_assert(
    NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0),
    "tessera needs NCCL 2.27 or later: in earlier versions a non-blocking communicator may wait for other ranks within "
    "a call");

/// For example "remote process exited or there was a network error", and the last message of NCCL's log.
inline std::string reason(ncclResult_t why) {
  const char* const last = ncclGetLastError(nullptr);
  const std::string text = message({"NCCL: ", ncclGetErrorString(why)});
  return last && *last ? message({text, " (", last, ")"}) : text;
}

inline bool failed(ncclResult_t result) noexcept { return result != ncclSuccess && result != ncclInProgress; }

/// Throws CommError if a call that involves no other rank failed. what: the action, a literal.
inline void check(ncclResult_t result, const char* what) {
  if (failed(result)) throw CommError(message({what, ": ", reason(result)}));
}

/// Keeps the first error of a group of calls.
class FirstError {
 public:
  void operator()(ncclResult_t result) noexcept {
    if (!failed(result_)) result_ = failed(result) ? result : result_;
  }
  ncclResult_t get() const noexcept { return result_; }

 private:
  ncclResult_t result_ = ncclSuccess;
};

/// The NCCL type of an element type that NCCL can sum.
template <class T>
constexpr ncclDataType_t sum_type() noexcept {
  if constexpr (std::same_as<T, float>)
    return ncclFloat32;
  else if constexpr (std::same_as<T, double>)
    return ncclFloat64;
  else if constexpr (std::same_as<T, bfloat16>)
    return ncclBfloat16;
  else if constexpr (std::same_as<T, float16>)
    return ncclFloat16;
  else if constexpr (std::same_as<T, std::uint64_t>)
    return ncclUint64;
  else {
    static_assert(std::same_as<T, std::int64_t>, "NCCL has no sum of this type");
    return ncclInt64;
  }
}

/// Elements that are moved but not summed are sent as bytes.
template <class T>
constexpr std::size_t bytes_of(index_t elements) noexcept {
  return static_cast<std::size_t>(elements) * sizeof(T);
}
inline constexpr ncclDataType_t raw = ncclUint8;

}  // namespace tessera::nccl
