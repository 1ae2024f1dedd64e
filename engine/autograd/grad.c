/* SPDX-License-Identifier: Apache-2.0 */
/* grad: the gradient side of a tensor. */
#include "autograd/node.h"

status_t gd_tensor_set_requires_grad(gd_tensor_t *t, bool requires_grad)
{
    if (t->node != NULL) {
        return ST_FAIL(ST_ERR_STATE, "requires_grad can be set for leaves only; this is the result of %s",
                       t->node->base.op->name);
    }
    if (requires_grad && !gd_dtype_is_float(t->dtype)) {
        return ST_FAIL(ST_ERR_DTYPE, "a tensor of %s can't require a gradient", gd_dtype_name(t->dtype));
    }
    t->requires_grad = requires_grad;
    return ST_OK;
}

bool gd_tensor_requires_grad(const gd_tensor_t *t)
{
    return gd_tensor_tracks(t);
}

bool gd_tensor_is_leaf(const gd_tensor_t *t)
{
    return t->node == NULL;
}

gd_tensor_t *gd_tensor_grad(const gd_tensor_t *t)
{
    return t->grad;
}

status_t gd_tensor_set_grad(gd_tensor_t *t, gd_tensor_t *grad, bool is_fresh)
{
    if (grad != NULL) {
        if (grad->dtype != t->dtype || !gd_shape_equal(grad->n_dims, grad->shape, t->n_dims, t->shape)) {
            strbuf_t text = {0};
            gd_shape_format(t->n_dims, t->shape, &text);
            strbuf_appendf(&text, " %s takes no gradient ", gd_dtype_name(t->dtype));
            gd_shape_format(grad->n_dims, grad->shape, &text);
            status_t status = ST_FAIL(ST_ERR_SHAPE, "a tensor %s %s", strbuf_text(&text), gd_dtype_name(grad->dtype));
            strbuf_release(&text);
            return status;
        }
        if (grad->grad != NULL || grad->node != NULL || grad == t) {
            return ST_FAIL(ST_ERR_STATE, "a gradient buffer must be a leaf without a gradient of its own");
        }
        (void)gd_tensor_ref(grad);
    }
    (void)gd_tensor_unref(t->grad);
    t->grad = grad;
    t->is_grad_fresh = grad != NULL && is_fresh;
    return ST_OK;
}

bool gd_tensor_grad_is_fresh(const gd_tensor_t *t)
{
    return t->is_grad_fresh;
}

void gd_tensor_zero_grad(gd_tensor_t *t)
{
    if (t->grad != NULL) {
        (void)gd_tensor_fill(t->grad, 0.0);
        t->is_grad_fresh = false;
    }
}

status_t gd_detach(gd_tensor_t *x, gd_tensor_t **y_p)
{
    return gd_tensor_new_alias(x, y_p);
}
