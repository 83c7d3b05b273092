# For the project's own targets only: nothing here reaches a user of tessera::tessera.
include(CheckCXXCompilerFlag)

add_library(tessera_warnings INTERFACE)
target_compile_options(tessera_warnings INTERFACE -Wall -Wextra -Wpedantic)

# Sanitized builds run fewer property tuples, and leave out what a sanitizer cannot see.
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=")
  set(TESSERA_SANITIZED TRUE)
else()
  set(TESSERA_SANITIZED FALSE)
endif()
