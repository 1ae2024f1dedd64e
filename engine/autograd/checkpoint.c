/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint: a segment of the graph that is made when the backward needs it. See Note [Checkpoints are spliced in]. */
#include "autograd/node.h"

struct tape_checkpoint {
    gd_checkpoint_func_t func;
    void *arg;
    void (*release)(void *arg);
    gd_context_modes_t modes;
};

/* Not in the table of ops: it stands in a node's place for what the walk takes from a row. */
static const gd_op_t checkpoint_row = {
    .name = "checkpoint", .n_in = GD_MAX_IN, .n_in_required = 1, .n_out = 1, .saves = GD_SAVE_INPUTS};

bool gd_checkpoint_is_recomputing(void)
{
    return gd_context_get()->is_recomputing;
}

void tape_checkpoint_free(tape_checkpoint_t *checkpoint)
{
    if (checkpoint != NULL) {
        if (checkpoint->release != NULL) {
            checkpoint->release(checkpoint->arg);
        }
        gd_pool_free(gd_context_pool(), checkpoint);
    }
}

status_t tape_checkpoint_run(const tape_checkpoint_t *checkpoint, gd_tensor_t *const *in, int n_in, gd_tensor_t **y_p)
{
    gd_context_t *context = gd_context_get();
    const gd_context_modes_t modes = gd_context_get_modes();
    bool was_recomputing = context->is_recomputing;
    bool was_enabled = gd_grad_set_enabled(true);
    context->is_recomputing = true;
    gd_context_set_modes(&checkpoint->modes);
    status_t status = checkpoint->func(in, n_in, y_p, checkpoint->arg);
    gd_context_set_modes(&modes);
    context->is_recomputing = was_recomputing;
    (void)gd_grad_set_enabled(was_enabled);
    return status;
}

/* A tensor that the node may own: y itself may be an input, or somebody else's; a view has a base, but no graph of it.
 */
static status_t result_own(gd_tensor_t **y)
{
    if (atomic_load_explicit(&(*y)->n_refs, memory_order_acquire) == 1 && !gd_tensor_tracks(*y) && !(*y)->is_view) {
        return ST_OK;
    }
    gd_tensor_t *alias = NULL;
    status_t status = gd_tensor_new_alias(*y, &alias);
    if (status == ST_OK) {
        (void)gd_tensor_unref(*y);
        *y = alias;
    }
    return status;
}

static status_t segment_record(tape_checkpoint_t *checkpoint, gd_tensor_t *const *in, int n_in, gd_tensor_t **y)
{
    static const gd_attrs_t no_attrs;
    status_t status = result_own(y);
    if (status == ST_OK) {
        status = tape_node_record(GD_OP_COUNT, &checkpoint_row, in, n_in, &no_attrs, y, 1);
    }
    if (status == ST_OK) {
        (*y)->node->checkpoint = checkpoint;
    }
    return status;
}

status_t gd_checkpoint(gd_checkpoint_func_t func, void *arg, void (*release)(void *arg), gd_tensor_t *const *in,
                       int n_in, gd_tensor_t **y_p)
{
    gd_tensor_t *y = NULL;
    status_t status = ST_OK;
    bool is_recorded = gd_grad_is_enabled();
    tape_checkpoint_t *checkpoint = gd_pool_alloc(gd_context_pool(), sizeof(*checkpoint));
    if (checkpoint == NULL) {
        if (release != NULL) {
            release(arg);
        }
        return ST_FAIL(ST_ERR_NOMEM, "checkpoint");
    }
    *checkpoint = (tape_checkpoint_t){.func = func, .arg = arg, .release = release, .modes = gd_context_get_modes()};
    if (n_in < 1 || n_in > GD_MAX_IN) {
        status = ST_FAIL(ST_ERR_INVAL, "checkpoint: %d inputs: 1 to %d are possible", n_in, GD_MAX_IN);
    }
    for (int i = 0; i < n_in && status == ST_OK; i++) {
        status = in[i] != NULL ? ST_OK : ST_FAIL(ST_ERR_INVAL, "checkpoint: input %d is missing", i);
    }
    if (status == ST_OK) {
        (void)gd_grad_set_enabled(false);
        status = func(in, n_in, &y, arg);
        (void)gd_grad_set_enabled(is_recorded);
        status =
            status == ST_OK && y == NULL ? ST_FAIL(ST_ERR_INVAL, "checkpoint: the function gave no result") : status;
    }
    is_recorded = is_recorded && status == ST_OK && gd_dtype_is_float(y->dtype);
    if (is_recorded) {
        status = segment_record(checkpoint, in, n_in, &y);
    }
    if (!is_recorded || status != ST_OK) {
        tape_checkpoint_free(checkpoint);
    }
    if (status != ST_OK) {
        (void)gd_tensor_unref(y);
        return status;
    }
    *y_p = y;
    return ST_OK;
}
