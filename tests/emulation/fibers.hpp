// Stacks for the threads of a thread block, and switching between them. The sanitizers are notified of each switch.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#define TESSERA_EMULATED_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TESSERA_EMULATED_TSAN 1
#endif
#endif
#if defined(TESSERA_EMULATED_TSAN)
#include <sanitizer/tsan_interface.h>
#endif
#if defined(TESSERA_EMULATED_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulated {

// A suspended flow of control.
struct Context {
#if defined(__x86_64__)
  void* top = nullptr;  // its stack pointer, below which the saved registers are
#else
  ucontext_t registers;
#endif
  const void* stack = nullptr;  // its lowest address
  std::size_t stack_bytes = 0;
  void* asan = nullptr;
  void* tsan = nullptr;
};

#if defined(__x86_64__)
// swapcontext() without its system call.
[[gnu::naked, gnu::noinline]] inline void swap_stacks([[maybe_unused]] void** from, [[maybe_unused]] void* to) {
  asm("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret");
}
#endif

inline Context* switched_from = nullptr;

// The first call after a switch, on the new stack.
inline void arrive([[maybe_unused]] Context& here) {
#if defined(TESSERA_EMULATED_ASAN)
  __sanitizer_finish_switch_fiber(here.asan, &switched_from->stack, &switched_from->stack_bytes);
#endif
}

// Resumes `to`; returns when another context switches back to `from`, the running one.
inline void switch_context(Context& from, Context& to) {
  switched_from = &from;
#if defined(TESSERA_EMULATED_ASAN)
  __sanitizer_start_switch_fiber(&from.asan, to.stack, to.stack_bytes);
#endif
#if defined(TESSERA_EMULATED_TSAN)
  if (from.tsan == nullptr) from.tsan = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.tsan, 0);
#endif
#if defined(__x86_64__)
  swap_stacks(&from.top, to.top);
#else
  swapcontext(&from.registers, &to.registers);
#endif
  arrive(from);
}

// A stack of its own that runs `work` from the first switch on. `work` never returns.
struct Fiber : Context {
  std::uint32_t thread = 0;  // the index in the block of the thread that runs on it

  explicit Fiber(void (*work)()) {
    constexpr std::size_t page = 4096;
    stack_bytes = 256 * 1024;
    char* memory = static_cast<char*>(
        mmap(nullptr, page + stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) {  // a guard page below the stack
      std::perror("emulated CUDA: no stack for a kernel's thread");
      std::abort();
    }
    stack = memory + page;
#if defined(TESSERA_EMULATED_TSAN)
    tsan = __tsan_create_fiber(0);
#endif
#if defined(__x86_64__)
    void** at = reinterpret_cast<void**>(memory + page + stack_bytes) - 2;  // aligned as at a call
    *at = reinterpret_cast<void*>(work);
    top = at - 6;
#else
    getcontext(&registers);
    registers.uc_stack.ss_sp = memory + page;
    registers.uc_stack.ss_size = stack_bytes;
    makecontext(&registers, work, 0);
#endif
  }
  Fiber(const Fiber&) = delete;
};

}  // namespace emulated
