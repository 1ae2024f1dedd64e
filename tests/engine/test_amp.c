/* SPDX-License-Identifier: Apache-2.0 */
/* Autocast and the loss scale, against PyTorch's and float64 (amp.safetensors, made by make_amp.py). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gradd/amp.h"
#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/ops.h"
#include "gradd/safetensors.h"
#include "tests/support/fixture.h"

static gd_safetensors_t *golden;

static gd_tensor_t *golden_get(const char *prefix, const char *name)
{
    char full[96];
    (void)snprintf(full, sizeof(full), "%s.%s", prefix, name);
    const gd_safetensors_entry_t *entry = gd_safetensors_find(golden, full);
    if (entry == NULL) {
        fail_msg("amp.safetensors has no %s", full);
    }
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_from_data(entry->dtype, entry->n_dims, entry->shape, entry->data, &t));
    return t;
}

static gd_tensor_t *parameter_get(const char *prefix, const char *name)
{
    gd_tensor_t *t = golden_get(prefix, name);
    assert_ok(gd_tensor_set_requires_grad(t, true));
    return t;
}

/* Largest difference, and the largest value. */
static double difference(gd_tensor_t *a, gd_tensor_t *b, double *most_p)
{
    gd_tensor_t *wide[2] = {NULL};
    double worst = 0;
    assert_ok(gd_cast(a, GD_DTYPE_F32, &wide[0]));
    assert_ok(gd_cast(b, GD_DTYPE_F32, &wide[1]));
    const float *x = gd_tensor_data(wide[0]);
    const float *y = gd_tensor_data(wide[1]);
    *most_p = 0;
    assert_int_equal(gd_tensor_numel(a), gd_tensor_numel(b));
    for (int64_t i = 0; i < gd_tensor_numel(a); i++) {
        worst = fmax(worst, fabs((double)x[i] - (double)y[i]));
        *most_p = fmax(*most_p, fabs((double)y[i]));
    }
    (void)gd_tensor_unref(wide[0]);
    (void)gd_tensor_unref(wide[1]);
    return worst;
}

/* Ours is as near to float64's as PyTorch's autocast is, and to PyTorch's within a few roundings. */
static void assert_near(const char *model, const char *name, gd_tensor_t *ours)
{
    char full[64];
    double most = 0;
    (void)snprintf(full, sizeof(full), "f64.%s", name);
    gd_tensor_t *exact = golden_get(model, full);
    (void)snprintf(full, sizeof(full), "bf16.%s", name);
    gd_tensor_t *theirs = golden_get(model, full);

    double our_error = difference(ours, exact, &most);
    double their_error = difference(theirs, exact, &most);
    double apart = difference(ours, theirs, &most);

    if (!(our_error <= 2 * their_error + 0x1p-10 * most) || !(apart <= 0x1p-5 * most)) {
        fail_msg("%s.%s: %g from float64's, PyTorch %g; %g from PyTorch's; the largest is %g", model, name, our_error,
                 their_error, apart, most);
    }
    (void)gd_tensor_unref(exact);
    (void)gd_tensor_unref(theirs);
}

enum { MOST_PARAMETERS = 8 };

typedef struct model {
    const char *name;
    int n;
    const char *names[MOST_PARAMETERS];
    gd_tensor_t *p[MOST_PARAMETERS];
} model_t;

static gd_tensor_t *mlp_forward(const model_t *m, gd_tensor_t *x)
{
    gd_tensor_t *h = NULL, *g = NULL, *n = NULL, *y = NULL;
    assert_ok(gd_linear(x, m->p[0], m->p[1], &h));
    assert_ok(gd_gelu(h, true, &g));
    assert_ok(gd_layer_norm(g, m->p[2], m->p[3], 1e-5, &n));
    assert_ok(gd_linear(n, m->p[4], m->p[5], &y));
    (void)gd_tensor_unref(h);
    (void)gd_tensor_unref(g);
    (void)gd_tensor_unref(n);
    return y;
}

static gd_tensor_t *attention_forward(const model_t *m, gd_tensor_t *x)
{
    gd_tensor_t *n = NULL, *qkv = NULL, *a = NULL, *o = NULL, *y = NULL;
    assert_ok(gd_layer_norm(x, m->p[0], m->p[1], 1e-5, &n));
    assert_ok(gd_linear(n, m->p[2], m->p[3], &qkv));
    assert_ok(gd_attention(qkv, 4, true, &a));
    assert_ok(gd_linear(a, m->p[4], m->p[5], &o));
    assert_ok(gd_add(x, o, &y));
    (void)gd_tensor_unref(n);
    (void)gd_tensor_unref(qkv);
    (void)gd_tensor_unref(a);
    (void)gd_tensor_unref(o);
    return y;
}

static void golden_check(model_t *m, gd_tensor_t *(*forward)(const model_t *m, gd_tensor_t *x), gd_dtype_t y_dtype)
{
    assert_ok(gd_safetensors_open(fixture_golden("amp.safetensors"), &golden));
    for (int i = 0; i < m->n; i++) {
        m->p[i] = parameter_get(m->name, m->names[i]);
    }
    gd_tensor_t *x = parameter_get(m->name, "x");
    gd_tensor_t *dy = golden_get(m->name, "dy");
    gd_tensor_t *start = NULL;

    gd_dtype_t before = gd_autocast_set(GD_DTYPE_BF16);
    gd_tensor_t *y = forward(m, x);
    (void)gd_autocast_set(before);
    assert_int_equal(gd_tensor_dtype(y), y_dtype);
    assert_ok(gd_cast(dy, y_dtype, &start));
    assert_ok(gd_backward(y, start, false));

    assert_near(m->name, "y", y);
    assert_near(m->name, "dx", gd_tensor_grad(x));
    for (int i = 0; i < m->n; i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "d%s", m->names[i]);
        assert_int_equal(gd_tensor_dtype(gd_tensor_grad(m->p[i])), GD_DTYPE_F32);
        assert_near(m->name, name, gd_tensor_grad(m->p[i]));
        (void)gd_tensor_unref(m->p[i]);
    }
    (void)gd_tensor_unref(start);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(dy);
    (void)gd_tensor_unref(x);
    gd_safetensors_close(golden);
}

static void an_mlp_under_autocast_is_pytorchs(void **state)
{
    (void)state;
    model_t m = {.name = "mlp",
                 .n = 6,
                 .names = {"fc.weight", "fc.bias", "norm.weight", "norm.bias", "proj.weight", "proj.bias"}};
    golden_check(&m, mlp_forward, GD_DTYPE_BF16);
}

static void an_attention_block_under_autocast_is_pytorchs(void **state)
{
    (void)state;
    model_t m = {.name = "attention",
                 .n = 6,
                 .names = {"norm.weight", "norm.bias", "qkv.weight", "qkv.bias", "proj.weight", "proj.bias"}};
    golden_check(&m, attention_forward, GD_DTYPE_F32); /* the residual is the wider of the two */
}

static void the_loss_scale_follows_pytorchs_scaler(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        gd_grad_scaler_options_t options;
    } rows[] = {{"default", {65536, 2, 0.5, 2000}}, {"quick", {1000, 3, 0.25, 4}}};
    gd_grad_scaler_options_t defaults;
    gd_grad_scaler_defaults(&defaults);
    assert_memory_equal(&defaults, &rows[0].options, sizeof(defaults));
    assert_ok(gd_safetensors_open(fixture_golden("amp.safetensors"), &golden));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char prefix[32];
        (void)snprintf(prefix, sizeof(prefix), "scaler.%s", rows[i].name);
        gd_tensor_t *found = golden_get(prefix, "found");
        gd_tensor_t *scale = golden_get(prefix, "scale");
        gd_tensor_t *tracker = golden_get(prefix, "tracker");
        gd_grad_scaler_t scaler;
        int64_t n_skipped = 0;
        assert_ok(gd_grad_scaler_init(&scaler, &rows[i].options));
        for (int64_t step = 0; step < gd_tensor_numel(found); step++) {
            bool is_bad = ((const int32_t *)gd_tensor_data(found))[step] != 0;
            n_skipped += is_bad;

            bool is_taken = gd_grad_scaler_update(&scaler, &rows[i].options, !is_bad);

            assert_true(is_taken == !is_bad);
            assert_true(scaler.scale == (double)((const float *)gd_tensor_data(scale))[step]);
            assert_int_equal(scaler.n_good, ((const int32_t *)gd_tensor_data(tracker))[step]);
            assert_int_equal(scaler.n_skipped, n_skipped);
        }
        (void)gd_tensor_unref(found);
        (void)gd_tensor_unref(scale);
        (void)gd_tensor_unref(tracker);
    }
    gd_safetensors_close(golden);
}

static void a_scaler_refuses_options_out_of_range(void **state)
{
    (void)state;
    gd_grad_scaler_t scaler;
    assert_fails(gd_grad_scaler_init(&scaler, &(gd_grad_scaler_options_t){0, 2, 0.5, 1}), ST_ERR_RANGE, "initial");
    assert_fails(gd_grad_scaler_init(&scaler, &(gd_grad_scaler_options_t){1e39, 2, 0.5, 1}), ST_ERR_RANGE, "initial");
    assert_fails(gd_grad_scaler_init(&scaler, &(gd_grad_scaler_options_t){1, 1, 0.5, 1}), ST_ERR_RANGE, "growth");
    assert_fails(gd_grad_scaler_init(&scaler, &(gd_grad_scaler_options_t){1, 2, 1, 1}), ST_ERR_RANGE, "backoff");
    assert_fails(gd_grad_scaler_init(&scaler, &(gd_grad_scaler_options_t){1, 2, 0.5, 0}), ST_ERR_RANGE, "interval");
}

/* ---- autocast ---- */

static gd_tensor_t *filled(int64_t rows, int64_t columns, double first, bool requires_grad)
{
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_new(GD_DTYPE_F32, 2, (const int64_t[2]){rows, columns}, &t));
    for (int64_t i = 0; i < rows * columns; i++) {
        ((float *)gd_tensor_data(t))[i] = (float)(first + 0.37 * sin(1.3 * (double)i));
    }
    assert_ok(gd_tensor_set_requires_grad(t, requires_grad));
    return t;
}

static void scopes_nest_and_are_put_back(void **state)
{
    (void)state;
    assert_int_equal(gd_autocast_get(), GD_DTYPE_F32);
    gd_dtype_t outer = gd_autocast_set(GD_DTYPE_BF16);
    gd_dtype_t inner = gd_autocast_set(GD_DTYPE_F16);
    assert_int_equal(gd_autocast_get(), GD_DTYPE_F16);
    gd_dtype_t off = gd_autocast_set(GD_DTYPE_I64);
    assert_int_equal(gd_autocast_get(), GD_DTYPE_F32);

    (void)gd_autocast_set(off);
    assert_int_equal(gd_autocast_get(), GD_DTYPE_F16);
    (void)gd_autocast_set(inner);
    assert_int_equal(gd_autocast_get(), GD_DTYPE_BF16);
    (void)gd_autocast_set(outer);
    assert_int_equal(gd_autocast_get(), GD_DTYPE_F32);
}

/* y of x w under autocast; its dtype. */
static gd_dtype_t product_dtype(gd_tensor_t *x, gd_tensor_t *w)
{
    gd_tensor_t *y = NULL;
    assert_ok(gd_linear(x, w, NULL, &y));
    gd_dtype_t dtype = gd_tensor_dtype(y);
    (void)gd_tensor_unref(y);
    return dtype;
}

static void dtypes_follow_the_rows(void **state)
{
    (void)state;
    gd_tensor_t *x = filled(4, 8, 0, false);
    gd_tensor_t *w = filled(5, 8, 0, true);
    gd_tensor_t *half = NULL, *sum = NULL, *mixed = NULL, *relu = NULL;

    assert_int_equal(product_dtype(x, w), GD_DTYPE_F32);
    (void)gd_autocast_set(GD_DTYPE_F16);
    assert_int_equal(product_dtype(x, w), GD_DTYPE_F16);
    (void)gd_autocast_set(GD_DTYPE_BF16);
    assert_int_equal(product_dtype(x, w), GD_DTYPE_BF16);
    assert_ok(gd_cast(x, GD_DTYPE_BF16, &half));
    assert_ok(gd_sum(half, 0, NULL, false, &sum)); /* F32 */
    assert_ok(gd_add(half, x, &mixed));            /* WIDEST */
    assert_ok(gd_relu(half, &relu));               /* KEEP */
    (void)gd_autocast_set(GD_DTYPE_F32);

    assert_int_equal(gd_tensor_dtype(sum), GD_DTYPE_F32);
    assert_int_equal(gd_tensor_dtype(mixed), GD_DTYPE_F32);
    assert_int_equal(gd_tensor_dtype(relu), GD_DTYPE_BF16);
    gd_tensor_t *all[] = {x, w, half, sum, mixed, relu};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        (void)gd_tensor_unref(all[i]);
    }
}

static void without_autocast_products_of_mixed_dtypes_are_refused(void **state)
{
    (void)state;
    gd_tensor_t *x = filled(4, 8, 0, false);
    gd_tensor_t *half = NULL, *y = NULL;
    assert_ok(gd_cast(x, GD_DTYPE_BF16, &half));

    assert_fails(gd_linear(half, x, NULL, &y), ST_ERR_DTYPE, "linear: x bf16, weight f32");
    assert_fails(gd_matmul(half, x, &y), ST_ERR_DTYPE, "matmul: bf16 and f32");

    (void)gd_tensor_unref(half);
    (void)gd_tensor_unref(x);
}

static int64_t memory_in_use(void)
{
    return gd_memory_get_stats().in_use_bytes;
}

static void a_parameter_is_cast_once_until_it_changes(void **state)
{
    (void)state;
    gd_tensor_t *x = filled(2, 64, 0, false);
    gd_tensor_t *w = filled(128, 64, 0, true);
    gd_tensor_t *y = NULL;
    gd_tensor_t *again = NULL;
    (void)gd_autocast_set(GD_DTYPE_BF16);
    int64_t before = memory_in_use();
    (void)product_dtype(x, w);
    int64_t copy = memory_in_use() - before;
    assert_true(copy >= 128 * 64 * 2);

    assert_ok(gd_linear(x, w, NULL, &y));
    int64_t first = memory_in_use();
    assert_ok(gd_linear(x, w, NULL, &again));
    assert_true(memory_in_use() - first < 128 * 64 * 2); /* no second copy */
    again = gd_tensor_unref(again);
    y = gd_tensor_unref(y);

    assert_ok(gd_tensor_fill(w, 1.0));
    assert_ok(gd_tensor_fill(x, 1.0));
    assert_ok(gd_linear(x, w, NULL, &y));
    double value = 0;
    gd_tensor_t *one = NULL;
    assert_ok(gd_slice(y, 1, 0, 1, 1, &one));
    again = gd_tensor_unref(again);
    assert_ok(gd_slice(one, 0, 0, 1, 1, &again));
    assert_ok(gd_tensor_item(again, &value));
    assert_true(value == 64.0); /* of the new values */
    (void)gd_autocast_set(GD_DTYPE_F32);

    gd_tensor_t *all[] = {x, w, y, one, again};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        (void)gd_tensor_unref(all[i]);
    }
}

/* 1 + 2^-12 summed 512 times isn't a bf16 number. */
static void weight_gradients_are_summed_in_f32(void **state)
{
    (void)state;
    gd_tensor_t *x = NULL, *w = filled(1, 1, 0, true), *bias = NULL, *y = NULL, *dy = NULL;
    assert_ok(gd_tensor_full(GD_DTYPE_F32, 2, (const int64_t[2]){515, 1}, 1.0, &x));
    assert_ok(gd_tensor_zeros(GD_DTYPE_F32, 1, (const int64_t[1]){1}, &bias));
    assert_ok(gd_tensor_set_requires_grad(bias, true));
    (void)gd_autocast_set(GD_DTYPE_BF16);
    assert_ok(gd_linear(x, w, bias, &y));
    (void)gd_autocast_set(GD_DTYPE_F32);
    assert_ok(gd_tensor_full(GD_DTYPE_BF16, 2, (const int64_t[2]){515, 1}, 1.0, &dy));

    assert_ok(gd_backward(y, dy, true));
    assert_ok(gd_backward(y, dy, false));

    double value = 0;
    assert_ok(gd_tensor_item(gd_tensor_grad(w), &value));
    assert_true(value == 1030.0);
    assert_ok(gd_tensor_item(gd_tensor_grad(bias), &value));
    assert_true(value == 1030.0);
    gd_tensor_t *all[] = {x, w, bias, y, dy};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        (void)gd_tensor_unref(all[i]);
    }
}

static void gradients_of_parameters_can_be_asked_for(void **state)
{
    (void)state;
    gd_tensor_t *x = filled(6, 8, 0, true), *w = filled(5, 8, 0, true), *y = NULL, *sum = NULL;
    gd_tensor_t *inputs[2] = {x, w};
    gd_tensor_t *gradients[2] = {NULL};
    (void)gd_autocast_set(GD_DTYPE_BF16);
    assert_ok(gd_linear(x, w, NULL, &y));
    assert_ok(gd_sum(y, 0, NULL, false, &sum));
    (void)gd_autocast_set(GD_DTYPE_F32);

    assert_ok(gd_grad(&sum, NULL, 1, inputs, 2, false, false, gradients));

    for (int i = 0; i < 2; i++) {
        assert_int_equal(gd_tensor_dtype(gradients[i]), GD_DTYPE_F32);
        assert_null(gd_tensor_grad(inputs[i]));
        (void)gd_tensor_unref(gradients[i]);
    }
    gd_tensor_t *all[] = {x, w, y, sum};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        (void)gd_tensor_unref(all[i]);
    }
}

static status_t segment_run(gd_tensor_t *const *in, int n_in, gd_tensor_t **y_p, void *arg)
{
    gd_tensor_t *h = NULL;
    (void)n_in;
    status_t status = gd_linear(in[0], arg, NULL, &h);
    status = status == ST_OK ? gd_gelu(h, false, y_p) : status;
    (void)gd_tensor_unref(h);
    return status;
}

/* The gradient of w of sum(gelu(x wᵀ)), the segment under bf16 and the rest outside. */
static gd_tensor_t *segment_gradient(bool is_checkpointed)
{
    gd_tensor_t *x = filled(6, 8, 0.1, true), *w = filled(5, 8, 0, true), *y = NULL, *dy = NULL;
    gd_dtype_t before = gd_autocast_set(GD_DTYPE_BF16);
    assert_ok(is_checkpointed ? gd_checkpoint(segment_run, w, NULL, &x, 1, &y) : segment_run(&x, 1, &y, w));
    (void)gd_autocast_set(before);
    assert_int_equal(gd_tensor_dtype(y), GD_DTYPE_BF16);
    assert_ok(gd_tensor_full(GD_DTYPE_BF16, 2, gd_tensor_shape(y), 0.3, &dy));
    assert_ok(gd_backward(y, dy, false));
    gd_tensor_t *gradient = gd_tensor_ref(gd_tensor_grad(w));
    (void)gd_tensor_unref(dy);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(w);
    (void)gd_tensor_unref(x);
    return gradient;
}

static void a_checkpointed_segment_runs_again_in_its_mode(void **state)
{
    (void)state;
    gd_tensor_t *plain = segment_gradient(false);
    gd_tensor_t *again = segment_gradient(true);

    assert_memory_equal(gd_tensor_data(plain), gd_tensor_data(again), 40 * sizeof(float));

    (void)gd_tensor_unref(plain);
    (void)gd_tensor_unref(again);
}

static void embeddings_round_only_the_rows_that_are_read(void **state)
{
    (void)state;
    gd_tensor_t *table = filled(1000, 16, 0, true), *ids = NULL, *y = NULL, *dy = NULL;
    const int64_t id[3] = {999, 0, 999};
    assert_ok(gd_tensor_from_data(GD_DTYPE_I64, 1, (const int64_t[1]){3}, id, &ids));
    int64_t before = memory_in_use();
    (void)gd_autocast_set(GD_DTYPE_BF16);
    assert_ok(gd_embedding(ids, table, &y));
    (void)gd_autocast_set(GD_DTYPE_F32);
    assert_true(memory_in_use() - before < 16 * 1000);
    assert_int_equal(gd_tensor_dtype(y), GD_DTYPE_BF16);
    assert_ok(gd_tensor_full(GD_DTYPE_BF16, 2, (const int64_t[2]){3, 16}, 1.0, &dy));

    assert_ok(gd_backward(y, dy, false));

    const float *gradient = gd_tensor_data(gd_tensor_grad(table));
    assert_true(gradient[0] == 1.0F && gradient[16] == 0.0F && gradient[999 * 16] == 2.0F);
    gd_tensor_t *all[] = {table, ids, y, dy};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        (void)gd_tensor_unref(all[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_mlp_under_autocast_is_pytorchs),
        TEST(an_attention_block_under_autocast_is_pytorchs),
        TEST(the_loss_scale_follows_pytorchs_scaler),
        TEST(a_scaler_refuses_options_out_of_range),
        TEST(scopes_nest_and_are_put_back),
        TEST(dtypes_follow_the_rows),
        TEST(without_autocast_products_of_mixed_dtypes_are_refused),
        TEST(a_parameter_is_cast_once_until_it_changes),
        TEST(weight_gradients_are_summed_in_f32),
        TEST(gradients_of_parameters_can_be_asked_for),
        TEST(a_checkpointed_segment_runs_again_in_its_mode),
        TEST(embeddings_round_only_the_rows_that_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
