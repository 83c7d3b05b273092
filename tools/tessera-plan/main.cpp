// Which stage to train with: for a model, a number of ranks and a network, what each stage holds on a rank, sends, and
// takes for a step, and which one to use.
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <limits>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "answer.hpp"
#include "picture.hpp"
#include "policies.hpp"

namespace {

using namespace plan;

constexpr const char* program = "tessera-plan";

int wrong(const std::string& why) {
  std::fprintf(stderr, "%s: %s\n", program, why.substr(0, why.find('\n')).c_str());
  return 2;
}

/// "80G", "80GB", "80GiB", "8e10". Throws CLI::ValidationError.
double number(const std::string& option, const std::string& text, double least, double most) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string suffix(end, text.data() + text.size());
  bool good = error == std::errc{};
  if (suffix.size() > 1 && suffix.back() == 'B') suffix.pop_back();
  const bool binary = suffix.size() == 2 && suffix.back() == 'i';
  if (binary) suffix.pop_back();
  constexpr std::string_view prefixes = "KMGTP";
  const char first = suffix.empty() ? '\0' : static_cast<char>(std::toupper(suffix[0]));
  if (suffix.size() == 1 && prefixes.find(first) != std::string_view::npos)
    value *= std::pow(binary ? 1024.0 : 1000.0, static_cast<double>(prefixes.find(first) + 1));
  else
    good = good && suffix.empty();
  if (!good) throw CLI::ValidationError(option, "'" + text + "' is no number, such as 8e10, 80G or 80Gi");
  if (!(value >= least && value <= most)) throw CLI::ValidationError(option, "'" + text + "' is out of range");
  return value;
}

struct Arguments {
  Question question;
  bool json = false;
  std::string svg;
};

void declare(CLI::App& app, Arguments& arguments) {
  Question& q = arguments.question;
  constexpr double tiny = std::numeric_limits<double>::min(), huge = 1e30;
  const auto amount = [&](const std::string& name, auto& value, double least, double most, const std::string& about) {
    using Value = std::remove_reference_t<decltype(value)>;
    auto* const option = app.add_option_function<std::string>(
        name,
        [&value, name, least, most](const std::string& text) {
          value = static_cast<Value>(number(name, text, least, most));
        },
        about);
    if (value > 0) {
      char text[32];
      std::snprintf(text, sizeof text, "%.8g", static_cast<double>(value));
      option->default_str(text);
    }
    return option->type_name("NUMBER");
  };
  const auto whole = [&](const std::string& name, int& value, int least, int most, const std::string& about) {
    return app.add_option(name, value, about)->check(CLI::Range(least, most));
  };
  const auto policy = [&](const std::string& name, std::string& value, const std::vector<std::string>& known) {
    app.add_option(name, value)
        ->transform(CLI::IsMember(known, CLI::ignore_case,
                                  [](std::string text) {
                                    text.erase(std::remove(text.begin(), text.end(), '-'),
                                               text.end());  // bf16-remainder
                                    return text;
                                  }))
        ->capture_default_str();
  };
  amount("--parameters", q.parameters, 1, 1e16, "of the model, such as 7e9 or 7G")->required();
  whole("--layers", q.layers, 1, 1000, "of equal size, each a unit")->required();
  whole("--ranks", q.ranks, 1, 1000000, "devices")->required();
  whole("--ranks-a-node", q.network.ranks_a_node, 1, 1000000, "devices that share a node")->capture_default_str();
  amount("--device-memory", q.device_memory, 1, huge, "bytes of a rank");
  amount("--activations", q.activations, 0, huge, "bytes of it that others use: activations, workspaces; default: 0");
  amount("--bandwidth-within", q.network.within.bandwidth, tiny, huge, "bytes a second of a rank, within a node");
  amount("--bandwidth-between", q.network.between.bandwidth, tiny, huge, "bytes a second of a rank, between nodes");
  amount("--latency-within", q.network.within.latency, 0, huge, "seconds a message, within a node");
  amount("--latency-between", q.network.between.latency, 0, huge, "seconds a message, between nodes");
  policy("--precision", q.precision, precisions());
  policy("--optimizer", q.rule, rules());
  auto* const tokens = amount("--tokens", q.tokens, tiny, huge, "of one micro-batch of a rank");
  auto* const flops = amount("--flops", q.flops, tiny, huge, "that a rank sustains, a second");
  amount("--compute", q.compute, tiny, huge, "seconds of one micro-batch's forward and backward, instead of these two")
      ->excludes(tokens)
      ->excludes(flops);
  amount("--memory-bandwidth", q.memory_bandwidth, tiny, huge, "bytes a second of a rank's memory, for the update");
  whole("--micro-batches", q.options.micro_batches, 1, 1000, "passes of each rank a step")->capture_default_str();
  amount("--bucket-bytes", q.options.bucket_bytes, 1, 1e15, "units travel together up to so many bytes of gradients");
  whole("--prefetch", q.options.prefetch, 0, 10000, "buckets gathered ahead, stage 3")->capture_default_str();
  app.add_flag("--json", arguments.json, "print JSON");
  app.add_option("--svg", arguments.svg, "file for a picture");
}

void print_text(const Question& q, const Answer& answer) {
  std::printf("%s parameters in %d layers, %s in %s, on %d ranks, %d a node\n\n",
              count(static_cast<double>(q.parameters)).c_str(), q.layers, q.rule.c_str(), q.precision.c_str(), q.ranks,
              std::min(q.ranks, q.network.ranks_a_node));
  std::printf("stage  bytes a rank  of %-8s  sent a step  time of a step  of that exposed\n",
              bytes(q.device_memory - q.activations).c_str());
  for (const StageAnswer& stage : answer.stages)
    std::printf("%5d  %12s  %-11s  %11s  %14s  %14.1f%%\n", stage.stage,
                bytes(static_cast<double>(stage.plan.bytes())).c_str(), stage.fits ? "fits" : "too much",
                bytes(stage.time.sent_bytes).c_str(), seconds(stage.time.seconds).c_str(), 100 * stage.exposed_share());
  if (answer.recommended) std::printf("\nrecommended: stage %d\n", *answer.recommended);
  std::printf("%s%s\n", answer.recommended ? "" : "\n", answer.reason.c_str());
}

void print_json(const Question& q, const Answer& answer) {
  using Json = nlohmann::ordered_json;
  const auto link = [](const tessera::Link& of) {
    return Json{{"latency_seconds", of.latency}, {"bandwidth", of.bandwidth}};
  };
  Json json{{"question",
             {{"parameters", q.parameters},
              {"layers", q.layers},
              {"ranks", q.ranks},
              {"ranks_a_node", q.network.ranks_a_node},
              {"device_memory_bytes", q.device_memory},
              {"activations_bytes", q.activations},
              {"within", link(q.network.within)},
              {"between", link(q.network.between)},
              {"precision", q.precision},
              {"optimizer", q.rule},
              {"pass_seconds", q.pass_seconds()},
              {"memory_bandwidth", q.memory_bandwidth},
              {"micro_batches", q.options.micro_batches},
              {"bucket_bytes", q.options.bucket_bytes},
              {"prefetch", q.options.prefetch}}}};
  for (const StageAnswer& stage : answer.stages) {
    Json allocations = Json::object();
    for (const tessera::Allocation& allocation : stage.plan.allocations())
      allocations[allocation.name] = allocation.bytes();
    json["stages"].push_back({{"stage", stage.stage},
                              {"bytes", stage.plan.bytes()},
                              {"allocations", allocations},
                              {"fits", stage.fits},
                              {"sent_bytes", stage.time.sent_bytes},
                              {"seconds", stage.time.seconds},
                              {"compute_seconds", stage.time.compute},
                              {"communication_seconds", stage.time.communication},
                              {"exposed_seconds", stage.time.exposed},
                              {"exposed_share", stage.exposed_share()}});
  }
  const auto or_null = [](std::optional<int> value) { return value ? Json(*value) : Json(nullptr); };
  json["recommendation"] = {{"stage", or_null(answer.recommended)},
                            {"ranks_that_fit", or_null(answer.ranks_that_fit)},
                            {"reason", answer.reason}};
  std::cout << json.dump(2) << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{"Which ZeRO stage to train with: bytes, wire volume and seconds of each, before anything runs.",
               program};
  declare(app, arguments);
  try {
    app.parse(argc, argv);
    const Question& question = arguments.question;
    const Answer found = answer(question);
    if (!arguments.svg.empty()) {
      std::ofstream file(arguments.svg);
      file << picture(question, found);
      file.close();
      if (!file) return wrong("--svg: cannot write " + arguments.svg);
    }
    arguments.json ? print_json(question, found) : print_text(question, found);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
  } catch (const CLI::ParseError& error) {
    return wrong(error.what());
  } catch (const tessera::Error& error) {
    return wrong(error.what());
  }
}
