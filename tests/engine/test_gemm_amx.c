/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_amx: f32 products by bf16 tiles are as good as f32, whatever the shape, the layout and the magnitudes. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "cpu/amx.h"
#include "cpu/cpu.h"
#include "cpu/onednn.h"
#include "tests/engine/gemm_problem.h"
#include "tests/support/fixture.h"

#define NEEDS_AMX()                                                                                                    \
    do {                                                                                                               \
        if (gd_cpu_isa() != GD_CPU_ISA_AMX) {                                                                          \
            FIXTURE_SKIP("%s has no AMX", gd_cpu_isa_name());                                                          \
        }                                                                                                              \
    } while (0)

static const int64_t shapes[][3] = {
    {1, 1, 1},      {32, 32, 32},   {31, 33, 17},   {16, 48, 130},   {5, 200, 40},   {200, 5, 300},  {96, 65, 128},
    {65, 128, 192}, {160, 96, 257}, {33, 1100, 64}, {1056, 40, 160}, {64, 64, 2100}, {600, 40, 290}, {40, 70, 4300},
};

static void errors_are_those_of_floats_for_every_shape_and_layout(void **state)
{
    (void)state;
    NEEDS_AMX();
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        for (unsigned layout = 0; layout < GEMM_N_LAYOUTS; layout++) {
            gemm_problem_t p = gemm_problem_new(1, shapes[i][0], shapes[i][1], shapes[i][2], layout);
            float *before = mem_alloc((size_t)p.n_c * sizeof(float));
            gemm_problem_fill(before, p.n_c, 4);
            memcpy(p.c, before, (size_t)p.n_c * sizeof(float));

            assert_ok(gd_amx_gemm(&p.gemm));

            const gemm_error_t error = gemm_error_measure(&p.gemm, before, 7);
            if (!(error.most < 4e-7)) {
                fail_msg("%lld x %lld x %lld, layout %u: error %g", (long long)shapes[i][0], (long long)shapes[i][1],
                         (long long)shapes[i][2], layout, error.most);
            }
            for (int64_t gap = p.gemm.n; gap < p.gemm.c_row; gap++) { /* what isn't c's is left alone */
                assert_true(p.c[gap] == before[gap]);
            }
            mem_free(before);
            gemm_problem_release(&p);
        }
    }
}

/* One panel meets more others, over a sum in spans, than partial sums are kept for. */
static void a_narrow_product_may_be_long_and_deep(void **state)
{
    (void)state;
    NEEDS_AMX();
    gemm_problem_t p = gemm_problem_new(1, 33000, 3, 2100, 0);

    assert_ok(gd_amx_gemm(&p.gemm));

    assert_true(gemm_error_measure(&p.gemm, NULL, 101).most < 4e-7);
    gemm_problem_release(&p);
}

static void errors_are_no_larger_than_onednns_in_f32(void **state)
{
    (void)state;
    NEEDS_AMX();
    static const int64_t inner[] = {64, 128, 512, 1000, 3072, 6000, 50257};
    for (size_t i = 0; i < sizeof(inner) / sizeof(inner[0]); i++) {
        for (int kind = 0; kind < 4; kind++) {
            gemm_problem_t p = gemm_problem_new(1, 96, 128, inner[i], 0);
            if (kind == 1) {
                gemm_problem_spread(&p, 20);
            } else if (kind == 2) {
                gemm_problem_spread(&p, 40);
            } else if (kind == 3) {
                gemm_problem_cancel(&p);
            }

            const int64_t every = inner[i] > 4000 ? 61 : 1;
            assert_ok(gd_onednn_gemm(&p.gemm, NULL));
            const gemm_error_t plain = gemm_error_measure(&p.gemm, NULL, every);
            assert_ok(gd_amx_gemm(&p.gemm));
            const gemm_error_t tiles = gemm_error_measure(&p.gemm, NULL, every);

            /* a sum that is one term only is rounded once by oneDNN, by us a few times */
            const double bound = fmax(sqrt(plain.mean_square), 0x1.5p-24);
            if (!(sqrt(tiles.mean_square) <= bound && tiles.most <= fmax(plain.most, 0x1p-21))) {
                fail_msg("k %lld, kind %d: rms error %g, oneDNN's %g; most %g, oneDNN's %g", (long long)inner[i], kind,
                         sqrt(tiles.mean_square), sqrt(plain.mean_square), tiles.most, plain.most);
            }
            gemm_problem_release(&p);
        }
    }
}

static void the_result_does_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    NEEDS_AMX();
    static const int64_t sizes[][4] = {
        {1, 96, 1100, 200}, {1, 400, 70, 96}, {5, 64, 48, 40}, {2, 33, 260, 33}, {1, 70, 600, 4500}};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        gemm_problem_t p =
            gemm_problem_new(sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3], GEMM_B_TURNED | GEMM_BIAS);
        assert_ok(gd_amx_gemm(&p.gemm));
        float *one = mem_alloc((size_t)p.n_c * sizeof(float));
        memcpy(one, p.c, (size_t)p.n_c * sizeof(float));
        assert_true(gemm_error_measure(&p.gemm, NULL, 101).most < 4e-7);

        for (int n_threads = 2; n_threads <= 6; n_threads++) {
            memset(p.c, 0xFF, (size_t)p.n_c * sizeof(float));
            p.gemm.n_threads = n_threads;
            assert_ok(gd_amx_gemm(&p.gemm));
            assert_memory_equal(p.c, one, (size_t)p.n_c * sizeof(float));
        }
        mem_free(one);
        gemm_problem_release(&p);
    }
}

static void a_product_with_the_unit_matrix_gives_every_float_back(void **state)
{
    (void)state;
    NEEDS_AMX();
    gemm_problem_t p = gemm_problem_new(1, 64, 64, 64, 0);
    for (int64_t i = 0; i < 64 * 64; i++) {
        p.a[i] = ldexpf(p.a[i], (int)(i % 200) - 80);
        p.b[i] = i / 64 == i % 64 ? 1.0F : 0.0F;
    }
    const float extremes[] = {FLT_MAX,         -FLT_MAX,      0x1.FFp127F, -0x1.FE0002p127F,
                              0x1.FFFFFEp100F, 0x1.010101p0F, -0.0F,       0x1.00FFFFp0F};
    memcpy(p.a, extremes, sizeof(extremes));

    assert_ok(gd_amx_gemm(&p.gemm));

    for (int64_t i = 0; i < 64 * 64; i++) {
        assert_true(p.c[i] == p.a[i]);
    }
    gemm_problem_release(&p);
}

static void what_is_not_finite_stays_in_its_row_or_column(void **state)
{
    (void)state;
    NEEDS_AMX();
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        gemm_problem_t p = gemm_problem_new(1, 70, 80, 90, GEMM_A_TURNED);
        assert_ok(gd_amx_gemm(&p.gemm));
        float *good = mem_alloc((size_t)p.n_c * sizeof(float));
        memcpy(good, p.c, (size_t)p.n_c * sizeof(float));
        p.a[20 * p.gemm.a_col + 41] = bad[i]; /* row 41 */
        p.b[89 * p.gemm.b_row + 79] = bad[i]; /* column 79 */

        assert_ok(gd_amx_gemm(&p.gemm));

        for (int64_t at = 0; at < 70 * 80; at++) {
            if (at / 80 == 41 || at % 80 == 79) {
                assert_true(!isfinite(p.c[at]));
            } else {
                assert_true(p.c[at] == good[at]);
            }
        }
        mem_free(good);
        gemm_problem_release(&p);
    }
}

static void numbers_near_the_smallest_lose_no_more_than_flt_min(void **state)
{
    (void)state;
    NEEDS_AMX();
    gemm_problem_t p = gemm_problem_new(1, 32, 32, 64, 0);
    for (int64_t i = 0; i < 32 * 64; i++) {
        p.a[i] = ldexpf(p.a[i], -120 - (int)(i % 10));
    }

    assert_ok(gd_amx_gemm(&p.gemm));

    for (int64_t at = 0; at < 32 * 32; at++) {
        double sum = 0;
        for (int64_t k = 0; k < 64; k++) {
            sum += (double)p.a[at / 32 * 64 + k] * (double)p.b[k * 32 + at % 32];
        }
        assert_true(fabs((double)p.c[at] - sum) <= 64 * 6 * (double)FLT_MIN);
    }
    gemm_problem_release(&p);
}

static void large_products_are_given_to_the_matrix_unit(void **state)
{
    (void)state;
    NEEDS_AMX();
    gemm_problem_t p = gemm_problem_new(1, 256, 256, 256, 0);
    assert_ok(gd_amx_gemm(&p.gemm));
    float *expected = mem_alloc((size_t)p.n_c * sizeof(float));
    memcpy(expected, p.c, (size_t)p.n_c * sizeof(float));

    assert_ok(gd_gemm_run(&p.gemm));

    assert_memory_equal(p.c, expected, (size_t)p.n_c * sizeof(float));
    mem_free(expected);
    gemm_problem_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(errors_are_those_of_floats_for_every_shape_and_layout),
        TEST(a_narrow_product_may_be_long_and_deep),
        TEST(errors_are_no_larger_than_onednns_in_f32),
        TEST(the_result_does_not_depend_on_the_number_of_threads),
        TEST(a_product_with_the_unit_matrix_gives_every_float_back),
        TEST(what_is_not_finite_stays_in_its_row_or_column),
        TEST(numbers_near_the_smallest_lose_no_more_than_flt_min),
        TEST(large_products_are_given_to_the_matrix_unit),
    };
    return cmocka_run_group_tests_name("engine/gemm_amx", tests, NULL, NULL);
}
