/* SPDX-License-Identifier: Apache-2.0 */
/* conv_gemm: convolutions in f32, whichever code runs them, agree with float64's definition for any number of threads.
 */
#include <math.h>

#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/ops.h"
#include "gradd/rng.h"
#include "tests/support/fixture.h"

typedef struct geometry {
    int64_t x[4];
    int64_t weight[4];
    gd_conv2d_options_t options;
    bool has_bias;
} geometry_t;

static const geometry_t geometries[] = {
    {{5, 7, 6, 9}, {11, 7, 1, 1}, {.stride = {1, 1}}, false},
    {{5, 7, 6, 9}, {11, 7, 1, 1}, {.stride = {1, 1}}, true},
    {{4, 3, 7, 8}, {5, 3, 1, 1}, {.stride = {2, 2}}, false},
    {{1, 40, 5, 5}, {33, 40, 1, 1}, {.stride = {1, 3}}, true},
    {{1, 6, 12, 12}, {70, 6, 1, 1}, {.stride = {1, 1}}, false},
    {{3, 128, 14, 14}, {256, 128, 1, 1}, {.stride = {1, 1}}, true},
    {{4, 96, 28, 28}, {192, 96, 1, 1}, {.stride = {2, 2}}, false},
    {{5, 9, 6, 7}, {10, 9, 3, 3}, {.padding = {1, 1}}, false},
    {{3, 33, 9, 14}, {20, 33, 3, 3}, {.padding = {1, 1}}, true},
    {{2, 16, 30, 29}, {19, 16, 3, 3}, {.padding = {1, 1}}, false},
    {{2, 5, 9, 7}, {6, 5, 3, 3}, {.stride = {2, 2}, .padding = {1, 1}}, false},
    {{3, 4, 9, 8}, {6, 4, 3, 2}, {.padding = {1, 0}}, false},
    {{5, 6, 9, 8}, {10, 3, 3, 3}, {.padding = {1, 1}, .groups = 2}, true},
    {{3, 7, 9, 8}, {7, 1, 3, 3}, {.stride = {2, 1}, .padding = {1, 1}, .groups = 7}, false},
    {{1, 5, 12, 13}, {4, 5, 3, 3}, {.padding = {2, 2}, .dilation = {2, 3}}, true},
    {{4, 24, 8, 8}, {8, 24, 1, 1}, {.padding = {1, 0}}, true},
};

enum { MOST_OUT = 5 };

/* y, dx, dweight (and dbias) of a geometry in one dtype. */
static int conv_run(const geometry_t *g, gd_dtype_t dtype, gd_tensor_t **result)
{
    gd_tensor_t *in[3] = {NULL};
    const int64_t *shape[3] = {g->x, g->weight, g->weight};
    const int n = g->has_bias ? 3 : 2;
    for (int i = 0; i < n; i++) {
        gd_tensor_t *noise = NULL;
        const gd_rng_key_t key = {.seed = 3, .layer = (uint32_t)i};
        assert_ok(gd_tensor_new(GD_DTYPE_F32, i == 2 ? 1 : 4, shape[i], &noise));
        gd_rng_fill_uniform(&key, -1, 1, gd_tensor_data(noise), gd_tensor_numel(noise));
        assert_ok(gd_cast(noise, dtype, &in[i]));
        assert_ok(gd_tensor_set_requires_grad(in[i], true));
        (void)gd_tensor_unref(noise);
    }
    assert_ok(gd_conv2d(in[0], in[1], in[2], &g->options, &result[0]));
    gd_tensor_t *square = NULL;
    gd_tensor_t *loss = NULL;
    assert_ok(gd_pow(result[0], 2, &square));
    assert_ok(gd_sum(square, 0, NULL, false, &loss));
    assert_ok(gd_backward(loss, NULL, false));
    for (int i = 0; i < n; i++) {
        result[1 + i] = gd_tensor_ref(gd_tensor_grad(in[i]));
        in[i] = gd_tensor_unref(in[i]);
    }
    (void)gd_tensor_unref(square);
    (void)gd_tensor_unref(loss);
    return 1 + n;
}

static void compare(gd_tensor_t *got, gd_tensor_t *expected, size_t geometry, int which, int n_threads)
{
    const float *a = gd_tensor_data(got);
    const double *b = gd_tensor_data(expected);
    double most = 0;
    for (int64_t i = 0; i < gd_tensor_numel(expected); i++) {
        most = fmax(most, fabs(b[i]));
    }
    for (int64_t i = 0; i < gd_tensor_numel(expected); i++) {
        if (!(fabs((double)a[i] - b[i]) <= 1e-5 * most)) {
            print_error("geometry %zu, result %d, %d threads: element %lld is %g, expected %g\n", geometry, which,
                        n_threads, (long long)i, (double)a[i], b[i]);
            fail();
        }
    }
}

static void float_agrees_with_double_for_any_number_of_threads(void **state)
{
    (void)state;
    for (size_t g = 0; g < sizeof(geometries) / sizeof(geometries[0]); g++) {
        gd_tensor_t *expected[MOST_OUT] = {NULL};
        const int n = conv_run(&geometries[g], GD_DTYPE_F64, expected);
        for (int n_threads = 1; n_threads <= 3; n_threads++) {
            gd_tensor_t *got[MOST_OUT] = {NULL};
            assert_ok(gd_context_set_n_threads(n_threads));
            (void)conv_run(&geometries[g], GD_DTYPE_F32, got);
            for (int i = 0; i < n; i++) {
                compare(got[i], expected[i], g, i, n_threads);
                (void)gd_tensor_unref(got[i]);
            }
        }
        assert_ok(gd_context_set_n_threads(1));
        for (int i = 0; i < n; i++) {
            (void)gd_tensor_unref(expected[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(float_agrees_with_double_for_any_number_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
