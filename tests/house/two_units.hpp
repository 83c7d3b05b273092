// What both translation units of the one-definition test compute, each with its own flags.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#if __has_include(<tessera/tessera.hpp>)
#include <tessera/tessera.hpp>
#else
#include <tessera/core/bfloat16.hpp>
#include <tessera/core/math.hpp>
#endif

namespace two_units {

// In an unnamed namespace: each unit keeps its own copy, made with its own flags, of all but the library's functions.
namespace {

std::vector<std::uint32_t> bits() {
  std::vector<std::uint32_t> seen;
  for (std::uint32_t i = 0; i < (1u << 16); ++i) {
    const auto value = std::bit_cast<float>(i * 65521u);
    const tessera::bfloat16 narrow(value);
    seen.push_back(narrow.bits);
    seen.push_back(std::bit_cast<std::uint32_t>(static_cast<float>(narrow)));
  }
  return seen;
}

}  // namespace

}  // namespace two_units
