#include <doctest/doctest.h>

#include <type_traits>

#include <tessera/core/error.hpp>

namespace tessera {
namespace {

template <class... Errors>
constexpr bool all_are_errors = (std::is_base_of_v<Error, Errors> && ...);

static_assert(all_are_errors<LayoutError, BufferError, OptionError, UsageError, RankError, AgreementError, CommError>);
static_assert(std::is_base_of_v<RankError, AgreementError> && std::is_base_of_v<RankError, CommError>);
static_assert(!std::is_base_of_v<RankError, UsageError>, "a wrong call ends no step");
static_assert(std::is_base_of_v<std::runtime_error, Error>);

TEST_CASE("an error of any kind is caught as one and keeps its message") {
  try {
    throw CommError("rank 1 is missing");
  } catch (const Error& error) {
    CHECK(std::string(error.what()) == "rank 1 is missing");
  }
}

}  // namespace
}  // namespace tessera
