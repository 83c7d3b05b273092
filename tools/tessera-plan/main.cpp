// Which stage to train with: for a model, a number of ranks and a network, what each stage holds on a rank, sends, and
// takes for a step, and which one to use.
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "answer.hpp"
#include "picture.hpp"
#include "policies.hpp"

namespace {

using namespace plan;

constexpr const char* program = "tessera-plan";

int say(const std::string& why, int status) {
  std::fprintf(stderr, "%s: %s\n", program, why.substr(0, why.find('\n')).c_str());
  return status;
}

int wrong(const std::string& why) { return say(why, 2); }   // what was asked
int failed(const std::string& why) { return say(why, 1); }  // what was to be written

// What a number counts: how it is written, and the range in which all that is computed from it is finite.
struct Kind {
  const char* unit;
  double least, most;
  bool seconds = false;
};

/// What a suffix multiplies by. Seconds: "s", "ms", "us", "ns"; else "G", "GB", "Gi", "GiB". 0: there is no such.
double factor(std::string suffix, bool seconds) {
  if (suffix.empty()) return 1;
  if (seconds) {
    for (const auto& [name, each] : {std::pair("s", 1.0), {"ms", 1e-3}, {"us", 1e-6}, {"ns", 1e-9}})
      if (suffix == name) return each;
    return 0;
  }
  if (suffix.size() > 1 && suffix.back() == 'B') suffix.pop_back();
  const bool binary = suffix.size() == 2 && suffix.back() == 'i';
  if (binary) suffix.pop_back();
  const char prefix = static_cast<char>(std::toupper(static_cast<unsigned char>(suffix[0])));
  const std::size_t power = std::string_view("KMGTP").find(prefix);
  if (suffix.size() != 1 || power == std::string_view::npos) return 0;
  return std::pow(binary ? 1024.0 : 1000.0, static_cast<double>(power + 1));
}

/// Throws CLI::ValidationError.
double number(const std::string& option, const std::string& text, const Kind& kind) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const double times = factor(std::string(end, text.data() + text.size()), kind.seconds);
  if (error != std::errc{} || times == 0)
    throw CLI::ValidationError(option, "'" + text + "' is no number, such as " +
                                           (kind.seconds ? "5e-6, 5us, 0.3ms or 2s" : "8e10, 80G or 80Gi"));
  value *= times;
  if (!(value >= kind.least && value <= kind.most)) {
    char range[96];
    std::snprintf(range, sizeof range, "' is not in [%g, %g] %s", kind.least, kind.most, kind.unit);
    throw CLI::ValidationError(option, "'" + text + range);
  }
  return value;
}

struct Arguments {
  Question question;
  bool json = false;
  std::string svg;
};

void declare(CLI::App& app, Arguments& arguments) {
  Question& q = arguments.question;
  constexpr Kind parameters{"parameters", 1, 1e16}, bytes{"bytes", 1, 1e30}, used_bytes{"bytes", 0, 1e30},
      bucket_bytes{"bytes", 1, 1e15}, bandwidth{"bytes a second", 1, 1e30}, tokens_each{"tokens", 1, 1e12},
      operations{"operations a second", 1, 1e30}, latency{"seconds", 0, 1e6, true}, time{"seconds", 1e-12, 1e9, true};
  const auto amount = [&](const std::string& name, auto& value, const Kind& kind, const std::string& about) {
    using Value = std::remove_reference_t<decltype(value)>;
    auto* const option = app.add_option_function<std::string>(
        name, [&value, name, kind](const std::string& text) { value = static_cast<Value>(number(name, text, kind)); },
        about);
    if (value > 0) {
      char text[32];
      std::snprintf(text, sizeof text, "%.8g", static_cast<double>(value));
      option->default_str(text);
    }
    return option->type_name(kind.seconds ? "TIME" : "NUMBER");
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
  amount("--parameters", q.parameters, parameters, "of the model, such as 7e9 or 7G")->required();
  whole("--layers", q.layers, 1, 1000, "of equal size, each a unit")->required();
  whole("--ranks", q.ranks, 1, most_ranks, "devices")->required();
  whole("--ranks-per-node", q.network.ranks_per_node, 1, most_ranks, "devices that share a node")->capture_default_str();
  whole("--group-size", q.options.group_size, 1, most_ranks,
        "ranks over which StageHybrid and StageHybridState shard parameters; default: those of a node");
  amount("--device-memory", q.device_memory, bytes, "bytes of a rank");
  amount("--activations", q.activations, used_bytes,
         "bytes of it that others use: activations, workspaces; default: 0");
  amount("--bandwidth-within", q.network.within.bandwidth, bandwidth, "bytes a second of a rank, within a node");
  amount("--bandwidth-between", q.network.between.bandwidth, bandwidth, "bytes a second of a rank, between nodes");
  amount("--latency-within", q.network.within.latency, latency, "of a message within a node: seconds, or 3us, 1ms");
  amount("--latency-between", q.network.between.latency, latency, "of a message between nodes: seconds, or 3us, 1ms");
  policy("--precision", q.precision, precisions());
  policy("--optimizer", q.rule, rules());
  auto* const tokens = amount("--tokens", q.tokens, tokens_each, "of one micro-batch of a rank");
  auto* const flops = amount("--flops", q.flops, operations, "that a rank sustains, a second");
  amount("--compute", q.compute, time, "seconds of one micro-batch's forward and backward, instead of these two")
      ->excludes(tokens)
      ->excludes(flops);
  amount("--memory-bandwidth", q.memory_bandwidth, bandwidth, "bytes a second of a rank's memory, for the update");
  whole("--micro-batches", q.options.micro_batches, 1, 1000, "passes of each rank a step")->capture_default_str();
  amount("--bucket-bytes", q.options.bucket_bytes, bucket_bytes,
         "units travel together up to so many bytes of gradients");
  whole("--prefetch", q.options.prefetch, 0, 10000, "buckets gathered ahead, where parameters are sharded")
      ->capture_default_str();
  app.add_flag("--json", arguments.json, "print JSON");
  app.add_option("--svg", arguments.svg, "file for a picture");
}

/// Prints `text` in lines of at most 80 columns, broken at spaces.
void print_wrapped(std::string text) {
  constexpr std::size_t columns = 80;
  while (text.size() > columns) {
    const std::size_t space = text.rfind(' ', columns);
    if (space == std::string::npos) break;
    std::printf("%s\n", text.substr(0, space).c_str());
    text.erase(0, space + 1);
  }
  std::printf("%s\n", text.c_str());
}

void print_text(const Question& q, const Answer& answer) {
  print_wrapped(count(static_cast<double>(q.parameters)) + " parameters in " + std::to_string(q.layers) + " layers, " +
                q.rule + " in " + q.precision + ", on " + ranks(q.ranks) + ", " +
                std::to_string(std::min(q.ranks, q.network.ranks_per_node)) + " a node" +
                (answer.has_groups() ? ", in groups of " + std::to_string(q.group_size(q.ranks)) : ""));
  std::printf("\nstage             bytes a rank  of %-7s  sent a step  time a step  exposed\n",
              bytes(q.room()).c_str());
  for (const StageAnswer& stage : answer.stages)
    std::printf("%-16s  %12s  %-10s  %11s  %11s  %6.1f%%\n", stage.stage.c_str(),
                bytes(static_cast<double>(stage.plan.bytes())).c_str(), stage.fits ? "fits" : "too much",
                bytes(stage.time.sent_bytes).c_str(), seconds(stage.time.seconds).c_str(), 100 * stage.exposed_share());
  std::printf("\n");
  if (answer.recommended) std::printf("recommended: %s\n", answer.recommended->c_str());
  print_wrapped(answer.reason);
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
              {"ranks_per_node", q.network.ranks_per_node},
              {"group_size", q.group_size(q.ranks)},
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
  const auto or_null = [](const auto& value) { return value ? Json(*value) : Json(nullptr); };
  json["recommendation"] = {{"stage", or_null(answer.recommended)},
                            {"ranks_that_fit", or_null(answer.ranks_that_fit)},
                            {"stage_that_fits", or_null(answer.stage_that_fits)},
                            {"reason", answer.reason}};
  std::printf("%s\n", json.dump(2).c_str());
}

/// Written beside the file and renamed, so that a picture is whole or not there; through a device or a pipe as it is.
int write_picture(const std::string& path, const std::string& picture) {
  namespace files = std::filesystem;
  std::error_code ignored;
  const bool plain = !files::exists(path, ignored) || files::is_regular_file(path, ignored);
  const std::string target = plain ? files::weakly_canonical(path, ignored).string() : path;  // what a link leads to
  const std::string written = plain ? target + "." + std::to_string(getpid()) : target;
  std::ofstream file(written);
  if (!file) return wrong("--svg: cannot write " + path);
  file << picture;
  file.close();
  std::error_code error;
  if (file && plain) files::rename(written, target, error);
  if (file && !error) return 0;
  if (plain) files::remove(written, ignored);
  return failed("--svg: cannot write all of the picture to " + path);
}

int run(const Arguments& arguments) {
  const Question& question = arguments.question;
  const Answer found = answer(question);
  if (!arguments.svg.empty())
    if (const int status = write_picture(arguments.svg, picture(question, found))) return status;
  arguments.json ? print_json(question, found) : print_text(question, found);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{"Which stage to train with: bytes, wire volume and seconds of each, before anything runs.",
               program};
  declare(app, arguments);
  int status = 0;
  try {
    app.parse(argc, argv);
    status = run(arguments);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
  } catch (const CLI::ParseError& error) {
    return wrong(error.what());
  } catch (const tessera::Error& error) {
    return wrong(error.what());
  }
  if (status == 0 && (std::fflush(stdout) != 0 || std::ferror(stdout)))
    return failed(std::string("cannot write to standard output: ") + std::strerror(errno));
  return status;
}
