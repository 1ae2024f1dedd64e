/* SPDX-License-Identifier: Apache-2.0 */
/* render: JSON values as JSON, YAML and CSV; tables. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "daemon/ctl/ctl.h"

enum { REAL_DIGITS = 10 };

/* ---- YAML ---- */

static bool text_is_plain(const char *text)
{
    static const char *const words[] = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"};
    if (!isalpha((unsigned char)text[0]) && text[0] != '_' && text[0] != '/') {
        return false;
    }
    for (const char *c = text; *c != '\0'; c++) {
        if (!isalnum((unsigned char)*c) && strchr("_./-", *c) == NULL) {
            return false;
        }
    }
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcasecmp(words[i], text) == 0) {
            return false;
        }
    }
    return true;
}

static void yaml_scalar(const json_t *value)
{
    if (json_is_string(value) && text_is_plain(json_string_value(value))) {
        (void)fputs(json_string_value(value), stdout);
        return;
    }
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(REAL_DIGITS)); /* JSON is YAML */
    (void)fputs(text != NULL ? text : "null", stdout);
    free(text);
}

static bool json_is_empty(const json_t *value)
{
    return (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

/* Writes value behind "key:" or "-": on the same line, or below it and deeper. The values here are ≤ 4 deep. */
static void yaml_value(const json_t *value, int indent, bool is_item)
{
    if (json_is_empty(value)) {
        (void)fputs(json_is_object(value) ? " {}\n" : " []\n", stdout);
        return;
    }
    if (json_is_object(value)) {
        bool is_first = true;
        const char *key;
        json_t *child;
        json_object_foreach((json_t *)(uintptr_t)value, key, child)
        {
            if (is_first && is_item) {
                (void)fputc(' ', stdout);
            } else {
                (void)printf("%s%*s", is_first && indent > 0 ? "\n" : "", indent, "");
            }
            is_first = false;
            (void)printf("%s:", key);
            yaml_value(child, indent + 2, false);
        }
    } else if (json_is_array(value)) {
        (void)fputs(indent > 0 ? "\n" : "", stdout);
        for (size_t i = 0; i < json_array_size(value); i++) {
            (void)printf("%*s-", indent, "");
            yaml_value(json_array_get(value, i), indent + 2, true);
        }
    } else {
        (void)fputc(' ', stdout);
        yaml_scalar(value);
        (void)fputc('\n', stdout);
    }
}

/* ---- CSV ---- */

void ctl_csv_cell(FILE *file, const char *text, bool is_last)
{
    if (strpbrk(text, ",\"\r\n") != NULL) {
        (void)fputc('"', file);
        for (const char *c = text; *c != '\0'; c++) {
            (void)fprintf(file, *c == '"' ? "\"\"" : "%c", *c);
        }
        (void)fputc('"', file);
    } else {
        (void)fputs(text, file);
    }
    (void)fputs(is_last ? "\n" : ",", file);
}

static void csv_value(const json_t *value, bool is_last)
{
    if (json_is_null(value)) {
        ctl_csv_cell(stdout, "", is_last);
    } else if (json_is_string(value)) {
        ctl_csv_cell(stdout, json_string_value(value), is_last);
    } else {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(REAL_DIGITS));
        ctl_csv_cell(stdout, text != NULL ? text : "", is_last);
        free(text);
    }
}

/* An array of objects with the same keys; the first one's keys are the header. */
static void csv_write(const json_t *rows)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_t *row = json_array_get(rows, i);
        size_t n = json_object_size(row);
        const char *key;
        json_t *child;
        size_t column = 0;
        if (i == 0) {
            json_object_foreach(row, key, child)
            {
                ctl_csv_cell(stdout, key, ++column == n);
            }
        }
        column = 0;
        json_object_foreach(row, key, child)
        {
            csv_value(child, ++column == n);
        }
    }
}

void ctl_render(const ctl_t *ctl, const json_t *value)
{
    if (ctl->format == CTL_YAML) {
        if (json_is_empty(value)) {
            (void)puts(json_is_object(value) ? "{}" : "[]");
        } else {
            yaml_value(value, 0, false);
        }
    } else if (ctl->format == CTL_CSV) {
        if (json_is_array(value)) {
            csv_write(value);
        } else {
            json_t *rows = json_array();
            (void)json_array_append(rows, (json_t *)(uintptr_t)value);
            csv_write(rows);
            json_decref(rows);
        }
    } else {
        (void)json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(REAL_DIGITS));
        (void)fputc('\n', stdout);
    }
    (void)fflush(stdout);
}

void ctl_render_line(const json_t *value)
{
    (void)json_dumpf(value, stdout, JSON_COMPACT | JSON_REAL_PRECISION(REAL_DIGITS));
    (void)fputc('\n', stdout);
    (void)fflush(stdout);
}

/* ---- tables ---- */

static void cell_add(ctl_table_t *table, const char *text, Gradd__V1__State state)
{
    size_t n = (size_t)table->n_cells + 1;
    char **cells = mem_realloc(table->cells, n * sizeof(*cells));
    if (cells == NULL) {
        return;
    }
    table->cells = cells;
    Gradd__V1__State *states = mem_realloc(table->states, n * sizeof(*states));
    char *copy = mem_strdup(text != NULL ? text : "");
    if (states == NULL || copy == NULL) {
        mem_free(copy);
        return;
    }
    for (char *c = copy; *c != '\0'; c++) {
        *c = (unsigned char)*c < ' ' || *c == 0x7f ? ' ' : *c;
    }
    table->states = states;
    table->cells[table->n_cells] = copy;
    table->states[table->n_cells++] = state;
}

void ctl_table_add(ctl_table_t *table, const char *text)
{
    cell_add(table, text, (Gradd__V1__State)0);
}

void ctl_table_add_state(ctl_table_t *table, Gradd__V1__State state)
{
    cell_add(table, ctl_state_name(state), state);
}

/* Characters, taken as one column each. */
static int text_width(const char *text)
{
    int width = 0;
    for (const char *c = text; *c != '\0'; c++) {
        width += ((unsigned char)*c & 0xc0) != 0x80;
    }
    return width;
}

/* Bytes of the first `width` characters. */
static int text_cut(const char *text, int width)
{
    const char *c = text;
    while (*c != '\0' && width > 0) {
        do {
            c++;
        } while (((unsigned char)*c & 0xc0) == 0x80);
        width--;
    }
    return (int)(c - text);
}

void ctl_table_write(const ctl_t *ctl, const ctl_table_t *table)
{
    int n = table->n_columns;
    int *widths = mem_calloc((size_t)n, sizeof(*widths));
    if (widths == NULL) {
        return;
    }
    for (int i = 0; i < table->n_cells; i++) {
        int width = text_width(table->cells[i]);
        widths[i % n] = width > widths[i % n] ? width : widths[i % n];
    }
    int before_last = 0;
    for (int i = 0; i + 1 < n; i++) {
        before_last += widths[i] + 2;
    }
    for (int i = 0; i < table->n_cells; i++) {
        const char *text = table->cells[i];
        bool is_last = i % n == n - 1;
        int room = ctl->is_terminal && is_last ? ctl->columns - before_last : widths[i % n];
        int bytes = text_cut(text, room > 8 ? room : widths[i % n]);
        bool is_header = i < n && n > 2;
        const char *color = table->states[i] != 0 ? ctl_state_color(ctl, table->states[i]) : "";
        (void)printf("%s%.*s%s", is_header && ctl->has_color ? "\033[1m" : color, bytes, text,
                     color[0] != '\0' || is_header ? ctl_color_end(ctl) : "");
        if (is_last) {
            (void)fputc('\n', stdout);
        } else {
            (void)printf("%*s", widths[i % n] - text_width(text) + 2, "");
        }
    }
    (void)fflush(stdout);
    mem_free(widths);
}

void ctl_table_release(ctl_table_t *table)
{
    for (int i = 0; i < table->n_cells; i++) {
        mem_free(table->cells[i]);
    }
    mem_free(table->cells);
    mem_free(table->states);
    *table = (ctl_table_t){.n_columns = table->n_columns};
}
