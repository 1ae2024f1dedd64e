/* SPDX-License-Identifier: Apache-2.0 */
/* NumPy arrays as datasets. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "gradd/npy.h"
#include "tests/worker/dataset_specs.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(arrays_are_samples_by_their_first_axis),
        TEST(a_label_that_the_loss_ignores_is_no_class),
        TEST(bad_arrays_are_named),
    };
    return cmocka_run_group_tests_name("arrays", tests, NULL, NULL);
}
