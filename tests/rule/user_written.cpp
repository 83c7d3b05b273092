// The rule of docs/rules.md, compiled and run.
#include <doctest/doctest.h>

#include <fstream>
#include <sstream>
#include <string>

#include <tessera/rule/concept.hpp>

#include "sign_sgd.inc"

static std::string text(const char* path) {
  std::ostringstream all;
  all << std::ifstream(path).rdbuf();
  return all.str();
}

TEST_CASE("a user's rule satisfies UpdateRule") {
  static_assert(tessera::UpdateRule<SignSgd>);
  SignSgd::State state{};
  CHECK(SignSgd{.lr = 0.5f}(1.0f, 3.0f, state, SignSgd{.lr = 0.5f}.scalars(1)) == 0.5f);
}

TEST_CASE("the page shows the code that is compiled here") {
  const std::string code = text(TESSERA_SOURCE_DIR "/tests/rule/sign_sgd.inc");
  REQUIRE(!code.empty());
  CHECK(text(TESSERA_SOURCE_DIR "/docs/rules.md").find("```cpp\n" + code + "```") != std::string::npos);
}
