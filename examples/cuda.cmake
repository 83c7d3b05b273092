# examples/<name>_cuda: the training loops of examples/<name> with models that compute on CUDA devices.

set(cuda_examples mlp_cuda transformer_cuda)
if(NOT TESSERA_CUDA OR NOT TESSERA_NCCL OR NOT TARGET CUDA::cublas)
  message(STATUS "tessera: mlp_cuda and transformer_cuda are not built: they need CUDA, its cuBLAS, and NCCL")
  return()
endif()

add_library(example_cuda STATIC common/cuda/layers.cu cuda/train_sgd.cu cuda/train_adam.cu cuda/train_adamw.cu)
target_include_directories(example_cuda PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_definitions(example_cuda PUBLIC TESSERA_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
target_link_libraries(example_cuda PUBLIC tessera::tessera CUDA::cublas NCCL::NCCL PRIVATE ZLIB::ZLIB)
# Optimizing the host code would take longer than it ever runs.
target_compile_options(example_cuda PRIVATE -Xcompiler=-O0)
set_target_properties(example_cuda PROPERTIES CUDA_STANDARD 20)
foreach(example IN LISTS cuda_examples)
  add_executable(${example} ${example}/main.cpp)
  set_target_properties(${example} PROPERTIES LINKER_LANGUAGE CUDA)
  target_link_libraries(${example} PRIVATE example_common example_cuda ZLIB::ZLIB)
endforeach()
