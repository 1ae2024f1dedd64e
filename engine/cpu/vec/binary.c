/* SPDX-License-Identifier: Apache-2.0 */
/* binary: functions of two operands, comparison, logic, choice. Rows in engine/ops/binary.c. */
#include <math.h>

#include "cpu/map.h"
#include "cpu/vec/elementwise.h"
#include "gradd/tensor.h"

/* A NaN in either operand is the result. */
#define LARGER (a_ > b_ || a_ != a_ ? a_ : b_)
#define SMALLER (a_ < b_ || a_ != a_ ? a_ : b_)
BINARY_KERNEL(maximum, LARGER, LARGER, LARGER)
BINARY_KERNEL(minimum, SMALLER, SMALLER, SMALLER)

/* Wraps; a negative exponent gives what truncating the fraction would, 0 for base 0 too. */
static int64_t power_i64(int64_t base, int64_t exponent)
{
    if (exponent < 0) {
        return base == 1 ? 1 : base == -1 ? (exponent % 2 == 0 ? 1 : -1) : 0;
    }
    int64_t result = 1;
    for (; exponent > 0; exponent /= 2) {
        result = exponent % 2 != 0 ? wrap_mul(result, base) : result;
        base = wrap_mul(base, base);
    }
    return result;
}

/* b ≠ 0 */
static inline int64_t fmod_i64(int64_t a, int64_t b)
{
    return b == -1 ? 0 : a % b; /* INT64_MIN % -1 is undefined */
}

/* The remainder with the divisor's sign. */
static inline int64_t remainder_i64(int64_t a, int64_t b)
{
    const int64_t r = fmod_i64(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

static inline float remainder_f32(float a, float b)
{
    const float r = fmodf(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

static inline double remainder_f64(double a, double b)
{
    const double r = fmod(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

BINARY_KERNEL(power, powf(a_, b_), pow(a_, b_), power_i64(a_, b_))
BINARY_KERNEL(fmod_any, fmodf(a_, b_), fmod(a_, b_), fmod_i64(a_, b_))
BINARY_KERNEL(remainder_any, remainder_f32(a_, b_), remainder_f64(a_, b_), remainder_i64(a_, b_))
BINARY_FLOAT_KERNEL(atan2, atan2f(a_, b_), atan2(a_, b_))

BINARY_BOOL_KERNEL(eq, a_ == b_)
BINARY_BOOL_KERNEL(ne, a_ != b_)
BINARY_BOOL_KERNEL(lt, a_ < b_)
BINARY_BOOL_KERNEL(le, a_ <= b_)
BINARY_BOOL_KERNEL(gt, a_ > b_)
BINARY_BOOL_KERNEL(ge, a_ >= b_)
BINARY_BOOL_KERNEL(logical_and, a_ != 0 && b_ != 0)
BINARY_BOOL_KERNEL(logical_or, a_ != 0 || b_ != 0)
BINARY_BOOL_KERNEL(logical_xor, (a_ != 0) != (b_ != 0))

/* Integers have no remainder by zero. */
static status_t divisor_check(const gd_kernel_args_t *args, const char *op)
{
    const gd_view_t *b = &args->in[1];
    if (gd_dtype_is_float((gd_dtype_t)args->out[0].dtype) || gd_view_numel(&args->out[0]) == 0) {
        return ST_OK;
    }
    gd_cpu_convert_func_t convert = CPU_FN(convert_find)(b->dtype, GD_DTYPE_I64);
    const int64_t size = (int64_t)gd_dtype_size((gd_dtype_t)b->dtype);
    gd_cpu_grid_t grid;
    gd_cpu_grid_make(&b, 1, &grid);
    for (int64_t i = 0; i < grid.numel; i++) {
        int64_t offset = 0;
        int64_t value = 0;
        (void)gd_cpu_grid_seek(&grid, 1, i, &offset);
        convert((const unsigned char *)b->data + offset * size, 1, &value, 1, 1);
        if (value == 0) {
            return ST_FAIL(ST_ERR_DATA, "%s: element %lld of the divisor is 0", op, (long long)i);
        }
    }
    return ST_OK;
}

CPU_KERNEL(fmod)
{
    status_t status = divisor_check(args, "fmod");
    return status == ST_OK ? CPU_FN(fmod_any)(args) : status;
}

CPU_KERNEL(remainder)
{
    status_t status = divisor_check(args, "remainder");
    return status == ST_OK ? CPU_FN(remainder_any)(args) : status;
}

/* ---- where: y = condition ? a : b, elements moved by their size ---- */

typedef struct choice {
    gd_cpu_grid_t grid; /* y, a, b, condition */
    const unsigned char *a, *b, *condition;
    unsigned char *y;
    int64_t size;
} choice_t;

#define CHOICE_RUN(type_x)                                                                                             \
    static void choice_run_##type_x(const void *a, int64_t sa, const void *b, int64_t sb, const uint8_t *c,            \
                                    int64_t sc, void *y, int64_t n)                                                    \
    {                                                                                                                  \
        const type_x *pa = a;                                                                                          \
        const type_x *pb = b;                                                                                          \
        type_x *py = y;                                                                                                \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            py[i] = c[i * sc] != 0 ? pa[i * sa] : pb[i * sb];                                                          \
        }                                                                                                              \
    }
CHOICE_RUN(uint8_t)
CHOICE_RUN(uint16_t)
CHOICE_RUN(uint32_t)
CHOICE_RUN(uint64_t)

static void choice_block(void *arg, int64_t begin, int64_t end)
{
    const choice_t *choice = arg;
    const int last = choice->grid.n_dims - 1;
    const int64_t sa = choice->grid.stride[1][last];
    const int64_t sb = choice->grid.stride[2][last];
    const int64_t sc = choice->grid.stride[3][last];
    while (begin < end) {
        int64_t offset[4];
        int64_t n = gd_cpu_grid_seek(&choice->grid, 4, begin, offset);
        n = n < end - begin ? n : end - begin;
        const void *a = choice->a + offset[1] * choice->size;
        const void *b = choice->b + offset[2] * choice->size;
        const uint8_t *c = choice->condition + offset[3];
        void *y = choice->y + begin * choice->size;
        switch (choice->size) {
        case 1:
            choice_run_uint8_t(a, sa, b, sb, c, sc, y, n);
            break;
        case 2:
            choice_run_uint16_t(a, sa, b, sb, c, sc, y, n);
            break;
        case 4:
            choice_run_uint32_t(a, sa, b, sb, c, sc, y, n);
            break;
        default:
            choice_run_uint64_t(a, sa, b, sb, c, sc, y, n);
            break;
        }
        begin += n;
    }
}

CPU_KERNEL(where)
{
    choice_t choice;
    const gd_view_t *views[4] = {&args->out[0], &args->in[0], &args->in[1], &args->in[2]};
    gd_cpu_grid_make(views, 4, &choice.grid);
    if (choice.grid.numel == 0) {
        return ST_OK;
    }
    choice.a = args->in[0].data;
    choice.b = args->in[1].data;
    choice.condition = args->in[2].data;
    choice.y = args->out[0].data;
    choice.size = (int64_t)gd_dtype_size((gd_dtype_t)args->out[0].dtype);
    gd_cpu_parallel(args->n_threads, choice.grid.numel, GD_CPU_MAP_GRAIN, choice_block, &choice);
    return ST_OK;
}
