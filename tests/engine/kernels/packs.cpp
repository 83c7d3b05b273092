#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include <tessera/core/bfloat16.hpp>
#include <tessera/engine/kernels/packs.hpp>
#include <tessera/engine/memory/reduce.hpp>

namespace tessera::engine {
namespace {

using packs::Group;

TEST_CASE("a pack is read and written in place, with one access or element by element") {
  alignas(16) const std::vector<float> from = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  for (index_t begin = -3; begin < 10; ++begin) {
    for (const bool at_once : {false, true}) {
      if (at_once && (begin != 0 && begin != 4)) continue;
      const Group<4> group{begin, 10, at_once};
      const auto pack = group.load(from.data());
      alignas(16) float to[10] = {};
      group.store(to, pack);
      for (index_t i = 0; i < 10; ++i) {
        const bool within = begin <= i && i < begin + 4;
        CHECK(to[i] == (within ? from[static_cast<std::size_t>(i)] : 0));
        if (within) CHECK(pack.of[i - begin] == from[static_cast<std::size_t>(i)]);
      }
      for (index_t k = 0; k < 4; ++k)
        if (begin + k < 0 || begin + k >= 10) CHECK(pack.of[k] == 0);
    }
  }
}

TEST_CASE("16-bit elements are packed in order") {
  alignas(16) std::uint16_t from[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  for (const bool at_once : {false, true})
    for (const index_t begin : {0, 4}) {
      const auto pack = Group<4>{begin, 8, at_once}.load(from);
      for (int k = 0; k < 4; ++k) CHECK(pack.of[k] == begin + k + 1);
    }
  CHECK(Group<4>{6, 8, false}.load(from).of[1] == 8);
  CHECK(Group<4>{6, 8, false}.load(from).of[2] == 0);
}

// The loop of a device over n elements, pack by pack.
template <class Body>
void in_packs(index_t n, const Body& body) {
  for (index_t i = -body.lead(); i < n; i += Body::pack_elements) body.template pack<Body::pack_elements>(i, n);
}

TEST_CASE("partial sums have the same bits in packs as element by element, for any length and alignment") {
  const auto number = [](index_t i, float scale) { return scale * (1 + 0.37f * static_cast<float>(i % 29)); };
  for (const index_t n : {1, 3, 4, 7, 64, 65})
    for (const index_t shift : {0, 1, 2}) {
      std::vector<float> older, sum;
      for (index_t i = 0; i < n + shift; ++i) older.push_back(number(i, 3)), sum.push_back(number(i, 0.01f));
      std::vector<float> expected = sum;
      const AddOlder one_by_one{older.data() + shift, expected.data() + shift};
      for (index_t i = 0; i < n; ++i) one_by_one(i);
      in_packs(n, AddOlder{older.data() + shift, sum.data() + shift});
      CHECK(sum == expected);

      std::vector<bfloat16> rounded(static_cast<std::size_t>(n + 1), bfloat16(-1.0f));
      in_packs(n, Round<bfloat16>{sum.data() + shift, rounded.data(), 0.75f});
      for (index_t i = 0; i < n; ++i)
        CHECK(static_cast<float>(rounded[static_cast<std::size_t>(i)]) ==
              static_cast<float>(bfloat16(0.75f * sum[static_cast<std::size_t>(i + shift)])));
      CHECK(static_cast<float>(rounded.back()) == -1);
    }
}

}  // namespace
}  // namespace tessera::engine
