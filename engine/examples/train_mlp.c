/* SPDX-License-Identifier: Apache-2.0 */
/*
 * train_mlp: the whole of a training program: an MLP learns which of ten random directions a vector points to.
 * Usage: train_mlp [steps]; prints the loss now and then, exits 1 when it didn't learn.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/optim.h"
#include "gradd/rng.h"

enum { BATCH = 64, WIDTH = 32, CLASSES = 10 };

/* linear, ReLU, linear. On failure what was made so far is the root's or ours to release. */
static status_t model_build(gd_module_t *root)
{
    gd_module_t *layers[3] = {0};
    status_t status = gd_linear_new(WIDTH, 64, true, &layers[0]);
    if (status == ST_OK) {
        status = gd_activation_new(GD_ACTIVATION_RELU, &layers[1]);
    }
    if (status == ST_OK) {
        status = gd_linear_new(64, CLASSES, true, &layers[2]);
    }
    static const char *const names[] = {"0", "1", "2"};
    for (int i = 0; i < 3; i++) {
        if (status == ST_OK) {
            status = gd_module_add_child(root, names[i], layers[i]);
        }
        (void)gd_module_unref(layers[i]); /* the root has its own reference */
    }
    return status == ST_OK ? gd_module_set_paths(root) : status;
}

/* x = direction of the label + noise; both from the step's own random numbers. */
static status_t batch_draw(uint32_t step, gd_tensor_t **x_p, gd_tensor_t **labels_p)
{
    static float directions[CLASSES][WIDTH];
    float x[BATCH][WIDTH];
    int64_t labels[BATCH];
    gd_rng_fill_normal(&(gd_rng_key_t){.seed = 1, .purpose = 5}, 0, 1, &directions[0][0], CLASSES * WIDTH);
    gd_rng_fill_normal(&(gd_rng_key_t){.seed = 2, .step = step, .purpose = 5}, 0, 1, &x[0][0], BATCH * WIDTH);
    for (uint32_t i = 0; i < BATCH; i++) {
        labels[i] = (int64_t)gd_rng_below(&(gd_rng_key_t){.seed = 3, .step = step, .purpose = 5}, i, CLASSES);
        for (int j = 0; j < WIDTH; j++) {
            x[i][j] += directions[labels[i]][j];
        }
    }
    status_t status = gd_tensor_from_data(GD_DTYPE_F32, 2, (int64_t[]){BATCH, WIDTH}, x, x_p);
    return status == ST_OK ? gd_tensor_from_data(GD_DTYPE_I64, 1, (int64_t[]){BATCH}, labels, labels_p) : status;
}

/* Forward and backward; gradients go where gd_flat_set_gradients pointed the parameters. */
static status_t step_run(gd_module_t *model, uint32_t step, double *loss_p)
{
    gd_tensor_t *x = NULL;
    gd_tensor_t *labels = NULL;
    gd_tensor_t *logits = NULL;
    gd_tensor_t *loss = NULL;
    status_t status = batch_draw(step, &x, &labels);
    if (status == ST_OK) {
        status = gd_module_forward(model, x, &logits);
    }
    if (status == ST_OK) {
        status = gd_cross_entropy(logits, labels, 1.0 / BATCH, -100, 0, &loss, NULL);
    }
    if (status == ST_OK) {
        status = gd_backward(loss, NULL, false);
    }
    if (status == ST_OK) {
        status = gd_tensor_item(loss, loss_p);
    }
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(labels);
    (void)gd_tensor_unref(logits);
    (void)gd_tensor_unref(loss);
    return status;
}

static status_t train(gd_module_t *model, gd_flat_t *flat, gd_optimizer_t *optimizer, float *gradients, int n_steps,
                      double *loss_p)
{
    const gd_schedule_t schedule = {
        .kind = GD_SCHEDULE_COSINE, .lr = 0.01, .final_lr = 0.001, .warmup_steps = 10, .total_steps = n_steps};
    for (int step = 0; step < n_steps; step++) {
        status_t status = gd_flat_set_gradients(flat, gradients);
        if (status == ST_OK) {
            status = step_run(model, (uint32_t)step, loss_p);
        }
        if (status != ST_OK) {
            return status;
        }
        gd_flat_finish_gradients(flat);
        double scale = gd_clip_scale(gd_flat_norm(gradients, flat->numel), 1.0);
        gd_optimizer_next(optimizer);
        status = gd_optimizer_update(optimizer, gradients, gd_schedule_lr(&schedule, step), scale, 0, flat->numel);
        if (status != ST_OK) {
            return status;
        }
        if (step % 50 == 0 || step == n_steps - 1) {
            (void)printf("step %d loss %.4f\n", step, *loss_p);
        }
    }
    return ST_OK;
}

int main(int argc, char **argv)
{
    const int n_steps = argc > 1 ? atoi(argv[1]) : 300;
    const gd_optimizer_options_t options = {
        .kind = GD_OPTIMIZER_ADAMW, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.01};
    gd_module_t *model = NULL;
    gd_flat_t *flat = NULL;
    gd_optimizer_t *optimizer = NULL;
    float *gradients = NULL;
    double loss = 0;
    (void)gd_training_set(true);
    (void)gd_grad_set_enabled(true);
    status_t status = gd_sequential_new(&model);
    if (status == ST_OK) {
        status = model_build(model);
    }
    if (status == ST_OK) {
        status = gd_module_initialise(model, 42);
    }
    if (status == ST_OK) {
        status = gd_flat_open(model, &flat);
    }
    if (status == ST_OK) {
        status = gd_optimizer_open(&options, flat, &optimizer);
    }
    if (status == ST_OK) {
        gradients = mem_alloc_aligned(64, (size_t)flat->numel * sizeof(float));
        status = gradients != NULL ? train(model, flat, optimizer, gradients, n_steps, &loss)
                                   : ST_FAIL(ST_ERR_NOMEM, "gradients");
    }
    if (status != ST_OK) {
        (void)fprintf(stderr, "train_mlp: %s: %s\n", status_text(status), status_message());
    }
    gd_optimizer_close(optimizer);
    gd_flat_close(flat);
    (void)gd_module_unref(model);
    mem_free(gradients);
    return status == ST_OK && loss < 0.2 ? 0 : 1;
}
