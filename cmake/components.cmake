# The targets beside tessera::tessera, for who compiles device code: made by the package's configuration and by a build
# that includes the sources, for each component that is asked for.
#
#   tessera::cuda    what <tessera/cuda.cuh> needs: the CUDA toolkit's headers
#   tessera::nccl    that and NCCL
#
# tessera_component(NAME): where it cannot be had, tessera_NAME_missing says why. tessera_component_scope: the target's,
# GLOBAL or empty.
set(tessera_component_modules ${CMAKE_CURRENT_LIST_DIR})

macro(tessera_component component)
  set(tessera_${component}_missing "")
  if(TARGET tessera::${component})
    # made before
  elseif("${component}" STREQUAL "cuda")
    find_package(CUDAToolkit 12 QUIET)
    if(CUDAToolkit_FOUND)
      add_library(tessera::cuda INTERFACE IMPORTED ${tessera_component_scope})
      set_target_properties(tessera::cuda PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${CUDAToolkit_INCLUDE_DIRS}"
        INTERFACE_LINK_LIBRARIES "tessera::tessera;${CMAKE_DL_LIBS}")
    else()
      set(tessera_cuda_missing "the CUDA toolkit, 12.0 or later, was not found: CUDAToolkit_ROOT says where it is")
    endif()
  elseif("${component}" STREQUAL "nccl")
    tessera_component(cuda)
    set(tessera_nccl_missing "${tessera_cuda_missing}")
    if(TARGET tessera::cuda)
      list(APPEND CMAKE_MODULE_PATH ${tessera_component_modules})
      find_package(NCCL 2.27 QUIET)
      list(POP_BACK CMAKE_MODULE_PATH)
      if(NCCL_FOUND)
        add_library(tessera::nccl INTERFACE IMPORTED ${tessera_component_scope})
        set_target_properties(tessera::nccl PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${NCCL_INCLUDE_DIR}"
          INTERFACE_LINK_LIBRARIES "tessera::cuda;${NCCL_LIBRARY}")
      else()
        set(tessera_nccl_missing "NCCL, 2.27 or later, was not found: NCCL_ROOT says where it is")
        if(NCCL_VERSION)
          string(APPEND tessera_nccl_missing " (${NCCL_VERSION} was found in ${NCCL_INCLUDE_DIR})")
        endif()
      endif()
    endif()
  else()
    set(tessera_${component}_missing "there is no such component: there are cuda and nccl")
  endif()
endmacro()
