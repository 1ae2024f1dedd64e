/* SPDX-License-Identifier: Apache-2.0 */
/* dtype: names and sizes of the element types. */
#include <string.h>

#include "gradd/tensor.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[GD_DTYPE_COUNT] = {
#define DTYPE_ROW(name, text, size) [GD_DTYPE_##name] = {text, size},
    GD_DTYPE_LIST(DTYPE_ROW)
#undef DTYPE_ROW
};

const char *gd_dtype_name(gd_dtype_t dtype)
{
    return (unsigned)dtype < GD_DTYPE_COUNT ? dtypes[dtype].name : NULL;
}

size_t gd_dtype_size(gd_dtype_t dtype)
{
    return (unsigned)dtype < GD_DTYPE_COUNT ? dtypes[dtype].size : 0;
}

bool gd_dtype_is_float(gd_dtype_t dtype)
{
    return dtype == GD_DTYPE_F32 || dtype == GD_DTYPE_F64 || dtype == GD_DTYPE_BF16 || dtype == GD_DTYPE_F16;
}

status_t gd_dtype_from_name(const char *name, gd_dtype_t *dtype_p)
{
    for (int i = 0; i < GD_DTYPE_COUNT; i++) {
        if (strcmp(name, dtypes[i].name) == 0) {
            *dtype_p = (gd_dtype_t)i;
            return ST_OK;
        }
    }
    return ST_FAIL(ST_ERR_NOT_FOUND, "no dtype is named \"%s\"", name);
}
