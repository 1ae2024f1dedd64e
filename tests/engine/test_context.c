/* SPDX-License-Identifier: Apache-2.0 */
/* context: the memory pool, threads, modes. */
#include "gradd/context.h"

#include <pthread.h>
#include <string.h>

#include "base/mem.h"
#include "gradd/autograd.h"
#include "gradd/ops.h"
#include "tests/support/fixture.h"

enum { N_LAYERS = 3, WIDTH = 32, BATCH = 16 };

static void mlp_step(gd_tensor_t **weight, gd_tensor_t **bias, gd_tensor_t *x)
{
    gd_tensor_t *h = gd_tensor_ref(x);
    for (int i = 0; i < N_LAYERS; i++) {
        gd_tensor_t *y = NULL;
        gd_tensor_t *z = NULL;
        assert_ok(gd_linear(h, weight[i], bias[i], &y));
        assert_ok(gd_gelu(y, true, &z));
        (void)gd_tensor_unref(h);
        (void)gd_tensor_unref(y);
        h = z;
    }
    gd_tensor_t *loss = NULL;
    assert_ok(gd_mean(h, 0, NULL, false, &loss));
    assert_ok(gd_backward(loss, NULL, false));
    (void)gd_tensor_unref(loss);
    (void)gd_tensor_unref(h);
}

static void a_steady_training_loop_asks_the_heap_for_nothing(void **state)
{
    (void)state;
    gd_tensor_t *weight[N_LAYERS];
    gd_tensor_t *bias[N_LAYERS];
    gd_tensor_t *x = NULL;
    assert_ok(gd_tensor_full(GD_DTYPE_F32, 2, (const int64_t[]){BATCH, WIDTH}, 0.5, &x));
    for (int i = 0; i < N_LAYERS; i++) {
        assert_ok(gd_tensor_full(GD_DTYPE_F32, 2, (const int64_t[]){WIDTH, WIDTH}, 0.1, &weight[i]));
        assert_ok(gd_tensor_zeros(GD_DTYPE_F32, 1, (const int64_t[]){WIDTH}, &bias[i]));
        assert_ok(gd_tensor_set_requires_grad(weight[i], true));
        assert_ok(gd_tensor_set_requires_grad(bias[i], true));
    }
    mlp_step(weight, bias, x);
    mlp_step(weight, bias, x);
    const gd_memory_stats_t before = gd_memory_get_stats();
    const int64_t n_blocks = mem_total_count();

    for (int step = 0; step < 100; step++) {
        mlp_step(weight, bias, x);
    }

    const gd_memory_stats_t after = gd_memory_get_stats();
    assert_int_equal(after.n_system_allocations, before.n_system_allocations);
    assert_int_equal(after.in_use_bytes, before.in_use_bytes);
    assert_int_equal(after.held_bytes, before.held_bytes);
    assert_int_equal(mem_total_count(), n_blocks);
    (void)gd_tensor_unref(x);
    for (int i = 0; i < N_LAYERS; i++) {
        (void)gd_tensor_unref(weight[i]);
        (void)gd_tensor_unref(bias[i]);
    }
}

static void the_peak_follows_what_is_in_use(void **state)
{
    (void)state;
    gd_tensor_t *t = NULL;
    gd_memory_reset_peak();
    const int64_t base = gd_memory_get_stats().in_use_bytes;

    assert_ok(gd_tensor_new(GD_DTYPE_F32, 1, (const int64_t[]){1 << 20}, &t));
    const gd_memory_stats_t during = gd_memory_get_stats();
    (void)gd_tensor_unref(t);
    const gd_memory_stats_t after = gd_memory_get_stats();
    gd_memory_reset_peak();

    assert_true(during.in_use_bytes - base >= 4 << 20);
    assert_true(during.in_use_bytes - base < 5 << 20);
    assert_int_equal(after.in_use_bytes, base);
    assert_int_equal(after.peak_bytes, during.in_use_bytes);
    assert_int_equal(gd_memory_get_stats().peak_bytes, base);
}

static void tensor_memory_is_aligned(void **state)
{
    (void)state;
    const int64_t sizes[] = {0, 1, 15, 127, 128, 129, 1000, 4097, 100000, 3000000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        gd_tensor_t *t = NULL;
        assert_ok(gd_tensor_new(GD_DTYPE_U8, 1, &sizes[i], &t));
        assert_int_equal((uintptr_t)gd_tensor_data(t) % 64, 0);
        memset(gd_tensor_data(t), 1, (size_t)sizes[i]);
        (void)gd_tensor_unref(t);
    }
}

static void *tensor_make(void *arg)
{
    gd_tensor_t **t_p = arg;
    if (gd_tensor_full(GD_DTYPE_F32, 1, (const int64_t[]){1000}, 3, t_p) != ST_OK) {
        *t_p = NULL;
    }
    return NULL;
}

static void *tensor_drop(void *arg)
{
    (void)gd_tensor_unref(arg);
    return NULL;
}

static void a_tensor_may_outlive_its_thread_and_die_on_another(void **state)
{
    (void)state;
    pthread_t thread;
    gd_tensor_t *theirs = NULL;
    gd_tensor_t *ours = NULL;
    double value = 0;
    gd_tensor_t *one = NULL;
    const int64_t in_use = gd_memory_get_stats().in_use_bytes;

    assert_int_equal(pthread_create(&thread, NULL, tensor_make, &theirs), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_non_null(theirs);
    assert_ok(gd_slice(theirs, 0, 999, 1000, 1, &one));
    assert_ok(gd_tensor_item(one, &value));
    (void)gd_tensor_unref(one);
    (void)gd_tensor_unref(theirs);
    assert_ok(gd_tensor_new(GD_DTYPE_F32, 1, (const int64_t[]){1000}, &ours));
    assert_int_equal(pthread_create(&thread, NULL, tensor_drop, ours), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);

    assert_true(value == 3);
    assert_int_equal(gd_memory_get_stats().in_use_bytes, in_use);
}

static void contexts_are_switched_per_thread(void **state)
{
    (void)state;
    gd_context_t *context = NULL;
    gd_tensor_t *t = NULL;
    assert_ok(gd_context_open(&(gd_context_options_t){.n_threads = 2}, &context));

    gd_context_t *before = gd_context_set_current(context);
    assert_int_equal(gd_context_n_threads(), 2);
    (void)gd_grad_set_enabled(false);
    assert_ok(gd_tensor_zeros(GD_DTYPE_F32, 0, NULL, &t));
    (void)gd_tensor_unref(t);
    assert_true(gd_memory_get_stats().held_bytes > 0);
    assert_ptr_equal(gd_context_set_current(NULL), context);
    gd_context_close(context);

    assert_ptr_equal(gd_context_get(), before);
    assert_true(gd_grad_is_enabled());
    assert_false(gd_training_is_on());
    assert_fails(gd_context_open(&(gd_context_options_t){.n_threads = -1}, &context), ST_ERR_RANGE, "-1 threads");
    assert_fails(gd_context_open(&(gd_context_options_t){.device = GD_DEVICE_CUDA}, &context), ST_ERR_UNSUPPORTED,
                 "device cuda: this build has no kernels for it; device cpu is there");
    assert_fails(gd_context_open(&(gd_context_options_t){.device = (gd_device_t)7}, &context), ST_ERR_INVAL,
                 "7 is no device");
    assert_fails(gd_context_set_n_threads(0), ST_ERR_RANGE, "0 threads");
}

/* Contexts of one device share its memory: what an op gives is the current one's, and nobody loses theirs. */
static void tensors_of_several_contexts_meet_in_an_op(void **state)
{
    (void)state;
    gd_context_t *context[2] = {NULL};
    gd_tensor_t *x[2] = {NULL};
    gd_tensor_t *y = NULL;
    gd_context_t *before = gd_context_get();
    for (int i = 0; i < 2; i++) {
        assert_ok(gd_context_open(NULL, &context[i]));
        (void)gd_context_set_current(context[i]);
        assert_ok(gd_tensor_full(GD_DTYPE_F32, 1, (int64_t[]){1000}, i + 1, &x[i]));
        assert_ok(gd_tensor_set_requires_grad(x[i], true));
    }
    const int64_t in_use = gd_memory_get_stats().in_use_bytes;

    assert_ok(gd_mul(x[0], x[1], &y));

    assert_true(gd_memory_get_stats().in_use_bytes >= in_use + 4000);
    (void)gd_context_set_current(before);
    gd_context_close(context[0]);
    assert_ok(gd_backward(y, x[1], false));
    gd_context_close(context[1]);
    assert_float_equal(((float *)gd_tensor_data(y))[999], 2, 0);
    assert_float_equal(((float *)gd_tensor_data(gd_tensor_grad(x[0])))[999], 4, 0);
    assert_float_equal(((float *)gd_tensor_data(gd_tensor_grad(x[1])))[999], 2, 0);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(x[0]);
    (void)gd_tensor_unref(x[1]);
}

static void the_fingerprint_names_what_changes_bits(void **state)
{
    (void)state;
    strbuf_t text = {0};

    gd_numerics_fingerprint(&text);

    assert_memory_equal(strbuf_text(&text), "cpu ", 4);
    assert_non_null(strstr(strbuf_text(&text), " onednn-"));
    assert_non_null(strstr(strbuf_text(&text), " libc-"));
    assert_non_null(strstr(strbuf_text(&text), " kernels-"));
    assert_non_null(strstr(strbuf_text(&text), " threads-1"));
    strbuf_release(&text);
}

static void random_keys_carry_the_position(void **state)
{
    (void)state;
    gd_rng_set_position(7, 8, 9);

    const gd_rng_key_t key = gd_rng_key(10, 5);

    assert_int_equal(key.seed, 7);
    assert_int_equal(key.step, 8);
    assert_int_equal(key.microbatch, 9);
    assert_int_equal(key.layer, 10);
    assert_int_equal(key.purpose, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_steady_training_loop_asks_the_heap_for_nothing),
        TEST(the_peak_follows_what_is_in_use),
        TEST(tensor_memory_is_aligned),
        TEST(a_tensor_may_outlive_its_thread_and_die_on_another),
        TEST(contexts_are_switched_per_thread),
        TEST(tensors_of_several_contexts_meet_in_an_op),
        TEST(the_fingerprint_names_what_changes_bits),
        TEST(random_keys_carry_the_position),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
