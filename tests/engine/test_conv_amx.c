/* SPDX-License-Identifier: Apache-2.0 */
/* conv_amx: f32 convolutions by bf16 tiles are as good as f32, for odd sizes, whoever computes what. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "cpu/amx_conv.h"
#include "cpu/cpu.h"
#include "gradd/op.h"
#include "gradd/rng.h"
#include "tests/support/fixture.h"

#define NEEDS_AMX()                                                                                                    \
    do {                                                                                                               \
        if (gd_cpu_isa() != GD_CPU_ISA_AMX) {                                                                          \
            FIXTURE_SKIP("%s has no AMX", gd_cpu_isa_name());                                                          \
        }                                                                                                              \
    } while (0)

/* batch, c_in, c_out, height, width, kernel (2), padding (2), dilation (2) */
static const int64_t shapes[][11] = {
    {1, 1, 1, 1, 1, 3, 3, 1, 1, 1, 1},
    {1, 1, 1, 4, 1, 2, 1, 0, 0, 1, 1},
    {2, 17, 31, 5, 1, 3, 3, 1, 1, 1, 1},
    {3, 33, 40, 7, 7, 3, 3, 1, 1, 1, 1},
    {3, 64, 32, 3, 3, 3, 3, 0, 0, 1, 1},
    {2, 64, 33, 14, 14, 3, 3, 2, 2, 1, 1},
    {1, 32, 64, 20, 37, 3, 3, 1, 1, 1, 1},
    {2, 40, 31, 11, 16, 5, 5, 2, 2, 1, 1},
    {1, 33, 17, 13, 15, 3, 3, 2, 2, 2, 2},
    {2, 20, 24, 9, 12, 3, 2, 2, 1, 1, 3},
    {2, 64, 40, 1, 50, 1, 7, 0, 3, 1, 1},
    {3, 48, 31, 9, 1, 7, 1, 0, 0, 1, 1},
    {7, 5, 3, 1, 2, 1, 2, 0, 0, 1, 1}, /* eight images in a tile */
    {5, 3, 2, 1, 1, 2, 2, 1, 1, 1, 1},
    {2, 96, 33, 8, 8, 2, 2, 1, 0, 1, 1}, /* several blocks of channels in a chunk */
    {2, 300, 70, 6, 5, 1, 2, 0, 1, 1, 1},
    {1, 70, 65, 18, 18, 8, 9, 4, 3, 1, 1},  /* several chunks for the taps */
    {1, 33, 600, 12, 12, 3, 3, 1, 1, 1, 1}, /* several groups of output channels */
    {2, 64, 64, 60, 61, 3, 3, 1, 1, 1, 1},  /* several bands */
    {1, 16, 16, 2, 9000, 2, 3, 0, 1, 1, 1},
    {4, 6, 7, 96, 95, 3, 3, 1, 1, 1, 1}, /* long sums for the weights */
};
enum { N_SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

typedef struct problem {
    gd_conv_t conv;
    int64_t n_x, n_weight, n_y;
    float *x, *weight, *bias, *y;
} problem_t;

static float *noise_new(int64_t n, uint32_t layer)
{
    float *x = mem_alloc((size_t)n * sizeof(float));
    assert_non_null(x);
    gd_rng_fill_uniform(&(gd_rng_key_t){.seed = 7, .layer = layer}, -1, 1, x, n);
    return x;
}

static problem_t problem_new(const int64_t *s)
{
    problem_t p = {.conv = {.batch = s[0],
                            .c_in = s[1],
                            .c_out = s[2],
                            .groups = 1,
                            .in = {s[3], s[4], 0},
                            .kernel = {s[5], s[6], 0},
                            .stride = {1, 1, 0},
                            .padding = {s[7], s[8], 0},
                            .dilation = {s[9], s[10], 0},
                            .dtype = GD_DTYPE_F32,
                            .dweight_dtype = GD_DTYPE_F32}};
    gd_conv_t *c = &p.conv;
    for (int i = 0; i < 2; i++) {
        c->out[i] = c->in[i] + 2 * c->padding[i] - (c->kernel[i] - 1) * c->dilation[i];
        assert_true(c->out[i] > 0);
    }
    p.n_x = s[0] * s[1] * s[3] * s[4];
    p.n_weight = s[1] * s[2] * s[5] * s[6];
    p.n_y = s[0] * s[2] * c->out[0] * c->out[1];
    p.x = noise_new(p.n_x, 1);
    p.weight = noise_new(p.n_weight, 2);
    p.bias = noise_new(s[2], 3);
    p.y = noise_new(p.n_y, 4);
    return p;
}

static void problem_release(problem_t *p)
{
    mem_free(p->x);
    mem_free(p->weight);
    mem_free(p->bias);
    mem_free(p->y);
}

static float *result_of(const problem_t *p, gd_conv_kind_t kind)
{
    return kind == GD_CONV_FORWARD ? p->y : kind == GD_CONV_INPUT ? p->x : p->weight;
}

static int64_t result_size(const problem_t *p, gd_conv_kind_t kind)
{
    return kind == GD_CONV_FORWARD ? p->n_y : kind == GD_CONV_INPUT ? p->n_x : p->n_weight;
}

/* Writes the result over y, x or the weight; the weight's gradient with that of the bias. */
static void problem_run(const problem_t *p, gd_conv_kind_t kind, int n_threads)
{
    memset(result_of(p, kind), 0xFF, (size_t)result_size(p, kind) * sizeof(float));
    if (kind == GD_CONV_FORWARD) {
        assert_ok(gd_amx_conv_forward(&p->conv, p->x, p->weight, p->bias, p->y, n_threads));
    } else if (kind == GD_CONV_INPUT) {
        assert_ok(gd_amx_conv_backward_input(&p->conv, p->y, p->weight, p->x, n_threads));
    } else {
        assert_ok(gd_amx_conv_backward_weight(&p->conv, p->y, p->x, p->weight, p->bias, n_threads));
    }
}

/* The definition in float64: sums of products, and of their magnitudes. */
typedef struct sums {
    double *value, *size;
} sums_t;

static void image_add(const problem_t *p, gd_conv_kind_t kind, int64_t b, int64_t o, sums_t sums)
{
    const gd_conv_t *c = &p->conv;
    const int64_t n_taps = c->kernel[0] * c->kernel[1];
    for (int64_t i = 0; i < c->out[0] * c->out[1]; i++) {
        const int64_t y = (b * c->c_out + o) * c->out[0] * c->out[1] + i;
        for (int64_t k = 0; k < c->c_in * n_taps; k++) {
            const int64_t row = i / c->out[1] - c->padding[0] + k % n_taps / c->kernel[1] * c->dilation[0];
            const int64_t column = i % c->out[1] - c->padding[1] + k % c->kernel[1] * c->dilation[1];
            if (row < 0 || row >= c->in[0] || column < 0 || column >= c->in[1]) {
                continue;
            }
            const int64_t x = ((b * c->c_in + k / n_taps) * c->in[0] + row) * c->in[1] + column;
            const int64_t weight = o * c->c_in * n_taps + k;
            const float *factor[] = {&p->x[x], &p->weight[weight], &p->y[y]};
            const int64_t place[] = {y, x, weight};
            static const int factors[][2] = {{0, 1}, {2, 1}, {2, 0}};
            const double term = (double)*factor[factors[kind][0]] * (double)*factor[factors[kind][1]];
            const int64_t to = place[kind];
            sums.value[to] += term;
            sums.size[to] += fabs(term);
        }
    }
}

static sums_t definition(const problem_t *p, gd_conv_kind_t kind)
{
    const gd_conv_t *c = &p->conv;
    const int64_t n = result_size(p, kind), plane = c->out[0] * c->out[1];
    sums_t sums = {mem_calloc((size_t)n, sizeof(double)), mem_calloc((size_t)n, sizeof(double))};
    assert_true(sums.value != NULL && sums.size != NULL);
    for (int64_t i = 0; i < n && kind == GD_CONV_FORWARD; i++) {
        sums.value[i] = (double)p->bias[i / plane % c->c_out];
        sums.size[i] = fabs(sums.value[i]);
    }
    for (int64_t i = 0; i < c->batch * c->c_out; i++) {
        image_add(p, kind, i / c->c_out, i % c->c_out, sums);
    }
    return sums;
}

static void errors_are_those_of_floats(gd_conv_kind_t kind)
{
    for (int i = 0; i < N_SHAPES; i++) {
        problem_t p = problem_new(shapes[i]);
        if (!gd_amx_conv_can(&p.conv, kind)) {
            problem_release(&p);
            continue;
        }
        sums_t sums = definition(&p, kind);

        problem_run(&p, kind, 1);

        const float *result = result_of(&p, kind);
        for (int64_t at = 0; at < result_size(&p, kind); at++) {
            const double off = fabs((double)result[at] - sums.value[at]);
            if (!(off <= 4e-7 * sums.size[at])) {
                fail_msg("shape %d, element %lld: %.9g, not %.9g", i, (long long)at, (double)result[at],
                         sums.value[at]);
            }
        }
        mem_free(sums.value);
        mem_free(sums.size);
        problem_release(&p);
    }
}

static void forward_errors_are_those_of_floats_for_every_shape(void **state)
{
    (void)state;
    NEEDS_AMX();
    errors_are_those_of_floats(GD_CONV_FORWARD);
}

static void input_gradients_have_errors_of_floats_for_every_shape(void **state)
{
    (void)state;
    NEEDS_AMX();
    errors_are_those_of_floats(GD_CONV_INPUT);
}

static void weight_gradients_have_errors_of_floats_for_every_shape(void **state)
{
    (void)state;
    NEEDS_AMX();
    errors_are_those_of_floats(GD_CONV_WEIGHT);
}

static void the_gradient_of_the_bias_is_the_sum_of_dy(void **state)
{
    (void)state;
    NEEDS_AMX();
    static const int64_t shape[] = {3, 20, 37, 11, 9, 3, 3, 1, 1, 1, 1};
    problem_t p = problem_new(shape);

    problem_run(&p, GD_CONV_WEIGHT, 2);

    for (int64_t o = 0; o < 37; o++) {
        double sum = 0;
        for (int64_t i = 0; i < (int64_t)3 * 99; i++) {
            sum += (double)p.y[(i / 99 * 37 + o) * 99 + i % 99];
        }
        assert_true(fabs((double)p.bias[o] - sum) <= 1e-5);
    }
    problem_release(&p);
}

static void the_result_does_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    NEEDS_AMX();
    for (int i = 0; i < N_SHAPES; i++) {
        for (gd_conv_kind_t kind = GD_CONV_FORWARD; kind <= GD_CONV_WEIGHT; kind++) {
            problem_t p = problem_new(shapes[i]);
            if (!gd_amx_conv_can(&p.conv, kind)) {
                problem_release(&p);
                continue;
            }
            const size_t size = (size_t)result_size(&p, kind) * sizeof(float);
            float *one = mem_alloc(size);
            problem_run(&p, kind, 1);
            memcpy(one, result_of(&p, kind), size);

            for (int n_threads = 2; n_threads <= 6; n_threads++) {
                problem_run(&p, kind, n_threads);
                assert_memory_equal(one, result_of(&p, kind), size);
            }
            mem_free(one);
            problem_release(&p);
        }
    }
}

static void an_image_alone_gives_the_bits_that_it_gives_in_a_batch(void **state)
{
    (void)state;
    NEEDS_AMX();
    static const int64_t shape[] = {5, 40, 48, 13, 11, 3, 3, 1, 1, 1, 1};
    for (gd_conv_kind_t kind = GD_CONV_FORWARD; kind <= GD_CONV_INPUT; kind++) {
        problem_t p = problem_new(shape);
        problem_run(&p, kind, 1);
        const int64_t n_x = p.n_x / 5, n_y = p.n_y / 5, n = kind == GD_CONV_FORWARD ? n_y : n_x;
        float *batch = mem_alloc((size_t)(5 * n) * sizeof(float));
        memcpy(batch, result_of(&p, kind), (size_t)(5 * n) * sizeof(float));

        for (int64_t i = 0; i < 5; i++) {
            problem_t one = p;
            one.conv.batch = 1;
            one.n_x = n_x;
            one.n_y = n_y;
            one.x += i * n_x;
            one.y += i * n_y;
            problem_run(&one, kind, 1);
            assert_memory_equal(batch + i * n, result_of(&one, kind), (size_t)n * sizeof(float));
        }
        mem_free(batch);
        problem_release(&p);
    }
}

/* Each pixel that isn't finite reaches the outputs whose window it is in, and no others. */
static void what_is_not_finite_stays_under_the_kernel(void **state)
{
    (void)state;
    NEEDS_AMX();
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    static const int64_t shape[] = {3, 33, 40, 9, 10, 3, 3, 1, 1, 1, 1};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        problem_t p = problem_new(shape);
        problem_run(&p, GD_CONV_FORWARD, 2);
        float *good = mem_alloc((size_t)p.n_y * sizeof(float));
        memcpy(good, p.y, (size_t)p.n_y * sizeof(float));
        p.x[((1 * 33 + 32) * 9 + 0) * 10 + 9] = bad[i]; /* the upper right corner of image 1 */
        p.x[((2 * 33 + 3) * 9 + 8) * 10 + 0] = bad[i];  /* the lower left one of image 2 */

        problem_run(&p, GD_CONV_FORWARD, 2);

        for (int64_t at = 0; at < p.n_y; at++) {
            const int64_t image = at / (40 * 90), row = at / 10 % 9, column = at % 10;
            if ((image == 1 && row <= 1 && column >= 8) || (image == 2 && row >= 7 && column <= 1)) {
                assert_true(!isfinite(p.y[at]));
            } else {
                assert_true(p.y[at] == good[at]);
            }
        }
        mem_free(good);
        problem_release(&p);
    }
}

static void a_weight_that_is_not_finite_stays_in_its_channel(void **state)
{
    (void)state;
    NEEDS_AMX();
    static const int64_t shape[] = {2, 33, 40, 9, 10, 3, 3, 1, 1, 1, 1};
    problem_t p = problem_new(shape);
    problem_run(&p, GD_CONV_FORWARD, 1);
    float *good = mem_alloc((size_t)p.n_y * sizeof(float));
    memcpy(good, p.y, (size_t)p.n_y * sizeof(float));
    p.weight[(35 * 33 + 20) * 9 + 4] = INFINITY;

    problem_run(&p, GD_CONV_FORWARD, 1);

    for (int64_t at = 0; at < p.n_y; at++) {
        if (at / 90 % 40 == 35) {
            assert_true(!isfinite(p.y[at]));
        } else {
            assert_true(p.y[at] == good[at]);
        }
    }
    mem_free(good);
    problem_release(&p);
}

static void what_it_can_not_do_is_left_to_others(void **state)
{
    (void)state;
    static const int64_t shape[] = {2, 64, 64, 14, 14, 3, 3, 1, 1, 1, 1};
    problem_t p = problem_new(shape);
    gd_conv_t strided = p.conv, grouped = p.conv, f64 = p.conv, deep = p.conv, padded = p.conv;
    strided.stride[1] = 2;
    grouped.groups = 2;
    f64.dtype = GD_DTYPE_F64;
    deep.in[2] = 3;
    padded.padding[0] = 3;
    padded.out[0] = 18;

    assert_true(gd_amx_conv_can(&p.conv, GD_CONV_FORWARD));
    assert_true(gd_amx_conv_can(&p.conv, GD_CONV_INPUT));
    assert_false(gd_amx_conv_can(&strided, GD_CONV_FORWARD));
    assert_false(gd_amx_conv_can(&grouped, GD_CONV_FORWARD));
    assert_false(gd_amx_conv_can(&f64, GD_CONV_FORWARD));
    assert_false(gd_amx_conv_can(&deep, GD_CONV_FORWARD));
    assert_true(gd_amx_conv_can(&padded, GD_CONV_FORWARD));
    assert_false(gd_amx_conv_can(&padded, GD_CONV_INPUT));
    problem_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(forward_errors_are_those_of_floats_for_every_shape),
        TEST(input_gradients_have_errors_of_floats_for_every_shape),
        TEST(weight_gradients_have_errors_of_floats_for_every_shape),
        TEST(the_gradient_of_the_bias_is_the_sum_of_dy),
        TEST(the_result_does_not_depend_on_the_number_of_threads),
        TEST(an_image_alone_gives_the_bits_that_it_gives_in_a_batch),
        TEST(what_is_not_finite_stays_under_the_kernel),
        TEST(a_weight_that_is_not_finite_stays_in_its_channel),
        TEST(what_it_can_not_do_is_left_to_others),
    };
    return cmocka_run_group_tests_name("engine/conv_amx", tests, NULL, NULL);
}
