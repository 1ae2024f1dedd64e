/* SPDX-License-Identifier: Apache-2.0 */
/* IDX datasets: values, gzip and plain, the real MNIST, malformed files. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/worker/data_files.h"
#include "worker/data/dataset.h"

/* Three images of 2×3 pixels. */
static const uint8_t images[] = {0, 0, 8, 3, 0, 0,  0,  3,  0,  0,  0,  2,   0,   0,   0,   3, 0,
                                 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 255, 254, 128, 127, 1, 0};
static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 9};

static wrk_dataset_t *dataset;

static status_t idx_open(const char *images_path, const char *labels_path, int64_t limit, size_t n_normalize,
                         double *normalize)
{
    Gradd__V1__Idx idx = GRADD__V1__IDX__INIT;
    Gradd__V1__Dataset spec = GRADD__V1__DATASET__INIT;
    wrk_dataset_options_t options = {.name = "data.train"};
    idx.images = (char *)(uintptr_t)images_path;
    idx.labels = (char *)(uintptr_t)labels_path;
    idx.has_limit = limit != 0;
    idx.limit = limit;
    idx.n_normalize = n_normalize;
    idx.normalize = normalize;
    spec.kind_case = GRADD__V1__DATASET__KIND_IDX;
    spec.idx = &idx;
    return wrk_dataset_open(&spec, &options, &dataset);
}

static status_t pair_open(const void *images_bytes, size_t images_length, const void *labels_bytes,
                          size_t labels_length)
{
    return idx_open(file_write("images", images_bytes, images_length),
                    file_write("labels", labels_bytes, labels_length), 0, 0, NULL);
}

static void small_dataset_check(void)
{
    static const float scaled[6] = {1.0f, 254.0f / 255.0f, 128.0f / 255.0f, 127.0f / 255.0f, 1.0f / 255.0f, 0.0f};
    int64_t indices[2] = {2, 0};
    float x[2][6];
    int64_t y[2];

    assert_ok(wrk_dataset_read(dataset, indices, 2, x, y));

    assert_memory_equal(x[0], scaled, sizeof(scaled));
    for (int i = 0; i < 6; i++) {
        assert_true(x[1][i] == (float)i / 255.0f);
    }
    assert_int_equal(y[0], 9);
    assert_int_equal(y[1], 7);
}

static void a_plain_file_gives_scaled_pixels_and_labels(void **state)
{
    (void)state;
    assert_ok(pair_open(images, sizeof(images), labels, sizeof(labels)));

    const wrk_dataset_field_t *input = wrk_dataset_input(dataset);
    const wrk_dataset_field_t *target = wrk_dataset_target(dataset);
    assert_int_equal(wrk_dataset_count(dataset), 3);
    assert_int_equal(wrk_dataset_n_classes(dataset), 10);
    assert_false(wrk_dataset_is_text(dataset));
    assert_int_equal(input->dtype, GD_DTYPE_F32);
    assert_int_equal(input->n_dims, 3);
    assert_int_equal(input->shape[0], 1);
    assert_int_equal(input->shape[1], 2);
    assert_int_equal(input->shape[2], 3);
    assert_int_equal(input->size_bytes, 24);
    assert_int_equal(target->n_dims, 0);
    assert_int_equal(target->numel, 1);
    small_dataset_check();
    wrk_dataset_close(dataset);
}

static void a_gzipped_file_gives_the_same(void **state)
{
    (void)state;
    assert_ok(idx_open(file_write_gzip("images.gz", images, sizeof(images), 0),
                       file_write_gzip("labels.gz", labels, sizeof(labels), 0), 0, 0, NULL));
    small_dataset_check();
    wrk_dataset_close(dataset);
}

static void pixels_are_normalised(void **state)
{
    (void)state;
    double normalize[2] = {0.1307, 0.3081};
    int64_t index = 2;
    float x[6];
    assert_ok(idx_open(file_write("images", images, sizeof(images)), file_write("labels", labels, sizeof(labels)), 0, 2,
                       normalize));

    assert_ok(wrk_dataset_read(dataset, &index, 1, x, NULL));

    assert_true(x[0] > 2.8214f && x[0] < 2.8216f);   /* white */
    assert_true(x[5] > -0.4243f && x[5] < -0.4241f); /* black */
    wrk_dataset_close(dataset);
}

static void four_dimensions_keep_their_channels(void **state)
{
    (void)state;
    uint8_t coloured[] = {0, 0, 8, 4, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6};
    uint8_t one_label[] = {0, 0, 8, 1, 0, 0, 0, 1, 0};
    assert_ok(pair_open(coloured, sizeof(coloured), one_label, sizeof(one_label)));

    const wrk_dataset_field_t *input = wrk_dataset_input(dataset);
    assert_int_equal(input->shape[0], 3);
    assert_int_equal(input->shape[1], 1);
    assert_int_equal(input->shape[2], 2);
    wrk_dataset_close(dataset);
}

static void limit_keeps_the_first_samples(void **state)
{
    (void)state;
    assert_ok(idx_open(file_write("images", images, sizeof(images)), file_write("labels", labels, sizeof(labels)), 2, 0,
                       NULL));
    int64_t index = 2;
    float x[6];

    assert_int_equal(wrk_dataset_count(dataset), 2);
    assert_int_equal(wrk_dataset_n_classes(dataset), 8);
    assert_fails(wrk_dataset_read(dataset, &index, 1, x, NULL), ST_ERR_RANGE, "sample 2 of a dataset of 2");
    wrk_dataset_close(dataset);
}

static void a_label_beyond_the_models_classes_is_named(void **state)
{
    (void)state;
    assert_ok(pair_open(images, sizeof(images), labels, sizeof(labels)));

    assert_ok(wrk_dataset_check_classes(dataset, 10));
    assert_fails(wrk_dataset_check_classes(dataset, 9), ST_ERR_DATA,
                 "labels: sample 2 (offset 10) has label 9; the model has classes 0 … 8");
    wrk_dataset_close(dataset);
}

static void malformed_files_are_named_with_their_offset(void **state)
{
    (void)state;
    uint8_t bytes[sizeof(images) + 1];
    const struct {
        size_t offset;
        uint8_t byte;
        status_t code;
        const char *text;
    } cases[] = {
        {0, 0x1e, ST_ERR_CORRUPT, "images: not an IDX file: it begins with 1e 00"},
        {2, 0x0d, ST_ERR_UNSUPPORTED, "images: offset 2: element type 0x0d; only 0x08"},
        {3, 1, ST_ERR_DATA, "images: offset 3: 1 dimensions; images have 3 or 4"},
        {3, 9, ST_ERR_DATA, "images: offset 3: 9 dimensions"},
        {11, 0, ST_ERR_CORRUPT, "images: offset 8: dimension 1 is 0"},
        {7, 4, ST_ERR_CORRUPT, "images: truncated: its header says 4 samples of 6 bytes"},
        {4, 255, ST_ERR_CORRUPT, "images: truncated: its header says 4278190083 samples"},
        {8, 255, ST_ERR_CORRUPT, "images: truncated: its header says 3 samples of"},
        {7, 2, ST_ERR_CORRUPT, "images: more bytes follow at offset 28"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memcpy(bytes, images, sizeof(images));
        bytes[cases[i].offset] = cases[i].byte;
        assert_fails(pair_open(bytes, sizeof(images), labels, sizeof(labels)), cases[i].code, cases[i].text);
        assert_fails(idx_open(file_write_gzip("images", bytes, sizeof(images), 0),
                              file_write("labels", labels, sizeof(labels)), 0, 0, NULL),
                     cases[i].code, i == 5 || i == 4 || i == 0 ? "images: " : "images");
    }
    memcpy(bytes, images, sizeof(images));
    memset(bytes + 4, 255, 12);
    assert_fails(pair_open(bytes, sizeof(images), labels, sizeof(labels)), ST_ERR_CORRUPT, "a sample of more than");
}

static void files_cut_short_anywhere_are_refused(void **state)
{
    (void)state;
    for (size_t length = 0; length < sizeof(images); length++) {
        assert_fails(pair_open(images, length, labels, sizeof(labels)), ST_ERR_CORRUPT, "images: truncated");
    }
    for (size_t length = 0; length < sizeof(labels); length++) {
        assert_fails(pair_open(images, sizeof(images), labels, length), ST_ERR_CORRUPT, "labels: truncated");
    }
}

/* Any change of the header is an error with a message, or another dataset that can be read to its end. */
static void every_changed_byte_of_a_header_is_an_error_or_readable(void **state)
{
    (void)state;
    int n_opened = 0;
    for (size_t at = 0; at < 16; at++) {
        for (int byte = 0; byte < 256; byte++) {
            uint8_t bytes[sizeof(images)];
            memcpy(bytes, images, sizeof(images));
            bytes[at] = (uint8_t)byte;
            status_t status = pair_open(bytes, sizeof(bytes), labels, sizeof(labels));
            if (status != ST_OK) {
                assert_non_null(strstr(status_message(), "data.train: "));
                continue;
            }
            int64_t last = wrk_dataset_count(dataset) - 1;
            float x[6];
            assert_int_equal(wrk_dataset_input(dataset)->size_bytes, sizeof(x));
            assert_ok(wrk_dataset_read(dataset, &last, 1, x, NULL));
            wrk_dataset_close(dataset);
            n_opened++;
        }
    }
    assert_int_equal(n_opened, 16); /* the 16 writings of the file itself */
}

static void a_gzip_file_cut_short_is_refused(void **state)
{
    (void)state;
    for (size_t drop = 1; drop < 30; drop++) {
        assert_fails(idx_open(file_write_gzip("images.gz", images, sizeof(images), drop),
                              file_write("labels", labels, sizeof(labels)), 0, 0, NULL),
                     ST_ERR_CORRUPT, "images.gz: ");
    }
}

static void damaged_gzip_data_is_refused(void **state)
{
    (void)state;
    const char *path = file_write_gzip("images.gz", images, sizeof(images), 0);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -6, SEEK_END), 0); /* in the checksum */
    assert_int_not_equal(fputc(0x5a, file), EOF);
    assert_int_equal(fclose(file), 0);

    assert_fails(idx_open(path, file_write("labels", labels, sizeof(labels)), 0, 0, NULL), ST_ERR_CORRUPT,
                 "images.gz: damaged gzip data");
}

static void different_numbers_of_images_and_labels_are_refused(void **state)
{
    (void)state;
    uint8_t two[] = {0, 0, 8, 1, 0, 0, 0, 2, 7, 0};
    assert_fails(pair_open(images, sizeof(images), two, sizeof(two)), ST_ERR_DATA,
                 "images has 3 images (offset 4) and ");
    assert_fails(pair_open(images, sizeof(images), two, sizeof(two)), ST_ERR_DATA, "labels has 2 labels (offset 4)");
}

static void a_missing_file_or_field_is_named(void **state)
{
    (void)state;
    double normalize[2] = {0.5, 0.0};
    const char *path = file_write("labels", labels, sizeof(labels));
    char fifo[128];
    (void)snprintf(fifo, sizeof(fifo), "%s/fifo", fixture_folder());
    assert_int_equal(mkfifo(fifo, 0600), 0);

    assert_fails(idx_open("/nowhere/images", path, 0, 0, NULL), ST_ERR_NOT_FOUND,
                 "data.train: /nowhere/images: No such file or directory");
    assert_fails(idx_open(fixture_folder(), path, 0, 0, NULL), ST_ERR_INVAL, "not a regular file");
    assert_fails(idx_open(fifo, path, 0, 0, NULL), ST_ERR_INVAL, "not a regular file");
    assert_fails(idx_open(NULL, path, 0, 0, NULL), ST_ERR_INVAL, "idx.images is missing");
    assert_fails(idx_open(path, path, 0, 1, normalize), ST_ERR_INVAL, "idx.normalize has 1 values");
    assert_fails(idx_open(path, path, 0, 2, normalize), ST_ERR_INVAL, "standard deviation 0");
    assert_fails(idx_open(path, path, -1, 0, NULL), ST_ERR_INVAL, "idx.limit is -1");
}

static void mnist_is_read_as_published(void **state)
{
    (void)state;
    static char test_images[512];
    const char *path = fixture_data("mnist/t10k-images-idx3-ubyte.gz");
    if (path == NULL) {
        FIXTURE_SKIP("mnist is not in the data folder");
    }
    (void)snprintf(test_images, sizeof(test_images), "%s", path);
    assert_ok(idx_open(test_images, fixture_data("mnist/t10k-labels-idx1-ubyte.gz"), 0, 0, NULL));
    static const int64_t first_labels[10] = {7, 2, 1, 0, 4, 1, 4, 9, 5, 9};
    int64_t n_of_label[10] = {0};
    static const int64_t published[10] = {980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009};
    double sum = 0.0;

    assert_int_equal(wrk_dataset_count(dataset), 10000);
    assert_int_equal(wrk_dataset_n_classes(dataset), 10);
    assert_int_equal(wrk_dataset_input(dataset)->numel, 784);
    for (int64_t i = 0; i < 10000; i++) {
        float x[784];
        int64_t y = -1;
        assert_ok(wrk_dataset_read(dataset, &i, 1, x, &y));
        assert_in_range(y, 0, 9);
        assert_true(i >= 10 || y == first_labels[i]);
        n_of_label[y]++;
        for (int p = 0; p < 784; p++) {
            sum += (double)x[p];
        }
    }
    assert_memory_equal(n_of_label, published, sizeof(published));
    assert_true(sum / 7840000.0 > 0.13250 && sum / 7840000.0 < 0.13253); /* mean of the test images: 0.13251 */
    wrk_dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_plain_file_gives_scaled_pixels_and_labels),
        TEST(a_gzipped_file_gives_the_same),
        TEST(pixels_are_normalised),
        TEST(four_dimensions_keep_their_channels),
        TEST(limit_keeps_the_first_samples),
        TEST(a_label_beyond_the_models_classes_is_named),
        TEST(malformed_files_are_named_with_their_offset),
        TEST(files_cut_short_anywhere_are_refused),
        TEST(every_changed_byte_of_a_header_is_an_error_or_readable),
        TEST(a_gzip_file_cut_short_is_refused),
        TEST(damaged_gzip_data_is_refused),
        TEST(different_numbers_of_images_and_labels_are_refused),
        TEST(a_missing_file_or_field_is_named),
        TEST(mnist_is_read_as_published),
    };
    return cmocka_run_group_tests_name("idx", tests, NULL, NULL);
}
