/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy: y = x with conversion between any two dtypes, any strides on both sides, x broadcast to y's shape. Behind the
 * ops contiguous and cast, and behind gd_tensor_copy.
 */
#include <stdalign.h>
#include <string.h>

#include "cpu/map.h"
#include "cpu/vec/half.h"
#include "cpu/vec/kernels.h"
#include "gradd/tensor.h"

#define DEFINE_CONVERT(name_x, from_x, to_x, expression_x)                                                             \
    static void name_x(const void *x, int64_t sx, void *y, int64_t sy, int64_t n)                                      \
    {                                                                                                                  \
        const from_x *px = x;                                                                                          \
        to_x *py = y;                                                                                                  \
        if (sx == 1 && sy == 1) {                                                                                      \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                const from_x x_ = px[i];                                                                               \
                py[i] = (expression_x);                                                                                \
            }                                                                                                          \
            return;                                                                                                    \
        }                                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const from_x x_ = px[i * sx];                                                                              \
            py[i * sy] = (expression_x);                                                                               \
        }                                                                                                              \
    }

DEFINE_CONVERT(move_1, uint8_t, uint8_t, x_)
DEFINE_CONVERT(move_2, uint16_t, uint16_t, x_)
DEFINE_CONVERT(move_4, uint32_t, uint32_t, x_)
DEFINE_CONVERT(move_8, uint64_t, uint64_t, x_)
DEFINE_CONVERT(f32_to_bf16, float, uint16_t, bf16_from_f32(x_))
DEFINE_CONVERT(bf16_to_f32_run, uint16_t, float, bf16_to_f32(x_))
DEFINE_CONVERT(f32_to_f16, float, uint16_t, f16_from_f32(x_))
DEFINE_CONVERT(f16_to_f32_run, uint16_t, float, f16_to_f32(x_))
DEFINE_CONVERT(f32_to_f64, float, double, (double)x_)
DEFINE_CONVERT(f64_to_f32, double, float, (float)x_)
DEFINE_CONVERT(u8_to_f32, uint8_t, float, (float)x_)
DEFINE_CONVERT(i32_to_f32, int32_t, float, (float)x_)
DEFINE_CONVERT(i64_to_f32, int64_t, float, (float)x_)
DEFINE_CONVERT(bf16_to_f64, uint16_t, double, (double)bf16_to_f32(x_))
DEFINE_CONVERT(f16_to_f64, uint16_t, double, (double)f16_to_f32(x_))
DEFINE_CONVERT(u8_to_f64, uint8_t, double, (double)x_)
DEFINE_CONVERT(i32_to_f64, int32_t, double, (double)x_)
DEFINE_CONVERT(i64_to_f64, int64_t, double, (double)x_)
DEFINE_CONVERT(u8_to_i64, uint8_t, int64_t, x_)
DEFINE_CONVERT(i32_to_i64, int32_t, int64_t, x_)
DEFINE_CONVERT(i64_to_i32, int64_t, int32_t, (int32_t)x_)
DEFINE_CONVERT(i64_to_u8, int64_t, uint8_t, (uint8_t)x_)
DEFINE_CONVERT(i64_to_bool, int64_t, uint8_t, x_ != 0)
DEFINE_CONVERT(f32_to_bool, float, uint8_t, x_ != 0.0f)
DEFINE_CONVERT(f64_to_bool, double, uint8_t, x_ != 0.0)

/* Saturates, so that no value is undefined; a NaN gives 0. */
static inline int64_t double_to_i64(double x)
{
    if (!(x > -0x1p63)) {
        return x == x ? INT64_MIN : 0;
    }
    return x < 0x1p63 ? (int64_t)x : INT64_MAX;
}

static double load_double(const void *x, int64_t i, int32_t dtype)
{
    switch (dtype) {
    case GD_DTYPE_F32:
        return (double)((const float *)x)[i];
    case GD_DTYPE_F64:
        return ((const double *)x)[i];
    case GD_DTYPE_BF16:
        return (double)bf16_to_f32(((const uint16_t *)x)[i]);
    default:
        return (double)f16_to_f32(((const uint16_t *)x)[i]);
    }
}

static int64_t load_integer(const void *x, int64_t i, int32_t dtype)
{
    switch (dtype) {
    case GD_DTYPE_I64:
        return ((const int64_t *)x)[i];
    case GD_DTYPE_I32:
        return ((const int32_t *)x)[i];
    default:
        return ((const uint8_t *)x)[i];
    }
}

/* f64 → f32 rounded to odd: rounding that again to 16 bits gives what one rounding of the f64 would. */
static float float_to_odd(double x)
{
    float nearest = (float)x;
    if ((double)nearest == x || x != x || nearest - nearest != 0.0f) {
        return nearest;
    }
    uint32_t bits = float_bits(nearest);
    double magnitude = x < 0 ? -x : x;
    double rounded = x < 0 ? -(double)nearest : (double)nearest;
    bits -= rounded > magnitude; /* towards zero */
    return bits_float(bits | 1u);
}

static void store_double(void *y, int64_t i, int32_t dtype, double x)
{
    switch (dtype) {
    case GD_DTYPE_F32:
        ((float *)y)[i] = (float)x;
        break;
    case GD_DTYPE_F64:
        ((double *)y)[i] = x;
        break;
    case GD_DTYPE_BF16:
        ((uint16_t *)y)[i] = bf16_from_f32(float_to_odd(x));
        break;
    default:
        ((uint16_t *)y)[i] = f16_from_f32(float_to_odd(x));
        break;
    }
}

static void store_integer(void *y, int64_t i, int32_t dtype, int64_t x)
{
    switch (dtype) {
    case GD_DTYPE_I64:
        ((int64_t *)y)[i] = x;
        break;
    case GD_DTYPE_I32:
        ((int32_t *)y)[i] = (int32_t)x;
        break;
    default:
        ((uint8_t *)y)[i] = (uint8_t)x;
        break;
    }
}

/* Any pair of dtypes, one element at a time. Integers narrow by wrapping, as casts in C and PyTorch do. */
static void convert_any(const void *x, int64_t sx, int32_t from, void *y, int64_t sy, int32_t to, int64_t n)
{
    const int is_from_float = gd_dtype_is_float((gd_dtype_t)from);
    const int is_to_float = gd_dtype_is_float((gd_dtype_t)to);
    for (int64_t i = 0; i < n; i++) {
        if (is_from_float) {
            double value = load_double(x, i * sx, from);
            if (is_to_float) {
                store_double(y, i * sy, to, value);
            } else {
                store_integer(y, i * sy, to, to == GD_DTYPE_BOOL ? value != 0 : double_to_i64(value));
            }
        } else {
            int64_t value = load_integer(x, i * sx, from);
            if (is_to_float) {
                store_double(y, i * sy, to, (double)value);
            } else {
                store_integer(y, i * sy, to, to == GD_DTYPE_BOOL ? value != 0 : value);
            }
        }
    }
}

gd_cpu_convert_func_t CPU_FN(convert_find)(int32_t from, int32_t to)
{
    if (from == to) {
        switch (gd_dtype_size((gd_dtype_t)from)) {
        case 1:
            return move_1;
        case 2:
            return move_2;
        case 4:
            return move_4;
        default:
            return move_8;
        }
    }
    static const struct {
        int32_t from, to;
        gd_cpu_convert_func_t convert;
    } known[] = {
        {GD_DTYPE_F32, GD_DTYPE_BF16, f32_to_bf16}, {GD_DTYPE_BF16, GD_DTYPE_F32, bf16_to_f32_run},
        {GD_DTYPE_F32, GD_DTYPE_F16, f32_to_f16},   {GD_DTYPE_F16, GD_DTYPE_F32, f16_to_f32_run},
        {GD_DTYPE_F32, GD_DTYPE_F64, f32_to_f64},   {GD_DTYPE_F64, GD_DTYPE_F32, f64_to_f32},
        {GD_DTYPE_U8, GD_DTYPE_F32, u8_to_f32},     {GD_DTYPE_BOOL, GD_DTYPE_F32, u8_to_f32},
        {GD_DTYPE_I32, GD_DTYPE_F32, i32_to_f32},   {GD_DTYPE_I64, GD_DTYPE_F32, i64_to_f32},
        {GD_DTYPE_BF16, GD_DTYPE_F64, bf16_to_f64}, {GD_DTYPE_F16, GD_DTYPE_F64, f16_to_f64},
        {GD_DTYPE_U8, GD_DTYPE_F64, u8_to_f64},     {GD_DTYPE_BOOL, GD_DTYPE_F64, u8_to_f64},
        {GD_DTYPE_I32, GD_DTYPE_F64, i32_to_f64},   {GD_DTYPE_I64, GD_DTYPE_F64, i64_to_f64},
        {GD_DTYPE_U8, GD_DTYPE_I64, u8_to_i64},     {GD_DTYPE_BOOL, GD_DTYPE_I64, u8_to_i64},
        {GD_DTYPE_I32, GD_DTYPE_I64, i32_to_i64},   {GD_DTYPE_I64, GD_DTYPE_I32, i64_to_i32},
        {GD_DTYPE_I64, GD_DTYPE_U8, i64_to_u8},     {GD_DTYPE_I64, GD_DTYPE_BOOL, i64_to_bool},
        {GD_DTYPE_F32, GD_DTYPE_BOOL, f32_to_bool}, {GD_DTYPE_F64, GD_DTYPE_BOOL, f64_to_bool},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].from == from && known[i].to == to) {
            return known[i].convert;
        }
    }
    return NULL;
}

typedef struct copy {
    gd_cpu_grid_t grid;
    const unsigned char *x;
    unsigned char *y;
    int32_t from, to;
    int64_t size_x, size_y;
    gd_cpu_convert_func_t convert;
    gd_cpu_convert_func_t move; /* of x's element size */
    gd_cpu_grid_t outer;        /* of a transposing copy: the dimensions besides the two that are turned */
    int turned;                 /* the dimension that is dense in x */
    int64_t n_tiles;            /* along it */
} copy_t;

static void copy_block(void *arg, int64_t begin, int64_t end)
{
    const copy_t *copy = arg;
    int last = copy->grid.n_dims - 1;
    int64_t sy = copy->grid.stride[0][last];
    int64_t sx = copy->grid.stride[1][last];
    while (begin < end) {
        int64_t offset[3];
        int64_t length = gd_cpu_grid_seek(&copy->grid, 2, begin, offset);
        length = length < end - begin ? length : end - begin;
        const unsigned char *x = copy->x + offset[1] * copy->size_x;
        unsigned char *y = copy->y + offset[0] * copy->size_y;
        if (copy->convert != NULL) {
            copy->convert(x, sx, y, sy, length);
        } else {
            convert_any(x, sx, copy->from, y, sy, copy->to, length);
        }
        begin += length;
    }
}

enum { TILE = 32, TILE_PITCH = TILE + 1 };

/*
 * The dimension along which x is dense when the innermost of y isn't, or -1. Such a copy goes tile by tile through a
 * buffer, so that both sides are read and written along their lines, however many of these share a cache set.
 */
static int turned_find(const gd_cpu_grid_t *grid)
{
    const int last = grid->n_dims - 1;
    if (grid->stride[1][last] < TILE / 4 || grid->size[last] < TILE / 4) {
        return -1;
    }
    for (int d = 0; d < last; d++) {
        if (grid->stride[1][d] == 1 && grid->size[d] >= TILE / 4) {
            return d;
        }
    }
    return -1;
}

static void outer_make(copy_t *copy)
{
    const gd_cpu_grid_t *grid = &copy->grid;
    gd_cpu_grid_t *outer = &copy->outer;
    outer->n_dims = 0;
    outer->numel = 1;
    for (int d = 0; d < grid->n_dims - 1; d++) {
        if (d != copy->turned) {
            outer->size[outer->n_dims] = grid->size[d];
            outer->stride[0][outer->n_dims] = grid->stride[0][d];
            outer->stride[1][outer->n_dims++] = grid->stride[1][d];
            outer->numel *= grid->size[d];
        }
    }
    if (outer->n_dims == 0) {
        outer->n_dims = 1;
        outer->size[0] = 1;
        outer->stride[0][0] = 0;
        outer->stride[1][0] = 0;
    }
    copy->n_tiles = gd_cpu_n_blocks(grid->size[copy->turned], TILE);
}

static void tiles_block(void *arg, int64_t begin, int64_t end)
{
    const copy_t *copy = arg;
    const gd_cpu_grid_t *grid = &copy->grid;
    const int last = grid->n_dims - 1;
    const int64_t n = grid->size[last];
    const int64_t sy = grid->stride[0][last];
    const int64_t sx = grid->stride[1][last];
    const int64_t row_y = grid->stride[0][copy->turned];
    alignas(64) unsigned char tile[TILE * TILE_PITCH * 8];
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t offset[3];
        const int64_t first = unit % copy->n_tiles * TILE;
        const int64_t left = grid->size[copy->turned] - first;
        const int64_t n_rows = left < TILE ? left : TILE;
        (void)gd_cpu_grid_seek(&copy->outer, 2, unit / copy->n_tiles, offset);
        const unsigned char *x = copy->x + (offset[1] + first) * copy->size_x;
        unsigned char *y = copy->y + (offset[0] + first * row_y) * copy->size_y;
        for (int64_t column = 0; column < n; column += TILE) {
            const int64_t length = n - column < TILE ? n - column : TILE;
            for (int64_t k = 0; k < length; k++) {
                copy->move(x + (column + k) * sx * copy->size_x, 1, tile + k * copy->size_x, TILE_PITCH, n_rows);
            }
            for (int64_t row = 0; row < n_rows; row++) {
                copy->convert(tile + row * TILE_PITCH * copy->size_x, 1, y + (row * row_y + column * sy) * copy->size_y,
                              sy, length);
            }
        }
    }
}

CPU_KERNEL(cast)
{
    copy_t copy;
    const gd_view_t *views[2] = {&args->out[0], &args->in[0]};
    gd_cpu_grid_make(views, 2, &copy.grid);
    if (copy.grid.numel == 0) {
        return ST_OK;
    }
    copy.x = args->in[0].data;
    copy.y = args->out[0].data;
    copy.from = args->in[0].dtype;
    copy.to = args->out[0].dtype;
    copy.size_x = (int64_t)gd_dtype_size((gd_dtype_t)copy.from);
    copy.size_y = (int64_t)gd_dtype_size((gd_dtype_t)copy.to);
    copy.convert = CPU_FN(convert_find)(copy.from, copy.to);
    copy.move = CPU_FN(convert_find)(copy.from, copy.from);
    copy.turned = copy.convert != NULL ? turned_find(&copy.grid) : -1;
    if (copy.turned >= 0) {
        outer_make(&copy);
        const int64_t grain = GD_CPU_MAP_GRAIN / (TILE * copy.grid.size[copy.grid.n_dims - 1]) + 1;
        gd_cpu_parallel(args->n_threads, copy.outer.numel * copy.n_tiles, grain, tiles_block, &copy);
        return ST_OK;
    }
    gd_cpu_parallel(args->n_threads, copy.grid.numel, GD_CPU_MAP_GRAIN, copy_block, &copy);
    return ST_OK;
}
