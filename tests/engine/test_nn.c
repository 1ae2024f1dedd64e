/* SPDX-License-Identifier: Apache-2.0 */
/* Modules: trees, names, sharing, initialisation, batch statistics, dropout. */
#include "tests/support/fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gradd/amp.h"
#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/nn.h"

static gd_module_t *add(gd_module_t *parent, const char *name, gd_module_t *child)
{
    assert_ok(gd_module_add_child(parent, name, child));
    (void)gd_module_unref(child);
    return child;
}

static gd_module_t *linear(int64_t n_in, int64_t n_out)
{
    gd_module_t *module = NULL;
    assert_ok(gd_linear_new(n_in, n_out, true, &module));
    return module;
}

static gd_module_t *sequential(void)
{
    gd_module_t *module = NULL;
    assert_ok(gd_sequential_new(&module));
    return module;
}

static gd_tensor_t *tensor_of(int n_dims, const int64_t *shape, double value)
{
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_full(GD_DTYPE_F32, n_dims, shape, value, &t));
    return t;
}

static status_t name_append(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)owner;
    strbuf_appendf(arg, "%s%s ", full_name, parameter->is_buffer ? "*" : "");
    return ST_OK;
}

static void parameters_have_pytorchs_names(void **state)
{
    (void)state;
    gd_module_t *root = sequential();
    gd_module_t *attention = NULL;
    gd_module_t *norm = NULL;
    (void)add(root, "0", linear(3, 4));
    assert_ok(gd_attention_new(8, 2, true, false, 0, &attention));
    (void)add(add(root, "block", sequential()), "attn", attention);
    assert_ok(gd_batch_norm2d_new(4, 1e-5, 0.1, &norm));
    (void)add(root, "bn", norm);

    strbuf_t names = {0};
    assert_ok(gd_module_visit(root, name_append, &names));
    assert_ok(gd_module_set_paths(root));

    assert_string_equal(strbuf_text(&names), "0.weight 0.bias block.attn.qkv.weight block.attn.proj.weight bn.weight "
                                             "bn.bias bn.running_mean* bn.running_var* ");
    assert_string_equal(attention->path, "block.attn");
    assert_string_equal(attention->children[0]->path, "block.attn.qkv");
    assert_true(attention->layer != attention->children[0]->layer);
    strbuf_release(&names);
    (void)gd_module_unref(root);
}

static void a_shared_parameter_is_listed_once(void **state)
{
    (void)state;
    gd_module_t *root = sequential();
    gd_module_t *embedding = NULL;
    gd_module_t *head = NULL;
    assert_ok(gd_embedding_new(5, 3, &embedding));
    (void)add(root, "wte", embedding);
    assert_ok(gd_linear_tied_new(embedding->parameters[0].tensor, false, &head));
    (void)add(root, "head", head);

    strbuf_t names = {0};
    assert_ok(gd_module_visit(root, name_append, &names));

    assert_string_equal(strbuf_text(&names), "wte.weight ");
    assert_ptr_equal(head->parameters[0].tensor, embedding->parameters[0].tensor);
    strbuf_release(&names);
    (void)gd_module_unref(root);
}

static void names_are_checked(void **state)
{
    (void)state;
    gd_module_t *root = sequential();
    gd_module_t *child = linear(2, 2);
    assert_ok(gd_module_add_child(root, "a", child));

    assert_fails(gd_module_add_child(root, "b", child), ST_ERR_STATE, "has a parent already");
    (void)gd_module_unref(child);
    child = linear(2, 2);
    assert_fails(gd_module_add_child(root, "a", child), ST_ERR_EXISTS, "the name \"a\" is taken");
    assert_fails(gd_module_add_child(root, "x..y", child), ST_ERR_INVAL, "it has an empty word");
    assert_fails(gd_module_add_child(root, "x.", child), ST_ERR_INVAL, "it has an empty word");
    assert_fails(gd_module_add_parameter(root, "x.y", 0, NULL, (gd_init_t){0}, NULL), ST_ERR_INVAL,
                 "it is empty or has a dot");
    assert_fails(gd_module_add_child(root, "", child), ST_ERR_INVAL, "it is empty or has a dot");
    assert_fails(gd_module_set_init(child, "wight", (gd_init_t){0}), ST_ERR_NOT_FOUND, "no parameter \"wight\"");
    (void)gd_module_unref(child);
    (void)gd_module_unref(root);
}

static void an_inline_child_has_its_parents_names(void **state)
{
    (void)state;
    gd_module_t *root = sequential();
    gd_module_t *group = sequential();
    (void)add(group, "fc", linear(2, 2));
    (void)add(group, "out.dense", linear(2, 2));
    assert_ok(gd_module_add_inline_child(root, group));
    gd_module_t *other = sequential();
    (void)add(other, "fc", linear(2, 2));

    assert_fails(gd_module_add_inline_child(root, other), ST_ERR_EXISTS, "the name \"fc\" is taken");
    assert_fails(gd_module_add_child(root, "fc", other), ST_ERR_EXISTS, "the name \"fc\" is taken");

    strbuf_t names = {0};
    assert_ok(gd_module_set_paths(root));
    assert_ok(gd_module_visit(root, name_append, &names));
    assert_string_equal(strbuf_text(&names), "fc.weight fc.bias out.dense.weight out.dense.bias ");
    assert_string_equal(group->children[1]->path, "out.dense");
    strbuf_release(&names);
    (void)gd_module_unref(other);
    (void)gd_module_unref(group);
    (void)gd_module_unref(root);
}

static void meta_modules_have_shapes_but_no_memory(void **state)
{
    (void)state;
    bool before = gd_meta_set_enabled(true);
    gd_module_t *huge = linear(1 << 20, 1 << 20); /* 4 TB */
    (void)gd_meta_set_enabled(before);

    assert_int_equal(gd_tensor_numel(huge->parameters[0].tensor), INT64_C(1) << 40);
    assert_fails(gd_module_initialise(huge, 1), ST_ERR_STATE, "parameter \"weight\" has no memory");
    (void)gd_module_unref(huge);
}

static void initial_values_depend_on_seed_and_name_alone(void **state)
{
    (void)state;
    gd_module_t *small = sequential();
    gd_module_t *first = add(small, "fc", linear(50, 40));
    gd_module_t *large = sequential();
    (void)add(large, "before", linear(7, 7));
    gd_module_t *second = add(large, "fc", linear(50, 40));
    assert_ok(gd_module_initialise(small, 9));
    assert_ok(gd_module_initialise(large, 9));
    const size_t size = 50 * 40 * sizeof(float);
    const float *weight = gd_tensor_data(first->parameters[0].tensor);

    assert_memory_equal(weight, gd_tensor_data(second->parameters[0].tensor), size);

    double bound = 1 / sqrt(50);
    double sum = 0;
    double largest = 0;
    for (int i = 0; i < 50 * 40; i++) {
        sum += (double)weight[i];
        largest = fmax(largest, fabs((double)weight[i]));
    }
    assert_true(largest <= bound * (1 + 1e-6) && largest > 0.99 * bound);
    assert_true(fabs(sum / 2000) < 0.05 * bound);
    assert_ok(gd_module_initialise(large, 10));
    assert_memory_not_equal(weight, gd_tensor_data(second->parameters[0].tensor), size);
    (void)gd_module_unref(small);
    (void)gd_module_unref(large);
}

/* Standard deviation of linear(300, 100)'s weight after init. */
static double deviation_of(gd_init_t init)
{
    gd_module_t *module = linear(300, 100);
    assert_ok(gd_module_set_init(module, "weight", init));
    assert_ok(gd_module_initialise(module, 4));
    const float *weight = gd_tensor_data(module->parameters[0].tensor);
    double sum = 0;
    double square = 0;
    for (int i = 0; i < 30000; i++) {
        sum += (double)weight[i];
        square += (double)weight[i] * (double)weight[i];
    }
    (void)gd_module_unref(module);
    double mean = sum / 30000;
    return sqrt(square / 30000 - mean * mean);
}

/* Backward would use the new weights, and autocast its copy of the old ones. */
static void drawing_new_values_counts_as_a_change_in_place(void **state)
{
    (void)state;
    gd_module_t *module = linear(32, 16);
    gd_tensor_t *x = tensor_of(2, (int64_t[]){4, 32}, 1);
    gd_tensor_t *old = NULL;
    gd_tensor_t *y[2] = {NULL};
    gd_tensor_t *sum = NULL;
    assert_ok(gd_module_set_paths(module));
    assert_ok(gd_module_initialise(module, 1));
    assert_ok(gd_tensor_set_requires_grad(x, true));
    assert_ok(gd_module_forward(module, x, &old));
    assert_ok(gd_sum(old, 0, NULL, false, &sum));
    gd_dtype_t before = gd_autocast_set(GD_DTYPE_BF16);
    assert_ok(gd_module_forward(module, x, &y[0]));
    (void)gd_autocast_set(before);

    assert_ok(gd_module_initialise(module, 2));

    assert_fails(gd_backward(sum, NULL, false), ST_ERR_STATE, "was changed in place by gd_module_initialise");
    (void)gd_tensor_unref(y[0]);
    before = gd_autocast_set(GD_DTYPE_BF16);
    assert_ok(gd_module_forward(module, x, &y[0]));
    gd_module_t *fresh = linear(32, 16);
    assert_ok(gd_module_set_paths(fresh));
    assert_ok(gd_module_initialise(fresh, 2));
    assert_ok(gd_module_forward(fresh, x, &y[1]));
    (void)gd_autocast_set(before);
    assert_memory_equal(gd_tensor_data(y[0]), gd_tensor_data(y[1]), 4 * 16 * 2);
    (void)gd_tensor_unref(y[0]);
    (void)gd_tensor_unref(y[1]);
    (void)gd_tensor_unref(sum);
    (void)gd_tensor_unref(old);
    (void)gd_tensor_unref(x);
    (void)gd_module_unref(module);
    (void)gd_module_unref(fresh);
}

static void initialisations_have_their_deviation(void **state)
{
    (void)state;
    const struct {
        gd_init_t init;
        double expected;
    } cases[] = {
        {{.kind = GD_INIT_ZEROS, .a = 0, .b = 0}, 0},
        {{.kind = GD_INIT_ONES, .a = 0, .b = 0}, 0},
        {{.kind = GD_INIT_CONSTANT, .a = 3, .b = 0}, 0},
        {{.kind = GD_INIT_NORMAL, .a = 1, .b = 0.02}, 0.02},
        {{.kind = GD_INIT_UNIFORM, .a = -1, .b = 2}, 3 / sqrt(12)},
        {{.kind = GD_INIT_XAVIER_UNIFORM, .a = 1, .b = 0}, sqrt(2.0 / 400)},
        {{.kind = GD_INIT_XAVIER_NORMAL, .a = 2, .b = 0}, 2 * sqrt(2.0 / 400)},
        {{.kind = GD_INIT_KAIMING_UNIFORM, .a = 0, .b = 0}, sqrt(2.0 / 300)},
        {{.kind = GD_INIT_KAIMING_NORMAL, .a = 1, .b = 0}, sqrt(1.0 / 300)},
        {{.kind = GD_INIT_KAIMING_NORMAL, .uses_fan_out = true}, sqrt(2.0 / 100)},
        {{.kind = GD_INIT_KAIMING_UNIFORM, .gain = gd_init_gain(GD_GAIN_TANH, 0)}, 5 / 3.0 / sqrt(300)},
        {{.kind = GD_INIT_TRUNC_NORMAL, .b = 1, .c = -2, .d = 2}, 0.87962566},
        {{.kind = GD_INIT_SPARSE, .a = 0.5, .b = 2}, sqrt(2)},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        double deviation = deviation_of(cases[i].init);
        assert_true(fabs(deviation - cases[i].expected) <= 0.02 * cases[i].expected + 1e-9);
    }
}

/* Draws a weight of this shape; the caller frees the module. */
static const float *weight_of(gd_init_t init, int n_dims, const int64_t *shape, gd_module_t **module_p)
{
    static const gd_module_ops_t ops = {.kind = "weight"};
    assert_ok(gd_module_new(&ops, sizeof(gd_module_t), module_p));
    assert_ok(gd_module_add_parameter(*module_p, "weight", n_dims, shape, init, NULL));
    assert_ok(gd_module_initialise(*module_p, 5));
    return gd_tensor_data((*module_p)->parameters[0].tensor);
}

static void orthogonal_weights_have_orthonormal_rows_or_columns(void **state)
{
    (void)state;
    for (int turn = 0; turn < 2; turn++) {
        const int64_t shape[3] = {turn == 0 ? 12 : 40, turn == 0 ? 20 : 4, 2};
        const int64_t rows = shape[0], columns = shape[1] * shape[2];
        gd_module_t *module = NULL;
        const float *w = weight_of((gd_init_t){.kind = GD_INIT_ORTHOGONAL, .a = 2}, 3, shape, &module);
        const bool is_wide = rows <= columns;
        const int64_t n = is_wide ? rows : columns, length = is_wide ? columns : rows;
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j < n; j++) {
                double dot = 0;
                for (int64_t k = 0; k < length; k++) {
                    dot += is_wide ? (double)w[i * columns + k] * (double)w[j * columns + k]
                                   : (double)w[k * columns + i] * (double)w[k * columns + j];
                }
                assert_true(fabs(dot - (i == j ? 4 : 0)) < 1e-5);
            }
        }
        (void)gd_module_unref(module);
    }
}

static void eye_dirac_sparse_and_truncated_weights_are_as_they_say(void **state)
{
    (void)state;
    gd_module_t *module = NULL;
    const float *w = weight_of((gd_init_t){.kind = GD_INIT_EYE}, 2, (int64_t[]){3, 5}, &module);
    for (int i = 0; i < 15; i++) {
        assert_true((w[i] != 0) == (i / 5 == i % 5));
    }
    (void)gd_module_unref(module);
    w = weight_of((gd_init_t){.kind = GD_INIT_DIRAC, .a = 2}, 4, (int64_t[]){4, 2, 3, 3}, &module);
    for (int i = 0; i < 72; i++) { /* the middle of the kernel of channel o % 2 */
        assert_true((w[i] != 0) == (i % 9 == 4 && i / 9 % 2 == i / 18 % 2));
    }
    (void)gd_module_unref(module);
    w = weight_of((gd_init_t){.kind = GD_INIT_SPARSE, .a = 0.3, .b = 1}, 2, (int64_t[]){10, 7}, &module);
    for (int column = 0; column < 7; column++) {
        int n_zeros = 0;
        for (int row = 0; row < 10; row++) {
            n_zeros += w[row * 7 + column] == 0;
        }
        assert_int_equal(n_zeros, 3);
    }
    (void)gd_module_unref(module);
    const gd_init_t cut = {.kind = GD_INIT_TRUNC_NORMAL, .a = 1, .b = 0.5, .c = 0.8, .d = 1.1};
    w = weight_of(cut, 1, (int64_t[]){1000}, &module);
    for (int i = 0; i < 1000; i++) {
        assert_true(w[i] >= 0.8F && w[i] <= 1.1F);
    }
    assert_ok(gd_module_set_init(module, "weight", (gd_init_t){.kind = GD_INIT_EYE}));
    assert_fails(gd_module_initialise(module, 5), ST_ERR_SHAPE, "parameter \"weight\" [1000]");
    (void)gd_module_unref(module);
}

static void an_error_names_the_innermost_module_once(void **state)
{
    (void)state;
    gd_module_t *root = sequential();
    (void)add(add(root, "h", sequential()), "fc", linear(3, 4));
    assert_ok(gd_module_set_paths(root));
    gd_tensor_t *x = tensor_of(2, (int64_t[]){2, 5}, 1);
    gd_tensor_t *y = NULL;

    assert_fails(gd_module_forward(root, x, &y), ST_ERR_SHAPE, "h.fc (linear): linear: ");

    assert_null(strstr(status_message(), "sequential"));
    assert_null(y);
    (void)gd_tensor_unref(x);
    (void)gd_module_unref(root);
}

static status_t cuda_forward(gd_module_t *self, gd_tensor_t *x, gd_tensor_t **y_p)
{
    (void)self;
    return gd_tensor_to(x, GD_DEVICE_CUDA, GD_DTYPE_F32, y_p);
}

static void a_device_that_is_not_there_is_named_with_the_module(void **state)
{
    (void)state;
    static const gd_module_ops_t ops = {.kind = "mover", .forward = cuda_forward};
    gd_module_t *root = sequential();
    gd_module_t *mover = NULL;
    assert_ok(gd_module_new(&ops, sizeof(gd_module_t), &mover));
    (void)add(add(root, "h", sequential()), "move", mover);
    assert_ok(gd_module_set_paths(root));
    gd_tensor_t *x = tensor_of(2, (int64_t[]){2, 5}, 1);
    gd_tensor_t *y = NULL;

    assert_fails(gd_module_forward(root, x, &y), ST_ERR_UNSUPPORTED,
                 "h.move (mover): to: f32 [2, 5]: device cuda: this build has no kernels for it; device cpu is there");

    (void)gd_tensor_unref(x);
    (void)gd_module_unref(root);
}

static void a_residual_names_both_shapes(void **state)
{
    (void)state;
    gd_module_t *root = NULL;
    assert_ok(gd_residual_new(&root));
    (void)add(root, "0", linear(3, 4));
    gd_tensor_t *x = tensor_of(2, (int64_t[]){2, 3}, 1);
    gd_tensor_t *y = NULL;
    assert_fails(gd_module_forward(root, x, &y), ST_ERR_SHAPE,
                 "model (residual): x is [2, 3] and its layers give [2, 4]");
    (void)gd_tensor_unref(x);
    (void)gd_module_unref(root);
}

static void dropout_acts_in_training_only(void **state)
{
    (void)state;
    gd_module_t *dropout = NULL;
    assert_ok(gd_dropout_new(0.25, &dropout));
    assert_ok(gd_module_set_paths(dropout));
    gd_tensor_t *x = tensor_of(1, (int64_t[]){4000}, 3);
    gd_tensor_t *y = NULL;
    assert_ok(gd_module_forward(dropout, x, &y));
    assert_memory_equal(gd_tensor_data(y), gd_tensor_data(x), 4000 * sizeof(float));
    y = gd_tensor_unref(y);

    bool before = gd_training_set(true);
    gd_rng_set_position(1, 2, 3);
    assert_ok(gd_module_forward(dropout, x, &y));
    (void)gd_training_set(before);

    int n_zero = 0;
    const float *data = gd_tensor_data(y);
    for (int i = 0; i < 4000; i++) {
        n_zero += data[i] == 0.0F;
        assert_true(data[i] == 0.0F || data[i] == 4.0F);
    }
    assert_in_range(n_zero, 880, 1120);
    gd_module_t *bad = NULL;
    assert_fails(gd_dropout_new(1.5, &bad), ST_ERR_RANGE, "p 1.5 is not in [0, 1]");
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
    (void)gd_module_unref(dropout);
}

static void statistics_of_microbatches_are_applied_in_order(void **state)
{
    (void)state;
    gd_module_t *root = sequential();
    gd_module_t *norm = NULL;
    assert_ok(gd_batch_norm2d_new(2, 1e-5, 0.1, &norm));
    (void)add(root, "bn", norm);
    assert_ok(gd_module_set_paths(root));
    assert_int_equal(gd_module_statistics_size(root), 4);
    float record[2][4];
    assert_fails(gd_module_statistics_export(root, record[0]), ST_ERR_STATE, "no forward in training mode");
    bool before = gd_training_set(true);
    for (int m = 0; m < 2; m++) {
        float values[8] = {0, 2, 10, 10, 4, 6, 10, 30}; /* x[2,2,1,2]: channel 0: 0 2 4 6, channel 1: 10 10 10 30 */
        for (int i = 0; i < 8; i++) {
            values[i] *= (float)(m + 1);
        }
        gd_tensor_t *x = NULL;
        gd_tensor_t *y = NULL;
        assert_ok(gd_tensor_from_data(GD_DTYPE_F32, 4, (int64_t[]){2, 2, 1, 2}, values, &x));
        assert_ok(gd_module_forward(root, x, &y));
        assert_ok(gd_module_statistics_export(root, record[m]));
        (void)gd_tensor_unref(x);
        (void)gd_tensor_unref(y);
    }
    (void)gd_training_set(before);

    assert_ok(gd_module_statistics_apply(root, record[0]));
    assert_ok(gd_module_statistics_apply(root, record[1]));

    assert_true(record[0][0] == 3.0F && record[0][1] == 15.0F);
    const float *mean = gd_tensor_data(norm->parameters[2].tensor);
    const float *var = gd_tensor_data(norm->parameters[3].tensor);
    const double unbiased = 20.0 / 3; /* of 0 2 4 6 */
    assert_true(fabs((double)mean[0] - (0.9 * 0.3 + 0.1 * 6)) < 1e-6);
    assert_true(fabs((double)var[0] - (0.9 * (0.9 + 0.1 * unbiased) + 0.1 * 4 * unbiased)) < 1e-5);
    assert_fails(gd_module_statistics_export(root, record[0]), ST_ERR_STATE, "bn");
    (void)gd_module_unref(root);
}

/* Of width 1 - 2 · 2 + 2 + 1 it would be 0. */
static void a_transposed_convolution_that_leaves_nothing_is_refused(void **state)
{
    (void)state;
    gd_tensor_t *x = tensor_of(3, (int64_t[]){2, 1, 1}, 1);
    gd_tensor_t *weight = tensor_of(3, (int64_t[]){1, 2, 2}, 1);
    gd_tensor_t *y = NULL;
    gd_conv_options_t options = {.padding = {2}, .dilation = {2}, .output_padding = {1}};
    assert_fails(gd_conv_transpose(x, weight, NULL, &options, &y), ST_ERR_SHAPE, "leaves nothing");
    options.output_padding[0] = 2;
    assert_fails(gd_conv_transpose(x, weight, NULL, &options, &y), ST_ERR_RANGE,
                 "output padding 2 of spatial axis 0 must be below the larger of stride 1 and dilation 2");
    options = (gd_conv_options_t){.padding = {1}, .dilation = {2}, .output_padding = {1}};
    assert_ok(gd_conv_transpose(x, weight, NULL, &options, &y));
    assert_int_equal(gd_tensor_dim(y, 2), 2);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(weight);
    (void)gd_tensor_unref(x);
}

static void positions_beyond_the_table_are_refused(void **state)
{
    (void)state;
    gd_module_t *position = NULL;
    assert_ok(gd_position_embedding_new(4, 3, &position));
    gd_tensor_t *x = tensor_of(3, (int64_t[]){2, 5, 3}, 1);
    gd_tensor_t *y = NULL;
    assert_fails(gd_module_forward(position, x, &y), ST_ERR_SHAPE,
                 "x is [2, 5, 3], but there are positions for at most 4 vectors of 3");
    (void)gd_tensor_unref(x);
    (void)gd_module_unref(position);
}

static void modules_describe_themselves(void **state)
{
    (void)state;
    gd_module_t *conv = NULL;
    assert_ok(gd_conv2d_new(4, 6, (const int[2]){3, 5}, &(gd_conv2d_options_t){.groups = 2}, true, &conv));
    strbuf_t text = {0};
    conv->ops->describe(conv, &text);
    assert_string_equal(strbuf_text(&text), "in 4, out 6, kernel 3x5, stride 1x1, padding 0x0");
    strbuf_release(&text);
    (void)gd_module_unref(conv);
    assert_fails(gd_conv2d_new(3, 6, (const int[2]){3, 3}, &(gd_conv2d_options_t){.groups = 2}, true, &conv),
                 ST_ERR_SHAPE, "2 groups don't divide 3 and 6 channels");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(parameters_have_pytorchs_names),
        TEST(a_shared_parameter_is_listed_once),
        TEST(names_are_checked),
        TEST(an_inline_child_has_its_parents_names),
        TEST(meta_modules_have_shapes_but_no_memory),
        TEST(initial_values_depend_on_seed_and_name_alone),
        TEST(drawing_new_values_counts_as_a_change_in_place),
        TEST(initialisations_have_their_deviation),
        TEST(orthogonal_weights_have_orthonormal_rows_or_columns),
        TEST(eye_dirac_sparse_and_truncated_weights_are_as_they_say),
        TEST(an_error_names_the_innermost_module_once),
        TEST(a_device_that_is_not_there_is_named_with_the_module),
        TEST(a_residual_names_both_shapes),
        TEST(dropout_acts_in_training_only),
        TEST(statistics_of_microbatches_are_applied_in_order),
        TEST(a_transposed_convolution_that_leaves_nothing_is_refused),
        TEST(positions_beyond_the_table_are_refused),
        TEST(modules_describe_themselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
