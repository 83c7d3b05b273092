# Enables CUDA with the nvcc of the CUDAToolkit that was found, and teaches CMake its C++20.
set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES OFF)  # one pass of the compiler serves both
  string(APPEND CMAKE_CUDA_FLAGS " -gencode arch=compute_80,code=[sm_80,sm_90]")
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # CMake 3.25 does not know nvcc's
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
