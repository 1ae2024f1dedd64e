# SPDX-License-Identifier: Apache-2.0
# gradd_library(name SOURCES … LIBS …), gradd_program(name SOURCES … LIBS …)
# gradd_test(folder/test_unit LIBS … [LABELS …] [TIMEOUT seconds] [ENVIRONMENT …] [ARGS …]): source tests/folder/test_unit.c
function(gradd_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS;PRIVATE_LIBS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC gradd_options ${ARG_LIBS} PRIVATE ${ARG_PRIVATE_LIBS})
endfunction()

function(gradd_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE gradd_options ${ARG_LIBS})
endfunction()

function(gradd_test test)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBS;LABELS;ENVIRONMENT;ARGS" ${ARGN})
  string(REPLACE "/" "_" target "${test}")
  add_executable(${target} "${PROJECT_SOURCE_DIR}/tests/${test}.c" ${ARG_SOURCES})
  target_link_libraries(${target} PRIVATE gradd_options ${ARG_LIBS} PkgConfig::CMOCKA)
  # the flow analysis doesn't know that a failed assertion leaves the test
  set_target_properties(${target} PROPERTIES GRADD_IS_TEST ON RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  add_test(NAME "${test}" COMMAND ${target} ${ARG_ARGS})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  set_tests_properties("${test}" PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
    SKIP_RETURN_CODE 77 ENVIRONMENT "GRADD_BIN=${CMAKE_BINARY_DIR}/bin;GRADD_SOURCE=${PROJECT_SOURCE_DIR};${ARG_ENVIRONMENT}")
endfunction()
