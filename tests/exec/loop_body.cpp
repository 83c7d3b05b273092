#include <doctest/doctest.h>

#include <concepts>

#include <tessera/exec/loop_body.hpp>

namespace tessera {
namespace {

struct Element {
  void operator()(index_t) const noexcept {}
};
struct InBlocks : Element {
  void prefetch(index_t) const noexcept {}
  void first(index_t) const noexcept {}
  void last(index_t) const noexcept {}
  void after(index_t, index_t) const noexcept {}
};
struct FirstAlone : Element {
  void first(index_t) const noexcept {}
};
struct InPacks : Element {
  static constexpr int pack_elements = 4;
  index_t lead() const noexcept { return 0; }
  template <int n>
  void pack(index_t, index_t) const noexcept {}
};
struct BoundLater {
  static constexpr int pack_elements = 4;
  index_t lead() const noexcept { return 0; }
  bool enabled() const noexcept { return true; }
  InPacks bind() const noexcept { return {}; }
};
struct MayThrow {
  bool enabled() const { return true; }
  Element bind() const { return {}; }
};

TEST_CASE("the concepts detect the optional members of a body") {
  CHECK(LoopBody<Element>);
  CHECK_FALSE(LoopBody<BoundLater>);
  CHECK_FALSE(LoopBody<int>);
  CHECK_FALSE(PrefetchingBody<Element>);
  CHECK_FALSE(TwoPhaseBody<Element>);
  CHECK_FALSE(CheckingBody<Element>);
  CHECK(PrefetchingBody<InBlocks>);
  CHECK(TwoPhaseBody<InBlocks>);
  CHECK(CheckingBody<InBlocks>);
  CHECK_FALSE(TwoPhaseBody<FirstAlone>);
}

TEST_CASE("a late-bound body must not throw, and its packs are those of the body that it binds") {
  CHECK(LateBoundBody<BoundLater>);
  CHECK_FALSE(LateBoundBody<MayThrow>);
  CHECK_FALSE(LateBoundBody<Element>);
  CHECK(PackedBody<BoundLater>);
  CHECK(PackedBody<InPacks>);
  CHECK_FALSE(PackedBody<Element>);
  CHECK(std::same_as<BoundBody<BoundLater>, InPacks>);
  CHECK(std::same_as<BoundBody<InPacks>, InPacks>);
}

}  // namespace
}  // namespace tessera
