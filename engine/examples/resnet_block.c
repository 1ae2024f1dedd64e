/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resnet_block: a module of one's own, the basic block of ResNet (He et al., "Deep residual learning", 2016): two
 * convolutions with batch norm, and a shortcut that fits the shape. Then one forward and backward through it.
 */
#include <stdio.h>

#include "gradd/chain.h"
#include "gradd/context.h"

/* y = relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)) */
static status_t resnet_block_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    gd_chain_t c = {0};
    gd_tensor_t *h = gd_chain_child(&c, self, "conv1", x);
    h = gd_chain_unary(&c, gd_relu, gd_chain_child(&c, self, "bn1", h));
    h = gd_chain_child(&c, self, "bn2", gd_chain_child(&c, self, "conv2", h));
    h = gd_chain_binary(&c, gd_add, h, gd_chain_child(&c, self, "shortcut", x));
    return gd_chain_end(&c, gd_chain_unary(&c, gd_relu, h), y_p);
}

static status_t resnet_block_new(int64_t c_in, int64_t c_out, int stride, gd_module_t **module_p)
{
    static const gd_module_ops_t ops = {.kind = "resnet_block", .forward = resnet_block_forward};
    const gd_conv2d_options_t strided = {.stride = {stride, stride}, .padding = {1, 1}};
    const gd_conv2d_options_t plain = {.padding = {1, 1}};
    const gd_conv2d_options_t pointwise = {.stride = {stride, stride}};
    gd_build_t b = gd_build_begin(&ops, 0);
    gd_build_t shortcut = gd_build_sequential();
    if (stride != 1 || c_in != c_out) {
        gd_build_child(&shortcut, NULL,
                       gd_conv2d_new(c_in, c_out, (int[]){1, 1}, &pointwise, false, gd_build_slot(&shortcut)));
        gd_build_child(&shortcut, NULL, gd_batch_norm2d_new(c_out, 1e-5, 0.1, gd_build_slot(&shortcut)));
    }
    gd_build_child(&b, "conv1", gd_conv2d_new(c_in, c_out, (int[]){3, 3}, &strided, false, gd_build_slot(&b)));
    gd_build_child(&b, "bn1", gd_batch_norm2d_new(c_out, 1e-5, 0.1, gd_build_slot(&b)));
    gd_build_child(&b, "conv2", gd_conv2d_new(c_out, c_out, (int[]){3, 3}, &plain, false, gd_build_slot(&b)));
    gd_build_child(&b, "bn2", gd_batch_norm2d_new(c_out, 1e-5, 0.1, gd_build_slot(&b)));
    gd_build_child(&b, "shortcut", gd_build_end(&shortcut, gd_build_slot(&b)));
    return gd_build_end(&b, module_p);
}

static status_t parameter_print(const char *name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)owner;
    strbuf_t shape = {0};
    gd_tensor_format_shape(parameter->tensor, &shape);
    (void)printf("%-28s %s\n", name, strbuf_text(&shape));
    strbuf_release(&shape);
    *(int64_t *)arg += parameter->is_buffer ? 0 : gd_tensor_numel(parameter->tensor);
    return ST_OK;
}

int main(void)
{
    gd_module_t *block = NULL;
    gd_chain_t c = {0};
    int64_t n_parameters = 0;
    status_t status = resnet_block_new(3, 8, 2, &block);
    if (status == ST_OK) {
        status = gd_module_initialise(block, 42);
    }
    if (status == ST_OK) {
        status = gd_module_visit(block, parameter_print, &n_parameters);
    }
    (void)gd_training_set(true);
    if (status == ST_OK) {
        gd_tensor_t *x = gd_chain_call(&c, gd_tensor_full, GD_DTYPE_F32, 4, ((int64_t[]){2, 3, 8, 8}), 0.5);
        gd_tensor_t *y = gd_chain_forward(&c, block, x); /* [2, 8, 4, 4] */
        gd_tensor_t *loss = gd_chain_call(&c, gd_mean, y, 0, NULL, false);
        status = loss != NULL ? gd_backward(loss, NULL, false) : c.status;
        (void)gd_chain_end(&c, NULL, NULL);
    }
    bool has_gradients = status == ST_OK && gd_tensor_grad(block->children[0]->parameters[0].tensor) != NULL;
    (void)printf("%lld parameters%s\n", (long long)n_parameters, has_gradients ? ", with gradients" : "");
    if (status != ST_OK) {
        (void)fprintf(stderr, "resnet_block: %s: %s\n", status_text(status), status_message());
    }
    (void)gd_module_unref(block);
    return has_gradients && n_parameters == 3 * 8 * 9 + 8 * 8 * 9 + 3 * 8 + 3 * 2 * 8 ? 0 : 1;
}
