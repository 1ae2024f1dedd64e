/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spec_packed: JobSpec's packed form: what the store holds and workers get.
 *
 * Note [Stored jobs outlive the daemon]
 * A job is packed by the gradd that took it and unpacked by every later one. So a field's number keeps its type and its
 * default for ever; tests/proto/schema.txt holds all of them, and a test compares. A number that is given up is
 * reserved in job.proto and stands in `old_fields` below, with what becomes of its value. Any other number that the
 * schema doesn't know was stored by a newer gradd: training without it would be another job, so it is refused.
 */
#include "base/mem.h"
#include "proto/spec.h"
#include "proto/spec_internal.h"

enum { MAX_MESSAGE_DEPTH = 2 * SPEC_MAX_DEPTH + 8 };

status_t spec_job_pack(const spec_job_t *job, uint8_t **bytes_p, size_t *size_p)
{
    size_t size = gradd__v1__job_spec__get_packed_size(job);
    if (size > SPEC_MAX_PACKED_BYTES) {
        return ST_FAIL(ST_ERR_RANGE, "a job of %zu bytes; at most %d", size, SPEC_MAX_PACKED_BYTES);
    }
    uint8_t *bytes = mem_alloc(size);
    if (bytes == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "a job of %zu bytes", size);
    }
    (void)gradd__v1__job_spec__pack(job, bytes);
    *bytes_p = bytes;
    *size_p = size;
    return ST_OK;
}

static bool varint_read(const uint8_t **at, const uint8_t *end, uint64_t *value_p)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
        uint8_t byte = *(*at)++;
        value |= (uint64_t)(byte & 0x7fu) << shift;
        if ((byte & 0x80u) == 0) {
            *value_p = value;
            return true;
        }
    }
    return false;
}

/* ---- numbers that older ones of us stored ---- */

/* Training.loss was an enum, whose values were the numbers of today's messages less one. */
static status_t loss_name_read(spec_job_t *job, uint64_t value)
{
    enum { N_NAMES = 12 };
    if (value >= N_NAMES) {
        return ST_FAIL(ST_ERR_PARSE, "a stored job's loss %llu is not known", (unsigned long long)value);
    }
    uint8_t message[2] = {(uint8_t)(((unsigned)value + 1) << 3 | 2), 0}; /* this kind, with its defaults */
    Gradd__V1__Loss *loss = gradd__v1__loss__unpack(&spec_allocator, sizeof(message), message);
    if (loss == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "a loss");
    }
    if (job->training->loss != NULL) {
        spec_message_free(&job->training->loss->base);
    }
    job->training->loss = loss;
    return ST_OK;
}

typedef struct old_field {
    const ProtobufCMessageDescriptor *message;
    uint32_t number;
    status_t (*read)(spec_job_t *job, uint64_t value); /* of a varint */
} old_field_t;

static const old_field_t old_fields[] = {
    {&gradd__v1__training__descriptor, 8, loss_name_read},
};

static const old_field_t *old_field_find(const ProtobufCMessageDescriptor *message, uint32_t number)
{
    for (size_t i = 0; i < sizeof(old_fields) / sizeof(old_fields[0]); i++) {
        if (old_fields[i].message == message && old_fields[i].number == number) {
            return &old_fields[i];
        }
    }
    return NULL;
}

/* The fields of old numbers in one message that is there once in a job; protobuf-c keeps them as unknown ones. */
static status_t old_fields_read(spec_job_t *job, ProtobufCMessage *message)
{
    status_t status = ST_OK;
    for (unsigned i = 0; message != NULL && i < message->n_unknown_fields && status == ST_OK; i++) {
        const ProtobufCMessageUnknownField *field = &message->unknown_fields[i];
        const old_field_t *old = old_field_find(message->descriptor, field->tag);
        const uint8_t *at = field->data;
        uint64_t value = 0;
        if (old != NULL && field->wire_type == PROTOBUF_C_WIRE_TYPE_VARINT &&
            varint_read(&at, field->data + field->len, &value)) {
            status = old->read(job, value);
        }
    }
    return status;
}

/* ---- unpacking ---- */

/* Walks the nesting by the descriptors, as deep as allowed; protobuf-c itself would recurse without end. */
static status_t packed_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *at, const uint8_t *end,
                             int depth)
{
    if (depth > MAX_MESSAGE_DEPTH) {
        return ST_FAIL(ST_ERR_PARSE, "a packed job nested deeper than %d messages", MAX_MESSAGE_DEPTH);
    }
    while (at < end) {
        uint64_t tag = 0;
        uint64_t length = 0;
        bool is_good = varint_read(&at, end, &tag) && tag >> 3 <= UINT32_MAX >> 3;
        unsigned wire = (unsigned)(tag & 7u);
        if (is_good && wire == 0) {
            is_good = varint_read(&at, end, &length);
            length = 0;
        } else if (is_good && (wire == 1 || wire == 5)) {
            length = wire == 1 ? 8 : 4;
        } else if (is_good && wire == 2) {
            is_good = varint_read(&at, end, &length);
        } else {
            is_good = false;
        }
        if (!is_good || length > (uint64_t)(end - at)) {
            return ST_FAIL(ST_ERR_PARSE, "a packed job is damaged in %s", spec_message_name(descriptor));
        }
        uint32_t number = (uint32_t)(tag >> 3);
        const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(descriptor, number);
        if (field == NULL && old_field_find(descriptor, number) == NULL) {
            return ST_FAIL(ST_ERR_PARSE,
                           "a packed job has field %u in %s, which gradd " GRADD_VERSION
                           " doesn't know: a newer gradd stored it",
                           number, spec_message_name(descriptor));
        }
        if (field != NULL && field->type == PROTOBUF_C_TYPE_MESSAGE && wire == 2) {
            status_t status = packed_check(field->descriptor, at, at + length, depth + 1);
            if (status != ST_OK) {
                return status;
            }
        }
        at += length;
    }
    return ST_OK;
}

status_t spec_job_unpack(const uint8_t *bytes, size_t size, spec_job_t **job_p)
{
    if (size > SPEC_MAX_PACKED_BYTES) {
        return ST_FAIL(ST_ERR_PARSE, "a packed job of %zu bytes; at most %d", size, SPEC_MAX_PACKED_BYTES);
    }
    status_t status = packed_check(&gradd__v1__job_spec__descriptor, bytes, bytes + size, 0);
    if (status != ST_OK) {
        return status;
    }
    spec_job_t *job = gradd__v1__job_spec__unpack(&spec_allocator, size, bytes);
    if (job == NULL) {
        return ST_FAIL(ST_ERR_PARSE, "a packed job of %zu bytes is damaged", size);
    }
    status = job->training != NULL ? old_fields_read(job, &job->training->base) : ST_OK;
    if (status != ST_OK) {
        spec_job_free(job);
        return status;
    }
    *job_p = job;
    return ST_OK;
}
