# A BLAS with the header cblas.h: OpenBLAS if there is one, or what BLA_VENDOR says.
#
#   CBLAS::CBLAS    what a program that includes <cblas.h> links
set(vendor_is_chosen ${BLA_VENDOR})
if(NOT vendor_is_chosen)
  set(BLA_VENDOR OpenBLAS)
endif()
find_package(BLAS QUIET)
if(NOT vendor_is_chosen)
  unset(BLA_VENDOR)
  if(NOT BLAS_FOUND)
    find_package(BLAS QUIET)
  endif()
endif()
find_path(CBLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES openblas)
mark_as_advanced(CBLAS_INCLUDE_DIR)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CBLAS REQUIRED_VARS CBLAS_INCLUDE_DIR BLAS_FOUND)
if(CBLAS_FOUND AND NOT TARGET CBLAS::CBLAS)
  add_library(CBLAS::CBLAS INTERFACE IMPORTED)
  set_target_properties(CBLAS::CBLAS PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${CBLAS_INCLUDE_DIR}
    INTERFACE_LINK_LIBRARIES BLAS::BLAS)
endif()
