/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors against PyTorch: promotion, values and gradients of functions, printing; see tests/golden/make_tensor.py. */
#include "tests/support/fixture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/ops.h"
#include "gradd/safetensors.h"

enum { MAX_INPUTS = 4, MAX_OUTPUTS = 2 };

static gd_safetensors_t *golden;
static const char *at; /* what is being compared */

static const gd_safetensors_entry_t *entry_find(const char *name, const char *part, int index)
{
    char key[128];
    (void)snprintf(key, sizeof(key), index >= 0 ? "%s.%s%d" : "%s.%s", name, part, index);
    return gd_safetensors_find(golden, key);
}

static gd_tensor_t *tensor_get(const gd_safetensors_entry_t *entry)
{
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_from_data(entry->dtype, entry->n_dims, entry->shape, entry->data, &t));
    return t;
}

static void compare(gd_tensor_t *got, const gd_safetensors_entry_t *entry, const char *what)
{
    gd_tensor_t *expected = tensor_get(entry);
    gd_tensor_t *wide[2] = {NULL, NULL};
    gd_tensor_t *both[2] = {got, expected};
    bool is_same = gd_tensor_dtype(got) == entry->dtype && gd_tensor_n_dims(got) == entry->n_dims;
    for (int d = 0; d < entry->n_dims && is_same; d++) {
        is_same = gd_tensor_shape(got)[d] == entry->shape[d];
    }
    if (!is_same) {
        strbuf_t text = {0};
        gd_tensor_format_shape(got, &text);
        print_error("%s: %s: %s of shape %s\n", at, what, gd_dtype_name(gd_tensor_dtype(got)), strbuf_text(&text));
        fail();
    }
    const double tolerance = entry->dtype == GD_DTYPE_F32 || entry->dtype == GD_DTYPE_F64 ? 1e-5 : 0;
    for (int i = 0; i < 2; i++) {
        assert_ok(gd_tensor_new(GD_DTYPE_F64, entry->n_dims, entry->shape, &wide[i]));
        assert_ok(gd_tensor_copy(wide[i], both[i]));
    }
    const double *a = gd_tensor_data(wide[0]);
    const double *b = gd_tensor_data(wide[1]);
    for (int64_t i = 0; i < gd_tensor_numel(got); i++) {
        bool is_close =
            a[i] == b[i] || (isnan(a[i]) && isnan(b[i])) || fabs(a[i] - b[i]) <= tolerance * fmax(1, fabs(b[i]));
        if (!is_close) {
            print_error("%s: %s: element %lld is %.9g, PyTorch has %.9g\n", at, what, (long long)i, a[i], b[i]);
            fail();
        }
    }
    (void)gd_tensor_unref(wide[0]);
    (void)gd_tensor_unref(wide[1]);
    (void)gd_tensor_unref(expected);
}

/* ---- cases: x[] are the inputs, y[] the outputs ---- */

static status_t cat_many(gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_tensor_t *parts[21] = {NULL};
    int n = 0;
    status_t status = gd_split(x, 0, 1, 21, parts, &n);
    for (int i = n; i < 21 && status == ST_OK; i++) {
        parts[i] = parts[i % n];
    }
    if (status == ST_OK) {
        status = gd_cat(parts, 21, 0, y_p);
    }
    for (int i = 0; i < n; i++) {
        (void)gd_tensor_unref(parts[i]);
    }
    return status;
}

#define AXES(...)                                                                                                      \
    (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), (const int[])                                                   \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }
#define SIZES(...)                                                                                                     \
    (const int64_t[])                                                                                                  \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }

#define INDICES(...)                                                                                                   \
    (gd_tensor_t *[]){__VA_ARGS__}, (int)(sizeof((gd_tensor_t *[]){__VA_ARGS__}) / sizeof(gd_tensor_t *))

/* X(name, call) */
#define CASE_LIST(X)                                                                                                   \
    X(add_mixed, gd_add(x[0], x[1], y))                                                                                \
    X(add_0d, gd_add(x[0], x[1], y))                                                                                   \
    X(add_bool, gd_add(x[0], x[1], y))                                                                                 \
    X(sub_u8, gd_sub(x[0], x[1], y))                                                                                   \
    X(mul_bf16, gd_mul(x[0], x[1], y))                                                                                 \
    X(mul_bf16_f16, gd_mul(x[0], x[1], y))                                                                             \
    X(mul_i64, gd_mul(x[0], x[1], y))                                                                                  \
    X(div_i32, gd_div(x[0], x[1], y))                                                                                  \
    X(div_f32_i64, gd_div(x[0], x[1], y))                                                                              \
    X(number_i32, gd_with_number(gd_mul, x[0], gd_float(2.5), y))                                                      \
    X(number_bf16, gd_number_with(gd_sub, gd_int(3), x[0], y))                                                         \
    X(power_i32, gd_power(x[0], x[1], y))                                                                              \
    X(power_f32, gd_power(x[0], x[1], y))                                                                              \
    X(fmod_i64, gd_fmod(x[0], x[1], y))                                                                                \
    X(remainder_i64, gd_remainder(x[0], x[1], y))                                                                      \
    X(remainder_f32, gd_remainder(x[0], x[1], y))                                                                      \
    X(atan2_f32, gd_atan2(x[0], x[1], y))                                                                              \
    X(maximum_nan, gd_maximum(x[0], x[1], y))                                                                          \
    X(minimum_ties, gd_minimum(x[0], x[1], y))                                                                         \
    X(abs_f32, gd_abs(x[0], y))                                                                                        \
    X(abs_i32, gd_abs(x[0], y))                                                                                        \
    X(sign_f32, gd_sign(x[0], y))                                                                                      \
    X(sign_i32, gd_sign(x[0], y))                                                                                      \
    X(square_f32, gd_square(x[0], y))                                                                                  \
    X(square_i32, gd_square(x[0], y))                                                                                  \
    X(floor_f32, gd_floor(x[0], y))                                                                                    \
    X(floor_i32, gd_floor(x[0], y))                                                                                    \
    X(ceil_f32, gd_ceil(x[0], y))                                                                                      \
    X(ceil_i32, gd_ceil(x[0], y))                                                                                      \
    X(round_f32, gd_round(x[0], y))                                                                                    \
    X(round_i32, gd_round(x[0], y))                                                                                    \
    X(trunc_f32, gd_trunc(x[0], y))                                                                                    \
    X(trunc_i32, gd_trunc(x[0], y))                                                                                    \
    X(sin_f32, gd_sin(x[0], y))                                                                                        \
    X(sin_u8, gd_sin(x[0], y))                                                                                         \
    X(cos_f32, gd_cos(x[0], y))                                                                                        \
    X(cos_u8, gd_cos(x[0], y))                                                                                         \
    X(tan_f32, gd_tan(x[0], y))                                                                                        \
    X(tan_u8, gd_tan(x[0], y))                                                                                         \
    X(exp2_f32, gd_exp2(x[0], y))                                                                                      \
    X(exp2_u8, gd_exp2(x[0], y))                                                                                       \
    X(expm1_f32, gd_expm1(x[0], y))                                                                                    \
    X(expm1_u8, gd_expm1(x[0], y))                                                                                     \
    X(log1p_f32, gd_log1p(x[0], y))                                                                                    \
    X(log1p_u8, gd_log1p(x[0], y))                                                                                     \
    X(erf_f32, gd_erf(x[0], y))                                                                                        \
    X(erf_u8, gd_erf(x[0], y))                                                                                         \
    X(reciprocal_f32, gd_reciprocal(x[0], y))                                                                          \
    X(reciprocal_u8, gd_reciprocal(x[0], y))                                                                           \
    X(rsqrt_f32, gd_rsqrt(x[0], y))                                                                                    \
    X(rsqrt_u8, gd_rsqrt(x[0], y))                                                                                     \
    X(log2_f32, gd_log2(x[0], y))                                                                                      \
    X(log2_u8, gd_log2(x[0], y))                                                                                       \
    X(log10_f32, gd_log10(x[0], y))                                                                                    \
    X(log10_u8, gd_log10(x[0], y))                                                                                     \
    X(exp_f32, gd_exp(x[0], y))                                                                                        \
    X(exp_u8, gd_exp(x[0], y))                                                                                         \
    X(sqrt_f32, gd_sqrt(x[0], y))                                                                                      \
    X(sqrt_u8, gd_sqrt(x[0], y))                                                                                       \
    X(isnan_f32, gd_isnan(x[0], y))                                                                                    \
    X(isinf_f32, gd_isinf(x[0], y))                                                                                    \
    X(isfinite_f32, gd_isfinite(x[0], y))                                                                              \
    X(round_half, gd_round(x[0], y))                                                                                   \
    X(clamp_f32, gd_clamp(x[0], -0.5, 0.75, y))                                                                        \
    X(clamp_nan, gd_clamp(x[0], -1, 2, y))                                                                             \
    X(clamp_i32, gd_clamp(x[0], -1, 1.5, y))                                                                           \
    X(eq_mixed, gd_eq(x[0], x[1], y))                                                                                  \
    X(lt_nan, gd_lt(x[0], x[1], y))                                                                                    \
    X(ge_u8, gd_ge(x[0], x[1], y))                                                                                     \
    X(logical_xor_f32, gd_logical_xor(x[0], x[1], y))                                                                  \
    X(where_mixed, gd_where(x[2], x[0], x[1], y))                                                                      \
    X(masked_fill, gd_masked_fill(x[0], x[1], -HUGE_VAL, y))                                                           \
    X(lerp, gd_lerp(x[0], x[1], 0.3, y))                                                                               \
    X(addcmul, gd_addcmul(x[0], x[1], x[2], 0.5, y))                                                                   \
    X(addcdiv, gd_addcdiv(x[0], x[1], x[2], 0.5, y))                                                                   \
    X(select, gd_select(x[0], 1, -2, y))                                                                               \
    X(as_strided, gd_as_strided(x[0], 2, SIZES(3, 3), SIZES(2, 1), 1, y))                                              \
    X(diagonal, gd_diagonal(x[0], 1, 0, 2, y))                                                                         \
    X(movedim, gd_movedim(x[0], 0, 2, y))                                                                              \
    X(flip, gd_flip(x[0], AXES(0, 2), y))                                                                              \
    X(roll, gd_roll(x[0], 1, -2, y))                                                                                   \
    X(repeat, gd_repeat(x[0], 3, SIZES(2, 1, 3), y))                                                                   \
    X(pad, gd_pad(x[0], SIZES(0, 1), SIZES(1, 2), 1.5, y))                                                             \
    X(tril, gd_tril(x[0], -1, y))                                                                                      \
    X(triu, gd_triu(x[0], 1, y))                                                                                       \
    X(cat, gd_cat(x, 2, 1, y))                                                                                         \
    X(cat_many, cat_many(x[0], y))                                                                                     \
    X(stack, gd_stack(x, 2, -1, y))                                                                                    \
    X(gather, gd_gather(x[0], 1, x[1], y))                                                                             \
    X(take_along_dim, gd_take_along_dim(x[0], 1, x[1], y))                                                             \
    X(scatter, gd_scatter(x[0], 1, x[1], x[2], y))                                                                     \
    X(scatter_add, gd_scatter_add(x[0], 0, x[1], x[2], y))                                                             \
    X(index_select, gd_index_select(x[0], 0, x[1], y))                                                                 \
    X(index_add, gd_index_add(x[0], 1, x[1], x[2], 2, y))                                                              \
    X(masked_select, gd_masked_select(x[0], x[1], y))                                                                  \
    X(nonzero, gd_nonzero(x[0], y))                                                                                    \
    X(index_two, gd_index_get(x[0], INDICES(x[1], NULL, x[2]), y))                                                     \
    X(index_middle, gd_index_get(x[0], INDICES(NULL, x[1], x[2]), y))                                                  \
    X(index_mask, gd_index_get(x[0], INDICES(x[1]), y))                                                                \
    X(index_mask_last, gd_index_get(x[0], INDICES(NULL, x[1]), y))                                                     \
    X(index_mask_none, gd_index_get(x[0], INDICES(x[1]), y))                                                           \
    X(index_mixed, gd_index_get(x[0], INDICES(x[1], NULL, x[2]), y))                                                   \
    X(index_i32, gd_index_get(x[0], INDICES(x[1]), y))                                                                 \
    X(index_put, gd_index_put(x[0], INDICES(x[1]), x[2], false, y))                                                    \
    X(index_put_add, gd_index_put(x[0], INDICES(x[1], x[2]), x[3], true, y))                                           \
    X(index_put_mask, gd_index_put(x[0], INDICES(x[1]), x[2], false, y))                                               \
    X(index_put_scalar, gd_index_put(x[0], INDICES(x[1]), x[2], false, y))                                             \
    X(index_put_middle, gd_index_put(x[0], INDICES(NULL, x[1]), x[2], false, y))                                       \
    X(index_put_bf16, gd_index_put(x[0], INDICES(x[1]), x[2], true, y))                                                \
    X(index_put_i64, gd_index_put(x[0], INDICES(x[1]), x[2], true, y))                                                 \
    X(masked_scatter, gd_masked_scatter(x[0], x[1], x[2], y))                                                          \
    X(masked_scatter_row, gd_masked_scatter(x[0], x[1], x[2], y))                                                      \
    X(scatter_sum_with, gd_scatter_reduce(x[0], 1, x[1], x[2], GD_SCATTER_SUM, true, y))                               \
    X(scatter_sum_without, gd_scatter_reduce(x[0], 1, x[1], x[2], GD_SCATTER_SUM, false, y))                           \
    X(scatter_prod_with, gd_scatter_reduce(x[0], 1, x[1], x[2], GD_SCATTER_PROD, true, y))                             \
    X(scatter_prod_without, gd_scatter_reduce(x[0], 1, x[1], x[2], GD_SCATTER_PROD, false, y))                         \
    X(scatter_mean_with, gd_scatter_reduce(x[0], 1, x[1], x[2], GD_SCATTER_MEAN, true, y))                             \
    X(scatter_mean_without, gd_scatter_reduce(x[0], 1, x[1], x[2], GD_SCATTER_MEAN, false, y))                         \
    X(scatter_max_with, gd_scatter_reduce(x[0], 1, x[1], x[2], GD_SCATTER_MAX, true, y))                               \
    X(scatter_max_without, gd_scatter_reduce(x[0], 1, x[1], x[2], GD_SCATTER_MAX, false, y))                           \
    X(scatter_min_with, gd_scatter_reduce(x[0], 1, x[1], x[2], GD_SCATTER_MIN, true, y))                               \
    X(scatter_min_without, gd_scatter_reduce(x[0], 1, x[1], x[2], GD_SCATTER_MIN, false, y))                           \
    X(sort, gd_sort(x[0], 1, false, &y[0], &y[1]))                                                                     \
    X(sort_nan, gd_sort(x[0], 0, true, &y[0], &y[1]))                                                                  \
    X(sort_stable, gd_sort(x[0], 0, false, &y[0], &y[1]))                                                              \
    X(topk, gd_topk(x[0], 3, 1, true, &y[0], &y[1]))                                                                   \
    X(cumsum, gd_cumsum(x[0], 1, y))                                                                                   \
    X(cumsum_bool, gd_cumsum(x[0], 0, y))                                                                              \
    X(cumprod, gd_cumprod(x[0], 1, y))                                                                                 \
    X(sum_i32, gd_sum(x[0], AXES(0), false, y))                                                                        \
    X(amax, gd_amax(x[0], AXES(0, 2), false, y))                                                                       \
    X(amin_nan, gd_amin(x[0], AXES(0), false, y))                                                                      \
    X(prod, gd_prod(x[0], AXES(1), false, y))                                                                          \
    X(prod_u8, gd_prod(x[0], AXES(0), false, y))                                                                       \
    X(norm_2, gd_norm(x[0], 2, AXES(1), false, y))                                                                     \
    X(norm_3, gd_norm(x[0], 3, 0, NULL, false, y))                                                                     \
    X(norm_inf, gd_norm(x[0], HUGE_VAL, AXES(0), false, y))                                                            \
    X(any_f32, gd_any(x[0], AXES(0), false, y))                                                                        \
    X(all_i64, gd_all(x[0], AXES(1), false, y))                                                                        \
    X(argmax, gd_argmax(x[0], AXES(1), false, y))                                                                      \
    X(argmin_all, gd_argmin(x[0], 0, NULL, false, y))                                                                  \
    X(max, gd_max(x[0], 1, false, &y[0], &y[1]))                                                                       \
    X(min_nan, gd_min(x[0], 0, false, &y[0], &y[1]))                                                                   \
    X(var, gd_var(x[0], 1, AXES(0, 2), false, y))                                                                      \
    X(std, gd_std(x[0], 0, AXES(1), true, y))                                                                          \
    X(logsumexp, gd_logsumexp(x[0], AXES(1), false, y))                                                                \
    X(logsumexp_grad, gd_logsumexp(x[0], 0, NULL, false, y))                                                           \
    X(arange, gd_arange(GD_DTYPE_F32, 1, 2, 0.3, y))                                                                   \
    X(arange_i64, gd_arange(GD_DTYPE_I64, 10, -3, -4, y))                                                              \
    X(linspace, gd_linspace(GD_DTYPE_F32, -1, 2, 7, y))                                                                \
    X(eye, gd_eye(GD_DTYPE_F32, 2, 3, y))

#define CASE_RUN(name_x, call_x)                                                                                       \
    static status_t run_##name_x(gd_tensor_t **x, gd_tensor_t **y)                                                     \
    {                                                                                                                  \
        (void)x;                                                                                                       \
        return call_x;                                                                                                 \
    }
CASE_LIST(CASE_RUN)

static const struct {
    const char *name;
    status_t (*run)(gd_tensor_t **x, gd_tensor_t **y);
} cases[] = {
#define CASE_ROW(name_x, call_x) {#name_x, run_##name_x},
    CASE_LIST(CASE_ROW)};

static void case_check(const char *name, status_t (*run)(gd_tensor_t **x, gd_tensor_t **y))
{
    gd_tensor_t *x[MAX_INPUTS] = {NULL};
    gd_tensor_t *y[MAX_OUTPUTS] = {NULL};
    const gd_safetensors_entry_t *dy_entry = entry_find(name, "dy", -1);
    at = name;
    for (int i = 0; i < MAX_INPUTS && entry_find(name, "in", i) != NULL; i++) {
        x[i] = tensor_get(entry_find(name, "in", i));
        if (entry_find(name, "grad", i) != NULL) {
            assert_ok(gd_tensor_set_requires_grad(x[i], true));
        }
    }
    if (run(x, y) != ST_OK) {
        print_error("%s: %s\n", name, status_message());
        fail();
    }
    for (int i = 0; i < MAX_OUTPUTS && entry_find(name, "out", i) != NULL; i++) {
        compare(y[i], entry_find(name, "out", i), i == 0 ? "value" : "second value");
    }
    if (dy_entry != NULL) {
        gd_tensor_t *dy = tensor_get(dy_entry);
        if (gd_backward(y[0], dy, false) != ST_OK) {
            print_error("%s: backward: %s\n", name, status_message());
            fail();
        }
        (void)gd_tensor_unref(dy);
        for (int i = 0; i < MAX_INPUTS; i++) {
            if (entry_find(name, "grad", i) != NULL) {
                assert_non_null(gd_tensor_grad(x[i]));
                compare(gd_tensor_grad(x[i]), entry_find(name, "grad", i), "gradient");
            }
        }
    }
    for (int i = 0; i < MAX_INPUTS; i++) {
        (void)gd_tensor_unref(x[i]);
    }
    (void)gd_tensor_unref(y[0]);
    (void)gd_tensor_unref(y[1]);
}

static void values_and_gradients_are_those_of_pytorch(void **state)
{
    (void)state;
    assert_ok(gd_safetensors_open(fixture_golden("tensor.safetensors"), &golden));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        case_check(cases[i].name, cases[i].run);
    }
    gd_safetensors_close(golden);
}

/* All pairs of dtypes, each with dimensions and without. */
static void dtypes_are_promoted_as_by_pytorch(void **state)
{
    (void)state;
    assert_ok(gd_safetensors_open(fixture_golden("tensor.safetensors"), &golden));
    const gd_safetensors_entry_t *entry = gd_safetensors_find(golden, "promotion");
    assert_non_null(entry);
    const int64_t *table = entry->data;
    for (int a = 0; a < GD_DTYPE_COUNT; a++) {
        for (int b = 0; b < GD_DTYPE_COUNT; b++) {
            for (int dims = 0; dims < 4; dims++) {
                const gd_dtype_t dtypes[2] = {(gd_dtype_t)a, (gd_dtype_t)b};
                const int n_dims[2] = {dims / 2, dims % 2};
                assert_int_equal(gd_dtype_result(dtypes, n_dims, 2), *table);
                table++;
            }
        }
    }
    gd_safetensors_close(golden);
}

static void tensors_are_printed_as_by_pytorch(void **state)
{
    (void)state;
    int n = 0;
    int n_bad = 0;
    assert_ok(gd_safetensors_open(fixture_golden("tensor.safetensors"), &golden));
    for (int i = 0; i < gd_safetensors_count(golden); i++) {
        const gd_safetensors_entry_t *entry = gd_safetensors_at(golden, i);
        if (strncmp(entry->name, "print.", 6) != 0) {
            continue;
        }
        gd_tensor_t *t = tensor_get(entry);
        strbuf_t text = {0};
        gd_tensor_format(t, &text);
        const char *expected = gd_safetensors_metadata(golden, entry->name);
        assert_non_null(expected);
        if (strcmp(strbuf_text(&text), expected) != 0) {
            print_error("%s: got\n%s\nPyTorch prints\n%s\n", entry->name, strbuf_text(&text), expected);
            n_bad++;
        }
        strbuf_release(&text);
        (void)gd_tensor_unref(t);
        n++;
    }
    gd_safetensors_close(golden);
    assert_int_equal(n_bad, 0);
    assert_in_range(n, 30, 1000);
}

static void what_tracks_gradients_says_so(void **state)
{
    (void)state;
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    strbuf_t text = {0};
    assert_ok(gd_ones(GD_DTYPE_F64, 1, SIZES(2), &x));
    assert_ok(gd_tensor_set_requires_grad(x, true));
    gd_tensor_format(x, &text);
    assert_string_equal(strbuf_text(&text), "tensor([1., 1.], dtype=f64, requires_grad=True)");
    assert_ok(gd_mul(x, x, &y));
    strbuf_clear(&text);
    gd_tensor_format(y, &text);
    assert_string_equal(strbuf_text(&text), "tensor([1., 1.], dtype=f64, grad_fn=<mul>)");
    (void)gd_tensor_unref(x);

    /* on a line of its own where the last one is full, as PyTorch does */
    strbuf_clear(&text);
    assert_ok(gd_ones(GD_DTYPE_F32, 2, SIZES(2, 13), &x));
    assert_ok(gd_tensor_set_requires_grad(x, true));
    gd_tensor_format(x, &text);
    assert_string_equal(strbuf_text(&text), "tensor([[1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1.],\n"
                                            "        [1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1.]],\n"
                                            "       requires_grad=True)");
    strbuf_release(&text);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(dtypes_are_promoted_as_by_pytorch),
        TEST(values_and_gradients_are_those_of_pytorch),
        TEST(tensors_are_printed_as_by_pytorch),
        TEST(what_tracks_gradients_says_so),
    };
    return cmocka_run_group_tests_name("tensor_golden", tests, NULL, NULL);
}
