#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "common/random.hpp"
#include "mlp/mnist.hpp"
#include "mlp/model.hpp"
#include "mlp/work.hpp"

namespace mlp {
namespace {

// Replaces Sharded for the model: whole buffers.
struct Tensors {
  std::map<int, std::vector<float>> values;
  std::span<const float> operator[](tessera::Tensor t) const { return values.at(t.index); }
};
struct Gradients {
  std::map<int, std::vector<float>>* values;
  std::span<float> operator[](tessera::Tensor t) const { return (*values)[t.index]; }
};

double loss_of(const Model& model, const Tensors& weights, const Digits& digits, std::span<const int> samples) {
  Work work(tessera::Host(), model, static_cast<int>(samples.size()));
  work.load(digits, samples);
  for (const tessera::Unit u : model.layout.forward()) work.forward(u, weights);
  return work.loss();
}

TEST_CASE("backward agrees with finite differences in every tensor") {
  const Model model;
  const Digits digits = load_digits(TESSERA_SOURCE_DIR "/examples/data", "t10k");
  std::vector<int> samples(16);
  std::iota(samples.begin(), samples.end(), 100);
  Tensors weights;
  std::map<int, std::vector<float>> gradients;
  for (const tessera::Tensor t : model.layout.tensors()) {
    for (std::int64_t i = 0; i < model.layout.elements(t); ++i)
      weights.values[t.index].push_back(model.initial(3, t, i));
    gradients[t.index].resize(model.layout.elements(t));
  }
  Work work(tessera::Host(), model, 16);
  work.load(digits, samples);
  for (const tessera::Unit u : model.layout.forward()) work.forward(u, weights);
  work.loss();
  for (const tessera::Unit u : model.layout.backward()) work.backward(u, weights, Gradients{&gradients});
  for (const tessera::Tensor t : model.layout.tensors()) {
    // The derivative along the gradient is the gradient's squared length: one well-conditioned number per tensor.
    double length = 0;
    for (const float g : gradients[t.index]) length += double(g) * g;
    REQUIRE(length > 0);
    const float step = static_cast<float>(1e-2 / std::sqrt(length));
    Tensors up = weights, down = weights;
    for (std::size_t i = 0; i < gradients[t.index].size(); ++i) {
      up.values[t.index][i] += step * gradients[t.index][i];
      down.values[t.index][i] -= step * gradients[t.index][i];
    }
    const double slope =
        (loss_of(model, up, digits, samples) - loss_of(model, down, digits, samples)) / (2 * double(step));
    CHECK(slope == doctest::Approx(length).epsilon(5e-3));
  }
}

TEST_CASE("the included data has ten thousand images of ten digits") {
  const Digits digits = load_digits(TESSERA_SOURCE_DIR "/examples/data", "t10k");
  CHECK(digits.size() == 10000);
  CHECK(digits.images.size() == 10000u * pixels);
  CHECK(digits.labels[0] == 7);  // the first image of the test set
}

TEST_CASE("a file that is missing, cut short or another one is named") {
  const std::string folder = std::filesystem::temp_directory_path() / "tessera_mnist_test";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  CHECK_THROWS_WITH_AS(load_digits(folder, "t10k"), doctest::Contains("cannot open"), std::runtime_error);
  const std::string images = "/t10k-images-idx3-ubyte.gz", labels = "/t10k-labels-idx1-ubyte.gz";
  const std::string shipped = TESSERA_SOURCE_DIR "/examples/data";
  std::filesystem::copy_file(shipped + labels, folder + images);
  CHECK_THROWS_WITH_AS(load_digits(folder, "t10k"), doctest::Contains("is not the IDX file"), std::runtime_error);
  std::filesystem::remove(folder + images);
  std::filesystem::copy_file(shipped + images, folder + images);
  std::filesystem::resize_file(folder + images, 100000);
  CHECK_THROWS_WITH_AS(load_digits(folder, "t10k"), doctest::Contains("cut short"), std::runtime_error);
  std::filesystem::remove_all(folder);
}

TEST_CASE("a shuffle is a permutation that depends on seed and epoch") {
  auto a = example::shuffled(1000, 1, 1);
  CHECK(a == example::shuffled(1000, 1, 1));
  CHECK(a != example::shuffled(1000, 1, 2));
  CHECK(a != example::shuffled(1000, 2, 1));
  std::sort(a.begin(), a.end());
  for (int i = 0; i < 1000; ++i) CHECK(a[i] == i);
}

}  // namespace
}  // namespace mlp
