/* SPDX-License-Identifier: Apache-2.0 */
/* spec_format: JobSpec → YAML that reads back as the same job. */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "proto/spec_internal.h"

static void format_message(strbuf_t *yaml, const ProtobufCMessage *message, int indent);

/* Names stand plain; everything else is quoted, with "${" kept from being replaced. */
static void format_text(strbuf_t *yaml, const char *text)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    static const char *const words[] = {"true", "false", "null", "yes", "no", "on", "off"};
    size_t n_letters = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./-");
    bool is_plain = text[0] != '\0' && text[n_letters] == '\0' && (strchr(letters, text[0]) != NULL || text[0] == '/');
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        is_plain = is_plain && strcmp(text, words[i]) != 0;
    }
    if (is_plain) {
        strbuf_append(yaml, text);
        return;
    }
    strbuf_append_char(yaml, '"');
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\') {
            strbuf_appendf(yaml, "\\%c", *c);
        } else if (*c == '\n') {
            strbuf_append(yaml, "\\n");
        } else if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            strbuf_appendf(yaml, "\\x%02x", (unsigned)(unsigned char)*c);
        } else if (strncmp(c, "${", 2) == 0) {
            strbuf_append(yaml, "$$");
        } else {
            strbuf_append_char(yaml, *c);
        }
    }
    strbuf_append_char(yaml, '"');
}

static void format_duration(strbuf_t *yaml, int64_t ms)
{
    if (ms % 60000 == 0 && ms > 0) {
        strbuf_appendf(yaml, "%lldm", (long long)(ms / 60000));
    } else if (ms % 1000 == 0) {
        strbuf_appendf(yaml, "%llds", (long long)(ms / 1000));
    } else {
        strbuf_appendf(yaml, "%lldms", (long long)ms);
    }
}

static void format_bytes(strbuf_t *yaml, int64_t n_bytes)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t i = 0;
    for (; i + 1 < sizeof(units) / sizeof(units[0]) && n_bytes > 0 && n_bytes % 1024 == 0; i++) {
        n_bytes /= 1024;
    }
    strbuf_appendf(yaml, "%lld%s", (long long)n_bytes, units[i]);
}

void spec_format_scalar(strbuf_t *yaml, const ProtobufCFieldDescriptor *field, const spec_rule_t *rule,
                        const void *member)
{
    char number[32];
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
        strbuf_appendf(yaml, "%d", *(const int32_t *)member);
        break;
    case PROTOBUF_C_TYPE_INT64:
        if ((rule->flags & SPEC_DURATION) != 0) {
            format_duration(yaml, *(const int64_t *)member);
        } else if ((rule->flags & SPEC_BYTES) != 0) {
            format_bytes(yaml, *(const int64_t *)member);
        } else {
            strbuf_appendf(yaml, "%lld", (long long)*(const int64_t *)member);
        }
        break;
    case PROTOBUF_C_TYPE_UINT64:
        strbuf_appendf(yaml, "%llu", (unsigned long long)*(const uint64_t *)member);
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        spec_format_double(*(const double *)member, number);
        strbuf_append(yaml, number);
        break;
    case PROTOBUF_C_TYPE_BOOL:
        strbuf_append(yaml, *(const protobuf_c_boolean *)member ? "true" : "false");
        break;
    case PROTOBUF_C_TYPE_ENUM: {
        const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(field->descriptor, *(const int *)member);
        strbuf_append(yaml, value != NULL ? value->name : "unknown");
        break;
    }
    case PROTOBUF_C_TYPE_STRING:
        format_text(yaml, *(char *const *)member);
        break;
    default:
        ASSERT(!"a field type that YAML has no form for");
    }
}

static size_t element_size(const ProtobufCFieldDescriptor *field)
{
    if (field->type == PROTOBUF_C_TYPE_INT32 || field->type == PROTOBUF_C_TYPE_ENUM) {
        return sizeof(int32_t);
    }
    return field->type == PROTOBUF_C_TYPE_BOOL ? sizeof(protobuf_c_boolean) : 8;
}

static void format_key(strbuf_t *yaml, const char *key, int indent)
{
    strbuf_appendf(yaml, "%*s%s:", indent, "", key);
}

static bool message_is_empty(const ProtobufCMessage *message, bool with_unions);

/* "relu", or "linear:" and its fields. */
static void format_union(strbuf_t *yaml, const ProtobufCMessage *message, int indent)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        uint32_t kind = *(const uint32_t *)((const char *)message + field->quantifier_offset);
        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0 || kind != field->id) {
            continue;
        }
        const ProtobufCMessage *fields = *(ProtobufCMessage *const *)((const char *)message + field->offset);
        if (fields == NULL || message_is_empty(fields, true)) {
            strbuf_appendf(yaml, "%s: {}\n", field->name);
        } else {
            strbuf_appendf(yaml, "%s:", field->name);
            format_message(yaml, fields, indent + 2);
        }
    }
}

static void format_map(strbuf_t *yaml, size_t n_items, Gradd__V1__Parameter *const *items, int indent)
{
    strbuf_append_char(yaml, '\n');
    for (size_t i = 0; i < n_items; i++) {
        strbuf_appendf(yaml, "%*s", indent, "");
        format_text(yaml, items[i]->name);
        strbuf_append(yaml, ": ");
        format_text(yaml, items[i]->value);
        strbuf_append_char(yaml, '\n');
    }
}

static void format_repeated(strbuf_t *yaml, const ProtobufCFieldDescriptor *field, const spec_rule_t *rule,
                            size_t n_items, const void *items, int indent)
{
    if ((rule->flags & SPEC_MAP) != 0) {
        format_map(yaml, n_items, items, indent);
        return;
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        strbuf_append_char(yaml, '\n');
        for (size_t i = 0; i < n_items; i++) {
            const ProtobufCMessage *item = ((ProtobufCMessage *const *)items)[i];
            if (spec_is_union(item->descriptor)) {
                strbuf_appendf(yaml, "%*s- ", indent, "");
                format_union(yaml, item, indent + 2);
            } else {
                strbuf_appendf(yaml, "%*s-", indent, "");
                format_message(yaml, item, indent + 2);
            }
        }
        return;
    }
    strbuf_append(yaml, " [");
    for (size_t i = 0; i < n_items; i++) {
        strbuf_append(yaml, i > 0 ? ", " : "");
        spec_format_scalar(yaml, field, rule, (const char *)items + i * element_size(field));
    }
    strbuf_append(yaml, "]\n");
}

/* Whether a single field is to be written: set, or with a default that the schema holds. */
static bool field_is_shown(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const void *member = (const char *)message + field->offset;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE || field->type == PROTOBUF_C_TYPE_STRING) {
        return *(void *const *)member != NULL;
    }
    return *(const protobuf_c_boolean *)((const char *)message + field->quantifier_offset) != 0 ||
           field->default_value != NULL;
}

static bool message_field_is_shown(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const spec_rule_t *rule = spec_rule_find(message->descriptor, field);
    if ((rule->flags & SPEC_HIDDEN) != 0) {
        return false;
    }
    return field->label == PROTOBUF_C_LABEL_REPEATED
               ? *(const size_t *)((const char *)message + field->quantifier_offset) > 0
               : field_is_shown(message, field);
}

static bool message_is_empty(const ProtobufCMessage *message, bool with_unions)
{
    if (with_unions && spec_is_union(message->descriptor)) {
        return false;
    }
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        if (message_field_is_shown(message, &message->descriptor->fields[i])) {
            return false;
        }
    }
    return true;
}

static void format_field(strbuf_t *yaml, const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                         int indent)
{
    const spec_rule_t *rule = spec_rule_find(message->descriptor, field);
    const void *member = (const char *)message + field->offset;
    format_key(yaml, field->name, indent);
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t n_items = *(const size_t *)((const char *)message + field->quantifier_offset);
        format_repeated(yaml, field, rule, n_items, *(void *const *)member, indent + 2);
    } else if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        format_message(yaml, *(ProtobufCMessage *const *)member, indent + 2);
    } else {
        strbuf_append_char(yaml, ' ');
        spec_format_scalar(yaml, field, rule, member);
        strbuf_append_char(yaml, '\n');
    }
}

/* After "key:", the fields on lines of their own. A message that is only a list of layers is that list, so that the
 * text nests no deeper than what it was read from. */
static void format_message(strbuf_t *yaml, const ProtobufCMessage *message, int indent)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    const ProtobufCFieldDescriptor *list = spec_list_field(descriptor);
    if (spec_is_union(descriptor)) {
        strbuf_appendf(yaml, "\n%*s", indent, "");
        format_union(yaml, message, indent);
        return;
    }
    if (message_is_empty(message, false)) {
        strbuf_append(yaml, " {}\n");
        return;
    }
    int n_shown = 0;
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        n_shown += message_field_is_shown(message, &descriptor->fields[i]);
    }
    if (list != NULL && n_shown == 1 && message_field_is_shown(message, list)) {
        size_t n_items = *(const size_t *)((const char *)message + list->quantifier_offset);
        format_repeated(yaml, list, spec_rule_find(descriptor, list), n_items,
                        *(void *const *)((const char *)message + list->offset), indent);
        return;
    }
    strbuf_append_char(yaml, '\n');
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        if (message_field_is_shown(message, &descriptor->fields[i])) {
            format_field(yaml, message, &descriptor->fields[i], indent);
        }
    }
}

status_t spec_job_format(const spec_job_t *job, strbuf_t *yaml)
{
    for (unsigned i = 0; i < job->base.descriptor->n_fields; i++) {
        if (message_field_is_shown(&job->base, &job->base.descriptor->fields[i])) {
            format_field(yaml, &job->base, &job->base.descriptor->fields[i], 0);
        }
    }
    return yaml->is_failed ? ST_FAIL(ST_ERR_NOMEM, "a job as YAML") : ST_OK;
}
