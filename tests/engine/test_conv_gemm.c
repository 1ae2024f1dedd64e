/* SPDX-License-Identifier: Apache-2.0 */
/* conv_gemm: convolutions in f32 and bf16, whichever code runs them, agree with float64's definition for any number of
 * threads. */
#include <math.h>
#include <stdio.h>

#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/ops.h"
#include "gradd/rng.h"
#include "tests/support/fixture.h"

typedef struct geometry {
    int64_t x[5]; /* 0 at its end: without a depth */
    int64_t weight[5];
    gd_conv_options_t options;
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
    {{3, 8, 9, 7}, {8, 4, 3, 3}, {.padding = {2, 2}, .dilation = {2, 2}, .groups = 2}, true},
    {{7, 9, 12, 12}, {9, 3, 3, 3}, {.padding = {1, 1}, .stride = {2, 2}, .groups = 3}, true},
    {{2, 12, 40, 40}, {24, 3, 3, 3}, {.padding = {2, 1}, .dilation = {2, 1}, .groups = 4}, true},
    {{2, 6, 6, 7}, {12, 3, 1, 1}, {.groups = 2}, true},
    {{3, 1, 1, 30}, {4, 1, 1, 5}, {.padding = {0, 2}, .dilation = {1, 3}}, true},
    {{3, 4, 5, 6, 7}, {8, 4, 3, 3, 3}, {.padding = {1, 1, 1}}, true},
    {{2, 6, 5, 7, 6}, {9, 2, 3, 1, 2}, {.padding = {1, 0, 2}, .stride = {1, 2, 1}, .groups = 3}, true},
    {{3, 4, 6, 5, 9}, {4, 1, 2, 3, 3}, {.padding = {2, 1, 0}, .dilation = {3, 1, 2}, .groups = 4}, false},
    {{2, 4, 4, 3, 5}, {6, 2, 1, 1, 1}, {.groups = 2}, true},
    {{1, 8, 9, 20, 20}, {8, 8, 3, 3, 3}, {.padding = {1, 1, 1}, .stride = {2, 1, 1}}, true},
};

enum { MOST_OUT = 5 };

/* y, dx, dweight (and dbias) of a geometry in one dtype, of operands that are numbers in bf16 too. */
static int conv_run(const geometry_t *g, gd_dtype_t dtype, gd_tensor_t **result)
{
    gd_tensor_t *in[3] = {NULL};
    const int64_t *shape[3] = {g->x, g->weight, g->weight};
    const int n = g->has_bias ? 3 : 2, n_dims = g->x[4] > 0 ? 5 : 4;
    for (int i = 0; i < n; i++) {
        gd_tensor_t *noise = NULL, *rounded = NULL;
        const bool is_wide = i == 2 && dtype == GD_DTYPE_BF16 && n_dims == 4; /* as autocast has it */
        const gd_rng_key_t key = {.seed = 3, .layer = (uint32_t)i};
        assert_ok(gd_tensor_new(GD_DTYPE_F32, i == 2 ? 1 : n_dims, shape[i], &noise));
        gd_rng_fill_uniform(&key, -1, 1, gd_tensor_data(noise), gd_tensor_numel(noise));
        assert_ok(gd_cast(noise, GD_DTYPE_BF16, &rounded));
        assert_ok(gd_cast(rounded, is_wide ? GD_DTYPE_F32 : dtype, &in[i]));
        assert_ok(gd_tensor_set_requires_grad(in[i], true));
        (void)gd_tensor_unref(noise);
        (void)gd_tensor_unref(rounded);
    }
    assert_ok(gd_conv(in[0], in[1], in[2], &g->options, &result[0]));
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

static void compare(gd_tensor_t *got, gd_tensor_t *expected, double tolerance, const char *what)
{
    gd_tensor_t *wide = NULL;
    assert_ok(gd_cast(got, GD_DTYPE_F64, &wide));
    const double *a = gd_tensor_data(wide);
    const double *b = gd_tensor_data(expected);
    double most = 0;
    for (int64_t i = 0; i < gd_tensor_numel(expected); i++) {
        most = fmax(most, fabs(b[i]));
    }
    for (int64_t i = 0; i < gd_tensor_numel(expected); i++) {
        if (!(fabs(a[i] - b[i]) <= tolerance * most)) {
            fail_msg("%s: element %lld is %g, expected %g", what, (long long)i, a[i], b[i]);
        }
    }
    (void)gd_tensor_unref(wide);
}

static void agrees_with_double(gd_dtype_t dtype, double tolerance)
{
    for (size_t g = 0; g < sizeof(geometries) / sizeof(geometries[0]); g++) {
        gd_tensor_t *expected[MOST_OUT] = {NULL};
        const int n = conv_run(&geometries[g], GD_DTYPE_F64, expected);
        for (int n_threads = 1; n_threads <= 3; n_threads++) {
            gd_tensor_t *got[MOST_OUT] = {NULL};
            assert_ok(gd_context_set_n_threads(n_threads));
            (void)conv_run(&geometries[g], dtype, got);
            for (int i = 0; i < n; i++) {
                char what[64];
                (void)snprintf(what, sizeof(what), "geometry %zu, result %d, %d threads", g, i, n_threads);
                compare(got[i], expected[i], tolerance, what);
                (void)gd_tensor_unref(got[i]);
            }
        }
        assert_ok(gd_context_set_n_threads(1));
        for (int i = 0; i < n; i++) {
            (void)gd_tensor_unref(expected[i]);
        }
    }
}

static void float_agrees_with_double_for_any_number_of_threads(void **state)
{
    (void)state;
    agrees_with_double(GD_DTYPE_F32, 1e-5);
}

/* y is rounded to 8 bits, and so is its gradient then. */
static void bf16_agrees_with_double_for_any_number_of_threads(void **state)
{
    (void)state;
    agrees_with_double(GD_DTYPE_BF16, 0x1p-7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(float_agrees_with_double_for_any_number_of_threads),
        TEST(bf16_agrees_with_double_for_any_number_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
