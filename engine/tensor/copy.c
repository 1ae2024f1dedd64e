/* SPDX-License-Identifier: Apache-2.0 */
/* copy: values into tensors, without graph. */
#include <string.h>

#include "cpu/cpu.h"
#include "ops/helpers.h"
#include "tensor/internal.h"

static bool is_broadcastable(const gd_tensor_t *from, const gd_tensor_t *to)
{
    int lead = to->n_dims - from->n_dims;
    if (lead < 0) {
        return false;
    }
    for (int i = 0; i < from->n_dims; i++) {
        if (from->shape[i] != to->shape[i + lead] && from->shape[i] != 1) {
            return false;
        }
    }
    return true;
}

status_t gd_tensor_copy(gd_tensor_t *dst, const gd_tensor_t *src)
{
    if (dst == NULL || src == NULL) {
        return ST_FAIL(ST_ERR_INVAL, "copy: the %s is missing", dst == NULL ? "destination" : "source");
    }
    if (!is_broadcastable(src, dst)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "copy", dst, src, "the source doesn't broadcast to the destination");
    }
    gd_view_t in;
    gd_view_t out;
    gd_tensor_get_view(src, &in);
    gd_tensor_get_view(dst, &out);
    const gd_attrs_t attrs = {.i = {(int64_t)dst->dtype}};
    const gd_kernel_args_t args = {
        .in = &in, .n_in = 1, .out = &out, .n_out = 1, .attrs = &attrs, .n_threads = gd_context_n_threads()};
    gd_tensor_mark_changed(dst, "copy");
    return gd_cpu_kernel(GD_OP_CAST)(&args);
}

status_t gd_tensor_fill(gd_tensor_t *t, double value)
{
    /* one element of the dtype, broadcast */
    gd_view_t in = {.data = &value, .dtype = GD_DTYPE_F64};
    gd_view_t out;
    gd_tensor_get_view(t, &out);
    const gd_attrs_t attrs = {.i = {(int64_t)t->dtype}};
    uint64_t element = 0;
    gd_view_t one = {.data = &element, .dtype = (int32_t)t->dtype};
    gd_kernel_func_t cast = gd_cpu_kernel(GD_OP_CAST);
    gd_kernel_args_t args = {.in = &in, .n_in = 1, .out = &one, .n_out = 1, .attrs = &attrs, .n_threads = 1};
    status_t status = cast(&args);
    if (status != ST_OK) {
        return status;
    }
    gd_tensor_mark_changed(t, "fill");
    if (element == 0 && t->is_contiguous) {
        memset(out.data, 0, (size_t)t->numel * gd_dtype_size(t->dtype));
        return ST_OK;
    }
    args.in = &one;
    args.out = &out;
    args.n_threads = gd_context_n_threads();
    return cast(&args);
}

status_t gd_tensor_to(gd_tensor_t *x, gd_device_t device, gd_dtype_t dtype, gd_tensor_t **y_p)
{
    if (x == NULL) {
        return ST_FAIL(ST_ERR_INVAL, "to: input 0 is missing");
    }
    status_t status = gd_device_check(device);
    if (status != ST_OK) {
        strbuf_t shape = {0};
        gd_shape_format(x->n_dims, x->shape, &shape);
        status = status_add_context(status, "to: %s %s", gd_dtype_name(x->dtype), strbuf_text(&shape));
        strbuf_release(&shape);
        return status;
    }
    if ((unsigned)dtype >= GD_DTYPE_COUNT) {
        return ST_FAIL(ST_ERR_DTYPE, "to: %d is no dtype", (int)dtype);
    }
    return gd_cast(x, dtype, y_p);
}

status_t gd_tensor_item(const gd_tensor_t *t, double *value_p)
{
    if (t == NULL) {
        return ST_FAIL(ST_ERR_INVAL, "item: the tensor is missing");
    }
    if (t->numel != 1) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "item", t, NULL, "only a tensor of one element has a value");
    }
    gd_view_t in;
    gd_tensor_get_view(t, &in);
    in.n_dims = 0;
    double value = 0;
    gd_view_t out = {.data = &value, .dtype = GD_DTYPE_F64};
    const gd_attrs_t attrs = {.i = {GD_DTYPE_F64}};
    const gd_kernel_args_t args = {.in = &in, .n_in = 1, .out = &out, .n_out = 1, .attrs = &attrs, .n_threads = 1};
    status_t status = gd_cpu_kernel(GD_OP_CAST)(&args);
    if (status == ST_OK) {
        *value_p = value;
    }
    return status;
}
