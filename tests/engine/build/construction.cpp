#include <doctest/doctest.h>

#include <chrono>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include <tessera/comm/local/local.hpp>
#include <tessera/engine/build/construction.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/adam.hpp>
#include <tessera/rule/lamb.hpp>
#include <tessera/stage/stage.hpp>

namespace tessera::engine {
namespace {

TEST_CASE("a model that is not valid is refused by name") {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {4}, {.group = 1});
  CHECK_THROWS_WITH_AS((check_model<Adam, Stage1>(layout, {Adam{}}, {})), doctest::Contains("'a.w'"), OptionError);
  CHECK_THROWS_WITH_AS((check_model<Adam, Stage1>(layout, {Adam{}, Adam{.lr = -1}}, {})), doctest::Contains("lr"),
                       OptionError);
  CHECK_THROWS_WITH_AS((check_model<Adam, Stage3>(Layout::flat(4), {Adam{}}, {})), doctest::Contains("Stage3"),
                       LayoutError);
  CHECK_THROWS_WITH_AS((check_model<Lamb, Stage1>(Layout::flat(4), {Lamb{}}, {})),
                       doctest::Contains("Lamb takes norms"), LayoutError);
  CHECK_NOTHROW((check_model<Adam, Stage1>(layout, {Adam{}, Adam{}}, {})));
}

TEST_CASE("the number of rules must equal the number of hyperparameter groups") {
  const auto check = [](const Layout& layout, std::size_t rules) {
    check_model<Adam, Stage1>(layout, std::vector<Adam>(rules), {});
  };
  Layout none;
  none.add_unit("a");
  Layout two = none;
  two.add_tensor("v", {4});
  two.add_tensor("w", {4}, {.group = 1});
  for (const Layout* layout : {&none, &two})
    CHECK_THROWS_WITH_AS(check(*layout, 0), "no rules were given: an optimizer needs one per hyperparameter group",
                         OptionError);
  CHECK_NOTHROW(check(none, 1));
  CHECK_THROWS_WITH_AS(check(none, 2), doctest::Contains("2 rules were given, but no tensor is of hyperparameter group 1"),
                       OptionError);
  CHECK_THROWS_WITH_AS(check(two, 1), doctest::Contains("tensor 'a.w' is of hyperparameter group 1, but 1 rules"),
                       OptionError);
  CHECK_NOTHROW(check(two, 2));
  CHECK_THROWS_WITH_AS(check(two, 3), doctest::Contains("the layout has 2"), OptionError);
}

// The error of each rank's `build(construction, rank)`.
template <class Build>
std::vector<std::string> errors_of(int world, Build build) {
  std::vector<std::string> errors(world);
  run_ranks(world, [&](Local& comm) {
    auto queue = comm.queue(std::chrono::seconds(10));
    Host host;
    Construction construction(host, queue, comm.rank(), world);
    try {
      build(construction, comm.rank());
    } catch (const AgreementError& error) {
      errors[comm.rank()] = error.what();
    } catch (const std::exception& error) {
      errors[comm.rank()] = std::string("its own: ") + error.what();
    }
  });
  return errors;
}

TEST_CASE("an error of construction on one rank is rethrown there, and named with that rank on all others") {
  const Blueprint blueprint = describe<Adam, Stage1, Fp32>(Layout{}, {Adam{}}, {});
  const auto errors = errors_of(3, [&](auto& construction, int rank) {
    construction.begin(blueprint, {}, std::vector<Adam>{{}}, [&](Blueprint&) {
      if (rank == 1) throw BufferError("too small");
    });
  });
  CHECK(errors[1] == "its own: too small");
  CHECK(errors[0] == "rank 1 could not be built: too small");
  CHECK(errors[2] == errors[0]);
}

struct Part {
  Part(int rank, int failing) {
    if (rank == failing) throw std::bad_alloc();
  }
  Part(const Part&) = delete;
};

TEST_CASE("if a component cannot be built on one rank, no other rank waits for it") {
  const auto errors = errors_of(3, [&](auto& construction, int rank) {
    construction.begin(Blueprint{}, {}, std::vector<Adam>{}, [](Blueprint&) {});
    [[maybe_unused]] const Part first = construction.template make<Part>(rank, -1);
    [[maybe_unused]] const Part second = construction.template make<Part>(rank, 2);
    construction.end();
  });
  CHECK(errors[2] == "its own: std::bad_alloc");
  CHECK(errors[0] == "rank 2 could not be built: std::bad_alloc");
  CHECK(errors[1] == errors[0]);
}

TEST_CASE("if all ranks build their components, none throws") {
  const auto errors = errors_of(3, [&](auto& construction, int rank) {
    construction.begin(Blueprint{}, {}, std::vector<Adam>{}, [](Blueprint&) {});
    [[maybe_unused]] const Part part = construction.template make<Part>(rank, -1);
    construction.end();
  });
  CHECK(errors == std::vector<std::string>(3));
}

}  // namespace
}  // namespace tessera::engine
