# SPDX-License-Identifier: Apache-2.0
# Options, warnings and instrumentation, carried by the interface target gradd_options.
option(GRADD_BUILD_TESTS "Build the tests" ON)
option(GRADD_WERROR "Warnings are errors" OFF)
option(GRADD_FUZZ "Build the libFuzzer targets (needs clang)" OFF)
set(GRADD_SANITIZE "" CACHE STRING "Sanitizers, as for -fsanitize=")
option(GRADD_COVERAGE "Instrument for gcov" OFF)
option(GRADD_CUDA "Build the CUDA backend when a toolkit is found" OFF)

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

add_library(gradd_options INTERFACE)
target_compile_definitions(gradd_options INTERFACE _GNU_SOURCE GRADD_VERSION="${PROJECT_VERSION}")
target_include_directories(gradd_options INTERFACE
  "${PROJECT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/engine" "${PROJECT_SOURCE_DIR}/engine/include")
target_compile_options(gradd_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wdouble-promotion -Wstrict-prototypes -Wmissing-prototypes
  -Wvla -Wformat=2 -Wno-format-truncation $<$<NOT:$<BOOL:$<TARGET_PROPERTY:GRADD_IS_TEST>>>:-Wnull-dereference> -fno-math-errno -ffp-contract=off)
if(GRADD_WERROR)
  target_compile_options(gradd_options INTERFACE -Werror)
endif()
if(GRADD_SANITIZE)
  target_compile_options(gradd_options INTERFACE -fsanitize=${GRADD_SANITIZE} -fno-omit-frame-pointer -g)
  target_link_options(gradd_options INTERFACE -fsanitize=${GRADD_SANITIZE})
  # gcc 12's flow analysis reports false null dereferences in instrumented code
  target_compile_options(gradd_options INTERFACE -Wno-null-dereference)
endif()
if(GRADD_FUZZ)
  target_compile_options(gradd_options INTERFACE
    -fsanitize=fuzzer-no-link -include "${PROJECT_SOURCE_DIR}/engine/cpu/vec/clang.h" -Wno-pass-failed)
endif()
if(GRADD_COVERAGE)
  target_compile_options(gradd_options INTERFACE --coverage -g)
  target_link_options(gradd_options INTERFACE --coverage)
endif()
