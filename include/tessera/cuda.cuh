// The main header for CUDA: the library and its CUDA executors and communicators. NCCL is included if its header
// exists.
#pragma once

#include <tessera/cuda/exec/executor.cuh>
#include <tessera/cuda/local/local.cuh>
#include <tessera/cuda/local/self.cuh>
#include <tessera/tessera.hpp>

#if __has_include(<nccl.h>)
#include <tessera/cuda/nccl/nccl.cuh>
#include <tessera/cuda/nccl/ordered.cuh>
#endif
