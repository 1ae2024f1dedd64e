/* SPDX-License-Identifier: Apache-2.0 */
/* ops/shuffle: rearrangements of channels and positions, and functions of two tensors, out of other ops. */
#include "ops/helpers.h"

/* x seen with `shape`, its axes in `order`, seen with `result`. */
static status_t rearrange(gd_tensor_t *x, int n, const int64_t *shape, const int *order, int n_result,
                          const int64_t *result, gd_tensor_t **y_p)
{
    gd_tensor_t *split = NULL;
    gd_tensor_t *turned = NULL;
    status_t status = gd_reshape(x, n, shape, &split);
    if (status == ST_OK) {
        status = gd_permute(split, order, &turned);
    }
    if (status == ST_OK) {
        status = gd_reshape(turned, n_result, result, y_p);
    }
    (void)gd_tensor_unref(split);
    (void)gd_tensor_unref(turned);
    return status;
}

status_t gd_pixel_shuffle(gd_tensor_t *x, int factor, gd_tensor_t **y_p)
{
    const int64_t r = factor;
    if (x->n_dims != 4 || r < 1 || x->shape[1] % (r * r) != 0) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "pixel_shuffle", x, NULL,
                                 "[B,C,H,W] with channels that the squared factor divides is needed");
    }
    const int64_t c = x->shape[1] / (r * r), h = x->shape[2], w = x->shape[3];
    return rearrange(x, 6, (const int64_t[6]){x->shape[0], c, r, r, h, w}, (const int[6]){0, 1, 4, 2, 5, 3}, 4,
                     (const int64_t[4]){x->shape[0], c, h * r, w * r}, y_p);
}

status_t gd_pixel_unshuffle(gd_tensor_t *x, int factor, gd_tensor_t **y_p)
{
    const int64_t r = factor;
    if (x->n_dims != 4 || r < 1 || x->shape[2] % r != 0 || x->shape[3] % r != 0) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "pixel_unshuffle", x, NULL,
                                 "[B,C,H,W] with a height and width that the factor divides is needed");
    }
    const int64_t c = x->shape[1], h = x->shape[2] / r, w = x->shape[3] / r;
    return rearrange(x, 6, (const int64_t[6]){x->shape[0], c, h, r, w, r}, (const int[6]){0, 1, 3, 5, 2, 4}, 4,
                     (const int64_t[4]){x->shape[0], c * r * r, h, w}, y_p);
}

status_t gd_channel_shuffle(gd_tensor_t *x, int64_t n_groups, gd_tensor_t **y_p)
{
    int64_t shape[GD_MAX_DIMS + 1];
    int order[GD_MAX_DIMS + 1];
    if (x->n_dims < 2 || x->n_dims >= GD_MAX_DIMS || n_groups < 1 || x->shape[1] % n_groups != 0) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "channel_shuffle", x, NULL,
                                 "[B,C,…] with channels that the groups divide is needed");
    }
    shape[0] = x->shape[0];
    shape[1] = n_groups;
    shape[2] = x->shape[1] / n_groups;
    for (int d = 0; d <= x->n_dims; d++) {
        order[d] = d;
    }
    for (int d = 2; d < x->n_dims; d++) {
        shape[d + 1] = x->shape[d];
    }
    order[1] = 2;
    order[2] = 1;
    return rearrange(x, x->n_dims + 1, shape, order, x->n_dims, x->shape, y_p);
}

/* y[n,o] = x1[n,:] W_o x2[n,:] + b_o: x1 [N,I] times W seen as [I,O·J], then the sum over J with x2. */
status_t gd_bilinear(gd_tensor_t *x1, gd_tensor_t *x2, gd_tensor_t *weight, gd_tensor_t *bias, gd_tensor_t **y_p)
{
    if (x1->n_dims != 2 || x2->n_dims != 2 || weight->n_dims != 3 || x1->shape[0] != x2->shape[0] ||
        weight->shape[1] != x1->shape[1] || weight->shape[2] != x2->shape[1]) {
        return gd_op_fail_shapes(ST_ERR_SHAPE, "bilinear", x1, x2, "[N,I] and [N,J] for a weight [O,I,J] are needed");
    }
    const int64_t n = x1->shape[0], o = weight->shape[0], j = weight->shape[2];
    enum { MATRIX, PRODUCT, TERMS, RIGHT, WEIGHTED, SUM, COUNT };
    gd_tensor_t *t[COUNT] = {NULL};
    static const int axes[1] = {2};
    status_t status = rearrange(weight, 3, weight->shape, (const int[3]){1, 0, 2}, 2,
                                (const int64_t[2]){weight->shape[1], o * j}, &t[MATRIX]);
    if (status == ST_OK) {
        status = gd_matmul(x1, t[MATRIX], &t[PRODUCT]);
    }
    if (status == ST_OK) {
        status = gd_reshape(t[PRODUCT], 3, (const int64_t[3]){n, o, j}, &t[TERMS]);
    }
    if (status == ST_OK) {
        status = gd_unsqueeze(x2, 1, &t[RIGHT]);
    }
    if (status == ST_OK) {
        status = gd_mul(t[TERMS], t[RIGHT], &t[WEIGHTED]);
    }
    if (status == ST_OK) {
        status = gd_sum(t[WEIGHTED], 1, axes, false, bias != NULL ? &t[SUM] : y_p);
    }
    if (status == ST_OK && bias != NULL) {
        status = gd_add(t[SUM], bias, y_p);
    }
    for (int i = 0; i < COUNT; i++) {
        (void)gd_tensor_unref(t[i]);
    }
    return status;
}

/* max(|x|, epsilon) along the axis, which stays with size 1 */
static status_t norm_of(gd_tensor_t *x, int axis, double epsilon, gd_tensor_t **norm_p)
{
    enum { SQUARES, SUM, ROOT, LEAST, COUNT };
    gd_tensor_t *t[COUNT] = {NULL};
    status_t status = gd_mul(x, x, &t[SQUARES]);
    if (status == ST_OK) {
        status = gd_sum(t[SQUARES], 1, &axis, true, &t[SUM]);
    }
    if (status == ST_OK) {
        status = gd_tensor_scalar(x->dtype, epsilon * epsilon, &t[LEAST]);
    }
    if (status == ST_OK) { /* before the root, whose derivative at 0 is infinite */
        status = gd_maximum(t[SUM], t[LEAST], &t[ROOT]);
    }
    if (status == ST_OK) {
        status = gd_sqrt(t[ROOT], norm_p);
    }
    for (int i = 0; i < COUNT; i++) {
        (void)gd_tensor_unref(t[i]);
    }
    return status;
}

status_t gd_cosine_similarity(gd_tensor_t *a, gd_tensor_t *b, int axis, double epsilon, gd_tensor_t **y_p)
{
    int64_t at = axis;
    status_t status = gd_op_check_axis("cosine_similarity", a, &at);
    if (status == ST_OK && !gd_shape_equal(a->n_dims, a->shape, b->n_dims, b->shape)) {
        status = gd_op_fail_shapes(ST_ERR_SHAPE, "cosine_similarity", a, b, "shapes must be equal");
    }
    if (status != ST_OK) {
        return status;
    }
    enum { PRODUCT, DOT, NORM_A, NORM_B, NORMS, RATIO, COUNT };
    gd_tensor_t *t[COUNT] = {NULL};
    const int axes[1] = {(int)at};
    status = gd_mul(a, b, &t[PRODUCT]);
    if (status == ST_OK) {
        status = gd_sum(t[PRODUCT], 1, axes, true, &t[DOT]);
    }
    if (status == ST_OK) {
        status = norm_of(a, (int)at, epsilon, &t[NORM_A]);
    }
    if (status == ST_OK) {
        status = norm_of(b, (int)at, epsilon, &t[NORM_B]);
    }
    if (status == ST_OK) {
        status = gd_mul(t[NORM_A], t[NORM_B], &t[NORMS]);
    }
    if (status == ST_OK) {
        status = gd_div(t[DOT], t[NORMS], &t[RATIO]);
    }
    if (status == ST_OK) {
        status = gd_squeeze(t[RATIO], (int)at, y_p);
    }
    for (int i = 0; i < COUNT; i++) {
        (void)gd_tensor_unref(t[i]);
    }
    return status;
}
