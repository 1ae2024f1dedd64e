/* SPDX-License-Identifier: Apache-2.0 */
/* ops/scatter_reduce: values brought together at indices along an axis: sum, product, mean, largest, smallest. */
#include "ops/compose.h"
#include "ops/index_parts.h"

enum { ATTR_AXIS, ATTR_KIND, ATTR_HAS_SELF };

/* source and index of one shape, x of as many dimensions and, off the axis, sizes no smaller. */
static status_t parts_check(const char *op, const gd_tensor_t *source, const gd_tensor_t *index, const gd_tensor_t *x,
                            const gd_attrs_t *attrs)
{
    if (attrs->i[ATTR_KIND] < 0 || attrs->i[ATTR_KIND] >= GD_SCATTER_KIND_COUNT) {
        return ST_FAIL(ST_ERR_INVAL, "%s: no reduction %lld", op, (long long)attrs->i[ATTR_KIND]);
    }
    if (source->dtype != x->dtype) {
        return ST_FAIL(ST_ERR_DTYPE, "%s: %s into %s: dtypes must be equal", op, gd_dtype_name(source->dtype),
                       gd_dtype_name(x->dtype));
    }
    if (!gd_shape_equal(source->n_dims, source->shape, index->n_dims, index->shape)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op, source, index, "source and index must have equal shapes");
    }
    return gd_index_fits(op, index, attrs->i[ATTR_AXIS], x->n_dims, x->shape);
}

static status_t scatter_reduce_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    (void)n_in;
    gd_meta_set(out, in[2]->dtype, in[2]->n_dims, in[2]->shape);
    return parts_check("scatter_reduce", in[0], in[1], in[2], attrs);
}

static status_t scatter_reduce_gradient(gd_node_t *node, gd_tensor_t *dy, gd_tensor_t **dx)
{
    gd_tensor_t *in[5] = {dy, node->in[0], node->in[1], node->in[2], node->out[0]};
    gd_tensor_t *out[2] = {NULL};
    status_t status = gd_op_apply(GD_OP_SCATTER_REDUCE_BACKWARD, in, 5, &node->attrs, out);
    if (status == ST_OK) {
        gd_tensor_t *const gradient[3] = {out[0], NULL, out[1]};
        gd_node_hand_out(node, gradient, 3, dx);
    }
    return status;
}

#define INDEX(limit_x) .dtype = GD_DTYPE_I64, .int_limit = (limit_x), .no_grad = true
#define SAMPLE(kind_x, has_self_x)                                                                                     \
    {                                                                                                                  \
        .in = {{2, {3, 6}}, {2, {3, 6}, INDEX(4)}, {2, {3, 5}}}, .n_in = 3, .attrs = {.i = {1, kind_x, has_self_x} }   \
    }

const gd_op_t gd_op_scatter_reduce = {
    .name = "scatter_reduce",
    .formula = "y[…, t, …] = x[…, t, …] with all source[…, j, …] of index[…, j, …] = t, by kind: sum, product, mean, "
               "largest, smallest",
    .attrs = "i0 axis; i1 kind; i2 x counts where something comes",
    .n_in = 3,
    .n_in_required = 3,
    .n_out = 1,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .saves = GD_SAVE_INPUTS | GD_SAVE_OUTPUTS,
    .contiguous_in = 7,
    .infer = scatter_reduce_infer,
    .backward = scatter_reduce_gradient,
    .onnx = "ScatterElements",
    .sample = {SAMPLE(GD_SCATTER_SUM, 1),
               SAMPLE(GD_SCATTER_SUM, 0),
               SAMPLE(GD_SCATTER_PROD, 1),
               SAMPLE(GD_SCATTER_PROD, 0),
               SAMPLE(GD_SCATTER_MEAN, 1),
               SAMPLE(GD_SCATTER_MEAN, 0),
               SAMPLE(GD_SCATTER_MAX, 1),
               SAMPLE(GD_SCATTER_MAX, 0),
               SAMPLE(GD_SCATTER_MIN, 1),
               SAMPLE(GD_SCATTER_MIN, 0),
               {.in = {{3, {7, 2, 1}}, {3, {7, 2, 1}, INDEX(3)}, {3, {3, 3, 2}}},
                .n_in = 3,
                .attrs = {.i = {0, GD_SCATTER_MEAN, 1}}},
               {.in = {{0, {0}}, {0, {0}, INDEX(1)}, {0, {0}}}, .n_in = 3, .attrs = {.i = {0, GD_SCATTER_PROD, 1}}},
               {.in = {{1, {0}}, {1, {0}, INDEX(1)}, {1, {3}}}, .n_in = 3},
               {.in = {{1, {3}}, {1, {3}, INDEX(50)}, {1, {4}}}, .n_in = 3, .expect = ST_ERR_RANGE},
               {.in = {{1, {3}}, {1, {2}, INDEX(3)}, {1, {4}}}, .n_in = 3, .expect = ST_ERR_SHAPE},
               {.in = {{1, {3}}, {1, {3}, INDEX(3)}, {1, {4}}},
                .n_in = 3,
                .attrs = {.i = {0, GD_SCATTER_KIND_COUNT}},
                .expect = ST_ERR_INVAL}},
};

static status_t scatter_reduce_backward_infer(gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_meta_t *out)
{
    static const char name[] = "scatter_reduce_backward";
    (void)n_in;
    status_t status = parts_check(name, in[1], in[2], in[3], attrs);
    for (int i = 0; i < 5 && status == ST_OK; i += 4) {
        if (in[i]->dtype != in[3]->dtype || !gd_shape_equal(in[i]->n_dims, in[i]->shape, in[3]->n_dims, in[3]->shape)) {
            status = gd_op_fail_shapes(ST_ERR_SHAPE, name, in[i], in[3], "must be like the tensor");
        }
    }
    if (status == ST_OK) {
        gd_meta_set(&out[0], in[1]->dtype, in[1]->n_dims, in[1]->shape);
        gd_meta_set(&out[1], in[3]->dtype, in[3]->n_dims, in[3]->shape);
    }
    return status;
}

const gd_op_t gd_op_scatter_reduce_backward = {
    .name = "scatter_reduce_backward",
    .formula = "dsource = dy[…, index, …] dy/dsource; dx = dy dy/dx; equal largest or smallest ones share",
    .attrs = "i0 axis; i1 kind; i2 x counts where something comes",
    .n_in = 5,
    .n_in_required = 5,
    .n_out = 2,
    .dtypes = OPS_DTYPES_FLOAT,
    .by_conversion = OPS_DTYPES_HALF,
    .contiguous_in = 31,
    .infer = scatter_reduce_backward_infer,
    .sample = {{.in = {{2, {3, 5}}, {2, {3, 6}}, {2, {3, 6}, INDEX(4)}, {2, {3, 5}}, {2, {3, 5}}},
                .n_in = 5,
                .attrs = {.i = {1, GD_SCATTER_MEAN, 1}}},
               {.in = {{2, {3, 2}}, {2, {5, 2}}, {2, {5, 2}, INDEX(3)}, {2, {3, 2}}, {2, {3, 2}}},
                .n_in = 5,
                .attrs = {.i = {0, GD_SCATTER_MEAN, 1}}},
               {.in = {{2, {3, 5}}, {2, {3, 6}}, {2, {3, 6}, INDEX(4)}, {2, {3, 5}}, {2, {3, 4}}},
                .n_in = 5,
                .attrs = {.i = {1}},
                .expect = ST_ERR_SHAPE}},
};

status_t gd_scatter_reduce(gd_tensor_t *x, int axis, gd_tensor_t *index, gd_tensor_t *source,
                           gd_scatter_reduction_t kind, bool has_self, gd_tensor_t **y_p)
{
    compose_t c = {0};
    const gd_attrs_t attrs = {.i = {compose_axis(&c, "scatter_reduce", x, axis), kind, has_self}};
    gd_tensor_t *in[3] = {source, compose_index(&c, "scatter_reduce", index), x};
    gd_tensor_t *y = compose_op(&c, GD_OP_SCATTER_REDUCE, in, 3, &attrs);
    return compose_finish(&c, y, y_p);
}
