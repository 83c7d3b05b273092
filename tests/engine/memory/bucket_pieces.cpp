#include <doctest/doctest.h>

#include <array>

#include <tessera/engine/memory/bucket_pieces.hpp>

namespace tessera::engine {
namespace {

TEST_CASE("the pieces of a call are those with elements, in the order in which they were added") {
  std::array<float, 6> in{};
  std::array<float, 3> out{};
  BucketPieces<float> pieces;
  CHECK(pieces.empty());
  pieces.add(0, {});
  CHECK(pieces.empty());
  pieces.add(4, {std::span(in).first(4), std::span(out).first(2), 2});
  pieces.add(0, {{}, {}, 64});
  pieces.add(2, {std::span(in).last(2), std::span(out).last(1), 1});
  REQUIRE(pieces.span().size() == 2);
  CHECK(pieces.span()[0].in.size() == 4);
  CHECK(pieces.span()[1].in.data() == &in[4]);
  CHECK(pieces.span()[1].part == 1);
}

}  // namespace
}  // namespace tessera::engine
