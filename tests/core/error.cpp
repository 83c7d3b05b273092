#include <doctest/doctest.h>

#include <string>
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

TEST_CASE("an exception of any kind can be caught as Error and keeps its message") {
  try {
    throw CommError("rank 1 is missing");
  } catch (const Error& error) {
    CHECK(std::string(error.what()) == "rank 1 is missing");
  }
}

// Which handler catches an Error: the first that matches.
template <class Thrown>
std::string caught_as() {
  try {
    throw Thrown("why");
  } catch (const LayoutError&) {
    return "LayoutError";
  } catch (const BufferError&) {
    return "BufferError";
  } catch (const OptionError&) {
    return "OptionError";
  } catch (const UsageError&) {
    return "UsageError";
  } catch (const AgreementError&) {
    return "AgreementError";
  } catch (const CommError&) {
    return "CommError";
  } catch (const RankError&) {
    return "RankError";
  } catch (const Error&) {
    return "Error";
  }
}

TEST_CASE("no exception is caught by the handler of another kind") {
  CHECK(caught_as<LayoutError>() == "LayoutError");
  CHECK(caught_as<BufferError>() == "BufferError");
  CHECK(caught_as<OptionError>() == "OptionError");
  CHECK(caught_as<UsageError>() == "UsageError");
  CHECK(caught_as<AgreementError>() == "AgreementError");
  CHECK(caught_as<CommError>() == "CommError");
  CHECK(caught_as<RankError>() == "RankError");
  CHECK(caught_as<Error>() == "Error");
}

TEST_CASE("errors between ranks can be caught as RankError, and all errors as std::runtime_error") {
  CHECK_THROWS_WITH_AS(throw AgreementError("ranks differ"), "ranks differ", RankError);
  CHECK_THROWS_WITH_AS(throw CommError("rank 1 left"), "rank 1 left", RankError);
  CHECK_THROWS_WITH_AS(throw LayoutError("no unit"), "no unit", std::runtime_error);
}

}  // namespace
}  // namespace tessera
