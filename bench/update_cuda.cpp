// Compares the fused AdamW update on a device with the memory bandwidth: with a copy of device memory, a simple kernel
// of the same rule, and PyTorch's fused AdamW, all in the same run.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "samples.hpp"
#include "update_cuda.hpp"

namespace {

// The bandwidth of PyTorch's fused AdamW in fp32, in bytes per second; all three rows have the same bytes per element.
// If empty, the reason is printed on standard error.
std::vector<double> measure_torch(const std::string& python, std::int64_t elements, int repeats) {
  const std::string command = python + " '" + TESSERA_SOURCE_DIR "/bench/update_cuda_torch.py' --elements " +
                              std::to_string(elements) + " --repeats " + std::to_string(2 * repeats);
  std::vector<double> rates;
  FILE* const pipe = popen(command.c_str(), "r");
  if (!pipe) return rates;
  for (double rate; std::fscanf(pipe, "%lf", &rate) == 1;) rates.push_back(rate);
  pclose(pipe);
  return rates;
}

std::string row(const UpdateRates& rates, const std::vector<double>& torch, std::int64_t elements) {
  const auto against = [&](const std::vector<double>& other) {
    if (other.empty()) return std::string("-");
    char text[40];
    std::snprintf(text, sizeof text, "%.3f", median(rates.update) / median(other));
    return std::string(text);
  };
  const auto gigabytes = [](const std::vector<double>& of) {
    return of.empty() ? std::string("-") : with_spread(of, 1e-9, 0);
  };
  return "| " + rates.precision + " | " + std::to_string(elements) + " | " + gigabytes(rates.update) + " | " +
         gigabytes(rates.copy) + " | " + against(rates.copy) + " | " + gigabytes(rates.bare) + " | " +
         against(rates.bare) + " | " + gigabytes(torch) + " | " + against(torch) + " |";
}

}  // namespace

int main(int argc, char** argv) {
  std::int64_t elements = std::int64_t{1} << 30;
  int repeats = 10;
  std::string markdown, python = "python3";
  CLI::App app{"The fused AdamW update on a CUDA device against a copy, a bare kernel and PyTorch: GB/s, medians"};
  app.add_option("--elements", elements, "of each array, rounded up to a multiple of 4")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
      ->capture_default_str();
  app.add_option("--repeats", repeats, "samples, each A B C C B A")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--python", python, "that has PyTorch; empty: none is asked")->capture_default_str();
  app.add_option("--markdown", markdown, "also append the table to this file");
  CLI11_PARSE(app, argc, argv);

  std::ostringstream table;
  const auto say = [&](const std::string& line) {
    std::puts(line.c_str());
    std::fflush(stdout);
    table << line << '\n';
  };
  try {
    std::vector<UpdateRates> all;
    for (const auto measure : {measure_fp32, measure_bf16, measure_fp16}) all.push_back(measure(elements, repeats));
    const std::vector<double> torch = python.empty() ? std::vector<double>() : measure_torch(python, elements, repeats);
    say("| precision | elements | update GB/s | copy GB/s | ratio | bare kernel GB/s | ratio | PyTorch GB/s | ratio |");
    say("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (const UpdateRates& rates : all) say(row(rates, torch, elements));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "update_cuda: %s\n", error.what());
    return 2;
  }
  if (!markdown.empty()) std::ofstream(markdown, std::ios::app) << table.str();
}
