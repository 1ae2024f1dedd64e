/* SPDX-License-Identifier: Apache-2.0 */
/* linear_cross_entropy: what linear and cross_entropy give, with a fraction of the memory. */
#include <math.h>

#include "gradd/amp.h"
#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/loss.h"
#include "gradd/ops.h"
#include "tests/support/fixture.h"

enum { N = 400, C = 12, V = 50000 }; /* 50,000 columns: pieces of 320 rows */

static gd_tensor_t *filled(int64_t rows, int64_t columns, float size, uint32_t seed)
{
    gd_tensor_t *t = NULL;
    const int64_t shape[2] = {rows, columns};
    assert_ok(gd_tensor_new(GD_DTYPE_F32, 2, shape, &t));
    float *data = gd_tensor_data(t);
    for (int64_t i = 0; i < rows * columns; i++) {
        seed = seed * 1664525U + 1013904223U;
        data[i] = size * ((float)(seed >> 8) / 8388608.0F - 1);
    }
    assert_ok(gd_tensor_set_requires_grad(t, true));
    return t;
}

static gd_tensor_t *labels_new(int64_t n)
{
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_new(GD_DTYPE_I64, 1, &n, &t));
    for (int64_t i = 0; i < n; i++) {
        ((int64_t *)gd_tensor_data(t))[i] = i % 7 == 3 ? 5 : i * 7919 % V; /* 5: the one that is ignored */
    }
    return t;
}

/* The unfused loss, of the same scale. */
static gd_tensor_t *plain_loss(gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *y,
                               const gd_linear_cross_entropy_options_t *options, int64_t *n_correct_p)
{
    gd_tensor_t *logits = NULL;
    gd_tensor_t *sum = NULL;
    gd_tensor_t *loss = NULL;
    assert_ok(gd_linear(x, weight, NULL, &logits));
    if (options->class_weight == NULL) {
        assert_ok(gd_cross_entropy(logits, y, options->scale, options->ignore_index, options->label_smoothing, &loss,
                                   n_correct_p));
    } else {
        assert_ok(gd_cross_entropy_loss(logits, y, options->class_weight, options->ignore_index,
                                        options->label_smoothing, GD_REDUCTION_SUM, &sum));
        assert_ok(gd_scale(sum, options->scale, 0, &loss));
        sum = gd_tensor_unref(sum);
        assert_ok(gd_cross_entropy(logits, y, 1, options->ignore_index, 0, &sum, n_correct_p)); /* for the hits */
    }
    (void)gd_tensor_unref(sum);
    (void)gd_tensor_unref(logits);
    return loss;
}

/* Loss and gradients of the unfused one in float64, for an upstream gradient of 1. */
typedef struct exact {
    gd_tensor_t *x, *weight, *loss;
} exact_t;

static gd_tensor_t *widened(const gd_tensor_t *narrow)
{
    gd_tensor_t *wide = NULL;
    assert_ok(gd_tensor_to((gd_tensor_t *)(uintptr_t)narrow, GD_DEVICE_CPU, GD_DTYPE_F64, &wide));
    return wide;
}

static void exact_init(const gd_linear_cross_entropy_options_t *options, exact_t *exact)
{
    gd_tensor_t *x = filled(N, C, 1, 1), *weight = filled(V, C, 0.3F, 2), *y = labels_new(N), *one = NULL;
    gd_linear_cross_entropy_options_t wide = *options;
    int64_t n_correct = 0;
    bool grad = gd_grad_set_enabled(false);
    *exact = (exact_t){.x = widened(x), .weight = widened(weight)};
    wide.class_weight = options->class_weight != NULL ? widened(options->class_weight) : NULL;
    ((int64_t *)gd_tensor_data(y))[0] = 5;
    (void)gd_grad_set_enabled(true);
    assert_ok(gd_tensor_set_requires_grad(exact->x, true));
    assert_ok(gd_tensor_set_requires_grad(exact->weight, true));
    assert_ok(gd_tensor_scalar(GD_DTYPE_F64, 1, &one));
    exact->loss = plain_loss(exact->x, exact->weight, y, &wide, &n_correct);
    assert_ok(gd_backward(exact->loss, one, false));
    (void)gd_grad_set_enabled(grad);
    (void)gd_tensor_unref(wide.class_weight);
    (void)gd_tensor_unref(one);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(weight);
    (void)gd_tensor_unref(x);
}

static void exact_release(exact_t *exact)
{
    (void)gd_tensor_unref(exact->x);
    (void)gd_tensor_unref(exact->weight);
    (void)gd_tensor_unref(exact->loss);
}

/* Sums over 50,000 classes are rounded by a few millionths of the largest element, in whatever order they are made:
 * the fused one must be as near to factor times the exact ones as the unfused one is. */
static void assert_as_exact(const gd_tensor_t *fused, const gd_tensor_t *plain, const gd_tensor_t *exact, double factor)
{
    const float *data[2] = {gd_tensor_data(fused), gd_tensor_data(plain)};
    const double *e = gd_tensor_data(exact);
    double worst[2] = {0, 0};
    double largest = 0;
    for (int64_t i = 0; i < gd_tensor_numel(exact); i++) {
        largest = fmax(largest, fabs(factor * e[i]));
        for (int side = 0; side < 2; side++) {
            const double error = fabs((double)data[side][i] - factor * e[i]);
            worst[side] = error <= worst[side] ? worst[side] : error; /* NaN is the worst */
        }
    }
    assert_true(largest > 0);
    if (!(worst[1] <= 1e-5 * largest && worst[0] <= worst[1] + 1e-6 * largest)) {
        fail_msg("off by up to %.3g, unfused %.3g, of up to %.9g", worst[0], worst[1], largest);
    }
}

static void assert_near(const gd_tensor_t *a, const gd_tensor_t *b, float tolerance)
{
    const float *x = gd_tensor_data(a);
    const float *y = gd_tensor_data(b);
    float largest = 0;
    for (int64_t i = 0; i < gd_tensor_numel(a); i++) {
        largest = fmaxf(largest, fabsf(y[i]));
    }
    assert_true(largest > 0);
    for (int64_t i = 0; i < gd_tensor_numel(a); i++) {
        if (!(fabsf(x[i] - y[i]) <= tolerance * largest)) {
            fail_msg("element %lld is %.9g, unfused %.9g", (long long)i, (double)x[i], (double)y[i]);
        }
    }
}

/* A gradient buffer as a training step's: fresh, full of what is left from before. */
static void buffer_give(gd_tensor_t *leaf)
{
    gd_tensor_t *buffer = NULL;
    assert_ok(gd_tensor_full(GD_DTYPE_F32, 2, gd_tensor_shape(leaf), 1e9, &buffer));
    assert_ok(gd_tensor_set_grad(leaf, buffer, true));
    (void)gd_tensor_unref(buffer);
}

/* Loss, hits and gradients for an upstream gradient of dy; into buffers, twice, so that the second is added. */
static void compare_with_plain(const gd_linear_cross_entropy_options_t *options, const exact_t *exact, double dy,
                               bool has_buffers)
{
    gd_tensor_t *x[2] = {filled(N, C, 1, 1), filled(N, C, 1, 1)};
    gd_tensor_t *weight[2] = {filled(V, C, 0.3F, 2), filled(V, C, 0.3F, 2)};
    gd_tensor_t *y = labels_new(N);
    gd_tensor_t *loss[2] = {NULL, NULL};
    gd_tensor_t *upstream = NULL;
    int64_t n_correct[2] = {-1, -1};
    bool grad = gd_grad_set_enabled(true);
    ((int64_t *)gd_tensor_data(y))[0] = 5;
    assert_ok(gd_tensor_scalar(GD_DTYPE_F32, dy, &upstream));
    for (int i = 0; i < 2 && has_buffers; i++) {
        buffer_give(x[i]);
        buffer_give(weight[i]);
    }

    for (int times = 0; times < 1 + has_buffers; times++) {
        for (int i = 0; i < 2; i++) {
            (void)gd_tensor_unref(loss[i]);
            if (i == 0) {
                assert_ok(gd_linear_cross_entropy(x[0], weight[0], y, options, &loss[0], &n_correct[0]));
            } else {
                loss[1] = plain_loss(x[1], weight[1], y, options, &n_correct[1]);
            }
            assert_ok(gd_backward(loss[i], upstream, false));
        }
    }

    assert_int_equal(n_correct[0], n_correct[1]);
    const double factor = has_buffers ? 2 * dy : dy;
    assert_as_exact(loss[0], loss[1], exact->loss, 1);
    assert_as_exact(gd_tensor_grad(x[0]), gd_tensor_grad(x[1]), gd_tensor_grad(exact->x), factor);
    assert_as_exact(gd_tensor_grad(weight[0]), gd_tensor_grad(weight[1]), gd_tensor_grad(exact->weight), factor);
    for (int i = 0; i < 2; i++) {
        (void)gd_tensor_unref(loss[i]);
        (void)gd_tensor_unref(x[i]);
        (void)gd_tensor_unref(weight[i]);
    }
    (void)gd_tensor_unref(upstream);
    (void)gd_tensor_unref(y);
    (void)gd_grad_set_enabled(grad);
}

static void pieces_give_what_the_whole_gives(void **state)
{
    (void)state;
    gd_tensor_t *class_weight = filled(1, V, 0.5F, 9);
    gd_tensor_t *flat = NULL;
    const int64_t v = V;
    assert_ok(gd_tensor_set_requires_grad(class_weight, false));
    for (int64_t i = 0; i < V; i++) {
        ((float *)gd_tensor_data(class_weight))[i] += 1;
    }
    assert_ok(gd_reshape(class_weight, 1, &v, &flat));
    const gd_linear_cross_entropy_options_t cases[] = {
        {.scale = 1.0 / N, .ignore_index = -100},
        {.scale = 0.25, .ignore_index = 5, .label_smoothing = 0.1},
        {.scale = 1.0 / N, .ignore_index = 5, .label_smoothing = 0.1, .class_weight = flat},
    };
    for (int i = 0; i < 3; i++) {
        exact_t exact;
        exact_init(&cases[i], &exact);
        for (int k = 0; k < 4; k++) {
            gd_linear_cross_entropy_options_t options = cases[i];
            options.is_root = k == 3;
            compare_with_plain(&options, &exact, k == 1 ? 0.5 : 1, k >= 2);
        }
        exact_release(&exact);
    }
    (void)gd_tensor_unref(flat);
    (void)gd_tensor_unref(class_weight);
}

/* Fused (0) and not (1), one after the other: loss, hits and gradients. */
static void run_in_bf16(int i, gd_tensor_t *x, gd_tensor_t *weight, gd_tensor_t *y, gd_tensor_t **loss_p)
{
    const gd_linear_cross_entropy_options_t options = {
        .scale = 1.0 / N, .ignore_index = 5, .label_smoothing = 0.1, .is_root = true};
    const gd_dtype_t before = gd_autocast_set(GD_DTYPE_BF16);
    if (i == 0) {
        assert_ok(gd_linear_cross_entropy(x, weight, y, &options, loss_p, NULL));
    } else {
        *loss_p = plain_loss(x, weight, y, &options, NULL);
    }
    (void)gd_autocast_set(before);
    assert_ok(gd_backward(*loss_p, NULL, false));
}

static void autocast_gives_what_it_gives_unfused(void **state)
{
    (void)state;
    gd_tensor_t *x[2], *weight[2], *loss[2];
    gd_tensor_t *y = labels_new(N);
    bool grad = gd_grad_set_enabled(true);
    for (int i = 0; i < 2; i++) {
        x[i] = filled(N, C, 1, 1);
        weight[i] = filled(V, C, 0.3F, 2);
        buffer_give(weight[i]);
        run_in_bf16(i, x[i], weight[i], y, &loss[i]);
    }

    assert_int_equal(gd_tensor_dtype(gd_tensor_grad(weight[0])), GD_DTYPE_F32);
    assert_near(loss[0], loss[1], 1e-6F);
    assert_near(gd_tensor_grad(x[0]), gd_tensor_grad(x[1]), 0x1p-7F);
    assert_near(gd_tensor_grad(weight[0]), gd_tensor_grad(weight[1]), 0x1p-7F);
    for (int i = 0; i < 2; i++) {
        (void)gd_tensor_unref(loss[i]);
        (void)gd_tensor_unref(x[i]);
        (void)gd_tensor_unref(weight[i]);
    }
    (void)gd_tensor_unref(y);
    (void)gd_grad_set_enabled(grad);
}

static void a_root_goes_backwards_from_one_only(void **state)
{
    (void)state;
    const gd_linear_cross_entropy_options_t options = {.scale = 1, .ignore_index = -100, .is_root = true};
    gd_tensor_t *x = filled(4, C, 1, 1);
    gd_tensor_t *weight = filled(V, C, 0.3F, 2);
    gd_tensor_t *y = labels_new(4);
    gd_tensor_t *loss = NULL;
    gd_tensor_t *two = NULL;
    bool grad = gd_grad_set_enabled(true);
    buffer_give(weight);
    assert_ok(gd_tensor_scalar(GD_DTYPE_F32, 2, &two));
    assert_ok(gd_linear_cross_entropy(x, weight, y, &options, &loss, NULL));

    assert_fails(gd_backward(loss, two, false), ST_ERR_STATE,
                 "linear_cross_entropy: the weight's gradient was made for an upstream gradient of 1, not 2");
    (void)gd_grad_set_enabled(grad);
    (void)gd_tensor_unref(two);
    (void)gd_tensor_unref(loss);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(weight);
    (void)gd_tensor_unref(y);
}

static void the_logits_are_never_all_there(void **state)
{
    (void)state;
    const gd_linear_cross_entropy_options_t options = {.scale = 1, .ignore_index = -100};
    const int64_t logits = (int64_t)1024 * V * 4;
    size_t peak[2];
    bool grad = gd_grad_set_enabled(true);
    for (int i = 0; i < 2; i++) {
        gd_tensor_t *x = filled(1024, 4, 1, 1);
        gd_tensor_t *weight = filled(V, 4, 0.3F, 2);
        gd_tensor_t *y = labels_new(1024);
        gd_tensor_t *loss = NULL;
        gd_memory_reset_peak();
        const size_t before = (size_t)gd_memory_get_stats().in_use_bytes;
        if (i == 0) {
            assert_ok(gd_linear_cross_entropy(x, weight, y, &options, &loss, NULL));
        } else {
            loss = plain_loss(x, weight, y, &options, NULL);
        }
        assert_ok(gd_backward(loss, NULL, false));
        peak[i] = (size_t)gd_memory_get_stats().peak_bytes - before;
        (void)gd_tensor_unref(loss);
        (void)gd_tensor_unref(y);
        (void)gd_tensor_unref(weight);
        (void)gd_tensor_unref(x);
    }
    (void)gd_grad_set_enabled(grad);

    print_message("peak %.1f MB in pieces, %.1f MB at once\n", (double)peak[0] * 1e-6, (double)peak[1] * 1e-6);
    assert_true((int64_t)peak[1] >= 2 * logits); /* and their gradient */
    assert_true(peak[0] * 3 < peak[1]);          /* one of two pieces, of a whole and its gradient */
}

static void without_gradients_the_loss_alone_is_made(void **state)
{
    (void)state;
    const gd_linear_cross_entropy_options_t options = {.scale = 1, .ignore_index = -100};
    gd_tensor_t *x = filled(64, 400, 1, 1);
    gd_tensor_t *weight = filled(V, 400, 0.3F, 2);
    gd_tensor_t *y = labels_new(64);
    gd_tensor_t *loss[2] = {NULL, NULL};
    int64_t n_correct[2] = {-1, -1};
    bool grad = gd_grad_set_enabled(false);
    gd_memory_reset_peak();
    const int64_t before = gd_memory_get_stats().in_use_bytes;

    assert_ok(gd_linear_cross_entropy(x, weight, y, &options, &loss[0], &n_correct[0]));
    const int64_t peak = gd_memory_get_stats().peak_bytes - before;
    loss[1] = plain_loss(x, weight, y, &options, &n_correct[1]);

    assert_true(peak < (int64_t)64 * V * 4 + (1 << 20)); /* one piece's logits; V x 400 are 80 MB */
    assert_near(loss[0], loss[1], 1e-6F);
    assert_int_equal(n_correct[0], n_correct[1]);
    (void)gd_grad_set_enabled(grad);
    (void)gd_tensor_unref(loss[0]);
    (void)gd_tensor_unref(loss[1]);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(weight);
    (void)gd_tensor_unref(y);
}

static void what_does_not_fit_is_named(void **state)
{
    (void)state;
    const gd_linear_cross_entropy_options_t options = {.scale = 1, .ignore_index = -100};
    gd_tensor_t *x = filled(4, 3, 1, 1);
    gd_tensor_t *weight = filled(6, 2, 1, 1);
    gd_tensor_t *fitting = filled(6, 3, 1, 1);
    gd_tensor_t *y = labels_new(5);
    gd_tensor_t *four = labels_new(4);
    gd_tensor_t *loss = NULL;

    assert_fails(gd_linear_cross_entropy(x, weight, y, &options, &loss, NULL), ST_ERR_SHAPE,
                 "linear_cross_entropy: [4, 3] and [6, 2]: x[…,C] and weight[V,C] are needed");
    assert_fails(gd_linear_cross_entropy(x, fitting, y, &options, &loss, NULL), ST_ERR_SHAPE,
                 "one target for each row of x is needed");
    assert_fails(gd_linear_cross_entropy(x, fitting, four, &options, &loss, NULL), ST_ERR_DATA, "outside 0");
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(weight);
    (void)gd_tensor_unref(fitting);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(four);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pieces_give_what_the_whole_gives),         TEST(autocast_gives_what_it_gives_unfused),
        TEST(a_root_goes_backwards_from_one_only),      TEST(the_logits_are_never_all_there),
        TEST(without_gradients_the_loss_alone_is_made), TEST(what_does_not_fit_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
