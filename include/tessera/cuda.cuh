// The front door of CUDA: the library, and what runs it on devices; with NCCL where its header is found.
#pragma once

#include <tessera/cuda/executor.cuh>
#include <tessera/cuda/local.cuh>
#include <tessera/cuda/self.cuh>
#include <tessera/tessera.hpp>

#if __has_include(<nccl.h>)
#include <tessera/cuda/nccl.cuh>
#include <tessera/cuda/ordered.cuh>
#endif
