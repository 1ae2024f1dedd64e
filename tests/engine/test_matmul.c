/* SPDX-License-Identifier: Apache-2.0 */
/* The matrix kernels on strided, transposed, broadcast and batched operands, against a plain double loop. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/kernels.h"
#include "tests/support/fixture.h"

/* Fills with small integers, so that every order of summation gives the same f32. */
static void fill(void *data, int64_t n, int32_t dtype, unsigned seed)
{
    for (int64_t i = 0; i < n; i++) {
        const int value = (int)((seed + (unsigned)i * 2654435761u) >> 20) % 7 - 3;
        if (dtype == GD_DTYPE_F32) {
            ((float *)data)[i] = (float)value;
        } else if (dtype == GD_DTYPE_F64) {
            ((double *)data)[i] = value;
        } else {
            const float number = (float)value;
            memcpy((char *)data + 2 * i, (const char *)&number + 2, 2); /* bf16: the upper half */
        }
    }
}

static double number_at(const void *data, int32_t dtype, int64_t i)
{
    float number = 0;
    if (dtype == GD_DTYPE_BF16) {
        memcpy((char *)&number + 2, (const char *)data + 2 * i, 2);
        return (double)number;
    }
    return dtype == GD_DTYPE_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

static double view_at(const gd_view_t *v, const int64_t *index)
{
    int64_t offset = 0;
    for (int i = 0; i < v->n_dims; i++) {
        offset += (v->shape[i] == 1 ? 0 : index[i]) * v->stride[i];
    }
    return number_at(v->data, v->dtype, offset);
}

static gd_view_t view_make(int32_t dtype, int n_dims, const int64_t *shape)
{
    gd_view_t v = {.n_dims = n_dims, .dtype = dtype};
    int64_t n = 1;
    for (int i = n_dims - 1; i >= 0; i--) {
        v.shape[i] = shape[i];
        v.stride[i] = n;
        n *= shape[i];
    }
    v.data = calloc((size_t)n + 1, gd_dtype_size((gd_dtype_t)dtype));
    assert_non_null(v.data);
    fill(v.data, n, dtype, (unsigned)n);
    return v;
}

static void view_swap(gd_view_t *v, int i, int j)
{
    const int64_t size = v->shape[i], stride = v->stride[i];
    v->shape[i] = v->shape[j];
    v->stride[i] = v->stride[j];
    v->shape[j] = size;
    v->stride[j] = stride;
}

/* Runs the kernel over c, which holds c0 before, and compares; operands align at the right as NumPy's. */
static void check(const gd_view_t *a, const gd_view_t *b, gd_view_t *c, bool is_accumulating, int n_threads)
{
    const gd_attrs_t attrs = {.i = {is_accumulating}};
    const int64_t n = gd_view_numel(c), n_cols = n > 0 ? c->shape[c->n_dims - 1] : 1;
    double *before = calloc((size_t)n + 1, sizeof(double));
    for (int64_t i = 0; i < n; i++) { /* only rows of c may lie apart */
        before[i] = number_at(c->data, c->dtype, i / n_cols * c->stride[c->n_dims - 2] + i % n_cols);
    }
    const gd_view_t in[2] = {*a, *b};
    const gd_kernel_args_t args = {in, 2, c, 1, &attrs, n_threads};

    assert_ok(gd_cpu_matmul(&args));

    for (int64_t i = 0; i < n; i++) {
        int64_t index[GD_MAX_DIMS] = {0};
        int64_t rest = i;
        for (int d = c->n_dims - 1; d >= 0; d--) {
            index[d] = rest % c->shape[d];
            rest /= c->shape[d];
        }
        int64_t ia[GD_MAX_DIMS], ib[GD_MAX_DIMS];
        memcpy(ia, index + (c->n_dims - a->n_dims), sizeof(int64_t) * (size_t)a->n_dims);
        memcpy(ib, index + (c->n_dims - b->n_dims), sizeof(int64_t) * (size_t)b->n_dims);
        double sum = is_accumulating ? before[i] : 0.0;
        for (int64_t k = 0; k < a->shape[a->n_dims - 1]; k++) {
            ia[a->n_dims - 1] = k;
            ib[b->n_dims - 2] = k;
            sum += view_at(a, ia) * view_at(b, ib);
        }
        assert_float_equal(view_at(c, index), sum, 0.0);
    }
    free(before);
}

static void any_strides_multiply_right(void **state)
{
    (void)state;
    static const int32_t dtypes[] = {GD_DTYPE_F32, GD_DTYPE_F64, GD_DTYPE_BF16};
    for (int variant = 0; variant < 3 * 64; variant++) {
        const int32_t dtype = dtypes[variant / 64];
        gd_view_t a = view_make(dtype, 2, (variant & 2) != 0 ? (int64_t[]){9, 5} : (int64_t[]){5, 9});
        gd_view_t b = view_make(dtype, 2, (variant & 4) != 0 ? (int64_t[]){17, 9} : (int64_t[]){9, 17});
        gd_view_t c = view_make(dtype, 2, (int64_t[]){5, 17});
        void *data[3] = {a.data, b.data, c.data};
        if ((variant & 2) != 0) {
            view_swap(&a, 0, 1);
        }
        if ((variant & 4) != 0) {
            view_swap(&b, 0, 1);
        }
        if ((variant & 8) != 0) { /* every other column: no adjacent axis */
            a.shape[1] = 4;
            a.stride[1] *= 2;
            b.shape[0] = 4;
        } else if ((variant & 1) != 0) { /* gaps between rows, or columns */
            a.shape[1] = b.shape[0] = 6;
            a.shape[0] = 4;
            b.shape[1] = c.shape[1] = 11;
            c.shape[0] = 4;
        }
        check(&a, &b, &c, (variant & 16) != 0, (variant & 32) != 0 ? 2 : 1);
        for (int i = 0; i < 3; i++) {
            free(data[i]);
        }
    }
}

static void batches_broadcast_and_permute(void **state)
{
    (void)state;
    static const struct {
        int n_a, n_b, n_c;
        int64_t a[4], b[4], c[4];
    } cases[] = {
        {3, 3, 3, {4, 3, 6}, {4, 6, 5}, {4, 3, 5}},
        {3, 2, 3, {4, 3, 6}, {6, 5}, {4, 3, 5}},
        {2, 3, 3, {3, 6}, {4, 6, 5}, {4, 3, 5}},
        {4, 4, 4, {2, 3, 4, 6}, {2, 3, 6, 5}, {2, 3, 4, 5}},
        {4, 4, 4, {2, 1, 4, 6}, {1, 3, 6, 5}, {2, 3, 4, 5}},
        {4, 3, 4, {2, 3, 4, 6}, {3, 6, 5}, {2, 3, 4, 5}},
        {3, 3, 3, {4, 1, 1}, {4, 1, 1}, {4, 1, 1}},
        {3, 3, 3, {4, 3, 0}, {4, 0, 5}, {4, 3, 5}},
        {3, 3, 3, {0, 3, 2}, {0, 2, 5}, {0, 3, 5}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int32_t dtype = GD_DTYPE_F32; dtype <= GD_DTYPE_F64; dtype++) {
            gd_view_t a = view_make(dtype, cases[i].n_a, cases[i].a);
            gd_view_t b = view_make(dtype, cases[i].n_b, cases[i].b);
            gd_view_t c = view_make(dtype, cases[i].n_c, cases[i].c);
            check(&a, &b, &c, false, 1);
            check(&a, &b, &c, true, 2);
            free(a.data);
            free(b.data);
            free(c.data);
        }
    }
    /* heads: [B,T,H,D] seen as [B,H,T,D] times [B,H,D,T] */
    gd_view_t q = view_make(GD_DTYPE_F32, 4, (int64_t[]){2, 5, 3, 4});
    gd_view_t k = q;
    gd_view_t s = view_make(GD_DTYPE_F32, 4, (int64_t[]){2, 3, 5, 5});
    view_swap(&q, 1, 2);
    view_swap(&k, 1, 2);
    view_swap(&k, 2, 3);
    check(&q, &k, &s, false, 1);
    free(q.data);
    free(s.data);
}

static void linear_takes_any_leading_shape(void **state)
{
    (void)state;
    for (int32_t dtype = GD_DTYPE_F32; dtype <= GD_DTYPE_F64; dtype++) {
        for (int n_dims = 1; n_dims <= 3; n_dims++) {
            const int64_t x_shape[] = {2, 3, 7}, y_shape[] = {2, 3, 5};
            gd_view_t in[3] = {view_make(dtype, n_dims, x_shape + 3 - n_dims), view_make(dtype, 2, (int64_t[]){5, 7}),
                               view_make(dtype, 1, (int64_t[]){10})};
            in[2].shape[0] = 5;
            in[2].stride[0] = 2;
            gd_view_t y = view_make(dtype, n_dims, y_shape + 3 - n_dims);
            const gd_attrs_t attrs = {0};
            const gd_kernel_args_t args = {in, 3, &y, 1, &attrs, 1};

            assert_ok(gd_cpu_linear(&args));

            const int64_t rows = gd_view_numel(&y) / 5;
            for (int64_t i = 0; i < rows * 5; i++) {
                double sum = view_at(&in[2], (int64_t[]){i % 5});
                for (int64_t k = 0; k < 7; k++) {
                    const int64_t at = i / 5 * 7 + k;
                    const double x =
                        dtype == GD_DTYPE_F32 ? (double)((float *)in[0].data)[at] : ((double *)in[0].data)[at];
                    sum += x * view_at(&in[1], (int64_t[]){i % 5, k});
                }
                const double got = dtype == GD_DTYPE_F32 ? (double)((float *)y.data)[i] : ((double *)y.data)[i];
                assert_float_equal(got, sum, 0.0);
            }
            free(in[0].data);
            free(in[1].data);
            free(in[2].data);
            free(y.data);
        }
    }
}

/* y[2,64] = a[2,k] b[k,64] for *arg different k, too large for code without a cache. Returns NULL, or what it got
 * wrong. */
static void *multiply_many_shapes(void *arg)
{
    enum { LEAST = 130, N = 64 };
    const int64_t n_shapes = *(const int64_t *)arg, most = LEAST + n_shapes;
    float *a = calloc((size_t)(2 * most), sizeof(float)), *b = calloc((size_t)(most * N), sizeof(float)), y[2 * N];
    char *wrong = NULL;
    for (int64_t i = 0; i < most * N; i++) {
        b[i] = (float)(i % N);
    }
    for (int64_t i = 0; i < 2 * most; i++) {
        a[i] = 1;
    }
    for (int64_t k = LEAST; k < most && wrong == NULL; k++) {
        gd_view_t in[2] = {{.data = a, .shape = {2, k}, .stride = {k, 1}, .n_dims = 2, .dtype = GD_DTYPE_F32},
                           {.data = b, .shape = {k, N}, .stride = {N, 1}, .n_dims = 2, .dtype = GD_DTYPE_F32}};
        gd_view_t out = {.data = y, .shape = {2, N}, .stride = {N, 1}, .n_dims = 2, .dtype = GD_DTYPE_F32};
        const gd_attrs_t attrs = {0};
        const gd_kernel_args_t args = {in, 2, &out, 1, &attrs, 1};
        if (gd_cpu_matmul(&args) != ST_OK || y[N + 5] != (float)(5 * k)) {
            wrong = "wrong product";
        }
    }
    free(a);
    free(b);
    return wrong;
}

static void more_shapes_than_the_cache_holds_still_multiply_right(void **state)
{
    (void)state;
    int64_t n_shapes = 2200;

    assert_null(multiply_many_shapes(&n_shapes));
    assert_null(multiply_many_shapes(&n_shapes));
}

static void threads_multiply_side_by_side(void **state)
{
    (void)state;
    pthread_t thread[3];
    int64_t n_shapes = 20;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, multiply_many_shapes, &n_shapes), 0);
    }

    for (int i = 0; i < 3; i++) {
        void *result = NULL;
        assert_int_equal(pthread_join(thread[i], &result), 0);
        assert_null(result);
    }
}

static void other_dtypes_are_refused(void **state)
{
    (void)state;
    gd_view_t v = view_make(GD_DTYPE_F32, 2, (int64_t[]){2, 2});
    v.dtype = GD_DTYPE_I32;
    const gd_view_t in[2] = {v, v};
    const gd_attrs_t attrs = {0};
    const gd_kernel_args_t args = {in, 2, &v, 1, &attrs, 1};

    assert_fails(gd_cpu_matmul(&args), ST_ERR_UNSUPPORTED, "matmul: no CPU kernel for i32");
    free(v.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(any_strides_multiply_right),     TEST(batches_broadcast_and_permute),
        TEST(linear_takes_any_leading_shape), TEST(more_shapes_than_the_cache_holds_still_multiply_right),
        TEST(threads_multiply_side_by_side),  TEST(other_dtypes_are_refused),
    };
    return cmocka_run_group_tests_name("engine/matmul", tests, NULL, NULL);
}
