/* SPDX-License-Identifier: Apache-2.0 */
/* NumPy arrays and sound files as datasets. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "gradd/npy.h"
#include "gradd/safetensors.h"
#include "tests/worker/dataset_specs.h"

enum { MAX_SOUND = 3000 };

static wrk_dataset_t *dataset;
static float x[4096];
static float y[64];

static const char *path_of(const char *name)
{
    static char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", fixture_folder(), name);
    return path;
}

static void array_write(const char *name, gd_dtype_t dtype, int n_dims, const int64_t *shape, const void *data)
{
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_from_data(dtype, n_dims, shape, data, &t));
    assert_ok(gd_npy_save(path_of(name), t));
    (void)gd_tensor_unref(t);
}

static void floats_write(const char *name, int n_dims, const int64_t *shape, const float *data)
{
    array_write(name, GD_DTYPE_F32, n_dims, shape, data);
}

static void arrays_are_samples_by_their_first_axis(void **state)
{
    (void)state;
    static const uint8_t pixels[] = {0, 255, 51, 102, 1, 2, 3, 4};
    static const double values[] = {0.5, 1.5};
    static const int64_t labels[] = {3, 0};
    int64_t one = 1;
    array_write("x.npy", GD_DTYPE_U8, 3, (int64_t[]){2, 2, 2}, pixels);
    array_write("v.npy", GD_DTYPE_F64, 1, (int64_t[]){2}, values);
    array_write("l.npy", GD_DTYPE_I64, 1, (int64_t[]){2}, labels);
    assert_ok(dataset_open("npy: {inputs: x.npy, targets: v.npy, scale: 0.5}", NULL, &dataset));
    assert_int_equal(wrk_dataset_count(dataset), 2);
    assert_int_equal(wrk_dataset_input(dataset)->n_dims, 2);
    assert_int_equal(wrk_dataset_n_classes(dataset), 0);
    assert_int_equal(wrk_dataset_n_targets(dataset), 1);
    assert_ok(wrk_dataset_read(dataset, &one, 1, x, y));
    assert_true(x[0] == 0.5F && x[3] == 2 && y[0] == 1.5F);
    wrk_dataset_close(dataset);

    int64_t label = 0;
    assert_ok(dataset_open("npy: {inputs: x.npy, targets: l.npy, part: [0, 0.5], augment: [{horizontal_flip: {p: 1}}]}",
                           NULL, &dataset));
    assert_int_equal(wrk_dataset_count(dataset), 1);
    assert_int_equal(wrk_dataset_n_classes(dataset), 4);
    assert_ok(wrk_dataset_read(dataset, (int64_t[]){0}, 1, x, &label));
    assert_true(x[0] == 255 && x[1] == 0 && x[2] == 102 && label == 3);
    assert_fails(wrk_dataset_check_classes(dataset, 3), ST_ERR_DATA,
                 "l.npy: row 0, element 0: label 3 is not in 0 … 2");
    wrk_dataset_close(dataset);

    int64_t tokens[4];
    assert_ok(dataset_open("npy: {inputs: l.npy, targets: l.npy, tokens: true, classes: false}", NULL, &dataset));
    assert_int_equal(wrk_dataset_input(dataset)->dtype, GD_DTYPE_I64);
    assert_ok(wrk_dataset_read(dataset, (int64_t[]){0}, 1, tokens, y));
    assert_true(tokens[0] == 3 && y[0] == 3);
    wrk_dataset_close(dataset);
}

static void a_label_that_the_loss_ignores_is_no_class(void **state)
{
    (void)state;
    static const float pixels[] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const int64_t labels[] = {-1, 1, 0, -1, 2, 255};
    static const int64_t only[] = {-1, -1, -1};
    const int64_t first = 0;
    int64_t label[2] = {0};
    floats_write("x.npy", 2, (int64_t[]){3, 2}, pixels);
    floats_write("i.npy", 3, (int64_t[]){2, 2, 2}, pixels);
    array_write("l.npy", GD_DTYPE_I64, 2, (int64_t[]){3, 2}, labels);
    array_write("one.npy", GD_DTYPE_I64, 1, (int64_t[]){2}, labels);
    array_write("only.npy", GD_DTYPE_I64, 1, (int64_t[]){3}, only);
    assert_ok(dataset_open_ignoring("npy: {inputs: x.npy, targets: l.npy, part: [0, 0.7]}", NULL, -1, &dataset));
    assert_int_equal(wrk_dataset_n_classes(dataset), 256);
    assert_ok(wrk_dataset_read(dataset, &first, 1, x, label));
    assert_true(label[0] == -1 && label[1] == 1);
    assert_fails(wrk_dataset_check_classes(dataset, 3), ST_ERR_DATA,
                 "l.npy: row 2, element 1: label 255 is not in 0 … 2 (one that doesn't count is told by ignore_index");
    wrk_dataset_close(dataset);
    dataset = NULL;
    assert_fails(dataset_open_ignoring("npy: {inputs: x.npy, targets: l.npy}", NULL, 255, &dataset), ST_ERR_DATA,
                 "l.npy: row 0, element 0: label -1 is not in 0 … 16777215");
    assert_fails(dataset_open_ignoring("npy: {inputs: x.npy, targets: only.npy}", NULL, -1, &dataset), ST_ERR_DATA,
                 "only.npy: all labels are -1, the loss's ignore_index");
    assert_fails(dataset_open_ignoring("npy: {inputs: i.npy, targets: one.npy, augment: [{mixup: {alpha: 1}}]}", NULL,
                                       -1, &dataset),
                 ST_ERR_INVAL, "mixup and cutmix mix classes; label -1, which the loss ignores, is none");
}

static void bad_arrays_are_named(void **state)
{
    (void)state;
    static const int64_t labels[] = {3, -1};
    float numbers[] = {1, 2, 3, NAN, 5, 6};
    int64_t one = 1;
    floats_write("x.npy", 2, (int64_t[]){2, 3}, numbers);
    floats_write("y.npy", 1, (int64_t[]){2}, numbers);
    floats_write("z.npy", 1, (int64_t[]){3}, numbers);
    floats_write("s.npy", 0, NULL, numbers);
    array_write("l.npy", GD_DTYPE_I64, 1, (int64_t[]){2}, labels);
    assert_ok(dataset_open("npy: {inputs: x.npy, targets: y.npy}", NULL, &dataset));
    assert_fails(wrk_dataset_read(dataset, &one, 1, x, y), ST_ERR_DATA, "x.npy: row 1, element 0 is nan, not a finite");
    wrk_dataset_close(dataset);
    dataset_refused("npy: {inputs: x.npy, targets: z.npy}", ST_ERR_DATA, "x.npy has 2 samples and");
    dataset_refused("npy: {inputs: x.npy, targets: l.npy}", ST_ERR_DATA, "l.npy: row 1, element 0: label -1 is not in");
    dataset_refused("npy: {inputs: x.npy, targets: y.npy, classes: true}", ST_ERR_DATA,
                    "an array of integers is wanted");
    dataset_refused("npy: {inputs: x.npy, targets: y.npy, tokens: true}", ST_ERR_DATA,
                    "an array of integers is wanted");
    dataset_refused("npy: {inputs: s.npy, targets: y.npy}", ST_ERR_DATA, "an array of 0 dimensions");
    dataset_refused("npy: {inputs: x.npy, targets: y.npy, augment: [horizontal_flip]}", ST_ERR_INVAL, "for images");
    (void)file_write_text("x.npy", "\x93NUMPY");
    dataset_refused("npy: {inputs: x.npy, targets: y.npy}", ST_ERR_CORRUPT, "x.npy");
}

/* ---- sound ---- */

static void number_put(uint8_t *out, uint32_t value, int n)
{
    for (int i = 0; i < n; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
}

/* A WAV file of 16-bit frames 0, 1, 2, … times 256 in every channel; format 3: of floats. */
static size_t wav_make(uint8_t *bytes, uint32_t rate, uint16_t n_channels, uint32_t n_frames, uint16_t format)
{
    uint16_t width = format == 3 ? 4 : 2;
    uint32_t size = n_frames * n_channels * width;
    static const char head[16] = "RIFF----WAVEfmt ";
    memcpy(bytes, head, sizeof(head));
    number_put(bytes + 4, 36 + size, 4);
    number_put(bytes + 16, 16, 4);
    number_put(bytes + 20, format, 2);
    number_put(bytes + 22, n_channels, 2);
    number_put(bytes + 24, rate, 4);
    number_put(bytes + 28, rate * n_channels * width, 4);
    number_put(bytes + 32, (uint32_t)(n_channels * width), 2);
    number_put(bytes + 34, (uint32_t)(width * 8), 2);
    number_put(bytes + 36, 0x61746164, 4); /* "data" */
    number_put(bytes + 40, size, 4);
    for (uint32_t i = 0; i < n_frames * n_channels; i++) {
        float value = (float)i;
        if (format == 3) {
            memcpy(bytes + 44 + 4 * i, &value, 4);
        } else {
            number_put(bytes + 44 + 2 * i, i / n_channels * 256, 2);
        }
    }
    return 44 + size;
}

/* Ten frames, with sizes of 64 bits (EBU Tech 3306). */
static size_t rf64_make(uint8_t *bytes)
{
    enum { OLD = 12, CHUNK = 36 };
    static const uint8_t START[] = {'R', 'F', '6', '4', 0xff, 0xff, 0xff, 0xff, 'W', 'A', 'V', 'E', 'd', 's', '6', '4'};
    uint8_t plain[1024];
    const size_t size = wav_make(plain, 8000, 1, 10, 1) + CHUNK;
    memcpy(bytes, START, sizeof(START));
    memset(bytes + 16, 0, CHUNK - 4);
    number_put(bytes + 16, CHUNK - 8, 4);
    number_put(bytes + 20, (uint32_t)size - 8, 4);
    number_put(bytes + 28, 20, 4);
    number_put(bytes + 36, 10, 4);
    memcpy(bytes + OLD + CHUNK, plain + OLD, size - OLD - CHUNK);
    number_put(bytes + CHUNK + 40, UINT32_MAX, 4);
    return size;
}

/* The same as Sony's Wave64: chunks named by 16 bytes, whose sizes count them. */
static size_t wave64_make(uint8_t *bytes)
{
    static const uint8_t riff[12] = {0x2E, 0x91, 0xCF, 0x11, 0xA5, 0xD6, 0x28, 0xDB, 0x04, 0xC1};
    static const uint8_t other[12] = {0xF3, 0xAC, 0xD3, 0x11, 0x8C, 0xD1, 0, 0xC0, 0x4F, 0x8E, 0xDB, 0x8A};
    static const struct {
        int at;
        const char *name;
        uint32_t size;
    } chunks[] = {{0, "riff", 124}, {24, "wave", 0}, {40, "fmt ", 40}, {80, "data", 44}};
    uint8_t plain[1024];
    (void)wav_make(plain, 8000, 1, 10, 1);
    memset(bytes, 0, 124);
    for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
        memcpy(bytes + chunks[i].at, chunks[i].name, 4);
        memcpy(bytes + chunks[i].at + 4, i == 0 ? riff : other, 12);
        number_put(bytes + chunks[i].at + 16, chunks[i].size, 4);
    }
    memcpy(bytes + 64, plain + 20, 16);
    memcpy(bytes + 104, plain + 44, 20);
    return 124;
}

static void wav_write(const char *name, uint32_t rate, uint16_t n_channels, uint32_t n_frames, uint16_t format)
{
    uint8_t bytes[1024];
    (void)file_write(name, bytes, wav_make(bytes, rate, n_channels, n_frames, format));
}

static void sound_is_mixed_cut_and_filled(void **state)
{
    (void)state;
    int64_t labels[3];
    wav_write("7_a_0.wav", 8000, 1, 10, 1);
    wav_write("7_b_1.wav", 8000, 2, 4, 1);
    wav_write("9_a_0.wav", 8000, 1, 6, 1);
    (void)file_write_text("notes.txt", "");
    assert_ok(dataset_open("wav: {path: ., class_from: name, length: 6}", NULL, &dataset));
    assert_int_equal(wrk_dataset_count(dataset), 3);
    assert_int_equal(wrk_dataset_n_classes(dataset), 2);
    assert_int_equal(wrk_dataset_input(dataset)->shape[2], 6);
    assert_ok(wrk_dataset_read(dataset, (int64_t[]){0, 1, 2}, 3, x, labels));
    assert_true(labels[0] == 0 && labels[1] == 0 && labels[2] == 1);
    for (int i = 0; i < 6; i++) {
        assert_true(x[i] == (float)i / 128);
        assert_true(x[6 + i] == (i < 4 ? (float)i / 128 : 0));
    }
    wrk_dataset_close(dataset);
    assert_ok(dataset_open("wav: {path: ., class_from: name, length: 6, keep: middle, match: [\"7_[ab]_[01].wav\"]}",
                           NULL, &dataset));
    assert_int_equal(wrk_dataset_count(dataset), 2);
    assert_ok(wrk_dataset_read(dataset, (int64_t[]){0, 1}, 2, x, labels));
    assert_true(x[0] == 2.0F / 128 && x[6] == 0 && x[8] == 1.0F / 128 && x[11] == 0);
    wrk_dataset_close(dataset);
}

static void bad_sound_is_named(void **state)
{
    (void)state;
    uint8_t bytes[1024];
    assert_int_equal(mkdir(path_of("f"), 0700), 0);
    assert_int_equal(mkdir(path_of("f/one"), 0700), 0);
    wav_write("f/one/a.wav", 8000, 1, 10, 1);
    wav_write("f/one/b.wav", 8000 * 257, 1, 10, 1);
    assert_ok(dataset_open("wav: {path: f, length: 6}", NULL, &dataset));
    assert_fails(wrk_dataset_read(dataset, (int64_t[]){1}, 1, x, NULL), ST_ERR_DATA,
                 "b.wav: 2056000 values a second can't become 8000: at most 256 times as many or as few");
    size_t size = wav_make(bytes, 8000, 1, 10, 1);
    for (size_t keep = 0; keep < size; keep++) {
        (void)file_write("f/one/b.wav", bytes, keep);
        assert_fails(wrk_dataset_read(dataset, (int64_t[]){1}, 1, x, NULL), ST_ERR_CORRUPT, "b.wav");
    }
    for (size_t at = 0; at < size; at++) {
        bytes[at] ^= 0xA5;
        (void)file_write("f/one/b.wav", bytes, size);
        status_t status = wrk_dataset_read(dataset, (int64_t[]){1}, 1, x, NULL);
        assert_true(status == ST_OK || status == ST_ERR_CORRUPT || status == ST_ERR_DATA);
        bytes[at] ^= 0xA5;
    }
    for (int kind = 0; kind < 2; kind++) {
        size = kind == 0 ? rf64_make(bytes) : wave64_make(bytes);
        for (size_t keep = 1; keep <= size; keep++) {
            (void)file_write("f/one/b.wav", bytes, keep);
            status_t status = wrk_dataset_read(dataset, (int64_t[]){1}, 1, x, NULL);
            assert_int_equal(status, keep < size ? ST_ERR_CORRUPT : ST_OK);
        }
        assert_true(x[1] == 1.0F / 128 && x[5] == 5.0F / 128);
    }
    size = wav_make(bytes, 8000, 1, 10, 3);
    number_put(bytes + 44 + 8, 0x7FC00000, 4);
    (void)file_write("f/one/b.wav", bytes, size);
    assert_fails(wrk_dataset_read(dataset, (int64_t[]){1}, 1, x, NULL), ST_ERR_DATA,
                 "b.wav: frame 2, channel 0 is not a finite number");
    wrk_dataset_close(dataset);
    dataset_refused("wav: {path: f/one, length: 6, class_from: name}", ST_ERR_DATA, "a.wav: the name has no class");
}

/* One class folder with one sound file of floats, mono. */
static void sound_put(const char *name, uint32_t rate, const float *values, int64_t n)
{
    uint8_t *bytes = mem_alloc((size_t)(44 + 4 * n));
    assert_non_null(bytes);
    size_t size = wav_make(bytes, rate, 1, (uint32_t)n, 3);
    memcpy(bytes + 44, values, (size_t)(4 * n));
    (void)file_write(name, bytes, size);
    mem_free(bytes);
}

static void sound_read(int rate, int64_t length, const char *more, float *out)
{
    char text[256];
    (void)snprintf(text, sizeof(text), "wav: {path: f, rate: %d, length: %d%s}", rate, (int)length, more);
    assert_ok(dataset_open(text, NULL, &dataset));
    assert_ok(wrk_dataset_read(dataset, (int64_t[]){0}, 1, out, NULL));
    wrk_dataset_close(dataset);
}

/* The largest difference, as a share of the largest value. */
static double difference(const float *got, const float *wanted, int64_t n)
{
    double largest = 0;
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)wanted[i]));
        worst = fmax(worst, fabs((double)got[i] - (double)wanted[i]));
    }
    return worst / largest;
}

static void a_sound_of_another_rate_becomes_scipys(void **state)
{
    static const int rates[][2] = {{8000, 16000}, {16000, 8000}, {44100, 16000},
                                   {22050, 8000}, {8000, 11025}, {48000, 4000}};
    static float whole[MAX_SOUND];
    gd_safetensors_t *golden = NULL;
    (void)state;
    assert_int_equal(mkdir(path_of("f"), 0700), 0);
    assert_int_equal(mkdir(path_of("f/one"), 0700), 0);
    assert_ok(gd_safetensors_open(fixture_golden("resample.safetensors"), &golden));
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        char name[64];
        int to = rates[i][1];
        (void)snprintf(name, sizeof(name), "from_%d_to_%d.source", rates[i][0], to);
        const gd_safetensors_entry_t *source = gd_safetensors_find(golden, name);
        (void)snprintf(name, sizeof(name), "from_%d_to_%d.result", rates[i][0], to);
        const gd_safetensors_entry_t *result = gd_safetensors_find(golden, name);
        assert_true(source != NULL && result != NULL && result->shape[0] <= MAX_SOUND);
        int64_t n = result->shape[0];
        sound_put("f/one/a.wav", (uint32_t)rates[i][0], source->data, source->shape[0]);

        /* of the largest value; 2e-6 here at most */
        sound_read(to, n, "", whole);
        double worst = difference(whole, result->data, n);
        print_message("%d to %d a second: %.1e\n", rates[i][0], to, worst);
        assert_true(worst < 1e-5);

        /* a window is that of the whole, wherever it begins */
        for (int64_t length = n % 2 + 2; length < n; length += 2 * (n / 7)) {
            sound_read(to, length, ", keep: middle", x);
            assert_true(difference(x, whole + (n - length) / 2, length) < 1e-6);
        }
    }
    gd_safetensors_close(golden);
}

static void the_first_sound_gives_the_rate(void **state)
{
    float values[200];
    (void)state;
    assert_int_equal(mkdir(path_of("f"), 0700), 0);
    assert_int_equal(mkdir(path_of("f/one"), 0700), 0);
    for (int i = 0; i < 200; i++) {
        values[i] = sinf((float)i * 0.05F);
    }
    sound_put("f/one/a.wav", 8000, values, 100);
    sound_put("f/one/b.wav", 16000, values, 200);
    assert_ok(dataset_open("wav: {path: f, length: 110}", NULL, &dataset));
    assert_ok(wrk_dataset_read(dataset, (int64_t[]){0, 1}, 2, x, NULL));
    for (int i = 0; i < 100; i++) {
        assert_true(x[i] == values[i]);
        assert_true(i < 20 || i >= 80 || fabsf(x[110 + i] - values[2 * i]) < 2e-3F); /* its ends ring */
    }
    for (int i = 100; i < 110; i++) {
        assert_true(x[110 + i] == 0);
    }
    wrk_dataset_close(dataset);
}

static void spoken_digits_are_read(void **state)
{
    (void)state;
    if (fixture_data("fsdd") == NULL) {
        FIXTURE_SKIP("no fsdd");
    }
    char yaml[512];
    (void)snprintf(yaml, sizeof(yaml), "wav: {path: %s, class_from: name, length: 4000, match: [\"*_[0-4].wav\"]}",
                   fixture_data("fsdd"));
    assert_ok(dataset_open(yaml, NULL, &dataset));
    assert_int_equal(wrk_dataset_n_classes(dataset), 10);
    assert_int_equal(wrk_dataset_count(dataset), 300);
    for (int64_t i = 0; i < 300; i += 50) {
        assert_ok(wrk_dataset_read(dataset, &i, 1, x, NULL));
    }
    wrk_dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(arrays_are_samples_by_their_first_axis),
        TEST(a_label_that_the_loss_ignores_is_no_class),
        TEST(bad_arrays_are_named),
        TEST(sound_is_mixed_cut_and_filled),
        TEST(bad_sound_is_named),
        TEST(a_sound_of_another_rate_becomes_scipys),
        TEST(the_first_sound_gives_the_rate),
        TEST(spoken_digits_are_read),
    };
    return cmocka_run_group_tests_name("arrays", tests, NULL, NULL);
}
