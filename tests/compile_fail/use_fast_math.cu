// expect: Unresolved extern function 'tessera_refuses_use_fast_math_and_ftz_true'
// flags: -use_fast_math
#include <tessera/cuda/exec/for_each.cuh>
struct Zero {
  float* at;
  TESSERA_HD void operator()(tessera::index_t i) const noexcept { at[i] = 0; }
};
void clear(float* at, cudaStream_t stream) { tessera::device::for_each(1, Zero{at}, 1, stream); }
