#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "common/random.hpp"
#include "transformer/layers.hpp"
#include "transformer/model.hpp"
#include "transformer/text.hpp"
#include "transformer/work.hpp"

namespace transformer {
namespace {

using Values = std::vector<double>;

Values random(int n, std::uint64_t seed) {
  Values values(n);
  for (int i = 0; i < n; ++i) values[i] = example::uniform(seed, 7, static_cast<std::uint64_t>(i));
  return values;
}

double dot(const Values& a, const Values& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// Compares each element of `gradient` with central differences of f, which reads `x`. In float64, with steps of 1e-5,
/// they agree to about 1e-10.
void check_gradient(Values& x, const Values& gradient, const std::function<double()>& f) {
  REQUIRE(x.size() == gradient.size());
  double largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double kept = x[i], step = 1e-5;
    x[i] = kept + step;
    const double up = f();
    x[i] = kept - step;
    const double down = f();
    x[i] = kept;
    INFO("element ", i);
    CHECK(std::abs((up - down) / (2 * step) - gradient[i]) < 1e-7);
    largest = std::max(largest, std::abs(gradient[i]));
  }
  CHECK(largest > 1e-3);  // not everything is zero
}

constexpr int length = 5, heads = 2, width = 6, rows = 2 * length;

Matrix<double> matrix(Values& values, int rows, int columns) { return {values.data(), rows, columns}; }

TEST_CASE("linear: backward agrees with finite differences") {
  constexpr int outputs = 4;
  Values x = random(rows * width, 1), w = random(outputs * width, 2), b = random(outputs, 3), y(rows * outputs);
  Values dy = random(rows * outputs, 4), dx(x.size()), dw(w.size()), db(b.size());
  const auto f = [&] {
    linear(matrix(x, rows, width), matrix(w, outputs, width), b.data(), matrix(y, rows, outputs));
    return dot(y, dy);
  };
  linear_backward(matrix(x, rows, width), matrix(w, outputs, width), matrix(dy, rows, outputs), matrix(dx, rows, width),
                  matrix(dw, outputs, width), db.data());
  check_gradient(x, dx, f);
  check_gradient(w, dw, f);
  check_gradient(b, db, f);
}

TEST_CASE("layer norm: backward agrees with finite differences") {
  Values x = random(rows * width, 1), scale = random(width, 2), shift = random(width, 3), y(x.size());
  Values dy = random(rows * width, 4), dx(x.size()), dscale(width), dshift(width);
  const auto f = [&] {
    layer_norm(matrix(x, rows, width), scale.data(), shift.data(), matrix(y, rows, width));
    return dot(y, dy);
  };
  layer_norm_backward(matrix(x, rows, width), scale.data(), matrix(dy, rows, width), matrix(dx, rows, width),
                      dscale.data(), dshift.data());
  check_gradient(x, dx, f);
  check_gradient(scale, dscale, f);
  check_gradient(shift, dshift, f);
}

TEST_CASE("GELU: backward agrees with finite differences, and the value with the formula") {
  Values x = random(40, 1), y(x.size()), dx = random(40, 2);
  for (double& v : x) v *= 5;
  const Values dy = dx;
  const auto f = [&] {
    Values derivative = x;
    gelu(matrix(derivative, 1, 40), matrix(y, 1, 40));
    return dot(y, dy);
  };
  f();
  for (int i = 0; i < 40; ++i)
    CHECK(y[i] ==
          doctest::Approx(x[i] / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x[i] + 0.044715 * std::pow(x[i], 3))))));
  Values derivative = x;
  gelu(matrix(derivative, 1, 40), matrix(y, 1, 40));
  gelu_backward(matrix(derivative, 1, 40), matrix(dx, 1, 40));
  check_gradient(x, dx, f);
}

TEST_CASE("GELU is finite where its exponential overflows") {
  std::vector<float> x{-1000, 1000}, y(2);
  gelu(Matrix<float>(x.data(), 1, 2), Matrix<float>(y.data(), 1, 2));
  CHECK(y == std::vector<float>{0, 1000});
  CHECK(x == std::vector<float>{0, 1});
}

TEST_CASE("attention: backward agrees with finite differences") {
  Values qkv = random(rows * 3 * width, 1), p(rows * heads * length), y(rows * width);
  Values dy = random(rows * width, 2), dqkv(qkv.size()), square(length * length);
  const auto f = [&] {
    attention(matrix(qkv, rows, 3 * width), length, heads, matrix(p, rows * heads, length), matrix(y, rows, width));
    return dot(y, dy);
  };
  f();
  attention_backward(matrix(qkv, rows, 3 * width), length, heads, matrix(p, rows * heads, length),
                     matrix(dy, rows, width), matrix(dqkv, rows, 3 * width), matrix(square, length, length));
  check_gradient(qkv, dqkv, f);
}

TEST_CASE("attention reads earlier positions only: later positions and other sequences change nothing") {
  Values qkv = random(rows * 3 * width, 1), p(rows * heads * length), y(rows * width);
  const auto attend = [&] {
    attention(matrix(qkv, rows, 3 * width), length, heads, matrix(p, rows * heads, length), matrix(y, rows, width));
    return y;
  };
  const Values first = attend();
  for (int row = 0; row < rows; ++row) {
    const Values kept = qkv;
    for (int c = 0; c < 3 * width; ++c) qkv[row * 3 * width + c] += 1;
    const Values moved = attend();
    qkv = kept;
    for (int r = 0; r < rows; ++r) {
      const bool same = std::equal(&first[r * width], &first[r * width] + width, &moved[r * width]);
      CHECK(same == !(r >= row && r / length == row / length));
    }
  }
}

TEST_CASE("embedding: backward agrees with finite differences") {
  const std::vector<std::uint8_t> tokens{1, 0, 2, 2, 1, 0, 0, 2, 1, 1};
  Values bytes = random(3 * width, 1), positions = random(length * width, 2), y(rows * width);
  Values dy = random(rows * width, 3), dbytes(bytes.size()), dpositions(positions.size());
  const auto f = [&] {
    embed(tokens.data(), length, matrix(bytes, 3, width), matrix(positions, length, width), matrix(y, rows, width));
    return dot(y, dy);
  };
  embed_backward(tokens.data(), length, matrix(dy, rows, width), matrix(dbytes, 3, width),
                 matrix(dpositions, length, width));
  check_gradient(bytes, dbytes, f);
  check_gradient(positions, dpositions, f);
}

TEST_CASE("cross-entropy: backward agrees with finite differences, and the loss with its formula") {
  Values logits = random(9, 1);
  for (double& v : logits) v *= 3;
  Values gradient = logits;
  CHECK(cross_entropy_backward(gradient.data(), 9, 4, 2.0) == doctest::Approx(cross_entropy(logits.data(), 9, 4)));
  check_gradient(logits, gradient, [&] { return 2 * cross_entropy(logits.data(), 9, 4); });
  const Values even(9, 1.5);
  CHECK(cross_entropy(even.data(), 9, 0) == doctest::Approx(std::log(9)));
}

// Replaces Sharded for the model: whole buffers, in the layout's order.
template <class Stored>
struct Whole {
  const Model& model;
  std::vector<Stored> weights = std::vector<Stored>(model.layout.parameter_elements());
  std::vector<Stored> sums = std::vector<Stored>(model.layout.parameter_elements());

  explicit Whole(const Model& model) : model(model) {
    for (const tessera::Tensor t : model.layout.tensors())
      for (std::int64_t i = 0; i < model.layout.elements(t); ++i)
        weights[model.layout.offset(t) + i] = Stored(model.initial(3, t, i));
  }
  tessera::UnitView<const Stored> gather(tessera::Unit u) const {
    return {model.layout, u, weights.data() + model.layout.trainable(u).begin, nullptr};
  }
  tessera::UnitView<Stored> gradients(tessera::Unit u) {
    return {model.layout, u, sums.data() + model.layout.trainable(u).begin, nullptr};
  }
  void ready(tessera::Unit) {}
};

const std::string some_text = "In the beginning was the Word, and the Word was with God";

template <class T, class Stored>
void load_and_run_forward(Work<T>& work, const Whole<Stored>& whole) {
  const std::vector<std::uint8_t> text(some_text.begin(), some_text.end());
  const std::vector<std::int64_t> starts{0, 11};
  work.load(text, starts);
  forward(work, whole);
}

TEST_CASE("the model: backward agrees with finite differences in every tensor, also the tied one") {
  const Model model({.layers = 2, .width = 6, .heads = 2, .context = 8});
  Whole<double> whole(model);
  for (double& w : whole.weights) w += 0.1 * example::uniform(5, 5, static_cast<std::uint64_t>(&w - &whole.weights[0]));
  Work<double> work(tessera::Host(), model, 2);
  const auto loss = [&] {
    load_and_run_forward(work, whole);
    return work.loss();
  };
  loss();
  backward(work, whole, whole);
  for (const tessera::Tensor t : model.layout.tensors()) {
    INFO(model.layout.name(t));
    double largest = 0;
    const std::int64_t n = model.layout.elements(t);
    for (std::int64_t i = 0; i < n; i += 1 + n / 37) {
      double& weight = whole.weights[model.layout.offset(t) + i];
      const double gradient = whole.sums[model.layout.offset(t) + i], kept = weight;
      weight = kept + 1e-5;
      const double up = loss();
      weight = kept - 1e-5;
      const double down = loss();
      weight = kept;
      CHECK(std::abs((up - down) / 2e-5 - gradient) < 1e-8);
      largest = std::max(largest, std::abs(gradient));
    }
    CHECK(largest > 1e-5);
  }
}

TEST_CASE("weights and gradients of another type are converted, and sums are rounded once per unit") {
  const Model model({.layers = 1, .width = 6, .heads = 1, .context = 8});
  Whole<double> exact(model);
  Whole<float> stored(model);
  for (std::size_t i = 0; i < exact.weights.size(); ++i) exact.weights[i] = stored.weights[i];
  Work<double> work(tessera::Host(), model, 2);
  load_and_run_forward(work, exact);
  const double loss = work.loss(8);
  backward(work, exact, exact);
  load_and_run_forward(work, stored);
  CHECK(work.loss(8) == loss);
  backward(work, stored, stored);
  for (std::size_t i = 0; i < exact.sums.size(); ++i)
    CHECK(stored.sums[i] == doctest::Approx(exact.sums[i]).epsilon(1e-6));
}

TEST_CASE("an untrained model has a loss of about log 256 nats per byte") {
  const Model model({.layers = 2, .width = 16, .heads = 2, .context = 16});
  Whole<double> whole(model);
  Work<double> work(tessera::Host(), model, 2);
  load_and_run_forward(work, whole);
  CHECK(work.loss() == doctest::Approx(std::log(256)).epsilon(0.1));
}

TEST_CASE("units are the embedding, the blocks and the head, which is tied to the embedding") {
  const Model model({.layers = 3, .width = 8, .heads = 1, .context = 4});
  CHECK(model.layout.units() == 5);
  CHECK(model.layout.tied(model.head, model.embedding));
  CHECK(model.layout.parameters() == 256 * 8 + 4 * 8 + 3 * (12 * 8 * 8 + 13 * 8) + 2 * 8);
}

TEST_CASE("the included text is split by position: its last 5% are held out") {
  const Text text = read_text(TESSERA_SOURCE_DIR "/examples/data/new-testament.txt");
  CHECK(text.bytes.size() == 949481);
  CHECK(text.held_out().size() == 47474);
  CHECK(text.training().size() == 902007);
  CHECK(text.training().data() + text.training().size() == text.held_out().data());
  const std::string end(text.held_out().end() - 6, text.held_out().end());
  CHECK(end == "Amen.\n");
}

TEST_CASE("an epoch's windows do not overlap, are inside the training text, and have a random order") {
  const Text text{std::vector<std::uint8_t>(1000)};
  std::set<std::int64_t> firsts;
  for (std::uint64_t epoch = 1; epoch < 9; ++epoch) {
    std::vector<std::int64_t> starts = windows_of_epoch(text, 16, 1, epoch);
    CHECK(starts == windows_of_epoch(text, 16, 1, epoch));
    CHECK(starts.size() == (950 - 16) / 16);
    CHECK_FALSE(std::is_sorted(starts.begin(), starts.end()));
    std::sort(starts.begin(), starts.end());
    for (std::size_t i = 1; i < starts.size(); ++i) CHECK(starts[i] == starts[i - 1] + 16);
    CHECK(starts.front() >= 0);
    CHECK(starts.back() + 16 < 950);  // the byte after it is the last target
    firsts.insert(starts.front());
  }
  CHECK(firsts.size() > 1);
}

TEST_CASE("a text that cannot be read is named") {
  CHECK_THROWS_WITH_AS(read_text("/no/such/file"), doctest::Contains("/no/such/file"), example::WrongOption);
  CHECK_THROWS_WITH_AS(read_text("/dev/null"), doctest::Contains("empty"), example::WrongOption);
}

}  // namespace
}  // namespace transformer
