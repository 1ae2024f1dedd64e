# SPDX-License-Identifier: Apache-2.0
# gradd_rpc: gRPC behind blocking calls, with health checks and reflection.
set(rpc_proto_sources)
foreach(file grpc/health/v1/health grpc/reflection/v1/reflection)
  get_filename_component(folder "${generated}/${file}" DIRECTORY)
  file(MAKE_DIRECTORY "${folder}")
  add_custom_command(
    OUTPUT "${generated}/${file}.pb-c.c" "${generated}/${file}.pb-c.h"
    COMMAND ${PROTOC_C} --c_out=${generated} -I ${CMAKE_CURRENT_SOURCE_DIR} ${file}.proto
    DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${file}.proto"
    VERBATIM)
  list(APPEND rpc_proto_sources "${generated}/${file}.pb-c.c")
endforeach()

# What reflection answers with: the public services, without job.proto, which no client needs.
set(rpc_described gradd.proto grpc/health/v1/health.proto grpc/reflection/v1/reflection.proto
    grpc/reflection/v1alpha/reflection.proto)
list(TRANSFORM rpc_described PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/" OUTPUT_VARIABLE rpc_described_files)
add_custom_command(
  OUTPUT "${generated}/rpc_descriptor_set.bin"
  COMMAND ${PROTOC} --include_imports --descriptor_set_out=${generated}/rpc_descriptor_set.bin
          -I ${CMAKE_CURRENT_SOURCE_DIR} ${rpc_described}
  DEPENDS ${rpc_described_files}
  VERBATIM)
add_custom_command(
  OUTPUT "${generated}/rpc_descriptor_set.c"
  COMMAND ${CMAKE_COMMAND} -D INPUT=${generated}/rpc_descriptor_set.bin -D OUTPUT=${generated}/rpc_descriptor_set.c
          -D NAME=rpc_descriptor_set -P ${CMAKE_CURRENT_SOURCE_DIR}/embed.cmake
  DEPENDS "${generated}/rpc_descriptor_set.bin" "${CMAKE_CURRENT_SOURCE_DIR}/embed.cmake"
  VERBATIM)

# Generated code is compiled without our warnings.
add_library(gradd_rpc_messages STATIC ${rpc_proto_sources} "${generated}/rpc_descriptor_set.c")
target_include_directories(gradd_rpc_messages SYSTEM PUBLIC "${generated}")
target_link_libraries(gradd_rpc_messages PUBLIC PkgConfig::PROTOBUF_C)
if(GRADD_SANITIZE)
  target_compile_options(gradd_rpc_messages PRIVATE -fsanitize=${GRADD_SANITIZE})
endif()

gradd_library(gradd_rpc
  SOURCES rpc_client.c rpc_call.c rpc_codec.c rpc_health.c rpc_reflection.c rpc_server.c
  LIBS gradd_base gradd_messages Threads::Threads
  PRIVATE_LIBS gradd_rpc_messages ${GRPC_LIBRARY} ${GPR_LIBRARY})
