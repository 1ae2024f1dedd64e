/* SPDX-License-Identifier: Apache-2.0 */
/* loss_arrays: see loss_arrays.h. */
#include "tests/worker/loss_arrays.h"

#include <stdio.h>
#include <string.h>

#include "gradd/npy.h"
#include "gradd/ops.h"
#include "tests/support/fixture.h"

spec_job_t *array_job(const char *model, const char *loss, const char *const *set)
{
    const char *tokens = strstr(model, "embedding") != NULL ? "true" : "false";
    strbuf_t yaml = {0};
    strbuf_appendf(&yaml,
                   "name: test\nseed: 7\nmodel: {layers: %s}\n"
                   "data:\n  train: {npy: {inputs: x.npy, targets: y.npy, part: [0, 0.75], tokens: %s}}\n"
                   "  validation: {npy: {inputs: x.npy, targets: y.npy, part: [0.75, 1], tokens: %s}}\n"
                   "training: {steps: 30, batch: 16, microbatches: 4, optimizer: {adamw: {lr: 0.03}}, loss: %s}\n"
                   "evaluation: {every: 10}\ncheckpoint: {every: 30}\n",
                   model, tokens, tokens, loss);
    spec_job_t *job = job_text_parse(strbuf_text(&yaml), NULL, fixture_folder(), set);
    strbuf_release(&yaml);
    return job;
}

void array_write(const char *name, gd_dtype_t dtype, int n_dims, const int64_t *shape, const float *data)
{
    char path[256];
    gd_tensor_t *t = NULL;
    gd_tensor_t *cast = NULL;
    (void)snprintf(path, sizeof(path), "%s/%s", fixture_folder(), name);
    assert_ok(gd_tensor_from_data(GD_DTYPE_F32, n_dims, shape, data, &t));
    assert_ok(gd_cast(t, dtype, &cast));
    assert_ok(gd_npy_save(path, cast));
    (void)gd_tensor_unref(cast);
    (void)gd_tensor_unref(t);
}

float noise(uint32_t *state)
{
    *state = *state * 1664525U + 1013904223U;
    return (float)(*state >> 16) / 32768.0F - 1;
}
