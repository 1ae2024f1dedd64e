/* SPDX-License-Identifier: Apache-2.0 */
/* spec_explain: help on a field by its path, and the reference of all fields, out of descriptors and rules. */
#include <stdio.h>
#include <string.h>

#include "proto/spec_internal.h"

enum { MAX_CANDIDATES = 256, MAX_MESSAGES = 192 };

const char *spec_type_name(const ProtobufCFieldDescriptor *field, const spec_rule_t *rule)
{
    bool is_list = field->label == PROTOBUF_C_LABEL_REPEATED;
    if ((rule->flags & SPEC_DURATION) != 0) {
        return "duration";
    }
    if ((rule->flags & SPEC_BYTES) != 0) {
        return "size such as 512MiB or 2GiB";
    }
    if ((rule->flags & SPEC_MAP) != 0) {
        return "map of names and values";
    }
    switch (field->type) {
    case PROTOBUF_C_TYPE_DOUBLE:
        return is_list ? "list of numbers" : "number";
    case PROTOBUF_C_TYPE_BOOL:
        return "true or false";
    case PROTOBUF_C_TYPE_STRING:
        return (rule->flags & SPEC_FILE_PATH) != 0 ? "path" : "text";
    case PROTOBUF_C_TYPE_ENUM:
        return "one of";
    case PROTOBUF_C_TYPE_MESSAGE:
        return is_list && strcmp(field->name, "layers") == 0 ? "list of layers"
               : is_list                                     ? "list"
               : spec_is_union(field->descriptor)            ? "one kind of"
                                                             : "map";
    default:
        return is_list && rule->n_max == 2 ? "integer or list of two" : is_list ? "list of integers" : "integer";
    }
}

/* The default as YAML; "" when there is none. */
void spec_default_text(const ProtobufCFieldDescriptor *field, const spec_rule_t *rule, strbuf_t *text)
{
    if (rule->default_text != NULL) {
        strbuf_append(text, rule->default_text);
    } else if (field->default_value != NULL && field->label != PROTOBUF_C_LABEL_REPEATED) {
        bool is_text = field->type == PROTOBUF_C_TYPE_STRING; /* the descriptor holds the text, not a pointer to it */
        spec_format_scalar(text, field, rule, is_text ? &field->default_value : field->default_value);
    }
}

static void append_values(strbuf_t *text, const ProtobufCEnumDescriptor *values)
{
    for (unsigned i = 0; i < values->n_values; i++) {
        strbuf_appendf(text, "%s%s", i > 0 ? ", " : " ", values->values[i].name);
    }
}

/* "integer, 1 to 65536 workers, default resources.workers". */
static void append_facts(strbuf_t *text, const ProtobufCFieldDescriptor *field, const spec_rule_t *rule)
{
    char range[96];
    strbuf_append(text, spec_type_name(field, rule));
    if (field->type == PROTOBUF_C_TYPE_ENUM) {
        append_values(text, field->descriptor);
    }
    spec_rule_range(rule, range);
    if (range[0] != '\0') {
        strbuf_appendf(text, ", %s", range);
    }
    if (rule->unit != NULL) {
        strbuf_appendf(text, "%s %s", range[0] != '\0' ? "" : ",", rule->unit);
    }
    if ((rule->flags & SPEC_REQUIRED) != 0) {
        strbuf_append(text, ", required");
    }
    strbuf_t value = {0};
    spec_default_text(field, rule, &value);
    if (value.length > 0) {
        strbuf_appendf(text, ", default %s", strbuf_text(&value));
    }
    strbuf_release(&value);
}

static void append_children(strbuf_t *text, const ProtobufCMessageDescriptor *message)
{
    for (unsigned i = 0; i < message->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->fields[i];
        const spec_rule_t *rule = spec_rule_find(message, field);
        if ((rule->flags & SPEC_HIDDEN) == 0) {
            strbuf_appendf(text, "  %-24s %s\n", field->name, rule->help);
        }
    }
}

/* The field that a word of the path names; NULL and the nearest right word when none. */
static const ProtobufCFieldDescriptor *message_field(const ProtobufCMessageDescriptor *message, const char *word,
                                                     const char **nearest_p)
{
    const char *names[MAX_CANDIDATES];
    int n_names = 0;
    for (unsigned i = 0; i < message->n_fields && n_names < MAX_CANDIDATES; i++) {
        const ProtobufCFieldDescriptor *field = &message->fields[i];
        if ((spec_rule_find(message, field)->flags & SPEC_HIDDEN) != 0) {
            continue;
        }
        if (strcmp(field->name, word) == 0) {
            return field;
        }
        names[n_names++] = field->name;
    }
    *nearest_p = spec_nearest(word, names, n_names);
    return NULL;
}

static const ProtobufCMessageDescriptor *field_message(const ProtobufCFieldDescriptor *field, const spec_rule_t *rule)
{
    return field->type == PROTOBUF_C_TYPE_MESSAGE && (rule->flags & SPEC_MAP) == 0 ? field->descriptor : NULL;
}

static status_t explain_unknown(const char *path, const char *word, const char *rest, const char *nearest)
{
    size_t n_before = (size_t)(rest - path);
    if (nearest == NULL) {
        return ST_FAIL(ST_ERR_NOT_FOUND, "no field \"%.*s%s\"", (int)n_before, path, word);
    }
    return ST_FAIL(ST_ERR_NOT_FOUND, "no field \"%.*s%s\"; did you mean \"%.*s%s\"?", (int)n_before, path, word,
                   (int)n_before, path, nearest);
}

status_t spec_explain(const char *path, strbuf_t *text)
{
    const ProtobufCMessageDescriptor *message = &gradd__v1__job_spec__descriptor;
    const ProtobufCFieldDescriptor *field = NULL;
    const spec_rule_t *rule = NULL;
    const char *rest = path;
    while (*rest != '\0') {
        char word[64];
        const char *nearest = NULL;
        size_t length = strcspn(rest, ".");
        (void)snprintf(word, sizeof(word), "%.*s", (int)length, rest);
        const ProtobufCFieldDescriptor *next = message != NULL ? message_field(message, word, &nearest) : NULL;
        if (next == NULL || length >= sizeof(word)) {
            return explain_unknown(path, word, rest, nearest);
        }
        rule = spec_rule_find(message, next);
        field = next;
        message = field_message(field, rule);
        rest += length;
        rest += *rest == '.';
    }
    if (field == NULL) {
        strbuf_append(text, "A training job. Its fields:\n");
    } else {
        strbuf_appendf(text, "%s: ", path);
        append_facts(text, field, rule);
        strbuf_appendf(text, "\n\n  %s\n", rule->help);
    }
    if (message != NULL) {
        strbuf_append(text, field == NULL ? "" : spec_is_union(message) ? "\nKinds:\n" : "\nFields:\n");
        append_children(text, message);
    }
    return text->is_failed ? ST_FAIL(ST_ERR_NOMEM, "help on %s", path) : ST_OK;
}

int spec_messages(const ProtobufCMessageDescriptor **messages, int n_capacity)
{
    int n_messages = 1;
    messages[0] = &gradd__v1__job_spec__descriptor;
    for (int done = 0; done < n_messages; done++) {
        const ProtobufCMessageDescriptor *message = messages[done];
        for (unsigned i = 0; i < message->n_fields; i++) {
            const ProtobufCMessageDescriptor *child =
                message->fields[i].type == PROTOBUF_C_TYPE_MESSAGE ? message->fields[i].descriptor : NULL;
            bool is_known = child == NULL;
            for (int k = 0; k < n_messages && !is_known; k++) {
                is_known = messages[k] == child;
            }
            if (!is_known && n_messages < n_capacity) {
                messages[n_messages++] = child;
            }
        }
    }
    return n_messages;
}

/* "|" would end a cell. */
static void append_cell(strbuf_t *text, const char *cell)
{
    for (const char *c = cell; *c != '\0'; c++) {
        strbuf_append(text, *c == '|' ? "\\|" : (char[]){*c, '\0'});
    }
    strbuf_append(text, " |");
}

static void reference_field(strbuf_t *text, const ProtobufCMessageDescriptor *message,
                            const ProtobufCFieldDescriptor *field)
{
    const spec_rule_t *rule = spec_rule_find(message, field);
    if ((rule->flags & SPEC_HIDDEN) != 0) {
        return;
    }
    strbuf_t cell = {0};
    const ProtobufCMessageDescriptor *child = field_message(field, rule);
    strbuf_appendf(text, "| `%s` | ", field->name);
    strbuf_append(&cell, spec_type_name(field, rule));
    if (field->type == PROTOBUF_C_TYPE_ENUM) {
        append_values(&cell, field->descriptor);
    } else if (child != NULL) {
        strbuf_appendf(&cell, " %s", spec_message_name(child));
    }
    append_cell(text, strbuf_text(&cell));
    strbuf_clear(&cell);
    char range[96];
    strbuf_appendf(&cell, " %s", spec_rule_range(rule, range));
    if (rule->unit != NULL) {
        strbuf_appendf(&cell, " %s", rule->unit);
    }
    append_cell(text, strbuf_text(&cell));
    strbuf_clear(&cell);
    strbuf_append(&cell, (rule->flags & SPEC_REQUIRED) != 0 ? " required" : " ");
    spec_default_text(field, rule, &cell);
    append_cell(text, strbuf_text(&cell));
    strbuf_append_char(text, ' ');
    append_cell(text, rule->help);
    strbuf_append_char(text, '\n');
    strbuf_release(&cell);
}

status_t spec_reference(strbuf_t *markdown)
{
    const ProtobufCMessageDescriptor *messages[MAX_MESSAGES];
    int n_messages = spec_messages(messages, MAX_MESSAGES);
    strbuf_append(markdown, "# A job's fields\n\nMade from proto/job.proto and proto/rules.c.\n");
    for (int m = 0; m < n_messages; m++) {
        const char *name = spec_message_name(messages[m]);
        if (strcmp(name, "Parameter") == 0) {
            continue; /* a map in YAML */
        }
        strbuf_appendf(markdown, "\n## %s\n", m == 0 ? "The job" : name);
        strbuf_append(markdown, spec_is_union(messages[m]) ? "One of these kinds.\n\n" : "\n");
        strbuf_append(markdown, "| key | type | range | default | |\n| --- | --- | --- | --- | --- |\n");
        for (unsigned i = 0; i < messages[m]->n_fields; i++) {
            reference_field(markdown, messages[m], &messages[m]->fields[i]);
        }
    }
    return markdown->is_failed ? ST_FAIL(ST_ERR_NOMEM, "the reference") : ST_OK;
}
