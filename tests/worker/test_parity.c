/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parity: layers of a job in YAML against PyTorch's modules: weights under PyTorch's names go in, values, gradients and
 * running statistics come out within 1e-5. A tensor in which PyTorch's own float32 isn't that good against its float64
 * is held to 1.5 times PyTorch's own error of that tensor, a gradient that is zero in exact arithmetic to 1e-5 of the
 * scale of the others. The cases are in tests/golden/<file>.safetensors, written by the scripts beside them with
 * modules.py, which says what a case holds. A kind of layer, loss, optimizer or schedule that job.proto has and
 * PyTorch's values lack fails here.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gradd/context.h"
#include "gradd/nn.h"
#include "gradd/safetensors.h"
#include "tests/worker/model_jobs.h"
#include "worker/model.h"

#define RELATIVE 1e-5 /* unless the case says another */
#define ABSOLUTE 2e-6 /* what float32 leaves where terms of about 1 cancel; grows with the tolerance */
#define OWN 1.5 /* times PyTorch's own error, where that is more: of the tensor's norm, and of its largest element */

typedef struct parity {
    const gd_safetensors_t *file;
    const char *name; /* of the case */
    int n_threads;
    int n_bad;
    int n_used;       /* entries of the case's state that were loaded */
    double tolerance; /* relative */
} parity_t;

static void bad(parity_t *p, const char *text)
{
    print_error("%s, %d threads: %s\n", p->name, p->n_threads, text);
    p->n_bad++;
}

static const gd_safetensors_entry_t *entry_find(const parity_t *p, const char *kind, const char *name)
{
    char key[256];
    (void)snprintf(key, sizeof(key), "%s/%s%s%s", p->name, kind, name[0] != '\0' ? "." : "", name);
    return gd_safetensors_find(p->file, key);
}

static bool is_shaped(const gd_tensor_t *t, const gd_safetensors_entry_t *entry)
{
    bool is_equal = gd_tensor_n_dims(t) == entry->n_dims;
    for (int d = 0; is_equal && d < entry->n_dims; d++) {
        is_equal = gd_tensor_dim(t, d) == entry->shape[d];
    }
    return is_equal;
}

/* The numbers of the case about the tensor KIND.NAME, or NAME alone; NULL where it has none. */
static const float *numbers_of(const parity_t *p, const char *about, const char *kind, const char *name)
{
    char key[256];
    (void)snprintf(key, sizeof(key), "%s%s%s", kind, kind[0] != '\0' && name[0] != '\0' ? "." : "", name);
    const gd_safetensors_entry_t *entry = entry_find(p, about, key);
    return entry != NULL ? entry->data : NULL;
}

/* Each element, and the tensor as a whole. */
static void compare(parity_t *p, const char *kind, const char *name, gd_tensor_t *got)
{
    char text[320];
    const gd_safetensors_entry_t *entry = entry_find(p, kind, name);
    if (entry == NULL || got == NULL || !is_shaped(got, entry)) {
        (void)snprintf(text, sizeof(text), "%s %s: %s", kind, name,
                       entry == NULL ? "PyTorch has none"
                       : got == NULL ? "we have none"
                                     : "the shapes differ");
        bad(p, text);
        return;
    }
    gd_tensor_t *dense = NULL;
    assert_ok(gd_contiguous(got, &dense));
    const float *values = gd_tensor_data(dense);
    const float *expected = entry->data;
    const int64_t n = gd_tensor_numel(dense);
    const double absolute = ABSOLUTE * p->tolerance / RELATIVE;
    double squares = 0;
    double error_squares = 0;
    for (int64_t i = 0; i < n; i++) {
        squares += (double)expected[i] * (double)expected[i];
    }
    const double rms = n > 0 ? sqrt(squares / (double)n) : 0;
    /* In a gradient that is zero in exact arithmetic only rounding is left, so its own size is no measure. The terms
     * that cancel in it are as large as other gradients: it is measured as one of their root mean square. */
    const float *zero = strcmp(kind, "grad") == 0 ? numbers_of(p, "zero", "", name) : NULL;
    const float *own_error = numbers_of(p, "error", kind, name);
    const double scale = zero != NULL ? (double)zero[0] : rms;
    const double norm_most =
        fmax((p->tolerance * scale + absolute) * sqrt((double)n), own_error != NULL ? OWN * (double)own_error[0] : 0);
    int64_t worst = -1;
    double most = 1;
    for (int64_t i = 0; i < n; i++) {
        const double error = fabs((double)values[i] - (double)expected[i]);
        const double allowed = fmax(p->tolerance * (fabs((double)expected[i]) + scale) + absolute,
                                    own_error != NULL ? OWN * (double)own_error[1] : 0);
        error_squares += error * error;
        if (!(error / allowed <= most)) {
            most = error / allowed;
            worst = i;
        }
    }
    if (worst >= 0) {
        (void)snprintf(text, sizeof(text),
                       "%s %s: element %lld is %.9g, in PyTorch %.9g; %.3g times what it may be off", kind, name,
                       (long long)worst, (double)values[worst], (double)expected[worst], most);
        bad(p, text);
    } else if (!(sqrt(error_squares) <= norm_most)) {
        (void)snprintf(text, sizeof(text), "%s %s: off by %g in its norm of %g; it may be by %g", kind, name,
                       sqrt(error_squares), sqrt(squares), norm_most);
        bad(p, text);
    }
    (void)gd_tensor_unref(dense);
}

static gd_tensor_t *entry_load(const gd_safetensors_entry_t *entry)
{
    gd_tensor_t *t = NULL;
    assert_non_null(entry);
    assert_ok(gd_tensor_from_data(entry->dtype, entry->n_dims, entry->shape, entry->data, &t));
    return t;
}

static status_t parameter_load(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)owner;
    parity_t *p = arg;
    const gd_safetensors_entry_t *entry = entry_find(p, "state", full_name);
    if (entry == NULL || !is_shaped(parameter->tensor, entry)) {
        char text[320];
        (void)snprintf(text, sizeof(text), "%s: PyTorch's module has %s", full_name,
                       entry == NULL ? "no such name" : "another shape");
        bad(p, text);
        return ST_OK;
    }
    p->n_used++;
    gd_tensor_t *t = entry_load(entry);
    status_t status = gd_tensor_copy(parameter->tensor, t);
    (void)gd_tensor_unref(t);
    return status;
}

/* Strict, as torch's load_state_dict: no name is left over on either side. */
static void state_load(parity_t *p, gd_module_t *root)
{
    char prefix[128];
    int n_given = 0;
    (void)snprintf(prefix, sizeof(prefix), "%s/state.", p->name);
    p->n_used = 0;
    assert_ok(gd_module_visit(root, parameter_load, p));
    for (int i = 0; i < gd_safetensors_count(p->file); i++) {
        n_given += strncmp(gd_safetensors_at(p->file, i)->name, prefix, strlen(prefix)) == 0;
    }
    if (n_given != p->n_used) {
        bad(p, "PyTorch's module has parameters or buffers that ours lacks");
    }
}

static status_t gradient_compare(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)owner;
    if (!parameter->is_buffer) {
        compare(arg, "grad", full_name, gd_tensor_grad(parameter->tensor));
    }
    return ST_OK;
}

static status_t running_compare(const char *full_name, gd_parameter_t *parameter, gd_module_t *owner, void *arg)
{
    (void)owner;
    if (parameter->is_buffer) {
        compare(arg, "after", full_name, parameter->tensor);
    }
    return ST_OK;
}

/* The case's `model:` as a job. */
static spec_job_t *job_parse(const parity_t *p)
{
    const gd_safetensors_entry_t *model = entry_find(p, "model", "");
    strbuf_t text = {0};
    strbuf_append(&text, "  ");
    for (int64_t i = 0; i < model->shape[0]; i++) {
        const char c = ((const char *)model->data)[i];
        strbuf_append_bytes(&text, &c, 1);
        if (c == '\n') {
            strbuf_append(&text, "  ");
        }
    }
    strbuf_append(&text, "\n");
    spec_job_t *job = model_job_parse(p->name, strbuf_text(&text));
    strbuf_release(&text);
    return job;
}

/* Its layers for x. */
static gd_module_t *model_build(const parity_t *p, const gd_safetensors_entry_t *x)
{
    spec_job_t *job = job_parse(p);
    wrk_shape_t input = {.dtype = x->dtype, .n_dims = x->n_dims - 1};
    for (int d = 1; d < x->n_dims; d++) {
        input.size[d - 1] = x->shape[d];
    }
    gd_module_t *root = NULL;
    status_t status = wrk_model_build_layers(job->model, &input, &root, NULL);
    if (status != ST_OK) {
        print_error("%s: %s\n", p->name, status_message());
    }
    assert_ok(status);
    assert_ok(gd_module_set_paths(root));
    spec_job_free(job);
    return root;
}

static void statistics_apply(gd_module_t *root)
{
    const int64_t size = gd_module_statistics_size(root);
    float *record = mem_calloc((size_t)size + 1, sizeof(*record));
    assert_non_null(record);
    assert_ok(gd_module_statistics_export(root, record));
    assert_ok(gd_module_statistics_apply(root, record));
    mem_free(record);
}

static void case_run(parity_t *p)
{
    const gd_safetensors_entry_t *x_entry = entry_find(p, "x", "");
    const bool is_training = ((const uint8_t *)entry_find(p, "training", "")->data)[0] != 0;
    const gd_safetensors_entry_t *tolerance = entry_find(p, "tolerance", "");
    p->tolerance = tolerance != NULL ? (double)((const float *)tolerance->data)[0] : RELATIVE;
    gd_module_t *root = model_build(p, x_entry);
    gd_tensor_t *x = entry_load(x_entry);
    gd_tensor_t *y = NULL;
    gd_tensor_t *dy = entry_load(entry_find(p, "dy", ""));
    state_load(p, root);
    if (gd_dtype_is_float(x_entry->dtype)) {
        assert_ok(gd_tensor_set_requires_grad(x, true));
    }
    const bool was_enabled = gd_grad_set_enabled(true);
    const bool was_training = gd_training_set(is_training);

    status_t status = gd_module_forward(root, x, &y);
    if (status == ST_OK) {
        compare(p, "y", "", y);
        status = y != x ? gd_backward(y, dy, false) : ST_OK;
    }

    if (status != ST_OK) {
        bad(p, status_message());
    } else if (y != x) { /* the input itself: dropout in evaluation */
        if (gd_dtype_is_float(x_entry->dtype)) {
            compare(p, "dx", "", gd_tensor_grad(x));
        }
        assert_ok(gd_module_visit(root, gradient_compare, p));
    }
    if (status == ST_OK && is_training) {
        statistics_apply(root);
        assert_ok(gd_module_visit(root, running_compare, p));
    }
    (void)gd_training_set(was_training);
    (void)gd_grad_set_enabled(was_enabled);
    (void)gd_tensor_unref(y);
    (void)gd_tensor_unref(dy);
    (void)gd_tensor_unref(x);
    (void)gd_module_unref(root);
}

/* Whether the entry is a case's model; then its case's name. */
static bool case_name(const gd_safetensors_entry_t *entry, char name[128])
{
    static const char suffix[] = "/model";
    (void)snprintf(name, 128, "%s", entry->name);
    const size_t length = strlen(name);
    if (length < sizeof(suffix) || strcmp(name + length + 1 - sizeof(suffix), suffix) != 0) {
        return false;
    }
    name[length + 1 - sizeof(suffix)] = '\0';
    return true;
}

/* Every case of the file, by one thread and by three; $GRADD_CASE names a single one. */
static void file_run(const char *file_name)
{
    const char *wanted = getenv("GRADD_CASE");
    gd_safetensors_t *file = NULL;
    int n_cases = 0;
    int n_bad = 0;
    assert_ok(gd_safetensors_open(fixture_golden(file_name), &file));
    for (int i = 0; i < gd_safetensors_count(file); i++) {
        char name[128];
        if (!case_name(gd_safetensors_at(file, i), name) || (wanted != NULL && strcmp(wanted, name) != 0)) {
            continue;
        }
        n_cases++;
        for (int n_threads = 1; n_threads <= 3; n_threads += 2) {
            assert_ok(gd_context_set_n_threads(n_threads));
            parity_t p = {.file = file, .name = name, .n_threads = n_threads};
            case_run(&p);
            n_bad += p.n_bad;
        }
    }
    assert_ok(gd_context_set_n_threads(1));
    gd_safetensors_close(file);
    print_message("%s: %d cases\n", file_name, n_cases);
    assert_true(n_cases > 0 || wanted != NULL);
    assert_int_equal(n_bad, 0);
}

static void image_modules_agree_with_pytorch(void **state)
{
    (void)state;
    file_run("image_modules.safetensors");
}

static void sequence_modules_agree_with_pytorch(void **state)
{
    (void)state;
    file_run("sequence_modules.safetensors");
}

static void models_with_padding_and_decoders_agree_with_pytorch(void **state)
{
    (void)state;
    file_run("padding_modules.safetensors");
}

static void image_models_agree_with_pytorch(void **state)
{
    (void)state;
    file_run("image_models.safetensors");
}

/* Marks the kinds of layer that the message holds anywhere, by their place among the fields of Layer. */
static void kinds_mark(const ProtobufCMessage *message, bool *is_used)
{
    const char *base = (const char *)message;
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        const bool is_choice = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
        if (field->type != PROTOBUF_C_TYPE_MESSAGE) {
            continue;
        }
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            const size_t n = *(const size_t *)(const void *)(base + field->quantifier_offset);
            ProtobufCMessage *const *parts = *(ProtobufCMessage *const *const *)(const void *)(base + field->offset);
            for (size_t part = 0; part < n; part++) {
                kinds_mark(parts[part], is_used);
            }
        } else if (!is_choice || *(const uint32_t *)(const void *)(base + field->quantifier_offset) == field->id) {
            const ProtobufCMessage *part = *(ProtobufCMessage *const *)(const void *)(base + field->offset);
            if (is_choice && message->descriptor == &gradd__v1__layer__descriptor) {
                is_used[i] = true;
            }
            if (part != NULL) {
                kinds_mark(part, is_used);
            }
        }
    }
}

static void every_kind_of_layer_has_a_case(void **state)
{
    (void)state;
    static const char *const files[] = {"image_modules.safetensors", "image_models.safetensors",
                                        "sequence_modules.safetensors", "padding_modules.safetensors"};
    const ProtobufCMessageDescriptor *kinds = &gradd__v1__layer__descriptor;
    bool *is_used = mem_calloc(kinds->n_fields, sizeof(*is_used));
    int n_missing = 0;
    assert_non_null(is_used);
    for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
        gd_safetensors_t *file = NULL;
        assert_ok(gd_safetensors_open(fixture_golden(files[f]), &file));
        for (int i = 0; i < gd_safetensors_count(file); i++) {
            char name[128];
            if (case_name(gd_safetensors_at(file, i), name)) {
                spec_job_t *job = job_parse(&(parity_t){.file = file, .name = name});
                kinds_mark(&job->model->base, is_used);
                spec_job_free(job);
            }
        }
        gd_safetensors_close(file);
    }

    for (unsigned i = 0; i < kinds->n_fields; i++) {
        if ((kinds->fields[i].flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 && !is_used[i]) {
            print_error("layer %s: no case in tests/golden/*_{modules,models}.safetensors\n", kinds->fields[i].name);
            n_missing++;
        }
    }

    mem_free(is_used);
    assert_int_equal(n_missing, 0);
}

/* Kinds whose values aren't under the name that their file's pattern gives. */
static const struct {
    const char *kind;
    const char *entry; /* where they are; NULL: there are none */
} elsewhere[] = {
    {"Loss.sum", NULL}, /* a sum of the others: engine/test_loss has it in closed form, worker/test_losses from YAML */
    {"Loss.triplet_margin", "triplet.mean.loss"},
    {"Loss.multilabel_margin", "multi_label_margin.mean.loss"},
    {"Loss.multilabel_soft_margin", "multi_label_soft_margin.mean.loss"},
    {"Schedule.plateau", "plateau.scales"}, /* follows a loss, not the step */
};

/* Each kind of the union has the entry `before`NAME`after` in the file. */
static int missing_count(const ProtobufCMessageDescriptor *kinds, const char *file_name, const char *before,
                         const char *after)
{
    gd_safetensors_t *file = NULL;
    int n_missing = 0;
    int n_kinds = 0;
    assert_ok(gd_safetensors_open(fixture_golden(file_name), &file));
    for (unsigned i = 0; i < kinds->n_fields; i++) {
        char kind[128];
        char key[128];
        const char *wanted = key;
        if ((kinds->fields[i].flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0) {
            continue;
        }
        n_kinds++;
        (void)snprintf(kind, sizeof(kind), "%s.%s", kinds->short_name, kinds->fields[i].name);
        (void)snprintf(key, sizeof(key), "%s%s%s", before, kinds->fields[i].name, after);
        for (size_t e = 0; e < sizeof(elsewhere) / sizeof(elsewhere[0]); e++) {
            wanted = strcmp(elsewhere[e].kind, kind) == 0 ? elsewhere[e].entry : wanted;
        }
        if (wanted != NULL && gd_safetensors_find(file, wanted) == NULL) {
            print_error("%s: no %s in tests/golden/%s\n", kind, wanted, file_name);
            n_missing++;
        }
    }
    gd_safetensors_close(file);
    assert_true(n_kinds > 0);
    return n_missing;
}

/* That these entries are compared is checked where they are: engine/test_loss, engine/test_optim. */
static void every_loss_optimizer_and_schedule_has_values(void **state)
{
    (void)state;
    assert_int_equal(missing_count(&gradd__v1__loss__descriptor, "losses.safetensors", "", ".mean.loss"), 0);
    assert_int_equal(missing_count(&gradd__v1__optimizer__descriptor, "optim.safetensors", "", ".weight"), 0);
    assert_int_equal(missing_count(&gradd__v1__schedule__descriptor, "optim.safetensors", "lr.", ""), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(image_modules_agree_with_pytorch),    TEST(image_models_agree_with_pytorch),
        TEST(sequence_modules_agree_with_pytorch), TEST(models_with_padding_and_decoders_agree_with_pytorch),
        TEST(every_kind_of_layer_has_a_case),      TEST(every_loss_optimizer_and_schedule_has_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
