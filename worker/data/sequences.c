/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sequences: texts of a table, one row a sample, as token numbers filled up to one length with a padding token.
 *
 * A row's target is a class: input i64 [length], target i64 []; or another text: then the input is [length +
 * target_length], the source's tokens and behind them begin and the target's, and the target i64 [target_length] is the
 * target's tokens and end (the decoder's input, shifted by one). What doesn't fit is cut off.
 * Own vocabularies have padding 0, begin 1, end 2 and unknown 3 before bytes or characters; a tokenizer's are found by
 * the names that the job gives, else they are those of the tokenizer's file (wrk_tokenizer_marks). A validation set
 * numbers characters and classes as the training set does.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "worker/data/csv_reader.h"
#include "worker/data/paths.h"
#include "worker/data/source.h"
#include "worker/data/tokenizer.h"
#include "worker/data/utf8.h"

enum { N_CODE_POINTS = 0x110000, N_BYTES = 256, MAX_LENGTH = 1 << 24 };
enum { TOKEN_PADDING, TOKEN_BEGIN, TOKEN_END, N_SPECIAL, TOKEN_UNKNOWN = N_SPECIAL, FIRST_OWN };

typedef struct sequences {
    wrk_dataset_t base;
    char *path;
    wrk_tokenizer_t *tokenizer; /* NULL: characters or bytes */
    int32_t *code_point;        /* [n_code_points] ascending; NULL: no characters */
    int64_t n_code_points;
    int64_t n_vocabulary;
    int64_t special[N_SPECIAL]; /* padding, begin, end; -1: none */
    wrk_marks_t before, behind; /* tokens around a source */
    int64_t length, target_length;
    bool has_classes;
    wrk_answer_t answer;
    wrk_ids_t ids;
    int64_t *start;    /* [2 rows + 1] in ids: of each row's source and target */
    int32_t *labels;   /* [rows] */
    int64_t first_row; /* of the part */
    int64_t *lines;    /* [rows] where each begins */
    char **files;      /* [rows] borrowed from paths */
    wrk_paths_t paths;
    wrk_names_t sources, targets; /* texts of all rows, while it is opened */
    int64_t n_lines_allocated;
} sequences_t;

static void texts_release(sequences_t *s)
{
    wrk_names_release(&s->sources);
    wrk_names_release(&s->targets);
}

static void sequences_close(wrk_dataset_t *dataset)
{
    sequences_t *s = (sequences_t *)dataset;
    texts_release(s);
    wrk_ids_release(&s->ids);
    wrk_tokenizer_close(s->tokenizer);
    wrk_paths_release(&s->paths);
    mem_free(s->code_point);
    mem_free(s->start);
    mem_free(s->labels);
    mem_free(s->lines);
    mem_free(s->files);
    mem_free(s->path);
    wrk_dataset_release(dataset);
    mem_free(s);
}

/* ---- samples ---- */

/* Fills to[n] with the tokens before, as many of ids[n_ids] as fit, the tokens behind, and padding. */
static void part_fill(const sequences_t *s, const wrk_marks_t *before, const int32_t *ids, int64_t n_ids,
                      const wrk_marks_t *behind, int64_t *to, int64_t n)
{
    const int64_t room = n - before->n - behind->n;
    const int64_t n_kept = n_ids < room ? n_ids : room;
    int64_t at = 0;
    for (int i = 0; i < before->n; i++) {
        to[at++] = before->id[i];
    }
    for (int64_t i = 0; i < n_kept; i++) {
        to[at++] = ids[i];
    }
    for (int i = 0; i < behind->n; i++) {
        to[at++] = behind->id[i];
    }
    while (at < n) {
        to[at++] = s->special[TOKEN_PADDING];
    }
}

static status_t sequences_read(const wrk_dataset_t *dataset, int64_t index, wrk_scratch_t *scratch, void *input,
                               void *target)
{
    (void)scratch;
    const sequences_t *s = (const sequences_t *)dataset;
    const int64_t row = s->first_row + index;
    const int32_t *source = s->ids.item + s->start[2 * row];
    const int32_t *text = s->ids.item + s->start[2 * row + 1];
    const int64_t n_source = text - source;
    const int64_t n_text = s->start[2 * row + 2] - s->start[2 * row + 1];
    part_fill(s, &s->before, source, n_source, &s->behind, input, s->length);
    if (s->has_classes) {
        if (target != NULL) {
            *(int64_t *)target = s->labels[row];
        }
        return ST_OK;
    }
    const wrk_marks_t none = {.n = 0};
    const wrk_marks_t begin = {.id = {s->special[TOKEN_BEGIN]}, .n = 1};
    const wrk_marks_t end = {.id = {s->special[TOKEN_END]}, .n = 1};
    const int64_t n_kept = n_text < s->target_length - 1 ? n_text : s->target_length - 1;
    part_fill(s, &begin, text, n_kept, &none, (int64_t *)input + s->length, s->target_length);
    if (target != NULL) {
        part_fill(s, &none, text, n_kept, &end, target, s->target_length);
    }
    return ST_OK;
}

static status_t sequences_check_classes(const wrk_dataset_t *dataset, int64_t n_classes)
{
    const sequences_t *s = (const sequences_t *)dataset;
    for (int64_t i = 0; s->has_classes && i < dataset->count; i++) {
        const int64_t row = s->first_row + i;
        if (s->labels[row] >= n_classes && !wrk_dataset_ignores(dataset, s->labels[row])) {
            return ST_FAIL(ST_ERR_DATA, "%s: line %lld has class %d; the model has classes 0 … %lld", s->files[row],
                           (long long)s->lines[row], (int)s->labels[row], (long long)(n_classes - 1));
        }
    }
    return ST_FAIL(ST_ERR_DATA, "%s: %lld %s; the model has %lld", s->path, (long long)dataset->n_classes,
                   s->has_classes ? "classes" : "tokens", (long long)n_classes);
}

/* ---- the table ---- */

/* Place of the column by its name in the header, else by its number (from 0, below 0 from the end); -1. */
static int64_t column_find(const wrk_names_t *columns, bool has_header, const char *text)
{
    for (int64_t i = 0; has_header && i < columns->n; i++) {
        if (strcmp(columns->item[i], text) == 0) {
            return i;
        }
    }
    char *end = NULL;
    const long number = strtol(text, &end, 10);
    if (end == text || *end != '\0') {
        return -1;
    }
    const int64_t place = number < 0 ? columns->n + number : number;
    return place >= 0 && place < columns->n ? place : -1;
}

static status_t columns_find(const Gradd__V1__Sequences *spec, const char *path, const wrk_names_t *columns,
                             int64_t place[2])
{
    const char *const wanted[2] = {spec->source, spec->target};
    static const char *const field[2] = {"source", "target"};
    for (int i = 0; i < 2; i++) {
        place[i] = column_find(columns, spec->header, wanted[i]);
        if (place[i] < 0) {
            strbuf_t list = {0};
            if (spec->header) {
                strbuf_append(&list, ": ");
                wrk_names_format(columns, &list);
            }
            status_t status = ST_FAIL(ST_ERR_DATA, "%s: sequences.%s: no column \"%.60s\" among its %lld%s", path,
                                      field[i], wanted[i], (long long)columns->n, strbuf_text(&list));
            strbuf_release(&list);
            return status;
        }
    }
    return ST_OK;
}

/* The first record: which columns are the source and the target. The reader is left behind it if it is a header. */
static status_t header_read(const Gradd__V1__Sequences *spec, const char *path, void *text, int64_t length,
                            wrk_csv_reader_t *reader, int64_t place[2], int64_t *n_columns_p)
{
    wrk_csv_reader_t ahead = *reader;
    wrk_csv_field_t field = {0};
    wrk_names_t columns = {0};
    char *copy = NULL;
    status_t status = ST_OK;
    if (!spec->header) { /* reading changes the record, which is read again */
        copy = mem_alloc((size_t)length + 1);
        if (copy == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "%s: %lld bytes", path, (long long)length);
        }
        memcpy(copy, text, (size_t)length + 1);
        wrk_csv_reader_init(&ahead, path, copy, length, spec->delimiter[0]);
    }
    if (!wrk_csv_reader_next(&ahead)) {
        status = ST_FAIL(ST_ERR_DATA, "%s: an empty table", path);
    }
    while (!field.is_last && status == ST_OK) {
        status = wrk_csv_reader_field(&ahead, &field);
        if (status == ST_OK) {
            status = wrk_names_add(&columns, field.text);
        }
    }
    if (status == ST_OK) {
        status = columns_find(spec, path, &columns, place);
    }
    *n_columns_p = columns.n;
    if (spec->header) {
        *reader = ahead;
    }
    wrk_names_release(&columns);
    mem_free(copy);
    return status;
}

static status_t line_add(sequences_t *s, char *file, int64_t line)
{
    const int64_t row = s->sources.n - 1;
    if (row == s->n_lines_allocated) {
        const int64_t n = row > 0 ? 2 * row : 256;
        int64_t *lines = mem_realloc(s->lines, (size_t)n * sizeof(*lines));
        s->lines = lines != NULL ? lines : s->lines;
        char **files = mem_realloc(s->files, (size_t)n * sizeof(*files));
        s->files = files != NULL ? files : s->files;
        if (lines == NULL || files == NULL) {
            return ST_FAIL(ST_ERR_NOMEM, "%lld rows", (long long)n);
        }
        s->n_lines_allocated = n;
    }
    s->lines[row] = line;
    s->files[row] = file;
    return ST_OK;
}

static status_t row_read(sequences_t *s, wrk_csv_reader_t *reader, char *file, const int64_t place[2],
                         int64_t n_columns)
{
    const int64_t line = reader->line;
    wrk_csv_field_t field = {0};
    const char *text[2] = {NULL};
    int64_t column = 0;
    status_t status = ST_OK;
    for (; !field.is_last && status == ST_OK; column++) {
        status = wrk_csv_reader_field(reader, &field);
        for (int i = 0; i < 2 && status == ST_OK; i++) {
            text[i] = column == place[i] ? field.text : text[i];
        }
    }
    if (status == ST_OK && column != n_columns) {
        status = ST_FAIL(ST_ERR_DATA, "%s: line %lld has %lld fields; the first line has %lld", file, (long long)line,
                         (long long)column, (long long)n_columns);
    }
    if (status == ST_OK) {
        status = wrk_names_add(&s->sources, text[0]);
    }
    if (status == ST_OK) {
        status = wrk_names_add(&s->targets, text[1]);
    }
    return status == ST_OK ? line_add(s, file, line) : status;
}

static status_t file_read(sequences_t *s, const Gradd__V1__Sequences *spec, char *path)
{
    void *text = NULL;
    size_t capacity = 0;
    int64_t length = 0;
    int64_t place[2] = {0};
    int64_t n_columns = 0;
    wrk_csv_reader_t reader = {0};
    status_t status = wrk_source_read(path, WRK_DATASET_MAX_BYTES, &text, &capacity, &length);
    if (status == ST_OK) {
        wrk_csv_reader_init(&reader, path, text, length, spec->delimiter[0]);
        status = header_read(spec, path, text, length, &reader, place, &n_columns);
    }
    while (status == ST_OK && wrk_csv_reader_next(&reader)) {
        status = row_read(s, &reader, path, place, n_columns);
    }
    mem_free(text);
    return status;
}

/* ---- tokens ---- */

/* One character of text; 0 at its end, -1: no UTF-8. */
static int32_t character_next(const char **text_p)
{
    int32_t point = -1;
    if (**text_p == '\0') {
        return 0;
    }
    *text_p += wrk_utf8_decode(*text_p, strnlen(*text_p, WRK_UTF8_MAX), &point);
    return point;
}

static status_t characters_mark(const sequences_t *s, const wrk_names_t *texts, uint8_t *table)
{
    for (int64_t row = 0; row < texts->n; row++) {
        const char *at = texts->item[row];
        for (int32_t c = character_next(&at); c != 0; c = character_next(&at)) {
            if (c < 0) {
                return ST_FAIL(ST_ERR_DATA, "%s: line %lld: byte 0x%02x is not UTF-8 (tokens: bytes takes any text)",
                               s->files[row], (long long)s->lines[row], (unsigned char)*at);
            }
            table[c] = 1;
        }
    }
    return ST_OK;
}

static status_t characters_take(sequences_t *s, const sequences_t *like)
{
    uint8_t *table = mem_zalloc(N_CODE_POINTS);
    if (table == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%s: table of characters", s->path);
    }
    status_t status = characters_mark(s, &s->sources, table);
    if (status == ST_OK && !s->has_classes) {
        status = characters_mark(s, &s->targets, table);
    }
    int64_t n = like != NULL ? like->n_code_points : 0;
    for (int32_t c = 0; like == NULL && c < N_CODE_POINTS; c++) {
        n += table[c];
    }
    s->code_point = status == ST_OK ? mem_calloc((size_t)n + 1, sizeof(*s->code_point)) : NULL;
    if (status == ST_OK && s->code_point == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "%s: vocabulary of %lld characters", s->path, (long long)n);
    }
    if (status == ST_OK && like != NULL) {
        memcpy(s->code_point, like->code_point, (size_t)n * sizeof(*s->code_point));
    }
    for (int32_t c = 0, i = 0; status == ST_OK && like == NULL && c < N_CODE_POINTS; c++) {
        if (table[c] != 0) {
            s->code_point[i++] = c;
        }
    }
    s->n_code_points = n;
    s->n_vocabulary = FIRST_OWN + n;
    mem_free(table);
    return status;
}

static int32_t character_token(const sequences_t *s, int32_t point)
{
    int64_t low = 0;
    int64_t high = s->n_code_points;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (s->code_point[middle] < point) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < s->n_code_points && s->code_point[low] == point ? FIRST_OWN + (int32_t)low : TOKEN_UNKNOWN;
}

static status_t text_encode(const sequences_t *s, const char *text, wrk_ids_t *ids)
{
    status_t status = ST_OK;
    if (s->tokenizer != NULL) {
        return wrk_tokenizer_encode(s->tokenizer, text, strlen(text), ids);
    }
    if (s->code_point == NULL) {
        for (; *text != '\0' && status == ST_OK; text++) {
            status = wrk_ids_add(ids, FIRST_OWN + (int32_t)(unsigned char)*text);
        }
        return status;
    }
    for (int32_t c = character_next(&text); c > 0 && status == ST_OK; c = character_next(&text)) {
        status = wrk_ids_add(ids, character_token(s, c));
    }
    return status;
}

static status_t rows_encode(sequences_t *s)
{
    const int64_t n = s->sources.n;
    status_t status = ST_OK;
    s->start = mem_calloc(2 * (size_t)n + 1, sizeof(*s->start));
    if (s->start == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%lld rows", (long long)n);
    }
    for (int64_t row = 0; row < n && status == ST_OK; row++) {
        s->start[2 * row] = s->ids.n;
        status = text_encode(s, s->sources.item[row], &s->ids);
        s->start[2 * row + 1] = s->ids.n;
        if (status == ST_OK && !s->has_classes) {
            status = text_encode(s, s->targets.item[row], &s->ids);
        }
        if (status != ST_OK) {
            status = status_add_context(status, "%s: line %lld", s->files[row], (long long)s->lines[row]);
        }
    }
    s->start[2 * n] = s->ids.n;
    if (status == ST_OK && s->ids.n == 0) { /* texts without a token */
        status = wrk_ids_add(&s->ids, 0);
    }
    return status;
}

/* ---- texts of their own, and answers ---- */

/* The source's tokens as a sample has them, and behind them the token that an answer begins with. */
static status_t sequences_encode(const wrk_dataset_t *dataset, const char *text, size_t length, int64_t **tokens_p,
                                 int64_t *n_tokens_p)
{
    const sequences_t *s = (const sequences_t *)dataset;
    wrk_ids_t ids = {0};
    char *copy = mem_zalloc(length + 1);
    int64_t *tokens = mem_calloc((size_t)s->length + 1, sizeof(*tokens));
    status_t status =
        copy != NULL && tokens != NULL ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "%lld tokens", (long long)s->length);
    if (status == ST_OK) {
        memcpy(copy, text, length);
        const char *at = copy;
        for (int32_t c = 1; s->code_point != NULL && c != 0 && status == ST_OK;) {
            c = character_next(&at);
            status = c >= 0 ? ST_OK
                            : ST_FAIL(ST_ERR_DATA, "offset %lld of the text: byte 0x%02x is not UTF-8",
                                      (long long)(at - copy), (unsigned char)*at);
        }
    }
    if (status == ST_OK) {
        status = text_encode(s, copy, &ids);
    }
    mem_free(copy);
    if (status == ST_OK) {
        part_fill(s, &s->before, ids.item, ids.n, &s->behind, tokens, s->length);
        tokens[s->length] = s->special[TOKEN_BEGIN];
        *tokens_p = tokens;
        *n_tokens_p = s->length + 1;
    } else {
        mem_free(tokens);
    }
    wrk_ids_release(&ids);
    return status;
}

static void own_decode(const sequences_t *s, int64_t token, strbuf_t *out)
{
    char bytes[WRK_UTF8_MAX] = {(char)(token - FIRST_OWN)};
    if (token == TOKEN_UNKNOWN) {
        strbuf_append(out, "\xef\xbf\xbd"); /* U+FFFD, the replacement character */
    } else if (token >= FIRST_OWN && token < s->n_vocabulary) {
        const int n = s->code_point != NULL ? wrk_utf8_encode(s->code_point[token - FIRST_OWN], bytes) : 1;
        strbuf_append_bytes(out, bytes, (size_t)n);
    }
}

static void sequences_decode(const wrk_dataset_t *dataset, const int64_t *tokens, int64_t n, strbuf_t *out)
{
    const sequences_t *s = (const sequences_t *)dataset;
    int64_t *kept = mem_calloc((size_t)n + 1, sizeof(*kept));
    int64_t n_kept = 0;
    out->is_failed |= kept == NULL;
    for (int64_t i = 0; i < n && kept != NULL; i++) {
        bool is_special = false;
        for (int k = 0; k < N_SPECIAL; k++) {
            is_special |= tokens[i] == s->special[k];
        }
        kept[n_kept] = tokens[i];
        n_kept += !is_special;
    }
    if (s->tokenizer != NULL && kept != NULL) {
        wrk_tokenizer_decode(s->tokenizer, kept, n_kept, out);
    }
    for (int64_t i = 0; i < n_kept && s->tokenizer == NULL; i++) {
        own_decode(s, kept[i], out);
    }
    mem_free(kept);
}

static const wrk_dataset_ops_t classes_ops = {
    .close = sequences_close, .read = sequences_read, .check_classes = sequences_check_classes};
static const wrk_dataset_ops_t texts_ops = {.close = sequences_close,
                                            .read = sequences_read,
                                            .check_classes = sequences_check_classes,
                                            .encode_text = sequences_encode,
                                            .decode_text = sequences_decode};

/* The tokenizer's token of this text alone; without a text the one that the tokenizer's file names. */
static status_t special_find(const sequences_t *s, const char *field, const char *text, wrk_mark_t mark,
                             int64_t *token_p)
{
    wrk_ids_t ids = {0};
    const wrk_marks_t *own = wrk_tokenizer_marks(s->tokenizer, mark);
    if (text == NULL && own->n == 1) {
        *token_p = own->id[0];
        return ST_OK;
    }
    if (text == NULL || text[0] == '\0') {
        return ST_FAIL(ST_ERR_INVAL, "sequences.%s: the tokenizer's token is to be named", field);
    }
    status_t status = wrk_tokenizer_encode(s->tokenizer, text, strlen(text), &ids);
    if (status == ST_OK && ids.n != 1) {
        status = ST_FAIL(ST_ERR_DATA, "sequences.%s: \"%.60s\" is no token of the tokenizer", field, text);
    }
    if (status == ST_OK) {
        *token_p = ids.item[0];
    }
    wrk_ids_release(&ids);
    return status;
}

/* Padding, begin and end. A tokenizer's begin and end are found where targets are texts, which have one of each. */
static status_t specials_open(sequences_t *s, const Gradd__V1__Sequences *spec)
{
    static const char *const fields[N_SPECIAL] = {"padding", "begin", "end"};
    static const wrk_mark_t marks[N_SPECIAL] = {WRK_MARK_PADDING, WRK_MARK_BEGIN, WRK_MARK_END};
    const char *const names[N_SPECIAL] = {spec->padding, spec->begin, spec->end};
    status_t status = ST_OK;
    for (int i = 0; i < N_SPECIAL && status == ST_OK; i++) {
        s->special[i] = s->tokenizer != NULL ? -1 : i;
        if (s->tokenizer != NULL && (i == TOKEN_PADDING || !s->has_classes || names[i] != NULL)) {
            status = special_find(s, fields[i], names[i], marks[i], &s->special[i]);
        } else if (s->tokenizer == NULL && names[i] != NULL) {
            status = ST_FAIL(ST_ERR_INVAL, "sequences.%s: only with a tokenizer; it is token %d here", fields[i], i);
        }
    }
    return status;
}

/* What stands around a source: begin and end as the job or the kind of vocabulary has them, else all that the
 * tokenizer's file puts there, which may be nothing on one side. */
static status_t marks_open(sequences_t *s, const Gradd__V1__Sequences *spec)
{
    if (!spec->marks) {
        return ST_OK;
    }
    s->before = (wrk_marks_t){.id = {s->special[TOKEN_BEGIN]}, .n = 1};
    s->behind = (wrk_marks_t){.id = {s->special[TOKEN_END]}, .n = 1};
    if (s->tokenizer != NULL) {
        s->before = spec->begin != NULL ? s->before : *wrk_tokenizer_marks(s->tokenizer, WRK_MARK_BEGIN);
        s->behind = spec->end != NULL ? s->behind : *wrk_tokenizer_marks(s->tokenizer, WRK_MARK_END);
    }
    if (s->before.n + s->behind.n == 0) {
        return ST_FAIL(ST_ERR_INVAL, "sequences.marks: the tokenizer's file puts nothing around a text, and the job "
                                     "names no begin and end");
    }
    return s->before.n + s->behind.n < s->length
               ? ST_OK
               : ST_FAIL(ST_ERR_INVAL,
                         "sequences.length %lld: %d tokens stand around a text, so that nothing fits between",
                         (long long)s->length, s->before.n + s->behind.n);
}

static status_t vocabulary_open(sequences_t *s, const Gradd__V1__Sequences *spec, const sequences_t *like)
{
    status_t status = ST_OK;
    if (spec->tokenizer != NULL && spec->tokenizer[0] != '\0') {
        status = wrk_tokenizer_open(spec->tokenizer, &s->tokenizer);
        s->n_vocabulary = status == ST_OK ? wrk_tokenizer_size(s->tokenizer) : 0;
    } else if (spec->tokens == GRADD__V1__SEQUENCES__TOKENS__characters) {
        status = characters_take(s, like);
    } else {
        s->n_vocabulary = FIRST_OWN + N_BYTES;
    }
    if (status == ST_OK) {
        status = specials_open(s, spec);
    }
    return status == ST_OK ? marks_open(s, spec) : status;
}

/* ---- opening ---- */

static status_t classes_take(sequences_t *s, const sequences_t *like)
{
    int64_t row = 0;
    status_t status = wrk_classes_number(&s->base, &s->targets, like != NULL ? &like->base : NULL, &s->labels, &row);
    return status == ST_OK || row < 0
               ? status
               : status_add_context(status, "%s: line %lld", s->files[row], (long long)s->lines[row]);
}

static status_t part_take(sequences_t *s, const Gradd__V1__Sequences *spec)
{
    const double n = (double)s->sources.n;
    const double from = spec->n_part == 2 ? spec->part[0] : 0.0;
    const double to = spec->n_part == 2 ? spec->part[1] : 1.0;
    if (!(from >= 0.0 && from < to && to <= 1.0)) {
        return ST_FAIL(ST_ERR_INVAL, "sequences.part [%g, %g) is not inside [0, 1)", from, to);
    }
    s->first_row = (int64_t)floor(from * n);
    s->base.count = (int64_t)floor(to * n) - s->first_row;
    return s->base.count > 0 ? ST_OK
                             : ST_FAIL(ST_ERR_DATA, "%s: part [%g, %g) of its %lld rows has none", s->path, from, to,
                                       (long long)s->sources.n);
}

static status_t spec_check(const Gradd__V1__Sequences *spec)
{
    if (spec->path == NULL || spec->source == NULL || spec->target == NULL) {
        return ST_FAIL(ST_ERR_INVAL, "sequences.%s is missing",
                       spec->path == NULL     ? "path"
                       : spec->source == NULL ? "source"
                                              : "target");
    }
    if (strlen(spec->delimiter) != 1 || strchr("\"\n\r", spec->delimiter[0]) != NULL) {
        return ST_FAIL(ST_ERR_INVAL, "sequences.delimiter \"%.20s\" is not one character", spec->delimiter);
    }
    if (spec->length < 1 || spec->length > MAX_LENGTH) {
        return ST_FAIL(ST_ERR_INVAL, "sequences.length %lld is not in 1 … %d", (long long)spec->length,
                       (int)MAX_LENGTH);
    }
    if (spec->classes ? spec->has_target_length : spec->target_length < 2 || spec->target_length > MAX_LENGTH) {
        return spec->classes ? ST_FAIL(ST_ERR_INVAL, "sequences.target_length: the targets are classes")
                             : ST_FAIL(ST_ERR_INVAL, "sequences.target_length %lld: at least 2, for one token and end",
                                       (long long)spec->target_length);
    }
    return ST_OK;
}

static status_t like_check(const sequences_t *s, const sequences_t *like)
{
    if (like == NULL) {
        return ST_OK;
    }
    if (like->has_classes != s->has_classes || like->length != s->length || like->target_length != s->target_length ||
        like->n_vocabulary != s->n_vocabulary) {
        return ST_FAIL(ST_ERR_INVAL,
                       "%s: classes, lengths and vocabulary must be those of the training data (%lld tokens, not "
                       "%lld)",
                       s->path, (long long)like->n_vocabulary, (long long)s->n_vocabulary);
    }
    const bool is_alike = (like->tokenizer == NULL) == (s->tokenizer == NULL) &&
                          (s->tokenizer == NULL || wrk_tokenizer_is_alike(s->tokenizer, like->tokenizer)) &&
                          (like->code_point == NULL) == (s->code_point == NULL);
    return is_alike
               ? ST_OK
               : ST_FAIL(ST_ERR_INVAL, "%s: the tokens have other numbers than in the training data: another tokenizer",
                         s->path);
}

static status_t sequences_load(sequences_t *s, const Gradd__V1__Sequences *spec, const sequences_t *like)
{
    status_t status = wrk_paths_find(spec->path, &s->paths);
    for (int i = 0; i < s->paths.n_items && status == ST_OK; i++) {
        status = file_read(s, spec, s->paths.item[i]);
    }
    if (status == ST_OK && s->sources.n == 0) {
        status = ST_FAIL(ST_ERR_DATA, "%s: a table without rows", s->path);
    }
    if (status == ST_OK) {
        status = vocabulary_open(s, spec, like);
    }
    if (status == ST_OK) {
        status = like_check(s, like);
    }
    if (status == ST_OK) {
        status = rows_encode(s);
    }
    if (status == ST_OK) {
        status = part_take(s, spec);
    }
    if (status == ST_OK && s->has_classes) {
        status = classes_take(s, like);
    }
    texts_release(s);
    return status;
}

status_t wrk_sequences_open(const Gradd__V1__Sequences *spec, const wrk_dataset_options_t *options,
                            wrk_dataset_t **dataset_p)
{
    status_t status = spec_check(spec);
    if (status != ST_OK) {
        return status;
    }
    sequences_t *s = mem_zalloc(sizeof(*s));
    if (s == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "dataset");
    }
    const bool is_same_kind = options->like != NULL && options->like->ops->close == sequences_close;
    s->base.ops = spec->classes ? &classes_ops : &texts_ops;
    wrk_dataset_set_ignored(&s->base, options);
    s->length = spec->length;
    s->target_length = spec->classes ? 0 : spec->target_length;
    s->has_classes = spec->classes;
    s->path = mem_strdup(spec->path);
    status = s->path != NULL ? sequences_load(s, spec, is_same_kind ? (const sequences_t *)options->like : NULL)
                             : ST_FAIL(ST_ERR_NOMEM, "dataset");
    if (status != ST_OK) {
        sequences_close(&s->base);
        return status;
    }
    const int64_t n_input = s->length + s->target_length;
    wrk_dataset_field_init(&s->base.input, GD_DTYPE_I64, 1, &n_input);
    wrk_dataset_field_init(&s->base.target, GD_DTYPE_I64, s->has_classes ? 0 : 1, &s->target_length);
    s->base.n_classes = s->has_classes ? s->base.n_classes : s->n_vocabulary;
    s->answer = (wrk_answer_t){.padding = s->special[TOKEN_PADDING],
                               .begin = s->special[TOKEN_BEGIN],
                               .end = s->special[TOKEN_END],
                               .n_most = s->target_length};
    s->base.answer = s->has_classes ? NULL : &s->answer;
    *dataset_p = &s->base;
    return ST_OK;
}
