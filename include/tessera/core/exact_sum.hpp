// An exact sum of doubles, by integer arithmetic: it does not depend on the order of the additions.
// Used for the gradient norm: it adds squares of floats, each zero or between 2^-298 and 2^262.
#pragma once

#include <cstdint>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>

namespace tessera {

/// A fixed-point number of 704 bits. Bit 0 has the value 2^-352, which covers the last bit of the smallest addend, and
/// 2^63 of the largest addends do not overflow it.
///
///     limb     21   ...    2       1       0        a limb: a 32-bit digit, and 32 bits above it for carries;
///           |carry|digit|carry|digit|carry|digit|   carries are propagated later, not in each addition
class ExactSum {
 public:
  static constexpr int limbs = 22;

  /// The digits of one number: digit[k], less than 2^33, is added to limb `limb` + k.
  struct Addend {
    int limb;
    std::uint64_t digit[3];
  };

  /// value: zero, or between 2^-298 and 2^262.
  TESSERA_HD static Addend addend(double value) noexcept {
    const auto bits = bits_as<std::uint64_t>(value);
    const auto exponent = static_cast<unsigned>(bits >> 52);
    const std::uint64_t one = exponent != 0;
    const std::uint64_t mantissa = (bits & fraction_mask) | (one << 52);
    // The mantissa's last bit has the value 2^(exponent - 1075).
    const unsigned shift = one != 0 ? exponent - (1075 - unit_exponent) : 0;
    const std::uint64_t low = (mantissa & digit_mask) << (shift % 32);
    const std::uint64_t high = (mantissa >> 32) << (shift % 32);
    return {static_cast<int>(shift / 32), {low & digit_mask, (low >> 32) + (high & digit_mask), high >> 32}};
  }

  /// Adds `value`, with the limits of addend(). Call normalise() after at most 2^30 additions.
  TESSERA_HD void add(double value) noexcept {
    const Addend added = addend(value);
    for (int k = 0; k < 3; ++k) digits_[added.limb + k] += added.digit[k];
  }

  TESSERA_HD void add(ExactSum other) noexcept {
    other.normalise();
    normalise();
    for (int i = 0; i < limbs; ++i) digits_[i] += other.digits_[i];
    normalise();
  }

  /// Propagates the carries: leaves 32 bits in each limb.
  TESSERA_HD void normalise() noexcept {
    std::uint64_t carry = 0;
    for (int i = 0; i + 1 < limbs; ++i) {
      const std::uint64_t digit = digits_[i] + carry;
      digits_[i] = digit & digit_mask;
      carry = digit >> 32;
    }
    digits_[limbs - 1] += carry;
  }

  /// For an all-reduce: after normalise(), the digits of up to 2^31 ranks can be summed as plain integers and written
  /// back with set_digit(). Call normalise() before the next addition.
  TESSERA_HD std::uint64_t digit(int i) const noexcept { return digits_[i]; }
  TESSERA_HD void set_digit(int i, std::uint64_t digit) noexcept { digits_[i] = digit; }
  /// All digits, for code that adds to them itself.
  TESSERA_HD std::uint64_t* digits() noexcept { return digits_; }

  /// The sum, rounded once to the nearest double, ties to even.
  TESSERA_HD double value() const noexcept {
    ExactSum exact = *this;
    exact.normalise();
    int top = limbs - 1;
    while (top > 0 && exact.digits_[top] == 0) --top;
    if (exact.digits_[top] == 0) return 0;
    // The 64 leading bits. Of the bits below them, rounding needs only whether one is set.
    const int zeros = leading_zeros(exact.digits_[top]);
    const std::uint64_t upper = exact.digits_[top] << 32 | exact.at(top - 1);
    const std::uint64_t lower = exact.at(top - 2) << zeros;
    const std::uint64_t leading = upper << zeros | lower >> 32;
    bool below = (lower & digit_mask) != 0;
    for (int i = top - 3; i >= 0; --i) below |= exact.digits_[i] != 0;
    // Drops bits 10..0 of the 64: rounds up above half, and at half if the last remaining bit is odd.
    const std::uint64_t kept = leading >> 11;
    const std::uint64_t rest = (leading & 0x7ffu) << 1 | static_cast<std::uint64_t>(below);
    const std::uint64_t rounded = kept + (rest > 0x800u || (rest == 0x800u && (kept & 1u) != 0));
    // The exponent is the position of the leading bit. The leading bit of `rounded` (bit 52, or 53 after a carry) adds
    // 1.
    const auto place = static_cast<std::uint64_t>(32 * top + 31 - zeros);
    return bits_as<double>(((place + 1023 - unit_exponent - 1) << 52) + rounded);
  }

 private:
  TESSERA_HD std::uint64_t at(int i) const noexcept { return i < 0 ? 0 : digits_[i]; }

  // digit: not zero. (std::countl_zero does not run on a device.)
  TESSERA_HD static int leading_zeros(std::uint64_t digit) noexcept {
    int zeros = 0;
    for (int half = 16; half > 0; half /= 2)
      if (digit >> (32 - half) == 0) {
        digit <<= half;
        zeros += half;
      }
    return zeros;
  }

  static constexpr unsigned unit_exponent = 352;
  static constexpr std::uint64_t digit_mask = 0xffffffffu;
  static constexpr std::uint64_t fraction_mask = (std::uint64_t{1} << 52) - 1;

  std::uint64_t digits_[limbs] = {};
};

}  // namespace tessera
