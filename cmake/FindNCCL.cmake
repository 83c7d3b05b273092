# NCCL brings no CMake package of its own. Looked for in NCCL_ROOT and NCCL_HOME (variables of CMake or of the
# environment), then with the CUDA toolkit, then where the system keeps libraries.
#
#   NCCL::NCCL                            what a program with <tessera/cuda/nccl/nccl.cuh> links
#   NCCL_FOUND, NCCL_VERSION              of the header
#   NCCL_INCLUDE_DIR, NCCL_LIBRARY        in the cache: may be set by hand
find_package(CUDAToolkit QUIET)

set(hints ${NCCL_ROOT} $ENV{NCCL_ROOT} ${NCCL_HOME} $ENV{NCCL_HOME})
find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${hints} PATH_SUFFIXES include PATHS ${CUDAToolkit_INCLUDE_DIRS})
find_library(NCCL_LIBRARY nccl HINTS ${hints} PATH_SUFFIXES lib lib64
  PATHS ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_LIBRARY_ROOT}/lib ${CUDAToolkit_LIBRARY_ROOT}/lib64)
mark_as_advanced(NCCL_INCLUDE_DIR NCCL_LIBRARY)

set(NCCL_VERSION "")
if(NCCL_INCLUDE_DIR)
  foreach(part MAJOR MINOR PATCH)
    file(STRINGS ${NCCL_INCLUDE_DIR}/nccl.h line REGEX "^#define NCCL_${part} +[0-9]+")
    string(REGEX MATCH "[0-9]+" number "${line}")
    string(APPEND NCCL_VERSION ".${number}")
  endforeach()
  string(SUBSTRING "${NCCL_VERSION}" 1 -1 NCCL_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(NCCL REQUIRED_VARS NCCL_LIBRARY NCCL_INCLUDE_DIR VERSION_VAR NCCL_VERSION)

if(NCCL_FOUND AND NOT TARGET NCCL::NCCL)
  add_library(NCCL::NCCL UNKNOWN IMPORTED)
  set_target_properties(NCCL::NCCL PROPERTIES IMPORTED_LOCATION ${NCCL_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${NCCL_INCLUDE_DIR})
  if(TARGET CUDA::cudart)
    set_property(TARGET NCCL::NCCL PROPERTY INTERFACE_LINK_LIBRARIES CUDA::cudart)
  endif()
endif()
