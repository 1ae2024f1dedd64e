/* SPDX-License-Identifier: Apache-2.0 */
/* compose: expressions of ops. */
#include "ops/compose.h"

#include "base/assert.h"

gd_tensor_t *compose_take(compose_t *c, status_t status, gd_tensor_t *t)
{
    if (c->status != ST_OK) {
        return NULL;
    }
    if (status != ST_OK) {
        c->status = status;
        return NULL;
    }
    ASSERT(c->n_made < COMPOSE_MAX);
    c->made[c->n_made++] = t;
    return t;
}

gd_tensor_t *compose_op(compose_t *c, gd_op_id_t id, gd_tensor_t *const *in, int n_in, const gd_attrs_t *attrs)
{
    gd_tensor_t *out[GD_MAX_OUT] = {NULL};
    if (c->status != ST_OK) {
        return NULL;
    }
    status_t status = gd_op_apply(id, in, n_in, attrs, out);
    for (int i = 1; i < GD_MAX_OUT; i++) {
        (void)gd_tensor_unref(out[i]);
    }
    return compose_take(c, status, out[0]);
}

gd_tensor_t *compose_unary(compose_t *c, gd_op_id_t id, gd_tensor_t *x)
{
    return compose_op(c, id, &x, 1, NULL);
}

gd_tensor_t *compose_binary(compose_t *c, gd_op_id_t id, gd_tensor_t *a, gd_tensor_t *b)
{
    gd_tensor_t *in[2] = {a, b};
    return compose_op(c, id, in, 2, NULL);
}

gd_tensor_t *compose_scale(compose_t *c, gd_tensor_t *x, double factor, double offset)
{
    const gd_attrs_t attrs = {.f = {factor, offset}};
    return compose_op(c, GD_OP_SCALE, &x, 1, &attrs);
}

gd_tensor_t *compose_cast(compose_t *c, gd_tensor_t *x, gd_dtype_t dtype)
{
    gd_tensor_t *y = NULL;
    if (c->status != ST_OK || x->dtype == dtype) {
        return x;
    }
    status_t status = gd_cast(x, dtype, &y);
    return compose_take(c, status, y);
}

gd_tensor_t *compose_number(compose_t *c, const gd_tensor_t *like, double value)
{
    gd_tensor_t *t = NULL;
    if (c->status != ST_OK) {
        return NULL;
    }
    status_t status = gd_tensor_scalar(like->dtype, value, &t);
    return compose_take(c, status, t);
}

gd_tensor_t *compose_where(compose_t *c, gd_tensor_t *condition, gd_tensor_t *a, gd_tensor_t *b)
{
    gd_tensor_t *in[3] = {a, b, condition};
    return compose_op(c, GD_OP_WHERE, in, 3, NULL);
}

static status_t compose_release(compose_t *c)
{
    while (c->n_made > 0) {
        (void)gd_tensor_unref(c->made[--c->n_made]);
    }
    return c->status;
}

status_t compose_finish(compose_t *c, gd_tensor_t *y, gd_tensor_t **y_p)
{
    if (c->status == ST_OK) {
        *y_p = gd_tensor_ref(y);
    }
    return compose_release(c);
}

status_t compose_finish_gradient(compose_t *c, gd_tensor_t *y, gd_node_t *node, int i, gd_tensor_t **dx)
{
    if (c->status == ST_OK) {
        c->status = gd_sum_to(node, i, y, &dx[i]);
    }
    return compose_release(c);
}
