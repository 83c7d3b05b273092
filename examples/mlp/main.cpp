// Trains a small network on handwritten digits, sharded over ranks that are threads, at any ZeRO stage.
#include <cstdio>
#include <exception>

#include "mlp/train.hpp"

namespace {

constexpr const char* program = "mlp";

// The 10,000 shipped images: 9,000 to train on, 1,000 held out. A folder of the full set: its own two halves.
void load(const example::Options& options, mlp::Digits& training, mlp::Digits& held_out) {
  if (options.data.empty()) {
    const mlp::Digits all = mlp::load_digits(TESSERA_SOURCE_DIR "/examples/data", "t10k");
    training = all.part(0, all.size() - 1000);
    held_out = all.part(all.size() - 1000, all.size());
  } else {
    training = mlp::load_digits(options.data, "train");
    held_out = mlp::load_digits(options.data, "t10k");
  }
}

void print(const example::Result& result) {
  std::printf("loss %.4f, accuracy %.2f%% on images that it has not seen, %lld steps skipped\n", result.final_loss,
              100 * result.accuracy, static_cast<long long>(result.skipped_steps));
  std::printf("rank  bytes planned  bytes counted  elements sent a step\n");
  for (std::size_t r = 0; r < result.bytes_planned.size(); ++r)
    std::printf("%4zu  %13lld  %13lld  %20lld\n", r, static_cast<long long>(result.bytes_planned[r]),
                static_cast<long long>(result.bytes_counted[r]),
                static_cast<long long>(result.elements_sent_per_step[r]));
}

}  // namespace

int main(int argc, char** argv) {
  example::Options options;
  if (const auto status = example::parse(options, program, "Trains 784-128-10 on MNIST at any ZeRO stage.", argc, argv))
    return *status;
  openblas_set_num_threads(1);  // ranks are the threads
  try {
    mlp::Digits training, held_out;
    try {
      load(options, training, held_out);
    } catch (const std::runtime_error& error) {
      return example::wrong(program, error.what());
    }
    if (options.batch > training.size())
      return example::wrong(program, "--batch " + std::to_string(options.batch) + " is more than the " +
                                         std::to_string(training.size()) + " training images");
    const auto train = options.optimizer == "sgd"    ? mlp::train_sgd
                       : options.optimizer == "adam" ? mlp::train_adam
                                                     : mlp::train_adamw;
    const example::Result result = train(options, training, held_out);
    print(result);
    example::write_report(program, options, result);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", program, error.what());
    return 1;
  }
}
