/* SPDX-License-Identifier: Apache-2.0 */
/*
 * yaml: events of libyaml → nodes with places. The only user of yaml.h.
 *
 * What a stranger sends is bounded while it is read: libyaml takes time quadratic in the nesting, so that nothing more
 * is asked of it once the depth is passed.
 */
#include <string.h>
#include <yaml.h>

#include "base/assert.h"
#include "proto/spec_internal.h"

typedef struct builder {
    arena_t *arena;
    spec_report_t *report;
    const char *text, *file;
    size_t length;
    bool has_lines;
    bool is_broken; /* no use in reading on */
    spec_node_t *root;
    spec_node_t *open[SPEC_MAX_DEPTH];
    const char *key[SPEC_MAX_DEPTH]; /* the key that waits for its value */
    spec_place_t key_place[SPEC_MAX_DEPTH];
    int depth;
    int n_nodes, n_documents;
} builder_t;

void spec_node_add(spec_node_t *parent, spec_node_t *child)
{
    child->next = NULL;
    if (parent->last != NULL) {
        parent->last->next = child;
    } else {
        parent->first = child;
    }
    parent->last = child;
    parent->n_children++;
}

void spec_node_remove(spec_node_t *parent, spec_node_t *child)
{
    spec_node_t *before = NULL;
    for (spec_node_t *node = parent->first; node != NULL; before = node, node = node->next) {
        if (node != child) {
            continue;
        }
        if (before != NULL) {
            before->next = child->next;
        } else {
            parent->first = child->next;
        }
        if (parent->last == child) {
            parent->last = before;
        }
        parent->n_children--;
        child->next = NULL;
        return;
    }
}

spec_node_t *spec_node_child(const spec_node_t *map, const char *key)
{
    if (map == NULL || map->kind != SPEC_NODE_MAP) {
        return NULL;
    }
    for (spec_node_t *node = map->first; node != NULL; node = node->next) {
        if (strcmp(node->key, key) == 0) {
            return node;
        }
    }
    return NULL;
}

static spec_place_t builder_place(const builder_t *builder, yaml_mark_t mark)
{
    if (!builder->has_lines) {
        return (spec_place_t){builder->file, 0, 0};
    }
    return (spec_place_t){builder->file, (int)mark.line + 1, (int)mark.column + 1};
}

static void builder_break(builder_t *builder)
{
    builder->is_broken = true;
}

static spec_node_t *builder_node(builder_t *builder, spec_kind_t kind, const yaml_event_t *event)
{
    spec_place_t place = builder_place(builder, event->start_mark);
    if (++builder->n_nodes > SPEC_MAX_NODES) {
        spec_report(builder->report, place, "more than %d values in one file", SPEC_MAX_NODES);
        builder_break(builder);
        return NULL;
    }
    spec_node_t *node = arena_alloc(builder->arena, sizeof(*node));
    if (node == NULL) {
        builder->report->is_out_of_memory = true;
        builder_break(builder);
        return NULL;
    }
    node->kind = kind;
    node->place = place;
    return node;
}

/* Hangs a value into the innermost open map or list. */
static void builder_attach(builder_t *builder, spec_node_t *node)
{
    if (builder->depth == 0) {
        builder->root = node;
        return;
    }
    int top = builder->depth - 1;
    spec_node_t *parent = builder->open[top];
    if (parent->kind == SPEC_NODE_MAP) {
        ASSERT(builder->key[top] != NULL);
        node->key = builder->key[top];
        node->key_place = builder->key_place[top];
        builder->key[top] = NULL;
        spec_node_t *twin = spec_node_child(parent, node->key);
        if (twin != NULL) {
            spec_report(builder->report, node->key_place, "duplicate key \"%s\": already given at %d:%d", node->key,
                        twin->key_place.line, twin->key_place.column);
            return; /* what hangs below is still read, and dropped with it */
        }
        if (parent->n_children >= SPEC_MAX_KEYS) {
            spec_report(builder->report, node->key_place, "more than %d keys in one map", SPEC_MAX_KEYS);
            builder_break(builder);
            return;
        }
    }
    spec_node_add(parent, node);
}

static void builder_check(builder_t *builder, const yaml_event_t *event, const yaml_char_t *anchor,
                          const yaml_char_t *tag)
{
    if (anchor != NULL) {
        spec_report(builder->report, builder_place(builder, event->start_mark),
                    "anchors aren't allowed here: write the value out instead of \"&%.60s\"", (const char *)anchor);
    }
    if (tag != NULL) {
        spec_report(builder->report, builder_place(builder, event->start_mark), "tags aren't allowed here: \"%.60s\"",
                    (const char *)tag);
    }
}

static void builder_open(builder_t *builder, spec_kind_t kind, const yaml_event_t *event)
{
    spec_node_t *node = builder_node(builder, kind, event);
    if (node == NULL) {
        return;
    }
    if (builder->depth > 0 && builder->open[builder->depth - 1]->kind == SPEC_NODE_MAP &&
        builder->key[builder->depth - 1] == NULL) {
        spec_report(builder->report, node->place, "a key must be text, not a %s",
                    kind == SPEC_NODE_MAP ? "map" : "list");
        builder_break(builder);
        return;
    }
    if (builder->depth == SPEC_MAX_DEPTH) {
        spec_report(builder->report, node->place, "nested deeper than %d levels", SPEC_MAX_DEPTH);
        builder_break(builder);
        return;
    }
    builder_attach(builder, node);
    builder->open[builder->depth] = node;
    builder->key[builder->depth] = NULL;
    builder->depth++;
}

static void builder_scalar(builder_t *builder, const yaml_event_t *event)
{
    const char *value = (const char *)event->data.scalar.value;
    spec_place_t place = builder_place(builder, event->start_mark);
    if (memchr(value, '\0', event->data.scalar.length) != NULL) {
        spec_report(builder->report, place, "text with a NUL character");
        builder_break(builder);
        return;
    }
    char *text = arena_strdup(builder->arena, value);
    if (text == NULL) {
        builder->report->is_out_of_memory = true;
        builder_break(builder);
        return;
    }
    int top = builder->depth - 1;
    if (top >= 0 && builder->open[top]->kind == SPEC_NODE_MAP && builder->key[top] == NULL) {
        builder->key[top] = text;
        builder->key_place[top] = place;
        return;
    }
    spec_node_t *node = builder_node(builder, SPEC_NODE_SCALAR, event);
    if (node == NULL) {
        return;
    }
    node->text = text;
    node->is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node->is_null = node->is_plain && (text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
    builder_attach(builder, node);
}

static void builder_event(builder_t *builder, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (++builder->n_documents > 1) {
            spec_report(builder->report, builder_place(builder, event->start_mark),
                        "a second document: one file holds one document");
            builder_break(builder);
        }
        break;
    case YAML_ALIAS_EVENT:
        spec_report(builder->report, builder_place(builder, event->start_mark),
                    "aliases aren't allowed here: write the value out instead of \"*%.60s\"",
                    (const char *)event->data.alias.anchor);
        builder_break(builder);
        break;
    case YAML_SCALAR_EVENT:
        builder_check(builder, event, event->data.scalar.anchor, event->data.scalar.tag);
        builder_scalar(builder, event);
        break;
    case YAML_SEQUENCE_START_EVENT:
        builder_check(builder, event, event->data.sequence_start.anchor, event->data.sequence_start.tag);
        builder_open(builder, SPEC_NODE_LIST, event);
        break;
    case YAML_MAPPING_START_EVENT:
        builder_check(builder, event, event->data.mapping_start.anchor, event->data.mapping_start.tag);
        builder_open(builder, SPEC_NODE_MAP, event);
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        builder->depth--;
        break;
    default:
        break;
    }
}

/* The place of a byte; libyaml gives no line for bytes that aren't UTF-8. */
static spec_place_t builder_place_of_byte(const builder_t *builder, size_t offset)
{
    yaml_mark_t mark = {0};
    for (size_t i = 0; i < offset && i < builder->length; i++) {
        if (builder->text[i] == '\n') {
            mark.line++;
            mark.column = 0;
        } else if (((unsigned char)builder->text[i] & 0xc0u) != 0x80u) {
            mark.column++;
        }
    }
    return builder_place(builder, mark);
}

/* Marks count characters. */
static size_t builder_byte_of_character(const builder_t *builder, size_t n_characters)
{
    size_t byte = 0;
    for (size_t n = 0; byte < builder->length; byte++) {
        if (((unsigned char)builder->text[byte] & 0xc0u) != 0x80u && n++ == n_characters) {
            break;
        }
    }
    return byte;
}

static void builder_report_syntax(builder_t *builder, const yaml_parser_t *parser)
{
    const char *problem = parser->problem != NULL ? parser->problem : "out of memory";
    if (parser->error == YAML_MEMORY_ERROR) {
        builder->report->is_out_of_memory = true;
        return;
    }
    if (parser->error == YAML_READER_ERROR) {
        spec_report(builder->report, builder_place_of_byte(builder, parser->problem_offset), "YAML: %s", problem);
        return;
    }
    size_t index = builder_byte_of_character(builder, parser->problem_mark.index);
    bool is_tab = index < builder->length && builder->text[index] == '\t';
    const char *hint = is_tab ? " (a tab; indent with spaces)" : "";
    spec_place_t place = builder_place(builder, parser->problem_mark);
    if (parser->context != NULL && builder->has_lines) {
        spec_report(builder->report, place, "YAML: %s, %s that begins at %zu:%zu%s", problem, parser->context,
                    parser->context_mark.line + 1, parser->context_mark.column + 1, hint);
    } else {
        spec_report(builder->report, place, "YAML: %s%s", problem, hint);
    }
}

spec_node_t *spec_yaml_read(arena_t *arena, spec_report_t *report, const char *text, size_t length, const char *file,
                            bool has_lines)
{
    builder_t builder = {
        .arena = arena, .report = report, .text = text, .file = file, .length = length, .has_lines = has_lines};
    spec_place_t whole = {file, 0, 0};
    if (length > SPEC_MAX_TEXT_BYTES) {
        spec_report(report, whole, "larger than %d KiB", SPEC_MAX_TEXT_BYTES / 1024);
        return NULL;
    }
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        report->is_out_of_memory = true;
        return NULL;
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
    bool is_done = false;
    while (!is_done && !builder.is_broken) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            builder_report_syntax(&builder, &parser);
            builder_break(&builder);
            break;
        }
        builder_event(&builder, &event);
        is_done = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    if (builder.is_broken) {
        return NULL;
    }
    if (builder.root == NULL) {
        spec_report(report, whole, "the file is empty");
    }
    return builder.root;
}
