/* SPDX-License-Identifier: Apache-2.0 */
/*
 * embedding_bag: sums, means or maxima of the rows of a table that a bag of ids names. Backward adds into the table in
 * the order of the ids, each thread in columns of its own, so that sums have one order whatever the number of threads.
 */
#include <string.h>

#include "cpu/vec/kernels.h"

enum { BAGS_PER_BLOCK = 16, COLUMNS_PER_BLOCK = 64, MODE_SUM, MODE_MEAN, MODE_MAX };

typedef struct bags {
    const void *ids;
    const void *offsets; /* NULL: bags of `length` ids */
    int32_t id_dtype, offset_dtype;
    int64_t n_ids, n_bags, length, n_rows, width, mode, padding; /* padding -1: none */
    const void *from;                                            /* forward: weight; backward: dy */
    void *to;                                                    /* forward: y; backward: dweight */
    int32_t *position;                                           /* of maxima, [n_bags][width] */
} bags_t;

static int64_t integer_at(const void *data, int32_t dtype, int64_t i)
{
    switch (dtype) {
    case GD_DTYPE_I64:
        return ((const int64_t *)data)[i];
    case GD_DTYPE_I32:
        return ((const int32_t *)data)[i];
    default:
        return ((const uint8_t *)data)[i];
    }
}

static int64_t bag_begin(const bags_t *b, int64_t bag)
{
    if (b->offsets == NULL) {
        return bag * b->length;
    }
    return bag < b->n_bags ? integer_at(b->offsets, b->offset_dtype, bag) : b->n_ids;
}

static status_t bags_check(const char *op, const bags_t *b)
{
    for (int64_t i = 0; i < b->n_ids; i++) {
        const int64_t id = integer_at(b->ids, b->id_dtype, i);
        if (id < 0 || id >= b->n_rows) {
            return ST_FAIL(ST_ERR_DATA, "%s: id %lld at position %lld is outside 0 … %lld", op, (long long)id,
                           (long long)i, (long long)b->n_rows - 1);
        }
    }
    for (int64_t bag = 0; bag < b->n_bags && b->offsets != NULL; bag++) {
        const int64_t begin = bag_begin(b, bag);
        if (begin < 0 || begin > bag_begin(b, bag + 1) || (bag == 0 && begin != 0)) {
            return ST_FAIL(ST_ERR_DATA, "%s: offset %lld of bag %lld: offsets begin with 0 and ascend up to %lld", op,
                           (long long)begin, (long long)bag, (long long)b->n_ids);
        }
    }
    return ST_OK;
}

static int64_t bag_count(const bags_t *b, int64_t bag)
{
    int64_t n = 0;
    for (int64_t i = bag_begin(b, bag); i < bag_begin(b, bag + 1); i++) {
        n += integer_at(b->ids, b->id_dtype, i) != b->padding;
    }
    return n;
}

#define DEFINE_BAGS(forward_x, backward_x, type_x)                                                                     \
    static void forward_x(void *arg, int64_t begin, int64_t end)                                                       \
    {                                                                                                                  \
        const bags_t *b = arg;                                                                                         \
        for (int64_t bag = begin; bag < end; bag++) {                                                                  \
            type_x *restrict y = (type_x *)b->to + bag * b->width;                                                     \
            int32_t *restrict position = b->position + bag * b->width;                                                 \
            int64_t n = 0;                                                                                             \
            memset(y, 0, (size_t)b->width * sizeof(type_x));                                                           \
            for (int64_t c = 0; c < b->width && b->mode == MODE_MAX; c++) {                                            \
                position[c] = -1;                                                                                      \
            }                                                                                                          \
            for (int64_t i = bag_begin(b, bag); i < bag_begin(b, bag + 1); i++) {                                      \
                const int64_t id = integer_at(b->ids, b->id_dtype, i);                                                 \
                const type_x *row = (const type_x *)b->from + id * b->width;                                           \
                if (id == b->padding) {                                                                                \
                    continue;                                                                                          \
                }                                                                                                      \
                n++;                                                                                                   \
                for (int64_t c = 0; c < b->width && b->mode == MODE_MAX; c++) {                                        \
                    const bool is_more = n == 1 || row[c] > y[c];                                                      \
                    y[c] = is_more ? row[c] : y[c];                                                                    \
                    position[c] = is_more ? (int32_t)i : position[c];                                                  \
                }                                                                                                      \
                for (int64_t c = 0; c < b->width && b->mode != MODE_MAX; c++) {                                        \
                    y[c] += row[c];                                                                                    \
                }                                                                                                      \
            }                                                                                                          \
            for (int64_t c = 0; c < b->width && b->mode == MODE_MEAN && n > 1; c++) {                                  \
                y[c] /= (type_x)n;                                                                                     \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    static void backward_x(void *arg, int64_t begin, int64_t end)                                                      \
    {                                                                                                                  \
        const bags_t *b = arg;                                                                                         \
        for (int64_t bag = 0; bag < b->n_bags; bag++) {                                                                \
            const type_x *dy = (const type_x *)b->from + bag * b->width;                                               \
            const int64_t n = b->mode == MODE_MEAN ? bag_count(b, bag) : 1;                                            \
            const type_x share = n > 1 ? 1 / (type_x)n : 1;                                                            \
            for (int64_t i = bag_begin(b, bag); i < bag_begin(b, bag + 1); i++) {                                      \
                const int64_t id = integer_at(b->ids, b->id_dtype, i);                                                 \
                type_x *restrict dweight = (type_x *)b->to + id * b->width;                                            \
                if (id == b->padding) {                                                                                \
                    continue;                                                                                          \
                }                                                                                                      \
                for (int64_t c = begin; c < end && b->mode == MODE_MAX; c++) {                                         \
                    dweight[c] += b->position[bag * b->width + c] == i ? dy[c] : 0;                                    \
                }                                                                                                      \
                for (int64_t c = begin; c < end && b->mode != MODE_MAX; c++) {                                         \
                    dweight[c] += dy[c] * share;                                                                       \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_BAGS(forward_f32, backward_f32, float)
DEFINE_BAGS(forward_f64, backward_f64, double)

static bags_t bags_init(const gd_view_t *ids, const gd_view_t *offsets, const gd_attrs_t *attrs, int64_t n_bags)
{
    return (bags_t){
        .ids = ids->data,
        .id_dtype = ids->dtype,
        .offsets = offsets->data,
        .offset_dtype = offsets->dtype,
        .n_ids = gd_view_numel(ids),
        .n_bags = n_bags,
        .length = ids->n_dims > 1 ? ids->shape[1] : 0,
        .mode = MODE_SUM + attrs->i[0],
        .padding = attrs->i[1] - 1,
    };
}

/* in: ids[B,T], or ids[N] and offsets[B], weight[V,C]; out: y[B,C], positions of maxima. attrs: i0 mode; i1. */
CPU_KERNEL(embedding_bag)
{
    const gd_view_t *weight = &args->in[1];
    bags_t b = bags_init(&args->in[0], &args->in[2], args->attrs, args->out[0].shape[0]);
    b.n_rows = weight->shape[0];
    b.width = weight->shape[1];
    b.from = weight->data;
    b.to = args->out[0].data;
    b.position = args->out[1].data;
    status_t status = bags_check("embedding_bag", &b);
    if (status != ST_OK) {
        return status;
    }
    return gd_cpu_parallel_real("embedding_bag", weight->dtype, args->n_threads, b.n_bags, BAGS_PER_BLOCK,
                                (gd_cpu_bodies_t){forward_f32, forward_f64}, &b);
}

/* in: dy[B,C], ids, positions of maxima or absent, offsets or absent; out: dweight[V,C]. attrs: i2 rows V. */
CPU_KERNEL(embedding_bag_backward)
{
    const gd_view_t *dweight = &args->out[0];
    bags_t b = bags_init(&args->in[1], &args->in[3], args->attrs, args->in[0].shape[0]);
    b.n_rows = dweight->shape[0];
    b.width = dweight->shape[1];
    b.from = args->in[0].data;
    b.to = dweight->data;
    b.position = args->in[2].data;
    status_t status = bags_check("embedding_bag_backward", &b);
    if (status != ST_OK) {
        return status;
    }
    memset(b.to, 0, (size_t)gd_view_numel(dweight) * gd_dtype_size((gd_dtype_t)dweight->dtype));
    return gd_cpu_parallel_real("embedding_bag_backward", dweight->dtype, args->n_threads, b.width, COLUMNS_PER_BLOCK,
                                (gd_cpu_bodies_t){backward_f32, backward_f64}, &b);
}
