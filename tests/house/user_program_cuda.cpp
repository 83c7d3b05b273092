// The same for the CUDA headers, compiled with the runtime that the tests emulate.
#include <tessera/cuda.cuh>

template class tessera::Sharded<tessera::AdamW, tessera::Stage2, tessera::Bf16, tessera::CudaSelf>;
template class tessera::Sharded<tessera::Adam, tessera::Stage1, tessera::Bf16Stochastic, tessera::CudaLocal>;
template class tessera::Sharded<tessera::Lamb, tessera::Stage3, tessera::Fp16, tessera::Ordered<tessera::Nccl>>;
