/* SPDX-License-Identifier: Apache-2.0 */
/* Models from YAML: sizes worked out from layer to layer, what is refused and how it is said, PyTorch's numbers. */
#include "tests/worker/model_jobs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gradd/autograd.h"
#include "gradd/context.h"
#include "gradd/safetensors.h"
#include "worker/model.h"

static const wrk_shape_t image = {.dtype = GD_DTYPE_F32, .n_dims = 3, .size = {1, 28, 28}};
static const wrk_shape_t tokens = {.dtype = GD_DTYPE_I64, .n_dims = 1, .size = {64}};

/* Builds the layers (YAML list items, the first on line 3). */
static status_t layers_build(const char *layers, const wrk_shape_t *input, gd_module_t **root_p, wrk_shape_t *output_p)
{
    strbuf_t model = {0};
    strbuf_appendf(&model, "  layers:\n%s", layers);
    spec_job_t *job = model_job_parse(NULL, strbuf_text(&model));
    status_t status = wrk_model_build_layers(job->model, input, root_p, output_p);
    spec_job_free(job);
    strbuf_release(&model);
    return status;
}

/* Builds configs/models/<file> with some of its parameters replaced ("vocabulary: 65, …"). */
static gd_module_t *config_build(const char *file, const char *with, const wrk_shape_t *input, wrk_shape_t *output_p,
                                 int64_t *context_p)
{
    spec_job_t *job = model_config_parse(file, with);
    gd_module_t *root = NULL;
    assert_ok(wrk_model_build_layers(job->model, input, &root, output_p));
    if (context_p != NULL) {
        *context_p = wrk_model_context(job);
    }
    spec_job_free(job);
    return root;
}

static void the_nanogpt_recipe_has_its_parameters(void **state)
{
    (void)state;
    wrk_shape_t output = {0};
    int64_t context = 0;
    gd_module_t *root = config_build("gpt.yaml", "vocabulary: 65, context: 64, width: 128, heads: 4, layers: 4",
                                     &tokens, &output, &context);

    /* nanoGPT reports 0.80M: 795,904 without the 64 · 128 positions. */
    assert_int_equal(model_numel(root), 795904 + 64 * 128);
    assert_int_equal(output.n_dims, 2);
    assert_int_equal(output.size[0], 64);
    assert_int_equal(output.size[1], 65);
    assert_int_equal(context, 64);
    (void)gd_module_unref(root);

    /* With biases, and GPT-2's count by formula: 12 C² + 13 C a layer, VC + TC + 2 C. */
    root = config_build("gpt.yaml", "vocabulary: 65, context: 64, width: 128, heads: 4, layers: 4, bias: true", &tokens,
                        &output, NULL);
    assert_int_equal(model_numel(root), 4 * (12 * 128 * 128 + 13 * 128) + (65 + 64 + 2) * 128);
    (void)gd_module_unref(root);
}

static void the_image_models_have_their_parameters(void **state)
{
    (void)state;
    wrk_shape_t output = {0};
    gd_module_t *root = config_build("lenet.yaml", "", &image, &output, NULL);
    assert_int_equal(model_numel(root), 421834);
    assert_int_equal(output.n_dims, 1);
    assert_int_equal(output.size[0], 10);
    assert_int_equal(gd_module_statistics_size(root), 2 * (32 + 64));
    (void)gd_module_unref(root);

    root = config_build("mlp.yaml", "", &image, &output, NULL);
    assert_int_equal(model_numel(root), 784 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10);
    assert_int_equal(output.size[0], 10);
    (void)gd_module_unref(root);
}

static status_t name_append(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)parameter;
    (void)owner;
    strbuf_appendf(arg, "%s ", full_name);
    return ST_OK;
}

static void children_are_named_by_name_or_place(void **state)
{
    (void)state;
    gd_module_t *root = NULL;
    wrk_shape_t output = {0};
    assert_ok(layers_build("    - flatten\n"
                           "    - linear: {out: 8}\n"
                           "    - repeat: {name: h, times: 2, layers: [{linear: {out: 8, bias: false}}, relu]}\n"
                           "    - residual: [{linear: {name: fc, out: 8}}]\n",
                           &image, &root, &output));
    strbuf_t names = {0};
    assert_ok(gd_module_visit(root, name_append, &names));
    assert_string_equal(strbuf_text(&names), "1.weight 1.bias h.0.0.weight h.1.0.weight 3.fc.weight 3.fc.bias ");
    strbuf_release(&names);
    (void)gd_module_unref(root);
}

static void assert_names(const char *layers, const wrk_shape_t *input, const char *expected)
{
    gd_module_t *root = NULL;
    strbuf_t names = {0};
    assert_ok(layers_build(layers, input, &root, NULL));
    assert_ok(gd_module_visit(root, name_append, &names));
    assert_string_equal(strbuf_text(&names), expected);
    strbuf_release(&names);
    (void)gd_module_unref(root);
}

static void inline_layers_have_the_names_around_them(void **state)
{
    (void)state;
    assert_names("    - flatten\n"
                 "    - sequential:\n"
                 "        name: layer1\n"
                 "        layers:\n"
                 "          - residual:\n"
                 "              inline: true\n"
                 "              layers: [{linear: {name: output.fc, out: 8, bias: false}}]\n"
                 "              shortcut: [{sequential: {name: down, layers: [{linear: {out: 8, bias: false}}]}}]\n"
                 "          - repeat: {inline: true, first: 1, times: 2, layers: [{linear: {out: 8, bias: false}}]}\n",
                 &image, "layer1.output.fc.weight layer1.down.0.weight layer1.1.0.weight layer1.2.0.weight ");
    assert_names("    - flatten\n"
                 "    - parallel:\n"
                 "        name: p\n"
                 "        combine: add\n"
                 "        branches:\n"
                 "          - [{linear: {name: a, out: 8, bias: false}}]\n"
                 "          - {inline: true, layers: [{linear: {name: b, out: 8, bias: false}}]}\n"
                 "    - add_parameter: {name: shift}\n",
                 &image, "p.0.a.weight p.b.weight shift ");
}

static void names_that_meet_are_refused(void **state)
{
    (void)state;
    gd_module_t *root = NULL;
    assert_fails(layers_build("    - flatten\n"
                              "    - sequential: {name: a, layers: [{linear: {name: b, out: 8}}]}\n"
                              "    - linear: {name: a.b, out: 8}\n",
                              &image, &root, NULL),
                 ST_ERR_EXISTS,
                 ":5: linear \"a.b\": its parameter \"a.b.bias\" has the name of one of linear \"b\" at ");
    assert_fails(layers_build("    - flatten\n"
                              "    - linear: {name: fc, out: 8}\n"
                              "    - sequential: {inline: true, layers: [{linear: {name: fc, out: 8}}]}\n",
                              &image, &root, NULL),
                 ST_ERR_EXISTS, ":5: sequential: the name \"fc\" is taken");
}

static void layers_that_change_shapes_are_followed(void **state)
{
    (void)state;
    static const wrk_shape_t vectors = {.dtype = GD_DTYPE_F32, .n_dims = 2, .size = {6, 12}};
    static const struct {
        const char *layers;
        const wrk_shape_t *input;
        int n_dims;
        int64_t size[3];
    } cases[] = {
        {"    - tokens\n", &image, 2, {784, 1}},
        {"    - select: {index: -1}\n", &vectors, 1, {12}},
        {"    - mean: {axes: [2]}\n", &vectors, 1, {6}},
        {"    - mean: {axes: [1, 2]}\n    - identity\n", &vectors, 0, {0}},
        {"    - transpose: {axes: [1, 2]}\n", &vectors, 2, {12, 6}},
        {"    - reshape: {shape: [2, -1, 4]}\n", &vectors, 3, {2, 9, 4}},
        {"    - attend: {heads: 2}\n", &vectors, 2, {6, 4}},
        {"    - token_type_embedding: {name: t}\n", &vectors, 2, {6, 12}},
        {"    - linear: {out: 5, transposed: true}\n", &vectors, 2, {6, 5}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        gd_module_t *root = NULL;
        wrk_shape_t output = {0};
        gd_tensor_t *x = NULL;
        gd_tensor_t *y = NULL;
        int64_t shape[4] = {2, cases[i].input->size[0], cases[i].input->size[1], cases[i].input->size[2]};
        assert_ok(layers_build(cases[i].layers, cases[i].input, &root, &output));
        assert_ok(gd_tensor_full(GD_DTYPE_F32, 1 + cases[i].input->n_dims, shape, 0.5, &x));

        assert_ok(gd_module_forward(root, x, &y));

        assert_int_equal(output.n_dims, cases[i].n_dims);
        assert_int_equal(gd_tensor_n_dims(y), 1 + cases[i].n_dims);
        for (int d = 0; d < output.n_dims; d++) {
            assert_int_equal(output.size[d], cases[i].size[d]);
            assert_int_equal(gd_tensor_dim(y, 1 + d), cases[i].size[d]);
        }
        (void)gd_tensor_unref(y);
        (void)gd_tensor_unref(x);
        (void)gd_module_unref(root);
    }
}

static void shapers_say_what_they_want(void **state)
{
    (void)state;
    static const struct {
        const char *layers;
        status_t code;
        const char *text;
    } cases[] = {
        {"    - select: {index: 3}\n", ST_ERR_SHAPE, "wants at least 4 tokens to select number 3, but the data gives"},
        {"    - mean: {axes: [4]}\n", ST_ERR_SHAPE, "wants an axis 4, but the data gives [B, 1, 28, 28]"},
        {"    - mean: {axes: [2, 2]}\n", ST_ERR_INVAL, "axis 2 is given twice"},
        {"    - transpose: {axes: [1]}\n", ST_ERR_INVAL, "takes two axes, not 1"},
        {"    - reshape: {shape: [5, -1]}\n", ST_ERR_SHAPE, "wants samples of a multiple of 5 elements, but"},
        {"    - reshape: {shape: [-1, -1]}\n", ST_ERR_INVAL, "two sizes of its shape are open"},
        {"    - flatten\n    - tokens\n", ST_ERR_SHAPE, "wants images [B, C, H, W], but flatten at "},
        {"    - attend: {heads: 2}\n", ST_ERR_SHAPE, "wants queries, keys and values [B, T, 3C] with a C that its 2"},
        {"    - prepend_parameter: {name: cls}\n", ST_ERR_SHAPE, "wants vectors [B, T, C]"},
        {"    - add_parameter\n", ST_ERR_INVAL, "needs a name: its parameter's"},
        {"    - add_parameter: {name: a.b}\n", ST_ERR_INVAL, "it is empty or has a dot"},
        {"    - parallel: {branches: [[identity], [flatten]]}\n", ST_ERR_SHAPE,
         "branch 1 wants to give what fits those before it, [B, 1, 28, 28], but flatten at "},
        {"    - parallel: {axis: 5, branches: [[identity]]}\n", ST_ERR_SHAPE,
         "branch 0 wants to give numbers with an axis 5, but identity at "},
        {"    - residual: {layers: [identity], shortcut: [flatten]}\n", ST_ERR_SHAPE,
         "wants its layers to give the shortcut's shape [B, 784], but identity at "},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        gd_module_t *root = NULL;
        assert_fails(layers_build(cases[i].layers, &image, &root, NULL), cases[i].code, cases[i].text);
    }
}

static void sizes_of_images_follow_windows(void **state)
{
    (void)state;
    gd_module_t *root = NULL;
    wrk_shape_t output = {0};
    assert_ok(layers_build("    - conv2d: {out: 6, kernel: [5, 3], stride: 2, padding: [2, 0]}\n" /* 14 x 13 */
                           "    - conv2d: {out: 4, kernel: 3, dilation: 2, groups: 2}\n"          /* 10 x 9 */
                           "    - max_pool2d: {kernel: 3, stride: 2, padding: 1}\n"               /* 5 x 5 */
                           "    - avg_pool2d: {kernel: 2}\n"                                      /* 2 x 2 */
                           "    - batch_norm2d\n",
                           &image, &root, &output));
    assert_int_equal(output.size[0], 4);
    assert_int_equal(output.size[1], 2);
    assert_int_equal(output.size[2], 2);
    gd_tensor_t *x = NULL;
    gd_tensor_t *y = NULL;
    assert_ok(gd_tensor_full(GD_DTYPE_F32, 4, (int64_t[]){2, 1, 28, 28}, 0.5, &x));
    assert_ok(gd_module_forward(root, x, &y)); /* the engine agrees */
    assert_int_equal(gd_tensor_dim(y, 1), 4);
    assert_int_equal(gd_tensor_dim(y, 2), 2);
    assert_int_equal(gd_tensor_dim(y, 3), 2);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(y);
    (void)gd_module_unref(root);
}

static void mismatches_name_both_layers_and_both_shapes(void **state)
{
    (void)state;
    const struct {
        const wrk_shape_t *input;
        status_t code;
        const char *layers;
        const char *text;
    } cases[] = {
        {&image, ST_ERR_SHAPE, "    - flatten\n    - conv2d: {name: c1, out: 4, kernel: 3}\n",
         "job.yaml:4: conv2d \"c1\": wants images [B, C, H, W], but flatten at job.yaml:3 gives [B, 784]"},
        {&image, ST_ERR_SHAPE, "    - conv2d: {name: c1, out: 4, kernel: 3}\n    - linear: {name: head, out: 10}\n",
         "job.yaml:4: linear \"head\": wants vectors [B, C] or [B, T, C] (flatten images first), but conv2d \"c1\" at "
         "job.yaml:3 gives [B, 4, 26, 26]"},
        {&image, ST_ERR_SHAPE, "    - embedding: {count: 5, width: 4}\n",
         "job.yaml:3: embedding: wants tokens [B, T] i64, but the data gives [B, 1, 28, 28]"},
        {&tokens, ST_ERR_SHAPE, "    - linear: {out: 4}\n",
         "job.yaml:3: linear: wants vectors [B, C] or [B, T, C], but the data gives [B, 64] i64"},
        {&image, ST_ERR_SHAPE, "    - max_pool2d: {kernel: 20}\n    - conv2d: {out: 1, kernel: [3, 5], padding: 1}\n",
         "wants images of at least 1 x 3 for its kernel 3 x 5 and padding 1 x 1, but max_pool2d at job.yaml:3 gives "
         "[B, 1, 1, 1]"},
        {&image, ST_ERR_SHAPE, "    - conv2d: {out: 4, kernel: 1, groups: 3}\n",
         "wants channels that its 3 groups divide, but the data gives [B, 1, 28, 28]"},
        {&tokens, ST_ERR_SHAPE, "    - embedding: {name: wte, count: 5, width: 6}\n    - attention: {heads: 4}\n",
         "job.yaml:4: attention: wants a width that its 4 heads divide, but embedding \"wte\" at job.yaml:3 gives [B, "
         "64, 6]"},
        {&tokens, ST_ERR_SHAPE, "    - embedding: {count: 5, width: 6}\n    - position_embedding: {count: 32}\n",
         "job.yaml:4: position_embedding: wants at most its count of 32 positions, but embedding at job.yaml:3 gives "
         "[B, 64, 6]"},
        {&tokens, ST_ERR_SHAPE,
         "    - embedding: {count: 5, width: 6}\n    - residual: [relu, {linear: {name: up, out: 12}}]\n",
         "job.yaml:4: residual: wants its layers to keep the input's shape [B, 64, 6], but linear \"up\" at job.yaml:4 "
         "gives [B, 64, 12]"},
        {&tokens, ST_ERR_SHAPE,
         "    - embedding: {name: wte, count: 5, width: 6}\n    - linear: {out: 7}\n"
         "    - linear: {out: 5, tied: wte}\n",
         "job.yaml:5: linear: wants width 6, that of the embedding \"wte\" at job.yaml:3 it is tied to, but linear at "
         "job.yaml:4 gives [B, 64, 7]"},
        {&tokens, ST_ERR_SHAPE, "    - embedding: {name: wte, count: 5, width: 6}\n    - linear: {out: 7, tied: wte}\n",
         "job.yaml:4: linear: out 7 differs from the 5 rows of the embedding \"wte\" at job.yaml:3"},
        {&image, ST_ERR_RANGE, "    - flatten\n    - repeat: {times: 6000, layers: [relu]}\n",
         "the model has more than 10000 layers"},
        {&image, ST_ERR_RANGE, "    - flatten\n    - linear: {out: 16000000}\n",
         "job.yaml:4: linear: the model has more than 8589934592 parameters"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        gd_module_t *root = NULL;
        assert_fails(layers_build(cases[i].layers, cases[i].input, &root, NULL), cases[i].code, cases[i].text);
        assert_null(root);
    }
}

/* What proto/ refuses already must not get through here either: jobs come from a socket. */
static void raw_messages_are_checked(void **state)
{
    (void)state;
    gd_module_t *root = NULL;
    Gradd__V1__Layer__Linear linear = GRADD__V1__LAYER__LINEAR__INIT;
    Gradd__V1__Layer__Conv2d conv = GRADD__V1__LAYER__CONV2D__INIT;
    Gradd__V1__Layer layer = GRADD__V1__LAYER__INIT;
    Gradd__V1__Layer *layers[] = {&layer};
    Gradd__V1__Model model = GRADD__V1__MODEL__INIT;
    assert_fails(wrk_model_build_layers(&model, &tokens, &root, NULL), ST_ERR_INVAL, "the model has no layers");
    model.layers = layers;
    model.n_layers = 1;
    assert_fails(wrk_model_build_layers(&model, &tokens, &root, NULL), ST_ERR_INVAL, "layer: has no kind");

    const wrk_shape_t vector = {.dtype = GD_DTYPE_F32, .n_dims = 1, .size = {4}};
    layer.kind_case = GRADD__V1__LAYER__KIND_LINEAR;
    layer.linear = &linear;
    assert_fails(wrk_model_build_layers(&model, &vector, &root, NULL), ST_ERR_RANGE, "out 0 is not in 1 … 16777216");
    linear.out = 4;
    linear.tied = (char *)(uintptr_t) "nowhere";
    assert_fails(wrk_model_build_layers(&model, &vector, &root, NULL), ST_ERR_NOT_FOUND,
                 "tied to \"nowhere\": no embedding before it has that name");
    layer.kind_case = GRADD__V1__LAYER__KIND_CONV2D;
    layer.conv2d = &conv;
    conv.out = 1;
    assert_fails(wrk_model_build_layers(&model, &image, &root, NULL), ST_ERR_RANGE, "kernel 0 is not in 1 … 1024");
    conv.groups = 0;
    int32_t kernel = 3;
    conv.kernel = &kernel;
    conv.n_kernel = 1;
    assert_fails(wrk_model_build_layers(&model, &image, &root, NULL), ST_ERR_RANGE, "groups 0 is not in");

    Gradd__V1__Layer__Plain plain = GRADD__V1__LAYER__PLAIN__INIT;
    plain.name = (char *)(uintptr_t) "again";
    layer.kind_case = GRADD__V1__LAYER__KIND_RELU;
    layer.relu = &plain;
    Gradd__V1__Layer *twice[] = {&layer, &layer};
    model.layers = twice;
    model.n_layers = 2;
    assert_fails(wrk_model_build_layers(&model, &image, &root, NULL), ST_ERR_EXISTS,
                 "relu \"again\": sequential: the name \"again\" is taken");
    plain.name = (char *)(uintptr_t) "a..b";
    assert_fails(wrk_model_build_layers(&model, &image, &root, NULL), ST_ERR_INVAL, "\"a..b\" can't be a name");
}

/* ---- PyTorch's numbers ---- */

typedef struct golden {
    gd_safetensors_t *file;
    const char *model;
    const char *kind; /* "before": load; "grad", "after": compare */
    int n_seen;
} golden_t;

static const gd_safetensors_entry_t *golden_find(const golden_t *golden, const char *kind, const char *name)
{
    char full[160];
    (void)snprintf(full, sizeof(full), "%s.%s%s%s", golden->model, kind, name[0] != '\0' ? "." : "", name);
    const gd_safetensors_entry_t *entry = gd_safetensors_find(golden->file, full);
    if (entry == NULL) {
        fail_msg("the golden file has no %s", full);
    }
    return entry;
}

static gd_tensor_t *golden_tensor(const golden_t *golden, const char *kind)
{
    const gd_safetensors_entry_t *entry = golden_find(golden, kind, "");
    gd_tensor_t *t = NULL;
    assert_ok(gd_tensor_from_data(entry->dtype, entry->n_dims, entry->shape, entry->data, &t));
    return t;
}

static void assert_close(const gd_tensor_t *ours, const gd_safetensors_entry_t *theirs)
{
    const float *a = gd_tensor_data(ours);
    const float *b = theirs->data;
    assert_true(gd_tensor_is_contiguous(ours));
    double largest = 0;
    for (int64_t i = 0; i < gd_tensor_numel(ours); i++) {
        largest = fmax(largest, fabs((double)b[i]));
    }
    for (int64_t i = 0; i < gd_tensor_numel(ours); i++) {
        if (!(fabs((double)a[i] - (double)b[i]) <= 2e-5 * (largest + 0.01))) {
            fail_msg("%s[%lld] is %.9g, PyTorch has %.9g", theirs->name, (long long)i, (double)a[i], (double)b[i]);
        }
    }
}

static status_t golden_visit(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)owner;
    golden_t *golden = arg;
    bool is_load = strcmp(golden->kind, "before") == 0;
    if (!is_load && parameter->is_buffer != (strcmp(golden->kind, "after") == 0)) {
        return ST_OK;
    }
    const gd_safetensors_entry_t *entry = golden_find(golden, golden->kind, full_name);
    assert_int_equal(entry->n_dims, gd_tensor_n_dims(parameter->tensor));
    for (int d = 0; d < entry->n_dims; d++) {
        assert_int_equal(entry->shape[d], gd_tensor_dim(parameter->tensor, d));
    }
    golden->n_seen++;
    if (is_load) {
        memcpy(gd_tensor_data(parameter->tensor), entry->data, (size_t)gd_tensor_numel(parameter->tensor) * 4);
    } else if (parameter->is_buffer) {
        assert_close(parameter->tensor, entry);
    } else {
        assert_non_null(gd_tensor_grad(parameter->tensor));
        assert_close(gd_tensor_grad(parameter->tensor), entry);
    }
    return ST_OK;
}

static void golden_walk(golden_t *golden, const char *kind, gd_module_t *root)
{
    golden->kind = kind;
    golden->n_seen = 0;
    assert_ok(gd_module_visit(root, golden_visit, golden));
    char prefix[64];
    (void)snprintf(prefix, sizeof(prefix), "%s.%s.", golden->model, kind);
    int n_expected = 0;
    for (int i = 0; i < gd_safetensors_count(golden->file); i++) {
        n_expected += strncmp(gd_safetensors_at(golden->file, i)->name, prefix, strlen(prefix)) == 0;
    }
    assert_int_equal(golden->n_seen, n_expected);
}

/* One forward and backward in training mode, then a forward in evaluation mode. */
static void compare_with_golden(const char *model, gd_module_t *root)
{
    golden_t golden = {.model = model};
    assert_ok(gd_safetensors_open(fixture_golden("models.safetensors"), &golden.file));
    assert_ok(gd_module_set_paths(root));
    golden_walk(&golden, "before", root);
    gd_tensor_t *x = golden_tensor(&golden, "x");
    gd_tensor_t *targets = golden_tensor(&golden, "targets");
    gd_tensor_t *logits = NULL;
    gd_tensor_t *loss = NULL;

    bool training = gd_training_set(true);
    bool grad = gd_grad_set_enabled(true);
    assert_ok(gd_module_forward(root, x, &logits));
    assert_ok(gd_cross_entropy(logits, targets, 1.0 / (double)gd_tensor_numel(targets), -100, 0, &loss, NULL));
    assert_ok(gd_backward(loss, NULL, false));
    (void)gd_training_set(false);

    assert_close(logits, golden_find(&golden, "logits", ""));
    assert_close(loss, golden_find(&golden, "loss", ""));
    golden_walk(&golden, "grad", root);
    int64_t size = gd_module_statistics_size(root);
    if (size > 0) {
        float record[64];
        assert_in_range(size, 1, 64);
        assert_ok(gd_module_statistics_export(root, record));
        assert_ok(gd_module_statistics_apply(root, record));
        golden_walk(&golden, "after", root);
    }
    logits = gd_tensor_unref(logits);
    assert_ok(gd_module_forward(root, x, &logits));
    assert_close(logits, golden_find(&golden, "eval_logits", ""));

    (void)gd_training_set(training);
    (void)gd_grad_set_enabled(grad);
    (void)gd_tensor_unref(x);
    (void)gd_tensor_unref(targets);
    (void)gd_tensor_unref(logits);
    (void)gd_tensor_unref(loss);
    gd_safetensors_close(golden.file);
    (void)gd_module_unref(root);
}

static void gpt_computes_what_pytorch_does(void **state)
{
    (void)state;
    const wrk_shape_t six = {.dtype = GD_DTYPE_I64, .n_dims = 1, .size = {6}};
    const char *with = "vocabulary: 11, context: 8, width: 8, heads: 2, layers: 2";
    compare_with_golden("gpt", config_build("gpt.yaml", with, &six, NULL, NULL));
    with = "vocabulary: 11, context: 8, width: 8, heads: 2, layers: 2, bias: true";
    compare_with_golden("gpt_bias", config_build("gpt.yaml", with, &six, NULL, NULL));
}

static void lenet_computes_what_pytorch_does(void **state)
{
    (void)state;
    const wrk_shape_t small = {.dtype = GD_DTYPE_F32, .n_dims = 3, .size = {1, 8, 8}};
    const char *with = "channels: 4, width: 8, classes: 5, dropout: 0";
    compare_with_golden("lenet", config_build("lenet.yaml", with, &small, NULL, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_nanogpt_recipe_has_its_parameters),
        TEST(the_image_models_have_their_parameters),
        TEST(children_are_named_by_name_or_place),
        TEST(inline_layers_have_the_names_around_them),
        TEST(names_that_meet_are_refused),
        TEST(layers_that_change_shapes_are_followed),
        TEST(shapers_say_what_they_want),
        TEST(sizes_of_images_follow_windows),
        TEST(mismatches_name_both_layers_and_both_shapes),
        TEST(raw_messages_are_checked),
        TEST(gpt_computes_what_pytorch_does),
        TEST(lenet_computes_what_pytorch_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
