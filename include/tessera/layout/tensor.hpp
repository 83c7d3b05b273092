// Handles to the units and tensors of a layout, and the options of a tensor.
#pragma once

namespace tessera {

/// A handle to a unit of a layout: tensors that are gathered and reduced together, usually one layer.
struct Unit {
  int index = 0;
  friend constexpr bool operator==(Unit, Unit) = default;
};

/// A handle to a tensor of a layout.
struct Tensor {
  int index = 0;
  friend constexpr bool operator==(Tensor, Tensor) = default;
};

/// rule: the index in Rules<...> of the rule that updates the tensor; 0 if the optimizer has one rule. group: the
/// hyperparameter group of that rule. frozen: not trained, without gradients and state.
struct TensorOptions {
  int group = 0;
  bool frozen = false;
  int rule = 0;
};

namespace layout {

/// The maximum number of rules.
inline constexpr int most_rules = 4;

}  // namespace layout

}  // namespace tessera
