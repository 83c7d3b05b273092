// Records which device owns which address. Device memory is plain memory that the host must not access: between
// operations its pages are protected, so a host access ends the program, as on a real machine (where it may also read
// wrong data). An operation has access to the memory of its own device and of the peers to which access was enabled.
//
// Addresses are not reused: freed memory stays protected.
#pragma once

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "types.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define TESSERA_EMULATED_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TESSERA_EMULATED_ASAN 1
#endif
#endif
#if defined(TESSERA_EMULATED_ASAN)
#include <sanitizer/asan_interface.h>
#endif

namespace emulated {

using DeviceSet = std::uint64_t;  // one bit per device
inline constexpr DeviceSet all_devices = ~DeviceSet{0};
inline constexpr int max_devices = 16;

class Memory {
 public:
  struct Allocation {
    std::size_t bytes;
    cudaMemoryType type;
    int device;
    std::size_t alignment;  // distinguishes cudaMalloc from ncclMemAlloc
  };

  // Filled with ones, that is NaN, so that reading uninitialized memory does not give zeros by chance.
  void* allocate(cudaMemoryType type, std::size_t bytes, int device, std::size_t alignment) {
    if (bytes == 0) return nullptr;
    char* memory;
    if (type == cudaMemoryTypeDevice) {
      memory = arenas_[device].take(bytes, alignment);
      if (memory == nullptr) return nullptr;
      show(all_devices);
    } else {
      memory = static_cast<char*>(std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment));
      if (memory == nullptr) return nullptr;
    }
    std::memset(memory, 0xff, bytes);
    allocations_[memory] = {bytes, type, device, alignment};
    return memory;
  }

  // Returns false if `memory` did not come from allocate() with this type and alignment. Managed memory: any type.
  bool free(void* memory, cudaMemoryType type, std::size_t alignment) {
    const auto at = allocations_.find(static_cast<char*>(memory));
    if (at == allocations_.end()) return false;
    const Allocation allocation = at->second;
    if (allocation.alignment != alignment) return false;
    if (allocation.type != type && allocation.type != cudaMemoryTypeManaged) return false;
    allocations_.erase(at);
    if (allocation.type == cudaMemoryTypeDevice) {
      arenas_[allocation.device].drop(static_cast<char*>(memory), allocation.bytes);
    } else {
      std::free(memory);
    }
    return true;
  }

  // The allocation that contains `pointer`, or null.
  const Allocation* find(const void* pointer) const {
    const char* address = static_cast<const char*>(pointer);
    auto next = allocations_.upper_bound(const_cast<char*>(address));
    if (next == allocations_.begin()) return nullptr;
    --next;
    return address < next->first + next->second.bytes ? &next->second : nullptr;
  }

  // Gives access to the memory of `devices` and to no other.
  void show(DeviceSet devices) {
    for (int device = 0; device < max_devices; ++device) arenas_[device].open(!guard_ || (devices >> device & 1));
  }
  void hide() { show(0); }

  void guard(bool on) {
    guard_ = on;
    hide();
  }

 private:
  // The addresses of one device. They are used in ascending order; each live range is protected as a whole.
  class Arena {
   public:
    char* take(std::size_t bytes, std::size_t alignment) {
      if (bottom_ == nullptr) reserve();
      const std::size_t first = used_ + (alignment < page ? alignment : 0);  // not more aligned than promised
      const std::size_t gap = 256;                                           // poisoned under AddressSanitizer
      if (bytes > reserved - gap || first > reserved - gap - bytes) return nullptr;
      const std::size_t before = used_;
      used_ = (first + bytes + gap + page - 1) / page * page;  // whole pages, so that free() can protect them
      if (!ranges_.empty() && ranges_.back().end == before) {
        ranges_.back().end = used_;
      } else {
        ranges_.push_back({before, used_});
      }
      set(before, used_, open_);
#if defined(TESSERA_EMULATED_ASAN)
      ASAN_POISON_MEMORY_REGION(bottom_ + before, used_ - before);
      ASAN_UNPOISON_MEMORY_REGION(bottom_ + first, bytes);
#endif
      return bottom_ + first;
    }

    void drop(char* memory, std::size_t bytes) {
      const std::size_t first = static_cast<std::size_t>(memory - bottom_) / page * page;
      const std::size_t end = (static_cast<std::size_t>(memory - bottom_) + bytes + 256 + page - 1) / page * page;
      madvise(bottom_ + first, end - first, MADV_DONTNEED);
      set(first, end, false);
      std::vector<Range> left;
      for (const Range& range : ranges_) {
        if (range.first < first && first < range.end) left.push_back({range.first, first});
        if (range.first < end && end < range.end) left.push_back({end, range.end});
        if (range.end <= first || end <= range.first) left.push_back(range);
      }
      ranges_ = left;
    }

    void open(bool on) {
      if (on == open_) return;
      open_ = on;
      for (const Range& range : ranges_) set(range.first, range.end, on);
    }

   private:
    struct Range {
      std::size_t first, end;
    };
    static constexpr std::size_t reserved = std::size_t{1} << 36, page = 4096;

    void reserve() {
      void* memory = mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED) {
        std::perror("emulated CUDA: cannot reserve addresses for device memory");
        std::abort();
      }
      bottom_ = static_cast<char*>(memory);
    }
    void set(std::size_t first, std::size_t end, bool on) {
      if (mprotect(bottom_ + first, end - first, on ? PROT_READ | PROT_WRITE : PROT_NONE) != 0) {
        std::perror("emulated CUDA: mprotect");
        std::abort();
      }
    }

    char* bottom_ = nullptr;
    std::size_t used_ = 0;
    bool open_ = false;
    std::vector<Range> ranges_;
  };

  Arena arenas_[max_devices];
  std::map<char*, Allocation> allocations_;
  bool guard_ = true;
};

}  // namespace emulated
