#include <doctest/doctest.h>

#include <string>
#include <utility>

#include <tessera/layout/names.hpp>

namespace tessera {
namespace {

TEST_CASE("a name is found in its own scope only") {
  layout::Names names;
  CHECK(names.find(0, "w") == -1);
  for (const auto& [scope, name] : {std::pair(0, "w"), std::pair(0, "wv"), std::pair(1, "w"), std::pair(1, "")})
    CHECK(names.add(scope, name));
  CHECK_FALSE(names.add(0, "wv"));
  CHECK_FALSE(names.add(1, ""));
  CHECK(names.find(0, "w") == 0);
  CHECK(names.find(0, "wv") == 1);
  CHECK(names.find(1, "w") == 2);
  CHECK(names.find(1, "") == 3);
  CHECK(names.find(1, "wv") == -1);
  CHECK(names.find(2, "w") == -1);
  CHECK(names[1] == "wv");
  CHECK(names[2] == "w");
  CHECK(names[3].empty());
}

TEST_CASE("names are found among many, also in a copy") {
  layout::Names names;
  for (int i = 0; i < 3000; ++i) names.add(i % 7, "name " + std::to_string(i));
  const layout::Names copy = names;
  int wrong = 0;
  for (int i = 0; i < 3000; ++i) {
    const std::string name = "name " + std::to_string(i);
    wrong += copy.find(i % 7, name) != i || copy.find((i + 1) % 7, name) != -1 || copy[i] != name;
  }
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace tessera
