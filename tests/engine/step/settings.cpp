#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <vector>

#include <tessera/comm/local/local.hpp>
#include <tessera/engine/step/settings.hpp>
#include <tessera/rule/adamw.hpp>
#include <tessera/rule/lars.hpp>

namespace tessera::engine {
namespace {

TEST_CASE("any option or hyperparameter that differs changes the digest") {
  const std::vector<Lars> rules(2);
  const auto plain = digest_of(Options{}, rules);
  CHECK(plain == digest_of(Options{}, rules));
  CHECK(plain != digest_of(Options{.seed = 1}, rules));
  CHECK(plain != digest_of(Options{}, std::vector<Lars>(3)));
  CHECK(plain != digest_of(Options{}, std::vector<Lars>{{}, {.trust_coefficient = 0.5}}));
  CHECK(plain != digest_of(Options{}, std::vector<Lars>{{.lr = 0.1f}, {}}));
  CHECK(digest_of(StepSettings{.micro_batches = 1}, rules) != digest_of(StepSettings{.micro_batches = 2}, rules));
  CHECK(digest_of(StepSettings{.evaluations = 1}, rules) != digest_of(StepSettings{.evaluations = 2}, rules));
}

TEST_CASE("a number is written with enough digits to distinguish it from adjacent values") {
  const auto text = [](auto number) {
    const Setting setting = Setting::of("x", number);
    return text_of(setting, setting.word);
  };
  CHECK(text(1e-3) == "0.001");
  CHECK(text(1e-3f) == "0.0010000000474974513");
  CHECK(text(0.1 + 0.2) == "0.30000000000000004");
  CHECK(text(-7) == "-7");
  CHECK(text(true) == "1");
}

TEST_CASE("every rank gets the first setting that differs and both values") {
  std::vector<std::string> found(3);
  run_ranks(3, [&](Local& comm) {
    Host host;
    auto queue = comm.queue(std::chrono::seconds(10));
    const std::vector<AdamW> rules{{}, {.beta2 = comm.rank() == 1 ? 0.95 : 0.999}};
    found[comm.rank()] = exchange_settings(Options{}, rules, host, queue, comm.rank(), 3);
    CHECK(host.peak_bytes() == 0);
  });
  for (const std::string& said : found) CHECK(said == "AdamW.beta2 of group 1: rank 0 has 0.999, rank 1 has 0.95");
}

TEST_CASE("if no setting differs, there is no message") {
  run_ranks(2, [&](Local& comm) {
    Host host;
    auto queue = comm.queue(std::chrono::seconds(10));
    CHECK(exchange_settings(Options{}, std::vector<AdamW>(1), host, queue, comm.rank(), 2).empty());
  });
}

}  // namespace
}  // namespace tessera::engine
