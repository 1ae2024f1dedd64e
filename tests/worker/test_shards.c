/* SPDX-License-Identifier: Apache-2.0 */
/* Shards of tokens (llm.c, nanoGPT) and CIFAR's binary batches. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/worker/dataset_specs.h"

static wrk_dataset_t *dataset;

static size_t word_put(uint8_t *out, uint32_t value, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
    return (size_t)n_bytes;
}

/* magic 0: no header. The tokens are first, first + 1, … */
static void shard_write(const char *name, uint32_t magic, uint32_t version, uint32_t first, uint32_t n, uint32_t claim)
{
    uint8_t bytes[2048] = {0};
    size_t size = 0;
    int token_bytes = version == 7 ? 4 : 2;
    if (magic != 0) {
        (void)word_put(bytes, magic, 4);
        (void)word_put(bytes + 4, version, 4);
        (void)word_put(bytes + 8, claim, 4);
        size = 1024;
    }
    for (uint32_t i = 0; i < n; i++) {
        size += word_put(bytes + size, first + i, token_bytes);
    }
    (void)file_write(name, bytes, size);
}

static void window_expect(int64_t index, int64_t first, int64_t context)
{
    int64_t x[16];
    int64_t y[16];
    assert_ok(wrk_dataset_read(dataset, &index, 1, x, y));
    for (int64_t t = 0; t < context; t++) {
        assert_int_equal(x[t], first + t);
        assert_int_equal(y[t], first + t + 1);
    }
}

static void shards_are_one_stream(void **state)
{
    (void)state;
    shard_write("a_0.bin", 20240520, 1, 100, 10, 10);
    shard_write("a_1.bin", 0, 0, 110, 3, 0);
    shard_write("a_2.bin", 20240801, 7, 113, 7, 7);
    assert_ok(dataset_open("tokens: {path: \"a_*.bin\", context: 6}", NULL, &dataset));
    assert_true(wrk_dataset_is_stream(dataset));
    assert_false(wrk_dataset_is_text(dataset));
    assert_int_equal(wrk_dataset_n_tokens(dataset), 20);
    assert_int_equal(wrk_dataset_count(dataset), 14);
    assert_int_equal(wrk_dataset_n_classes(dataset), 120);
    assert_int_equal(wrk_dataset_eval_count(dataset), 3);
    for (int64_t i = 0; i < 14; i++) {
        window_expect(i, 100 + i, 6);
    }
    assert_fails(wrk_dataset_check_classes(dataset, 118), ST_ERR_DATA,
                 "a_2.bin: offset 1044: token 118; the vocabulary has 118");
    wrk_dataset_close(dataset);

    assert_ok(dataset_open("tokens: {path: \"a_*.bin\", context: 6, part: [0.5, 1]}", NULL, &dataset));
    assert_int_equal(wrk_dataset_count(dataset), 4);
    window_expect(0, 110, 6);
    wrk_dataset_close(dataset);
}

static void a_stated_vocabulary_is_checked_as_tokens_are_read(void **state)
{
    (void)state;
    int64_t x[6];
    int64_t y[6];
    int64_t index = 8;
    shard_write("a.bin", 0, 0, 0, 20, 0);
    assert_ok(dataset_open("tokens: {path: a.bin, context: 6, vocabulary: 14}", NULL, &dataset));
    assert_int_equal(wrk_dataset_n_classes(dataset), 14);
    window_expect(7, 7, 6);
    assert_fails(wrk_dataset_read(dataset, &index, 1, x, y), ST_ERR_DATA,
                 "a.bin: offset 28: token 14; the vocabulary has 14");
    wrk_dataset_close(dataset);
}

static void bad_shards_are_refused(void **state)
{
    (void)state;
    shard_write("a.bin", 20240520, 1, 0, 10, 11);
    dataset_refused("tokens: {path: a.bin, context: 2}", ST_ERR_CORRUPT,
                    "a.bin: truncated: its header (offset 8) says 11");
    shard_write("a.bin", 20240520, 1, 0, 10, 9);
    dataset_refused("tokens: {path: a.bin, context: 2}", ST_ERR_CORRUPT, "a.bin: more bytes follow");
    shard_write("a.bin", 20240520, 2, 0, 10, 10);
    dataset_refused("tokens: {path: a.bin, context: 2}", ST_ERR_UNSUPPORTED, "offset 4: version 2; 1 is read");
    shard_write("a.bin", 0, 0, 0, 10, 0);
    dataset_refused("tokens: {path: a.bin, context: 2, format: llmc}", ST_ERR_CORRUPT, "the header alone has 1024");
    dataset_refused("tokens: {path: a.bin, context: 10}", ST_ERR_DATA, "one window of context 10 takes 11");
    (void)file_write("a.bin", "abc", 3);
    dataset_refused("tokens: {path: a.bin, context: 1}", ST_ERR_CORRUPT, "not a whole number of tokens");
    (void)file_write("a.bin", "", 0);
    dataset_refused("tokens: {path: a.bin, context: 1}", ST_ERR_DATA, "an empty file");
}

enum { PIXELS = 3072 };

static void batch_write(const char *name, int label_bytes, int n, uint8_t first)
{
    static uint8_t bytes[4 * (PIXELS + 2)];
    for (int i = 0; i < n; i++) {
        uint8_t *record = bytes + i * (label_bytes + PIXELS);
        record[0] = (uint8_t)(first + i);
        record[label_bytes - 1] = (uint8_t)(first + i);
        memset(record + label_bytes, 10 * (first + i), PIXELS);
        record[label_bytes + PIXELS - 1] = 255;
    }
    (void)file_write(name, bytes, (size_t)n * (size_t)(label_bytes + PIXELS));
}

static void cifar_is_read_from_a_folder_a_pattern_or_a_file(void **state)
{
    (void)state;
    static float x[PIXELS];
    int64_t y = 0;
    int64_t index = 3;
    batch_write("data_batch_1.bin", 1, 2, 0);
    batch_write("data_batch_2.bin", 1, 2, 2);
    batch_write("test_batch.bin", 1, 1, 7);
    assert_ok(dataset_open("cifar: {path: .}", NULL, &dataset));
    assert_int_equal(wrk_dataset_count(dataset), 4);
    assert_int_equal(wrk_dataset_n_classes(dataset), 10);
    assert_int_equal(wrk_dataset_input(dataset)->n_dims, 3);
    assert_ok(wrk_dataset_read(dataset, &index, 1, x, &y));
    assert_int_equal(y, 3);
    assert_true(x[0] == 30.0F / 255.0F && x[PIXELS - 1] == 1);
    wrk_dataset_close(dataset);
    assert_ok(dataset_open("cifar: {path: ., split: test}", NULL, &dataset));
    assert_int_equal(wrk_dataset_count(dataset), 1);
    wrk_dataset_close(dataset);

    batch_write("train.bin", 2, 3, 0);
    assert_ok(dataset_open("cifar: {path: train.bin, labels: fine}", NULL, &dataset));
    assert_int_equal(wrk_dataset_count(dataset), 3);
    assert_int_equal(wrk_dataset_n_classes(dataset), 100);
    wrk_dataset_close(dataset);
}

static void bad_batches_are_refused(void **state)
{
    (void)state;
    batch_write("a.bin", 1, 2, 9);
    dataset_refused("cifar: {path: a.bin}", ST_ERR_CORRUPT, "a.bin: offset 3073: label 10 of 10 classes");
    dataset_refused("cifar: {path: a.bin, labels: fine}", ST_ERR_CORRUPT, "not a whole number of records of 3074");
    (void)file_write("a.bin", "abc", 3);
    dataset_refused("cifar: {path: a.bin}", ST_ERR_CORRUPT, "truncated at offset 0");
    dataset_refused("cifar: {path: .}", ST_ERR_NOT_FOUND, "neither data_batch_*.bin nor train.bin");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(shards_are_one_stream),   TEST(a_stated_vocabulary_is_checked_as_tokens_are_read),
        TEST(bad_shards_are_refused),  TEST(cifar_is_read_from_a_folder_a_pattern_or_a_file),
        TEST(bad_batches_are_refused),
    };
    return cmocka_run_group_tests_name("shards", tests, NULL, NULL);
}
