/* SPDX-License-Identifier: Apache-2.0 */
/* Values and gradients of ops against PyTorch's, from tests/golden/ops.safetensors (made by make_golden.py there). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/ops.h"
#include "gradd/safetensors.h"
#include "tests/support/fixture.h"

enum { MOST_IN = 5 };

typedef status_t (*apply_func_t)(gd_tensor_t **in, gd_tensor_t **y_p);

static status_t apply_linear(gd_tensor_t **in, gd_tensor_t **y_p)
{
    return gd_linear(in[0], in[1], in[2], y_p);
}

static status_t apply_matmul(gd_tensor_t **in, gd_tensor_t **y_p)
{
    return gd_matmul(in[0], in[1], y_p);
}

static status_t apply_layer_norm(gd_tensor_t **in, gd_tensor_t **y_p)
{
    return gd_layer_norm(in[0], in[1], in[2], 1e-5, y_p);
}

static status_t apply_batch_norm(gd_tensor_t **in, gd_tensor_t **y_p)
{
    return gd_batch_norm(in[0], in[1], in[2], NULL, NULL, true, 1e-5, y_p, NULL, NULL);
}

static status_t apply_batch_norm_evaluation(gd_tensor_t **in, gd_tensor_t **y_p)
{
    return gd_batch_norm(in[0], in[1], in[2], in[3], in[4], false, 1e-5, y_p, NULL, NULL);
}

static status_t apply_conv2d_padded(gd_tensor_t **in, gd_tensor_t **y_p)
{
    const gd_conv2d_options_t options = {.padding = {1, 1}};
    return gd_conv2d(in[0], in[1], in[2], &options, y_p);
}

static status_t apply_conv2d_plain(gd_tensor_t **in, gd_tensor_t **y_p)
{
    return gd_conv2d(in[0], in[1], in[2], NULL, y_p);
}

static status_t apply_conv2d_strided(gd_tensor_t **in, gd_tensor_t **y_p)
{
    const gd_conv2d_options_t options = {.stride = {2, 3}, .padding = {2, 1}, .dilation = {2, 1}};
    return gd_conv2d(in[0], in[1], NULL, &options, y_p);
}

static status_t apply_conv2d_grouped(gd_tensor_t **in, gd_tensor_t **y_p)
{
    const gd_conv2d_options_t options = {.padding = {1, 1}, .groups = 4};
    return gd_conv2d(in[0], in[1], in[2], &options, y_p);
}

static status_t apply_conv2d_depthwise(gd_tensor_t **in, gd_tensor_t **y_p)
{
    const gd_conv2d_options_t options = {.padding = {1, 1}, .groups = 18};
    return gd_conv2d(in[0], in[1], in[2], &options, y_p);
}

static status_t apply_max_pool2d(gd_tensor_t **in, gd_tensor_t **y_p)
{
    const gd_pool2d_options_t options = {.kernel = {2, 2}};
    return gd_max_pool2d(in[0], &options, y_p);
}

static status_t apply_max_pool2d_overlapping(gd_tensor_t **in, gd_tensor_t **y_p)
{
    const gd_pool2d_options_t options = {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}};
    return gd_max_pool2d(in[0], &options, y_p);
}

static status_t apply_avg_pool2d(gd_tensor_t **in, gd_tensor_t **y_p)
{
    const gd_pool2d_options_t options = {.kernel = {2, 3}, .stride = {2, 1}, .padding = {1, 0}};
    return gd_avg_pool2d(in[0], &options, y_p);
}

static status_t apply_attention_full(gd_tensor_t **in, gd_tensor_t **y_p)
{
    return gd_attention(in[0], 2, false, y_p);
}

static status_t apply_attention_two(gd_tensor_t **in, gd_tensor_t **y_p)
{
    return gd_attention(in[0], 2, true, y_p);
}

static status_t apply_attention_one(gd_tensor_t **in, gd_tensor_t **y_p)
{
    return gd_attention(in[0], 1, true, y_p);
}

static status_t apply_embedding(gd_tensor_t **in, gd_tensor_t **y_p)
{
    return gd_embedding(in[0], in[1], y_p);
}

static status_t apply_cross_entropy(gd_tensor_t **in, gd_tensor_t **y_p)
{
    return gd_cross_entropy(in[0], in[1], 0.25, -100, 0.0, y_p, NULL);
}

static status_t apply_cross_entropy_smoothed(gd_tensor_t **in, gd_tensor_t **y_p)
{
    return gd_cross_entropy(in[0], in[1], 1.0, 3, 0.1, y_p, NULL);
}

static status_t apply_mse(gd_tensor_t **in, gd_tensor_t **y_p)
{
    return gd_mse(in[0], in[1], 0.5, y_p);
}

static const struct {
    const char *name;
    apply_func_t apply;
} cases[] = {
    {"linear", apply_linear},
    {"matmul_batched", apply_matmul},
    {"layer_norm", apply_layer_norm},
    {"layer_norm_plain", apply_layer_norm},
    {"batch_norm_training", apply_batch_norm},
    {"batch_norm_2d", apply_batch_norm},
    {"batch_norm_evaluation", apply_batch_norm_evaluation},
    {"conv2d", apply_conv2d_padded},
    {"conv2d_first", apply_conv2d_plain},
    {"conv2d_strided", apply_conv2d_strided},
    {"conv2d_grouped", apply_conv2d_grouped},
    {"conv2d_depthwise", apply_conv2d_depthwise},
    {"max_pool2d", apply_max_pool2d},
    {"max_pool2d_overlapping", apply_max_pool2d_overlapping},
    {"avg_pool2d", apply_avg_pool2d},
    {"attention_causal", apply_attention_two},
    {"attention_full", apply_attention_full},
    {"attention_odd_width", apply_attention_two},
    {"attention_one", apply_attention_one},
    {"embedding", apply_embedding},
    {"cross_entropy", apply_cross_entropy},
    {"cross_entropy_smoothed", apply_cross_entropy_smoothed},
    {"mse", apply_mse},
};

static gd_safetensors_t *golden;

static const gd_safetensors_entry_t *entry_find(const char *name, const char *part, int index)
{
    char key[96];
    if (index < 0) {
        (void)snprintf(key, sizeof(key), "%s/%s", name, part);
    } else {
        (void)snprintf(key, sizeof(key), "%s/%s%d", name, part, index);
    }
    return gd_safetensors_find(golden, key);
}

/* The stored tensor in the given dtype; integers stay as they are. */
static gd_tensor_t *entry_load(const gd_safetensors_entry_t *entry, gd_dtype_t dtype)
{
    gd_tensor_t *stored = NULL;
    assert_ok(gd_tensor_from_data(entry->dtype, entry->n_dims, entry->shape, entry->data, &stored));
    if (entry->dtype != GD_DTYPE_F32 || dtype == GD_DTYPE_F32) {
        return stored;
    }
    gd_tensor_t *t = NULL;
    assert_ok(gd_cast(stored, dtype, &t));
    (void)gd_tensor_unref(stored);
    return t;
}

/* Compares with an error bound relative to the largest stored value. */
static void compare(const char *name, const char *part, const gd_tensor_t *t, const gd_safetensors_entry_t *entry)
{
    assert_non_null(entry);
    assert_non_null(t);
    assert_int_equal(gd_tensor_n_dims(t), entry->n_dims);
    const bool is_f32 = gd_tensor_dtype(t) == GD_DTYPE_F32;
    const float *expected = entry->data;
    double largest = 1e-3, worst = 0.0;
    for (int64_t i = 0; i < gd_tensor_numel(t); i++) {
        const double value =
            is_f32 ? (double)((const float *)gd_tensor_data(t))[i] : ((const double *)gd_tensor_data(t))[i];
        const double error = fabs(value - (double)expected[i]);
        largest = fmax(largest, fabs((double)expected[i]));
        worst = error <= worst ? worst : error; /* a NaN counts */
    }
    if (!(worst <= (is_f32 ? 5e-6 : 2e-7) * largest)) {
        fail_msg("%s %s in %s: error %g, largest value %g", name, part, is_f32 ? "f32" : "f64", worst, largest);
    }
}

static uint64_t tensor_hash(const gd_tensor_t *t)
{
    return hash_fnv1a(gd_tensor_data(t), (size_t)gd_tensor_numel(t) * gd_dtype_size(gd_tensor_dtype(t)));
}

/* Compares everything with PyTorch's values and returns a hash over the bits of the output and the gradients. */
static uint64_t check_case(size_t index, gd_dtype_t dtype)
{
    uint64_t bits = 0;
    const char *name = cases[index].name;
    gd_tensor_t *in[MOST_IN] = {NULL};
    gd_tensor_t *y = NULL;
    for (int i = 0; i < MOST_IN; i++) {
        const gd_safetensors_entry_t *entry = entry_find(name, "in", i);
        if (entry == NULL) {
            continue;
        }
        in[i] = entry_load(entry, dtype);
        const bool is_statistic = cases[index].apply == apply_batch_norm_evaluation && i >= 3;
        if (entry->dtype == GD_DTYPE_F32 && !is_statistic) {
            assert_ok(gd_tensor_set_requires_grad(in[i], true));
        }
    }
    const bool was_enabled = gd_grad_set_enabled(true);

    assert_ok(cases[index].apply(in, &y));
    gd_tensor_t *dy = entry_load(entry_find(name, "dy", -1), dtype);
    assert_ok(gd_backward(y, dy, false));

    (void)gd_grad_set_enabled(was_enabled);
    compare(name, "y", y, entry_find(name, "y", -1));
    bits = tensor_hash(y);
    for (int i = 0; i < MOST_IN; i++) {
        if (in[i] != NULL && gd_tensor_requires_grad(in[i])) {
            char part[16];
            (void)snprintf(part, sizeof(part), "grad%d", i);
            compare(name, part, gd_tensor_grad(in[i]), entry_find(name, "grad", i));
            bits = bits * 31 + tensor_hash(gd_tensor_grad(in[i]));
        }
        (void)gd_tensor_unref(in[i]);
    }
    (void)gd_tensor_unref(dy);
    (void)gd_tensor_unref(y);
    return bits;
}

static void open_golden(void)
{
    char path[512];
    const char *source = getenv("GRADD_SOURCE");
    (void)snprintf(path, sizeof(path), "%s/tests/golden/ops.safetensors", source != NULL ? source : ".");
    assert_ok(gd_safetensors_open(path, &golden));
}

/* oneDNN may split its sums by the number of threads, which is part of the numerics fingerprint for that reason. */
static bool is_onednn(apply_func_t apply)
{
    return apply == apply_linear || apply == apply_matmul || apply == apply_conv2d_padded ||
           apply == apply_conv2d_plain || apply == apply_conv2d_strided || apply == apply_conv2d_grouped ||
           apply == apply_conv2d_depthwise;
}

static void f32_agrees_with_pytorch_whatever_the_threads(void **state)
{
    (void)state;
    open_golden();
    uint64_t bits[sizeof(cases) / sizeof(cases[0])] = {0};
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        assert_ok(gd_context_set_n_threads(n_threads));
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            const uint64_t now = check_case(i, GD_DTYPE_F32);
            if (check_case(i, GD_DTYPE_F32) != now) {
                fail_msg("%s with %d threads: other bits at the second run", cases[i].name, n_threads);
            }
            if (n_threads > 1 && now != bits[i] && !is_onednn(cases[i].apply)) {
                fail_msg("%s: %d threads give other bits than one", cases[i].name, n_threads);
            }
            bits[i] = n_threads == 1 ? now : bits[i];
        }
    }
    assert_ok(gd_context_set_n_threads(1));
    gd_safetensors_close(golden);
}

static void f64_agrees_with_pytorch(void **state)
{
    (void)state;
    open_golden();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)check_case(i, GD_DTYPE_F64);
    }
    gd_safetensors_close(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(f32_agrees_with_pytorch_whatever_the_threads),
        TEST(f64_agrees_with_pytorch),
    };
    return cmocka_run_group_tests_name("engine/golden", tests, NULL, NULL);
}
