#include <tessera/exec/value_digest.hpp>

#include <algorithm>
#include <cstdint>
#include <random>
#include <set>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <tessera/core/bfloat16.hpp>
#include <tessera/core/float16.hpp>
#include <tessera/exec/host.hpp>

using namespace tessera;

namespace {

template <class T>
std::uint64_t digest(const std::vector<T>& values, int threads = 1) {
  return Host(threads).digest(std::span<const T>(values));
}

template <class T>
using BitsOf = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>;

// Up to 65536 different values.
template <class T>
std::vector<T> some(index_t n) {
  std::vector<T> values;
  for (index_t i = 0; i < n; ++i) values.push_back(bits_as<T>(static_cast<BitsOf<T>>(i * 7919 + 11)));
  return values;
}

// The digest as the header defines it, computed word by word.
template <class T>
std::uint64_t documented(const std::vector<T>& values) {
  using namespace value_digest;
  const auto n = static_cast<index_t>(values.size());
  std::uint64_t sum = of_length(n);
  for (index_t b = 0; b * block_elements<T> < n; ++b) {
    Block block;
    for (index_t j = 0; j < block_pairs; ++j) {
      const index_t at = 2 * block_pairs * b + j;
      block.add(word(values.data(), n, at), word(values.data(), n, at + block_pairs), key(j), key(j + block_pairs));
    }
    sum += block.part(b);
  }
  return sum;
}

}  // namespace

TEST_CASE_TEMPLATE("the digest is as documented for any length and any number of threads", T, float, bfloat16,
                   float16) {
  for (const index_t n : {0, 1, 2, 63, 255, 256, 257, 511, 512, 513, 1000, 32768, 32769, 40000, 65537, 100001}) {
    const auto values = some<T>(n);
    const auto expected = documented(values);
    for (const int threads : {1, 2, 3, 32, 64}) CHECK(digest(values, threads) == expected);
  }
}

TEST_CASE("the digest is the same in every version of the vector code, for memory at any alignment") {
  const auto values = some<bfloat16>(4 * 512 + 1);
  for (const index_t from : {0, 1}) {
    const auto* const bytes = reinterpret_cast<const unsigned char*>(values.data() + from);
    std::uint64_t expected = 0;
    exec::run_as(exec::Isa::baseline, value_digest::Blocks{bytes, 5, 4, &expected});
    for (const exec::Isa isa : {exec::Isa::avx2, exec::Isa::avx512}) {
      if (isa > exec::best_isa()) continue;
      std::uint64_t sum = 0;
      exec::run_as(isa, value_digest::Blocks{bytes, 5, 4, &sum});
      CHECK(sum == expected);
    }
  }
}

TEST_CASE("the digest differs for arrays that have equal digests under functions that are linear in the bits") {
  CHECK(digest<float>({1, 1}) != digest<float>({1.375f, 0.9375f}));
}

TEST_CASE_TEMPLATE("every changed bit, swap, move and length changes the digest", T, float, bfloat16) {
  using Bits = BitsOf<T>;
  for (const index_t n : {1, 2, 3, 5, 40, 300}) {
    std::vector<T> values = some<T>(n);
    std::set<std::uint64_t> seen{digest(values)};
    const auto differs = [&](const std::vector<T>& changed) { return seen.insert(digest(changed)).second; };
    for (std::size_t i = 0; i < values.size(); ++i)
      for (std::size_t bit = 0; bit < 8 * sizeof(T); ++bit) {
        auto changed = values;
        changed[i] = bits_as<T>(static_cast<Bits>(bits_as<Bits>(changed[i]) ^ (Bits{1} << bit)));
        REQUIRE(differs(changed));
      }
    for (std::size_t i = 0; i < values.size(); ++i)
      for (std::size_t j = 0; j < i; ++j) {
        auto changed = values;
        std::swap(changed[i], changed[j]);
        REQUIRE(differs(changed));
        std::swap(changed[i], changed[j]);
        std::rotate(changed.begin() + static_cast<std::ptrdiff_t>(j), changed.begin() + static_cast<std::ptrdiff_t>(j + 1),
                    changed.begin() + static_cast<std::ptrdiff_t>(i + 1));
        if (i - j > 1) REQUIRE(differs(changed));  // else the move is a swap
      }
    values.push_back(T(0.0f));
    CHECK(differs(values));
    values.back() = T(-0.0f);
    CHECK(differs(values));
  }
}

TEST_CASE("values that move between blocks change the digest, also if all other values are equal") {
  const index_t n = 10 * value_digest::block_elements<float>;
  std::vector<float> values(static_cast<std::size_t>(n), 1.0f);
  std::set<std::uint64_t> seen{digest(values)};
  for (float& value : values) {
    value = 2;
    REQUIRE(seen.insert(digest(values)).second);
    value = 1;
  }
}

// Similar changes in two places, which a linear digest cannot distinguish: 2^22 pairs. Random 64-bit digests would have
// a collision among them with probability 2^-20.
TEST_CASE("no two of 4096 small changes of equal values cancel") {
  std::vector<float> values(512, 1.0f);
  const std::uint64_t before = digest(values);
  std::set<std::uint64_t> changes;
  for (float& value : values)
    for (const std::uint32_t bit : {0u, 1u, 20u, 22u, 23u, 24u, 30u, 31u}) {
      value = bits_as<float>(bits_as<std::uint32_t>(value) ^ 1u << bit);
      const std::uint64_t change = digest(values) - before;
      value = 1;
      REQUIRE(changes.count(0 - change) == 0);
      REQUIRE(changes.insert(change).second);
    }
}
