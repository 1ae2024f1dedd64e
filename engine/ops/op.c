/* SPDX-License-Identifier: Apache-2.0 */
/* op: the table of rows, and dispatch: check, infer, allocate, compute, record. */
#include "gradd/op.h"

#include <string.h>

#include "autograd/anomaly.h"
#include "cpu/cpu.h"
#include "cpu/onednn.h"
#include "ops/autocast.h"
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

status_t gd_op_check_given(const char *op, const gd_tensor_t *x, int index)
{
    return x != NULL ? ST_OK : ST_FAIL(ST_ERR_INVAL, "%s: input %d is missing", op, index);
}

status_t gd_op_check_axis(const char *op, const gd_tensor_t *x, int64_t *axis)
{
    if (x == NULL) {
        return gd_op_check_given(op, x, 0);
    }
    if (*axis < -x->n_dims || *axis >= x->n_dims) {
        return ST_FAIL(ST_ERR_RANGE, "%s: axis %lld of a tensor with %d dimensions", op, (long long)*axis, x->n_dims);
    }
    *axis += *axis < 0 ? x->n_dims : 0;
    return ST_OK;
}

status_t gd_op_set_axes(const char *op, const gd_tensor_t *x, int n_axes, const int *axes, bool keep_dims,
                        gd_attrs_t *attrs)
{
    if (x == NULL) {
        return gd_op_check_given(op, x, 0);
    }
    if (n_axes < 0) {
        return ST_FAIL(ST_ERR_RANGE, "%s: %d axes", op, n_axes);
    }
    if (n_axes > 0 && axes == NULL) {
        return ST_FAIL(ST_ERR_INVAL, "%s: the %d axes are missing", op, n_axes);
    }
    attrs->i[0] = n_axes == 0 ? ((int64_t)1 << x->n_dims) - 1 : 0;
    attrs->i[1] = keep_dims;
    for (int i = 0; i < n_axes; i++) {
        int64_t axis = axes[i];
        status_t status = gd_op_check_axis(op, x, &axis);
        if (status != ST_OK) {
            return status;
        }
        if ((attrs->i[0] >> axis & 1) != 0) {
            return ST_FAIL(ST_ERR_INVAL, "%s: axis %lld is given twice", op, (long long)axis);
        }
        attrs->i[0] |= (int64_t)1 << axis;
    }
    return ST_OK;
}

static gd_dtype_t common_dtype(const gd_tensor_t *const *in, int n_in)
{
    gd_dtype_t dtypes[GD_MAX_IN];
    int n_dims[GD_MAX_IN];
    int n = 0;
    for (int i = 0; i < n_in; i++) {
        if (in[i] != NULL) {
            dtypes[n] = in[i]->dtype;
            n_dims[n++] = in[i]->n_dims;
        }
    }
    return gd_dtype_result(dtypes, n_dims, n);
}

status_t gd_meta_broadcast(const char *op, const gd_tensor_t *a, const gd_tensor_t *b, gd_meta_t *meta_p)
{
    int n_dims = a->n_dims > b->n_dims ? a->n_dims : b->n_dims;
    meta_p->dtype = a->dtype == b->dtype ? a->dtype : common_dtype((const gd_tensor_t *const[]){a, b}, 2);
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
            return gd_op_check_given(op->name, in[i], i);
        }
    }
    unsigned dtypes = op->dtypes != 0 ? op->dtypes : DTYPES_DEFAULT;
    if (n_in > 0) {
        gd_dtype_t dtype = op->promotes ? common_dtype((const gd_tensor_t *const *)in, n_in) : in[0]->dtype;
        if ((dtypes >> dtype & 1u) == 0) {
            return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: no kernel for %s on the cpu", op->name, gd_dtype_name(dtype));
        }
    }
    return ST_OK;
}

/* A kernel's arguments, with the tensors that stand in for inputs and outputs that it doesn't take as they are. */
typedef struct call {
    gd_view_t in[GD_MAX_IN];
    gd_view_t out[GD_MAX_OUT];
    gd_tensor_t *in_copy[GD_MAX_IN];
    gd_tensor_t *out_copy[GD_MAX_OUT];
} call_t;

static bool is_converted(const gd_op_t *op, gd_dtype_t dtype)
{
    return (op->by_conversion >> dtype & 1u) != 0 &&
           !(dtype == GD_DTYPE_BF16 && op->has_bf16_products && gd_onednn_has_bf16());
}

/* Inputs that the kernel wants contiguous, or in f32, are copied. */
static status_t call_set_inputs(call_t *call, const gd_op_t *op, gd_tensor_t *const *in, int n_in)
{
    for (int i = 0; i < op->n_in; i++) {
        if (i >= n_in || in[i] == NULL) {
            call->in[i].data = NULL;
            call->in[i].n_dims = 0;
            continue;
        }
        const gd_tensor_t *t = in[i];
        const bool is_wide = is_converted(op, t->dtype);
        if (is_wide || ((op->contiguous_in >> i & 1u) != 0 && !t->is_contiguous)) {
            status_t status = gd_tensor_new(is_wide ? GD_DTYPE_F32 : t->dtype, t->n_dims, t->shape, &call->in_copy[i]);
            if (status == ST_OK) {
                status = gd_tensor_copy(call->in_copy[i], t);
            }
            if (status != ST_OK) {
                return status;
            }
            t = call->in_copy[i];
        }
        gd_tensor_get_view(t, &call->in[i]);
    }
    return ST_OK;
}

/* has_content: the first output may be added to. */
static status_t call_set_outputs(call_t *call, const gd_op_t *op, gd_tensor_t *const *out, bool has_content)
{
    for (int i = 0; i < op->n_out; i++) {
        gd_tensor_t *t = out[i];
        if (is_converted(op, t->dtype)) {
            status_t status = gd_tensor_new(GD_DTYPE_F32, t->n_dims, t->shape, &call->out_copy[i]);
            if (status == ST_OK && has_content && i == 0) {
                status = gd_tensor_copy(call->out_copy[i], t);
            }
            if (status != ST_OK) {
                return status;
            }
            t = call->out_copy[i];
        }
        gd_tensor_get_view(t, &call->out[i]);
    }
    return ST_OK;
}

/* Runs the kernel of a non-view op. */
static status_t kernel_run(gd_op_id_t id, const gd_op_t *op, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs,
                           gd_tensor_t *const *out, bool has_content)
{
    gd_kernel_func_t kernel = gd_cpu_kernel(id);
    if (kernel == NULL) {
        return ST_FAIL(ST_ERR_UNSUPPORTED, "%s: no kernel on the cpu", op->name);
    }
    call_t call;
    memset(call.in_copy, 0, sizeof(call.in_copy));
    memset(call.out_copy, 0, sizeof(call.out_copy));
    status_t status = call_set_inputs(&call, op, in, n_in);
    if (status == ST_OK) {
        status = call_set_outputs(&call, op, out, has_content);
    }
    if (status == ST_OK) {
        const gd_kernel_args_t args = {.in = call.in,
                                       .n_in = op->n_in,
                                       .out = call.out,
                                       .n_out = op->n_out,
                                       .attrs = attrs,
                                       .n_threads = gd_context_get()->n_threads};
        status = kernel(&args);
    }
    for (int i = 0; i < op->n_out; i++) {
        if (call.out_copy[i] != NULL) {
            status = status == ST_OK ? gd_tensor_copy(out[i], call.out_copy[i]) : status;
            out[i]->storage->version = has_content ? out[i]->storage->version : 0;
            (void)gd_tensor_unref(call.out_copy[i]);
        }
    }
    for (int i = 0; i < op->n_in; i++) {
        (void)gd_tensor_unref(call.in_copy[i]);
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

/* Whether a tensor may be what the meta says. */
static bool output_fits(const gd_tensor_t *out, const gd_meta_t *meta)
{
    return out->is_contiguous && out->dtype == meta->dtype &&
           gd_shape_equal(out->n_dims, out->shape, meta->n_dims, meta->shape);
}

/*
 * Whether the first output may lie where an input does: it has its memory to itself, all of it, and nobody looks at its
 * values again, neither backward nor anomaly mode.
 */
static bool input_is_free(const gd_op_t *op, gd_tensor_t *const *in, int n_in, const gd_tensor_t *t)
{
    return gd_tensor_is_spare(t) && gd_context_get()->anomaly == NULL &&
           t->storage->size_bytes == (size_t)t->numel * gd_dtype_size(t->dtype) &&
           ((op->saves & GD_SAVE_INPUTS) == 0 || !is_recorded(in, n_in));
}

static status_t outputs_new(const gd_op_t *op, gd_tensor_t *const *in, int n_in, const gd_tensor_t *spare,
                            const gd_meta_t *meta, gd_tensor_t **out)
{
    status_t status = ST_OK;
    for (int i = 0; i < op->n_out && status == ST_OK; i++) {
        if (op->is_view) {
            status = gd_tensor_new_view(in[0], &meta[i], &out[i]);
        } else if (i == 0 && spare != NULL && output_fits(spare, &meta[0]) && input_is_free(op, in, n_in, spare)) {
            status = gd_tensor_new_alias(spare, &out[0]);
        } else {
            status = gd_tensor_new_meta(&meta[i], &out[i]);
        }
    }
    return status;
}

/* spare: an input, or NULL. */
static status_t op_apply(gd_op_id_t id, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs,
                         const gd_tensor_t *spare, gd_tensor_t **out_p)
{
    const gd_op_t *op = rows[id];
    gd_meta_t meta[GD_MAX_OUT];
    gd_tensor_t *out[GD_MAX_OUT] = {NULL};
    status_t status = inputs_check(op, in, n_in);
    if (status == ST_OK) {
        status = op->infer(in, n_in, attrs, meta);
    }
    if (status != ST_OK) {
        return status;
    }
    status = outputs_new(op, in, n_in, spare, meta, out);
    if (status != ST_OK) {
        goto err_free_outputs;
    }
    if (!op->is_view) {
        status = kernel_run(id, op, in, n_in, attrs, out, false);
        if (__builtin_expect(gd_context_get()->anomaly != NULL, 0) && status == ST_OK) {
            status = tape_anomaly_forward(op, in, n_in, attrs, out[0]);
        }
        if (status != ST_OK) {
            goto err_free_outputs;
        }
    }
    if (op->is_view) {
        tape_view_begin(out[0], in[0]);
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

status_t gd_op_apply_reusing(gd_op_id_t id, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs,
                             const gd_tensor_t *spare, gd_tensor_t **out_p)
{
    attrs = attrs != NULL ? attrs : &no_attrs;
    if (__builtin_expect((unsigned)id >= GD_OP_COUNT, 0)) {
        return ST_FAIL(ST_ERR_INVAL, "%d is no op", (int)id);
    }
    const gd_dtype_t lower = gd_context_get()->autocast;
    if (__builtin_expect(n_in > GD_MAX_IN || !gd_autocast_is_needed(lower, rows[id], in, n_in), 1)) {
        return op_apply(id, in, n_in, attrs, spare, out_p);
    }
    gd_tensor_t *cast[GD_MAX_IN];
    unsigned made = 0;
    status_t status = gd_autocast_inputs(lower, rows[id], in, n_in, cast, &made);
    if (status == ST_OK) {
        status = op_apply(id, cast, n_in, attrs, spare, out_p);
        gd_autocast_release(cast, made);
    }
    return status;
}

status_t gd_op_apply(gd_op_id_t id, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_tensor_t **out_p)
{
    return gd_op_apply_reusing(id, in, n_in, attrs, NULL, out_p);
}

status_t gd_op_apply_outputs(gd_op_id_t id, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs,
                             gd_tensor_t **out_p)
{
    const gd_op_t *op = rows[id];
    attrs = attrs != NULL ? attrs : &no_attrs;
    gd_meta_t meta[GD_MAX_OUT];
    gd_tensor_t *outs[GD_MAX_OUT] = {NULL};
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
    for (int i = 0; i < op->n_out && status == ST_OK; i++) {
        outs[i] = out_p[i];
        if (out_p[i] == NULL) {
            status = gd_tensor_new_meta(&meta[i], &outs[i]);
        } else if (!output_fits(out_p[i], &meta[i])) {
            status =
                gd_op_fail_shapes(ST_ERR_SHAPE, op->name, out_p[i], NULL,
                                  "the given output has another shape or dtype than the result, or isn't contiguous");
        }
    }
    if (status == ST_OK) {
        status = kernel_run(id, op, in, n_in, attrs, outs, true);
    }
    for (int i = 0; i < op->n_out; i++) {
        if (out_p[i] != NULL) {
            gd_tensor_mark_changed(out_p[i], op->name);
        } else if (status == ST_OK) {
            out_p[i] = outs[i];
        } else {
            (void)gd_tensor_unref(outs[i]);
        }
    }
    return status;
}

status_t gd_op_apply_into(gd_op_id_t id, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs, gd_tensor_t *out)
{
    gd_tensor_t *outs[GD_MAX_OUT] = {out};
    status_t status = gd_op_apply_outputs(id, in, n_in, attrs, outs);
    for (int i = 1; i < rows[id]->n_out && status == ST_OK; i++) {
        (void)gd_tensor_unref(outs[i]);
    }
    return status;
}
