// Floating-point environments from which a program may call the library.
#pragma once

#include <cfenv>

#include <tessera/exec/float_environment.hpp>

namespace tessera::testing {

/// Changes the calling thread's environment for the lifetime of the object: denormals are flushed to zero, as in a
/// program linked with -Ofast, and results are rounded up. On machines other than x86 and aarch64 only the rounding.
class StrangeEnvironment {
 public:
  StrangeEnvironment() {
    std::fegetenv(&before_);
    std::fesetround(FE_UPWARD);
    exec::float_environment::write(exec::float_environment::read() | flushes_denormals);
  }
  StrangeEnvironment(const StrangeEnvironment&) = delete;
  StrangeEnvironment& operator=(const StrangeEnvironment&) = delete;
  ~StrangeEnvironment() { std::fesetenv(&before_); }

  /// Whether the thread still has this environment.
  static bool holds() {
    return std::fegetround() == FE_UPWARD && (exec::float_environment::read() & flushes_denormals) == flushes_denormals;
  }

 private:
#if defined(__x86_64__)
  static constexpr exec::float_environment::Word flushes_denormals = 0x8040;  // FTZ and DAZ
#elif defined(__aarch64__)
  static constexpr exec::float_environment::Word flushes_denormals = 0x01000000;  // FZ
#else
  static constexpr exec::float_environment::Word flushes_denormals = 0;
#endif

  std::fenv_t before_;
};

/// Whether the calling thread computes in the IEEE default environment.
inline bool computes_by_default() {
  volatile float smallest = 0x1p-149f, one = 1, half_a_bit = 0x1p-24f;
  volatile float denormal = smallest * 3, up = one + half_a_bit, down = -one - half_a_bit;
  return denormal == 3 * 0x1p-149f && denormal != 0 && up == 1 && down == -1;
}

}  // namespace tessera::testing
