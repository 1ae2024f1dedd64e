/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spec_internal: what the files of spec share. A job's way: text → nodes (yaml.c), --set and model file and ${…} on the
 * nodes (spec_expand.c, spec_expr.c), nodes → JobSpec by descriptors (spec_read.c, rules.c), defaults and checks across
 * fields (spec_check.c), all led by spec.c. Nodes live in the context's arena; every node knows where it stands.
 */
#ifndef GRADD_PROTO_SPEC_INTERNAL_H
#define GRADD_PROTO_SPEC_INTERNAL_H

#include <stdbool.h>

#include "base/arena.h"
#include "proto/spec.h"

enum { SPEC_MAX_NODES = 20000, SPEC_MAX_KEYS = 1000, SPEC_MAX_PACKED_BYTES = 1000 * 1000, SPEC_MAX_LAYERS = 10000 };

/* line 0: the whole file, or a --set. */
typedef struct spec_place {
    const char *file;
    int line, column;
} spec_place_t;

typedef enum spec_kind { SPEC_NODE_SCALAR, SPEC_NODE_MAP, SPEC_NODE_LIST } spec_kind_t;

typedef struct spec_node spec_node_t;
struct spec_node {
    spec_kind_t kind;
    bool is_plain; /* a scalar without quotes, or one that a ${…} made */
    bool is_bad;   /* a scalar whose ${…} failed: reported, and read as nothing */
    bool is_null;  /* "", "~" or "null" without quotes */
    spec_place_t place;
    const char *key; /* of a map's entry */
    spec_place_t key_place;
    const char *text; /* of a scalar */
    spec_node_t *first, *last, *next;
    int n_children;
};

/* Collects problems; more than SPEC_MAX_PROBLEMS are kept until they are sorted. */
typedef struct spec_report {
    spec_problems_t *problems;
    const char *main_file;
    bool is_out_of_memory;
} spec_report_t;

typedef struct spec_context {
    arena_t arena;
    spec_report_t report;
    const spec_source_t *source;
    const char *directory; /* absolute */
    strbuf_t path;         /* "training.optimizer.adamw", while reading */
    spec_node_t *root;
    bool has_bad_model; /* reported already: no second complaint that layers are missing */
} spec_context_t;

/* ---- spec_report.c ---- */
void spec_report(spec_report_t *report, spec_place_t place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Sorts by position (the job's file, then --set, then model files) and cuts to SPEC_MAX_PROBLEMS. */
void spec_report_finish(spec_report_t *report);
/* Out of n candidates the one nearest to text by edit distance, NULL when none is near enough to be meant. */
const char *spec_nearest(const char *text, const char *const *candidates, int n_candidates);
/* "; did you mean "x"?" or "" in a buffer of the caller. */
const char *spec_suggest(const char *text, const char *const *candidates, int n_candidates, char buffer[128]);

/* ---- yaml.c ---- */
/* NULL after a problem that leaves no tree. has_lines false: every node's place is {file, 0, 0}. */
spec_node_t *spec_yaml_read(arena_t *arena, spec_report_t *report, const char *text, size_t length, const char *file,
                            bool has_lines);
void spec_node_add(spec_node_t *parent, spec_node_t *child);
void spec_node_remove(spec_node_t *parent, spec_node_t *child);
spec_node_t *spec_node_child(const spec_node_t *map, const char *key);

/* ---- spec_expr.c ---- */
typedef enum spec_value_kind { SPEC_VALUE_INT, SPEC_VALUE_DOUBLE, SPEC_VALUE_TEXT } spec_value_kind_t;

/* Looks a name up; returns its text or NULL. */
typedef const char *(*spec_lookup_func_t)(void *arg, const char *name);
/* Names for suggestions. */
typedef struct spec_scope {
    spec_lookup_func_t lookup;
    void *arg;
    const char *const *names;
    int n_names;
} spec_scope_t;

/* Replaces every ${…} of text; *is_whole_p: text was one ${…} and nothing else. ST_ERR_PARSE with a message. */
status_t spec_expr_substitute(const char *text, const spec_scope_t *scope, strbuf_t *result, bool *is_whole_p);
/* Shortest decimal text that reads back as the same double. */
void spec_format_double(double value, char text[32]);

/* ---- spec_expand.c ---- */
/* Puts --set into the tree, replaces ${…}, reads the model file into model.layers. */
void spec_expand(spec_context_t *context);
/* path against the directory of the job, into the arena. */
const char *spec_absolute(spec_context_t *context, const char *path);

/* ---- spec_read.c ---- */
/* Fills a message made by its descriptor's init. Problems go to the report. */
void spec_read(spec_context_t *context, const ProtobufCMessageDescriptor *descriptor, spec_node_t *node,
               ProtobufCMessage *message);
extern ProtobufCAllocator spec_allocator;
/* NULL is fine. */
void spec_message_free(ProtobufCMessage *message);

/* ---- spec_check.c ---- */
/* Fills dependent defaults and checks what spans several fields. */
void spec_check(spec_context_t *context, spec_job_t *job, bool has_data_files);

/* ---- rules.c ---- */
enum {
    SPEC_REQUIRED = 1,
    SPEC_DURATION = 2, /* milliseconds; in YAML 500ms, 1s, 2m, 1h */
    SPEC_MIN_OPEN = 4, /* min itself is out */
    SPEC_MAX_OPEN = 8, /* max itself is out */
    SPEC_HIDDEN = 16,  /* no YAML key */
    SPEC_HAS_MIN = 32, /* min counts */
    SPEC_HAS_MAX = 64,
    SPEC_MAP = 128,           /* repeated Parameter, in YAML a map */
    SPEC_FILE_PATH = 256,     /* made absolute against the job's directory */
    SPEC_SHORT = 512,         /* in YAML the value alone may stand for the whole message */
    SPEC_BYTES = 1024,        /* in YAML plain, or 64KiB, 512MiB, 2GiB, 1TiB */
    SPEC_MANY_FILES = 1 << 16 /* a folder, or a file name with * and ? too */
};

/* One row per field: "Training.batch"; '*' stands for one word. */
typedef struct spec_rule {
    const char *field;
    unsigned flags;
    double min, max;
    int n_min, n_max;         /* elements of a repeated field; 0: any */
    const char *unit;         /* "steps"; NULL: none */
    const char *default_text; /* a default that the schema doesn't hold; NULL: see the descriptor */
    const char *help;
} spec_rule_t;

extern const spec_rule_t spec_rules[];
extern const int spec_n_rules;
/* The row of a field. Every field has one: a test walks the descriptors. NULL otherwise. */
const spec_rule_t *spec_rule_find(const ProtobufCMessageDescriptor *message, const ProtobufCFieldDescriptor *field);
/* "at least 1", "0 to less than 1"; "" without limits. */
const char *spec_rule_range(const spec_rule_t *rule, char buffer[96]);
/* "Layer.Linear" of gradd.v1.Layer.Linear. */
const char *spec_message_name(const ProtobufCMessageDescriptor *message);
/* True for a message whose fields are a oneof: in YAML {kind: {…}} or the kind alone. */
bool spec_is_union(const ProtobufCMessageDescriptor *message);
/* The field whose value alone may stand for the message; NULL: none. */
const ProtobufCFieldDescriptor *spec_short_field(const ProtobufCMessageDescriptor *message);
/* The repeated field "layers", if it has one: a list may stand for the message. */
const ProtobufCFieldDescriptor *spec_list_field(const ProtobufCMessageDescriptor *message);

/* ---- spec_format.c, spec_explain.c ---- */
/* A value of a field that isn't a message, as YAML. */
void spec_format_scalar(strbuf_t *yaml, const ProtobufCFieldDescriptor *field, const spec_rule_t *rule,
                        const void *member);
/* JobSpec and every message below it, once each, outer ones first; returns how many. */
int spec_messages(const ProtobufCMessageDescriptor **messages, int n_capacity);
/* "integer", "list of numbers", "path", … */
const char *spec_type_name(const ProtobufCFieldDescriptor *field, const spec_rule_t *rule);
void spec_default_text(const ProtobufCFieldDescriptor *field, const spec_rule_t *rule, strbuf_t *text);

#endif
