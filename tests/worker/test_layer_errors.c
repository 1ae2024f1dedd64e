/* SPDX-License-Identifier: Apache-2.0 */
/* Every kind of layer refuses what doesn't fit, naming file, line, layer, and the shape that came from where: the table
 * is layer_errors.txt, two lines a case. */
#include "tests/support/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "worker/model.h"

enum { LINE_BYTES = 1024 };

static const struct {
    const char *name;
    wrk_shape_t shape;
} inputs[] = {
    {"scalar", {.dtype = GD_DTYPE_F32, .n_dims = 0}},
    {"vector", {.dtype = GD_DTYPE_F32, .n_dims = 1, .size = {6}}},
    {"sequence", {.dtype = GD_DTYPE_F32, .n_dims = 2, .size = {8, 6}}},
    {"image", {.dtype = GD_DTYPE_F32, .n_dims = 3, .size = {1, 28, 28}}},
    {"volume", {.dtype = GD_DTYPE_F32, .n_dims = 4, .size = {2, 4, 4, 4}}},
    {"tokens", {.dtype = GD_DTYPE_I64, .n_dims = 1, .size = {8}}},
};

/* The kinds that take any input, with options that can't be wrong. */
static const char *const unfailing[] = {"identity"};

static const wrk_shape_t *input_find(const char *name)
{
    for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++) {
        if (strcmp(inputs[i].name, name) == 0) {
            return &inputs[i].shape;
        }
    }
    return NULL;
}

/* Marks the layer's kind; what building it says: the job's problems, the model's error, or "ok". */
static void layer_build(const wrk_shape_t *input, const char *layer, bool *is_used, strbuf_t *got)
{
    strbuf_t text = {0};
    strbuf_appendf(&text, "model:\n  layers:\n    - %s\n", layer);
    strbuf_append(&text, "data: {train: {text: {path: /etc/passwd, context: 8}}}\n"
                         "training: {steps: 1, batch: 2, optimizer: {sgd: {lr: 1}}}\n");
    spec_source_t source = {.text = strbuf_text(&text), .text_length = text.length};
    spec_problems_t problems = {0};
    spec_job_t *job = NULL;
    gd_module_t *root = NULL;
    if (spec_job_parse(&source, &job, &problems) != ST_OK) {
        spec_problems_format(&problems, got);
        got->length -= got->length > 0; /* the line's end */
        got->data[got->length] = '\0';
    } else if (wrk_model_build_layers(job->model, input, &root, NULL) != ST_OK) {
        strbuf_append(got, status_message());
    } else {
        strbuf_append(got, "ok");
    }
    (void)gd_module_unref(root);
    spec_job_free(job);
    spec_problems_release(&problems);
    strbuf_release(&text);

    char kind[64];
    (void)snprintf(kind, sizeof(kind), "%.*s", (int)strcspn(layer, ":"), layer);
    const ProtobufCMessageDescriptor *kinds = &gradd__v1__layer__descriptor;
    for (unsigned i = 0; i < kinds->n_fields; i++) {
        is_used[i] = is_used[i] || strcmp(kinds->fields[i].name, kind) == 0;
    }
}

static bool is_unfailing(const char *kind)
{
    for (size_t i = 0; i < sizeof(unfailing) / sizeof(unfailing[0]); i++) {
        if (strcmp(unfailing[i], kind) == 0) {
            return true;
        }
    }
    return false;
}

static int missing_count(const bool *is_used)
{
    const ProtobufCMessageDescriptor *kinds = &gradd__v1__layer__descriptor;
    int n_missing = 0;
    for (unsigned i = 0; i < kinds->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &kinds->fields[i];
        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 && !is_used[i] && !is_unfailing(field->name)) {
            print_error("layer %s: no case in layer_errors.txt\n", field->name);
            n_missing++;
        }
    }
    return n_missing;
}

static FILE *table_open(void)
{
    char path[512];
    assert_non_null(getenv("GRADD_SOURCE"));
    (void)snprintf(path, sizeof(path), "%s/tests/worker/layer_errors.txt", getenv("GRADD_SOURCE"));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    return file;
}

static void every_kind_of_layer_says_what_does_not_fit(void **state)
{
    (void)state;
    bool *is_used = mem_calloc(gradd__v1__layer__descriptor.n_fields, sizeof(*is_used));
    char line[LINE_BYTES], expected[LINE_BYTES], name[32];
    FILE *file = table_open();
    int n_wrong = 0;
    assert_non_null(is_used);

    while (fgets(line, sizeof(line), file) != NULL) {
        int begin = 0;
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '#') {
            continue;
        }
        assert_int_equal(sscanf(line, "%31s %n", name, &begin), 1);
        const wrk_shape_t *input = input_find(name);
        assert_non_null(input);
        assert_non_null(fgets(expected, sizeof(expected), file));
        expected[strcspn(expected, "\n")] = '\0';
        strbuf_t got = {0};
        layer_build(input, line + begin, is_used, &got);
        if (strcmp(strbuf_text(&got), expected + strspn(expected, " ")) != 0 || strcmp(strbuf_text(&got), "ok") == 0) {
            print_error("%s\n    %s\n", line, strbuf_text(&got));
            n_wrong++;
        }
        strbuf_release(&got);
    }
    n_wrong += missing_count(is_used);

    assert_int_equal(fclose(file), 0);
    mem_free(is_used);
    assert_int_equal(n_wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_kind_of_layer_says_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
