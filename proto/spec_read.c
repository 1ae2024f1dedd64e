/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spec_read: nodes → messages, led by protobuf-c's descriptors; nothing here knows a field by name.
 *
 * A message is a map of its fields. A message that is a oneof (a layer, an optimizer) is {kind: {fields}}, or the kind
 * alone. A message with a list "layers" may be that list. Numbers are typed by the field, never guessed from the text.
 */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "proto/spec_internal.h"

enum { MAX_CANDIDATES = 256 };

static void *allocator_alloc(void *data, size_t size)
{
    (void)data;
    return mem_alloc(size);
}

static void allocator_free(void *data, void *pointer)
{
    (void)data;
    mem_free(pointer);
}

ProtobufCAllocator spec_allocator = {.alloc = allocator_alloc, .free = allocator_free, .allocator_data = NULL};

/* ---- the path of the field being read ---- */

static size_t path_push(spec_context_t *context, const char *name)
{
    size_t length = context->path.length;
    if (length > 0) {
        strbuf_append_char(&context->path, '.');
    }
    strbuf_append(&context->path, name);
    return length;
}

static void path_pop(spec_context_t *context, size_t length)
{
    if (context->path.data != NULL) {
        context->path.length = length;
        context->path.data[length] = '\0';
    }
}

static const char *path_text(const spec_context_t *context)
{
    return context->path.length > 0 ? strbuf_text(&context->path) : "the job";
}

/* ---- values ---- */

/* What stands there, for "expected an integer, got …". */
static const char *node_describe(const spec_node_t *node, char buffer[64])
{
    if (node->kind == SPEC_NODE_MAP) {
        return "a map";
    }
    if (node->kind == SPEC_NODE_LIST) {
        return "a list";
    }
    if (node->is_null) {
        return "nothing";
    }
    (void)snprintf(buffer, 64, "\"%.40s%s\"", node->text, strlen(node->text) > 40 ? "…" : "");
    return buffer;
}

static void report_type(spec_context_t *context, const spec_node_t *node, const char *expected)
{
    char buffer[64];
    spec_report(&context->report, node->place, "%s: expected %s, got %s", path_text(context), expected,
                node_describe(node, buffer));
}

static bool text_is_integer(const char *text)
{
    const char *digits = text + (text[0] == '-' || text[0] == '+');
    size_t n_digits = strspn(digits, "0123456789");
    return n_digits > 0 && digits[n_digits] == '\0' && (n_digits == 1 || digits[0] != '0');
}

static bool text_is_number(const char *text)
{
    const char *at = text + (text[0] == '-' || text[0] == '+');
    size_t n_digits = strspn(at, "0123456789");
    at += n_digits;
    if (*at == '.') {
        size_t n_decimals = strspn(at + 1, "0123456789");
        at += 1 + n_decimals;
        n_digits += n_decimals;
    }
    if (n_digits > 0 && (*at == 'e' || *at == 'E')) {
        at += 1 + (at[1] == '-' || at[1] == '+');
        size_t n_exponent = strspn(at, "0123456789");
        n_digits = n_exponent > 0 ? n_digits : 0;
        at += n_exponent;
    }
    return n_digits > 0 && *at == '\0';
}

static void check_range(spec_context_t *context, const spec_rule_t *rule, const spec_node_t *node, double value)
{
    bool is_low = (rule->flags & SPEC_HAS_MIN) != 0 &&
                  (value < rule->min || ((rule->flags & SPEC_MIN_OPEN) != 0 && value <= rule->min));
    bool is_high = (rule->flags & SPEC_HAS_MAX) != 0 &&
                   (value > rule->max || ((rule->flags & SPEC_MAX_OPEN) != 0 && value >= rule->max));
    if (is_low || is_high) {
        char range[96];
        spec_report(&context->report, node->place, "%s: %s is out of range: %s", path_text(context), node->text,
                    spec_rule_range(rule, range));
    }
}

static void read_integer(spec_context_t *context, const spec_rule_t *rule, const spec_node_t *node, int64_t low,
                         int64_t high, int64_t *value_p)
{
    if (node->kind != SPEC_NODE_SCALAR || !node->is_plain || !text_is_integer(node->text)) {
        report_type(context, node, "an integer");
        return;
    }
    errno = 0;
    long long value = strtoll(node->text, NULL, 10);
    if (errno != 0 || value < low || value > high) {
        char range[96];
        spec_rule_range(rule, range);
        spec_report(&context->report, node->place, "%s: %.40s is out of range%s%s", path_text(context), node->text,
                    range[0] != '\0' ? ": " : "", range);
        return;
    }
    check_range(context, rule, node, (double)value);
    *value_p = value;
}

static void read_unsigned(spec_context_t *context, const spec_rule_t *rule, const spec_node_t *node, uint64_t *value_p)
{
    if (node->kind != SPEC_NODE_SCALAR || !node->is_plain || !text_is_integer(node->text)) {
        report_type(context, node, "an integer");
        return;
    }
    errno = 0;
    unsigned long long value = strtoull(node->text, NULL, 10);
    if (errno != 0 || node->text[0] == '-') {
        spec_report(&context->report, node->place, "%s: %.40s is out of range: 0 to %llu", path_text(context),
                    node->text, (unsigned long long)UINT64_MAX);
        return;
    }
    check_range(context, rule, node, (double)value);
    *value_p = value;
}

static void read_double(spec_context_t *context, const spec_rule_t *rule, const spec_node_t *node, double *value_p)
{
    double value = 0;
    if (node->kind != SPEC_NODE_SCALAR || !node->is_plain || !text_is_number(node->text)) {
        report_type(context, node, "a number");
        return;
    }
    value = strtod(node->text, NULL);
    if (!isfinite(value)) {
        spec_report(&context->report, node->place, "%s: %.40s doesn't fit into a double", path_text(context),
                    node->text);
        return;
    }
    check_range(context, rule, node, value);
    *value_p = value;
}

/* What a number is followed by; the list ends with NULL. */
typedef struct unit {
    const char *name;
    double factor;
} unit_t;

static const unit_t duration_units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {NULL, 0}};
static const unit_t byte_units[] = {{"", 1},          {"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1073741824},
                                    {"TiB", 0x1p+40}, {NULL, 0}};

/* "500ms", "1.5s", "2GiB" → milliseconds or bytes; a number without a unit is an integer. */
static void read_quantity(spec_context_t *context, const spec_rule_t *rule, const spec_node_t *node,
                          const unit_t *units, const char *expected, int64_t *value_p)
{
    if (node->kind == SPEC_NODE_SCALAR && !node->is_null && strlen(node->text) < 32) {
        char number[32];
        size_t length = strspn(node->text, "0123456789.");
        memcpy(number, node->text, length);
        number[length] = '\0';
        bool is_number = node->text[length] == '\0' ? text_is_integer(number) : text_is_number(number);
        for (const unit_t *unit = units; unit->name != NULL; unit++) {
            if (is_number && strcmp(node->text + length, unit->name) == 0) {
                double value = strtod(number, NULL) * unit->factor;
                check_range(context, rule, node, value);
                *value_p = value < 9e15 ? (int64_t)(value + 0.5) : 0;
                return;
            }
        }
    }
    report_type(context, node, expected);
}

static void read_bool(spec_context_t *context, const spec_node_t *node, protobuf_c_boolean *value_p)
{
    if (node->kind == SPEC_NODE_SCALAR && node->is_plain && strcmp(node->text, "true") == 0) {
        *value_p = 1;
    } else if (node->kind == SPEC_NODE_SCALAR && node->is_plain && strcmp(node->text, "false") == 0) {
        *value_p = 0;
    } else {
        report_type(context, node, "true or false");
    }
}

static void read_enum(spec_context_t *context, const ProtobufCEnumDescriptor *descriptor, const spec_node_t *node,
                      int *value_p)
{
    const char *names[MAX_CANDIDATES];
    char list[256] = "";
    char hint[128];
    char buffer[64];
    int n_names = 0;
    for (unsigned i = 0; i < descriptor->n_values && n_names < MAX_CANDIDATES; i++) {
        if (node->kind == SPEC_NODE_SCALAR && strcmp(node->text, descriptor->values[i].name) == 0) {
            *value_p = descriptor->values[i].value;
            return;
        }
        size_t length = strlen(list);
        (void)snprintf(list + length, sizeof(list) - length, "%s%s", i > 0 ? ", " : "", descriptor->values[i].name);
        names[n_names++] = descriptor->values[i].name;
    }
    spec_suggest(node->kind == SPEC_NODE_SCALAR ? node->text : "", names, n_names, hint);
    spec_report(&context->report, node->place, "%s: expected one of %s, got %s%s", path_text(context), list,
                node_describe(node, buffer), hint);
}

static void read_string(spec_context_t *context, const spec_rule_t *rule, const spec_node_t *node, char **value_p)
{
    if (node->kind != SPEC_NODE_SCALAR || node->is_null) {
        report_type(context, node, "text");
        return;
    }
    const char *text = node->text;
    if ((rule->flags & SPEC_FILE_PATH) != 0) {
        text = text[0] != '\0' ? spec_absolute(context, text) : NULL;
        if (text == NULL) {
            report_type(context, node, "a path");
            return;
        }
    }
    *value_p = mem_strdup(text);
    context->report.is_out_of_memory |= *value_p == NULL;
}

/* Reads into a member of the field's type; nothing is changed after a problem. */
static void read_scalar(spec_context_t *context, const ProtobufCFieldDescriptor *field, const spec_rule_t *rule,
                        const spec_node_t *node, void *member)
{
    int64_t integer = 0;
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
        integer = *(int32_t *)member;
        read_integer(context, rule, node, INT32_MIN, INT32_MAX, &integer);
        *(int32_t *)member = (int32_t)integer;
        break;
    case PROTOBUF_C_TYPE_INT64:
        if ((rule->flags & SPEC_DURATION) != 0) {
            read_quantity(context, rule, node, duration_units, "a duration such as 500ms, 1s or 2m", member);
        } else if ((rule->flags & SPEC_BYTES) != 0) {
            read_quantity(context, rule, node, byte_units, "bytes such as 512MiB or 2GiB", member);
        } else {
            read_integer(context, rule, node, INT64_MIN, INT64_MAX, member);
        }
        break;
    case PROTOBUF_C_TYPE_UINT64:
        read_unsigned(context, rule, node, member);
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        read_double(context, rule, node, member);
        break;
    case PROTOBUF_C_TYPE_BOOL:
        read_bool(context, node, member);
        break;
    case PROTOBUF_C_TYPE_ENUM:
        read_enum(context, field->descriptor, node, member);
        break;
    case PROTOBUF_C_TYPE_STRING:
        read_string(context, rule, node, member);
        break;
    default:
        ASSERT(!"a field type that YAML has no form for");
    }
}

static size_t scalar_size(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
        return sizeof(int32_t);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        return sizeof(int64_t);
    case PROTOBUF_C_TYPE_DOUBLE:
        return sizeof(double);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_ENUM:
        return sizeof(int);
    default:
        return sizeof(void *);
    }
}

/* ---- messages ---- */

static ProtobufCMessage *message_new(spec_context_t *context, const ProtobufCMessageDescriptor *descriptor)
{
    ProtobufCMessage *message = mem_zalloc(descriptor->sizeof_message);
    if (message == NULL) {
        context->report.is_out_of_memory = true;
        return NULL;
    }
    descriptor->message_init(message);
    return message;
}

static void *message_member(ProtobufCMessage *message, unsigned offset)
{
    return (char *)message + offset;
}

static bool is_hidden(const ProtobufCMessageDescriptor *descriptor, const ProtobufCFieldDescriptor *field)
{
    const spec_rule_t *rule = spec_rule_find(descriptor, field);
    ASSERT(rule != NULL);
    return (rule->flags & SPEC_HIDDEN) != 0;
}

/* The field of a key; a problem with the nearest right one when there is none. */
static const ProtobufCFieldDescriptor *find_field(spec_context_t *context, const ProtobufCMessageDescriptor *descriptor,
                                                  const char *key, spec_place_t place, const char *what)
{
    const char *names[MAX_CANDIDATES];
    int n_names = 0;
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        if (is_hidden(descriptor, field)) {
            continue;
        }
        if (strcmp(field->name, key) == 0) {
            return field;
        }
        if (n_names < MAX_CANDIDATES) {
            names[n_names++] = field->name;
        }
    }
    char hint[128];
    spec_suggest(key, names, n_names, hint);
    spec_report(&context->report, place, "unknown %s \"%.60s\" in %s%s", what, key, path_text(context), hint);
    return NULL;
}

/* {name: value, …} → repeated Parameter. */
static void read_map(spec_context_t *context, const ProtobufCFieldDescriptor *field, const spec_node_t *node,
                     size_t *n_p, void **items_p)
{
    if (node->kind != SPEC_NODE_MAP) {
        report_type(context, node, "a map of names and values");
        return;
    }
    Gradd__V1__Parameter **items = mem_calloc((size_t)node->n_children, sizeof(*items));
    if (items == NULL) {
        context->report.is_out_of_memory = true;
        return;
    }
    *items_p = items;
    for (const spec_node_t *entry = node->first; entry != NULL; entry = entry->next) {
        size_t length = path_push(context, entry->key);
        if (entry->kind != SPEC_NODE_SCALAR || entry->is_null) {
            report_type(context, entry, "a number or text");
        } else if (!entry->is_bad) {
            items[*n_p] = (Gradd__V1__Parameter *)message_new(context, field->descriptor);
            if (items[*n_p] != NULL) {
                items[*n_p]->name = mem_strdup(entry->key);
                items[*n_p]->value = mem_strdup(entry->text);
                context->report.is_out_of_memory |= items[*n_p]->name == NULL || items[*n_p]->value == NULL;
                ++*n_p;
            }
        }
        path_pop(context, length);
    }
}

static void read_item(spec_context_t *context, const ProtobufCFieldDescriptor *field, const spec_rule_t *rule,
                      spec_node_t *node, void *slot)
{
    if (node->is_bad && field->type != PROTOBUF_C_TYPE_MESSAGE) {
        return;
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        ProtobufCMessage *item = message_new(context, field->descriptor);
        *(ProtobufCMessage **)slot = item;
        if (item != NULL) {
            spec_read(context, field->descriptor, node, item);
        }
    } else {
        read_scalar(context, field, rule, node, slot);
    }
}

static void read_repeated(spec_context_t *context, const ProtobufCFieldDescriptor *field, const spec_rule_t *rule,
                          spec_node_t *node, ProtobufCMessage *message)
{
    size_t *n_p = message_member(message, field->quantifier_offset);
    void **items_p = message_member(message, field->offset);
    if ((rule->flags & SPEC_MAP) != 0) {
        read_map(context, field, node, n_p, items_p);
        return;
    }
    bool is_single =
        node->kind == SPEC_NODE_SCALAR && !node->is_null && field->type != PROTOBUF_C_TYPE_MESSAGE && rule->n_min <= 1;
    if (node->kind != SPEC_NODE_LIST && !is_single) {
        report_type(context, node,
                    rule->n_min > 1 && field->type != PROTOBUF_C_TYPE_STRING ? "a list of two numbers" : "a list");
        return;
    }
    int n_items = is_single ? 1 : node->n_children;
    if (n_items < rule->n_min || (rule->n_max > 0 && n_items > rule->n_max)) {
        char count[32];
        (void)snprintf(count, sizeof(count), rule->n_min == rule->n_max ? "%d" : "%d to %d", rule->n_min, rule->n_max);
        spec_report(&context->report, node->place, "%s: expected %s values, got %d", path_text(context),
                    rule->n_max > 0 ? count : "one or more", n_items);
        return;
    }
    size_t item_size = scalar_size(field);
    char *items = mem_calloc((size_t)n_items, item_size);
    if (items == NULL) {
        context->report.is_out_of_memory = true;
        return;
    }
    *items_p = items;
    if (is_single) {
        read_item(context, field, rule, node, items);
        *n_p = 1;
        return;
    }
    for (spec_node_t *item = node->first; item != NULL; item = item->next) {
        char index[24];
        (void)snprintf(index, sizeof(index), "[%zu]", *n_p);
        size_t length = context->path.length;
        strbuf_append(&context->path, index);
        read_item(context, field, rule, item, items + *n_p * item_size);
        path_pop(context, length);
        if (field->type == PROTOBUF_C_TYPE_MESSAGE && *(void **)(items + *n_p * item_size) == NULL) {
            return; /* out of memory */
        }
        ++*n_p;
    }
}

static void read_field(spec_context_t *context, const ProtobufCMessageDescriptor *descriptor,
                       const ProtobufCFieldDescriptor *field, spec_node_t *node, ProtobufCMessage *message)
{
    const spec_rule_t *rule = spec_rule_find(descriptor, field);
    size_t length = path_push(context, field->name);
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        read_repeated(context, field, rule, node, message);
    } else {
        void *member = message_member(message, field->offset);
        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
            *(uint32_t *)message_member(message, field->quantifier_offset) = field->id;
            *(void **)member = NULL;
        } else if (field->type != PROTOBUF_C_TYPE_MESSAGE && field->type != PROTOBUF_C_TYPE_STRING) {
            *(protobuf_c_boolean *)message_member(message, field->quantifier_offset) = 1;
        }
        read_item(context, field, rule, node, member);
    }
    path_pop(context, length);
}

static void read_union(spec_context_t *context, const ProtobufCMessageDescriptor *descriptor, spec_node_t *node,
                       ProtobufCMessage *message)
{
    const char *what = strcmp(spec_message_name(descriptor), "Layer") == 0 ? "layer" : "kind";
    if (node->kind == SPEC_NODE_MAP && node->n_children == 1) {
        spec_node_t *entry = node->first;
        const ProtobufCFieldDescriptor *field = find_field(context, descriptor, entry->key, entry->key_place, what);
        if (field != NULL) {
            read_field(context, descriptor, field, entry, message);
        }
        return;
    }
    if (node->kind == SPEC_NODE_SCALAR && !node->is_null) {
        const ProtobufCFieldDescriptor *field = find_field(context, descriptor, node->text, node->place, what);
        spec_node_t *empty = field != NULL ? arena_alloc(&context->arena, sizeof(*empty)) : NULL;
        if (empty != NULL) {
            empty->kind = SPEC_NODE_MAP;
            empty->place = node->place;
            read_field(context, descriptor, field, empty, message);
        }
        return;
    }
    if (node->kind == SPEC_NODE_MAP && node->n_children > 1) {
        spec_report(&context->report, node->first->next->key_place,
                    "%s: exactly one %s, but both \"%.40s\" and \"%.40s\"", path_text(context), what, node->first->key,
                    node->first->next->key);
        return;
    }
    char list[4096] = "";
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        size_t length = strlen(list);
        if (!is_hidden(descriptor, &descriptor->fields[i])) {
            (void)snprintf(list + length, sizeof(list) - length, "%s%s", length > 0 ? ", " : "",
                           descriptor->fields[i].name);
        }
    }
    char buffer[64];
    spec_report(&context->report, node->place, "%s: expected one of %s, got %s", path_text(context), list,
                node->kind == SPEC_NODE_MAP ? "an empty map" : node_describe(node, buffer));
}

static void check_required(spec_context_t *context, const ProtobufCMessageDescriptor *descriptor,
                           const spec_node_t *node)
{
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const spec_rule_t *rule = spec_rule_find(descriptor, &descriptor->fields[i]);
        if ((rule->flags & SPEC_REQUIRED) != 0 && spec_node_child(node, descriptor->fields[i].name) == NULL) {
            spec_report(&context->report, node->place, "missing key \"%s\" in %s", descriptor->fields[i].name,
                        path_text(context));
        }
    }
}

/* Where a layer stands, for the worker's messages about shapes. */
static void mark_layer(spec_context_t *context, const spec_node_t *node, ProtobufCMessage *message)
{
    Gradd__V1__Layer *layer = (Gradd__V1__Layer *)message;
    spec_place_t place = node->kind == SPEC_NODE_MAP && node->first != NULL ? node->first->key_place : node->place;
    layer->has_line = place.line > 0;
    layer->line = place.line;
    layer->file = mem_strdup(place.file);
    context->report.is_out_of_memory |= layer->file == NULL;
}

/* "a map", and where a number stands in its place, how it is written: "a map such as {out: 10}". */
static const char *map_example(const ProtobufCMessageDescriptor *descriptor, const spec_node_t *node, char buffer[96])
{
    const ProtobufCFieldDescriptor *first = NULL;
    for (unsigned i = 0; i < descriptor->n_fields && first == NULL; i++) {
        first = strcmp(descriptor->fields[i].name, "name") != 0 ? &descriptor->fields[i] : NULL;
    }
    const bool is_number = first != NULL && node->kind == SPEC_NODE_SCALAR && strlen(node->text) < 24 &&
                           first->type != PROTOBUF_C_TYPE_MESSAGE && first->type != PROTOBUF_C_TYPE_STRING &&
                           first->type != PROTOBUF_C_TYPE_BOOL && first->type != PROTOBUF_C_TYPE_ENUM &&
                           text_is_number(node->text);
    (void)snprintf(buffer, 96, "a map");
    if (is_number) {
        (void)snprintf(buffer, 96, "a map such as {%s: %s}", first->name, node->text);
    }
    return buffer;
}

void spec_read(spec_context_t *context, const ProtobufCMessageDescriptor *descriptor, spec_node_t *node,
               ProtobufCMessage *message)
{
    if (descriptor == &gradd__v1__layer__descriptor) {
        mark_layer(context, node, message);
    }
    if (node->is_bad) {
        return;
    }
    if (spec_is_union(descriptor)) {
        read_union(context, descriptor, node, message);
        return;
    }
    const ProtobufCFieldDescriptor *list = spec_list_field(descriptor);
    const ProtobufCFieldDescriptor *alone = spec_short_field(descriptor);
    const bool is_many = alone != NULL && alone->label == PROTOBUF_C_LABEL_REPEATED;
    if (alone != NULL && (is_many ? node->kind == SPEC_NODE_LIST : node->kind == SPEC_NODE_SCALAR && !node->is_null)) {
        read_field(context, descriptor, alone, node, message);
        return;
    }
    if (node->kind == SPEC_NODE_LIST && list != NULL) {
        read_field(context, descriptor, list, node, message);
        for (unsigned i = 0; i < descriptor->n_fields; i++) {
            const spec_rule_t *rule = spec_rule_find(descriptor, &descriptor->fields[i]);
            if (&descriptor->fields[i] != list && (rule->flags & SPEC_REQUIRED) != 0) {
                spec_report(&context->report, node->place, "missing key \"%s\" in %s", descriptor->fields[i].name,
                            path_text(context));
            }
        }
        return;
    }
    if (node->kind != SPEC_NODE_MAP && !(node->kind == SPEC_NODE_SCALAR && node->is_null)) {
        char example[96];
        report_type(context, node, list != NULL ? "a map or a list of layers" : map_example(descriptor, node, example));
        return;
    }
    for (spec_node_t *entry = node->first; entry != NULL; entry = entry->next) {
        const ProtobufCFieldDescriptor *field = find_field(context, descriptor, entry->key, entry->key_place, "key");
        if (field != NULL) {
            read_field(context, descriptor, field, entry, message);
        }
    }
    check_required(context, descriptor, node);
}
