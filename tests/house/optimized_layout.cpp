// Layouts at -O3, alone. If the lengths of names are known, g++ 12 vectorizes the copies of their characters, and
// warned about unreachable code among them (-Wstringop-overflow, on by default).
#include <tessera/layout/layout.hpp>

int units_of_flat() { return tessera::Layout::flat(100).units(); }

int units_of_named(tessera::index_t n) {
  tessera::Layout layout;
  layout.add_unit("line");
  layout.add_tensor("weight", {5, n});
  layout.add_tensor("bias", {5}, {.group = 1});
  return layout.units();
}
