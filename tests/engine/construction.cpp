#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <tessera/comm/local.hpp>
#include <tessera/engine/construction.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/adam.hpp>
#include <tessera/rule/lamb.hpp>
#include <tessera/stage/stage.hpp>

namespace tessera {
namespace {

TEST_CASE("a model that cannot be is refused by name") {
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

TEST_CASE("what one rank cannot build is thrown there as it is, and elsewhere with that rank's name") {
  std::vector<std::string> errors(3);
  run_ranks(3, [&](Local& comm) {
    auto queue = comm.queue(Duration::seconds(10));
    const Blueprint blueprint = describe<Adam, Stage1, Fp32>(Layout{}, {Adam{}}, {});
    try {
      agree_to_build(comm.executor(), queue, comm.rank(), 3, blueprint, [&](Blueprint&) {
        if (comm.rank() == 1) throw BufferError("too small");
      });
    } catch (const BufferError& error) {
      errors[comm.rank()] = std::string("BufferError ") + error.what();
    } catch (const AgreementError& error) {
      errors[comm.rank()] = error.what();
    }
  });
  CHECK(errors[1] == "BufferError too small");
  CHECK(errors[0] == "rank 1 could not be built: too small");
  CHECK(errors[2] == errors[0]);
}

}  // namespace
}  // namespace tessera
