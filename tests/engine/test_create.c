/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors from rules and random numbers; parts of tensors; memory formats; devices; what bad arguments are told. */
#include "tests/support/fixture.h"

#include <math.h>
#include <string.h>

#include "gradd/autograd.h"
#include "gradd/ops.h"

static const gd_rng_key_t key = {.seed = 5, .layer = 3, .purpose = 5};

#define SHAPE(...)                                                                                                     \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])                                       \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }

static double mean_of(gd_tensor_t *t)
{
    gd_tensor_t *wide = NULL;
    gd_tensor_t *mean = NULL;
    double value = 0;
    assert_ok(gd_cast(t, GD_DTYPE_F64, &wide));
    assert_ok(gd_mean(wide, 0, NULL, false, &mean));
    assert_ok(gd_tensor_item(mean, &value));
    (void)gd_tensor_unref(wide);
    (void)gd_tensor_unref(mean);
    return value;
}

/* Of a reduction that was written to *t_p, which is released. */
static double value_of(status_t status, gd_tensor_t **t_p)
{
    double value = 0;
    assert_ok(status);
    assert_ok(gd_tensor_item(*t_p, &value));
    *t_p = gd_tensor_unref(*t_p);
    return value;
}

static void random_tensors_depend_on_the_key_alone(void **state)
{
    (void)state;
    const gd_rng_key_t other = {.seed = 5, .layer = 4, .purpose = 5};
    const gd_dtype_t dtypes[] = {GD_DTYPE_F32, GD_DTYPE_F64, GD_DTYPE_BF16, GD_DTYPE_F16};
    for (int i = 0; i < 4; i++) {
        gd_tensor_t *t[4] = {NULL};
        assert_ok(gd_rand(&key, dtypes[i], SHAPE(50, 40), &t[0]));
        assert_ok(gd_rand(&key, dtypes[i], SHAPE(40, 50), &t[1]));
        assert_ok(gd_rand(&other, dtypes[i], SHAPE(50, 40), &t[2]));
        assert_ok(gd_randn(&key, dtypes[i], SHAPE(50, 40), &t[3]));

        const size_t size = 2000 * gd_dtype_size(dtypes[i]);
        assert_memory_equal(gd_tensor_data(t[0]), gd_tensor_data(t[1]), size);
        assert_memory_not_equal(gd_tensor_data(t[0]), gd_tensor_data(t[2]), size);
        assert_true(fabs(mean_of(t[0]) - 0.5) < 0.03);
        assert_true(fabs(mean_of(t[3])) < 0.1);
        gd_tensor_t *largest = NULL;
        gd_tensor_t *spread = NULL;
        assert_true(value_of(gd_amax(t[0], 0, NULL, false, &largest), &largest) < 1);
        assert_true(fabs(value_of(gd_std(t[3], 1, 0, NULL, false, &spread), &spread) - 1) < 0.1);
        for (int k = 0; k < 4; k++) {
            (void)gd_tensor_unref(t[k]);
        }
    }
    gd_tensor_t *t = NULL;
    assert_fails(gd_rand(&key, GD_DTYPE_I32, SHAPE(3), &t), ST_ERR_DTYPE, "rand: random numbers of i32");
}

static void integers_are_drawn_from_their_range(void **state)
{
    (void)state;
    gd_tensor_t *t = NULL;
    gd_tensor_t *bound = NULL;
    assert_ok(gd_randint(&key, -3, 4, GD_DTYPE_I32, SHAPE(2000), &t));
    assert_true(value_of(gd_amin(t, 0, NULL, false, &bound), &bound) == -3);
    assert_true(value_of(gd_amax(t, 0, NULL, false, &bound), &bound) == 3);
    assert_true(fabs(mean_of(t)) < 0.2);
    (void)gd_tensor_unref(t);
    assert_fails(gd_randint(&key, 4, 4, GD_DTYPE_I32, SHAPE(2), &t), ST_ERR_RANGE, "randint: nothing from 4 to 4");

    gd_tensor_t *sorted = NULL;
    gd_tensor_t *count = NULL;
    assert_ok(gd_randperm(&key, 100, &t));
    assert_ok(gd_sort(t, 0, false, &sorted, NULL));
    assert_ok(gd_arange(GD_DTYPE_I64, 0, 100, 1, &count));
    assert_memory_equal(gd_tensor_data(sorted), gd_tensor_data(count), 800);
    assert_memory_not_equal(gd_tensor_data(t), gd_tensor_data(count), 800);
    (void)gd_tensor_unref(t);
    (void)gd_tensor_unref(sorted);
    (void)gd_tensor_unref(count);
}

static void draws_follow_their_probabilities(void **state)
{
    (void)state;
    gd_tensor_t *p = NULL;
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_full(GD_DTYPE_F32, SHAPE(4000), 0.3, &p));
    assert_ok(gd_bernoulli(&key, p, &t));
    assert_true(fabs(mean_of(t) - 0.3) < 0.03);
    (void)gd_tensor_unref(t);
    assert_ok(gd_tensor_fill(p, 1.5));
    assert_fails(gd_bernoulli(&key, p, &t), ST_ERR_DATA, "bernoulli: the probability 1.5 at element 0");
    (void)gd_tensor_unref(p);

    const float weights[6] = {1, 0, 3, 0, 0, 2};
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, SHAPE(2, 3), weights, &p));
    assert_ok(gd_multinomial(&key, p, 4000, true, &t));
    const int64_t *drawn = gd_tensor_data(t);
    int n_twos = 0;
    for (int i = 0; i < 4000; i++) {
        n_twos += drawn[i] == 2;
        assert_true(drawn[i] != 1);
        assert_int_equal(drawn[4000 + i], 2);
    }
    assert_in_range(n_twos, 2850, 3150);
    (void)gd_tensor_unref(t);
    assert_fails(gd_multinomial(&key, p, 2, false, &t), ST_ERR_DATA,
                 "multinomial: 1 weights of row 1 aren't 0, 2 are needed");
    gd_tensor_t *first = NULL;
    assert_ok(gd_select(p, 0, 0, &first));
    assert_ok(gd_multinomial(&key, first, 2, false, &t));
    drawn = gd_tensor_data(t);
    assert_true(drawn[0] + drawn[1] == 2 && drawn[0] != drawn[1]); /* 0 and 2 */
    (void)gd_tensor_unref(t);
    (void)gd_tensor_unref(first);
    (void)gd_tensor_unref(p);
}

static void parts_share_memory_and_cover_the_axis(void **state)
{
    (void)state;
    gd_tensor_t *t = NULL;
    gd_tensor_t *parts[8] = {NULL};
    gd_tensor_t *back = NULL;
    int n = 0;
    assert_ok(gd_arange(GD_DTYPE_F32, 0, 14, 1, &t));
    gd_tensor_t *x = NULL;
    assert_ok(gd_reshape(t, SHAPE(7, 2), &x));

    assert_ok(gd_split(x, 0, 3, 8, parts, &n));
    assert_int_equal(n, 3);
    assert_int_equal(gd_tensor_dim(parts[2], 0), 1);
    assert_ptr_equal(gd_tensor_data(parts[1]), (float *)gd_tensor_data(x) + 6);
    assert_ok(gd_cat(parts, n, 0, &back));
    assert_memory_equal(gd_tensor_data(back), gd_tensor_data(x), 14 * sizeof(float));
    for (int i = 0; i < n; i++) {
        (void)gd_tensor_unref(parts[i]);
    }
    assert_ok(gd_chunk(x, 0, 4, 8, parts, &n)); /* as PyTorch: 2, 2, 2, 1 */
    assert_int_equal(n, 4);
    assert_int_equal(gd_tensor_dim(parts[3], 0), 1);
    for (int i = 0; i < n; i++) {
        (void)gd_tensor_unref(parts[i]);
    }
    assert_ok(gd_unbind(x, 1, 8, parts, &n));
    assert_int_equal(n, 2);
    assert_int_equal(gd_tensor_n_dims(parts[1]), 1);
    assert_true(*(float *)gd_tensor_data(parts[1]) == 1.0F);
    for (int i = 0; i < n; i++) {
        (void)gd_tensor_unref(parts[i]);
    }
    assert_fails(gd_split(x, 0, 1, 3, parts, &n), ST_ERR_RANGE, "split: [7, 2]: 7 parts, there is room for 3");
    assert_fails(gd_select(x, 0, 7, &back), ST_ERR_RANGE, "select: index 7 of axis 0 of size 7");
    assert_fails(gd_narrow(x, 0, 5, 3, &back), ST_ERR_RANGE, "narrow: 3 elements from 5 on of axis 0 of size 7");
    (void)gd_tensor_unref(back);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(t);
}

static void channels_can_lie_innermost(void **state)
{
    (void)state;
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    gd_tensor_t *again = NULL;
    gd_tensor_t *same = NULL;
    assert_ok(gd_randn(&key, GD_DTYPE_F32, SHAPE(2, 3, 4, 5), &x));

    assert_false(gd_tensor_is_channels_last(x));
    assert_ok(gd_channels_last(x, &y));
    assert_true(gd_tensor_is_channels_last(y));
    assert_int_equal(gd_tensor_dim(y, 1), 3);
    assert_int_equal(gd_tensor_strides(y)[1], 1);
    assert_ok(gd_channels_last(y, &same));
    assert_ptr_equal(same, y);
    assert_ok(gd_contiguous(y, &again));
    assert_memory_equal(gd_tensor_data(again), gd_tensor_data(x), 120 * sizeof(float));

    /* an op takes it by its strides */
    gd_tensor_t *sums[2] = {NULL};
    gd_tensor_t *difference = NULL;
    assert_ok(gd_exp(x, &sums[0]));
    assert_ok(gd_exp(y, &sums[1]));
    assert_ok(gd_sub(sums[0], sums[1], &difference));
    gd_tensor_t *largest = NULL;
    assert_true(value_of(gd_norm(difference, HUGE_VAL, 0, NULL, false, &largest), &largest) == 0);
    (void)gd_tensor_unref(difference);
    (void)gd_tensor_unref(sums[0]);
    (void)gd_tensor_unref(sums[1]);
    (void)gd_tensor_unref(same);
    (void)gd_tensor_unref(again);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(x);
}

static void tensors_go_to_dtypes_and_devices_that_there_are(void **state)
{
    (void)state;
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    assert_ok(gd_ones(GD_DTYPE_F32, SHAPE(2), &x));
    assert_ok(gd_tensor_to(x, GD_DEVICE_CPU, GD_DTYPE_F32, &y));
    assert_ptr_equal(x, y);
    (void)gd_tensor_unref(y);
    assert_ok(gd_tensor_to(x, GD_DEVICE_CPU, GD_DTYPE_BF16, &y));
    assert_int_equal(gd_tensor_dtype(y), GD_DTYPE_BF16);
    (void)gd_tensor_unref(y);
    assert_fails(gd_tensor_to(x, GD_DEVICE_CUDA, GD_DTYPE_F32, &y), ST_ERR_UNSUPPORTED,
                 "to: f32 [2]: device cuda: this build has no kernels for it; device cpu is there");
    assert_fails(gd_tensor_to(x, (gd_device_t)7, GD_DTYPE_F32, &y), ST_ERR_INVAL, "to: f32 [2]: 7 is no device");
    assert_string_equal(gd_device_name(gd_tensor_device(x)), "cpu");
    assert_null(gd_device_name(GD_DEVICE_COUNT));
    assert_fails(gd_tensor_to(x, GD_DEVICE_CPU, GD_DTYPE_COUNT, &y), ST_ERR_DTYPE, "to: 8 is no dtype");
    (void)gd_tensor_unref(x);
}

static void numbers_do_not_widen_tensors(void **state)
{
    (void)state;
    static const struct {
        gd_dtype_t x;
        bool is_float;
        gd_dtype_t result;
    } cases[] = {
        {GD_DTYPE_F16, true, GD_DTYPE_F16}, {GD_DTYPE_F64, false, GD_DTYPE_F64},  {GD_DTYPE_U8, false, GD_DTYPE_U8},
        {GD_DTYPE_I32, true, GD_DTYPE_F32}, {GD_DTYPE_BOOL, false, GD_DTYPE_I64}, {GD_DTYPE_BOOL, true, GD_DTYPE_F32},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        gd_tensor_t *x = NULL;
        gd_tensor_t *y = NULL;
        assert_ok(gd_ones(cases[i].x, SHAPE(2), &x));
        assert_ok(gd_with_number(gd_add, x, cases[i].is_float ? gd_float(2) : gd_int(2), &y));
        assert_int_equal(gd_tensor_dtype(y), cases[i].result);
        assert_true(mean_of(y) == 3);
        (void)gd_tensor_unref(x);
        (void)gd_tensor_unref(y);
    }
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    assert_ok(gd_ones(GD_DTYPE_U8, SHAPE(2), &x));
    assert_fails(gd_with_number(gd_lt, x, gd_int(300), &y), ST_ERR_RANGE,
                 "the number 300 beside a tensor of u8, which can't hold it");
    (void)gd_tensor_unref(x);
}

static void bad_arguments_are_told_what_is_wrong(void **state)
{
    (void)state;
    gd_tensor_t *x = NULL;
    gd_tensor_t *empty = NULL;
    gd_tensor_t *index = NULL;
    gd_tensor_t *y = NULL;
    assert_ok(gd_ones(GD_DTYPE_F32, SHAPE(2, 3), &x));
    assert_ok(gd_ones(GD_DTYPE_F32, SHAPE(0, 3), &empty));
    assert_ok(gd_arange(GD_DTYPE_I32, 0, 5, 1, &index));

    assert_fails(gd_index_select(x, 1, index, &y), ST_ERR_RANGE,
                 "gather: index 3 (element 3 of the index) for axis 1 of size 3");
    assert_fails(gd_index_select(x, 2, index, &y), ST_ERR_RANGE, "index_select: axis 2 of a tensor with 2 dimensions");
    assert_fails(gd_gather(x, 0, x, &y), ST_ERR_DTYPE, "gather: the index is f32: i64, i32 or u8 is needed");
    assert_fails(gd_amax(empty, 1, (const int[]){0}, false, &y), ST_ERR_SHAPE,
                 "amax: [0, 3]: there is nothing along the reduced axes");
    assert_fails(gd_amax(x, 2, (const int[]){0, -2}, false, &y), ST_ERR_INVAL, "amax: axis 0 is given twice");
    assert_fails(gd_cat((gd_tensor_t *[]){x, index}, 2, 0, &y), ST_ERR_SHAPE,
                 "cat: [2, 3] and [5]: sizes must be equal");
    assert_fails(gd_topk(x, 4, 1, true, &y, NULL), ST_ERR_RANGE, "topk: 4 of axis 1 of size 3");
    assert_fails(gd_remainder(index, index, &y), ST_ERR_DATA, "remainder: element 0 of the divisor is 0");
    assert_fails(gd_where(x, x, x, &y), ST_ERR_DTYPE, "where: the condition is f32: it must be bool or u8");
    assert_fails(gd_masked_select(x, x, &y), ST_ERR_DTYPE, "masked_select: the mask is f32");
    assert_fails(gd_norm(index, 2, 0, NULL, false, &y), ST_ERR_UNSUPPORTED, "norm: no kernel for i32");
    assert_fails(gd_clamp(x, 2, 1, &y), ST_ERR_RANGE, "clamp: the lower bound 2 isn't below the upper one 1");

    /* what is empty stays so */
    assert_ok(gd_sort(empty, 0, false, &y, NULL));
    assert_int_equal(gd_tensor_numel(y), 0);
    (void)gd_tensor_unref(y);
    assert_ok(gd_logsumexp(empty, 1, (const int[]){0}, false, &y));
    assert_true(mean_of(y) == -HUGE_VAL);
    (void)gd_tensor_unref(y);
    assert_ok(gd_nonzero(empty, &y));
    assert_int_equal(gd_tensor_dim(y, 0), 0);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(empty);
    (void)gd_tensor_unref(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(random_tensors_depend_on_the_key_alone),
        TEST(integers_are_drawn_from_their_range),
        TEST(draws_follow_their_probabilities),
        TEST(parts_share_memory_and_cover_the_axis),
        TEST(channels_can_lie_innermost),
        TEST(tensors_go_to_dtypes_and_devices_that_there_are),
        TEST(numbers_do_not_widen_tensors),
        TEST(bad_arguments_are_told_what_is_wrong),
    };
    return cmocka_run_group_tests_name("create", tests, NULL, NULL);
}
