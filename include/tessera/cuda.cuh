// The front door of CUDA: the library, and what runs it on devices; with NCCL where its header is found.
#pragma once

#include <tessera/cuda/exec/executor.cuh>
#include <tessera/cuda/local/local.cuh>
#include <tessera/cuda/local/self.cuh>
#include <tessera/tessera.hpp>

#if __has_include(<nccl.h>)
#include <tessera/cuda/nccl/nccl.cuh>
#include <tessera/cuda/nccl/ordered.cuh>
#endif
