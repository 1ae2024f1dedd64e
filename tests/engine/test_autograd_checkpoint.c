/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpointed segments give the same bits as recorded ones, in less memory. */
#include <string.h>

#include "gradd/chain.h"
#include "gradd/context.h"
#include "gradd/rng.h"
#include "tests/support/fixture.h"

enum { N_BLOCKS = 6, WIDTH = 16, BATCH = 256 };

/* batch norm over [B,C,1,1], linear C → 4C, GELU, dropout, linear 4C → C, around which the input is added */
static status_t block_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_chain_t c = {0};
    gd_tensor_t *h = gd_chain_call(&c, gd_reshape, x, 4, ((int64_t[]){BATCH, WIDTH, 1, 1}));
    h = gd_chain_child(&c, self, "bn", h);
    h = gd_chain_call(&c, gd_reshape, h, 2, ((int64_t[]){BATCH, WIDTH}));
    h = gd_chain_child(&c, self, "fc1", h);
    h = gd_chain_call(&c, gd_gelu, h, false);
    h = gd_chain_child(&c, self, "fc2", gd_chain_child(&c, self, "dropout", h));
    return gd_chain_end(&c, gd_chain_binary(&c, gd_add, x, h), y_p);
}

static status_t block_new(gd_module_t **module_p)
{
    static const gd_module_ops_t ops = {.kind = "block", .forward = block_forward};
    gd_build_t b = gd_build_begin(&ops, 0);
    gd_build_child(&b, "bn", gd_batch_norm2d_new(WIDTH, 1e-5, 0.1, gd_build_slot(&b)));
    gd_build_child(&b, "fc1", gd_linear_new(WIDTH, 4 * WIDTH, true, gd_build_slot(&b)));
    gd_build_child(&b, "dropout", gd_dropout_new(0.3, gd_build_slot(&b)));
    gd_build_child(&b, "fc2", gd_linear_new(4 * WIDTH, WIDTH, true, gd_build_slot(&b)));
    return gd_build_end(&b, module_p);
}

static gd_module_t *model_make(void)
{
    gd_module_t *model = NULL;
    gd_build_t b = gd_build_sequential();
    for (int i = 0; i < N_BLOCKS; i++) {
        gd_build_child(&b, NULL, block_new(gd_build_slot(&b)));
    }
    assert_ok(gd_build_end(&b, &model));
    assert_ok(gd_module_set_paths(model));
    assert_ok(gd_module_initialise(model, 5));
    return model;
}

static gd_tensor_t *input_make(bool requires_grad)
{
    float data[BATCH * WIDTH];
    gd_tensor_t *x = NULL;
    gd_rng_fill_normal(&(gd_rng_key_t){.seed = 9, .purpose = 5}, 0, 1, data, BATCH * WIDTH);
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 2, (const int64_t[]){BATCH, WIDTH}, data, &x));
    assert_ok(gd_tensor_set_requires_grad(x, requires_grad));
    return x;
}

/* What a training step leaves. */
typedef struct step {
    uint64_t hash; /* of the gradients */
    double loss;
    float statistics[2 * WIDTH * N_BLOCKS];
    int64_t peak_bytes; /* above what was there before */
} step_t;

static status_t gradient_hash(const char *name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)name;
    (void)owner;
    uint64_t *hash = arg;
    if (parameter->is_buffer) {
        return ST_OK;
    }
    gd_tensor_t *grad = gd_tensor_grad(parameter->tensor);
    assert_non_null(grad);
    const uint32_t *words = gd_tensor_data(grad);
    for (int64_t i = 0; i < gd_tensor_numel(grad); i++) {
        *hash = (*hash ^ words[i]) * UINT64_C(1099511628211);
    }
    return gd_tensor_set_grad(parameter->tensor, NULL, false);
}

static void step_run(gd_module_t *model, gd_tensor_t *x, step_t *step_p)
{
    gd_tensor_t *y = NULL;
    gd_tensor_t *loss = NULL;
    memset(step_p, 0, sizeof(*step_p));
    gd_rng_set_position(3, 8, 1);
    bool was_training = gd_training_set(true);
    int64_t before = gd_memory_get_stats().in_use_bytes;
    gd_memory_reset_peak();
    assert_ok(gd_module_forward(model, x, &y));
    assert_ok(gd_mean(y, 0, NULL, false, &loss));
    y = gd_tensor_unref(y);
    gd_rng_set_position(3, 9, 0); /* the second run goes back to the first one's place by itself */
    (void)gd_training_set(false);
    assert_ok(gd_backward(loss, NULL, false));
    assert_false(gd_training_is_on());
    step_p->peak_bytes = gd_memory_get_stats().peak_bytes - before;
    assert_ok(gd_tensor_item(loss, &step_p->loss));
    assert_ok(gd_module_statistics_export(model, step_p->statistics));
    assert_fails(gd_module_statistics_export(model, step_p->statistics), ST_ERR_STATE, "no forward");
    (void)gd_training_set(was_training);
    gd_tensor_t *grad = gd_tensor_grad(x);
    if (grad != NULL) {
        step_p->hash = (uint64_t)((const float *)gd_tensor_data(grad))[7];
        assert_ok(gd_tensor_set_grad(x, NULL, false));
    }
    assert_ok(gd_module_visit(model, gradient_hash, &step_p->hash));
    (void)gd_tensor_unref(loss);
}

static void assert_same_step(const step_t *a, const step_t *b)
{
    assert_true(a->loss == b->loss);
    assert_true(a->hash == b->hash);
    assert_memory_equal(a->statistics, b->statistics, sizeof(a->statistics));
}

static void checkpointed_blocks_give_the_same_bits_in_less_memory(void **state)
{
    (void)state;
    gd_module_t *model = model_make();
    step_t plain;
    step_t some;
    step_t all;
    for (int requires_grad = 0; requires_grad < 2; requires_grad++) {
        gd_tensor_t *x = input_make(requires_grad != 0);
        step_run(model, x, &plain);
        for (int i = 0; i < N_BLOCKS; i++) {
            gd_module_set_checkpoint(model->children[i], i % 2 == 1);
        }
        step_run(model, x, &some);
        for (int i = 0; i < N_BLOCKS; i++) {
            gd_module_set_checkpoint(model->children[i], true);
        }
        step_run(model, x, &all);

        assert_same_step(&plain, &some);
        assert_same_step(&plain, &all);
        print_message("peak %lld bytes recorded, %lld with half of the blocks checkpointed, %lld with all\n",
                      (long long)plain.peak_bytes, (long long)some.peak_bytes, (long long)all.peak_bytes);
        assert_true(some.peak_bytes < plain.peak_bytes * 3 / 4);
        assert_true(all.peak_bytes < plain.peak_bytes / 2);
        for (int i = 0; i < N_BLOCKS; i++) {
            gd_module_set_checkpoint(model->children[i], false);
        }
        (void)gd_tensor_unref(x);
    }
    (void)gd_module_unref(model);
}

static void checkpoints_nest(void **state)
{
    (void)state;
    gd_module_t *model = model_make();
    gd_tensor_t *x = input_make(false);
    step_t plain;
    step_t nested;
    step_run(model, x, &plain);
    gd_module_set_checkpoint(model, true);
    for (int i = 0; i < N_BLOCKS; i++) {
        gd_module_set_checkpoint(model->children[i], true);
        gd_module_set_checkpoint(model->children[i]->children[1], true);
    }

    step_run(model, x, &nested);

    assert_same_step(&plain, &nested);
    (void)gd_tensor_unref(x);
    (void)gd_module_unref(model);
}

/* ---- functions ---- */

static int n_runs;
static int n_releases;

/* y = a b b */
static status_t product_run(gd_tensor_t *const *in, int n_in, gd_tensor_t **y_p, void *arg)
{
    (void)arg;
    assert_int_equal(n_in, 2);
    n_runs++;
    gd_chain_t c = {0};
    gd_tensor_t *square = gd_chain_binary(&c, gd_mul, in[1], in[1]);
    return gd_chain_end(&c, gd_chain_binary(&c, gd_mul, in[0], square), y_p);
}

static status_t identity_run(gd_tensor_t *const *in, int n_in, gd_tensor_t **y_p, void *arg)
{
    (void)n_in;
    (void)arg;
    *y_p = gd_tensor_ref(in[0]);
    return ST_OK;
}

static void arg_release(void *arg)
{
    (void)arg;
    n_releases++;
}

static gd_tensor_t *scalar(double value)
{
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_scalar(GD_DTYPE_F32, value, &t));
    assert_ok(gd_tensor_set_requires_grad(t, true));
    return t;
}

static double item(gd_tensor_t *t)
{
    double value = 0;
    assert_non_null(t);
    assert_ok(gd_tensor_item(t, &value));
    return value;
}

static status_t hook_count(gd_tensor_t *grad, gd_tensor_t **replacement_p, void *arg)
{
    (void)grad;
    (void)replacement_p;
    ++*(int *)arg;
    return ST_OK;
}

static void a_checkpointed_function_works_with_hooks_gd_grad_and_kept_graphs(void **state)
{
    (void)state;
    gd_tensor_t *a = scalar(3);
    gd_tensor_t *b = scalar(2);
    gd_tensor_t *twice = NULL;
    gd_tensor_t *y = NULL;
    gd_tensor_t *z = NULL;
    gd_tensor_t *gradients[2] = {NULL};
    int n_hooks = 0;
    n_runs = 0;
    n_releases = 0;
    assert_ok(gd_tensor_add_hook(b, hook_count, &n_hooks, NULL));
    assert_ok(gd_scale(a, 2, 0, &twice));
    assert_ok(gd_checkpoint(product_run, NULL, arg_release, (gd_tensor_t *[]){twice, b}, 2, &y));
    assert_ok(gd_mul(y, b, &z)); /* 2 a b³ */
    assert_true(item(z) == 48);

    assert_ok(gd_backward(z, NULL, true));
    assert_true(item(gd_tensor_grad(a)) == 16);
    assert_true(item(gd_tensor_grad(b)) == 72);
    assert_int_equal(n_hooks, 1); /* on the sum of uses inside and outside */
    assert_ok(gd_grad(&z, NULL, 1, (gd_tensor_t *[]){b, twice}, 2, false, false, gradients));

    assert_true(item(gradients[0]) == 72);
    assert_true(item(gradients[1]) == 8);
    assert_int_equal(n_runs, 3);
    assert_int_equal(n_releases, 1);
    assert_fails(gd_backward(z, NULL, false), ST_ERR_STATE, "freed");
    (void)gd_tensor_unref(gradients[0]);
    (void)gd_tensor_unref(gradients[1]);
    (void)gd_tensor_unref(a);
    (void)gd_tensor_unref(b);
    (void)gd_tensor_unref(twice);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(z);
}

static void an_input_changed_in_between_is_refused(void **state)
{
    (void)state;
    gd_tensor_t *a = scalar(3);
    gd_tensor_t *b = scalar(2);
    gd_tensor_t *y = NULL;
    assert_ok(gd_checkpoint(product_run, NULL, NULL, (gd_tensor_t *[]){a, b}, 2, &y));

    assert_ok(gd_tensor_fill(b, 7));

    assert_fails(
        gd_backward(y, NULL, false), ST_ERR_STATE,
        "checkpoint: input 1, which backward needs, was changed in place by fill (version 1, was 0 when saved)");
    (void)gd_tensor_unref(a);
    (void)gd_tensor_unref(b);
    (void)gd_tensor_unref(y);
}

static void a_function_that_gives_its_input_back_passes_the_gradient_on(void **state)
{
    (void)state;
    gd_tensor_t *a = scalar(3);
    gd_tensor_t *y = NULL;
    gd_tensor_t *z = NULL;
    assert_ok(gd_checkpoint(identity_run, NULL, NULL, &a, 1, &y));
    assert_true(y != a);
    assert_ok(gd_checkpoint(identity_run, NULL, NULL, &y, 1, &z));

    assert_ok(gd_backward(z, NULL, false));

    assert_true(item(gd_tensor_grad(a)) == 1);
    (void)gd_tensor_unref(a);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(z);
}

static void without_gradients_nothing_is_kept(void **state)
{
    (void)state;
    gd_tensor_t *a = scalar(3);
    gd_tensor_t *b = scalar(2);
    gd_tensor_t *y = NULL;
    n_releases = 0;

    bool before = gd_grad_set_enabled(false);
    assert_ok(gd_checkpoint(product_run, NULL, arg_release, (gd_tensor_t *[]){a, b}, 2, &y));
    assert_false(gd_grad_is_enabled());
    (void)gd_grad_set_enabled(before);

    assert_false(gd_tensor_requires_grad(y));
    assert_int_equal(n_releases, 1);
    gd_tensor_t *none = NULL;
    assert_fails(gd_checkpoint(product_run, NULL, arg_release, &none, 1, &y), ST_ERR_INVAL, "input 0 is missing");
    assert_fails(gd_checkpoint(product_run, NULL, arg_release, NULL, 0, &y), ST_ERR_INVAL, "0 inputs");
    assert_int_equal(n_releases, 3);
    (void)gd_tensor_unref(a);
    (void)gd_tensor_unref(b);
    (void)gd_tensor_unref(y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(checkpointed_blocks_give_the_same_bits_in_less_memory),
        TEST(checkpoints_nest),
        TEST(a_checkpointed_function_works_with_hooks_gd_grad_and_kept_graphs),
        TEST(an_input_changed_in_between_is_refused),
        TEST(a_function_that_gives_its_input_back_passes_the_gradient_on),
        TEST(without_gradients_nothing_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
