/* SPDX-License-Identifier: Apache-2.0 */
/* op: the table of rows, and dispatch: check, infer, allocate, compute, record. */
#include "gradd/op.h"

#include <string.h>

#include "autograd/anomaly.h"
#include "cpu/cpu.h"
#include "ops/helpers.h"
#include "tensor/internal.h"

#define GD_OP(ENUM, name) extern const gd_op_t gd_op_##name;
#include "ops/ops.def"
#undef GD_OP

static const gd_op_t *const rows[GD_OP_COUNT] = {
#define GD_OP(ENUM, name) [GD_OP_##ENUM] = &gd_op_##name,
#include "ops/ops.def"
#undef GD_OP
};

enum { DTYPES_DEFAULT = 1 << GD_DTYPE_F32 | 1 << GD_DTYPE_F64 };

const gd_op_t *gd_op_get(gd_op_id_t id)
{
    return rows[id];
}

status_t gd_op_find(const char *name, gd_op_id_t *id_p)
{
    for (int i = 0; i < GD_OP_COUNT; i++) {
        if (strcmp(rows[i]->name, name) == 0) {
            *id_p = (gd_op_id_t)i;
            return ST_OK;
        }
    }
    return ST_FAIL(ST_ERR_NOT_FOUND, "no op is named \"%s\"", name);
}

void gd_meta_like(const gd_tensor_t *t, gd_meta_t *meta_p)
{
    meta_p->dtype = t->dtype;
    meta_p->n_dims = t->n_dims;
    meta_p->offset = 0;
    for (int i = 0; i < t->n_dims; i++) {
        meta_p->shape[i] = t->shape[i];
        meta_p->stride[i] = t->stride[i];
    }
}

void gd_meta_set(gd_meta_t *meta_p, gd_dtype_t dtype, int n_dims, const int64_t *shape)
{
    meta_p->dtype = dtype;
    meta_p->n_dims = n_dims;
    meta_p->offset = 0;
    for (int i = 0; i < n_dims; i++) {
        meta_p->shape[i] = shape[i];
    }
}

status_t gd_op_fail_shapes(status_t code, const char *op, const gd_tensor_t *a, const gd_tensor_t *b, const char *why)
{
    strbuf_t text = {0};
    gd_shape_format(a->n_dims, a->shape, &text);
    if (b != NULL) {
        strbuf_append(&text, " and ");
        gd_shape_format(b->n_dims, b->shape, &text);
    }
    status_t status = ST_FAIL(code, "%s: %s: %s", op, strbuf_text(&text), why);
    strbuf_release(&text);
    return status;
}

status_t gd_op_check_axis(const char *op, const gd_tensor_t *x, int64_t *axis)
{
    if (*axis < -x->n_dims || *axis >= x->n_dims) {
        return ST_FAIL(ST_ERR_RANGE, "%s: axis %lld of a tensor with %d dimensions", op, (long long)*axis, x->n_dims);
    }
    *axis += *axis < 0 ? x->n_dims : 0;
    return ST_OK;
}

status_t gd_meta_broadcast(const char *op, const gd_tensor_t *a, const gd_tensor_t *b, gd_meta_t *meta_p)
{
    if (a->dtype != b->dtype) {
        return ST_FAIL(ST_ERR_DTYPE, "%s: %s and %s: dtypes must be equal", op, gd_dtype_name(a->dtype),
                       gd_dtype_name(b->dtype));
    }
    int n_dims = a->n_dims > b->n_dims ? a->n_dims : b->n_dims;
    meta_p->dtype = a->dtype;
    meta_p->n_dims = n_dims;
    meta_p->offset = 0;
    for (int i = 0; i < n_dims; i++) {
        int i_a = i - (n_dims - a->n_dims);
        int i_b = i - (n_dims - b->n_dims);
        int64_t size_a = i_a >= 0 ? a->shape[i_a] : 1;
        int64_t size_b = i_b >= 0 ? b->shape[i_b] : 1;
        if (size_a != size_b && size_a != 1 && size_b != 1) {
            return gd_op_fail_shapes(ST_ERR_SHAPE, op, a, b, "shapes don't broadcast");
        }
        meta_p->shape[i] = size_a == 1 ? size_b : size_a;
    }
    return ST_OK;
}

static status_t inputs_check(const gd_op_t *op, gd_tensor_t *const *in, int n_in)
{
    if (n_in > op->n_in || n_in < op->n_in_required) {
        return ST_FAIL(ST_ERR_INVAL, "%s: %d inputs given, %d to %d are possible", op->name, n_in, op->n_in_required,
                       op->n_in);
    }
    for (int i = 0; i < op->n_in_required; i++) {
        if (in[i] == NULL) {
            return ST_FAIL(ST_ERR_INVAL, "%s: input %d is missing", op->name, i);
        }
    }
    unsigned dtypes = op->dtypes != 0 ? op->dtypes : DTYPES_DEFAULT;
    if (n_in > 0 && (dtypes >> in[0]->dtype & 1u) == 0) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: no kernel for %s on the cpu", op->name, gd_dtype_name(in[0]->dtype));
    }
    return ST_OK;
}

/* Runs the kernel of a non-view op; inputs that it wants contiguous are copied first. */
static status_t kernel_run(gd_op_id_t id, const gd_op_t *op, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs,
                           gd_tensor_t *const *out)
{
    gd_kernel_func_t kernel = gd_cpu_kernel(id);
    if (kernel == NULL) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: no kernel on the cpu", op->name);
    }
    gd_view_t in_view[GD_MAX_IN];
    gd_view_t out_view[GD_MAX_OUT];
    gd_tensor_t *copy[GD_MAX_IN];
    int n_copies = 0;
    status_t status = ST_OK;
    for (int i = 0; i < n_in && status == ST_OK; i++) {
        if (in[i] == NULL) {
            in_view[i].data = NULL;
            in_view[i].n_dims = 0;
            continue;
        }
        const gd_tensor_t *t = in[i];
        if ((op->contiguous_in >> i & 1u) != 0 && !t->is_contiguous) {
            status = gd_tensor_new(t->dtype, t->n_dims, t->shape, &copy[n_copies]);
            if (status != ST_OK) {
                break;
            }
            t = copy[n_copies++];
            status = gd_tensor_copy(copy[n_copies - 1], in[i]);
        }
        gd_tensor_get_view(t, &in_view[i]);
    }
    for (int i = n_in; i < op->n_in; i++) {
        in_view[i].data = NULL;
        in_view[i].n_dims = 0;
    }
    if (status == ST_OK) {
        for (int i = 0; i < op->n_out; i++) {
            gd_tensor_get_view(out[i], &out_view[i]);
        }
        const gd_kernel_args_t args = {.in = in_view,
                                       .n_in = op->n_in,
                                       .out = out_view,
                                       .n_out = op->n_out,
                                       .attrs = attrs,
                                       .n_threads = gd_context_get()->n_threads};
        status = kernel(&args);
    }
    while (n_copies > 0) {
        (void)gd_tensor_unref(copy[--n_copies]);
    }
    return status;
}

static const gd_attrs_t no_attrs;

static bool is_recorded(gd_tensor_t *const *in, int n_in)
{
    if (!gd_context_get()->is_grad_enabled) {
        return false;
    }
    for (int i = 0; i < n_in; i++) {
        if (in[i] != NULL && gd_tensor_tracks(in[i])) {
            return true;
        }
    }
    return false;
}

status_t gd_op_apply(gd_op_id_t id, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_tensor_t **out_p)
{
    const gd_op_t *op = rows[id];
    attrs = attrs != NULL ? attrs : &no_attrs;
    gd_meta_t meta[GD_MAX_OUT];
    gd_tensor_t *out[GD_MAX_OUT] = {NULL};
    status_t status = inputs_check(op, in, n_in);
    if (status == ST_OK) {
        status = op->infer(in, n_in, attrs, meta);
    }
    if (status != ST_OK) {
        return status;
    }
    for (int i = 0; i < op->n_out; i++) {
        status = op->is_view ? gd_tensor_new_view(in[0], &meta[i], &out[i]) : gd_tensor_new_meta(&meta[i], &out[i]);
        if (status != ST_OK) {
            goto err_free_outputs;
        }
    }
    if (!op->is_view) {
        status = kernel_run(id, op, in, n_in, attrs, out);
        if (__builtin_expect(gd_context_get()->anomaly != NULL, 0) && status == ST_OK) {
            status = tape_anomaly_forward(op, in, n_in, attrs, out[0]);
        }
        if (status != ST_OK) {
            goto err_free_outputs;
        }
    }
    if (gd_dtype_is_float(out[0]->dtype) && is_recorded(in, n_in)) {
        status = tape_node_record(id, op, in, n_in, attrs, out, op->n_out);
        if (status != ST_OK) {
            goto err_free_outputs;
        }
    }
    memcpy(out_p, out, (size_t)op->n_out * sizeof(gd_tensor_t *));
    return ST_OK;

err_free_outputs:
    for (int i = 0; i < op->n_out; i++) {
        (void)gd_tensor_unref(out[i]);
    }
    return status;
}

status_t gd_op_apply_into(gd_op_id_t id, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_tensor_t *out)
{
    const gd_op_t *op = rows[id];
    attrs = attrs != NULL ? attrs : &no_attrs;
    gd_meta_t meta[GD_MAX_OUT];
    gd_tensor_t *outs[GD_MAX_OUT] = {out};
    status_t status = inputs_check(op, in, n_in);
    if (status == ST_OK) {
        status = op->infer(in, n_in, attrs, meta);
    }
    if (status != ST_OK) {
        return status;
    }
    if (op->is_view) {
        return ST_FAIL(ST_ERR_INVAL, "%s: a view can't be computed into a tensor", op->name);
    }
    if (!out->is_contiguous || out->dtype != meta[0].dtype ||
        !gd_shape_equal(out->n_dims, out->shape, meta[0].n_dims, meta[0].shape)) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, op->name, out, NULL,
                                 "the given output has another shape or dtype than the result, or isn't contiguous");
    }
    int n_made = 1;
    while (n_made < op->n_out && status == ST_OK) {
        status = gd_tensor_new_meta(&meta[n_made], &outs[n_made]);
        n_made += status == ST_OK;
    }
    if (status == ST_OK) {
        status = kernel_run(id, op, in, n_in, attrs, outs);
        out->storage->version++;
    }
    while (n_made > 1) {
        (void)gd_tensor_unref(outs[--n_made]);
    }
    return status;
}
