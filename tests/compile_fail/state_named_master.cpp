// expect: the rule's state_names must be words that differ from each other, and from 'parameter', 'master' and 'trained'
#include <tessera/tessera.hpp>
struct SignSgd {
  float lr = 1e-3f;
  static constexpr const char* name = "SignSgd";
  struct State {
    float master;
  };
  static constexpr std::array<const char*, 1> state_names{"master"};
  struct Scalars {};
  Scalars scalars(tessera::index_t) const { return {}; }
  float operator()(float weight, float gradient, State&, const Scalars&) const noexcept { return weight - lr * gradient; }
  void validate() const {}
};
template class tessera::Sharded<SignSgd, tessera::Stage1>;
