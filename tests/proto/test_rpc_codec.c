/* SPDX-License-Identifier: Apache-2.0 */
/* What is unpacked from bytes: truncated, altered and made-up messages; the fuzz target's corpus. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gradd.pb-c.h"
#include "proto/rpc_internal.h"
#include "tests/support/fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { LIMIT = 1024 * 1024 };

#define TEXT(literal_x) ((char *)(uintptr_t)(literal_x))

/* A telemetry message with every kind of field; returns its size. */
static size_t telemetry_pack(uint8_t bytes[512])
{
    Gradd__V1__MetricPoint point = GRADD__V1__METRIC_POINT__INIT, *points[] = {&point};
    Gradd__V1__CheckpointInfo checkpoint = GRADD__V1__CHECKPOINT_INFO__INIT, *checkpoints[] = {&checkpoint};
    Gradd__V1__Telemetry telemetry = GRADD__V1__TELEMETRY__INIT;
    Gradd__V1__WorkerMessage message = GRADD__V1__WORKER_MESSAGE__INIT;
    point.name = TEXT("validation_loss");
    point.has_value = point.has_step = 1;
    point.value = 1.5;
    point.step = INT64_MAX;
    checkpoint.path = TEXT("/état/step-1");
    checkpoint.has_size_bytes = 1;
    checkpoint.size_bytes = -1;
    telemetry.has_sequence = 1;
    telemetry.sequence = 300;
    telemetry.phase = TEXT("training");
    telemetry.n_points = telemetry.n_checkpoints = 1;
    telemetry.points = points;
    telemetry.checkpoints = checkpoints;
    message.telemetry = &telemetry;
    assert_true(protobuf_c_message_get_packed_size(&message.base) <= 512);
    return protobuf_c_message_pack(&message.base, bytes);
}

static status_t unpack(const uint8_t *bytes, size_t size, size_t limit)
{
    ProtobufCMessage *message = NULL;
    uint8_t *copy = malloc(size > 0 ? size : 1); /* exact size, for the sanitizer */
    memcpy(copy, bytes, size);
    status_t status = rpc_bytes_unpack(&gradd__v1__worker_message__descriptor, copy, size, limit, &message);
    free(copy);
    if (status == ST_OK) {
        protobuf_c_message_free_unpacked(message, NULL);
    }
    return status;
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    uint8_t bytes[512];
    size_t size = telemetry_pack(bytes);

    assert_ok(unpack(bytes, size, LIMIT));
    assert_ok(unpack(bytes, 0, LIMIT));
    for (size_t n = 1; n < size; n++) { /* one field that holds all: no prefix is a message */
        assert_fails(unpack(bytes, n, LIMIT), ST_ERR_PARSE, "gradd.v1.WorkerMessage");
    }
}

static void every_altered_byte_is_harmless(void **state)
{
    (void)state;
    uint8_t bytes[512];
    size_t size = telemetry_pack(bytes);
    int n_refused = 0;

    for (size_t i = 0; i < size; i++) {
        uint8_t kept = bytes[i];
        for (int value = 0; value < 256; value++) {
            bytes[i] = (uint8_t)value;
            status_t status = unpack(bytes, size, LIMIT);
            assert_true(status == ST_OK || status == ST_ERR_PARSE);
            n_refused += status != ST_OK;
        }
        bytes[i] = kept;
    }

    assert_true(n_refused > 1000);
}

static void every_memory_limit_is_kept(void **state)
{
    (void)state;
    uint8_t bytes[512];
    size_t size = telemetry_pack(bytes);
    size_t enough = 0;

    while (unpack(bytes, size, enough) != ST_OK) {
        assert_non_null(strstr(status_message(), "bytes when unpacked"));
        enough++;
        assert_true(enough < LIMIT);
    }

    assert_true(enough > size);
}

static void utf8_is_what_rfc_3629_says(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is_good;
    } cases[] = {
        {"", true},
        {"\x7f", true},
        {"\xc2\x80", true},
        {"\xc1\xbf", false}, /* overlong */
        {"\xdf\xbf", true},
        {"\xe0\xa0\x80", true},
        {"\xe0\x9f\xbf", false}, /* overlong */
        {"\xed\x9f\xbf", true},
        {"\xed\xa0\x80", false}, /* surrogate */
        {"\xef\xbf\xbf", true},
        {"\xf0\x90\x80\x80", true},
        {"\xf0\x8f\xbf\xbf", false}, /* overlong */
        {"\xf4\x8f\xbf\xbf", true},
        {"\xf4\x90\x80\x80", false}, /* beyond U+10FFFF */
        {"\x80", false},
        {"\xc2", false},
        {"\xe1\x80", false},
        {"\xf1\x80\x80", false},
        {"\xc2\xc2", false},
        {"\xff", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t bytes[16] = {0x0a, (uint8_t)strlen(cases[i].text)}; /* Entry.key */
        memcpy(bytes + 2, cases[i].text, strlen(cases[i].text));
        ProtobufCMessage *message = NULL;
        status_t status =
            rpc_bytes_unpack(&gradd__v1__entry__descriptor, bytes, strlen(cases[i].text) + 2, LIMIT, &message);
        if (status == ST_OK) {
            protobuf_c_message_free_unpacked(message, NULL);
        }
        assert_int_equal(status, cases[i].is_good ? ST_OK : ST_ERR_PARSE);
    }
}

static void long_details_are_cut_at_a_character(void **state)
{
    (void)state;
    char text[12001];
    for (size_t i = 0; i < 12000; i += 2) {
        memcpy(text + i, "é", 2);
    }
    text[12000] = '\0';

    char *copy = rpc_detail_copy(text);

    /* each é costs six bytes of metadata: 7000 / 6 = 1166 of them */
    assert_int_equal(strlen(copy), 2 * 1166 + strlen("\n(cut)"));
    assert_string_equal(copy + 2 * 1166, "\n(cut)");
    mem_free(copy);
    copy = rpc_detail_copy("");
    assert_string_equal(copy, "");
    mem_free(copy);
}

static void made_up_bytes_are_harmless(void **state)
{
    (void)state;
    uint64_t random = 88172645463325252u; /* xorshift64 */
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[64];
        size_t size = 0;
        for (; size < sizeof(bytes); size++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            bytes[size] = (uint8_t)(random >> 33) & (round % 2 == 0 ? 0xff : 0x1f);
        }
        (void)LLVMFuzzerTestOneInput(bytes, (size_t)(random % (size + 1)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_truncation_is_refused), TEST(every_altered_byte_is_harmless),      TEST(every_memory_limit_is_kept),
        TEST(utf8_is_what_rfc_3629_says),  TEST(long_details_are_cut_at_a_character), TEST(made_up_bytes_are_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
