/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spec_schema: a JSON Schema (draft 2020-12) of a job file, for editors. One definition per message; wherever a number
 * or a truth value stands, a text with ${…} may stand too.
 */
#include <stdio.h>
#include <string.h>

#include "proto/spec_internal.h"

enum { MAX_MESSAGES = 192 };

static void append_string(strbuf_t *json, const char *text)
{
    strbuf_append_char(json, '"');
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\') {
            strbuf_append_char(json, '\\');
        }
        if (*c == '\n') {
            strbuf_append(json, "\\n");
        } else {
            strbuf_append_char(json, *c);
        }
    }
    strbuf_append_char(json, '"');
}

static void append_limits(strbuf_t *json, const spec_rule_t *rule)
{
    char number[32];
    if ((rule->flags & SPEC_HAS_MIN) != 0) {
        spec_format_double(rule->min, number);
        strbuf_appendf(json, ", \"%s\": %s", (rule->flags & SPEC_MIN_OPEN) != 0 ? "exclusiveMinimum" : "minimum",
                       number);
    }
    if ((rule->flags & SPEC_HAS_MAX) != 0) {
        spec_format_double(rule->max, number);
        strbuf_appendf(json, ", \"%s\": %s", (rule->flags & SPEC_MAX_OPEN) != 0 ? "exclusiveMaximum" : "maximum",
                       number);
    }
}

static void append_enum(strbuf_t *json, const ProtobufCEnumDescriptor *values)
{
    strbuf_append(json, "{\"enum\": [");
    for (unsigned i = 0; i < values->n_values; i++) {
        strbuf_appendf(json, "%s\"%s\"", i > 0 ? ", " : "", values->values[i].name);
    }
    strbuf_append(json, "]}");
}

/* One value of the field's type, without list or help. */
static void append_value(strbuf_t *json, const ProtobufCFieldDescriptor *field, const spec_rule_t *rule)
{
    static const char expression[] = "{\"type\": \"string\", \"pattern\": \"\\\\$\\\\{.*\\\\}\"}";
    if ((rule->flags & SPEC_DURATION) != 0) {
        strbuf_append(json, "{\"type\": \"string\", \"pattern\": \"^[0-9.]+(ms|s|m|h)$\"}");
        return;
    }
    if ((rule->flags & SPEC_BYTES) != 0) {
        strbuf_append(json, "{\"anyOf\": [{\"type\": \"integer\"");
        append_limits(json, rule);
        strbuf_append(json, "}, {\"type\": \"string\", \"pattern\": \"^[0-9.]+(KiB|MiB|GiB|TiB)$\"}]}");
        return;
    }
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        strbuf_appendf(json, "{\"$ref\": \"#/$defs/%s\"}", spec_message_name(field->descriptor));
        return;
    case PROTOBUF_C_TYPE_ENUM:
        append_enum(json, field->descriptor);
        return;
    case PROTOBUF_C_TYPE_STRING:
        strbuf_append(json, "{\"type\": [\"string\", \"number\", \"boolean\"]}");
        return;
    case PROTOBUF_C_TYPE_BOOL:
        strbuf_appendf(json, "{\"anyOf\": [{\"type\": \"boolean\"}, %s]}", expression);
        return;
    default:
        strbuf_appendf(json, "{\"anyOf\": [{\"type\": \"%s\"",
                       field->type == PROTOBUF_C_TYPE_DOUBLE ? "number" : "integer");
        append_limits(json, rule);
        strbuf_appendf(json, "}, %s]}", expression);
        return;
    }
}

static void append_field(strbuf_t *json, const ProtobufCMessageDescriptor *message,
                         const ProtobufCFieldDescriptor *field)
{
    const spec_rule_t *rule = spec_rule_find(message, field);
    strbuf_appendf(json, "\"%s\": {\"description\": ", field->name);
    append_string(json, rule->help);
    strbuf_append(json, ", \"allOf\": [");
    if ((rule->flags & SPEC_MAP) != 0) {
        strbuf_append(json, "{\"type\": \"object\", \"additionalProperties\": {\"type\": [\"string\", \"number\", "
                            "\"boolean\"]}}");
    } else if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        bool takes_single = field->type != PROTOBUF_C_TYPE_MESSAGE && rule->n_min <= 1;
        strbuf_append(json, takes_single ? "{\"anyOf\": [" : "");
        if (takes_single) {
            append_value(json, field, rule);
            strbuf_append(json, ", ");
        }
        strbuf_append(json, "{\"type\": \"array\", \"items\": ");
        append_value(json, field, rule);
        if (rule->n_min > 0) {
            strbuf_appendf(json, ", \"minItems\": %d", rule->n_min);
        }
        if (rule->n_max > 0) {
            strbuf_appendf(json, ", \"maxItems\": %d", rule->n_max);
        }
        strbuf_append(json, takes_single ? "}]}" : "}");
    } else {
        append_value(json, field, rule);
    }
    strbuf_append(json, "]}");
}

static bool needs_fields(const ProtobufCMessageDescriptor *message)
{
    for (unsigned i = 0; i < message->n_fields; i++) {
        if ((spec_rule_find(message, &message->fields[i])->flags & SPEC_REQUIRED) != 0) {
            return true;
        }
    }
    return false;
}

static void append_required(strbuf_t *json, const ProtobufCMessageDescriptor *message)
{
    bool is_first = true;
    for (unsigned i = 0; i < message->n_fields; i++) {
        if ((spec_rule_find(message, &message->fields[i])->flags & SPEC_REQUIRED) != 0) {
            strbuf_appendf(json, "%s\"%s\"", is_first ? ", \"required\": [" : ", ", message->fields[i].name);
            is_first = false;
        }
    }
    strbuf_append(json, is_first ? "" : "]");
}

static void append_object(strbuf_t *json, const ProtobufCMessageDescriptor *message)
{
    bool is_first = true;
    strbuf_append(json, "{\"type\": \"object\", \"additionalProperties\": false, \"properties\": {");
    for (unsigned i = 0; i < message->n_fields; i++) {
        if ((spec_rule_find(message, &message->fields[i])->flags & SPEC_HIDDEN) == 0) {
            strbuf_append(json, is_first ? "\n      " : ",\n      ");
            append_field(json, message, &message->fields[i]);
            is_first = false;
        }
    }
    strbuf_append_char(json, '}');
    if (spec_is_union(message)) {
        strbuf_append(json, ", \"minProperties\": 1, \"maxProperties\": 1");
    }
    append_required(json, message);
    strbuf_append_char(json, '}');
}

/* The kinds of a union that may stand alone as a word. */
static void append_words(strbuf_t *json, const ProtobufCMessageDescriptor *message)
{
    bool is_first = true;
    strbuf_append(json, "{\"enum\": [");
    for (unsigned i = 0; i < message->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->fields[i];
        if (field->type == PROTOBUF_C_TYPE_MESSAGE && !needs_fields(field->descriptor)) {
            strbuf_appendf(json, "%s\"%s\"", is_first ? "" : ", ", field->name);
            is_first = false;
        }
    }
    strbuf_append(json, "]}");
}

static void append_message(strbuf_t *json, const ProtobufCMessageDescriptor *message)
{
    const ProtobufCFieldDescriptor *list = spec_list_field(message);
    strbuf_append(json, "{\"anyOf\": [");
    if (spec_is_union(message)) {
        append_words(json, message);
        strbuf_append(json, ",\n    ");
    } else if (list != NULL) {
        strbuf_append(json, "{\"type\": \"array\", \"minItems\": 1, \"items\": {\"$ref\": \"#/$defs/Layer\"}},\n    ");
    } else if (spec_short_field(message) != NULL) {
        const ProtobufCFieldDescriptor *alone = spec_short_field(message);
        const bool is_many = alone->label == PROTOBUF_C_LABEL_REPEATED;
        strbuf_append(json, is_many ? "{\"type\": \"array\", \"minItems\": 1, \"items\": " : "");
        append_value(json, alone, spec_rule_find(message, alone));
        strbuf_append(json, is_many ? "},\n    " : ",\n    ");
    } else if (!needs_fields(message)) {
        strbuf_append(json, "{\"type\": \"null\"},\n    ");
    }
    append_object(json, message);
    strbuf_append(json, "]}");
}

status_t spec_schema(strbuf_t *json)
{
    const ProtobufCMessageDescriptor *messages[MAX_MESSAGES];
    int n_messages = spec_messages(messages, MAX_MESSAGES);
    strbuf_append(json, "{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
                        "  \"title\": \"gradd job\",\n  \"$ref\": \"#/$defs/JobSpec\",\n  \"$defs\": {");
    for (int m = 0; m < n_messages; m++) {
        strbuf_appendf(json, "%s\n    \"%s\": ", m > 0 ? "," : "", spec_message_name(messages[m]));
        append_message(json, messages[m]);
    }
    strbuf_append(json, "\n  }\n}\n");
    return json->is_failed ? ST_FAIL(ST_ERR_NOMEM, "the schema") : ST_OK;
}
