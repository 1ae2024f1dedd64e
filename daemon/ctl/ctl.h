/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl: gradctl, every RPC as a verb. Each verb is a row in verbs.c; options are parsed, help and completion written
 * from the tables. Verbs return the program's exit code. Results go to stdout, everything else to stderr.
 */
#ifndef GRADD_DAEMON_CTL_H
#define GRADD_DAEMON_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/strbuf.h"
#include "gradd.pb-c.h"
#include "proto/rpc.h"

typedef Gradd__V1__Job ctl_job_t;

/* Exit codes, documented in --help. */
enum {
    CTL_OK = 0,
    CTL_JOB_FAILED = 1,  /* the job didn't succeed, or not in time */
    CTL_USAGE = 2,       /* of gradctl */
    CTL_REFUSED = 3,     /* by the daemon: not found, not possible */
    CTL_UNREACHABLE = 4, /* no daemon */
    CTL_BAD_JOB = 5,     /* the job file is invalid */
    CTL_INTERRUPTED = 130
};

enum { CTL_CALL_MS = 60000, CTL_RETRY_MS = 60000, CTL_QUIET_MS = 5000, CTL_TICK_MS = 250 };

typedef enum ctl_format { CTL_TABLE, CTL_JSON, CTL_YAML, CTL_CSV } ctl_format_t;

typedef struct ctl_list {
    const char **items;
    int n_items;
} ctl_list_t;

typedef struct ctl {
    /* options */
    const char *address;
    ctl_format_t format;
    const char *name;
    ctl_list_t set, names, states;
    bool is_follow, is_progress, is_force, is_plot, is_all, is_spec, is_print;
    bool has_offset, has_tail;
    int64_t rank, offset, tail, limit, from_step, workers;
    double timeout_s; /* 0: none */
    /* what stands after the verb */
    int n_args;
    char **args;
    /* surroundings */
    bool is_terminal; /* stdout */
    bool has_color;   /* a terminal, and NO_COLOR isn't set */
    bool has_unicode;
    int columns;
    rpc_channel_t *channel; /* opened by ctl_connect */
    char *found_address;    /* where it goes */
} ctl_t;

/* ---- verbs.c ---- */
typedef struct ctl_verb {
    const char *name;
    const char *arguments; /* "ID..." */
    const char *summary;
    const char *details; /* more of the help; NULL: none */
    const char *options; /* letters of the options table */
    int min_args, max_args;
    int (*run)(ctl_t *ctl);
    bool needs_daemon;
} ctl_verb_t;

/* Parses the command line and runs it. */
int ctl_main(int argc, char **argv);

/* ---- connect.c ---- */
/* Finds the daemon's address and opens the channel; prints why not and returns an exit code. */
int ctl_connect(ctl_t *ctl);
/* Prints "gradctl: …" for a failed call and gives the exit code. */
int ctl_fail(const ctl_t *ctl, status_t status, rpc_code_t code);
/* Unary call of gradd.v1.Gradd; on failure prints, returns the exit code. *response_p: ctl_message_free. */
int ctl_call(ctl_t *ctl, const char *method, const ProtobufCMessage *request,
             const ProtobufCMessageDescriptor *response, ProtobufCMessage **response_p);
/* Job by id, as ctl_call. */
int ctl_get(ctl_t *ctl, const char *id, ctl_job_t **job_p);
void ctl_message_free(void *message);

/* Sets SIGINT and SIGTERM to be noticed instead of ending the program; the second one ends it. */
void ctl_catch_interrupts(void);
bool ctl_is_interrupted(void);

/*
 * A stream that survives the daemon's restart: it is opened again for up to 60 s. The request says where to go on: the
 * reader updates it with every message. Embedded.
 */
typedef struct ctl_feed {
    ctl_t *ctl;
    const char *method;
    const ProtobufCMessage *request;
    const ProtobufCMessageDescriptor *response;
    rpc_stream_t *stream;
    int64_t away_since_ns; /* when the stream broke; 0: it didn't, or is whole again */
    int64_t opened_ns;
    rpc_code_t code; /* of a failure */
} ctl_feed_t;
/*
 * ST_OK and the next message, or NULL at the end; ST_ERR_TIMEOUT after timeout_ms or when the daemon is away (call
 * again); anything else is final.
 */
status_t ctl_feed_read(ctl_feed_t *feed, int64_t timeout_ms, ProtobufCMessage **message_p);
void ctl_feed_close(ctl_feed_t *feed);

/* ---- job.c ---- */
const char *ctl_state_name(Gradd__V1__State state);
/* 0 when there is none of that name (any case). */
Gradd__V1__State ctl_state_parse(const char *name);
bool ctl_state_is_final(Gradd__V1__State state);
/* "\033[32m" or "" for a state; ends with ctl_color_end. */
const char *ctl_state_color(const ctl_t *ctl, Gradd__V1__State state);
const char *ctl_color_end(const ctl_t *ctl);
/* The last value of a metric; false when there is none. */
bool ctl_job_metric(const ctl_job_t *job, const char *name, double *value_p);
/* See show's help for the fields; new reference. */
json_t *ctl_job_json(const ctl_job_t *job, bool is_whole);
json_t *ctl_number(double value);   /* null when it isn't finite */
json_t *ctl_text(const char *text); /* null when NULL or empty */
json_t *ctl_time(int64_t unix_ns);  /* ISO-8601 UTC; null when 0 */
void ctl_time_format(int64_t unix_ns, char text_p[32]);
/* "1h02m", "3m05s", "12.3s" */
void ctl_duration_format(int64_t ns, char text_p[32]);
/* Four significant digits, 1234 → "1234", 12345 → "12.3k" when is_short. */
void ctl_value_format(double value, bool is_short, char text_p[32]);
/* Writes text with control characters replaced; lines and tabs stay when is_block. */
void ctl_write_clean(FILE *file, const char *text, bool is_block);

/* ---- render.c ---- */
/* value as JSON or YAML; an array of objects also as CSV. */
void ctl_render(const ctl_t *ctl, const json_t *value);
/* One line of JSON, flushed. */
void ctl_render_line(const json_t *value);
void ctl_csv_cell(FILE *file, const char *text, bool is_last);

/* A table: cells are added row by row. Embedded: {.n_columns = n}. */
typedef struct ctl_table {
    int n_columns;
    char **cells;             /* owned */
    Gradd__V1__State *states; /* color of the cell, 0: none */
    int n_cells;
} ctl_table_t;
void ctl_table_add(ctl_table_t *table, const char *text);
void ctl_table_add_state(ctl_table_t *table, Gradd__V1__State state);
/* Aligns and writes; the last column is cut to the terminal's width. */
void ctl_table_write(const ctl_t *ctl, const ctl_table_t *table);
void ctl_table_release(ctl_table_t *table);

/* ---- plot.c ---- */
/* A curve in braille dots (or '*' without Unicode), y axis at the left, title above. */
void ctl_plot(const ctl_t *ctl, const char *title, const double *x, const double *y, int n_points);

/* ---- the verbs ---- */
int ctl_submit(ctl_t *ctl);
int ctl_validate(ctl_t *ctl);
int ctl_list(ctl_t *ctl);
int ctl_show(ctl_t *ctl);
int ctl_watch(ctl_t *ctl);
int ctl_logs(ctl_t *ctl);
int ctl_metrics(ctl_t *ctl);
int ctl_wait(ctl_t *ctl);
int ctl_pause(ctl_t *ctl);
int ctl_resume(ctl_t *ctl);
int ctl_cancel(ctl_t *ctl);
int ctl_info(ctl_t *ctl);
int ctl_explain(ctl_t *ctl);
int ctl_schema(ctl_t *ctl);
/* Waits for one job, with its progress if is_shown; used by submit --follow and wait. deadline_ns: monotonic, 0: none.
 */
int ctl_follow(ctl_t *ctl, const char *id, bool is_shown, int64_t deadline_ns);

#endif
