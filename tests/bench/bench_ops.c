/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-ops: times single ops at the shapes of the GPT and MNIST recipes, forward without a graph and forward with
 * backward, in microseconds (medians; of processor time for one thread, so that a busy machine disturbs less, of wall
 * time for more). tests/bench/peer_ops.py prints the same lines for PyTorch.
 *
 *   bench-ops [THREADS] [PATTERN]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/ops.h"

enum { MOST_IN = 3, N_ROUNDS = 15, ROUND_US = 20000 };

typedef status_t (*apply_func_t)(gd_tensor_t **in, const int64_t *option, gd_tensor_t **y_p);

static status_t apply_linear(gd_tensor_t **in, const int64_t *option, gd_tensor_t **y_p)
{
    (void)option;
    return gd_linear(in[0], in[1], in[2], y_p);
}

static status_t apply_layer_norm(gd_tensor_t **in, const int64_t *option, gd_tensor_t **y_p)
{
    (void)option;
    return gd_layer_norm(in[0], in[1], in[2], 1e-5, y_p);
}

static status_t apply_batch_norm(gd_tensor_t **in, const int64_t *option, gd_tensor_t **y_p)
{
    (void)option;
    return gd_batch_norm(in[0], in[1], in[2], NULL, NULL, true, 1e-5, y_p, NULL, NULL);
}

static status_t apply_attention(gd_tensor_t **in, const int64_t *option, gd_tensor_t **y_p)
{
    return gd_attention(in[0], (int)option[0], true, y_p);
}

/* option: heads, heads of keys, window */
static status_t apply_sdpa(gd_tensor_t **in, const int64_t *option, gd_tensor_t **y_p)
{
    const gd_sdpa_options_t options = {
        .n_heads = (int)option[0], .n_key_heads = (int)option[1], .is_causal = true, .window = option[2]};
    return gd_sdpa(in[0], in[1], in[2], &options, y_p);
}

static status_t apply_rope(gd_tensor_t **in, const int64_t *option, gd_tensor_t **y_p)
{
    const gd_rope_options_t options = {.n_heads = (int)option[0]};
    return gd_rope(in[0], &options, y_p);
}

static status_t apply_gated(gd_tensor_t **in, const int64_t *option, gd_tensor_t **y_p)
{
    return gd_gated((gd_gate_t)option[0], in[0], in[1], y_p);
}

/* x[T,B,G·H]: the gates' shares of the input */
static status_t apply_rnn(gd_tensor_t **in, const int64_t *option, gd_tensor_t **y_p)
{
    const gd_rnn_weights_t weights = {.w_hh = in[1], .b_hh = in[2]};
    return gd_rnn((gd_rnn_kind_t)option[0], false, in[0], &weights, NULL, NULL, y_p, NULL);
}

static status_t apply_gelu(gd_tensor_t **in, const int64_t *option, gd_tensor_t **y_p)
{
    return gd_gelu(in[0], option[0] != 0, y_p);
}

static status_t apply_add(gd_tensor_t **in, const int64_t *option, gd_tensor_t **y_p)
{
    (void)option;
    return gd_add(in[0], in[1], y_p);
}

static status_t apply_embedding(gd_tensor_t **in, const int64_t *option, gd_tensor_t **y_p)
{
    (void)option;
    return gd_embedding(in[0], in[1], y_p);
}

static status_t apply_cross_entropy(gd_tensor_t **in, const int64_t *option, gd_tensor_t **y_p)
{
    (void)option;
    return gd_cross_entropy(in[0], in[1], 1.0 / (double)gd_tensor_dim(in[0], 0), -100, 0.0, y_p, NULL);
}

static status_t apply_conv2d(gd_tensor_t **in, const int64_t *option, gd_tensor_t **y_p)
{
    const gd_conv2d_options_t options = {.padding = {(int)option[0], (int)option[0]}};
    return gd_conv2d(in[0], in[1], in[2], &options, y_p);
}

static status_t apply_max_pool2d(gd_tensor_t **in, const int64_t *option, gd_tensor_t **y_p)
{
    (void)option;
    const gd_pool2d_options_t options = {.kernel = {2, 2}};
    return gd_max_pool2d(in[0], &options, y_p);
}

/* An input of integers below int_limit when that isn't 0. has_no_grad: no gradient for the first input. */
static const struct {
    const char *name;
    apply_func_t apply;
    struct {
        int n_dims;
        int64_t shape[4];
        int64_t int_limit;
    } in[MOST_IN];
    int64_t option[3];
    int has_no_grad;
} cases[] = {
#define LINEAR(m_x, k_x, n_x)                                                                                          \
    {                                                                                                                  \
        "linear " #m_x "x" #k_x "x" #n_x, apply_linear, {{2, {m_x, k_x}, 0}, {2, {n_x, k_x}, 0}, {1, {n_x}, 0}}, {0},  \
            0                                                                                                          \
    }
    LINEAR(384, 128, 384),
    LINEAR(384, 128, 128),
    LINEAR(384, 128, 512),
    LINEAR(384, 512, 128),
    LINEAR(384, 128, 65),
    LINEAR(768, 128, 384),
    LINEAR(768, 128, 512),
    {"layer_norm 384x128", apply_layer_norm, {{2, {384, 128}, 0}, {1, {128}, 0}, {1, {128}, 0}}, {0}, 0},
    {"layer_norm 768x128", apply_layer_norm, {{2, {768, 128}, 0}, {1, {128}, 0}, {1, {128}, 0}}, {0}, 0},
    {"attention 6x64 4x32", apply_attention, {{3, {6, 64, 384}, 0}}, {4}, 0},
    {"attention 12x64 4x32", apply_attention, {{3, {12, 64, 384}, 0}}, {4}, 0},
    {"attention 1x1024 12x64", apply_attention, {{3, {1, 1024, 2304}, 0}}, {12}, 0},
    {"sdpa 1x1024 12x64",
     apply_sdpa,
     {{3, {1, 1024, 768}, 0}, {3, {1, 1024, 768}, 0}, {3, {1, 1024, 768}, 0}},
     {12, 12},
     0},
    {"sdpa 2x512 32x64 of 4",
     apply_sdpa,
     {{3, {2, 512, 2048}, 0}, {3, {2, 512, 256}, 0}, {3, {2, 512, 256}, 0}},
     {32, 4},
     0},
    {"rope 2x512 32x64", apply_rope, {{3, {2, 512, 2048}, 0}}, {32}, 0},
    {"swiglu 1024x5632", apply_gated, {{2, {1024, 5632}, 0}, {2, {1024, 5632}, 0}}, {GD_GATE_SILU}, 0},
    {"lstm 35x20 512", apply_rnn, {{3, {35, 20, 2048}, 0}, {2, {2048, 512}, 0}, {1, {2048}, 0}}, {GD_RNN_LSTM}, 0},
    {"gru 35x20 512", apply_rnn, {{3, {35, 20, 1536}, 0}, {2, {1536, 512}, 0}, {1, {1536}, 0}}, {GD_RNN_GRU}, 0},
    {"gelu 384x512", apply_gelu, {{2, {384, 512}, 0}}, {0}, 0},
    {"gelu_tanh 384x512", apply_gelu, {{2, {384, 512}, 0}}, {1}, 0},
    {"add 384x128", apply_add, {{2, {384, 128}, 0}, {2, {384, 128}, 0}}, {0}, 0},
    {"embedding 384 65x128", apply_embedding, {{1, {384}, 65}, {2, {65, 128}, 0}}, {0}, 0},
    {"cross_entropy 384x65", apply_cross_entropy, {{2, {384, 65}, 0}, {1, {384}, 65}}, {0}, 0},
    {"cross_entropy 256x50257", apply_cross_entropy, {{2, {256, 50257}, 0}, {1, {256}, 50257}}, {0}, 0},
    {"conv2d 64x1x28 32x3", apply_conv2d, {{4, {64, 1, 28, 28}, 0}, {4, {32, 1, 3, 3}, 0}, {1, {32}, 0}}, {0}, 1},
    {"conv2d 64x32x26 64x3", apply_conv2d, {{4, {64, 32, 26, 26}, 0}, {4, {64, 32, 3, 3}, 0}, {1, {64}, 0}}, {0}, 0},
    {"conv2d 64x32x14 64x5p2", apply_conv2d, {{4, {64, 32, 14, 14}, 0}, {4, {64, 32, 5, 5}, 0}, {1, {64}, 0}}, {2}, 0},
    {"max_pool2d 64x64x24", apply_max_pool2d, {{4, {64, 64, 24, 24}, 0}}, {0}, 0},
    {"batch_norm 64x32x14", apply_batch_norm, {{4, {64, 32, 14, 14}, 0}, {1, {32}, 0}, {1, {32}, 0}}, {0}, 0},
};

static clockid_t clock_used = CLOCK_MONOTONIC;

static int64_t time_ns(void)
{
    struct timespec t;
    (void)clock_gettime(clock_used, &t);
    return (int64_t)t.tv_sec * CLOCK_NS_PER_S + t.tv_nsec;
}

static void check(status_t status)
{
    if (status != ST_OK) {
        (void)fprintf(stderr, "bench-ops: %s\n", status_message());
        exit(1);
    }
}

static gd_tensor_t *input_make(int n_dims, const int64_t *shape, int64_t int_limit)
{
    gd_tensor_t *t = NULL;
    check(gd_tensor_new(int_limit > 0 ? GD_DTYPE_I64 : GD_DTYPE_F32, n_dims, shape, &t));
    uint64_t x = 88172645463325252u;
    for (int64_t i = 0; i < gd_tensor_numel(t); i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        if (int_limit > 0) {
            ((int64_t *)gd_tensor_data(t))[i] = (int64_t)(x >> 1) % int_limit;
        } else {
            ((float *)gd_tensor_data(t))[i] = (float)(x >> 40) * 0x1p-23F - 1.0F;
        }
    }
    return t;
}

/* One forward (and backward, with dy: everything of a step but the zeroing of gradients). */
static void run_once(size_t index, gd_tensor_t **in, gd_tensor_t *dy)
{
    gd_tensor_t *y = NULL;
    check(cases[index].apply(in, cases[index].option, &y));
    if (dy != NULL) {
        check(gd_backward(y, dy, false));
        for (int i = 0; i < MOST_IN; i++) {
            if (in[i] != NULL && gd_tensor_requires_grad(in[i])) {
                check(gd_tensor_set_grad(in[i], NULL, false));
            }
        }
    }
    (void)gd_tensor_unref(y);
}

static int double_compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median_us(size_t index, gd_tensor_t **in, gd_tensor_t *dy)
{
    double us[N_ROUNDS];
    int64_t start_ns = time_ns();
    int n_warm = 0;
    while (n_warm < 3 || time_ns() - start_ns < ROUND_US * 1000) {
        run_once(index, in, dy);
        n_warm++;
    }
    for (int round = 0; round < N_ROUNDS; round++) {
        start_ns = time_ns();
        int n = 0;
        while (n < 2 || time_ns() - start_ns < ROUND_US * 1000) {
            run_once(index, in, dy);
            n++;
        }
        us[round] = (double)(time_ns() - start_ns) / 1000.0 / n;
    }
    qsort(us, N_ROUNDS, sizeof(double), double_compare);
    return us[N_ROUNDS / 2];
}

int main(int argc, char **argv)
{
    const int n_threads = argc > 1 ? atoi(argv[1]) : 1;
    check(gd_context_set_n_threads(n_threads));
    clock_used = n_threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        gd_tensor_t *in[MOST_IN] = {NULL};
        gd_tensor_t *y = NULL;
        gd_tensor_t *dy = NULL;
        if (argc > 2 && strstr(cases[c].name, argv[2]) == NULL) {
            continue;
        }
        for (int i = 0; i < MOST_IN && cases[c].in[i].n_dims > 0; i++) {
            in[i] = input_make(cases[c].in[i].n_dims, cases[c].in[i].shape, cases[c].in[i].int_limit);
        }
        (void)gd_grad_set_enabled(false);
        const double forward = median_us(c, in, NULL);
        check(cases[c].apply(in, cases[c].option, &y));
        dy = input_make(gd_tensor_n_dims(y), gd_tensor_shape(y), 0);
        (void)gd_tensor_unref(y);
        (void)gd_grad_set_enabled(true);
        for (int i = cases[c].has_no_grad; i < MOST_IN && in[i] != NULL; i++) {
            if (cases[c].in[i].int_limit == 0) {
                check(gd_tensor_set_requires_grad(in[i], true));
            }
        }
        printf("%-26s %10.1f %10.1f\n", cases[c].name, forward, median_us(c, in, dy));
        (void)fflush(stdout);
        for (int i = 0; i < MOST_IN; i++) {
            (void)gd_tensor_unref(in[i]);
        }
        (void)gd_tensor_unref(dy);
    }
    return 0;
}
