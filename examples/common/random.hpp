// Pseudo-random numbers as a function of their arguments: the same on every rank, thread and platform.
#pragma once

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace example {

/// SplitMix64's finalizer over the arguments (Steele et al. 2014, "Fast Splittable Pseudorandom Number Generators").
inline std::uint64_t hash(std::uint64_t a, std::uint64_t b = 0, std::uint64_t c = 0) {
  std::uint64_t x = 0;
  for (const std::uint64_t word : {a, b, c}) {
    x += word + 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
  }
  return x;
}

/// In [-1, 1).
inline float uniform(std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  return static_cast<float>(static_cast<std::int64_t>(hash(a, b, c) >> 40)) / 8388608.0f - 1.0f;
}

/// 0 .. n - 1 in an order that depends on seed and epoch.
inline std::vector<int> shuffled(int n, std::uint64_t seed, std::uint64_t epoch) {
  std::vector<int> order(n);
  std::iota(order.begin(), order.end(), 0);
  for (int i = n - 1; i > 0; --i)
    std::swap(order[i], order[hash(seed, epoch, static_cast<std::uint64_t>(i)) % static_cast<std::uint64_t>(i + 1)]);
  return order;
}

}  // namespace example
