/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_codec: bytes to messages and back with limits, status codes, addresses, gRPC's own log. */
#include <stdlib.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <grpc/support/log.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "proto/rpc_internal.h"

/* ---- library ---- */

static void library_log(gpr_log_func_args *args)
{
    log_debug("grpc: %s:%d: %s", args->file, args->line, args->message);
}

void rpc_library_init(void)
{
    gpr_set_log_function(library_log);
    grpc_init();
}

void rpc_library_shutdown(void)
{
    /* The other form cleans up on a thread of its own, which may still run when main returns. */
    grpc_shutdown_blocking();
}

grpc_arg rpc_arg_int(const char *key, int value)
{
    grpc_arg arg = {.type = GRPC_ARG_INTEGER, .key = NULL, .value.integer = value};
    memcpy(&arg.key, &key, sizeof(key)); /* gRPC's field lacks a const; it copies the key */
    return arg;
}

struct timespec rpc_deadline(int64_t timeout_ms)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t ns = now.tv_nsec + timeout_ms % 1000 * CLOCK_NS_PER_MS;
    now.tv_sec += timeout_ms / 1000 + ns / CLOCK_NS_PER_S;
    now.tv_nsec = ns % CLOCK_NS_PER_S;
    return now;
}

/* ---- codes ---- */

const char *rpc_code_name(rpc_code_t code)
{
    static const char *const names[] = {
        "OK",        "CANCELLED",       "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
        "NOT_FOUND", "ALREADY_EXISTS",  "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
        "ABORTED",   "OUT_OF_RANGE",    "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
        "DATA_LOSS", "UNAUTHENTICATED",
    };
    size_t index = (size_t)code;
    return index < sizeof(names) / sizeof(names[0]) ? names[index] : "UNKNOWN";
}

rpc_code_t rpc_code_from_status(status_t status)
{
    switch (status) {
    case ST_OK:
        return RPC_OK;
    case ST_ERR_INVAL:
    case ST_ERR_SHAPE:
    case ST_ERR_DTYPE:
    case ST_ERR_RANGE:
    case ST_ERR_PARSE:
        return RPC_INVALID_ARGUMENT;
    case ST_ERR_UNSUPPORTED:
        return RPC_UNIMPLEMENTED;
    case ST_ERR_NOT_FOUND:
        return RPC_NOT_FOUND;
    case ST_ERR_EXISTS:
        return RPC_ALREADY_EXISTS;
    case ST_ERR_PERMISSION:
        return RPC_PERMISSION_DENIED;
    case ST_ERR_COMM:
    case ST_ERR_PEER:
        return RPC_UNAVAILABLE;
    case ST_ERR_TIMEOUT:
        return RPC_DEADLINE_EXCEEDED;
    case ST_ERR_NOMEM:
    case ST_ERR_NOSPACE:
    case ST_ERR_BUSY:
        return RPC_RESOURCE_EXHAUSTED;
    case ST_ERR_STATE:
        return RPC_FAILED_PRECONDITION;
    case ST_ERR_CANCELLED:
        return RPC_CANCELLED;
    default:
        return RPC_INTERNAL;
    }
}

status_t rpc_code_to_status(rpc_code_t code)
{
    switch (code) {
    case RPC_OK:
        return ST_OK;
    case RPC_CANCELLED:
        return ST_ERR_CANCELLED;
    case RPC_INVALID_ARGUMENT:
        return ST_ERR_INVAL;
    case RPC_DEADLINE_EXCEEDED:
        return ST_ERR_TIMEOUT;
    case RPC_NOT_FOUND:
        return ST_ERR_NOT_FOUND;
    case RPC_ALREADY_EXISTS:
        return ST_ERR_EXISTS;
    case RPC_PERMISSION_DENIED:
        return ST_ERR_PERMISSION;
    case RPC_RESOURCE_EXHAUSTED:
        return ST_ERR_BUSY;
    case RPC_FAILED_PRECONDITION:
        return ST_ERR_STATE;
    case RPC_UNIMPLEMENTED:
        return ST_ERR_UNSUPPORTED;
    case RPC_UNAVAILABLE:
        return ST_ERR_PEER;
    default:
        return ST_ERR_INTERNAL;
    }
}

/* Length of the UTF-8 sequence at text (RFC 3629: no overlong forms, no surrogates), 0 when there is none. */
static size_t utf8_length(const uint8_t *text, size_t left)
{
    uint8_t c = text[0];
    if (c < 0x80) {
        return 1;
    }
    size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    if (c < 0xc2 || c > 0xf4 || n > left) {
        return 0;
    }
    uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    uint8_t high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (text[1] < low || text[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return n;
}

char *rpc_detail_copy(const char *text)
{
    size_t length = strlen(text);
    size_t encoded = 0;
    size_t i = 0;
    while (i < length) {
        size_t n = utf8_length((const uint8_t *)text + i, length - i);
        n = n == 0 ? 1 : n;
        bool is_plain = n == 1 && text[i] >= ' ' && text[i] <= '~' && text[i] != '%';
        size_t cost = is_plain ? 1 : 3 * n;
        if (encoded + cost > RPC_MAX_DETAIL_BYTES) {
            break;
        }
        encoded += cost;
        i += n;
    }
    strbuf_t copy = {0};
    strbuf_append_bytes(&copy, text, i);
    if (i < length) {
        strbuf_append(&copy, "\n(cut)");
    }
    return copy.is_failed ? NULL : copy.data == NULL ? mem_strdup("") : strbuf_detach(&copy);
}

/* ---- addresses ---- */

const char *rpc_address_path(const char *address)
{
    if (strncmp(address, "unix:", 5) != 0) {
        return NULL;
    }
    const char *path = address + 5;
    return strncmp(path, "//", 2) == 0 ? path + 2 : path;
}

status_t rpc_address_check(const char *address)
{
    if (address == NULL || address[0] == '\0') {
        return ST_FAIL(ST_ERR_INVAL, "address is empty; give \"unix:/path\" or \"host:port\"");
    }
    const char *path = rpc_address_path(address);
    if (path != NULL) {
        if (path[0] == '\0') {
            return ST_FAIL(ST_ERR_INVAL, "address \"%s\" has no path", address);
        }
        if (strlen(path) > RPC_MAX_PATH_BYTES) {
            return ST_FAIL(ST_ERR_INVAL, "socket path \"%s\" has %zu bytes; at most %d fit into a socket's address",
                           path, strlen(path), RPC_MAX_PATH_BYTES);
        }
        return ST_OK;
    }
    const char *colon = strrchr(address, ':');
    char *end = NULL;
    long port = colon != NULL ? strtol(colon + 1, &end, 10) : -1;
    if (colon == NULL || colon == address || end == colon + 1 || *end != '\0' || port < 0 || port > 65535) {
        return ST_FAIL(ST_ERR_INVAL, "address \"%s\" is neither \"unix:/path\" nor \"host:port\"", address);
    }
    return ST_OK;
}

/* ---- messages ---- */

status_t rpc_message_pack(const ProtobufCMessage *message, grpc_byte_buffer **buffer_p)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    grpc_slice slice = grpc_slice_malloc(size);
    (void)protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    if (buffer == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "a message of %zu bytes", size);
    }
    *buffer_p = buffer;
    return ST_OK;
}

static bool varint_read(const uint8_t **cursor_p, const uint8_t *end, uint64_t *value_p)
{
    uint64_t value = 0;
    const uint8_t *cursor = *cursor_p;
    for (int shift = 0; shift < 70 && cursor < end; shift += 7) {
        uint8_t byte = *cursor++;
        value |= shift < 64 ? (uint64_t)(byte & 0x7f) << shift : 0;
        if ((byte & 0x80) == 0) {
            *cursor_p = cursor;
            *value_p = value;
            return true;
        }
    }
    return false;
}

bool rpc_wire_next(const uint8_t **cursor_p, const uint8_t *end, rpc_wire_field_t *field_p)
{
    uint64_t key;
    if (!varint_read(cursor_p, end, &key) || key >> 3 == 0 || key >> 3 > UINT32_MAX) {
        return false;
    }
    rpc_wire_field_t field = {.number = (uint32_t)(key >> 3), .wire_type = key & 7};
    size_t skip = 0;
    switch (field.wire_type) {
    case 0:
        if (!varint_read(cursor_p, end, &field.value)) {
            return false;
        }
        break;
    case 1:
        skip = 8;
        break;
    case 2: {
        uint64_t length;
        if (!varint_read(cursor_p, end, &length) || length > (uint64_t)(end - *cursor_p)) {
            return false;
        }
        field.bytes = *cursor_p;
        field.length = (size_t)length;
        skip = field.length;
        break;
    }
    case 5:
        skip = 4;
        break;
    default:
        return false;
    }
    if (skip > (size_t)(end - *cursor_p)) {
        return false;
    }
    *cursor_p += skip;
    *field_p = field;
    return true;
}

/* protobuf-c takes any bytes for a string and cuts it at a NUL: so the wire form is looked at. */
static status_t wire_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t size, int depth)
{
    if (depth > RPC_MAX_DEPTH) {
        return ST_FAIL(ST_ERR_PARSE, "message is nested deeper than %d", RPC_MAX_DEPTH);
    }
    const uint8_t *cursor = bytes;
    const uint8_t *end = bytes + size;
    while (cursor < end) {
        rpc_wire_field_t field;
        if (!rpc_wire_next(&cursor, end, &field)) {
            return ST_FAIL(ST_ERR_PARSE, "malformed %s message", descriptor->name);
        }
        if (field.wire_type != 2) {
            continue;
        }
        const ProtobufCFieldDescriptor *known = protobuf_c_message_descriptor_get_field(descriptor, field.number);
        if (known == NULL) {
            continue;
        }
        if (known->type == PROTOBUF_C_TYPE_MESSAGE) {
            status_t status = wire_check(known->descriptor, field.bytes, field.length, depth + 1);
            if (status != ST_OK) {
                return status;
            }
        }
        if (known->type != PROTOBUF_C_TYPE_STRING) {
            continue;
        }
        for (size_t i = 0; i < field.length;) {
            size_t n = utf8_length(field.bytes + i, field.length - i);
            if (n == 0 || field.bytes[i] == 0) {
                return ST_FAIL(ST_ERR_PARSE, "%s.%s: %s at byte %zu", descriptor->name, known->name,
                               n == 0 ? "not UTF-8" : "a NUL character", i);
            }
            i += n;
        }
    }
    return ST_OK;
}

/* Gives malloc's memory until the limit is used up, so that free can release it without this allocator. */
static void *limited_alloc(void *data, size_t size)
{
    size_t *left = data;
    if (size > *left) {
        return NULL;
    }
    *left -= size;
    return malloc(size);
}

static void limited_free(void *data, void *pointer)
{
    (void)data;
    free(pointer);
}

status_t rpc_bytes_unpack(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t size,
                          size_t limit_bytes, ProtobufCMessage **message_p)
{
    status_t status = wire_check(descriptor, bytes, size, 0);
    if (status != ST_OK) {
        return status;
    }
    size_t left = limit_bytes;
    ProtobufCAllocator allocator = {.alloc = limited_alloc, .free = limited_free, .allocator_data = &left};
    ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, &allocator, size, bytes);
    if (message == NULL) {
        return ST_FAIL(ST_ERR_PARSE, "malformed %s message, or more than %zu bytes when unpacked", descriptor->name,
                       limit_bytes);
    }
    *message_p = message;
    return ST_OK;
}

status_t rpc_message_unpack(const ProtobufCMessageDescriptor *descriptor, grpc_byte_buffer *buffer, size_t limit_bytes,
                            ProtobufCMessage **message_p)
{
    grpc_byte_buffer_reader reader;
    if (!grpc_byte_buffer_reader_init(&reader, buffer)) {
        return ST_FAIL(ST_ERR_PARSE, "unreadable %s message", descriptor->name);
    }
    grpc_slice slice = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    status_t status =
        rpc_bytes_unpack(descriptor, GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice), limit_bytes, message_p);
    grpc_slice_unref(slice);
    return status;
}
