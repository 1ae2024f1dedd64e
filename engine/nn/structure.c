/* SPDX-License-Identifier: Apache-2.0 */
/* structure: how layers are put together (residual, parallel) and what changes shapes between them. */
#include <string.h>

#include "gradd/nn.h"
#include "nn/fail.h"
#include "tensor/internal.h"

/* x through children[from … to). */
static status_t chain_forward(const gd_module_t *self, int from, int to, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_tensor_t *y = gd_tensor_ref(x);
    for (int i = from; i < to; i++) {
        gd_tensor_t *next = NULL;
        status_t status = gd_module_forward_last(self->children[i], y, &next);
        (void)gd_tensor_unref(y);
        if (status != ST_OK) {
            return status;
        }
        y = next;
    }
    *y_p = y;
    return ST_OK;
}

/* ---- residual ---- */

typedef struct residual {
    gd_module_t base;
    int n_branch; /* children of the branch, the shortcut's come after them; -1: all */
} residual_t;

static bool shapes_are_equal(const gd_tensor_t *a, const gd_tensor_t *b)
{
    if (gd_tensor_n_dims(a) != gd_tensor_n_dims(b)) {
        return false;
    }
    for (int d = 0; d < gd_tensor_n_dims(a); d++) {
        if (gd_tensor_dim(a, d) != gd_tensor_dim(b, d)) {
            return false;
        }
    }
    return true;
}

static status_t residual_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const int n_branch = ((const residual_t *)self)->n_branch;
    const int end = n_branch < 0 ? self->n_children : n_branch;
    gd_tensor_t *branch = NULL;
    gd_tensor_t *shortcut = NULL;
    status_t status = chain_forward(self, 0, end, x, &branch);
    if (status == ST_OK) {
        status = chain_forward(self, end, self->n_children, x, &shortcut);
    }
    if (status == ST_OK && shapes_are_equal(shortcut, branch)) {
        status = gd_add_last(shortcut, branch, y_p);
    } else if (status == ST_OK) {
        strbuf_t text = {0};
        gd_tensor_format_shape(shortcut, &text);
        strbuf_append(&text, " and its layers give ");
        gd_tensor_format_shape(branch, &text);
        status =
            ST_FAIL(ST_ERR_SHAPE, "%s %s", end < self->n_children ? "its shortcut gives" : "x is", strbuf_text(&text));
        strbuf_release(&text);
    }
    (void)gd_tensor_unref(shortcut);
    (void)gd_tensor_unref(branch);
    return status;
}

static const gd_module_ops_t residual_ops = {.kind = "residual", .forward = residual_forward};

status_t gd_residual_new(gd_module_t **module_p)
{
    status_t status = gd_module_new(&residual_ops, sizeof(residual_t), module_p);
    if (status == ST_OK) {
        ((residual_t *)*module_p)->n_branch = -1;
    }
    return status;
}

void gd_residual_begin_shortcut(gd_module_t *residual)
{
    ((residual_t *)residual)->n_branch = residual->n_children;
}

/* ---- parallel ---- */

typedef struct parallel {
    gd_module_t base;
    gd_combine_t combine;
    int axis;
} parallel_t;

/* All branches on x, side by side along the axis. */
static status_t branches_cat(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const size_t size = ((size_t)self->n_children + 1) * sizeof(gd_tensor_t *);
    gd_tensor_t **branch = gd_pool_alloc(gd_context_pool(), size);
    if (branch == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%d branches", self->n_children);
    }
    memset(branch, 0, size);
    status_t status = self->n_children > 0 ? ST_OK : ST_FAIL(ST_ERR_STATE, "no branches");
    for (int i = 0; i < self->n_children && status == ST_OK; i++) {
        status = gd_module_forward(self->children[i], x, &branch[i]);
    }
    if (status == ST_OK) {
        status = gd_cat(branch, self->n_children, ((const parallel_t *)self)->axis, y_p);
    }
    for (int i = 0; i < self->n_children; i++) {
        (void)gd_tensor_unref(branch[i]);
    }
    gd_pool_free(gd_context_pool(), branch);
    return status;
}

static status_t parallel_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const gd_combine_t combine = ((const parallel_t *)self)->combine;
    gd_tensor_t *total = NULL;
    if (combine == GD_COMBINE_CAT) {
        return branches_cat(self, x, y_p);
    }
    for (int i = 0; i < self->n_children; i++) {
        gd_tensor_t *branch = NULL;
        gd_tensor_t *sum = NULL;
        status_t status = gd_module_forward(self->children[i], x, &branch);
        if (status == ST_OK && total != NULL) {
            status = combine == GD_COMBINE_ADD ? gd_add_last(total, branch, &sum) : gd_mul(total, branch, &sum);
            (void)gd_tensor_unref(branch);
        } else {
            sum = branch;
        }
        (void)gd_tensor_unref(total);
        if (status != ST_OK) {
            return status;
        }
        total = sum;
    }
    *y_p = total;
    return ST_OK;
}

static const gd_module_ops_t parallel_ops = {.kind = "parallel", .forward = parallel_forward};

status_t gd_parallel_new(gd_combine_t combine, int axis, gd_module_t **module_p)
{
    if ((unsigned)combine >= GD_COMBINE_COUNT || axis < 0 || axis >= GD_MAX_DIMS) {
        return ST_FAIL(ST_ERR_INVAL, "parallel: combination %d along axis %d", (int)combine, axis);
    }
    status_t status = gd_module_new(&parallel_ops, sizeof(parallel_t), module_p);
    if (status == ST_OK) {
        ((parallel_t *)*module_p)->combine = combine;
        ((parallel_t *)*module_p)->axis = axis;
    }
    return status;
}

/* ---- shapes ---- */

static status_t plain_new(const gd_module_ops_t *ops, gd_module_t **module_p)
{
    return gd_module_new(ops, sizeof(gd_module_t), module_p);
}

static status_t identity_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    (void)self;
    *y_p = gd_tensor_ref(x);
    return ST_OK;
}

static const gd_module_ops_t identity_ops = {.kind = "identity", .forward = identity_forward};

status_t gd_identity_new(gd_module_t **module_p)
{
    return plain_new(&identity_ops, module_p);
}

typedef struct shaper {
    gd_module_t base;
    int n;
    int64_t value[GD_MAX_DIMS];
} shaper_t;

static status_t shaper_new(const gd_module_ops_t *ops, int n, const int64_t *values, gd_module_t **module_p)
{
    gd_module_t *module = NULL;
    status_t status = gd_module_new(ops, sizeof(shaper_t), &module);
    if (status != ST_OK) {
        return status;
    }
    shaper_t *shaper = (shaper_t *)module;
    shaper->n = n;
    memcpy(shaper->value, values, (size_t)n * sizeof(*values));
    *module_p = module;
    return ST_OK;
}

static void shaper_describe(const gd_module_t *self, strbuf_t *text)
{
    const shaper_t *shaper = (const shaper_t *)self;
    for (int i = 0; i < shaper->n; i++) {
        strbuf_appendf(text, "%s%lld", i > 0 ? ", " : "", (long long)shaper->value[i]);
    }
}

static status_t select_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    int64_t index = ((const shaper_t *)self)->value[0];
    if (gd_tensor_n_dims(x) < 2) {
        return module_fail_shape(x, ", not [B, T, …]");
    }
    int64_t count = gd_tensor_dim(x, 1);
    int64_t at = index < 0 ? index + count : index;
    if (at < 0 || at >= count) {
        return ST_FAIL(ST_ERR_RANGE, "index %lld of %lld tokens", (long long)index, (long long)count);
    }
    gd_tensor_t *one = NULL;
    status_t status = gd_slice(x, 1, at, at + 1, 1, &one);
    if (status == ST_OK) {
        status = gd_squeeze(one, 1, y_p);
    }
    (void)gd_tensor_unref(one);
    return status;
}

static const gd_module_ops_t select_ops = {.kind = "select", .forward = select_forward, .describe = shaper_describe};

status_t gd_select_new(int64_t index, gd_module_t **module_p)
{
    return shaper_new(&select_ops, 1, &index, module_p);
}

static status_t mean_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const shaper_t *shaper = (const shaper_t *)self;
    int axes[GD_MAX_DIMS];
    for (int i = 0; i < shaper->n; i++) {
        axes[i] = (int)shaper->value[i];
    }
    return gd_mean(x, shaper->n, axes, false, y_p);
}

static const gd_module_ops_t mean_ops = {.kind = "mean", .forward = mean_forward, .describe = shaper_describe};

status_t gd_mean_over_new(int n_axes, const int *axes, gd_module_t **module_p)
{
    int64_t values[GD_MAX_DIMS];
    if (n_axes < 1 || n_axes > GD_MAX_DIMS) {
        return ST_FAIL(ST_ERR_RANGE, "mean: over %d axes", n_axes);
    }
    for (int i = 0; i < n_axes; i++) {
        values[i] = axes[i];
        if (axes[i] < 1 || axes[i] >= GD_MAX_DIMS) {
            return ST_FAIL(ST_ERR_RANGE, "mean: axis %d is not in 1 … %d", axes[i], GD_MAX_DIMS - 1);
        }
    }
    return shaper_new(&mean_ops, n_axes, values, module_p);
}

static status_t transpose_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const shaper_t *shaper = (const shaper_t *)self;
    return gd_transpose(x, (int)shaper->value[0], (int)shaper->value[1], y_p);
}

static const gd_module_ops_t transpose_ops = {
    .kind = "transpose", .forward = transpose_forward, .describe = shaper_describe};

status_t gd_transpose_axes_new(int axis_a, int axis_b, gd_module_t **module_p)
{
    return shaper_new(&transpose_ops, 2, (const int64_t[2]){axis_a, axis_b}, module_p);
}

static status_t reshape_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    const shaper_t *shaper = (const shaper_t *)self;
    int64_t shape[GD_MAX_DIMS];
    if (gd_tensor_n_dims(x) < 1) {
        return module_fail_shape(x, ", not [B, …]");
    }
    shape[0] = gd_tensor_dim(x, 0);
    int64_t known = shape[0];
    int open = -1;
    for (int i = 0; i < shaper->n; i++) {
        shape[1 + i] = shaper->value[i];
        known *= shaper->value[i] >= 0 ? shaper->value[i] : 1;
        open = shaper->value[i] < 0 ? 1 + i : open;
    }
    if (open >= 0) {
        shape[open] = known > 0 ? gd_tensor_numel(x) / known : 0;
    }
    return gd_reshape(x, 1 + shaper->n, shape, y_p);
}

static const gd_module_ops_t reshape_ops = {.kind = "reshape", .forward = reshape_forward, .describe = shaper_describe};

status_t gd_reshape_samples_new(int n_dims, const int64_t *shape, gd_module_t **module_p)
{
    if (n_dims < 0 || n_dims >= GD_MAX_DIMS) {
        return ST_FAIL(ST_ERR_RANGE, "reshape: samples of %d dimensions", n_dims);
    }
    return shaper_new(&reshape_ops, n_dims, shape, module_p);
}

static status_t tokens_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    (void)self;
    if (gd_tensor_n_dims(x) != 4) {
        return module_fail_shape(x, ", not images [B, C, H, W]");
    }
    gd_tensor_t *rows = NULL;
    const int64_t *shape = gd_tensor_shape(x);
    status_t status = gd_reshape(x, 3, (const int64_t[3]){shape[0], shape[1], shape[2] * shape[3]}, &rows);
    if (status == ST_OK) {
        status = gd_transpose(rows, 1, 2, y_p);
    }
    (void)gd_tensor_unref(rows);
    return status;
}

static const gd_module_ops_t tokens_ops = {.kind = "tokens", .forward = tokens_forward};

status_t gd_tokens_new(gd_module_t **module_p)
{
    return plain_new(&tokens_ops, module_p);
}

/* ---- with parameters ---- */

static status_t with_parameter_new(const gd_module_ops_t *ops, const char *name, int n_dims, const int64_t *shape,
                                   gd_init_t init, gd_module_t **module_p)
{
    gd_module_t *module = NULL;
    status_t status = plain_new(ops, &module);
    if (status != ST_OK) {
        return status;
    }
    status = gd_module_add_parameter(module, name, n_dims, shape, init, NULL);
    if (status != ST_OK) {
        (void)gd_module_unref(module);
        return status;
    }
    *module_p = module;
    return ST_OK;
}

/* y = x + p, p[1, …] or p[C] broadcast over the batch. */
static status_t add_parameter_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_tensor_t *p = self->parameters[0].tensor;
    bool is_fit = gd_tensor_n_dims(p) == gd_tensor_n_dims(x);
    for (int d = 1; is_fit && d < gd_tensor_n_dims(p); d++) {
        is_fit = gd_tensor_dim(p, d) == gd_tensor_dim(x, d);
    }
    if (!is_fit) {
        strbuf_t text = {0};
        gd_tensor_format_shape(p, &text);
        status_t status = module_fail_shape(x, ", not of the parameter's shape");
        status = status_add_context(status, "%s %s", self->parameters[0].name, strbuf_text(&text));
        strbuf_release(&text);
        return status;
    }
    return gd_add(x, p, y_p);
}

static const gd_module_ops_t add_parameter_ops = {.kind = "add_parameter", .forward = add_parameter_forward};

status_t gd_add_parameter_new(const char *name, int n_dims, const int64_t *sample, gd_module_t **module_p)
{
    int64_t shape[GD_MAX_DIMS] = {1};
    if (n_dims < 0 || n_dims >= GD_MAX_DIMS) {
        return ST_FAIL(ST_ERR_RANGE, "add_parameter: samples of %d dimensions", n_dims);
    }
    memcpy(shape + 1, sample, (size_t)n_dims * sizeof(*sample));
    const gd_init_t init = {.kind = GD_INIT_NORMAL, .a = 0, .b = 0.02};
    return with_parameter_new(&add_parameter_ops, name, n_dims + 1, shape, init, module_p);
}

/* The parameter p[1,count,C], once per sample, before x[B,T,C]. */
static status_t prepend_parameter_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_tensor_t *p = self->parameters[0].tensor;
    if (gd_tensor_n_dims(x) != 3 || gd_tensor_dim(x, 2) != gd_tensor_dim(p, 2)) {
        return module_fail_shape(x, ", not vectors [B, T, C] of the parameter's width");
    }
    gd_tensor_t *copies = NULL;
    const int64_t shape[3] = {gd_tensor_dim(x, 0), gd_tensor_dim(p, 1), gd_tensor_dim(p, 2)};
    status_t status = gd_expand(p, 3, shape, &copies);
    if (status == ST_OK) {
        status = gd_cat((gd_tensor_t *const[2]){copies, x}, 2, 1, y_p);
    }
    (void)gd_tensor_unref(copies);
    return status;
}

static const gd_module_ops_t prepend_parameter_ops = {.kind = "prepend_parameter",
                                                      .forward = prepend_parameter_forward};

status_t gd_prepend_parameter_new(const char *name, int64_t count, int64_t width, gd_module_t **module_p)
{
    const gd_init_t init = {.kind = GD_INIT_NORMAL, .a = 0, .b = 0.02};
    return with_parameter_new(&prepend_parameter_ops, name, 3, (const int64_t[3]){1, count, width}, init, module_p);
}

static status_t token_type_embedding_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_tensor_t *row = NULL;
    status_t status = gd_slice(self->parameters[0].tensor, 0, 0, 1, 1, &row);
    if (status == ST_OK) {
        status = gd_add(x, row, y_p);
    }
    (void)gd_tensor_unref(row);
    return status;
}

static const gd_module_ops_t token_type_embedding_ops = {.kind = "token_type_embedding",
                                                         .forward = token_type_embedding_forward};

status_t gd_token_type_embedding_new(int64_t count, int64_t width, gd_module_t **module_p)
{
    const gd_init_t init = {.kind = GD_INIT_NORMAL, .a = 0, .b = 1};
    return with_parameter_new(&token_type_embedding_ops, "weight", 2, (const int64_t[2]){count, width}, init, module_p);
}
