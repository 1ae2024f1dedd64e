/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-dispatch: medians of the cost of a dispatch and of single ops on a tensor of GPT's size (768 × 512, f32).
 * usage: bench-dispatch [THREADS]
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/op.h"
#include "gradd/ops.h"

enum { N_ROUNDS = 31, N_ROWS = 768, WIDTH = 512 };

static void check(status_t status)
{
    if (status != ST_OK) {
        (void)fprintf(stderr, "bench-dispatch: %s\n", status_message());
        exit(1);
    }
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median of the time of one op, in ns. */
static double op_time(gd_op_id_t id, gd_tensor_t *const *in, const gd_attrs_t *attrs, int n_calls)
{
    double times[N_ROUNDS];
    const gd_op_t *op = gd_op_get(id);
    for (int round = 0; round < N_ROUNDS; round++) {
        const int64_t start = clock_now_ns();
        for (int i = 0; i < n_calls; i++) {
            gd_tensor_t *out[GD_MAX_OUT] = {NULL};
            check(gd_op_apply(id, in, op->n_in, attrs, out));
            for (int k = 0; k < op->n_out; k++) {
                (void)gd_tensor_unref(out[k]);
            }
        }
        times[round] = (double)(clock_now_ns() - start) / n_calls;
    }
    qsort(times, N_ROUNDS, sizeof(double), compare);
    return times[N_ROUNDS / 2];
}

/* Forward and backward of a chain of ten scalings of one element, per op. */
static double tape_time(gd_tensor_t *x)
{
    enum { N_OPS = 10, N_CALLS = 1000 };
    double times[N_ROUNDS];
    for (int round = 0; round < N_ROUNDS; round++) {
        const int64_t start = clock_now_ns();
        for (int i = 0; i < N_CALLS; i++) {
            gd_tensor_t *y = gd_tensor_ref(x);
            for (int k = 0; k < N_OPS; k++) {
                gd_tensor_t *next = NULL;
                check(gd_scale(y, 1, 0, &next));
                (void)gd_tensor_unref(y);
                y = next;
            }
            check(gd_backward(y, NULL, false));
            (void)gd_tensor_unref(y);
        }
        times[round] = (double)(clock_now_ns() - start) / (N_OPS * N_CALLS);
    }
    qsort(times, N_ROUNDS, sizeof(double), compare);
    return times[N_ROUNDS / 2];
}

static gd_tensor_t *noise(int n_dims, const int64_t *shape)
{
    gd_tensor_t *t = NULL;
    check(gd_tensor_new(GD_DTYPE_F32, n_dims, shape, &t));
    float *x = gd_tensor_data(t);
    for (int64_t i = 0; i < gd_tensor_numel(t); i++) {
        x[i] = (float)(i * 7919 % 1000) / 250.0F - 2.0F;
    }
    return t;
}

int main(int argc, char **argv)
{
    check(gd_context_set_n_threads(argc > 1 ? atoi(argv[1]) : 1));
    gd_tensor_t *one = noise(1, (const int64_t[]){1});
    gd_tensor_t *small[2] = {noise(1, (const int64_t[]){16}), noise(1, (const int64_t[]){16})};
    (void)printf("%-28s %8.0f ns\n", "dispatch of add[16]", op_time(GD_OP_ADD, small, NULL, 10000));
    check(gd_tensor_set_requires_grad(small[0], true));
    (void)printf("%-28s %8.0f ns\n", "the same, recorded", op_time(GD_OP_ADD, small, NULL, 10000));
    check(gd_tensor_set_requires_grad(one, true));
    (void)printf("%-28s %8.0f ns\n", "forward and backward, per op", tape_time(one));

    gd_tensor_t *x = noise(2, (const int64_t[]){N_ROWS, WIDTH});
    gd_tensor_t *y = noise(2, (const int64_t[]){N_ROWS, WIDTH});
    gd_tensor_t *bias = noise(1, (const int64_t[]){WIDTH});
    gd_tensor_t *turned = NULL;
    check(gd_transpose(x, 0, 1, &turned));
    const struct {
        const char *name;
        gd_op_id_t id;
        gd_tensor_t *in[2];
        gd_attrs_t attrs;
    } cases[] = {
        {"add", GD_OP_ADD, {x, y}, {.i = {0}}},
        {"add bias", GD_OP_ADD, {x, bias}, {.i = {0}}},
        {"scale", GD_OP_SCALE, {x}, {.f = {2}}},
        {"exp", GD_OP_EXP, {x}, {.i = {0}}},
        {"tanh", GD_OP_TANH, {x}, {.i = {0}}},
        {"relu", GD_OP_RELU, {x}, {.i = {0}}},
        {"gelu", GD_OP_GELU, {x}, {.i = {0}}},
        {"gelu backward", GD_OP_GELU_BACKWARD, {x, y}, {.i = {0}}},
        {"gelu tanh", GD_OP_GELU, {x}, {.i = {1}}},
        {"gelu tanh backward", GD_OP_GELU_BACKWARD, {x, y}, {.i = {1}}},
        {"softmax", GD_OP_SOFTMAX, {x}, {.i = {0}}},
        {"softmax backward", GD_OP_SOFTMAX_BACKWARD, {x, y}, {.i = {0}}},
        {"sum of columns", GD_OP_SUM, {x}, {.i = {1}}},
        {"sum of rows", GD_OP_SUM, {x}, {.i = {2}}},
        {"sum", GD_OP_SUM, {x}, {.i = {3}}},
        {"dropout", GD_OP_DROPOUT, {x}, {.f = {0.1}}},
        {"cast to bf16", GD_OP_CAST, {x}, {.i = {GD_DTYPE_BF16}}},
        {"transposed copy", GD_OP_CONTIGUOUS, {turned}, {.i = {0}}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const double ns = op_time(cases[i].id, cases[i].in, &cases[i].attrs, 10);
        (void)printf("%-28s %8.1f us %8.2f elements/ns\n", cases[i].name, ns * 1e-3, (double)N_ROWS * WIDTH / ns);
    }
    gd_tensor_t *all[] = {one, small[0], small[1], x, y, bias, turned};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        (void)gd_tensor_unref(all[i]);
    }
    return 0;
}
