/* SPDX-License-Identifier: Apache-2.0 */
/* reduce: elementwise sum, minimum and maximum of two host buffers, for backends that add by themselves. */
#include "collectives/backend.h"

/* Unsigned arithmetic for the sums of integers: they wrap, as MPI's do, instead of being undefined. */
#define REDUCE_LOOPS(type_x, sum_type_x)                                                                               \
    do {                                                                                                               \
        type_x *a = acc;                                                                                               \
        const type_x *b = x;                                                                                           \
        if (op == COLL_OP_SUM) {                                                                                       \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                a[i] = (type_x)((sum_type_x)a[i] + (sum_type_x)b[i]);                                                  \
            }                                                                                                          \
        } else if (op == COLL_OP_MIN) {                                                                                \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                a[i] = b[i] < a[i] ? b[i] : a[i];                                                                      \
            }                                                                                                          \
        } else {                                                                                                       \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                a[i] = b[i] > a[i] ? b[i] : a[i];                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)

int64_t coll_dtype_size(gd_dtype_t dtype)
{
    switch (dtype) {
    case GD_DTYPE_F32:
    case GD_DTYPE_I32:
        return 4;
    case GD_DTYPE_F64:
    case GD_DTYPE_I64:
        return 8;
    case GD_DTYPE_U8:
        return 1;
    default:
        return 0;
    }
}

void coll_reduce(void *acc, const void *x, int64_t n, gd_dtype_t dtype, coll_op_t op)
{
    switch (dtype) {
    case GD_DTYPE_F32:
        REDUCE_LOOPS(float, float);
        break;
    case GD_DTYPE_F64:
        REDUCE_LOOPS(double, double);
        break;
    case GD_DTYPE_I64:
        REDUCE_LOOPS(int64_t, uint64_t);
        break;
    case GD_DTYPE_I32:
        REDUCE_LOOPS(int32_t, uint32_t);
        break;
    case GD_DTYPE_U8:
        REDUCE_LOOPS(uint8_t, uint32_t);
        break;
    default:
        break;
    }
}
