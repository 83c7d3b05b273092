// The front door of CUDA: the library, and what runs it on devices.
#pragma once

#include <tessera/cuda/executor.cuh>
#include <tessera/tessera.hpp>
