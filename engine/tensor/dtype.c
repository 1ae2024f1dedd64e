/* SPDX-License-Identifier: Apache-2.0 */
/* dtype: names and sizes of the element types. */
#include <string.h>

#include "gradd/tensor.h"

static const struct {
    const char *name;
    size_t size;
} known[GD_DTYPE_COUNT] = {
#define DTYPE_ROW(name, text, size) [GD_DTYPE_##name] = {text, size},
    GD_DTYPE_LIST(DTYPE_ROW)
#undef DTYPE_ROW
};

const char *gd_dtype_name(gd_dtype_t dtype)
{
    return (unsigned)dtype < GD_DTYPE_COUNT ? known[dtype].name : NULL;
}

size_t gd_dtype_size(gd_dtype_t dtype)
{
    return (unsigned)dtype < GD_DTYPE_COUNT ? known[dtype].size : 0;
}

bool gd_dtype_is_float(gd_dtype_t dtype)
{
    return dtype == GD_DTYPE_F32 || dtype == GD_DTYPE_F64 || dtype == GD_DTYPE_BF16 || dtype == GD_DTYPE_F16;
}

gd_dtype_category_t gd_dtype_category(gd_dtype_t dtype)
{
    return dtype == GD_DTYPE_BOOL ? GD_CATEGORY_BOOL : gd_dtype_is_float(dtype) ? GD_CATEGORY_FLOAT : GD_CATEGORY_INT;
}

gd_dtype_t gd_dtype_promote(gd_dtype_t a, gd_dtype_t b)
{
    if (a == b) {
        return a;
    }
    const gd_dtype_category_t of_a = gd_dtype_category(a);
    const gd_dtype_category_t of_b = gd_dtype_category(b);
    if (of_a != of_b) {
        return of_a > of_b ? a : b;
    }
    if (of_a == GD_CATEGORY_INT) { /* u8 goes into any signed one */
        return a == GD_DTYPE_I64 || b == GD_DTYPE_I64 ? GD_DTYPE_I64 : GD_DTYPE_I32;
    }
    return a == GD_DTYPE_F64 || b == GD_DTYPE_F64 ? GD_DTYPE_F64 : GD_DTYPE_F32; /* bf16 and f16: f32 holds both */
}

gd_dtype_t gd_dtype_result(const gd_dtype_t *dtypes, const int *n_dims, int n)
{
    bool has[2] = {false, false}; /* 0-d ones, others */
    gd_dtype_t of[2] = {GD_DTYPE_BOOL, GD_DTYPE_BOOL};
    for (int i = 0; i < n; i++) {
        int group = n_dims[i] > 0;
        of[group] = has[group] ? gd_dtype_promote(of[group], dtypes[i]) : dtypes[i];
        has[group] = true;
    }
    if (!has[0] || !has[1]) {
        return of[has[1]];
    }
    return gd_dtype_category(of[0]) > gd_dtype_category(of[1]) ? gd_dtype_promote(of[0], of[1]) : of[1];
}

status_t gd_dtype_from_name(const char *name, gd_dtype_t *dtype_p)
{
    for (int i = 0; i < GD_DTYPE_COUNT; i++) {
        if (strcmp(name, known[i].name) == 0) {
            *dtype_p = (gd_dtype_t)i;
            return ST_OK;
        }
    }
    return ST_FAIL(ST_ERR_NOT_FOUND, "no dtype is named \"%s\"", name);
}
