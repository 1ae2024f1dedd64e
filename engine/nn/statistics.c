/* SPDX-License-Identifier: Apache-2.0 */
/*
 * statistics: batch statistics as records, so that running buffers are a function of the microbatches in order.
 * Record: for each module with running buffers, in order of registration: mean[C], unbiased variance[C].
 */
#include <string.h>

#include "base/assert.h"
#include "gradd/nn.h"
#include "tensor/internal.h"

int64_t gd_module_statistics_size(gd_module_t *root)
{
    int64_t size = 2 * root->statistics_channels;
    for (int i = 0; i < root->n_children; i++) {
        size += gd_module_statistics_size(root->children[i]);
    }
    return size;
}

void gd_module_statistics_keep(gd_module_t *module, gd_tensor_t *mean, gd_tensor_t *var, int64_t count)
{
    if (gd_checkpoint_is_recomputing()) {
        (void)gd_tensor_unref(mean);
        (void)gd_tensor_unref(var);
        return;
    }
    (void)gd_tensor_unref(module->batch_mean);
    (void)gd_tensor_unref(module->batch_var);
    module->batch_mean = mean;
    module->batch_var = var;
    module->statistics_count = count;
}

static status_t export_below(gd_module_t *module, float **record)
{
    int64_t channels = module->statistics_channels;
    if (channels > 0) {
        if (module->batch_mean == NULL) {
            return ST_FAIL(ST_ERR_STATE, "%s (%s): no forward in training mode since its statistics were exported",
                           module->path[0] != '\0' ? module->path : "model", module->ops->kind);
        }
        memcpy(*record, gd_tensor_data(module->batch_mean), (size_t)channels * sizeof(float));
        const float *var = gd_tensor_data(module->batch_var);
        double count = (double)module->statistics_count;
        double factor = count > 1 ? count / (count - 1) : 1;
        for (int64_t c = 0; c < channels; c++) {
            (*record)[channels + c] = (float)((double)var[c] * factor);
        }
        *record += 2 * channels;
        module->batch_mean = gd_tensor_unref(module->batch_mean);
        module->batch_var = gd_tensor_unref(module->batch_var);
    }
    for (int i = 0; i < module->n_children; i++) {
        status_t status = export_below(module->children[i], record);
        if (status != ST_OK) {
            return status;
        }
    }
    return ST_OK;
}

status_t gd_module_statistics_export(gd_module_t *root, float *record_p)
{
    return export_below(root, &record_p);
}

static gd_tensor_t *buffer_find(const gd_module_t *module, const char *name)
{
    for (int i = 0; i < module->n_parameters; i++) {
        if (module->parameters[i].is_buffer && strcmp(module->parameters[i].name, name) == 0) {
            return module->parameters[i].tensor;
        }
    }
    return NULL;
}

static void running_apply(gd_tensor_t *running, const float *batch, double momentum)
{
    float *data = gd_tensor_data(running);
    int64_t n = gd_tensor_numel(running);
    for (int64_t c = 0; c < n; c++) {
        data[c] = (float)((1 - momentum) * (double)data[c] + momentum * (double)batch[c]);
    }
    gd_tensor_mark_changed(running, "gd_module_statistics_apply");
}

static void apply_below(gd_module_t *module, const float **record)
{
    int64_t channels = module->statistics_channels;
    if (channels > 0) {
        gd_tensor_t *mean = buffer_find(module, "running_mean");
        gd_tensor_t *var = buffer_find(module, "running_var");
        ASSERT(mean != NULL && var != NULL);
        running_apply(mean, *record, module->momentum);
        running_apply(var, *record + channels, module->momentum);
        *record += 2 * channels;
    }
    for (int i = 0; i < module->n_children; i++) {
        apply_below(module->children[i], record);
    }
}

status_t gd_module_statistics_apply(gd_module_t *root, const float *record)
{
    apply_below(root, &record);
    return ST_OK;
}
