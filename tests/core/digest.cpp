#include <doctest/doctest.h>

#include <array>

#include <tessera/core/digest.hpp>

namespace tessera {
namespace {

std::uint64_t of_bytes(std::string_view text) { return core::Digest{}.add(std::as_bytes(std::span(text))).value(); }

TEST_CASE("digests equal the published values of 64-bit FNV-1a") {
  CHECK(core::Digest{}.value() == 0xcbf29ce484222325u);
  CHECK(of_bytes("a") == 0xaf63dc4c8601ec8cu);
  CHECK(of_bytes("foobar") == 0x85944171f73967e8u);
}

TEST_CASE("the order of texts and the boundaries between them change the digest") {
  CHECK(core::Digest{}.add("ab").add("c").value() != core::Digest{}.add("a").add("bc").value());
  CHECK(core::Digest{}.add(std::int64_t{1}).add(std::int64_t{2}).value() !=
        core::Digest{}.add(std::int64_t{2}).add(std::int64_t{1}).value());
}

TEST_CASE("aggregates of numbers are added by their bits") {
  struct Pair {
    float a, b;
  };
  CHECK(core::Digest{}.add(Pair{1, 2}).value() == core::Digest{}.add(Pair{1, 2}).value());
  CHECK(core::Digest{}.add(Pair{0.0f, 2}).value() != core::Digest{}.add(Pair{-0.0f, 2}).value());
}

TEST_CASE("an empty struct adds no bits") {
  struct Nothing {};
  CHECK(core::Digest{}.add(Nothing{}).value() == core::Digest{}.value());
}

}  // namespace
}  // namespace tessera
