/* SPDX-License-Identifier: Apache-2.0 */
/* Text datasets (tokens, windows, parts, vocabularies, files) and the order of samples. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "tests/worker/data_files.h"
#include "worker/data/dataset.h"

static wrk_dataset_t *dataset;

typedef struct text_job {
    const char *path;
    bool has_characters;
    double from, to; /* both 0: no part */
    int32_t context;
    const wrk_dataset_t *like;
} text_job_t;

static status_t text_open(text_job_t job, wrk_dataset_t **dataset_p)
{
    Gradd__V1__Text text = GRADD__V1__TEXT__INIT;
    Gradd__V1__Dataset spec = GRADD__V1__DATASET__INIT;
    wrk_dataset_options_t options = {.context = job.context, .like = job.like, .name = "data.train"};
    double part[2] = {job.from, job.to};
    text.path = (char *)(uintptr_t)job.path;
    text.has_tokens = job.has_characters;
    text.tokens = job.has_characters ? GRADD__V1__TEXT__TOKENS__characters : GRADD__V1__TEXT__TOKENS__bytes;
    text.n_part = part[0] > 0.0 || part[1] > 0.0 ? 2 : 0;
    text.part = part;
    spec.kind_case = GRADD__V1__DATASET__KIND_TEXT;
    spec.text = &text;
    return wrk_dataset_open(&spec, &options, dataset_p);
}

static void window_expect(int64_t index, const int64_t *input, const int64_t *target)
{
    int64_t context = wrk_dataset_input(dataset)->numel;
    int64_t x[16];
    int64_t y[16];
    assert_true(context <= 16);
    assert_ok(wrk_dataset_read(dataset, &index, 1, x, y));
    assert_memory_equal(x, input, (size_t)context * sizeof(int64_t));
    assert_memory_equal(y, target, (size_t)context * sizeof(int64_t));
}

/* Decodes the first tokens of a sample into text. */
static void text_expect(int64_t index, const char *expected)
{
    int64_t context = wrk_dataset_input(dataset)->numel;
    int64_t x[64];
    strbuf_t text = {0};
    assert_true(context <= 64);
    assert_ok(wrk_dataset_read(dataset, &index, 1, x, NULL));
    wrk_dataset_decode(dataset, x, context, &text);
    assert_string_equal(strbuf_text(&text), expected);
    strbuf_release(&text);
}

static void bytes_are_their_own_tokens(void **state)
{
    (void)state;
    assert_ok(text_open((text_job_t){.path = file_write("t", "ab\xff\x00z", 5), .context = 3}, &dataset));

    assert_true(wrk_dataset_is_text(dataset));
    assert_int_equal(wrk_dataset_n_classes(dataset), 256);
    assert_int_equal(wrk_dataset_n_tokens(dataset), 5);
    assert_int_equal(wrk_dataset_count(dataset), 2);
    assert_int_equal(wrk_dataset_input(dataset)->dtype, GD_DTYPE_I64);
    assert_int_equal(wrk_dataset_target(dataset)->shape[0], 3);
    window_expect(0, (int64_t[]){'a', 'b', 255}, (int64_t[]){'b', 255, 0});
    window_expect(1, (int64_t[]){'b', 255, 0}, (int64_t[]){255, 0, 'z'});
    wrk_dataset_close(dataset);
}

static void characters_are_numbered_in_ascending_order(void **state)
{
    (void)state;
    /* z 0x7A, é 0xE9, € 0x20AC, 😀 0x1F600 */
    assert_ok(
        text_open((text_job_t){.path = file_write_text("t", "😀z€éz"), .has_characters = true, .context = 4}, &dataset));

    assert_int_equal(wrk_dataset_n_classes(dataset), 4);
    window_expect(0, (int64_t[]){3, 0, 2, 1}, (int64_t[]){0, 2, 1, 0});
    text_expect(0, "😀z€é");
    wrk_dataset_close(dataset);
}

static void encode_is_the_inverse_of_decode(void **state)
{
    (void)state;
    int64_t *tokens = NULL;
    int64_t n = 0;
    strbuf_t bytes = {0};
    assert_ok(
        text_open((text_job_t){.path = file_write_text("t", "😀z€éz"), .has_characters = true, .context = 2}, &dataset));

    assert_ok(wrk_dataset_encode(dataset, "é😀", strlen("é😀"), &tokens, &n));
    assert_int_equal(n, 2);
    assert_int_equal(tokens[0], 1);
    assert_int_equal(tokens[1], 3);
    wrk_dataset_decode(dataset, (int64_t[]){1, 4, -1, 3}, 4, &bytes);
    assert_string_equal(strbuf_text(&bytes), "é😀");
    strbuf_release(&bytes);
    mem_free(tokens);
    assert_fails(wrk_dataset_encode(dataset, "zQ", 2, &tokens, &n), ST_ERR_DATA,
                 "offset 1 of the text: character U+0051 does not occur");
    assert_fails(wrk_dataset_encode(dataset, "\xe9", 1, &tokens, &n), ST_ERR_DATA, "byte 0xe9 is not UTF-8");
    wrk_dataset_close(dataset);
}

static void parts_share_the_like_the_whole_file(void **state)
{
    (void)state;
    text_job_t job = {
        .path = file_write_text("t", "aaaaaaaabz"), .has_characters = true, .context = 1, .from = 0.0, .to = 0.8};
    assert_ok(text_open(job, &dataset));
    assert_int_equal(wrk_dataset_n_classes(dataset), 3);
    assert_int_equal(wrk_dataset_n_tokens(dataset), 8);
    wrk_dataset_close(dataset);

    job.from = 0.8;
    job.to = 1.0;
    assert_ok(text_open(job, &dataset));
    assert_int_equal(wrk_dataset_n_classes(dataset), 3);
    assert_int_equal(wrk_dataset_count(dataset), 1);
    window_expect(0, (int64_t[]){1}, (int64_t[]){2});
    wrk_dataset_close(dataset);
}

static void another_file_can_use_the_training_vocabulary(void **state)
{
    (void)state;
    wrk_dataset_t *train = NULL;
    text_job_t job = {.path = file_write_text("train", "abcdxyz"), .has_characters = true, .context = 2};
    assert_ok(text_open(job, &train));

    job.like = train;
    job.path = file_write_text("good", "zad");
    assert_ok(text_open(job, &dataset));
    assert_int_equal(wrk_dataset_n_classes(dataset), 7);
    window_expect(0, (int64_t[]){6, 0}, (int64_t[]){0, 3});
    wrk_dataset_close(dataset);
    job.path = file_write_text("bad", "abcéa");
    assert_fails(text_open(job, &dataset), ST_ERR_DATA, "bad: offset 3: character U+00E9 does not occur");
    job.has_characters = false;
    assert_fails(text_open(job, &dataset), ST_ERR_INVAL, "text.tokens is bytes, but the training data's is characters");
    wrk_dataset_close(train);
}

static void a_folder_is_its_files_in_name_order(void **state)
{
    (void)state;
    char path[128];
    (void)file_write_text("b.txt", "B1");
    (void)file_write_text("a.txt", "A1");
    (void)file_write_text("c.md", "C1");
    (void)file_write_text(".hidden", "H1");
    (void)snprintf(path, sizeof(path), "%s/sub", fixture_folder());
    assert_int_equal(mkdir(path, 0700), 0);
    (void)file_write_text("sub/d.txt", "D1");

    assert_ok(text_open((text_job_t){.path = fixture_folder(), .context = 5}, &dataset));
    text_expect(0, "A1B1C");
    assert_int_equal(wrk_dataset_n_tokens(dataset), 6);
    wrk_dataset_close(dataset);
}

static void a_pattern_is_its_matches_in_name_order(void **state)
{
    (void)state;
    char pattern[128];
    (void)file_write_text("b.txt", "B1");
    (void)file_write_text("a.txt", "A1");
    (void)file_write_text("c.md", "C1");
    (void)file_write_text("x[1].md", "X1");
    (void)file_write_text("star*.md", "S1");

    (void)snprintf(pattern, sizeof(pattern), "%s/?.txt", fixture_folder());
    assert_ok(text_open((text_job_t){.path = pattern, .context = 3}, &dataset));
    text_expect(0, "A1B");
    wrk_dataset_close(dataset);
    (void)snprintf(pattern, sizeof(pattern), "%s/x[1]*", fixture_folder());
    assert_ok(text_open((text_job_t){.path = pattern, .context = 1}, &dataset));
    text_expect(0, "X");
    wrk_dataset_close(dataset);
    (void)snprintf(pattern, sizeof(pattern), "%s/star*.md", fixture_folder());
    assert_ok(text_open((text_job_t){.path = pattern, .context = 1}, &dataset));
    text_expect(0, "S");
    wrk_dataset_close(dataset);
    (void)snprintf(pattern, sizeof(pattern), "%s/*.nothing", fixture_folder());
    assert_fails(text_open((text_job_t){.path = pattern, .context = 3}, &dataset), ST_ERR_NOT_FOUND, "no file matches");
}

static void what_is_not_utf8_is_named_with_its_offset(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "ab\xff",             /* no lead byte */
        "ab\x80",             /* continuation without one */
        "ab\xc3",             /* cut off at the end */
        "ab\xc3z",            /* no continuation */
        "ab\xc0\x80",         /* overlong NUL */
        "ab\xe0\x80\xaf",     /* overlong slash */
        "ab\xed\xa0\x80",     /* surrogate */
        "ab\xf4\x90\x80\x80", /* above U+10FFFF */
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        text_job_t job = {.path = file_write_text("t", bad[i]), .has_characters = true, .context = 1};
        assert_fails(text_open(job, &dataset), ST_ERR_DATA, "t: offset 2: byte 0x");
        job.has_characters = false;
        assert_ok(text_open(job, &dataset));
        wrk_dataset_close(dataset);
    }
    (void)file_write_text("1", "é");
    text_job_t job = {.path = fixture_folder(), .has_characters = true, .context = 1};
    (void)file_write_text("t", "a\xc3");
    (void)file_write_text("u", "\xa9"); /* the rest of the character, in the next file, doesn't complete it */
    assert_fails(text_open(job, &dataset), ST_ERR_DATA, "/t: offset 1: byte 0xc3");
}

static void too_few_tokens_for_a_window_are_refused(void **state)
{
    (void)state;
    text_job_t job = {.path = file_write_text("t", "0123456789"), .context = 10};
    assert_fails(text_open(job, &dataset), ST_ERR_DATA, "has 10; one window of context 10 takes 11");
    job.from = 0.5;
    job.to = 0.7;
    job.context = 2;
    assert_fails(text_open(job, &dataset), ST_ERR_DATA, "part [0.5, 0.7) of its 10 tokens has 2");
    job.context = 0;
    assert_fails(text_open(job, &dataset), ST_ERR_INVAL, "text.context is 0");
    job.context = 1;
    job.to = 0.2;
    assert_fails(text_open(job, &dataset), ST_ERR_INVAL, "text.part [0.5, 0.2)");
    job.path = file_write("empty", "", 0);
    job.from = job.to = 0.0;
    assert_fails(text_open(job, &dataset), ST_ERR_DATA, "has 0; one window");
    job.path = "/nowhere/*.txt";
    assert_fails(text_open(job, &dataset), ST_ERR_NOT_FOUND, "data.train: /nowhere/*.txt: no file matches");
    job.path = "/nowhere/a.txt";
    assert_fails(text_open(job, &dataset), ST_ERR_NOT_FOUND, "/nowhere/a.txt: No such file");
    job.path = NULL;
    assert_fails(text_open(job, &dataset), ST_ERR_INVAL, "text.path is missing");
}

static void a_vocabulary_beyond_the_models_is_refused(void **state)
{
    (void)state;
    text_job_t job = {.path = file_write_text("t", "abcd"), .has_characters = true, .context = 1};
    assert_ok(text_open(job, &dataset));
    assert_ok(wrk_dataset_check_classes(dataset, 4));
    assert_fails(wrk_dataset_check_classes(dataset, 3), ST_ERR_DATA, "a vocabulary of 4 characters; the model has 3");
    wrk_dataset_close(dataset);
}

static void a_large_vocabulary_takes_wider_tokens(void **state)
{
    (void)state;
    enum { N = 700 };
    char text[N * 2 + 1];
    for (int i = 0; i < N; i++) { /* U+0100 … */
        text[2 * i] = (char)(0xC0 | ((0x100 + i) >> 6));
        text[2 * i + 1] = (char)(0x80 | (i & 0x3F));
    }
    assert_ok(
        text_open((text_job_t){.path = file_write("t", text, N * 2), .has_characters = true, .context = 2}, &dataset));
    assert_int_equal(wrk_dataset_n_classes(dataset), N);
    window_expect(N - 3, (int64_t[]){N - 3, N - 2}, (int64_t[]){N - 2, N - 1});
    wrk_dataset_close(dataset);
}

static void tinyshakespeare_is_split_as_published(void **state)
{
    (void)state;
    const char *path = fixture_data("shakespeare/input.txt");
    if (path == NULL) {
        FIXTURE_SKIP("shakespeare is not in the data folder");
    }
    text_job_t job = {.path = path, .has_characters = true, .context = 64, .from = 0.0, .to = 0.9};
    assert_ok(text_open(job, &dataset));
    assert_int_equal(wrk_dataset_n_classes(dataset), 65);
    assert_int_equal(wrk_dataset_n_tokens(dataset), 1003854); /* nanoGPT's data/shakespeare_char/readme.md */
    text_expect(0, "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAl");
    wrk_dataset_close(dataset);
    job.from = 0.9;
    job.to = 1.0;
    assert_ok(text_open(job, &dataset));
    assert_int_equal(wrk_dataset_n_tokens(dataset), 111540);
    wrk_dataset_close(dataset);
}

/* ---- order ---- */

static void images_open(uint8_t n)
{
    uint8_t images[16 + 255] = {0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, 1, 0, 0, 0, 1};
    uint8_t labels[8 + 255] = {0, 0, 8, 1, 0, 0, 0, n};
    Gradd__V1__Idx idx = GRADD__V1__IDX__INIT;
    Gradd__V1__Dataset spec = GRADD__V1__DATASET__INIT;
    idx.images = (char *)(uintptr_t)file_write("images", images, 16u + n);
    idx.labels = (char *)(uintptr_t)file_write("labels", labels, 8u + n);
    spec.kind_case = GRADD__V1__DATASET__KIND_IDX;
    spec.idx = &idx;
    assert_ok(wrk_dataset_open(&spec, NULL, &dataset));
}

static void an_epoch_takes_every_image_at_most_once(void **state)
{
    (void)state;
    wrk_order_t *order = NULL;
    images_open(103);
    assert_ok(wrk_order_open(dataset, 7, 10, &order));
    int64_t first_epoch[100];
    int64_t second_epoch[100];
    int n_seen[103] = {0};

    assert_int_equal(wrk_order_steps_per_epoch(order), 10);
    for (int64_t step = 0; step < 10; step++) {
        assert_ok(wrk_order_get(order, step, 0, 10, first_epoch + step * 10));
        assert_ok(wrk_order_get(order, step + 10, 0, 10, second_epoch + step * 10));
    }
    for (int i = 0; i < 100; i++) {
        assert_in_range(first_epoch[i], 0, 102);
        n_seen[first_epoch[i]]++;
        assert_int_equal(n_seen[first_epoch[i]], 1);
    }
    assert_memory_not_equal(first_epoch, second_epoch, sizeof(first_epoch));

    wrk_order_close(order);
    wrk_dataset_close(dataset);
}

static void order_is_a_pure_function_of_seed_and_step(void **state)
{
    (void)state;
    wrk_order_t *all = NULL;
    wrk_order_t *piecewise = NULL;
    wrk_order_t *other = NULL;
    int64_t a[12];
    int64_t b[12];
    for (int is_text = 0; is_text < 2; is_text++) {
        if (is_text) {
            char text[500];
            memset(text, 'x', sizeof(text));
            assert_ok(text_open((text_job_t){.path = file_write("t", text, sizeof(text)), .context = 8}, &dataset));
        } else {
            images_open(100);
        }
        assert_ok(wrk_order_open(dataset, 1337, 12, &all));
        assert_ok(wrk_order_open(dataset, 1337, 12, &piecewise));
        assert_ok(wrk_order_open(dataset, 1338, 12, &other));
        for (int64_t step = 40; step >= 0; step -= 5) { /* resumed anywhere, asked in any order, in shares */
            assert_ok(wrk_order_get(all, step, 0, 12, a));
            assert_ok(wrk_order_get(piecewise, step, 6, 6, b + 6));
            assert_ok(wrk_order_get(piecewise, step, 0, 6, b));
            assert_memory_equal(a, b, sizeof(a));
            assert_ok(wrk_order_get(other, step, 0, 12, b));
            assert_memory_not_equal(a, b, sizeof(a));
        }
        assert_fails(wrk_order_get(all, 0, 6, 7, a), ST_ERR_RANGE, "whose batch has 12");
        wrk_order_close(all);
        wrk_order_close(piecewise);
        wrk_order_close(other);
        wrk_dataset_close(dataset);
    }
}

static void text_windows_start_anywhere_in_the_part(void **state)
{
    (void)state;
    wrk_order_t *order = NULL;
    int n_at[22] = {0};
    assert_ok(
        text_open((text_job_t){.path = file_write_text("t", "abcdefghijklmnopqrstuvwxyz"), .context = 4}, &dataset));
    assert_ok(wrk_order_open(dataset, 3, 2, &order));
    assert_int_equal(wrk_order_steps_per_epoch(order), 3);
    for (int64_t step = 0; step < 2000; step++) {
        int64_t indices[2];
        assert_ok(wrk_order_get(order, step, 0, 2, indices));
        for (int i = 0; i < 2; i++) {
            assert_in_range(indices[i], 0, 21);
            n_at[indices[i]]++;
        }
    }
    for (int i = 0; i < 22; i++) {
        assert_in_range(n_at[i], 120, 245); /* 4000 draws over 22 places: 182 ± 4.8 standard deviations */
    }
    wrk_order_close(order);
    wrk_dataset_close(dataset);
}

static void less_than_a_batch_is_refused(void **state)
{
    (void)state;
    wrk_order_t *order = NULL;
    images_open(9);
    assert_fails(wrk_order_open(dataset, 1, 10, &order), ST_ERR_DATA, "has 9 samples, less than one batch of 10");
    assert_fails(wrk_order_open(dataset, 1, 0, &order), ST_ERR_INVAL, "batch of 0");
    wrk_dataset_close(dataset);
}

static void evaluation_covers_the_dataset_once(void **state)
{
    (void)state;
    assert_ok(
        text_open((text_job_t){.path = file_write_text("t", "abcdefghijklmnopqrstuvwxyz"), .context = 4}, &dataset));
    assert_int_equal(wrk_dataset_eval_count(dataset), 6); /* (26 - 1) / 4 */
    for (int64_t i = 0; i < 6; i++) {
        assert_int_equal(wrk_dataset_eval_index(dataset, i, 6), 4 * i);
    }
    assert_int_equal(wrk_dataset_eval_index(dataset, 1, 2), 12);
    assert_true(wrk_dataset_eval_index(dataset, 5, 6) < wrk_dataset_count(dataset));
    wrk_dataset_close(dataset);

    images_open(100);
    assert_int_equal(wrk_dataset_eval_count(dataset), 100);
    assert_int_equal(wrk_dataset_eval_index(dataset, 99, 100), 99);
    int64_t previous = -1;
    for (int64_t i = 0; i < 30; i++) {
        int64_t index = wrk_dataset_eval_index(dataset, i, 30);
        assert_true(index > previous && index < 100);
        previous = index;
    }
    wrk_dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bytes_are_their_own_tokens),
        TEST(characters_are_numbered_in_ascending_order),
        TEST(encode_is_the_inverse_of_decode),
        TEST(parts_share_the_like_the_whole_file),
        TEST(another_file_can_use_the_training_vocabulary),
        TEST(a_folder_is_its_files_in_name_order),
        TEST(a_pattern_is_its_matches_in_name_order),
        TEST(what_is_not_utf8_is_named_with_its_offset),
        TEST(too_few_tokens_for_a_window_are_refused),
        TEST(a_vocabulary_beyond_the_models_is_refused),
        TEST(a_large_vocabulary_takes_wider_tokens),
        TEST(tinyshakespeare_is_split_as_published),
        TEST(an_epoch_takes_every_image_at_most_once),
        TEST(order_is_a_pure_function_of_seed_and_step),
        TEST(text_windows_start_anywhere_in_the_part),
        TEST(less_than_a_batch_is_refused),
        TEST(evaluation_covers_the_dataset_once),
    };
    return cmocka_run_group_tests_name("text and order", tests, NULL, NULL);
}
