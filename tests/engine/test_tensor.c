/* SPDX-License-Identifier: Apache-2.0 */
/* tensor: construction, views, copies between dtypes, printing, versions. */
#include "gradd/tensor.h"

#include <math.h>
#include <string.h>

#include "gradd/context.h"
#include "gradd/ops.h"
#include "tests/support/fixture.h"

static gd_tensor_t *range(gd_dtype_t dtype, int n_dims, const int64_t *shape)
{
    gd_tensor_t *wide = NULL;
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_new(GD_DTYPE_F64, n_dims, shape, &wide));
    double *data = gd_tensor_data(wide);
    for (int64_t i = 0; i < gd_tensor_numel(wide); i++) {
        data[i] = (double)i;
    }
    assert_ok(gd_tensor_new(dtype, n_dims, shape, &t));
    assert_ok(gd_tensor_copy(t, wide));
    (void)gd_tensor_unref(wide);
    return t;
}

static void assert_layout(const gd_tensor_t *t, int n_dims, const int64_t *shape, const int64_t *strides)
{
    assert_int_equal(gd_tensor_n_dims(t), n_dims);
    for (int i = 0; i < n_dims; i++) {
        assert_int_equal(gd_tensor_shape(t)[i], shape[i]);
        assert_int_equal(gd_tensor_strides(t)[i], strides[i]);
    }
}

static void assert_flat(gd_tensor_t *t, const double *expected)
{
    gd_tensor_t *wide = NULL;
    assert_ok(gd_tensor_new(GD_DTYPE_F64, gd_tensor_n_dims(t), gd_tensor_shape(t), &wide));
    assert_ok(gd_tensor_copy(wide, t));
    const double *data = gd_tensor_data(wide);
    for (int64_t i = 0; i < gd_tensor_numel(t); i++) {
        assert_true(data[i] == expected[i]);
    }
    (void)gd_tensor_unref(wide);
}

static void views_share_storage_and_have_strides(void **state)
{
    (void)state;
    gd_tensor_t *x = range(GD_DTYPE_F32, 3, (const int64_t[]){2, 3, 4});
    gd_tensor_t *turned = NULL;
    gd_tensor_t *part = NULL;
    gd_tensor_t *flat = NULL;
    gd_tensor_t *wide = NULL;

    assert_ok(gd_permute(x, (const int[]){2, 0, 1}, &turned));
    assert_ok(gd_slice(x, -1, -3, 100, 2, &part));
    assert_ok(gd_reshape(x, 2, (const int64_t[]){-1, 4}, &flat));
    assert_ok(gd_expand(part, 4, (const int64_t[]){5, -1, -1, -1}, &wide));

    assert_layout(turned, 3, (const int64_t[]){4, 2, 3}, (const int64_t[]){1, 12, 4});
    assert_layout(part, 3, (const int64_t[]){2, 3, 2}, (const int64_t[]){12, 4, 2});
    assert_flat(part, (const double[]){1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23});
    assert_layout(flat, 2, (const int64_t[]){6, 4}, (const int64_t[]){4, 1});
    assert_layout(wide, 4, (const int64_t[]){5, 2, 3, 2}, (const int64_t[]){0, 12, 4, 2});
    assert_ptr_equal(gd_tensor_data(flat), gd_tensor_data(x));
    assert_ptr_equal((float *)gd_tensor_data(x) + 1, gd_tensor_data(part));
    assert_false(gd_tensor_is_contiguous(turned));
    assert_true(gd_tensor_is_contiguous(flat));
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(turned);
    (void)gd_tensor_unref(part);
    (void)gd_tensor_unref(flat);
    (void)gd_tensor_unref(wide);
}

static void reshape_keeps_a_view_where_strides_allow_and_copies_elsewhere(void **state)
{
    (void)state;
    gd_tensor_t *x = range(GD_DTYPE_F32, 3, (const int64_t[]){4, 2, 3});
    gd_tensor_t *part = NULL;
    gd_tensor_t *split = NULL;
    gd_tensor_t *turned = NULL;
    gd_tensor_t *copied = NULL;

    assert_ok(gd_slice(x, 0, 0, 4, 2, &part)); /* [2, 2, 3], strides 12, 3, 1 */
    assert_ok(gd_reshape(part, 3, (const int64_t[]){2, 1, 6}, &split));
    assert_ok(gd_transpose(x, 0, 2, &turned));
    assert_ok(gd_reshape(turned, 1, (const int64_t[]){24}, &copied));

    assert_ptr_equal(gd_tensor_data(split), gd_tensor_data(x));
    assert_flat(split, (const double[]){0, 1, 2, 3, 4, 5, 12, 13, 14, 15, 16, 17});
    assert_ptr_not_equal(gd_tensor_data(copied), gd_tensor_data(x));
    assert_flat(copied,
                (const double[]){0, 6, 12, 18, 3, 9, 15, 21, 1, 7, 13, 19, 4, 10, 16, 22, 2, 8, 14, 20, 5, 11, 17, 23});
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(part);
    (void)gd_tensor_unref(split);
    (void)gd_tensor_unref(turned);
    (void)gd_tensor_unref(copied);
}

static void squeeze_and_unsqueeze_move_axes_of_one(void **state)
{
    (void)state;
    gd_tensor_t *x = range(GD_DTYPE_I32, 2, (const int64_t[]){2, 3});
    gd_tensor_t *y = NULL;
    gd_tensor_t *z = NULL;

    assert_ok(gd_unsqueeze(x, -1, &y));
    assert_ok(gd_squeeze(y, 2, &z));

    assert_int_equal(gd_tensor_dim(y, -1), 1);
    assert_int_equal(gd_tensor_n_dims(z), 2);
    assert_fails(gd_squeeze(x, 0, &y), ST_ERR_SHAPE, "squeeze: axis 0 has size 2");
    assert_fails(gd_unsqueeze(x, 4, &y), ST_ERR_RANGE, "unsqueeze: axis 4");
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(z);
}

static void impossible_tensors_are_refused(void **state)
{
    (void)state;
    gd_tensor_t *t = NULL;
    const int64_t huge[] = {(int64_t)1 << 40, (int64_t)1 << 40};

    assert_fails(gd_tensor_new(GD_DTYPE_F32, 1, (const int64_t[]){-1}, &t), ST_ERR_RANGE, "negative size -1");
    assert_fails(gd_tensor_new(GD_DTYPE_F32, 2, huge, &t), ST_ERR_RANGE, "too large");
    assert_fails(gd_tensor_new(GD_DTYPE_F32, 9, huge, &t), ST_ERR_RANGE, "9 dimensions");
    assert_fails(gd_tensor_new(GD_DTYPE_COUNT, 0, NULL, &t), ST_ERR_DTYPE, "no dtype");
    assert_fails(gd_tensor_new(GD_DTYPE_F32, 1, (const int64_t[]){(int64_t)1 << 45}, &t), ST_ERR_NOMEM,
                 "140737488355328 bytes");
    assert_null(t);
}

static void aliases_stay_inside_the_storage(void **state)
{
    (void)state;
    gd_tensor_t *flat = range(GD_DTYPE_F32, 1, (const int64_t[]){10});
    gd_tensor_t *part = NULL;

    assert_ok(gd_tensor_alias(flat, 4, 2, (const int64_t[]){2, 3}, &part));
    assert_fails(gd_tensor_alias(flat, 5, 2, (const int64_t[]){2, 3}, &part), ST_ERR_RANGE, "the storage has 10");
    assert_ok(gd_tensor_fill(part, -1));

    assert_flat(flat, (const double[]){0, 1, 2, 3, -1, -1, -1, -1, -1, -1});
    assert_int_equal(gd_tensor_version(flat), gd_tensor_version(part));
    (void)gd_tensor_unref(flat);
    (void)gd_tensor_unref(part);
}

static void release_mark(void *arg)
{
    *(int *)arg += 1;
}

static void wrapped_memory_is_released_with_its_last_view(void **state)
{
    (void)state;
    float data[4] = {1, 2, 3, 4};
    int n_released = 0;
    gd_tensor_t *t = NULL;
    gd_tensor_t *view = NULL;
    assert_ok(gd_tensor_wrap(GD_DTYPE_F32, 1, (const int64_t[]){4}, data, release_mark, &n_released, &t));
    assert_ok(gd_slice(t, 0, 1, 3, 1, &view));

    (void)gd_tensor_unref(t);
    assert_int_equal(n_released, 0);
    assert_flat(view, (const double[]){2, 3});
    (void)gd_tensor_unref(view);

    assert_int_equal(n_released, 1);
}

static void in_place_changes_are_counted(void **state)
{
    (void)state;
    gd_tensor_t *x = range(GD_DTYPE_F32, 1, (const int64_t[]){4});
    gd_tensor_t *y = range(GD_DTYPE_F32, 1, (const int64_t[]){4});
    gd_tensor_t *view = NULL;
    assert_ok(gd_slice(x, 0, 0, 2, 1, &view));
    uint32_t before = gd_tensor_version(x);

    assert_ok(gd_tensor_fill(view, 1));
    assert_ok(gd_tensor_copy(x, y));

    assert_int_equal(gd_tensor_version(x), before + 2);
    assert_int_equal(gd_tensor_version(view), before + 2);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(view);
}

static void copies_broadcast_and_convert(void **state)
{
    (void)state;
    gd_tensor_t *row = range(GD_DTYPE_I64, 1, (const int64_t[]){3});
    gd_tensor_t *x = NULL;
    assert_ok(gd_tensor_zeros(GD_DTYPE_F32, 2, (const int64_t[]){2, 3}, &x));

    assert_ok(gd_tensor_copy(x, row));

    assert_flat(x, (const double[]){0, 1, 2, 0, 1, 2});
    assert_fails(gd_tensor_copy(row, x), ST_ERR_SHAPE, "copy: [3] and [2, 3]");
    (void)gd_tensor_unref(row);
    (void)gd_tensor_unref(x);
}

/* Sizes beside and beyond the tiles of a transposing copy. */
static void transposed_copies_are_right_at_every_size(void **state)
{
    (void)state;
    const int64_t shapes[][3] = {{3, 70, 9}, {40, 8, 33}, {1, 7, 100}, {2, 64, 64}, {5, 8, 8}, {9, 100, 1}};
    const int orders[][3] = {{0, 2, 1}, {2, 1, 0}, {2, 0, 1}, {1, 2, 0}};
    for (size_t s = 0; s < 6; s++) {
        gd_tensor_t *x = range(GD_DTYPE_F32, 3, shapes[s]);
        for (size_t o = 0; o < 4; o++) {
            gd_tensor_t *turned = NULL;
            gd_tensor_t *y = NULL;
            assert_ok(gd_permute(x, orders[o], &turned));
            assert_ok(gd_cast(turned, GD_DTYPE_F64, &y));
            const double *got = gd_tensor_data(y);
            const int64_t *stride = gd_tensor_strides(turned);
            const int64_t *shape = gd_tensor_shape(turned);
            for (int64_t i = 0; i < shape[0]; i++) {
                for (int64_t j = 0; j < shape[1]; j++) {
                    for (int64_t k = 0; k < shape[2]; k++) {
                        assert_true(*got++ == (double)(i * stride[0] + j * stride[1] + k * stride[2]));
                    }
                }
            }
            (void)gd_tensor_unref(turned);
            (void)gd_tensor_unref(y);
        }
        (void)gd_tensor_unref(x);
    }
}

static void every_dtype_converts_to_every_other(void **state)
{
    (void)state;
    const double values[] = {0, 1, 2, 100};
    for (int from = 0; from < GD_DTYPE_COUNT; from++) {
        for (int to = 0; to < GD_DTYPE_COUNT; to++) {
            gd_tensor_t *wide = NULL;
            gd_tensor_t *x = NULL;
            gd_tensor_t *y = NULL;
            assert_ok(gd_tensor_from_data(GD_DTYPE_F64, 1, (const int64_t[]){4}, values, &wide));
            assert_ok(gd_cast(wide, (gd_dtype_t)from, &x));
            assert_ok(gd_cast(x, (gd_dtype_t)to, &y));
            bool is_bool = from == GD_DTYPE_BOOL || to == GD_DTYPE_BOOL;
            assert_flat(y, is_bool ? (const double[]){0, 1, 1, 1} : values);
            (void)gd_tensor_unref(wide);
            (void)gd_tensor_unref(x);
            (void)gd_tensor_unref(y);
        }
    }
}

static void float_to_integer_truncates_and_saturates(void **state)
{
    (void)state;
    const float values[] = {1.9f, -1.9f, 1e30f, -1e30f, NAN, INFINITY};
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 1, (const int64_t[]){6}, values, &x));

    assert_ok(gd_cast(x, GD_DTYPE_I64, &y));

    const int64_t *got = gd_tensor_data(y);
    const int64_t expected[] = {1, -1, INT64_MAX, INT64_MIN, 0, INT64_MAX};
    assert_memory_equal(got, expected, sizeof(expected));
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
}

/* x rounded to a grid of `bits` significant bits, smallest exponent `lowest`, infinite from `limit` on */
static double rounded(double x, int bits, int lowest, double limit)
{
    if (x == 0 || x - x != 0) {
        return x;
    }
    int exponent = ilogb(x) < lowest ? lowest : ilogb(x);
    double y = ldexp(nearbyint(ldexp(x, bits - 1 - exponent)), exponent - bits + 1);
    return fabs(y) >= limit ? copysign(INFINITY, x) : y;
}

static void half_precision_rounds_to_nearest_even(void **state)
{
    (void)state;
    enum { N = 1 << 18 };
    gd_tensor_t *x = NULL;
    assert_ok(gd_tensor_new(GD_DTYPE_F32, 1, (const int64_t[]){N}, &x));
    uint32_t *bits = gd_tensor_data(x);
    for (uint32_t i = 0; i < N; i++) {
        bits[i] = i * 16384u + (i * 2654435761u >> 18); /* over all exponents, and ties among them */
        bits[i] = i % 3 == 0 ? (bits[i] & ~0xFFFu) : bits[i];
    }
    const struct {
        gd_dtype_t dtype;
        int bits, lowest;
        double limit;
    } formats[] = {{GD_DTYPE_F16, 11, -14, 65536}, {GD_DTYPE_BF16, 8, -126, 0x1p128}};
    for (size_t f = 0; f < 2; f++) {
        for (int through_f64 = 0; through_f64 < 2; through_f64++) {
            gd_tensor_t *wide = NULL;
            gd_tensor_t *half = NULL;
            gd_tensor_t *back = NULL;
            assert_ok(gd_cast(x, through_f64 != 0 ? GD_DTYPE_F64 : GD_DTYPE_F32, &wide));
            assert_ok(gd_cast(wide, formats[f].dtype, &half));
            assert_ok(gd_cast(half, GD_DTYPE_F32, &back));
            const float *from = gd_tensor_data(x);
            const float *got = gd_tensor_data(back);
            for (int i = 0; i < N; i++) {
                double expected = rounded((double)from[i], formats[f].bits, formats[f].lowest, formats[f].limit);
                if (isnan(from[i]) ? !isnan(got[i]) : (double)got[i] != expected) {
                    print_error("%a became %a, expected %a\n", (double)from[i], (double)got[i], expected);
                    fail();
                }
            }
            (void)gd_tensor_unref(wide);
            (void)gd_tensor_unref(half);
            (void)gd_tensor_unref(back);
        }
    }
    (void)gd_tensor_unref(x);
}

static void a_double_is_rounded_to_half_precision_once(void **state)
{
    (void)state;
    /* just above the middle of two bf16 numbers: rounding to f32 first would make it a tie */
    const double value = 1 + 0x1p-8 + 0x1p-40;
    gd_tensor_t *x = NULL;
    gd_tensor_t *half = NULL;
    double got = 0;
    assert_ok(gd_tensor_scalar(GD_DTYPE_F64, value, &x));

    assert_ok(gd_cast(x, GD_DTYPE_BF16, &half));
    assert_ok(gd_tensor_item(half, &got));

    assert_true(got == 1 + 0x1p-7);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(half);
}

static void items_are_read_from_one_element_tensors_only(void **state)
{
    (void)state;
    gd_tensor_t *x = range(GD_DTYPE_F32, 2, (const int64_t[]){2, 3});
    gd_tensor_t *one = NULL;
    double value = 0;
    assert_ok(gd_slice(x, 1, 2, 3, 1, &one));

    assert_fails(gd_tensor_item(one, &value), ST_ERR_SHAPE, "item: [2, 1]");
    (void)gd_tensor_unref(one);
    assert_ok(gd_reshape(x, 2, (const int64_t[]){6, 1}, &one));
    gd_tensor_t *last = NULL;
    assert_ok(gd_slice(one, 0, -1, 6, 1, &last));

    assert_ok(gd_tensor_item(last, &value));
    assert_true(value == 5);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(one);
    (void)gd_tensor_unref(last);
}

static void assert_prints(gd_tensor_t *t, const char *expected)
{
    strbuf_t text = {0};
    gd_tensor_format(t, &text);
    assert_string_equal(strbuf_text(&text), expected);
    strbuf_release(&text);
    (void)gd_tensor_unref(t);
}

static gd_tensor_t *floats(int64_t n, const float *values)
{
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 1, &n, values, &t));
    return t;
}

/* The expected texts are PyTorch 2.13's. */
static void tensors_print_as_in_torch(void **state)
{
    (void)state;
    gd_tensor_t *t = NULL;
    assert_prints(floats(3, (const float[]){1, 2, 3}), "tensor([1., 2., 3.])");
    assert_prints(floats(3, (const float[]){1, NAN, INFINITY}), "tensor([1., nan, inf])");
    assert_prints(floats(2, (const float[]){1e9f, 1}), "tensor([1.0000e+09, 1.0000e+00])");
    assert_prints(floats(2, (const float[]){0, 0}), "tensor([0., 0.])");
    const float square[] = {1.5f, -2.25f, 3, 1000};
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 2, (const int64_t[]){2, 2}, square, &t));
    assert_prints(t, "tensor([[   1.5000,   -2.2500],\n        [   3.0000, 1000.0000]])");
    const float small[] = {1e-5f, 1, 2, 3};
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 2, (const int64_t[]){2, 2}, small, &t));
    assert_prints(t, "tensor([[1.0000e-05, 1.0000e+00],\n        [2.0000e+00, 3.0000e+00]])");
    assert_ok(gd_tensor_scalar(GD_DTYPE_F32, 3.25, &t));
    assert_prints(t, "tensor(3.2500)");
    assert_ok(gd_tensor_scalar(GD_DTYPE_I64, 7, &t));
    assert_prints(t, "tensor(7)");
    assert_ok(gd_tensor_from_data(GD_DTYPE_BOOL, 1, (const int64_t[]){2}, (const uint8_t[]){1, 0}, &t));
    assert_prints(t, "tensor([ True, False])");
    assert_prints(
        range(GD_DTYPE_I64, 3, (const int64_t[]){2, 2, 3}),
        "tensor([[[ 0,  1,  2],\n         [ 3,  4,  5]],\n\n        [[ 6,  7,  8],\n         [ 9, 10, 11]]])");
    assert_prints(range(GD_DTYPE_F32, 1, (const int64_t[]){30}),
                  "tensor([ 0.,  1.,  2.,  3.,  4.,  5.,  6.,  7.,  8.,  9., 10., 11., 12., 13.,\n"
                  "        14., 15., 16., 17., 18., 19., 20., 21., 22., 23., 24., 25., 26., 27.,\n"
                  "        28., 29.])");
    assert_prints(range(GD_DTYPE_F32, 1, (const int64_t[]){2000}),
                  "tensor([0.0000e+00, 1.0000e+00, 2.0000e+00,  ..., 1.9970e+03, 1.9980e+03,\n"
                  "        1.9990e+03])");
    assert_prints(range(GD_DTYPE_I64, 2, (const int64_t[]){40, 50}),
                  "tensor([[   0,    1,    2,  ...,   47,   48,   49],\n"
                  "        [  50,   51,   52,  ...,   97,   98,   99],\n"
                  "        [ 100,  101,  102,  ...,  147,  148,  149],\n"
                  "        ...,\n"
                  "        [1850, 1851, 1852,  ..., 1897, 1898, 1899],\n"
                  "        [1900, 1901, 1902,  ..., 1947, 1948, 1949],\n"
                  "        [1950, 1951, 1952,  ..., 1997, 1998, 1999]])");
    assert_prints(range(GD_DTYPE_F32, 1, (const int64_t[]){0}), "tensor([])");
    assert_prints(range(GD_DTYPE_F32, 2, (const int64_t[]){2, 0}), "tensor([], size=(2, 0))");
    assert_prints(range(GD_DTYPE_BF16, 1, (const int64_t[]){2}), "tensor([0., 1.], dtype=bf16)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(views_share_storage_and_have_strides),
        TEST(reshape_keeps_a_view_where_strides_allow_and_copies_elsewhere),
        TEST(squeeze_and_unsqueeze_move_axes_of_one),
        TEST(impossible_tensors_are_refused),
        TEST(aliases_stay_inside_the_storage),
        TEST(wrapped_memory_is_released_with_its_last_view),
        TEST(in_place_changes_are_counted),
        TEST(copies_broadcast_and_convert),
        TEST(transposed_copies_are_right_at_every_size),
        TEST(every_dtype_converts_to_every_other),
        TEST(float_to_integer_truncates_and_saturates),
        TEST(half_precision_rounds_to_nearest_even),
        TEST(a_double_is_rounded_to_half_precision_once),
        TEST(items_are_read_from_one_element_tensors_only),
        TEST(tensors_print_as_in_torch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
