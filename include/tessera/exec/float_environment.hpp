// The floating-point environment of the library's arithmetic, independent of the calling thread's. A program linked
// with -Ofast flushes denormals to zero from the start, and the threads that it starts inherit this; no header can
// detect it.
#pragma once

#include <cstdint>

#include <tessera/core/config.hpp>

namespace tessera::exec {

namespace float_environment {

// ieee: the thread's floating-point control word with IEEE defaults: denormals, round to nearest, no traps. control:
// the bits to compare, all but the exception flags.
#if defined(__x86_64__)
using Word = std::uint32_t;
inline constexpr Word control = 0xffc0;
inline constexpr Word ieee = 0x1f80;

inline Word read() noexcept {
  Word word;
  asm volatile("stmxcsr %0" : "=m"(word) : : "memory");
  return word;
}
inline void write(Word word) noexcept { asm volatile("ldmxcsr %0" : : "m"(word) : "memory"); }
#elif defined(__aarch64__)
using Word = std::uint64_t;
inline constexpr Word control = 0x07c89f07;
inline constexpr Word ieee = 0;

inline Word read() noexcept {
  Word word;
  asm volatile("mrs %0, fpcr" : "=r"(word) : : "memory");
  return word;
}
inline void write(Word word) noexcept { asm volatile("msr fpcr, %0" : : "r"(word) : "memory"); }
#else
using Word = std::uint32_t;
inline constexpr Word control = 0;
inline constexpr Word ieee = 0;

inline Word read() noexcept { return ieee; }
inline void write(Word) noexcept {}
#endif

}  // namespace float_environment

/// Sets the IEEE default environment (denormals, round to nearest, no traps) for the thread while the object exists,
/// and then restores the thread's own. Reads a register and writes it only if it differs.
/// A compiler may move arithmetic on values in registers across the constructor or destructor. Put such arithmetic in a
/// separate function that is not inlined (exec/vectorize.hpp).
class DefaultFloatEnvironment {
 public:
  DefaultFloatEnvironment() noexcept : before_(float_environment::read()) {
    const auto wanted = (before_ & ~float_environment::control) | float_environment::ieee;
    changed_ = wanted != before_;
    if (changed_) float_environment::write(wanted);
  }
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;
  ~DefaultFloatEnvironment() {
    if (changed_) float_environment::write(before_);
  }

 private:
  float_environment::Word before_;
  bool changed_;
};

}  // namespace tessera::exec
