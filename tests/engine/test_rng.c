/* SPDX-License-Identifier: Apache-2.0 */
/* rng: Random123's known answers, distributions, permutations. */
#include "gradd/rng.h"

#include <math.h>

#include <stdlib.h>

#include "tests/support/fixture.h"

static void assert_words(gd_rng_key_t key, uint32_t block, const uint32_t expected[4])
{
    uint32_t word[4];
    gd_philox(&key, block, word);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(word[i], expected[i]);
    }
}

/* philox4x32 10 in Random123's kat_vectors */
static void philox_gives_the_known_answers(void **state)
{
    (void)state;
    assert_words((gd_rng_key_t){0}, 0, (const uint32_t[4]){0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    assert_words((gd_rng_key_t){.seed = UINT64_MAX, .layer = UINT32_MAX, .microbatch = UINT32_MAX, .step = UINT32_MAX},
                 UINT32_MAX, (const uint32_t[4]){0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    assert_words(
        (gd_rng_key_t){.seed = 0x299f31d0a4093822, .layer = 0x85a308d3, .microbatch = 0x13198a2e, .step = 0x03707344},
        0x243f6a88, (const uint32_t[4]){0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

static void every_part_of_a_key_changes_the_numbers(void **state)
{
    (void)state;
    const gd_rng_key_t keys[] = {{.seed = 1},
                                 {.seed = 1, .step = 1},
                                 {.seed = 1, .microbatch = 1},
                                 {.seed = 1, .layer = 1},
                                 {.seed = 1, .purpose = 1},
                                 {.seed = 2}};
    enum { N = sizeof(keys) / sizeof(keys[0]) };
    uint32_t word[N][4];
    for (int i = 0; i < N; i++) {
        gd_philox(&keys[i], 0, word[i]);
        for (int j = 0; j < i; j++) {
            assert_int_not_equal(word[i][0], word[j][0]);
        }
    }
}

static void uniforms_fill_their_interval_evenly(void **state)
{
    (void)state;
    enum { N = 100001 };
    static float x[N];
    const gd_rng_key_t key = {.seed = 3};

    gd_rng_fill_uniform(&key, -1, 3, x, N);

    int quarter[4] = {0};
    for (int i = 0; i < N; i++) {
        assert_true(x[i] >= -1 && x[i] < 3);
        quarter[(int)(x[i] + 1)]++;
    }
    for (int i = 0; i < 4; i++) {
        assert_true(abs(quarter[i] - N / 4) < 5 * 137); /* five standard deviations */
    }
}

static void normals_have_the_right_moments(void **state)
{
    (void)state;
    enum { N = 100002 };
    static float x[N];
    const gd_rng_key_t key = {.seed = 4};

    gd_rng_fill_normal(&key, 2, 3, x, N);

    double moment[5] = {0};
    for (int i = 0; i < N; i++) {
        double z = ((double)x[i] - 2) / 3;
        for (int k = 1; k < 5; k++) {
            moment[k] += pow(z, k) / N;
        }
    }
    assert_true(fabs(moment[1]) < 0.02);
    assert_true(fabs(moment[2] - 1) < 0.03);
    assert_true(fabs(moment[3]) < 0.05);
    assert_true(fabs(moment[4] - 3) < 0.2);
}

static void a_prefix_does_not_depend_on_the_length(void **state)
{
    (void)state;
    float a[10];
    float b[7];
    const gd_rng_key_t key = {.seed = 5};

    gd_rng_fill_normal(&key, 0, 1, a, 10);
    gd_rng_fill_normal(&key, 0, 1, b, 7);

    assert_memory_equal(a, b, sizeof(b));
}

static void integers_stay_below_their_bound(void **state)
{
    (void)state;
    const gd_rng_key_t key = {.seed = 6};
    int count[7] = {0};
    for (uint32_t i = 0; i < 70000; i++) {
        uint64_t value = gd_rng_below(&key, i, 7);
        assert_true(value < 7);
        count[value]++;
        assert_true(gd_rng_below(&key, i, UINT64_MAX) < UINT64_MAX);
        assert_int_equal(gd_rng_below(&key, i, 1), 0);
    }
    for (int i = 0; i < 7; i++) {
        assert_true(abs(count[i] - 10000) < 500);
    }
    /* the high half of a product of two 64-bit numbers: halving the bound halves the value */
    for (uint32_t i = 0; i < 1000; i++) {
        uint64_t whole = gd_rng_below(&key, i, (uint64_t)1 << 63);
        assert_int_equal(gd_rng_below(&key, i, (uint64_t)1 << 62), whole / 2);
    }
}

static void permutations_hold_every_number_once(void **state)
{
    (void)state;
    enum { N = 1000 };
    uint32_t order[N];
    bool is_seen[N] = {false};
    int n_fixed = 0;
    const gd_rng_key_t key = {.seed = 7, .purpose = 2};

    gd_rng_permutation(&key, order, N);

    for (uint32_t i = 0; i < N; i++) {
        assert_true(order[i] < N && !is_seen[order[i]]);
        is_seen[order[i]] = true;
        n_fixed += order[i] == i;
    }
    assert_true(n_fixed < 10);
    gd_rng_permutation(&key, order, 1);
    assert_int_equal(order[0], 0);
    gd_rng_permutation(&key, order, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(philox_gives_the_known_answers),         TEST(every_part_of_a_key_changes_the_numbers),
        TEST(uniforms_fill_their_interval_evenly),    TEST(normals_have_the_right_moments),
        TEST(a_prefix_does_not_depend_on_the_length), TEST(integers_stay_below_their_bound),
        TEST(permutations_hold_every_number_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
