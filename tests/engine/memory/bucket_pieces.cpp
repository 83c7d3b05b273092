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

TEST_CASE("what ranks own of a bucket goes to those that hold it, piece by piece, without frozen elements") {
  Layout layout;
  layout.add_unit("u");
  layout.add_tensor("w", {100});
  layout.add_tensor("v", {70}, {.rule = 1});
  layout.add_tensor("fixed", {9}, {.frozen = true});
  const Sharding sharding(layout, 2, 1);
  std::array<float, 300> memory{};
  const FlatArray<float, placement::replicated> array(sharding, sharding.all_spaces(), 1, memory.data());
  const auto pieces = owned_to_held(sharding, array, 0);
  REQUIRE(pieces.span().size() == 2);
  CHECK(pieces.span()[0].in.data() == memory.data() + 64);
  CHECK(pieces.span()[0].in.size() == 36);
  CHECK(pieces.span()[0].out.size() == 100);
  CHECK(pieces.span()[1].in.size() == 6);
  CHECK(pieces.span()[1].out.data() == memory.data() + 128);
  CHECK(pieces.span()[1].part == 64);
}

}  // namespace
}  // namespace tessera::engine
