/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rpc_reflection: grpc.reflection.v1 and v1alpha (the same bytes) over a serialised FileDescriptorSet.
 *
 * The set is our own build's product, so its nesting is bounded. A set is fields 1 of FileDescriptorProto; a symbol is
 * found by walking the names below a file's package, which takes microseconds for a set of this size.
 */
#include <string.h>

#include "base/strbuf.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "proto/rpc_internal.h"

typedef Grpc__Reflection__V1__ServerReflectionRequest request_t;
typedef Grpc__Reflection__V1__ServerReflectionResponse response_t;

enum { MAX_SERVICES = 64, READ_MS = 3600 * 1000 };

typedef enum node { NODE_FILE, NODE_MESSAGE, NODE_ENUM, NODE_SERVICE, NODE_LEAF, NODE_COUNT } node_t;

/* Field numbers of descriptor.proto that hold named things. */
typedef struct edge {
    node_t parent;
    uint32_t number;
    node_t child;
} edge_t;

static const edge_t edges[] = {
    {NODE_FILE, 4, NODE_MESSAGE}, {NODE_FILE, 5, NODE_ENUM},    {NODE_FILE, 6, NODE_SERVICE},
    {NODE_FILE, 7, NODE_LEAF},    {NODE_MESSAGE, 2, NODE_LEAF}, {NODE_MESSAGE, 3, NODE_MESSAGE},
    {NODE_MESSAGE, 4, NODE_ENUM}, {NODE_MESSAGE, 6, NODE_LEAF}, {NODE_MESSAGE, 8, NODE_LEAF},
    {NODE_ENUM, 2, NODE_LEAF},    {NODE_SERVICE, 2, NODE_LEAF},
};

static bool field_find(const uint8_t *bytes, size_t size, uint32_t number, rpc_wire_field_t *field_p)
{
    const uint8_t *end = bytes + size;
    rpc_wire_field_t field;
    while (bytes < end && rpc_wire_next(&bytes, end, &field)) {
        if (field.number == number && field.wire_type == 2) {
            *field_p = field;
            return true;
        }
    }
    return false;
}

/*
 * True when the node's name, or that of something below it, is the rest of the symbol. symbol points behind the
 * parent's name and its dot. An enum's values are siblings of the enum, as in C++; both forms are taken.
 */
static bool node_holds(node_t node, const uint8_t *bytes, size_t size, const char *symbol)
{
    const char *rest = symbol;
    rpc_wire_field_t name;
    if (field_find(bytes, size, node == NODE_FILE ? 2 : 1, &name)) {
        bool is_prefix = strncmp(symbol, (const char *)name.bytes, name.length) == 0;
        char after = is_prefix ? symbol[name.length] : 'x';
        if (node != NODE_FILE && after == '\0') {
            return true;
        }
        if (after == '.') {
            rest = symbol + name.length + 1;
        } else if (node != NODE_ENUM) {
            return false;
        }
    }
    const uint8_t *end = bytes + size;
    rpc_wire_field_t field;
    while (bytes < end && rpc_wire_next(&bytes, end, &field)) {
        for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]) && field.wire_type == 2; i++) {
            if (edges[i].parent == node && edges[i].number == field.number &&
                node_holds(edges[i].child, field.bytes, field.length, rest)) {
                return true;
            }
        }
    }
    return false;
}

/* The file of that name, or else the file that holds the symbol. */
static bool file_find(const rpc_server_t *server, const char *name, const char *symbol, ProtobufCBinaryData *file_p)
{
    const uint8_t *cursor = server->file_descriptor_set;
    const uint8_t *end = cursor + server->file_descriptor_set_size;
    rpc_wire_field_t file;
    while (cursor < end && rpc_wire_next(&cursor, end, &file)) {
        rpc_wire_field_t own;
        if (file.number != 1 || file.wire_type != 2) {
            continue;
        }
        bool is_it = name != NULL ? field_find(file.bytes, file.length, 1, &own) && strlen(name) == own.length &&
                                        memcmp(name, own.bytes, own.length) == 0
                                  : node_holds(NODE_FILE, file.bytes, file.length, symbol);
        if (is_it) {
            file_p->data = (uint8_t *)(uintptr_t)file.bytes;
            file_p->len = file.length;
            return true;
        }
    }
    return false;
}

static status_t error_answer(rpc_call_t *call, response_t *response, rpc_code_t code, char *message)
{
    Grpc__Reflection__V1__ErrorResponse error = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;
    error.error_code = (int32_t)code;
    error.error_message = message;
    response->message_response_case = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
    response->error_response = &error;
    return rpc_call_write(call, &response->base);
}

static status_t file_answer(rpc_call_t *call, const rpc_server_t *server, response_t *response, const char *name,
                            const char *symbol)
{
    ProtobufCBinaryData file = {0, NULL};
    Grpc__Reflection__V1__FileDescriptorResponse files = GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
    if (file_find(server, name, symbol, &file)) {
        files.n_file_descriptor_proto = 1;
        files.file_descriptor_proto = &file;
        response->message_response_case =
            GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
        response->file_descriptor_response = &files;
        return rpc_call_write(call, &response->base);
    }
    strbuf_t text = {0};
    strbuf_appendf(&text, "no %s \"%s\"", name != NULL ? "file" : "symbol", name != NULL ? name : symbol);
    status_t status = error_answer(call, response, RPC_NOT_FOUND, text.data);
    strbuf_release(&text);
    return status;
}

static status_t services_answer(rpc_call_t *call, const rpc_server_t *server, response_t *response)
{
    static char health[] = "grpc.health.v1.Health";
    static char v1[] = "grpc.reflection.v1.ServerReflection";
    static char v1alpha[] = "grpc.reflection.v1alpha.ServerReflection";
    char *const builtin[] = {health, v1, v1alpha};
    Grpc__Reflection__V1__ServiceResponse items[MAX_SERVICES];
    Grpc__Reflection__V1__ServiceResponse *pointers[MAX_SERVICES];
    Grpc__Reflection__V1__ListServiceResponse list = GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
    list.service = pointers;
    size_t n_builtin = sizeof(builtin) / sizeof(builtin[0]);
    for (size_t i = 0; list.n_service < MAX_SERVICES; i++) {
        char *name = i < n_builtin ? builtin[i] : server->services[i - n_builtin];
        if (name == NULL) {
            break;
        }
        pointers[list.n_service] = &items[list.n_service];
        items[list.n_service] = (Grpc__Reflection__V1__ServiceResponse)GRPC__REFLECTION__V1__SERVICE_RESPONSE__INIT;
        items[list.n_service++].name = name;
    }
    response->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
    response->list_services_response = &list;
    return rpc_call_write(call, &response->base);
}

static status_t request_answer(rpc_call_t *call, const rpc_server_t *server, request_t *request)
{
    response_t response = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    response.valid_host = request->host;
    response.original_request = request;
    switch (request->message_request_case) {
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
        return file_answer(call, server, &response, request->file_by_filename, NULL);
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
        return file_answer(call, server, &response, NULL, request->file_containing_symbol);
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
        return services_answer(call, server, &response);
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION:
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE:
        return error_answer(call, &response, RPC_NOT_FOUND, (char[]){"no extensions are used"});
    default:
        return error_answer(call, &response, RPC_INVALID_ARGUMENT, (char[]){"empty request"});
    }
}

static status_t reflection_info(rpc_call_t *call, const ProtobufCMessage *unused, void *arg)
{
    (void)unused;
    const rpc_server_t *server = arg;
    for (;;) {
        ProtobufCMessage *message = NULL;
        status_t status = rpc_call_read(call, READ_MS, &message);
        if (status != ST_OK || message == NULL) {
            return status;
        }
        status = request_answer(call, server, (request_t *)message);
        protobuf_c_message_free_unpacked(message, NULL);
        if (status != ST_OK) {
            return status;
        }
    }
}

const rpc_method_t rpc_reflection_methods[RPC_N_REFLECTION_METHODS] = {
    {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", RPC_BIDI,
     &grpc__reflection__v1__server_reflection_request__descriptor, reflection_info},
    {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", RPC_BIDI,
     &grpc__reflection__v1__server_reflection_request__descriptor, reflection_info},
};
