/* SPDX-License-Identifier: Apache-2.0 */
/*
 * csv: tables of numbers, one row a sample, and what stands in the target columns: values, or one column of classes.
 *
 * Classes are whole numbers from 0 on, or names, which are numbered in ascending order of bytes; a validation set
 * numbers them as the training set does. Columns are normalised by mean and deviation of the training set's rows.
 */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "worker/data/csv_reader.h"
#include "worker/data/paths.h"
#include "worker/data/source.h"

enum { MAX_COLUMNS = 1 << 20, ROLE_NONE = -1 };

typedef struct column {
    char *name;    /* NULL: the table has no header */
    int64_t input; /* place among the inputs; ROLE_NONE */
    int64_t target;
} column_t;

typedef struct csv_dataset {
    wrk_dataset_t base;
    char *path;
    column_t *columns;
    int64_t n_columns, n_inputs, n_targets;
    float *inputs;   /* [count, n_inputs] */
    float *values;   /* [count, n_targets]; NULL: classes */
    int32_t *labels; /* [count] */
    int64_t *lines;  /* [count] where each row begins: for errors found later */
    int64_t n_allocated;
    double *mean, *deviation; /* [n_inputs]; NULL: not normalised */
    wrk_names_t row_names;    /* class of each row, until they are numbered */
} csv_dataset_t;

static void csv_close(wrk_dataset_t *dataset)
{
    csv_dataset_t *csv = (csv_dataset_t *)dataset;
    for (int64_t i = 0; csv->columns != NULL && i < csv->n_columns; i++) {
        mem_free(csv->columns[i].name);
    }
    mem_free(csv->columns);
    mem_free(csv->inputs);
    mem_free(csv->values);
    mem_free(csv->labels);
    mem_free(csv->lines);
    mem_free(csv->mean);
    mem_free(csv->deviation);
    wrk_names_release(&csv->row_names);
    mem_free(csv->path);
    wrk_dataset_release(dataset);
    mem_free(csv);
}

static status_t csv_read(const wrk_dataset_t *dataset, int64_t index, wrk_scratch_t *scratch, void *input, void *target)
{
    const csv_dataset_t *csv = (const csv_dataset_t *)dataset;
    (void)scratch;
    memcpy(input, csv->inputs + index * csv->n_inputs, (size_t)csv->n_inputs * sizeof(float));
    if (target != NULL && csv->values != NULL) {
        memcpy(target, csv->values + index * csv->n_targets, (size_t)csv->n_targets * sizeof(float));
    } else if (target != NULL) {
        *(int64_t *)target = csv->labels[index];
    }
    return ST_OK;
}

static status_t csv_check_classes(const wrk_dataset_t *dataset, int64_t n_classes)
{
    const csv_dataset_t *csv = (const csv_dataset_t *)dataset;
    for (int64_t i = 0; i < dataset->count; i++) {
        if (csv->labels[i] >= n_classes && !wrk_dataset_ignores(dataset, csv->labels[i])) {
            return ST_FAIL(ST_ERR_DATA, "%s: line %lld has class %d; the model has classes 0 … %lld", csv->path,
                           (long long)csv->lines[i], (int)csv->labels[i], (long long)(n_classes - 1));
        }
    }
    return ST_FAIL(ST_ERR_DATA, "%s: %lld classes; the model has %lld", csv->path, (long long)dataset->n_classes,
                   (long long)n_classes);
}

static const wrk_dataset_ops_t csv_ops = {.close = csv_close, .read = csv_read, .check_classes = csv_check_classes};

/* ---- columns ---- */

/* Number of a column by its name, else by its number (from 0, or below 0 from the end); -1: there is none. */
static int64_t column_find(const csv_dataset_t *csv, const char *text)
{
    for (int64_t i = 0; i < csv->n_columns; i++) {
        if (csv->columns[i].name != NULL && strcmp(csv->columns[i].name, text) == 0) {
            return i;
        }
    }
    char *end = NULL;
    long number = strtol(text, &end, 10);
    if (end == text || *end != '\0') {
        return -1;
    }
    int64_t place = number < 0 ? csv->n_columns + number : number;
    return place >= 0 && place < csv->n_columns ? place : -1;
}

static status_t column_missing(const csv_dataset_t *csv, const char *field, const char *text)
{
    strbuf_t list = {0};
    wrk_names_t names = {0};
    status_t status = ST_OK;
    for (int64_t i = 0; i < csv->n_columns && csv->columns[i].name != NULL && status == ST_OK; i++) {
        status = wrk_names_add(&names, csv->columns[i].name);
    }
    wrk_names_format(&names, &list);
    status = ST_FAIL(ST_ERR_DATA, "%s: csv.%s: no column \"%.60s\" among its %lld%s%s", csv->path, field, text,
                     (long long)csv->n_columns, names.n > 0 ? ": " : "; without a header they have numbers from 0",
                     strbuf_text(&list));
    wrk_names_release(&names);
    strbuf_release(&list);
    return status;
}

/* Which columns are inputs and which targets. */
static status_t columns_choose(csv_dataset_t *csv, const Gradd__V1__Csv *spec)
{
    for (size_t i = 0; i < spec->n_target; i++) {
        int64_t place = column_find(csv, spec->target[i]);
        if (place < 0) {
            return column_missing(csv, "target", spec->target[i]);
        }
        if (csv->columns[place].target != ROLE_NONE) {
            return ST_FAIL(ST_ERR_INVAL, "csv.target names column \"%.60s\" twice", spec->target[i]);
        }
        csv->columns[place].target = csv->n_targets++;
    }
    for (size_t i = 0; i < spec->n_inputs; i++) {
        int64_t place = column_find(csv, spec->inputs[i]);
        if (place < 0) {
            return column_missing(csv, "inputs", spec->inputs[i]);
        }
        if (csv->columns[place].target != ROLE_NONE || csv->columns[place].input != ROLE_NONE) {
            return ST_FAIL(ST_ERR_INVAL, "csv.inputs: column \"%.60s\" is named twice, or is a target",
                           spec->inputs[i]);
        }
        csv->columns[place].input = csv->n_inputs++;
    }
    for (int64_t i = 0; i < csv->n_columns && spec->n_inputs == 0; i++) {
        if (csv->columns[i].target == ROLE_NONE) {
            csv->columns[i].input = csv->n_inputs++;
        }
    }
    return csv->n_inputs > 0 ? ST_OK : ST_FAIL(ST_ERR_DATA, "%s: no column is left for the inputs", csv->path);
}

/* The first record of the first file: how many columns there are, and their names. */
static status_t header_read(csv_dataset_t *csv, const Gradd__V1__Csv *spec, wrk_csv_reader_t *reader)
{
    wrk_csv_field_t field = {0};
    wrk_names_t names = {0};
    if (!wrk_csv_reader_next(reader)) {
        return ST_FAIL(ST_ERR_DATA, "%s: an empty table", reader->path);
    }
    status_t status = ST_OK;
    while (!field.is_last && status == ST_OK) {
        status = wrk_csv_reader_field(reader, &field);
        if (status == ST_OK && names.n == MAX_COLUMNS) {
            status = ST_FAIL(ST_ERR_DATA, "%s: more than %d columns", reader->path, (int)MAX_COLUMNS);
        }
        if (status == ST_OK) {
            status = wrk_names_add(&names, field.text);
        }
    }
    csv->columns = status == ST_OK ? mem_calloc((size_t)names.n, sizeof(*csv->columns)) : NULL;
    if (status == ST_OK && csv->columns == NULL) {
        status = ST_FAIL(ST_ERR_NOMEM, "%s: %lld columns", reader->path, (long long)names.n);
    }
    if (status == ST_OK) {
        csv->n_columns = names.n;
        for (int64_t i = 0; i < names.n; i++) {
            csv->columns[i] = (column_t){spec->header ? names.item[i] : NULL, ROLE_NONE, ROLE_NONE};
            names.item[i] = spec->header ? NULL : names.item[i];
        }
        status = columns_choose(csv, spec);
    }
    wrk_names_release(&names);
    return status;
}

/* ---- rows ---- */

static status_t field_fail(const csv_dataset_t *csv, const wrk_csv_reader_t *reader, const wrk_csv_field_t *field,
                           int64_t column, const char *what)
{
    const char *name = csv->columns[column].name;
    return ST_FAIL(ST_ERR_DATA, "%s: line %lld, column %lld (%s%lld%s%.60s%s): \"%.40s\" %s", reader->path,
                   (long long)field->line, (long long)field->column, "field ", (long long)column,
                   name != NULL ? ", \"" : "", name != NULL ? name : "", name != NULL ? "\"" : "", field->text, what);
}

static status_t number_read(const csv_dataset_t *csv, const wrk_csv_reader_t *reader, const wrk_csv_field_t *field,
                            int64_t column, float *value_p)
{
    char *end = NULL;
    double value = strtod(field->text, &end);
    bool is_hex = strpbrk(field->text, "xX") != NULL;
    while (isspace((unsigned char)*end)) {
        end++;
    }
    if (end == field->text || *end != '\0' || is_hex) {
        return field_fail(csv, reader, field, column,
                          field->text[0] == '\0' ? "is not a number: a missing value" : "is not a number");
    }
    if (!isfinite(value) || !isfinite((float)value)) {
        return field_fail(csv, reader, field, column,
                          isfinite(value) ? "is beyond what 32 bits hold" : "is not a finite number");
    }
    *value_p = (float)value;
    return ST_OK;
}

static status_t array_grow(void **array, int64_t n, size_t item_bytes)
{
    void *grown = mem_realloc(*array, (size_t)n * item_bytes);
    if (grown == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%lld rows of %zu bytes", (long long)n, item_bytes);
    }
    *array = grown;
    return ST_OK;
}

static status_t rows_grow(csv_dataset_t *csv, bool has_classes)
{
    if (csv->base.count < csv->n_allocated) {
        return ST_OK;
    }
    int64_t n = csv->n_allocated > 0 ? csv->n_allocated * 2 : 256;
    status_t status = array_grow((void **)&csv->inputs, n, (size_t)csv->n_inputs * sizeof(float));
    if (status == ST_OK && !has_classes) {
        status = array_grow((void **)&csv->values, n, (size_t)csv->n_targets * sizeof(float));
    }
    if (status == ST_OK) {
        status = array_grow((void **)&csv->lines, n, sizeof(*csv->lines));
    }
    csv->n_allocated = status == ST_OK ? n : csv->n_allocated;
    return status;
}

/* One record; the row counts once it is whole. */
static status_t row_read(csv_dataset_t *csv, wrk_csv_reader_t *reader, bool has_classes)
{
    wrk_csv_field_t field = {0};
    int64_t column = 0;
    int64_t line = reader->line;
    status_t status = rows_grow(csv, has_classes);
    status_t bad = ST_OK; /* a number: behind it fields are only counted */
    for (; !field.is_last && status == ST_OK; column++) {
        status = wrk_csv_reader_field(reader, &field);
        if (status != ST_OK || bad != ST_OK || column >= csv->n_columns) {
            continue; /* counted, for the message below */
        }
        const column_t *role = &csv->columns[column];
        float value = 0;
        if (role->target != ROLE_NONE && has_classes) {
            status = wrk_names_add(&csv->row_names, field.text);
        } else if (role->target != ROLE_NONE || role->input != ROLE_NONE) {
            bad = number_read(csv, reader, &field, column, &value);
        }
        if (role->input != ROLE_NONE) {
            csv->inputs[csv->base.count * csv->n_inputs + role->input] = value;
        } else if (role->target != ROLE_NONE && !has_classes) {
            csv->values[csv->base.count * csv->n_targets + role->target] = value;
        }
    }
    if (status != ST_OK) {
        return status;
    }
    if (column != csv->n_columns) {
        return ST_FAIL(ST_ERR_DATA, "%s: line %lld has %lld fields; the first line has %lld", reader->path,
                       (long long)line, (long long)column, (long long)csv->n_columns);
    }
    if (bad != ST_OK) {
        return bad;
    }
    csv->lines[csv->base.count++] = line;
    return ST_OK;
}

/* The header of a file that isn't the first must be the first's. */
static status_t header_skip(const csv_dataset_t *csv, wrk_csv_reader_t *reader)
{
    wrk_csv_field_t field = {0};
    status_t status = ST_OK;
    if (!wrk_csv_reader_next(reader)) {
        return ST_FAIL(ST_ERR_DATA, "%s: an empty table", reader->path);
    }
    for (int64_t column = 0; !field.is_last && status == ST_OK; column++) {
        status = wrk_csv_reader_field(reader, &field);
        if (status == ST_OK && (column >= csv->n_columns || strcmp(csv->columns[column].name, field.text) != 0)) {
            status = ST_FAIL(ST_ERR_DATA, "%s: line 1, column %lld: \"%.60s\": another header than the first file's",
                             reader->path, (long long)field.column, field.text);
        }
    }
    return status;
}

static status_t file_read(csv_dataset_t *csv, const Gradd__V1__Csv *spec, const char *path)
{
    void *text = NULL;
    size_t capacity = 0;
    int64_t length = 0;
    wrk_csv_reader_t reader = {0};
    bool is_first = csv->columns == NULL;
    status_t status = wrk_source_read(path, WRK_DATASET_MAX_BYTES, &text, &capacity, &length);
    if (status == ST_OK) {
        wrk_csv_reader_init(&reader, path, text, length, spec->delimiter[0]);
        if (is_first) {
            wrk_csv_reader_t ahead = reader;
            if (!spec->header) {
                /* the first record is read twice, and reading changes it: once from a copy */
                size_t n_bytes = (size_t)length + 1;
                char *copy = mem_alloc(n_bytes);
                status = copy != NULL ? ST_OK : ST_FAIL(ST_ERR_NOMEM, "%s: %lld bytes", path, (long long)length);
                if (status == ST_OK) {
                    memcpy(copy, text, n_bytes);
                    wrk_csv_reader_init(&ahead, path, copy, length, spec->delimiter[0]);
                    status = header_read(csv, spec, &ahead);
                }
                mem_free(copy);
            } else {
                status = header_read(csv, spec, &reader);
            }
        } else if (spec->header) {
            status = header_skip(csv, &reader);
        }
    }
    while (status == ST_OK && wrk_csv_reader_next(&reader)) {
        status = row_read(csv, &reader, spec->classes);
    }
    mem_free(text);
    return status;
}

/* ---- after reading ---- */

/* Keeps the rows of the part. */
static status_t part_keep(csv_dataset_t *csv, const Gradd__V1__Csv *spec)
{
    int64_t n = csv->base.count;
    double from = spec->n_part == 2 ? spec->part[0] : 0.0;
    double to = spec->n_part == 2 ? spec->part[1] : 1.0;
    int64_t first = (int64_t)floor(from * (double)n);
    int64_t end = (int64_t)floor(to * (double)n);
    if (!(from >= 0.0 && from < to && to <= 1.0)) {
        return ST_FAIL(ST_ERR_INVAL, "csv.part [%g, %g) is not inside [0, 1)", from, to);
    }
    if (end <= first) {
        return ST_FAIL(ST_ERR_DATA, "%s: part [%g, %g) of its %lld rows has none", csv->path, from, to, (long long)n);
    }
    csv->base.count = end - first;
    memmove(csv->inputs, csv->inputs + first * csv->n_inputs,
            (size_t)(csv->base.count * csv->n_inputs) * sizeof(float));
    memmove(csv->lines, csv->lines + first, (size_t)csv->base.count * sizeof(*csv->lines));
    if (csv->values != NULL) {
        memmove(csv->values, csv->values + first * csv->n_targets,
                (size_t)(csv->base.count * csv->n_targets) * sizeof(float));
    } else {
        memmove(csv->labels, csv->labels + first, (size_t)csv->base.count * sizeof(*csv->labels));
    }
    return ST_OK;
}

/* Numbers for the classes of all rows, those outside the part too. */
static status_t classes_number(csv_dataset_t *csv, const wrk_dataset_t *like)
{
    int64_t row = 0;
    status_t status = wrk_classes_number(&csv->base, &csv->row_names, like, &csv->labels, &row);
    wrk_names_release(&csv->row_names);
    return status == ST_OK || row < 0
               ? status
               : status_add_context(status, "%s: line %lld", csv->path, (long long)csv->lines[row]);
}

/* x - mean / deviation of each column, over the training rows; a column of one value becomes 0. */
static status_t inputs_normalise(csv_dataset_t *csv, const csv_dataset_t *like)
{
    int64_t n = csv->n_inputs;
    csv->mean = mem_calloc((size_t)n, sizeof(double));
    csv->deviation = mem_calloc((size_t)n, sizeof(double));
    if (csv->mean == NULL || csv->deviation == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "%lld columns", (long long)n);
    }
    for (int64_t c = 0; c < n; c++) {
        double sum = 0;
        double squares = 0;
        for (int64_t i = 0; i < csv->base.count; i++) {
            sum += (double)csv->inputs[i * n + c];
        }
        csv->mean[c] = like != NULL ? like->mean[c] : sum / (double)csv->base.count;
        for (int64_t i = 0; i < csv->base.count; i++) {
            double distance = (double)csv->inputs[i * n + c] - csv->mean[c];
            squares += distance * distance;
        }
        csv->deviation[c] = like != NULL ? like->deviation[c] : sqrt(squares / (double)csv->base.count);
        double divisor = csv->deviation[c] > 0 ? csv->deviation[c] : 1;
        for (int64_t i = 0; i < csv->base.count; i++) {
            csv->inputs[i * n + c] = (float)(((double)csv->inputs[i * n + c] - csv->mean[c]) / divisor);
        }
    }
    return ST_OK;
}

static status_t like_check(const csv_dataset_t *csv, const Gradd__V1__Csv *spec, const csv_dataset_t *like)
{
    if (like == NULL) {
        return ST_OK;
    }
    if (like->n_inputs != csv->n_inputs || like->n_targets != csv->n_targets ||
        (like->values == NULL) != spec->classes || (like->mean == NULL) != !spec->normalize) {
        return ST_FAIL(
            ST_ERR_DATA,
            "%s: %lld inputs and %lld targets; the training data has %lld and %lld, and classes and normalize "
            "must be the same too",
            csv->path, (long long)csv->n_inputs, (long long)csv->n_targets, (long long)like->n_inputs,
            (long long)like->n_targets);
    }
    for (int64_t i = 0; i < csv->n_columns && i < like->n_columns; i++) {
        const char *a = csv->columns[i].name;
        const char *b = like->columns[i].name;
        if (a != NULL && b != NULL && strcmp(a, b) != 0) {
            return ST_FAIL(ST_ERR_DATA, "%s: column %lld is \"%.60s\"; in the training data it is \"%.60s\"", csv->path,
                           (long long)i, a, b);
        }
    }
    return ST_OK;
}

static status_t table_finish(csv_dataset_t *csv, const Gradd__V1__Csv *spec, const csv_dataset_t *like)
{
    status_t status = like_check(csv, spec, like);
    if (status == ST_OK && csv->base.count == 0) {
        status = ST_FAIL(ST_ERR_DATA, "%s: a table without rows", csv->path);
    }
    if (status == ST_OK && spec->classes) {
        status = classes_number(csv, like != NULL ? &like->base : NULL);
    }
    if (status == ST_OK) {
        status = part_keep(csv, spec);
    }
    if (status == ST_OK && spec->normalize) {
        status = inputs_normalise(csv, like);
    }
    return status;
}

static status_t spec_check(const Gradd__V1__Csv *spec)
{
    if (spec->path == NULL || spec->n_target == 0) {
        return ST_FAIL(ST_ERR_INVAL, "csv.%s is missing", spec->path == NULL ? "path" : "target");
    }
    if (spec->classes && spec->n_target != 1) {
        return ST_FAIL(ST_ERR_INVAL, "csv.target has %zu columns; with classes it is one", spec->n_target);
    }
    if (strlen(spec->delimiter) != 1 || strchr("\"\n\r", spec->delimiter[0]) != NULL) {
        return ST_FAIL(ST_ERR_INVAL, "csv.delimiter \"%.20s\" is not one character", spec->delimiter);
    }
    return ST_OK;
}

status_t wrk_csv_open(const Gradd__V1__Csv *spec, const wrk_dataset_options_t *options, wrk_dataset_t **dataset_p)
{
    wrk_paths_t paths = {0};
    status_t status = spec_check(spec);
    if (status != ST_OK) {
        return status;
    }
    csv_dataset_t *csv = mem_zalloc(sizeof(*csv));
    if (csv == NULL) {
        return ST_FAIL(ST_ERR_NOMEM, "dataset");
    }
    csv->base.ops = &csv_ops;
    wrk_dataset_set_ignored(&csv->base, options);
    csv->path = mem_strdup(spec->path);
    status = csv->path != NULL ? wrk_paths_find(spec->path, &paths) : ST_FAIL(ST_ERR_NOMEM, "dataset");
    for (int i = 0; i < paths.n_items && status == ST_OK; i++) {
        status = file_read(csv, spec, paths.item[i]);
    }
    wrk_paths_release(&paths);
    if (status == ST_OK) {
        bool is_same_kind = options->like != NULL && options->like->ops == &csv_ops;
        status = table_finish(csv, spec, is_same_kind ? (const csv_dataset_t *)options->like : NULL);
    }
    if (status != ST_OK) {
        csv_close(&csv->base);
        return status;
    }
    wrk_dataset_field_init(&csv->base.input, GD_DTYPE_F32, 1, &csv->n_inputs);
    if (spec->classes) {
        wrk_dataset_field_init(&csv->base.target, GD_DTYPE_I64, 0, NULL);
    } else {
        wrk_dataset_field_init(&csv->base.target, GD_DTYPE_F32, 1, &csv->n_targets);
    }
    *dataset_p = &csv->base;
    return ST_OK;
}
