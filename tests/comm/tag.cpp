#include <doctest/doctest.h>

#include <string>

#include <tessera/comm/tag.hpp>

namespace tessera {
namespace {

TEST_CASE("the text of a tag has its only unit, or the first and the last, and the end of long names") {
  CHECK(Tag{"norm of step", 5, 6}.text() == "norm of step 5, pass 6");
  CHECK(Tag{"gradients of bucket", 4, 17, {"body", "body"}}.text() == "gradients of bucket 4, unit 'body', pass 17");
  CHECK(Tag{"gradients of bucket", 4, 17, {"body", "head"}}.text() ==
        "gradients of bucket 4, units 'body' to 'head', pass 17");
  const std::string longest = "encoder.layers.17.self_attention";
  CHECK(UnitNames(longest.substr(1), longest.substr(1)).text() == "unit 'ncoder.layers.17.self_attention'");
  CHECK(UnitNames(longest, longest).text() == "unit '...der.layers.17.self_attention'");
}

}  // namespace
}  // namespace tessera
