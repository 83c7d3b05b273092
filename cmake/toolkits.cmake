# Says once what this machine has of the optional toolkits. None of them is needed for the host library.

find_package(CUDAToolkit QUIET)
if(CUDAToolkit_FOUND)
  message(STATUS "tessera: CUDA ${CUDAToolkit_VERSION} found: not used yet, there are no device headers")
else()
  message(STATUS "tessera: CUDA not found: device headers are not tested")
endif()

find_path(TESSERA_NCCL_INCLUDE_DIR nccl.h HINTS ENV NCCL_ROOT ENV NCCL_HOME PATH_SUFFIXES include
  PATHS ${CUDAToolkit_INCLUDE_DIRS})
mark_as_advanced(TESSERA_NCCL_INCLUDE_DIR)
if(TESSERA_NCCL_INCLUDE_DIR)
  message(STATUS "tessera: NCCL found in ${TESSERA_NCCL_INCLUDE_DIR}: not used yet, there is no Nccl communicator")
else()
  message(STATUS "tessera: NCCL not found: the Nccl communicator is not tested")
endif()

set(MPI_CXX_SKIP_MPICXX TRUE)
set(level ${CMAKE_MESSAGE_LOG_LEVEL})
set(CMAKE_MESSAGE_LOG_LEVEL WARNING)  # the module speaks of pkg-config even when asked to be quiet
find_package(MPI QUIET COMPONENTS CXX)
set(CMAKE_MESSAGE_LOG_LEVEL ${level})
if(MPI_CXX_FOUND)
  message(STATUS "tessera: MPI ${MPI_CXX_VERSION} found: not used yet, there is no Mpi communicator")
else()
  message(STATUS "tessera: MPI not found: the Mpi communicator is not tested")
endif()
