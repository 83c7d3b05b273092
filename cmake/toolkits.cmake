# What there is of what the tests, examples, benchmarks and tools use. The library itself needs none of it.
include(${CMAKE_CURRENT_LIST_DIR}/optional.cmake)
list(APPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})
set(MPI_CXX_SKIP_MPICXX TRUE)

set(TESSERA_MPI FALSE)
if(TESSERA_BUILD_TESTS)
  tessera_find(DOCTEST PACKAGE doctest CONFIG TARGET doctest::doctest DEBIAN doctest-dev
    WITHOUT "only the structural tests are run")
  tessera_find(MPI PACKAGE MPI COMPONENTS CXX TARGET MPI::MPI_CXX DEBIAN libopenmpi-dev openmpi-bin
    WITHOUT "nccl_from_mpi is not tested")
  if(TESSERA_MPI AND NOT MPIEXEC_EXECUTABLE)
    message(STATUS "tessera: mpiexec not found: nccl_from_mpi is not tested (Debian: openmpi-bin)")
    set(TESSERA_MPI FALSE)
  endif()
  find_package(Python3 COMPONENTS Interpreter QUIET)
  if(NOT Python3_FOUND)
    message(STATUS "tessera: python3 not found: the structural tests written in it are not run")
  endif()
endif()

if(TESSERA_BUILD_TESTS OR TESSERA_BUILD_EXAMPLES OR TESSERA_BUILD_TOOLS)
  tessera_find(NLOHMANN_JSON PACKAGE nlohmann_json CONFIG TARGET nlohmann_json::nlohmann_json DEBIAN nlohmann-json3-dev
    WITHOUT "examples and tessera-plan are not built, checkpoints and a timeline's file are not tested")
endif()
if(TESSERA_BUILD_TESTS)
  tessera_find(XXHASH PACKAGE xxhash TARGET xxhash::header DEBIAN libxxhash-dev WITHOUT "checkpoints are not tested")
endif()
if(TESSERA_BUILD_EXAMPLES OR TESSERA_BUILD_BENCH OR TESSERA_BUILD_TOOLS)
  tessera_find(CLI11 PACKAGE CLI11 CONFIG TARGET CLI11::CLI11 DEBIAN libcli11-dev
    WITHOUT "examples, benchmarks and tessera-plan are not built")
endif()
if(TESSERA_BUILD_EXAMPLES)
  tessera_find(BLAS PACKAGE CBLAS TARGET CBLAS::CBLAS DEBIAN libopenblas-dev WITHOUT "the examples are not built")
  tessera_find(ZLIB PACKAGE ZLIB TARGET ZLIB::ZLIB DEBIAN zlib1g-dev WITHOUT "the examples are not built")
endif()
if(TESSERA_BUILD_BENCH)
  tessera_find(BENCHMARK PACKAGE benchmark CONFIG TARGET benchmark::benchmark DEBIAN libbenchmark-dev
    WITHOUT "measurements that use it are not built")
endif()

set(TESSERA_CUDA FALSE)
set(TESSERA_NCCL FALSE)
if(NOT PROJECT_IS_TOP_LEVEL OR NOT (TESSERA_BUILD_TESTS OR TESSERA_BUILD_EXAMPLES OR TESSERA_BUILD_BENCH))
  return()  # only this project's own device code is compiled here
endif()
if(TESSERA_SANITIZED)
  message(STATUS "tessera: CUDA is left alone, for a sanitizer sees nothing of a device: the emulation is compiled")
  return()
endif()
tessera_find(CUDA PACKAGE CUDAToolkit TARGET CUDA::cudart
  WITHOUT "device code is compiled against the emulation alone")
if(TESSERA_CUDA)
  include(${CMAKE_CURRENT_LIST_DIR}/cuda_language.cmake)
  # nvcc gives its -O to the host's compiler, behind what -Xcompiler says; kernels are optimized whatever it is. So a
  # target says by -Xcompiler alone how its host part is compiled.
  foreach(config RELEASE RELWITHDEBINFO MINSIZEREL)
    string(REGEX REPLACE "-O[0-9s]" "" CMAKE_CUDA_FLAGS_${config} "${CMAKE_CUDA_FLAGS_${config}}")
  endforeach()
  tessera_find(NCCL PACKAGE NCCL 2.27 TARGET NCCL::NCCL
    WITHOUT "the Nccl communicator is tested in an emulation alone (version 2.27 or later is needed)")
endif()
