// The floating-point environment that the library computes in, whatever the calling thread's is. A program linked with
// -Ofast starts with denormals flushed to zero and hands that on to the threads it starts; no header can see it.
#pragma once

#include <cstdint>

#include <tessera/core/config.hpp>

namespace tessera::exec {

namespace float_environment {

// The control word of the thread's vector arithmetic, and its bits but for the flags of what has happened. That of the
// IEEE default has denormals, rounds to nearest and traps nothing.
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

/// As long as it lives, the thread computes in IEEE's default environment: denormals are numbers, results are rounded to
/// nearest, nothing traps. Then the thread has its own again. Reads a register; writes it only where it differs.
/// A compiler may move arithmetic on what it holds in registers past either end: that belongs into a function of its
/// own, not inlined (exec/vectorize.hpp).
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
