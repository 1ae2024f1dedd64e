/* SPDX-License-Identifier: Apache-2.0 */
/*
 * matmul: the kernels of matmul and linear. They bring any strided operands into products of plain matrices: a batch
 * that a shares with the rows is folded into them, neighbouring batch axes are merged, what is left is a loop; only a
 * matrix with no adjacent axis at all is copied. f32 goes to gemm.h, f64 (for gradient checks) through plain loops;
 * bf16 to oneDNN where the processor multiplies it, else, and f16 always, through f32 copies.
 */
#include "cpu/kernels.h"

#include <string.h>

#include "cpu/gemm.h"
#include "cpu/onednn.h"

/* One axis of the batch; a stride of 0 repeats the operand. */
typedef struct axis {
    int64_t size;
    int64_t a, b, c;
} axis_t;

/* A product in elements, before it is cut into calls. */
typedef struct product {
    int32_t dtype; /* of a and b */
    int32_t c_dtype;
    int64_t m, n, k;
    const char *a;
    const char *b;
    char *c;
    const void *bias;
    int64_t a_row, a_col, b_row, b_col, c_row;
    axis_t axis[GD_MAX_DIMS];
    int n_axes;
    bool is_accumulating;
    int n_threads;
} product_t;

static int64_t element_size(int32_t dtype)
{
    return (int64_t)gd_dtype_size((gd_dtype_t)dtype);
}

static int64_t round_up_64(int64_t n)
{
    return (n + 63) / 64 * 64;
}

/* Whether oneDNN reads the matrix as it lies; gives axes of size 1 the strides it expects. */
static bool matrix_is_plain(int64_t rows, int64_t cols, int64_t *row_p, int64_t *col_p)
{
    if (cols == 1) {
        *col_p = 1;
        *row_p = rows == 1 ? 1 : *row_p;
    } else if (rows == 1) {
        *row_p = *col_p == 1 ? cols : 1;
    }
    return (*col_p == 1 && *row_p >= cols) || (*row_p == 1 && *col_p >= rows);
}

/* Whether no two of the elements lie at one place: oneDNN refuses others, which gd_as_strided can make. */
static bool batch_is_apart(int64_t n_batch, int64_t batch, int64_t rows, int64_t row, int64_t cols, int64_t col)
{
    const int64_t size[3] = {n_batch, rows, cols};
    const int64_t stride[3] = {batch, row, col};
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < i; j++) {
            if (size[i] > 1 && size[j] > 1 && stride[i] < size[j] * stride[j] && stride[j] < size[i] * stride[i]) {
                return false;
            }
        }
    }
    return true;
}

/* c (+)= a b over one matrix: rows of b are walked in order, so that the inner loop is along adjacent elements of c. */
static void multiply_f64(const product_t *p)
{
    const double *a = (const double *)(const void *)p->a;
    const double *b = (const double *)(const void *)p->b;
    double *c = (double *)(void *)p->c;
    const double *bias = p->bias;
    for (int64_t m = 0; m < p->m; m++) {
        double *row = c + m * p->c_row;
        for (int64_t n = 0; n < p->n; n++) {
            row[n] = (p->is_accumulating ? row[n] : 0.0) + (bias != NULL ? bias[n] : 0.0);
        }
        for (int64_t k = 0; k < p->k; k++) {
            const double factor = a[m * p->a_row + k * p->a_col];
            const double *b_row = b + k * p->b_row;
            for (int64_t n = 0; n < p->n; n++) {
                row[n] += factor * b_row[n * p->b_col];
            }
        }
    }
}

/* The sum over no terms. */
static void multiply_nothing(const product_t *p)
{
    for (int64_t m = 0; m < p->m && !p->is_accumulating; m++) {
        float *row = (float *)(void *)p->c + m * p->c_row;
        for (int64_t n = 0; n < p->n; n++) {
            row[n] = p->bias != NULL ? ((const float *)p->bias)[n] : 0.0F;
        }
    }
}

/* Row-major copy of a matrix of 4 or 2 bytes an element. */
static const void *pack(const void *from, int64_t size, int64_t rows, int64_t cols, int64_t *row_p, int64_t *col_p,
                        void *to)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++) {
            const int64_t source = i * *row_p + j * *col_p;
            if (size == 4) {
                ((uint32_t *)to)[i * cols + j] = ((const uint32_t *)from)[source];
            } else {
                ((uint16_t *)to)[i * cols + j] = ((const uint16_t *)from)[source];
            }
        }
    }
    *row_p = cols;
    *col_p = 1;
    return to;
}

/* to = from, converted; both [rows, cols]. */
static status_t matrix_convert(const void *from, int32_t from_dtype, int64_t row, int64_t col, void *to,
                               int32_t to_dtype, int64_t to_row, int64_t rows, int64_t cols, int n_threads)
{
    const gd_view_t in = {
        .data = (void *)(uintptr_t)from, .shape = {rows, cols}, .stride = {row, col}, .n_dims = 2, .dtype = from_dtype};
    gd_view_t out = {.data = to, .shape = {rows, cols}, .stride = {to_row, 1}, .n_dims = 2, .dtype = to_dtype};
    const gd_attrs_t attrs = {.i = {to_dtype}};
    const gd_kernel_args_t args = {
        .in = &in, .n_in = 1, .out = &out, .n_out = 1, .attrs = &attrs, .n_threads = n_threads};
    return gd_cpu_kernel(GD_OP_CAST)(&args);
}

/* A copy without gaps of a bf16 matrix, whose lines stay what they are. Of 16-bit elements at `from`, and its strides.
 */
static status_t matrix_close(const float **from, int64_t *row_p, int64_t *col_p, int64_t rows, int64_t cols, void *to,
                             int n_threads)
{
    const bool has_rows = *col_p == 1;
    const int64_t n_lines = has_rows ? rows : cols, length = has_rows ? cols : rows;
    int64_t *line_p = has_rows ? row_p : col_p;
    const status_t status =
        matrix_convert(*from, GD_DTYPE_BF16, *line_p, 1, to, GD_DTYPE_BF16, length, n_lines, length, n_threads);
    *line_p = length;
    *from = to;
    return status;
}

/* One product of bf16 matrices that have gaps, by way of copies without any. */
static status_t multiply_gaps(const gd_gemm_t *gemm, int32_t c_dtype)
{
    gd_gemm_t g = *gemm;
    const int64_t a_size = round_up_64(g.m * g.k * 2), b_size = round_up_64(g.k * g.n * 2);
    const size_t size = (size_t)(a_size + b_size + g.m * g.n * element_size(c_dtype));
    char *copies = gd_cpu_scratch(GD_CPU_SLOT_CONVERTED, size);
    if (copies == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "matmul: copies of %zu bytes", size);
    }
    status_t status = matrix_close(&g.a, &g.a_row, &g.a_col, g.m, g.k, copies, g.n_threads);
    if (status == ST_OK) {
        status = matrix_close(&g.b, &g.b_row, &g.b_col, g.k, g.n, copies + a_size, g.n_threads);
    }
    g.c = (float *)(void *)(copies + a_size + b_size);
    g.c_row = g.n;
    if (status == ST_OK && g.is_accumulating) {
        status = matrix_convert(gemm->c, c_dtype, gemm->c_row, 1, g.c, c_dtype, g.n, g.m, g.n, g.n_threads);
    }
    if (status == ST_OK) {
        status = gd_onednn_gemm_bf16(&g, c_dtype == GD_DTYPE_BF16, NULL);
    }
    return status == ST_OK ? matrix_convert(g.c, c_dtype, g.n, 1, gemm->c, c_dtype, gemm->c_row, g.m, g.n, g.n_threads)
                           : status;
}

/* bf16 as the processor multiplies it, or a batch of it; a and b of `gemm` are of 16-bit elements, so may be c. */
static status_t multiply_bf16(const gd_gemm_t *gemm, int32_t c_dtype)
{
    bool is_declined = false;
    status_t status = gd_onednn_gemm_bf16(gemm, c_dtype == GD_DTYPE_BF16, &is_declined);
    for (int64_t i = 0; is_declined && i < gemm->n_batch && status == ST_OK; i++) {
        gd_gemm_t one = *gemm;
        one.n_batch = 1;
        one.a = (const float *)(const void *)((const uint16_t *)(const void *)gemm->a + i * gemm->a_batch);
        one.b = (const float *)(const void *)((const uint16_t *)(const void *)gemm->b + i * gemm->b_batch);
        one.c = (float *)(void *)((char *)gemm->c + i * gemm->c_batch * element_size(c_dtype));
        bool is_one_declined = false;
        status = gd_onednn_gemm_bf16(&one, c_dtype == GD_DTYPE_BF16, &is_one_declined);
        if (status == ST_OK && is_one_declined) {
            status = multiply_gaps(&one, c_dtype);
        }
    }
    return status;
}

/* f32, or bf16 as the processor multiplies it. */
static status_t multiply_plain(const product_t *p, const axis_t *batch)
{
    gd_gemm_t gemm = {
        .n_batch = batch != NULL ? batch->size : 1,
        .m = p->m,
        .n = p->n,
        .k = p->k,
        .a = (const float *)(const void *)p->a,
        .b = (const float *)(const void *)p->b,
        .bias = p->bias,
        .c = (float *)(void *)p->c,
        .a_batch = batch != NULL ? batch->a : 0,
        .b_batch = batch != NULL ? batch->b : 0,
        .c_batch = batch != NULL ? batch->c : 0,
        .a_row = p->a_row,
        .a_col = p->a_col,
        .b_row = p->b_row,
        .b_col = p->b_col,
        .c_row = p->c_row,
        .is_accumulating = p->is_accumulating,
        .n_threads = p->n_threads,
    };
    const bool is_a_plain = matrix_is_plain(p->m, p->k, &gemm.a_row, &gemm.a_col);
    const bool is_b_plain = matrix_is_plain(p->k, p->n, &gemm.b_row, &gemm.b_col);
    if (!is_a_plain || !is_b_plain) { /* never with a batch: see multiply_batch */
        const int64_t size = element_size(p->dtype);
        const int64_t a_size = is_a_plain ? 0 : p->m * p->k * size;
        const int64_t b_size = is_b_plain ? 0 : p->k * p->n * size;
        char *packed = gd_cpu_scratch(GD_CPU_SLOT_KERNEL, (size_t)(a_size + b_size));
        if (packed == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "matmul: a copy of %lld bytes", (long long)(a_size + b_size));
        }
        if (!is_a_plain) {
            gemm.a = pack(gemm.a, size, p->m, p->k, &gemm.a_row, &gemm.a_col, packed);
        }
        if (!is_b_plain) {
            gemm.b = pack(gemm.b, size, p->k, p->n, &gemm.b_row, &gemm.b_col, packed + a_size);
        }
    }
    return p->dtype == GD_DTYPE_BF16 ? multiply_bf16(&gemm, p->c_dtype) : gd_gemm_run(&gemm);
}

/* 16-bit operands by way of f32. */
static status_t multiply_converted(const product_t *p)
{
    const bool is_c_wide = p->c_dtype == GD_DTYPE_F32;
    const int64_t a_size = p->m * p->k, b_size = p->k * p->n, c_size = is_c_wide ? 0 : p->m * p->n;
    float *a = gd_cpu_scratch(GD_CPU_SLOT_CONVERTED, (size_t)(a_size + b_size + c_size) * sizeof(float));
    if (a == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "matmul: copies of %lld elements in f32", (long long)(a_size + b_size + c_size));
    }
    product_t wide = *p;
    wide.dtype = wide.c_dtype = GD_DTYPE_F32;
    wide.a = (const char *)a;
    wide.b = (const char *)(a + a_size);
    wide.a_row = p->k;
    wide.b_row = p->n;
    wide.a_col = wide.b_col = 1;
    status_t status =
        matrix_convert(p->a, p->dtype, p->a_row, p->a_col, a, GD_DTYPE_F32, p->k, p->m, p->k, p->n_threads);
    if (status == ST_OK) {
        status = matrix_convert(p->b, p->dtype, p->b_row, p->b_col, a + a_size, GD_DTYPE_F32, p->n, p->k, p->n,
                                p->n_threads);
    }
    if (!is_c_wide) {
        wide.c = (char *)(a + a_size + b_size);
        wide.c_row = p->n;
        if (status == ST_OK && p->is_accumulating) {
            status =
                matrix_convert(p->c, p->c_dtype, p->c_row, 1, wide.c, GD_DTYPE_F32, p->n, p->m, p->n, p->n_threads);
        }
    }
    if (status == ST_OK && p->k > 0) {
        status = multiply_plain(&wide, NULL);
    } else if (status == ST_OK) {
        multiply_nothing(&wide);
    }
    if (status == ST_OK && !is_c_wide) {
        status = matrix_convert(wide.c, GD_DTYPE_F32, p->n, 1, p->c, p->c_dtype, p->c_row, p->m, p->n, p->n_threads);
    }
    return status;
}

/* Whether one call of a library multiplies operands of the dtype, batches too. */
static bool is_native(int32_t dtype)
{
    return dtype == GD_DTYPE_F32 || (dtype == GD_DTYPE_BF16 && gd_onednn_has_bf16());
}

static status_t multiply_one(const product_t *p)
{
    if (p->dtype == GD_DTYPE_F64) {
        multiply_f64(p);
        return ST_OK;
    }
    if (p->dtype == GD_DTYPE_F32 && p->k == 0) {
        multiply_nothing(p);
        return ST_OK;
    }
    return is_native(p->dtype) && p->k > 0 ? multiply_plain(p, NULL) : multiply_converted(p);
}

/* Runs the product over its batch axes from `axis` on. */
static status_t multiply_batch(const product_t *p, int axis)
{
    if (axis == p->n_axes) {
        return multiply_one(p);
    }
    const axis_t *batch = &p->axis[axis];
    if (is_native(p->dtype) && axis == p->n_axes - 1 && batch->a > 0 && batch->b > 0 && p->k > 0) {
        int64_t row = p->a_row, col = p->a_col;
        bool is_plain =
            matrix_is_plain(p->m, p->k, &row, &col) && batch_is_apart(batch->size, batch->a, p->m, row, p->k, col);
        row = p->b_row, col = p->b_col;
        if (is_plain && matrix_is_plain(p->k, p->n, &row, &col) &&
            batch_is_apart(batch->size, batch->b, p->k, row, p->n, col)) {
            return multiply_plain(p, batch);
        }
    }
    status_t status = ST_OK;
    for (int64_t i = 0; i < batch->size && status == ST_OK; i++) {
        product_t one = *p;
        const int64_t size = element_size(p->dtype);
        one.a += i * batch->a * size;
        one.b += i * batch->b * size;
        one.c += i * batch->c * element_size(p->c_dtype);
        status = multiply_batch(&one, axis + 1);
    }
    return status;
}

/* Merges neighbouring axes, and into the rows those that only a and c have. */
static void product_simplify(product_t *p)
{
    int n = 0;
    for (int i = 0; i < p->n_axes; i++) {
        const axis_t axis = p->axis[i];
        if (axis.size == 1) {
            continue;
        }
        axis_t *outer = n > 0 ? &p->axis[n - 1] : NULL;
        if (outer != NULL && outer->a == axis.a * axis.size && outer->b == axis.b * axis.size &&
            outer->c == axis.c * axis.size) {
            *outer = (axis_t){outer->size * axis.size, axis.a, axis.b, axis.c};
        } else {
            p->axis[n++] = axis;
        }
    }
    while (n > 0 && p->axis[n - 1].b == 0 && p->axis[n - 1].a == p->m * p->a_row &&
           p->axis[n - 1].c == p->m * p->c_row) {
        p->m *= p->axis[--n].size;
    }
    p->n_axes = n;
}

/* The batch axes of a, b and c, aligned at their right ends; axes that an operand lacks repeat it. */
static void product_set_axes(product_t *p, const gd_view_t *a, const gd_view_t *b, int b_batch_dims, const gd_view_t *c)
{
    p->n_axes = c->n_dims - 2;
    for (int i = 0; i < p->n_axes; i++) {
        const int a_axis = i - (c->n_dims - a->n_dims);
        const int b_axis = i - (p->n_axes - b_batch_dims);
        p->axis[i] = (axis_t){
            .size = c->shape[i],
            .a = a_axis >= 0 && a->shape[a_axis] > 1 ? a->stride[a_axis] : 0,
            .b = b_axis >= 0 && b->shape[b_axis] > 1 ? b->stride[b_axis] : 0,
            .c = c->stride[i],
        };
    }
}

static status_t product_run(product_t *p, const gd_view_t *c)
{
    if (gd_view_numel(c) == 0) {
        return ST_OK;
    }
    product_simplify(p);
    return multiply_batch(p, 0);
}

/* in: a[…,M,K], b[…,K,N]; out: y[…,M,N]. attrs: i0 add to y instead of overwriting it. */
status_t gd_cpu_matmul(const gd_kernel_args_t *args)
{
    const gd_view_t *a = &args->in[0];
    const gd_view_t *b = &args->in[1];
    gd_view_t *c = &args->out[0];
    if (!gd_dtype_is_float((gd_dtype_t)c->dtype)) {
        return gd_cpu_fail_dtype("matmul", c->dtype);
    }
    const int ra = a->n_dims - 2;
    const int rb = b->n_dims - 2;
    const int rc = c->n_dims - 2;
    product_t p = {
        .dtype = a->dtype,
        .c_dtype = c->dtype,
        .m = c->shape[rc],
        .n = c->shape[rc + 1],
        .k = a->shape[ra + 1],
        .a = a->data,
        .b = b->data,
        .c = c->data,
        .a_row = a->stride[ra],
        .a_col = a->stride[ra + 1],
        .b_row = b->stride[rb],
        .b_col = b->stride[rb + 1],
        .c_row = c->stride[rc],
        .is_accumulating = args->attrs->i[0] != 0,
        .n_threads = args->n_threads,
    };
    product_set_axes(&p, a, b, rb, c);
    return product_run(&p, c);
}

/* in: x[…,K], weight[N,K], bias[N] or absent; out: y[…,N]. attrs: i0 add to y instead of overwriting it; i1 the
 * weight is [K,N]. */
status_t gd_cpu_linear(const gd_kernel_args_t *args)
{
    const gd_view_t *x = &args->in[0];
    const gd_view_t *weight = &args->in[1];
    const gd_view_t *bias = args->n_in > 2 && args->in[2].data != NULL ? &args->in[2] : NULL;
    gd_view_t *y = &args->out[0];
    if (!gd_dtype_is_float((gd_dtype_t)y->dtype)) {
        return gd_cpu_fail_dtype("linear", y->dtype);
    }
    const int last = y->n_dims - 1;
    const int n_axis = args->attrs->i[1] != 0, k_axis = !n_axis;
    const int64_t size = bias != NULL ? element_size(bias->dtype) : 0;
    product_t p = {
        .dtype = x->dtype,
        .c_dtype = y->dtype,
        .m = last > 0 ? y->shape[last - 1] : 1,
        .n = weight->shape[n_axis],
        .k = weight->shape[k_axis],
        .a = x->data,
        .b = weight->data,
        .c = y->data,
        .bias = bias != NULL ? bias->data : NULL,
        .a_row = last > 0 ? x->stride[last - 1] : weight->shape[k_axis],
        .a_col = x->stride[last],
        .b_row = weight->stride[k_axis],
        .b_col = weight->stride[n_axis],
        .c_row = last > 0 ? y->stride[last - 1] : weight->shape[n_axis],
        .is_accumulating = args->attrs->i[0] != 0,
        .n_threads = args->n_threads,
    };
    if (bias != NULL && bias->stride[0] != 1 && p.n > 1) {
        char *packed = gd_cpu_scratch(GD_CPU_SLOT_WORKER, (size_t)(p.n * size));
        if (packed == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "linear: a copy of the bias");
        }
        for (int64_t i = 0; i < p.n; i++) {
            memcpy(packed + i * size, (const char *)bias->data + i * bias->stride[0] * size, (size_t)size);
        }
        p.bias = packed;
    }
    if (last > 0) {
        product_set_axes(&p, x, weight, 0, y);
    }
    return product_run(&p, y);
}
