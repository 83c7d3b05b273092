// An exact sum of doubles: the same whatever the order, and whoever adds which. Integers only.
// Made for the gradient norm: sums of squares of floats, each at least 2^-298 or zero and at most 2^262.
#pragma once

#include <bit>
#include <cstdint>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>

namespace tessera {

/// A fixed-point number of 704 bits, of which bit 0 is worth 2^-352: the last bit of the smallest addend is one of its
/// bits, and 2^63 of the largest do not fill it.
///
///     limb     21   ...    2       1       0        each holds a 32-bit digit and has 32 bits of room above it,
///           |carry|digit|carry|digit|carry|digit|   so that adding, and summing over ranks, never waits for a carry
class ExactSum {
 public:
  static constexpr int limbs = 22;

  /// value: zero, or from 2^-298 to 2^262.
  void add(double value) noexcept {
    const auto bits = bits_as<std::uint64_t>(value);
    const auto exponent = static_cast<unsigned>(bits >> 52);
    const std::uint64_t one = exponent != 0;
    const std::uint64_t mantissa = (bits & fraction_mask) | (one << 52);
    // The mantissa's last bit is worth 2^(exponent - 1075).
    const unsigned shift = one != 0 ? exponent - (1075 - unit_exponent) : 0;
    const std::uint64_t low = (mantissa & digit_mask) << (shift % 32);
    const std::uint64_t high = (mantissa >> 32) << (shift % 32);
    std::uint64_t* digit = digits_ + shift / 32;
    digit[0] += low & digit_mask;
    digit[1] += (low >> 32) + (high & digit_mask);
    digit[2] += high >> 32;
    if (++pending_ == most_pending) normalise();
  }

  void add(ExactSum other) noexcept {
    other.normalise();
    normalise();
    for (int i = 0; i < limbs; ++i) digits_[i] += other.digits_[i];
    normalise();
  }

  /// Moves what is above 32 bits in a limb to the next.
  void normalise() noexcept {
    std::uint64_t carry = 0;
    for (int i = 0; i + 1 < limbs; ++i) {
      const std::uint64_t digit = digits_[i] + carry;
      digits_[i] = digit & digit_mask;
      carry = digit >> 32;
    }
    digits_[limbs - 1] += carry;
    pending_ = 0;
  }

  /// For an all-reduce: after normalise(), the digits of up to 2^31 ranks may be summed as plain integers, and the
  /// result written back here. normalise() again before adding to it.
  std::uint64_t digit(int i) const noexcept { return digits_[i]; }
  void set_digit(int i, std::uint64_t digit) noexcept { digits_[i] = digit; }

  /// The sum, rounded once, to the nearest, ties to even.
  double value() const noexcept {
    ExactSum exact = *this;
    exact.normalise();
    int top = limbs - 1;
    while (top > 0 && exact.digits_[top] == 0) --top;
    if (exact.digits_[top] == 0) return 0;
    // The 64 leading bits; all that lie below count only as "there is something".
    const int zeros = std::countl_zero(static_cast<std::uint32_t>(exact.digits_[top]));
    const std::uint64_t upper = exact.digits_[top] << 32 | exact.at(top - 1);
    const std::uint64_t lower = exact.at(top - 2) << zeros;
    const std::uint64_t leading = upper << zeros | lower >> 32;
    bool below = (lower & digit_mask) != 0;
    for (int i = top - 3; i >= 0; --i) below |= exact.digits_[i] != 0;
    // bits 10..0 of the 64 go: rounds up above half, and at half where the last bit kept is odd
    const std::uint64_t kept = leading >> 11;
    const std::uint64_t rest = (leading & 0x7ffu) << 1 | static_cast<std::uint64_t>(below);
    const std::uint64_t rounded = kept + (rest > 0x800u || (rest == 0x800u && (kept & 1u) != 0));
    // The leading bit's place is the exponent; that of `rounded` (bit 52, or 53 after a carry) adds one to it.
    const auto place = static_cast<std::uint64_t>(32 * top + 31 - zeros);
    return bits_as<double>(((place + 1023 - unit_exponent - 1) << 52) + rounded);
  }

 private:
  std::uint64_t at(int i) const noexcept { return i < 0 ? 0 : digits_[i]; }

  static constexpr unsigned unit_exponent = 352;
  static constexpr std::uint64_t digit_mask = 0xffffffffu;
  static constexpr std::uint64_t fraction_mask = (std::uint64_t{1} << 52) - 1;
  static constexpr std::uint32_t most_pending = 1u << 30;  // each adds less than 2^33 to a limb

  std::uint64_t digits_[limbs] = {};
  std::uint32_t pending_ = 0;
};

}  // namespace tessera
