#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <tessera/comm/local.hpp>
#include <tessera/engine/agreement.hpp>

namespace tessera {
namespace {

Blueprint blueprint(std::string_view stage, std::uint64_t layout) {
  Blueprint made;
  made.set(0, "stage", stage, 0);
  made.set(1, "layout", "some units", layout);
  return made;
}

TEST_CASE("blueprints that are alike agree, and the first that differs is named with both values") {
  CHECK_NOTHROW(compare(List{blueprint("Stage1", 5), blueprint("Stage1", 5)}));
  CHECK_THROWS_WITH_AS(compare(List{blueprint("Stage1", 5), blueprint("Stage1", 5), blueprint("Stage2", 5)}),
                       doctest::Contains("ranks differ in stage: rank 0 has Stage1, rank 2 has Stage2"),
                       AgreementError);
  CHECK_THROWS_WITH_AS(compare(List{blueprint("Stage1", 5), blueprint("Stage1", 6)}),
                       doctest::Contains("ranks differ in layout"), AgreementError);
}

TEST_CASE("a text longer than its room is cut, not written beyond it") {
  Blueprint long_text = blueprint(std::string(1000, 'x'), 5);
  long_text.refuse(std::string(5000, 'y'));
  CHECK(std::string(long_text.parts[0].text.data()).size() == long_text.parts[0].text.size() - 1);
  CHECK(std::string(long_text.problem.data()).size() == long_text.problem.size() - 1);
}

Plan plan_for(int world) {
  Plan plan;
  plan.agreement = {"agreement", 1, StepAgreement<Host>::words(world), 8};
  return plan;
}

TEST_CASE("squares are summed exactly over ranks, and the first non-finite place is the smallest of any") {
  for (int world = 1; world <= 5; ++world)
    run_ranks(world, [&](Local& comm) {
      Host host;
      auto queue = comm.queue(Duration::seconds(10));
      StepAgreement<Host> agreement(host, plan_for(world), comm.rank(), world);
      for (index_t step = 0; step < 3; ++step) {
        SquareSum mine;
        mine.squares.add(0x1p60);
        mine.squares.add(0x1p-60);  // lost if the sum were a double
        if (comm.rank() == 0) mine.squares.add(0x1p7);
        mine.first_non_finite = step == 0 ? -1 : 100 - comm.rank();
        agreement.exchange(queue, mine, 42, step);
        ExactSum expected;
        for (int r = 0; r < world; ++r) expected.add(0x1p60), expected.add(0x1p-60);
        expected.add(0x1p7);
        CHECK(agreement.square_sum() == expected.value());
        CHECK(agreement.first_non_finite() == (step == 0 ? -1 : 100 - (world - 1)));
      }
    });
}

TEST_CASE("one rank that did something else makes all throw the same") {
  std::vector<std::string> errors(3);
  run_ranks(3, [&](Local& comm) {
    Host host;
    auto queue = comm.queue(Duration::seconds(10));
    StepAgreement<Host> agreement(host, plan_for(3), comm.rank(), 3);
    SquareSum mine;
    try {
      agreement.exchange(queue, mine, comm.rank() == 2 ? 7 : 8, 4);
    } catch (const AgreementError& error) {
      errors[comm.rank()] = error.what();
    }
  });
  CHECK(errors[0].find("step 4: rank 2 did not do what rank 0 did") == 0);
  CHECK(errors[1] == errors[0]);
  CHECK(errors[2] == errors[0]);
}

}  // namespace
}  // namespace tessera
