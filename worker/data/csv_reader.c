/* SPDX-License-Identifier: Apache-2.0 */
/* csv_reader: RFC 4180, in place. */
#include "worker/data/csv_reader.h"

#include <string.h>

void wrk_csv_reader_init(wrk_csv_reader_t *reader, const char *path, char *text, int64_t length, char delimiter)
{
    bool has_mark = length >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0;
    *reader = (wrk_csv_reader_t){.path = path,
                                 .at = text + (has_mark ? 3 : 0),
                                 .end = text + length,
                                 .delimiter = delimiter,
                                 .line = 1,
                                 .line_start = text + (has_mark ? 3 : 0)};
}

static void line_begin(wrk_csv_reader_t *reader)
{
    reader->line++;
    reader->line_start = reader->at;
}

bool wrk_csv_reader_next(wrk_csv_reader_t *reader)
{
    while (reader->at < reader->end && (*reader->at == '\n' || (*reader->at == '\r' && reader->at[1] == '\n'))) {
        reader->at += *reader->at == '\r' ? 2 : 1;
        line_begin(reader);
    }
    return reader->at < reader->end;
}

static status_t corrupt(const wrk_csv_reader_t *reader, int64_t line, int64_t column, const char *what)
{
    return ST_FAIL(ST_ERR_CORRUPT, "%s: line %lld, column %lld: %s", reader->path, (long long)line, (long long)column,
                   what);
}

/* Unquotes from the opening quote at reader->at; *out_p: behind the text. */
static status_t quoted_read(wrk_csv_reader_t *reader, const wrk_csv_field_t *field, char **out_p)
{
    char *out = reader->at;
    reader->at++;
    for (;;) {
        if (reader->at == reader->end) {
            return corrupt(reader, field->line, field->column, "a quote that is not closed");
        }
        char c = *reader->at++;
        if (c == '\0') {
            return corrupt(reader, reader->line, reader->at - reader->line_start, "a NUL byte");
        }
        if (c == '"' && *reader->at != '"') {
            break;
        }
        reader->at += c == '"';
        *out++ = c;
        if (c == '\n') {
            line_begin(reader);
        }
    }
    *out_p = out;
    return ST_OK;
}

status_t wrk_csv_reader_field(wrk_csv_reader_t *reader, wrk_csv_field_t *field)
{
    *field = (wrk_csv_field_t){
        .text = reader->at, .line = reader->line, .column = reader->at - reader->line_start + 1, .is_last = true};
    char *out = NULL;
    bool is_quoted = reader->at < reader->end && *reader->at == '"';
    if (is_quoted) {
        status_t status = quoted_read(reader, field, &out);
        if (status != ST_OK) {
            return status;
        }
    } else {
        while (reader->at < reader->end && *reader->at != reader->delimiter && *reader->at != '\n') {
            if (*reader->at == '\0') {
                return corrupt(reader, reader->line, reader->at - reader->line_start + 1, "a NUL byte");
            }
            reader->at++;
        }
        out = reader->at;
        out -= out > field->text && out[-1] == '\r' && (reader->at == reader->end || *reader->at == '\n');
    }
    if (is_quoted && *reader->at == '\r' && reader->at + 1 <= reader->end) {
        reader->at += reader->at[1] == '\n' || reader->at + 1 == reader->end;
    }
    if (reader->at < reader->end && *reader->at != reader->delimiter && *reader->at != '\n') {
        return corrupt(reader, reader->line, reader->at - reader->line_start + 1, "text behind a closing quote");
    }
    if (reader->at < reader->end) {
        bool is_line_end = *reader->at == '\n';
        field->is_last = is_line_end;
        reader->at++;
        if (is_line_end) {
            line_begin(reader);
        }
    }
    *out = '\0';
    return ST_OK;
}
