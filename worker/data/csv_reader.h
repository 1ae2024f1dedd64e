/* SPDX-License-Identifier: Apache-2.0 */
/*
 * csv_reader: records and fields of comma-separated values (RFC 4180) in memory. Internal to worker/data/.
 *
 * Records end with LF or CRLF, the last one also with the end of the text; a field in double quotes may hold
 * delimiters, line breaks and "" for a quote; a byte order mark at the start is skipped, and so are empty lines.
 * Embedded: csv_reader_init; the text is the caller's, and is changed: fields are unquoted and ended by NUL in place.
 */
#ifndef GRADD_WORKER_DATA_CSV_READER_H
#define GRADD_WORKER_DATA_CSV_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct wrk_csv_reader {
    const char *path;
    char *at, *end;
    char delimiter;
    int64_t line;           /* of `at`, from 1 */
    const char *line_start; /* where that line begins */
} wrk_csv_reader_t;

typedef struct wrk_csv_field {
    char *text;           /* ended by NUL */
    int64_t line, column; /* in bytes, from 1 */
    bool is_last;         /* of its record */
} wrk_csv_field_t;

/* text[length] must be NUL. */
void wrk_csv_reader_init(wrk_csv_reader_t *reader, const char *path, char *text, int64_t length, char delimiter);
/* Goes to the next record; false at the end of the text. */
bool wrk_csv_reader_next(wrk_csv_reader_t *reader);
/* The next field of the record. ST_ERR_CORRUPT names file, line and column of a quote that is not closed, of what
 * follows a closing one, or of a NUL byte. */
status_t wrk_csv_reader_field(wrk_csv_reader_t *reader, wrk_csv_field_t *field);

#endif
