/* SPDX-License-Identifier: Apache-2.0 */
/* Training on every kind of data: the same bits on 1, 2 and 4 ranks, and whatever reads ahead. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "gradd/npy.h"
#include "tests/worker/data_files.h"
#include "tests/worker/session_runs.h"
#include "worker/files.h"

static const char MODEL_IMAGES[] =
    "[{max_pool2d: {kernel: 4}}, flatten, {linear: {out: 16}}, relu, {linear: {out: 10}}]";

static run_t first;
static run_t other;

static uint32_t noise(uint32_t *state)
{
    *state = *state * 1664525U + 1013904223U;
    return *state >> 16;
}

/* `set` holds data.train and data.validation; 1 rank against 2 and 4, and 4 reader threads against none. */
static void layouts_compare(const char *model, const char *const *set)
{
    const char *more[8] = {NULL};
    int n = 0;
    for (; set[n] != NULL; n++) {
        more[n] = set[n];
    }
    more[n] = "data.prefetch={threads: 0}";
    spec_job_t *job = run_job(model, 4, more);
    memset(&first, 0, sizeof(first));
    run_ok(job, 1, &first);
    spec_job_free(job);
    assert_int_equal(first.result.step, 12);
    more[n] = "data.prefetch={threads: 3, batches: 3}";
    job = run_job(model, 4, more);
    for (int ranks = 2; ranks <= 4; ranks *= 2) {
        run_folder_clear();
        memset(&other, 0, sizeof(other));
        run_ok(job, ranks, &other);
        assert_string_equal(other.result.parameters_sha256, first.result.parameters_sha256);
        assert_true(run_point(&first, "validation_loss", 12) == run_point(&other, "validation_loss", 12));
    }
    run_folder_clear();
    spec_job_free(job);
}

static bool has_point(const run_t *run, const char *name)
{
    for (int i = 0; i < run->n_points; i++) {
        if (strcmp(run->points[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static void table_write(const char *name, int n, bool has_classes)
{
    strbuf_t text = {0};
    uint32_t seed = 3;
    strbuf_append(&text, "a,b,c,y,z\n");
    for (int i = 0; i < n; i++) {
        int a = (int)(noise(&seed) % 100);
        int b = (int)(noise(&seed) % 100);
        strbuf_appendf(&text, "%d,%d,%d,", a, b, (int)(noise(&seed) % 9));
        if (has_classes) {
            strbuf_appendf(&text, "%s,0\n", a + b > 100 ? "high" : "low");
        } else {
            strbuf_appendf(&text, "%d.%d,%d\n", (a - b) / 100, a, a);
        }
    }
    (void)file_write_text(name, strbuf_text(&text));
    strbuf_release(&text);
}

static void a_table_of_values_trains_by_every_elementwise_loss(void **state)
{
    (void)state;
    static const char *const losses[] = {"training.loss=mse", "training.loss=l1", "training.loss=huber"};
    table_write("train.csv", 96, false);
    table_write("val.csv", 20, false);
    for (size_t i = 0; i < sizeof(losses) / sizeof(losses[0]); i++) {
        const char *const set[] = {"data.train={csv: {path: train.csv, target: [y, z], normalize: true}}",
                                   "data.validation={csv: {path: val.csv, target: [y, z], normalize: true}}", losses[i],
                                   NULL};
        layouts_compare("[{linear: {out: 8}}, relu, {linear: {out: 2}}]", set);
        assert_false(has_point(&first, "training_accuracy"));
        assert_false(has_point(&first, "validation_accuracy"));
    }
}

static void squared_error_of_values_is_their_mean_over_columns(void **state)
{
    (void)state;
    (void)file_write_text("t.csv", "a,y,z\n1,3,5\n1,3,5\n1,3,5\n1,3,5\n");
    const char *const set[] = {"data.train={csv: {path: t.csv, target: [y, z]}}",
                               "data.validation={csv: {path: t.csv, target: [y, z]}}",
                               "training.loss=mse",
                               "training.steps=1",
                               "training.batch=4",
                               NULL};
    spec_job_t *job =
        run_job("[{linear: {out: 2, init: {constant: {value: 0}}, bias_init: {constant: {value: 1}}}}]", 2, set);
    memset(&first, 0, sizeof(first));
    run_ok(job, 2, &first);
    assert_true(fabs(run_point(&first, "loss", 1) - (4.0 + 16.0) / 2) < 1e-6);
    spec_job_free(job);
}

static void a_table_of_classes_trains(void **state)
{
    (void)state;
    table_write("train.csv", 96, true);
    const char *const set[] = {
        "data.train={csv: {path: train.csv, target: [y], classes: true, normalize: true, part: [0, 0.8]}}",
        "data.validation={csv: {path: train.csv, target: [y], classes: true, normalize: true, part: [0.8, 1]}}", NULL};
    layouts_compare("[{linear: {out: 8}}, relu, {linear: {out: 2}}]", set);
    assert_true(has_point(&first, "validation_accuracy"));
}

static void a_model_of_another_width_than_the_values_is_refused(void **state)
{
    (void)state;
    table_write("train.csv", 96, false);
    const char *const set[] = {"data.train={csv: {path: train.csv, target: [y, z]}}",
                               "data.validation={csv: {path: train.csv, target: [y, z]}}", "training.loss=mse", NULL};
    spec_job_t *job = run_job("[{linear: {out: 3}}]", 2, set);
    memset(&first, 0, sizeof(first));
    run_ranks(job, 1, &first);
    assert_int_equal(first.status, ST_ERR_DATA);
    assert_non_null(strstr(first.message, "a target has 2 values; the last dimension of the model's output is 3"));
    spec_job_free(job);
}

static void tokens_train(void **state)
{
    (void)state;
    uint16_t tokens[2000];
    uint32_t seed = 9;
    for (int i = 0; i < 2000; i++) {
        tokens[i] = (uint16_t)(i % 3 == 0 ? 5 : noise(&seed) % 27);
    }
    (void)file_write("train_000.bin", tokens, 2000);
    (void)file_write("train_001.bin", tokens + 1000, 2000);
    const char *const set[] = {"data.train={tokens: {path: \"train_*.bin\", part: [0, 0.9]}}",
                               "data.validation={tokens: {path: \"train_*.bin\", part: [0.9, 1]}}", NULL};
    layouts_compare(MODEL_GPT, set);
    assert_true(has_point(&first, "tokens_per_second"));
}

static void cifar_trains(void **state)
{
    (void)state;
    static uint8_t bytes[60 * 3073];
    uint32_t seed = 4;
    for (int i = 0; i < 60; i++) {
        uint8_t label = (uint8_t)(noise(&seed) % 10);
        bytes[i * 3073] = label;
        for (int p = 0; p < 3072; p++) {
            bytes[i * 3073 + 1 + p] = (uint8_t)(noise(&seed) % 64 + label * 19);
        }
    }
    (void)file_write("data_batch_1.bin", bytes, 48 * 3073);
    (void)file_write("test_batch.bin", bytes + 48 * 3073, 12 * 3073);
    const char *const set[] = {"data.train={cifar: {path: .}}", "data.validation={cifar: {path: ., split: test}}",
                               NULL};
    layouts_compare(MODEL_IMAGES, set);
    const char *const augmented[] = {
        "data.train={cifar: {path: ., augment: [{random_crop: {size: 32, padding: 4}}, horizontal_flip, "
        "{color_jitter: {brightness: 0.2, contrast: 0.2, saturation: 0.2, hue: 0.1}}, {random_erasing: {p: 0.5}}, "
        "{mixup: {alpha: 0.4, p: 0.6}}, {cutmix: {alpha: 1}}, {normalize: {mean: 0.4, std: [0.2, 0.3, 0.2]}}]}}",
        "data.validation={cifar: {path: ., split: test, augment: [{normalize: {mean: 0.4, std: [0.2, 0.3, 0.2]}}]}}",
        "training.label_smoothing=0.1", NULL};
    layouts_compare(MODEL_IMAGES, augmented);
    assert_true(has_point(&first, "training_accuracy"));
    assert_true(has_point(&first, "validation_accuracy"));
}

/* A job that is left and resumed in the middle of an epoch sees the same augmented samples. */
static void augmented_training_resumes_to_the_same_bits(void **state)
{
    (void)state;
    const char *const set[] = {
        "data.train={idx: {images: train-images, labels: train-labels, normalize: [0.3, 0.4], "
        "augment: [{random_crop: {size: 8, padding: 2}}, {noise: {std: 0.1}}, {mixup: {alpha: 1}}]}}",
        "data.prefetch={threads: 2, batches: 4}", NULL};
    spec_job_t *job = run_job(MODEL_MLP, 4, set);
    memset(&first, 0, sizeof(first));
    run_ok(job, 2, &first);
    run_folder_clear();
    memset(&other, 0, sizeof(other));
    other.last_step = 7; /* the last checkpoint is of step 5 */
    run_ranks(job, 1, &other);
    memset(&other, 0, sizeof(other));
    other.attempt = 2;
    run_ok(job, 4, &other);
    assert_string_equal(other.result.parameters_sha256, first.result.parameters_sha256);
    spec_job_free(job);
}

static void array_write(const char *name, gd_dtype_t dtype, int n_dims, const int64_t *shape, const void *data)
{
    char path[256];
    gd_tensor_t *t = NULL;
    (void)snprintf(path, sizeof(path), "%s/%s", fixture_folder(), name);
    assert_ok(gd_tensor_from_data(dtype, n_dims, shape, data, &t));
    assert_ok(gd_npy_save(path, t));
    (void)gd_tensor_unref(t);
}

static void arrays_train_by_labels_values_and_shares(void **state)
{
    (void)state;
    static float inputs[60][6];
    static float shares[60][3];
    int32_t labels[60];
    uint32_t seed = 6;
    for (int i = 0; i < 60; i++) {
        labels[i] = (int32_t)(noise(&seed) % 3);
        for (int k = 0; k < 6; k++) {
            inputs[i][k] = (float)(noise(&seed) % 100) / 100 + (k == labels[i] ? 1.0F : 0.0F);
        }
        for (int k = 0; k < 3; k++) {
            shares[i][k] = k == labels[i] ? 0.8F : 0.1F;
        }
    }
    array_write("x.npy", GD_DTYPE_F32, 2, (int64_t[]){60, 6}, inputs);
    array_write("shares.npy", GD_DTYPE_F32, 2, (int64_t[]){60, 3}, shares);
    array_write("labels.npy", GD_DTYPE_I32, 1, (int64_t[]){60}, labels);
    static const char *const targets[] = {"labels", "shares", "shares"};
    static const char *const losses[] = {"training.loss=cross_entropy", "training.loss=cross_entropy",
                                         "training.loss=mse"};
    for (int i = 0; i < 3; i++) {
        char train[128];
        char validation[128];
        (void)snprintf(train, sizeof(train), "data.train={npy: {inputs: x.npy, targets: %s.npy, part: [0, 0.8]}}",
                       targets[i]);
        (void)snprintf(validation, sizeof(validation),
                       "data.validation={npy: {inputs: x.npy, targets: %s.npy, part: [0.8, 1]}}", targets[i]);
        const char *const set[] = {train, validation, losses[i], NULL};
        layouts_compare("[{linear: {out: 8}}, relu, {linear: {out: 3}}]", set);
        assert_true(has_point(&first, "training_accuracy") == (i < 2));
    }
}

/* Cross-entropy of shares: the entropy of a uniform guess, and its gradient brings it down. */
static void cross_entropy_of_shares_begins_at_the_logarithm_of_the_classes(void **state)
{
    (void)state;
    static const float inputs[4][2] = {{1, 0}, {1, 0}, {1, 0}, {1, 0}};
    static const float shares[4][4] = {{0.25F, 0.25F, 0.5F}, {1}, {0, 0.5F, 0, 0.5F}, {0.1F, 0.2F, 0.3F, 0.4F}};
    array_write("x.npy", GD_DTYPE_F32, 2, (int64_t[]){4, 2}, inputs);
    array_write("y.npy", GD_DTYPE_F32, 2, (int64_t[]){4, 4}, shares);
    const char *const set[] = {"data.train={npy: {inputs: x.npy, targets: y.npy}}",
                               "data.validation={npy: {inputs: x.npy, targets: y.npy}}",
                               "training.steps=20",
                               "training.batch=4",
                               "training.label_smoothing=0.2",
                               NULL};
    spec_job_t *job =
        run_job("[{linear: {out: 4, init: {constant: {value: 0}}, bias_init: {constant: {value: 0}}}}]", 2, set);
    memset(&first, 0, sizeof(first));
    run_ok(job, 2, &first);
    assert_true(fabs(run_point(&first, "loss", 1) - log(4)) < 1e-6);
    assert_true(run_point(&first, "loss", 20) < log(4) - 0.01);
    spec_job_free(job);
}

static void sound_trains(void **state)
{
    (void)state;
    uint8_t bytes[44 + 2 * 64] = "RIFF\xA4\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1F\0\0\x80\x3E\0\0\2\0\x10\0data\x80";
    uint32_t seed = 2;
    for (int i = 0; i < 60; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "%d_x_%d.wav", i % 3, i);
        for (int k = 0; k < 64; k++) {
            bytes[44 + 2 * k] = (uint8_t)noise(&seed);
            bytes[45 + 2 * k] = (uint8_t)(k / (4 << i % 3) % 2 == 0 ? 40 : 215);
        }
        (void)file_write(name, bytes, sizeof(bytes));
    }
    const char *const set[] = {
        "data.train={wav: {path: ., class_from: name, match: [\"*_?.wav\", \"*_[1-4]?.wav\"], length: 60, "
        "augment: [{time_shift: {max: 6}}, {noise: {std: 0.01}}]}}",
        "data.validation={wav: {path: ., class_from: name, match: [\"*_5?.wav\"], length: 60}}", NULL};
    layouts_compare("[{conv2d: {out: 4, kernel: [1, 8], stride: [1, 4]}}, relu, flatten, {linear: {out: 3}}]", set);
}

static void text_in_byte_pairs_trains_and_is_sampled(void **state)
{
    (void)state;
    char train[512];
    char validation[512];
    const char *tokenizer = fixture_golden("tokenizer-gpt2.json");
    strbuf_t text = {0};
    uint32_t seed = 8;
    static const char *const words[] = {"the ", "king ", "is ", "dead, ", "long ", "live ", "him!\n"};
    for (int i = 0; i < 3000; i++) {
        strbuf_append(&text, words[noise(&seed) % 7]);
    }
    (void)file_write_text("words.txt", strbuf_text(&text));
    strbuf_release(&text);
    (void)snprintf(train, sizeof(train), "data.train={text: {path: words.txt, tokenizer: %s, part: [0, 0.9]}}",
                   tokenizer);
    (void)snprintf(validation, sizeof(validation),
                   "data.validation={text: {path: words.txt, tokenizer: %s, part: [0.9, 1]}}", tokenizer);
    const char *const set[] = {train, validation, "generate={prompt: \"the king\", tokens: 8}", NULL};
    layouts_compare("[{embedding: {name: wte, count: 640, width: 8}}, {position_embedding: {count: 16}}, layer_norm, "
                    "{linear: {out: 640, bias: false, tied: wte}}]",
                    set);
    assert_memory_equal(first.text, "the king", 8);
    assert_true(strlen(first.text) > 8);
}

/* Classes by brightness; JPEG and PNG files are those of the golden images. */
static void image_folders_train(void **state)
{
    (void)state;
    static const char *const files[][2] = {{"photo.png", "in/a/1.png"},  {"photo.jpg", "in/a/2.jpg"},
                                           {"turn-6.jpg", "in/a/3.jpg"}, {"grey.png", "in/b/1.png"},
                                           {"cmyk.jpg", "in/b/2.jpg"},   {"progressive.jpg", "in/b/3.jpg"}};
    char path[256];
    static const char *const folders[] = {"in", "in/a", "in/b"};
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", fixture_folder(), folders[i]);
        assert_ok(wrk_folder_make(path));
    }
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char *bytes = NULL;
        size_t size = 0;
        (void)snprintf(path, sizeof(path), "images/%s", files[i][0]);
        assert_ok(wrk_file_read(fixture_golden(path), 65536, &bytes, &size));
        (void)file_write(files[i][1], bytes, size);
        mem_free(bytes);
    }
    const char *const set[] = {
        "data.train={image_folder: {path: in, augment: [{random_resized_crop: {size: 12}}, horizontal_flip, "
        "{rotate: {degrees: 20}}, {color_jitter: {brightness: 0.3, hue: 0.2}}, {normalize: {mean: 0.5, std: 0.5}}]}}",
        "data.validation={image_folder: {path: in, augment: [{resize: {size: 14}}, {center_crop: {size: 12}}]}}",
        "training.batch=4", NULL};
    layouts_compare("[{conv2d: {out: 4, kernel: 3}}, relu, flatten, {linear: {out: 2}}]", set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_table_of_values_trains_by_every_elementwise_loss),
        TEST(squared_error_of_values_is_their_mean_over_columns),
        TEST(a_table_of_classes_trains),
        TEST(a_model_of_another_width_than_the_values_is_refused),
        TEST(tokens_train),
        TEST(cifar_trains),
        TEST(augmented_training_resumes_to_the_same_bits),
        TEST(arrays_train_by_labels_values_and_shares),
        TEST(cross_entropy_of_shares_begins_at_the_logarithm_of_the_classes),
        TEST(sound_trains),
        TEST(text_in_byte_pairs_trains_and_is_sampled),
        TEST(image_folders_train),
    };
    return cmocka_run_group_tests_name("session_data", tests, NULL, NULL);
}
