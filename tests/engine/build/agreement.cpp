#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <tessera/engine/build/agreement.hpp>

namespace tessera::engine {
namespace {

Blueprint blueprint(std::string_view stage, std::uint64_t layout) {
  Blueprint made;
  made.set(0, "stage", stage, 0);
  made.set(1, "layout", "some units", layout);
  return made;
}

TEST_CASE("blueprints that are alike agree, and the first that differs is named with both values") {
  CHECK_NOTHROW(compare(core::List{blueprint("Stage1", 5), blueprint("Stage1", 5)}));
  CHECK_THROWS_WITH_AS(compare(core::List{blueprint("Stage1", 5), blueprint("Stage1", 5), blueprint("Stage2", 5)}),
                       doctest::Contains("ranks differ in stage: rank 0 has Stage1, rank 2 has Stage2"),
                       AgreementError);
  CHECK_THROWS_WITH_AS(compare(core::List{blueprint("Stage1", 5), blueprint("Stage1", 6)}),
                       doctest::Contains("ranks differ in layout"), AgreementError);
}

TEST_CASE("a text longer than its field is cut") {
  Blueprint long_text = blueprint(std::string(1000, 'x'), 5);
  long_text.refuse(std::string(5000, 'y'));
  CHECK(std::string(long_text.parts[0].text.data()).size() == long_text.parts[0].text.size() - 1);
  CHECK(std::string(long_text.problem.data()).size() == long_text.problem.size() - 1);
}

TEST_CASE("buffers of two ranks overlap only in the memory of one process") {
  const auto with_memory = [](std::uint64_t process, std::uint64_t begin) {
    Blueprint made = blueprint("Stage1", 5);
    made.memory[1] = {process, begin, begin + 100};
    return made;
  };
  CHECK_THROWS_WITH_AS(compare(core::List{with_memory(7, 1000), with_memory(7, 5000), with_memory(7, 1099)}),
                       doctest::Contains("ranks 0 and 2 were handed buffers that overlap"), BufferError);
  CHECK_NOTHROW(compare(core::List{with_memory(7, 1000), with_memory(7, 1100)}));
  CHECK_NOTHROW(compare(core::List{with_memory(7, 1000), with_memory(8, 1000)}));
  CHECK_NOTHROW(compare(core::List{blueprint("Stage1", 5), blueprint("Stage1", 5)}));  // no buffers
}

}  // namespace
}  // namespace tessera::engine
