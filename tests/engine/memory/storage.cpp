#include <doctest/doctest.h>

#include <new>
#include <vector>

#include <tessera/engine/memory/storage.hpp>
#include <tessera/exec/host.hpp>

namespace tessera::engine {
namespace {

constexpr Allocation planned{"parameters", 1, 100, 4};

TEST_CASE("a caller's buffer is used if there is one, else memory is allocated as planned") {
  Host host;
  Storage<Host, float> own(host, planned);
  CHECK(host.allocated_bytes() == 400);
  CHECK(own.span().size() == 100);
  std::vector<float> memory(120);
  Storage<Host, float> callers(host, planned, memory);
  CHECK(callers.data() == memory.data());
  CHECK(callers.span().size() == 100);
  CHECK(host.allocated_bytes() == 400);
}

struct NoMemory {
  template <class T>
  using Buffer = HostBuffer<T>;
  template <class T>
  Buffer<T> allocate(index_t) {
    throw std::bad_alloc();
  }
};

TEST_CASE("a buffer that cannot be allocated is named with its bytes") {
  NoMemory none;
  CHECK_THROWS_WITH_AS((Storage<NoMemory, float>(none, planned)),
                       doctest::Contains("'parameters' of 400 bytes could not be allocated: std::bad_alloc"),
                       MemoryError);
  std::vector<float> memory(100);
  CHECK_NOTHROW((Storage<NoMemory, float>(none, planned, memory)));
}

TEST_CASE("a buffer may be longer than required but not shorter, and must be aligned to 16 bytes") {
  alignas(16) float memory[128];
  CHECK_NOTHROW(check_buffer(std::span<float>(memory), planned));
  CHECK_NOTHROW(check_buffer(std::span<float>(), planned));
  CHECK_THROWS_WITH_AS(check_buffer(std::span<float>(memory).first(99), planned),
                       doctest::Contains("'parameters' has 99 elements, but 100"), BufferError);
  CHECK_THROWS_WITH_AS(check_buffer(std::span<float>(memory).subspan(1), planned),
                       doctest::Contains("multiple of 16 bytes"), BufferError);
  CHECK_THROWS_WITH_AS(check_buffer(std::span<float>(memory), Allocation{"gradients", 0, 100, 4}),
                       doctest::Contains("hand in none"), BufferError);
}

TEST_CASE("two buffers may be adjacent but must not overlap, whatever their types") {
  alignas(16) float memory[64];
  const std::span<float> all(memory);
  CHECK_NOTHROW(check_apart(all.first(32), all.subspan(32)));
  CHECK_NOTHROW(check_apart(all, std::span<double>()));
  CHECK_THROWS_AS(check_apart(all.first(33), all.subspan(32)), BufferError);
  CHECK_THROWS_AS(check_apart(all.subspan(8, 8), all), BufferError);
}

}  // namespace
}  // namespace tessera::engine
