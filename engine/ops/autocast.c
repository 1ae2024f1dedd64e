/* SPDX-License-Identifier: Apache-2.0 */
/* autocast: which dtype an op's inputs get, by its row, and the casts. See gradd/amp.h. Without it, 16-bit ones that
 * are to be f32 (f32_in) are cast. */
#include "ops/autocast.h"

#include "ops/helpers.h"

static bool is_half(gd_dtype_t dtype)
{
    return dtype == GD_DTYPE_BF16 || dtype == GD_DTYPE_F16;
}

/* False: the inputs are left as they are. */
static bool target_find(gd_dtype_t lower, const gd_op_t *op, gd_tensor_t *const *in, int n_in, gd_dtype_t *target_p)
{
    bool has_f32 = false;
    gd_dtype_t half = GD_DTYPE_COUNT;
    if (op->promotes && op->autocast != GD_AUTOCAST_LOWER && op->autocast != GD_AUTOCAST_F32) {
        return false; /* its kernel reads several dtypes */
    }
    for (int i = 0; i < n_in; i++) {
        if (in[i] == NULL || (op->f32_in >> i & 1u) != 0) {
            continue;
        }
        if (in[i]->dtype == GD_DTYPE_F64) {
            return false;
        }
        has_f32 = has_f32 || in[i]->dtype == GD_DTYPE_F32 ||
                  (is_half(in[i]->dtype) && half != GD_DTYPE_COUNT && half != in[i]->dtype);
        half = is_half(in[i]->dtype) ? in[i]->dtype : half;
    }
    if (!has_f32 && half == GD_DTYPE_COUNT) {
        return false;
    }
    gd_dtype_t target = has_f32 ? GD_DTYPE_F32 : half;
    target = op->autocast == GD_AUTOCAST_LOWER ? lower : op->autocast == GD_AUTOCAST_F32 ? GD_DTYPE_F32 : target;
    *target_p = (op->dtypes >> target & 1u) != 0 ? target : GD_DTYPE_F32;
    return true;
}

bool gd_autocast_is_needed(gd_dtype_t lower, const gd_op_t *op, gd_tensor_t *const *in, int n_in)
{
    bool is_needed = lower != GD_DTYPE_F32;
    for (int i = 0; op->f32_in != 0 && i < n_in; i++) {
        is_needed = is_needed || ((op->f32_in >> i & 1u) != 0 && in[i] != NULL && is_half(in[i]->dtype));
    }
    return is_needed;
}

/* The copy of a leaf: the one it has if that is still true, else made anew, in the same memory if nobody holds it. */
static status_t leaf_cast(gd_tensor_t *leaf, gd_dtype_t dtype, gd_tensor_t **cast_p)
{
    gd_tensor_t *low = leaf->low;
    const bool is_fit = low != NULL && low->dtype == dtype && low->is_contiguous;
    if (!is_fit || leaf->low_version != leaf->storage->version) {
        if (!is_fit || !gd_tensor_is_sole(low)) {
            status_t status = gd_tensor_new(dtype, leaf->n_dims, leaf->shape, &low);
            if (status != ST_OK) {
                return status;
            }
            if (leaf->low != NULL) {
                leaf->low->master = NULL;
                (void)gd_tensor_unref(leaf->low);
            }
            leaf->low = low;
            low->master = leaf;
        }
        status_t status = gd_tensor_copy(low, leaf);
        if (status != ST_OK) {
            return status;
        }
        leaf->low_version = leaf->storage->version;
    }
    low->requires_grad = leaf->requires_grad;
    *cast_p = gd_tensor_ref(low);
    return ST_OK;
}

status_t gd_autocast_inputs(gd_dtype_t lower, const gd_op_t *op, gd_tensor_t *const *in, int n_in, gd_tensor_t **out,
                            unsigned *made_p)
{
    gd_dtype_t target = GD_DTYPE_F32;
    const bool is_cast = lower != GD_DTYPE_F32 && target_find(lower, op, in, n_in, &target);
    status_t status = ST_OK;
    *made_p = 0;
    for (int i = 0; i < n_in; i++) {
        const bool is_wide = (op->f32_in >> i & 1u) != 0;
        const gd_dtype_t wanted = is_wide ? GD_DTYPE_F32 : target;
        out[i] = in[i];
        if ((!is_cast && !is_wide) || in[i] == NULL || !gd_dtype_is_float(in[i]->dtype) || in[i]->dtype == wanted ||
            in[i]->dtype == GD_DTYPE_F64 || status != ST_OK) {
            continue;
        }
        const bool is_parameter =
            in[i]->dtype == GD_DTYPE_F32 && in[i]->node == NULL && in[i]->requires_grad && is_half(wanted);
        status = is_parameter ? leaf_cast(in[i], wanted, &out[i]) : gd_cast(in[i], wanted, &out[i]);
        *made_p |= status == ST_OK ? 1u << i : 0u;
    }
    if (status != ST_OK) {
        gd_autocast_release(out, *made_p);
    }
    return status;
}

void gd_autocast_release(gd_tensor_t **out, unsigned made)
{
    for (int i = 0; made != 0; i++, made >>= 1) {
        if ((made & 1u) != 0) {
            (void)gd_tensor_unref(out[i]);
        }
    }
}
