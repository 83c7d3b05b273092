// The transformer on the host: one rank's activations, and the forward and backward of each unit. T is float, or double
// for checks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/engine/memory/views.hpp>
#include <tessera/exec/host.hpp>

#include "transformer/layers.hpp"
#include "transformer/model.hpp"

namespace transformer {

/// A unit's parameters as T: the parameters themselves if they have that type, else converted.
template <class T, class Stored>
class Parameters {
 public:
  explicit Parameters(const tessera::UnitView<const Stored>& unit) : unit_(unit) {
    if constexpr (!std::is_same_v<T, Stored>) converted_.assign(unit.trainable().begin(), unit.trainable().end());
  }
  const T* operator[](tessera::Tensor t) const {
    if constexpr (std::is_same_v<T, Stored>)
      return unit_[t].data();
    else
      return converted_.data() + (unit_[t].data() - unit_.trainable().data());
  }

 private:
  const tessera::UnitView<const Stored>& unit_;
  std::vector<T> converted_;
};

/// Where a unit's gradients are summed in T: the optimizer's memory if it has that type, else separate memory, which
/// the destructor adds to the optimizer's.
template <class T, class Stored>
class Sums {
 public:
  explicit Sums(const tessera::UnitView<Stored>& unit) : unit_(unit) {
    if constexpr (!std::is_same_v<T, Stored>) own_.resize(unit.trainable().size());
  }
  ~Sums() {
    for (std::size_t i = 0; i < own_.size(); ++i)
      unit_.trainable()[i] = Stored(static_cast<T>(unit_.trainable()[i]) + own_[i]);
  }
  Sums(const Sums&) = delete;
  T* operator[](tessera::Tensor t) {
    if constexpr (std::is_same_v<T, Stored>)
      return unit_[t].data();
    else
      return own_.data() + (unit_[t].data() - unit_.trainable().data());
  }

 private:
  const tessera::UnitView<Stored>& unit_;
  std::vector<T> own_;
};

/// A text, and the positions at which its windows begin.
class Windows {
 public:
  Windows(const tessera::Host&, std::span<const std::uint8_t> text) : text_(text) {}

  void put_in(std::vector<std::int64_t> starts) { starts_ = std::move(starts); }

  std::span<const std::uint8_t> text() const { return text_; }
  std::span<const std::int64_t> starts() const { return starts_; }

 private:
  std::span<const std::uint8_t> text_;
  std::vector<std::int64_t> starts_;
};

/// One rank's activations of one micro-batch: `sequences` windows of context bytes.
template <class T>
class Work {
 public:
  Work(const tessera::Host&, const Model& model, int sequences)
      : model_(model),
        rows_(sequences * model.shape.context),
        tokens_(rows_),
        targets_(rows_),
        activations_(model.shape.layers),
        stream_(model.shape.layers + 1, room(width())),
        normal_(room(width())),
        logits_(room(vocabulary)),
        dstream_(room(width())),
        dnormal_(room(width())),
        dqkv_(room(3 * width())),
        dup_(room(4 * width())),
        dsquare_(std::size_t(length()) * length()) {
    for (Activations& a : activations_)
      a = {room(width()), room(3 * width()), room(heads() * length()), room(width()),
           room(width()), room(width()),     room(4 * width()),        room(4 * width())};
  }

  /// Loads windows from index `first` on.
  void load(const Windows& windows, std::int64_t first) {
    load(windows.text(), windows.starts().subspan(first, rows_ / length()));
  }

  /// Sequence s is text[starts[s]], ...; each byte is used to predict the next one.
  void load(std::span<const std::uint8_t> text, std::span<const std::int64_t> starts) {
    for (std::size_t s = 0; s < starts.size(); ++s) {
      std::copy_n(text.begin() + starts[s], length(), tokens_.begin() + s * length());
      std::copy_n(text.begin() + starts[s] + 1, length(), targets_.begin() + s * length());
    }
  }

  // --- forward

  template <class Stored>
  void embed(const tessera::UnitView<const Stored>& unit) {
    const Parameters<T, Stored> w(unit);
    transformer::embed(tokens_.data(), length(), table(w[model_.bytes]), {w[model_.positions], length(), width()},
                       rows(stream_[0]));
  }

  template <class Stored>
  void block(int b, const tessera::UnitView<const Stored>& unit) {
    const Model::Block& of = model_.blocks[b];
    const Parameters<T, Stored> w(unit);
    Activations& a = activations_[b];
    layer_norm(rows(stream_[b]), w[of.norm.scale], w[of.norm.shift], rows(a.normal));
    linear(rows(a.normal), matrix(w[of.qkv.weight], 3, 1), w[of.qkv.bias], rows(a.qkv));
    attention(rows(a.qkv), length(), heads(), squares(a.attended), rows(a.mixed));
    linear(rows(a.mixed), matrix(w[of.projection.weight], 1, 1), w[of.projection.bias], rows(a.stream));
    add(stream_[b], a.stream);
    layer_norm(rows(a.stream), w[of.mlp_norm.scale], w[of.mlp_norm.shift], rows(a.mlp_normal));
    linear(rows(a.mlp_normal), matrix(w[of.up.weight], 4, 1), w[of.up.bias], rows(a.up));
    gelu(rows(a.up), rows(a.active));
    linear(rows(a.active), matrix(w[of.down.weight], 1, 4), w[of.down.bias], rows(stream_[b + 1]));
    add(a.stream, stream_[b + 1]);
  }

  template <class Stored>
  void head(const tessera::UnitView<const Stored>& unit, const tessera::UnitView<const Stored>& embedding) {
    const Parameters<T, Stored> w(unit), tied(embedding);
    layer_norm(rows(stream_.back()), w[model_.head_norm.scale], w[model_.head_norm.shift], rows(normal_));
    product(rows(normal_), table(tied[model_.bytes]).t(), rows(logits_));
  }

  /// The mean cross-entropy. Replaces the logits by their gradient, times the optimizer's loss scale.
  double loss(double scale = 1) {
    double sum = 0;
    for (int r = 0; r < rows_; ++r)
      sum += cross_entropy_backward(rows(logits_).row(r), vocabulary, targets_[r], static_cast<T>(scale / rows_));
    return sum / rows_;
  }
  void loss(const float* scale, double* to) { *to = loss(static_cast<double>(*scale)); }

  // --- backward

  template <class Stored, class Gradient>
  void head_backward(const tessera::UnitView<const Stored>& unit, const tessera::UnitView<const Stored>& embedding,
                     const tessera::UnitView<Gradient>& unit_gradients,
                     const tessera::UnitView<Gradient>& embedding_gradients) {
    const Parameters<T, Stored> w(unit), tied(embedding);
    Sums<T, Gradient> g(unit_gradients), tied_g(embedding_gradients);
    product(rows(logits_).t(), rows(normal_), table(tied_g[model_.bytes]), 1);
    product(rows(logits_), table(tied[model_.bytes]), rows(dnormal_));
    std::fill(dstream_.begin(), dstream_.end(), T(0));
    layer_norm_backward(rows(stream_.back()), w[model_.head_norm.scale], rows(dnormal_), rows(dstream_),
                        g[model_.head_norm.scale], g[model_.head_norm.shift]);
  }

  template <class Stored, class Gradient>
  void block_backward(int b, const tessera::UnitView<const Stored>& unit,
                      const tessera::UnitView<Gradient>& gradients) {
    const Model::Block& of = model_.blocks[b];
    const Parameters<T, Stored> w(unit);
    Sums<T, Gradient> g(gradients);
    Activations& a = activations_[b];
    linear_backward(rows(a.active), matrix(w[of.down.weight], 1, 4), rows(dstream_), rows(dup_),
                    matrix(g[of.down.weight], 1, 4), g[of.down.bias]);
    gelu_backward(rows(a.up), rows(dup_));
    linear_backward(rows(a.mlp_normal), matrix(w[of.up.weight], 4, 1), rows(dup_), rows(dnormal_),
                    matrix(g[of.up.weight], 4, 1), g[of.up.bias]);
    layer_norm_backward(rows(a.stream), w[of.mlp_norm.scale], rows(dnormal_), rows(dstream_), g[of.mlp_norm.scale],
                        g[of.mlp_norm.shift]);
    linear_backward(rows(a.mixed), matrix(w[of.projection.weight], 1, 1), rows(dstream_), rows(dnormal_),
                    matrix(g[of.projection.weight], 1, 1), g[of.projection.bias]);
    attention_backward(rows(a.qkv), length(), heads(), squares(a.attended), rows(dnormal_), rows(dqkv_),
                       Matrix<T>(dsquare_.data(), length(), length()));
    linear_backward(rows(a.normal), matrix(w[of.qkv.weight], 3, 1), rows(dqkv_), rows(dnormal_),
                    matrix(g[of.qkv.weight], 3, 1), g[of.qkv.bias]);
    layer_norm_backward(rows(stream_[b]), w[of.norm.scale], rows(dnormal_), rows(dstream_), g[of.norm.scale],
                        g[of.norm.shift]);
  }

  template <class Gradient>
  void embed_backward(const tessera::UnitView<Gradient>& gradients) {
    Sums<T, Gradient> g(gradients);
    transformer::embed_backward(tokens_.data(), length(), rows(dstream_), table(g[model_.bytes]),
                                Matrix<T>(g[model_.positions], length(), width()));
  }

  // --- results

  const Model& model() const { return model_; }
  /// [rows, vocabulary]: forward's output for the byte after each row. Call it before loss().
  std::span<const T> logits() const { return logits_; }

 private:
  using Values = std::vector<T>;
  struct Activations {
    Values normal, qkv, attended, mixed, stream, mlp_normal, up, active;
  };

  int width() const { return model_.shape.width; }
  int heads() const { return model_.shape.heads; }
  int length() const { return model_.shape.context; }

  Values room(int columns) const { return Values(std::size_t(rows_) * columns); }
  Matrix<T> rows(Values& values) const { return {values.data(), rows_, static_cast<int>(values.size() / rows_)}; }
  Matrix<T> squares(Values& values) const { return {values.data(), rows_ * heads(), length()}; }
  template <class U>
  Matrix<U> table(U* bytes) const {
    return {bytes, vocabulary, width()};
  }
  template <class U>
  Matrix<U> matrix(U* weight, int outputs, int inputs) const {  // in multiples of width
    return {weight, outputs * width(), inputs * width()};
  }
  static void add(const Values& from, Values& to) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
  }

  const Model& model_;
  int rows_;
  std::vector<std::uint8_t> tokens_, targets_;
  std::vector<Activations> activations_;
  std::vector<Values> stream_;  // before each block, and after the last one
  Values normal_, logits_, dstream_, dnormal_, dqkv_, dup_, dsquare_;
};

}  // namespace transformer
