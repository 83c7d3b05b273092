#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <utility>

#include <tessera/exec/buffer.hpp>

using namespace tessera;

TEST_CASE("a buffer is zero, aligned to a cache line, and counts its bytes while it exists") {
  const auto count = std::make_shared<exec::ByteCount>();
  {
    HostBuffer<float> small(3, count), large(index_t{3} << 20, count);
    CHECK(count->held() == 12 + (index_t{12} << 20));
    for (const HostBuffer<float>* buffer : {&small, &large}) {
      CHECK(reinterpret_cast<std::uintptr_t>(buffer->span().data()) % 64 == 0);
      bool zero = true;
      for (const float x : buffer->span()) zero = zero && x == 0;
      CHECK(zero);
    }
  }
  CHECK(count->held() == 0);
  CHECK(count->peak() == 12 + (index_t{12} << 20));
}

TEST_CASE("the peak is the most bytes at a time") {
  const auto count = std::make_shared<exec::ByteCount>();
  { HostBuffer<float> large(100, count); }
  HostBuffer<float> small(1, count);
  CHECK(count->held() == 4);
  CHECK(count->peak() == 400);
}

TEST_CASE("a moved buffer keeps its memory and is counted once") {
  const auto count = std::make_shared<exec::ByteCount>();
  HostBuffer<double> from(5, count);
  from.span()[4] = 7;
  HostBuffer<double> to(std::move(from));
  CHECK(to.span()[4] == 7);
  CHECK(count->held() == 40);
  to = HostBuffer<double>(1, count);
  CHECK(to.size() == 1);
  CHECK(count->held() == 8);
}

TEST_CASE("an empty buffer is legal and counts no bytes") {
  const auto count = std::make_shared<exec::ByteCount>();
  HostBuffer<float> none(0, count);
  CHECK(none.span().empty());
  CHECK(count->peak() == 0);
}
