/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemm: f32 products of any shape and layout are as near to float64's as floats can be, whichever code runs them. Run
 * once per instruction set.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "cpu/cpu.h"
#include "cpu/onednn.h"
#include "tests/engine/gemm_problem.h"
#include "tests/support/fixture.h"

/* One element, one more or less than a block or tile of either instruction set, few rows or columns, long and narrow.
 */
static const int64_t shapes[][3] = {
    {1, 1, 1},      {1, 1, 300},    {1, 33, 70},    {1, 50, 2100},   {3, 700, 64},   {5, 9, 66},     {7, 3, 5},
    {8, 130, 257},  {9, 17, 40},    {2, 1, 600},    {16, 48, 130},   {17, 31, 100},  {200, 5, 300},  {300, 1, 90},
    {6, 16, 256},   {12, 8, 257},   {13, 15, 255},  {64, 64, 32},    {65, 128, 192}, {49, 66, 520},  {40, 70, 2100},
    {780, 20, 70},  {60, 530, 40},  {55, 1030, 30}, {1600, 35, 300}, {70, 80, 1},    {60, 200, 3},   {384, 129, 768},
    {128, 384, 70}, {50, 2060, 10}, {100, 40, 513}, {33, 1100, 64},  {1, 4200, 20},  {24, 24, 4300},
};
enum { N_SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

static void errors_are_those_of_floats_for_every_shape_and_layout(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++) {
        for (unsigned layout = 0; layout < GEMM_N_LAYOUTS; layout++) {
            gemm_problem_t p = gemm_problem_new(1, shapes[i][0], shapes[i][1], shapes[i][2], layout);
            float *before = mem_alloc((size_t)p.n_c * sizeof(float));
            gemm_problem_fill(before, p.n_c, 4);
            memcpy(p.c, before, (size_t)p.n_c * sizeof(float));

            assert_ok(gd_gemm_run(&p.gemm));

            const gemm_error_t error = gemm_error_measure(&p.gemm, before, p.n_c > 3000 ? 13 : 1);
            if (!(error.most < 5e-7)) {
                fail_msg("%lld x %lld x %lld, layout %u: error %g", (long long)shapes[i][0], (long long)shapes[i][1],
                         (long long)shapes[i][2], layout, error.most);
            }
            for (int64_t row = 0; row < p.gemm.m; row++) { /* what isn't c's is left alone */
                const int64_t gap = row * p.gemm.c_row + p.gemm.n, end = (row + 1) * p.gemm.c_row;
                assert_memory_equal(p.c + gap, before + gap, (size_t)(end - gap) * sizeof(float));
            }
            mem_free(before);
            gemm_problem_release(&p);
        }
    }
}

static void the_result_does_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    if (gd_cpu_isa() >= GD_CPU_ISA_V4) {
        FIXTURE_SKIP("oneDNN's products do depend on it; AMX's are in test_gemm_amx.c");
    }
    for (size_t i = 0; i < N_SHAPES; i++) {
        for (unsigned turned = 0; turned < 4; turned++) {
            for (int64_t n_batch = 1; n_batch < 4; n_batch += 2) {
                gemm_problem_t p =
                    gemm_problem_new(n_batch, shapes[i][0], shapes[i][1], shapes[i][2], turned | GEMM_BIAS);
                float *one = mem_alloc((size_t)p.n_c * sizeof(float));
                assert_ok(gd_gemm_run(&p.gemm));
                memcpy(one, p.c, (size_t)p.n_c * sizeof(float));

                for (int n_threads = 2; n_threads <= 4; n_threads++) {
                    memset(p.c, 0xFF, (size_t)p.n_c * sizeof(float));
                    p.gemm.n_threads = n_threads;
                    assert_ok(gd_gemm_run(&p.gemm));
                    assert_memory_equal(p.c, one, (size_t)p.n_c * sizeof(float));
                }
                mem_free(one);
                gemm_problem_release(&p);
            }
        }
    }
}

static void a_batch_is_its_products(void **state)
{
    (void)state;
    static const int64_t sizes[][4] = {{5, 64, 48, 40}, {2, 33, 260, 33}, {7, 3, 5, 80}, {3, 20, 9, 300}};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (unsigned layout = 0; layout < 4; layout++) {
            gemm_problem_t p = gemm_problem_new(sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3], layout);
            p.gemm.n_threads = 2;

            assert_ok(gd_gemm_run(&p.gemm));

            assert_true(gemm_error_measure(&p.gemm, NULL, 1).most < 5e-7);
            gemm_problem_release(&p);
        }
    }
}

static void a_matrix_may_be_shared_by_a_batch(void **state)
{
    (void)state;
    gemm_problem_t p = gemm_problem_new(3, 20, 24, 40, GEMM_B_TURNED);
    p.gemm.b_batch = 0;

    assert_ok(gd_gemm_run(&p.gemm));

    assert_true(gemm_error_measure(&p.gemm, NULL, 1).most < 5e-7);
    gemm_problem_release(&p);
}

/* As good as oneDNN's: root mean squares, and within a little the largest. */
static void errors_are_no_larger_than_onednns(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{48, 64}, {3, 300}, {1, 600}, {400, 2}};
    static const int64_t inner[] = {1, 2, 7, 64, 300, 1000, 3072, 6000, 50257};
    if (gd_cpu_isa() >= GD_CPU_ISA_V4) {
        FIXTURE_SKIP("%s has oneDNN's own products, or AMX's", gd_cpu_isa_name());
    }
    for (size_t i = 0; i < sizeof(inner) / sizeof(inner[0]); i++) {
        for (size_t size = 0; size < sizeof(sizes) / sizeof(sizes[0]); size++) {
            for (int kind = 0; kind < 6; kind++) {
                const unsigned layout = kind == 3 ? GEMM_B_TURNED : kind == 4 ? GEMM_A_TURNED : kind == 5 ? 3 : 0;
                gemm_problem_t p = gemm_problem_new(1, sizes[size][0], sizes[size][1], inner[i], layout);
                if (kind == 1) {
                    gemm_problem_spread(&p, 20);
                } else if (kind == 2) {
                    gemm_problem_cancel(&p);
                }

                const int64_t every = inner[i] > 4000 ? 7 : 1;
                assert_ok(gd_onednn_gemm(&p.gemm, NULL));
                const gemm_error_t theirs = gemm_error_measure(&p.gemm, NULL, every);
                assert_ok(gd_gemm_run(&p.gemm));
                const gemm_error_t ours = gemm_error_measure(&p.gemm, NULL, every);

                /* where one term outweighs the others, the order of a few roundings counts, not their number */
                const double least = kind == 1 ? 0x1.8p-24 : 0x1.1p-25;
                if (!(sqrt(ours.mean_square) <= fmax(1.03 * sqrt(theirs.mean_square), least) &&
                      ours.most <= fmax(1.5 * theirs.most, 6 * least))) {
                    fail_msg("%lld x %lld, k %lld, kind %d: rms error %g, oneDNN's %g; most %g, oneDNN's %g",
                             (long long)sizes[size][0], (long long)sizes[size][1], (long long)inner[i], kind,
                             sqrt(ours.mean_square), sqrt(theirs.mean_square), ours.most, theirs.most);
                }
                gemm_problem_release(&p);
            }
        }
    }
}

static void the_sum_of_no_terms_is_the_bias_or_what_was_there(void **state)
{
    (void)state;
    if (gd_cpu_isa() >= GD_CPU_ISA_V4) {
        FIXTURE_SKIP("matmul.c keeps these from oneDNN");
    }
    for (unsigned layout = 0; layout < GEMM_N_LAYOUTS; layout++) {
        gemm_problem_t p = gemm_problem_new(2, 9, 37, 0, layout & ~(unsigned)GEMM_BIAS);
        p.gemm.bias = layout & GEMM_BIAS ? p.bias : NULL;
        gemm_problem_fill(p.c, p.n_c, 4);
        float *before = mem_alloc((size_t)p.n_c * sizeof(float));
        memcpy(before, p.c, (size_t)p.n_c * sizeof(float));

        assert_ok(gd_gemm_run(&p.gemm));

        assert_true(gemm_error_measure(&p.gemm, before, 1).most < 1e-7);
        mem_free(before);
        gemm_problem_release(&p);
    }
}

static void a_product_without_elements_is_no_error(void **state)
{
    (void)state;
    if (gd_cpu_isa() >= GD_CPU_ISA_V4) {
        FIXTURE_SKIP("matmul.c keeps these from oneDNN");
    }
    gemm_problem_t p = gemm_problem_new(1, 4, 5, 6, 0);
    gd_gemm_t gemm = p.gemm;

    gemm.m = 0;
    assert_ok(gd_gemm_run(&gemm));
    gemm.m = 4;
    gemm.n = 0;
    assert_ok(gd_gemm_run(&gemm));
    gemm.n = 5;
    gemm.n_batch = 0;
    assert_ok(gd_gemm_run(&gemm));

    gemm_problem_release(&p);
}

static void what_is_not_finite_stays_in_its_row_or_column(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{70, 83}, {50, 83}, {4, 83}, {50, 5}};
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]) * 4 * 4; i++) {
        const int64_t m = sizes[i % 4][0], n = sizes[i % 4][1];
        gemm_problem_t p = gemm_problem_new(1, m, n, 91, (unsigned)(i / 4 % 4));
        assert_ok(gd_gemm_run(&p.gemm));
        float *good = mem_alloc((size_t)p.n_c * sizeof(float));
        memcpy(good, p.c, (size_t)p.n_c * sizeof(float));
        p.a[(m - 2) * p.gemm.a_row + 20 * p.gemm.a_col] = bad[i / 16];
        p.b[90 * p.gemm.b_row + (n - 1) * p.gemm.b_col] = bad[i / 16];

        assert_ok(gd_gemm_run(&p.gemm));

        for (int64_t at = 0; at < m * n; at++) {
            if (at / n == m - 2 || at % n == n - 1) {
                assert_true(!isfinite(p.c[at]));
            } else {
                assert_true(p.c[at] == good[at]);
            }
        }
        mem_free(good);
        gemm_problem_release(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(errors_are_those_of_floats_for_every_shape_and_layout),
        TEST(the_result_does_not_depend_on_the_number_of_threads),
        TEST(a_batch_is_its_products),
        TEST(a_matrix_may_be_shared_by_a_batch),
        TEST(errors_are_no_larger_than_onednns),
        TEST(the_sum_of_no_terms_is_the_bias_or_what_was_there),
        TEST(a_product_without_elements_is_no_error),
        TEST(what_is_not_finite_stays_in_its_row_or_column),
    };
    return cmocka_run_group_tests_name("engine/gemm", tests, NULL, NULL);
}
