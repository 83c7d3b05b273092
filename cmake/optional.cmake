# What the project can use and does not need. A package that is installed by half may end a configure, even where it is
# looked for QUIETly, and one that is found may not compile. So each is first found, compiled and linked in a configure
# of its own (try/CMakeLists.txt, try/NAME.cpp); what fails there is not looked for here.
#
#   tessera_find(NAME PACKAGE find_package's arguments... TARGET to link DEBIAN packages... WITHOUT "what is missed")
#
# sets TESSERA_NAME to whether the package may be used, and says in one line if not. -DTESSERA_WITH_NAME=OFF: it is not
# looked for. Elsewhere than where CMake looks it is found as CMake has it: CMAKE_PREFIX_PATH, <package>_ROOT.
macro(tessera_find name)
  cmake_parse_arguments(find "" "TARGET;WITHOUT" "PACKAGE;DEBIAN" ${ARGN})
  list(GET find_PACKAGE 0 find_package)
  option(TESSERA_WITH_${name} "Use ${find_package} where it is found" ON)
  set(TESSERA_${name} FALSE)
  set(find_why "not looked for (TESSERA_WITH_${name})")
  if(TESSERA_WITH_${name})
    tessera_try(${name} find_why "${find_TARGET}" ${find_PACKAGE})
    if(find_why STREQUAL "")
      set(find_level ${CMAKE_MESSAGE_LOG_LEVEL})
      set(CMAKE_MESSAGE_LOG_LEVEL WARNING)  # some modules talk even when asked to be quiet
      find_package(${find_PACKAGE} QUIET)
      set(CMAKE_MESSAGE_LOG_LEVEL ${find_level})
      set(TESSERA_${name} ${${find_package}_FOUND})
    endif()
  endif()
  if(TESSERA_${name})
    string(STRIP "${find_package} ${${find_package}_VERSION}" find_package)
    message(STATUS "tessera: ${find_package} found")
  else()
    string(REPLACE ";" " " find_debian "${find_DEBIAN}")
    if(find_debian)
      set(find_debian " (Debian: ${find_debian})")
    endif()
    message(STATUS "tessera: ${find_package} ${find_why}: ${find_WITHOUT}${find_debian}")
  endif()
endmacro()

# Sets `why` to why the package cannot be used; empty if it can. What passed before is checked again, at little cost.
function(tessera_try name why target)
  set(folder ${PROJECT_BINARY_DIR}/CMakeFiles/tessera/${name})
  set(log ${folder}.log)
  # The settings of this configure, whoever made them.
  set(settings "")
  get_cmake_property(variables CACHE_VARIABLES)
  foreach(variable IN LISTS variables)
    get_property(type CACHE ${variable} PROPERTY TYPE)
    if(NOT type MATCHES "^(INTERNAL|STATIC)$")
      string(REPLACE "UNINITIALIZED" "STRING" type ${type})
      string(APPEND settings "set(${variable} [==[$CACHE{${variable}}]==] CACHE ${type} \"\" FORCE)\n")
    endif()
  endforeach()
  file(WRITE ${folder}.cmake "${settings}")
  file(GLOB program ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/try/${name}.c*)
  execute_process(COMMAND ${CMAKE_COMMAND} -C ${folder}.cmake -G ${CMAKE_GENERATOR} -DTRY_PROGRAM=${program}
      "-DTRY_PACKAGE=${ARGN}" -DTRY_TARGET=${target} -DCMAKE_COMPILE_WARNING_AS_ERROR=OFF
      -S ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/try -B ${folder}
    RESULT_VARIABLE failed OUTPUT_VARIABLE configured ERROR_VARIABLE configured)
  set(built "")
  if(NOT failed)
    execute_process(COMMAND ${CMAKE_COMMAND} --build ${folder}
      RESULT_VARIABLE failed OUTPUT_VARIABLE built ERROR_VARIABLE built)
  endif()
  file(WRITE ${log} "${configured}${built}")
  set(${why} "" PARENT_SCOPE)
  if(failed)
    file(REMOVE_RECURSE ${folder})
    set(${why} "not found" PARENT_SCOPE)
    if(NOT configured MATCHES "tessera: nothing found")
      set(${why} "not found, for what there is of it does not compile (${log})" PARENT_SCOPE)
    endif()
  endif()
endfunction()
