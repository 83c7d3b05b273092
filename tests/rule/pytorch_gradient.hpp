// The generated gradients of pytorch.py, with the same bits.
#pragma once

#include <cstdint>

namespace tessera::testing {

/// The gradient of element i in step t, from 1; step 0 gives the initial weights.
inline float pytorch_gradient(std::uint32_t t, std::uint32_t i) {
  std::uint32_t x = (t * 16u + i) * 2654435761u;
  x ^= x >> 15;
  x *= 2246822519u;
  x ^= x >> 13;
  return static_cast<float>(x >> 8) / 8388608.0f - 1.0f;
}

}  // namespace tessera::testing
