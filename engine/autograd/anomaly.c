/* SPDX-License-Identifier: Apache-2.0 */
/*
 * anomaly: names the first op that makes a NaN or an infinity.
 *
 * Note [Infinities on purpose]: masks are minus infinity. So an op may give minus infinity where an input or an
 * attribute of it is that already, and plus infinity where an attribute is; anything else that isn't finite is
 * reported. In gradients every such value is.
 */
#include "autograd/anomaly.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "gradd/place.h"

enum { FOUND_NAN = 1, FOUND_PLUS = 2, FOUND_MINUS = 4 };
enum { MESSAGE_SIZE = 1536, SCAN_BLOCK = 4096 };

struct tape_anomaly {
    const tape_scope_t *scope;
    const tape_node_t *node;    /* whose backward runs */
    char message[MESSAGE_SIZE]; /* of the first failure since gd_anomaly_check; "" when none */
};

static _Thread_local const char *thread_place;

void gd_place_set(const char *place)
{
    thread_place = place;
}

status_t gd_place_leave(status_t status)
{
    thread_place = NULL;
    return status;
}

bool gd_anomaly_set(bool is_enabled)
{
    gd_context_t *context = gd_context_get();
    bool before = context->anomaly != NULL;
    if (is_enabled && !before) {
        context->anomaly = mem_zalloc(sizeof(*context->anomaly));
    } else if (!is_enabled) {
        tape_anomaly_free(context->anomaly);
        context->anomaly = NULL;
    }
    return before;
}

bool gd_anomaly_is_on(void)
{
    return gd_context_get()->anomaly != NULL;
}

status_t gd_anomaly_check(void)
{
    struct tape_anomaly *anomaly = gd_context_get()->anomaly;
    if (anomaly == NULL || anomaly->message[0] == '\0') {
        return ST_OK;
    }
    status_t status = ST_FAIL(ST_ERR_NONFINITE, "%s", anomaly->message);
    anomaly->message[0] = '\0';
    return status;
}

void tape_anomaly_free(struct tape_anomaly *anomaly)
{
    mem_free(anomaly);
}

const tape_scope_t *tape_scope_set(const tape_scope_t *scope)
{
    struct tape_anomaly *anomaly = gd_context_get()->anomaly;
    if (anomaly == NULL) {
        return NULL;
    }
    const tape_scope_t *before = anomaly->scope;
    anomaly->scope = scope;
    return before;
}

void tape_anomaly_enter(const tape_node_t *node)
{
    struct tape_anomaly *anomaly = gd_context_get()->anomaly;
    if (anomaly != NULL) {
        anomaly->node = node;
    }
}

/* ---- looking for values ---- */

static unsigned value_kind(double value)
{
    return isnan(value) ? FOUND_NAN : isinf(value) ? (value > 0 ? FOUND_PLUS : FOUND_MINUS) : 0;
}

static float half_to_float(uint16_t bits)
{
    int exponent = bits >> 10 & 31;
    int fraction = bits & 1023;
    float sign = (bits & 0x8000) != 0 ? -1.0F : 1.0F;
    if (exponent == 31) {
        return fraction != 0 ? NAN : sign * INFINITY;
    }
    return sign; /* some finite number: that is all that is asked */
}

/* Whether the value is finite, as double; exact only where it isn't. */
static double element_get(gd_dtype_t dtype, const void *data, int64_t i)
{
    switch (dtype) {
    case GD_DTYPE_F32:
        return (double)((const float *)data)[i];
    case GD_DTYPE_F64:
        return ((const double *)data)[i];
    case GD_DTYPE_F16:
        return (double)half_to_float(((const uint16_t *)data)[i]);
    case GD_DTYPE_BF16: {
        uint32_t bits = (uint32_t)((const uint16_t *)data)[i] << 16;
        float value;
        memcpy(&value, &bits, sizeof(value));
        return (double)value;
    }
    default:
        return 0;
    }
}

/* x - x is 0 for finite numbers and NaN otherwise; a sum of such over a block shows whether it is worth a closer look.
 */
static bool block_is_finite(const float *x, int64_t n)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += x[i] - x[i];
    }
    return sum == 0;
}

/* Kinds found in t, and the index (row-major) of the first value that is of one of `wanted`. */
static unsigned tensor_scan(const gd_tensor_t *t, unsigned wanted, int64_t *index_p)
{
    unsigned found = 0;
    const void *data = gd_tensor_data(t);
    int64_t at[GD_MAX_DIMS] = {0};
    int64_t offset = 0;
    if (!gd_dtype_is_float(t->dtype)) {
        return 0;
    }
    for (int64_t i = 0; i < t->numel; i++) {
        if (t->is_contiguous && t->dtype == GD_DTYPE_F32 && i % SCAN_BLOCK == 0) {
            int64_t n = t->numel - i < SCAN_BLOCK ? t->numel - i : SCAN_BLOCK;
            if (block_is_finite((const float *)data + i, n)) {
                i += n - 1;
                continue;
            }
        }
        unsigned kind = value_kind(element_get(t->dtype, data, t->is_contiguous ? i : offset));
        if ((kind & wanted) != 0 && (found & wanted) == 0) {
            *index_p = i;
        }
        found |= kind;
        for (int d = t->n_dims - 1; d >= 0 && !t->is_contiguous; d--) {
            offset += t->stride[d];
            if (++at[d] < t->shape[d]) {
                break;
            }
            offset -= at[d] * t->stride[d];
            at[d] = 0;
        }
    }
    return found;
}

/* ---- messages ---- */

static void format_value(strbuf_t *text, unsigned found, int64_t index)
{
    strbuf_appendf(text, "%s at element %lld",
                   (found & FOUND_NAN) != 0    ? "nan"
                   : (found & FOUND_PLUS) != 0 ? "inf"
                                               : "-inf",
                   (long long)index);
}

static void format_shapes(strbuf_t *text, const gd_meta_t *meta, int n, unsigned absent)
{
    for (int i = 0; i < n; i++) {
        strbuf_append(text, i > 0 ? ", " : "");
        if ((absent >> i & 1u) != 0) {
            strbuf_append(text, "none");
        } else {
            gd_shape_format(meta[i].n_dims, meta[i].shape, text);
        }
    }
}

static void format_step(strbuf_t *text)
{
    const gd_context_t *context = gd_context_get();
    strbuf_appendf(text, "step %llu, microbatch %u: ", (unsigned long long)context->rng_step + 1,
                   context->rng_microbatch);
}

/* to: NULL with a size of 0 for the length alone, which is returned. */
static size_t origin_write(char *to, size_t size)
{
    const tape_scope_t *scope = gd_context_get()->anomaly->scope;
    const bool has_place = scope != NULL && scope->place != NULL;
    const char *path = scope == NULL ? "outside of modules" : scope->path[0] != '\0' ? scope->path : "model";
    return (size_t)snprintf(to, size, "%s%s%s%s%s%s%s%s%s", scope != NULL ? "in " : "", path, scope != NULL ? " (" : "",
                            scope != NULL ? scope->kind : "", scope != NULL ? ")" : "", has_place ? " at " : "",
                            has_place ? scope->place : "", thread_place != NULL ? ", called at " : "",
                            thread_place != NULL ? thread_place : "");
}

static status_t anomaly_fail(strbuf_t *text)
{
    struct tape_anomaly *anomaly = gd_context_get()->anomaly;
    if (anomaly->message[0] == '\0') {
        (void)snprintf(anomaly->message, sizeof(anomaly->message), "%s", strbuf_text(text));
    }
    status_t status = ST_FAIL(ST_ERR_NONFINITE, "%s", strbuf_text(text));
    strbuf_release(text);
    return status;
}

char *tape_anomaly_origin(void)
{
    if (gd_context_get()->anomaly == NULL) {
        return NULL;
    }
    const size_t size = origin_write(NULL, 0) + 1;
    char *origin = gd_pool_alloc(gd_context_pool(), size);
    if (origin != NULL) {
        (void)origin_write(origin, size);
    }
    return origin;
}

/* ---- checks ---- */

static unsigned attrs_kinds(const gd_attrs_t *attrs)
{
    unsigned kinds = 0;
    for (int i = 0; i < GD_MAX_ATTR_FLOAT; i++) {
        kinds |= value_kind(attrs->f[i]);
    }
    return kinds;
}

status_t tape_anomaly_forward(const gd_op_t *op, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs,
                              const gd_tensor_t *out)
{
    int64_t index = 0;
    const unsigned all = FOUND_NAN | FOUND_PLUS | FOUND_MINUS;
    if (gd_context_get()->anomaly->node != NULL || tensor_scan(out, all, &index) == 0) {
        return ST_OK;
    }
    unsigned absent = 0;
    unsigned allowed = attrs_kinds(attrs) & (FOUND_PLUS | FOUND_MINUS); /* Note [Infinities on purpose] */
    gd_meta_t meta[GD_MAX_IN];
    strbuf_t before = {0};
    for (int i = 0; i < n_in; i++) {
        int64_t at = 0;
        if (in[i] == NULL) {
            absent |= 1u << i;
            continue;
        }
        gd_meta_like(in[i], &meta[i]);
        unsigned found = tensor_scan(in[i], all, &at);
        allowed |= found & FOUND_MINUS;
        if (found != 0) {
            strbuf_appendf(&before, "; input %d had ", i);
            format_value(&before, found, at);
            strbuf_append(&before, " before");
        }
    }
    unsigned found = tensor_scan(out, all & ~allowed, &index) & ~allowed;
    status_t status = ST_OK;
    if (found != 0) {
        strbuf_t text = {0};
        format_step(&text);
        strbuf_appendf(&text, "forward of %s made ", op->name);
        format_value(&text, found, index);
        strbuf_append(&text, " of its output ");
        gd_shape_format(out->n_dims, out->shape, &text);
        strbuf_append(&text, ", inputs ");
        format_shapes(&text, meta, n_in, absent);
        strbuf_append(&text, "; ");
        char *origin = tape_anomaly_origin();
        strbuf_append(&text, origin != NULL ? origin : "");
        gd_pool_free(gd_context_pool(), origin);
        strbuf_append(&text, strbuf_text(&before));
        status = anomaly_fail(&text);
    }
    strbuf_release(&before);
    return status;
}

status_t tape_anomaly_backward(const tape_node_t *node, const gd_tensor_t *dy, gd_tensor_t *const *dx)
{
    const unsigned all = FOUND_NAN | FOUND_PLUS | FOUND_MINUS;
    for (int i = 0; i < node->base.n_in; i++) {
        const gd_tensor_t *gradient = node->base.is_written[i] ? node->base.into[i] : dx[i];
        int64_t index = 0;
        unsigned found = gradient != NULL ? tensor_scan(gradient, all, &index) : 0;
        if (found == 0) {
            continue;
        }
        unsigned absent = 0;
        for (int k = 0; k < node->base.n_in; k++) {
            absent |= node->producer[k] == NULL && node->leaf[k] == NULL && node->base.in[k] == NULL &&
                              node->base.in_meta[k].n_dims == 0
                          ? 1u << k
                          : 0;
        }
        strbuf_t text = {0};
        format_step(&text);
        strbuf_appendf(&text, "backward of %s made ", node->base.op->name);
        format_value(&text, found, index);
        strbuf_appendf(&text, " of the gradient of input %d, inputs ", i);
        format_shapes(&text, node->base.in_meta, node->base.n_in, absent);
        strbuf_append(&text, ", output ");
        gd_shape_format(dy->n_dims, dy->shape, &text);
        strbuf_appendf(&text, "; its forward was %s", node->origin != NULL ? node->origin : "before anomaly mode");
        found = tensor_scan(dy, all, &index);
        if (found != 0) {
            strbuf_append(&text, "; the output's gradient had ");
            format_value(&text, found, index);
            strbuf_append(&text, " before");
        }
        return anomaly_fail(&text);
    }
    return ST_OK;
}
