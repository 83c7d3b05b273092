#include <doctest/doctest.h>

#include <string>

#include <tessera/engine/memory/bucket_tag.hpp>

namespace tessera::engine {
namespace {

TEST_CASE("the tag of a bucket's collective names its only unit, or the first and the last") {
  Layout layout;
  for (const char* name : {"embedding", "attention", "mlp", "head"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {name == std::string("embedding") ? 300 : 64});
  }
  const Sharding sharding(layout, 2, 192);
  REQUIRE(sharding.buckets() == 2);
  CHECK(bucket_tag("gradients of bucket", sharding, 0, 17).text() ==
        "gradients of bucket 0, unit 'embedding', pass 17");
  CHECK(bucket_tag("parameters of bucket", sharding, 1, 3).text() ==
        "parameters of bucket 1, units 'attention' to 'head', pass 3");
}

TEST_CASE("a flat layout has no unit names") {
  const Sharding sharding(Layout::flat(1000), 2, 128);
  CHECK(bucket_tag("gradients of bucket", sharding, 3, 0).text() == "gradients of bucket 3, pass 0");
}

}  // namespace
}  // namespace tessera::engine
