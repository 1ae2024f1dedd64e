/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A number of job.proto or gradd.proto keeps its type, its default and its name: jobs in a store and workers that run
 * outlive the daemon. tests/proto/schema.txt has a line for each; one ends in "reserved" when its number is given up.
 * See Note [Stored jobs outlive the daemon]. GRADD_UPDATE=yes adds the lines of new fields to the file.
 */
#include "tests/support/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/strbuf.h"
#include "gradd.pb-c.h"
#include "job.pb-c.h"

enum { MAX_MESSAGES = 1024, MAX_LINES = 8192, MAX_TEXT = 1 << 20 };

static const ProtobufCMessageDescriptor *messages[MAX_MESSAGES];
static int n_messages;
static char *known[MAX_LINES]; /* lines of schema.txt */
static int n_known;
static char *found[MAX_LINES]; /* of the schema as it is */
static int n_found;

static const char *path_of_schema(void)
{
    static char path[512];
    (void)snprintf(path, sizeof(path), "%s/tests/proto/schema.txt", getenv("GRADD_SOURCE"));
    return path;
}

static void line_add(const strbuf_t *line)
{
    assert_true(n_found < MAX_LINES && !line->is_failed);
    found[n_found] = mem_strdup(strbuf_text(line));
    assert_non_null(found[n_found]);
    n_found++;
}

static const char *short_name(const char *name)
{
    return strncmp(name, "gradd.v1.", 9) == 0 ? name + 9 : name;
}

static void default_append(strbuf_t *line, const ProtobufCFieldDescriptor *field)
{
    const void *value = field->default_value;
    if (value == NULL) {
        return;
    }
    strbuf_append(line, " = ");
    switch (field->type) {
    case PROTOBUF_C_TYPE_DOUBLE:
        strbuf_appendf(line, "%.17g", *(const double *)value);
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        strbuf_appendf(line, "%.9g", (double)*(const float *)value);
        break;
    case PROTOBUF_C_TYPE_STRING:
        strbuf_appendf(line, "\"%s\"", (const char *)value);
        break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        strbuf_appendf(line, "%lld", (long long)*(const int64_t *)value);
        break;
    default: /* bool, enum and the 32-bit ones */
        strbuf_appendf(line, "%d", *(const int *)value);
        break;
    }
}

static const char *type_name(const ProtobufCFieldDescriptor *field)
{
    static const char *const names[] = {"int32",  "sint32",  "sfixed32", "int64",   "sint64", "sfixed64",
                                        "uint32", "fixed32", "uint64",   "fixed64", "float",  "double",
                                        "bool",   "enum",    "string",   "bytes",   "message"};
    assert_true((size_t)field->type < sizeof(names) / sizeof(names[0]));
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        return short_name(((const ProtobufCMessageDescriptor *)field->descriptor)->name);
    }
    return field->type == PROTOBUF_C_TYPE_ENUM ? short_name(((const ProtobufCEnumDescriptor *)field->descriptor)->name)
                                               : names[field->type];
}

static void enum_list(const ProtobufCEnumDescriptor *descriptor)
{
    strbuf_t line = {0};
    for (unsigned i = 0; i < descriptor->n_values; i++) {
        strbuf_clear(&line);
        strbuf_appendf(&line, "%s %d %s", short_name(descriptor->name), descriptor->values[i].value,
                       descriptor->values[i].name);
        line_add(&line);
    }
    strbuf_release(&line);
}

/* A message and all that it holds, each once. */
static void message_list(const ProtobufCMessageDescriptor *descriptor)
{
    static const char *const labels[] = {"required", "optional", "repeated", "implicit"};
    strbuf_t line = {0};
    for (int i = 0; i < n_messages; i++) {
        if (messages[i] == descriptor) {
            return;
        }
    }
    assert_true(n_messages < MAX_MESSAGES);
    messages[n_messages++] = descriptor;
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        bool is_packed = (field->flags & PROTOBUF_C_FIELD_FLAG_PACKED) != 0;
        strbuf_clear(&line);
        strbuf_appendf(&line, "%s %u %s%s %s %s", short_name(descriptor->name), field->id, is_packed ? "packed " : "",
                       labels[field->label], type_name(field), field->name);
        default_append(&line, field);
        line_add(&line);
        if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
            message_list(field->descriptor);
        } else if (field->type == PROTOBUF_C_TYPE_ENUM) {
            enum_list(field->descriptor);
        }
    }
    strbuf_release(&line);
}

static void service_list(const ProtobufCServiceDescriptor *service)
{
    for (unsigned i = 0; i < service->n_methods; i++) {
        message_list(service->methods[i].input);
        message_list(service->methods[i].output);
    }
}

static int line_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void lines_sort(char **lines, int *n_p)
{
    int n = 0;
    qsort(lines, (size_t)*n_p, sizeof(*lines), line_compare);
    for (int i = 0; i < *n_p; i++) {
        if (n > 0 && strcmp(lines[n - 1], lines[i]) == 0) {
            mem_free(lines[i]);
        } else {
            lines[n++] = lines[i];
        }
    }
    *n_p = n;
}

/* Length of what says which number a line is about: the message's or enum's name and the number. */
static size_t key_length(const char *line)
{
    const char *space = strchr(line, ' ');
    const char *second = space != NULL ? strchr(space + 1, ' ') : NULL;
    return second != NULL ? (size_t)(second - line) + 1 : strlen(line);
}

/* The line about the same number; NULL: none. */
static const char *same_number(char *const *lines, int n, const char *line)
{
    size_t length = key_length(line);
    for (int i = 0; i < n; i++) {
        if (strncmp(lines[i], line, length) == 0) {
            return lines[i];
        }
    }
    return NULL;
}

static void known_read(void)
{
    FILE *file = fopen(path_of_schema(), "r");
    char line[1024];
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] != '#' && line[0] != 0) {
            assert_true(n_known < MAX_LINES);
            known[n_known++] = mem_strdup(line);
        }
    }
    assert_int_equal(fclose(file), 0);
}

static void known_write(void)
{
    FILE *file = fopen(path_of_schema(), "w");
    assert_non_null(file);
    (void)fputs("# The numbers of job.proto and gradd.proto; tests/proto/test_schema.c says what the lines are for.\n",
                file);
    for (int i = 0; i < n_known; i++) {
        (void)fprintf(file, "%s\n", known[i]);
    }
    assert_int_equal(fclose(file), 0);
}

static void a_number_keeps_its_meaning(void **state)
{
    (void)state;
    const char *update = getenv("GRADD_UPDATE");
    int n_wrong = 0;
    int n_new = 0;
    message_list(&gradd__v1__job_spec__descriptor);
    service_list(&gradd__v1__gradd__descriptor);
    service_list(&gradd__v1__worker__descriptor);
    lines_sort(found, &n_found);
    known_read();

    for (int i = 0; i < n_known; i++) {
        const char *now = same_number(found, n_found, known[i]);
        size_t length = strlen(known[i]);
        bool is_reserved = length > 9 && strcmp(known[i] + length - 9, " reserved") == 0;
        bool is_wrong = is_reserved ? now != NULL : now == NULL || strcmp(now, known[i]) != 0;
        n_wrong += is_wrong;
        if (is_wrong) {
            print_error("it was:    %s\n it is now: %s\n", known[i],
                        now != NULL ? now : "gone, and not marked as reserved");
        }
    }
    int n_before = n_known;
    for (int i = 0; i < n_found; i++) {
        if (same_number(known, n_before, found[i]) == NULL) {
            n_new++;
            print_message("new: %s\n", found[i]);
            assert_true(n_known < MAX_LINES);
            known[n_known++] = mem_strdup(found[i]);
        }
    }
    if (update != NULL && strcmp(update, "yes") == 0 && n_wrong == 0 && n_new > 0) {
        lines_sort(known, &n_known);
        known_write();
        n_new = 0;
    }
    for (int i = 0; i < n_found; i++) {
        mem_free(found[i]);
    }
    for (int i = 0; i < n_known; i++) {
        mem_free(known[i]);
    }
    if (n_wrong > 0) {
        fail_msg("%d numbers changed: stored jobs would be read as others; give the field a new number and reserve "
                 "the old one",
                 n_wrong);
    }
    if (n_new > 0) {
        fail_msg("%d fields aren't in schema.txt: GRADD_UPDATE=yes build/release/tests/proto_test_schema adds them",
                 n_new);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(a_number_keeps_its_meaning)};
    return cmocka_run_group_tests_name("schema", tests, NULL, NULL);
}
