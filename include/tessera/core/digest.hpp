// FNV-1a, 64 bits: the digest by which ranks compare their configuration, calls and weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include <tessera/core/config.hpp>

namespace tessera::core {

class Digest {
 public:
  constexpr Digest& add(std::string_view text) noexcept {
    for (const char c : text) add_byte(static_cast<unsigned char>(c));
    return add_byte(0);
  }

  TESSERA_HD constexpr Digest& add(std::int64_t number) noexcept {
    for (int shift = 0; shift < 64; shift += 8) add_byte(static_cast<unsigned char>(number >> shift));
    return *this;
  }

  constexpr Digest& add(std::span<const std::byte> bytes) noexcept {
    for (const std::byte b : bytes) add_byte(static_cast<unsigned char>(b));
    return *this;
  }

  /// Adds the bytes of an aggregate of numbers, which must have no padding.
  template <class T>
  requires std::is_trivially_copyable_v<T> && std::is_aggregate_v<T> TESSERA_HD Digest& add(const T& numbers) noexcept {
    if constexpr (!std::is_empty_v<T>) {  // the one byte of an empty struct has no defined value
      const auto* const bytes = reinterpret_cast<const unsigned char*>(&numbers);
      for (std::size_t i = 0; i < sizeof(T); ++i) add_byte(bytes[i]);
    }
    return *this;
  }

  TESSERA_HD constexpr std::uint64_t value() const noexcept { return value_; }

 private:
  TESSERA_HD constexpr Digest& add_byte(unsigned char byte) noexcept {
    value_ = (value_ ^ byte) * 0x100000001b3u;
    return *this;
  }

  std::uint64_t value_ = 0xcbf29ce484222325u;
};

}  // namespace tessera::core
