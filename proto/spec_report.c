/* SPDX-License-Identifier: Apache-2.0 */
/* spec_report: the list of problems, and the nearest right word for a wrong one. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "proto/spec_internal.h"

enum { MAX_COLLECTED = 1000, MAX_WORD = 64 };

void spec_problems_release(spec_problems_t *problems)
{
    for (int i = 0; i < problems->n_items; i++) {
        mem_free(problems->items[i].file);
        mem_free(problems->items[i].message);
    }
    mem_free(problems->items);
    *problems = (spec_problems_t){0};
}

void spec_problems_format(const spec_problems_t *problems, strbuf_t *text)
{
    for (int i = 0; i < problems->n_items; i++) {
        const spec_problem_t *problem = &problems->items[i];
        strbuf_append(text, problem->file);
        if (problem->line > 0) {
            strbuf_appendf(text, ":%d:%d", problem->line, problem->column);
        }
        strbuf_append(text, ": ");
        strbuf_append(text, problem->message);
        strbuf_append_char(text, '\n');
    }
}

/* A "%.40s" may cut a character in two; the text of a job is UTF-8, so what is left of one is at most 3 bytes. */
static void cut_characters_drop(char *text)
{
    char *to = text;
    for (const char *at = text; *at != '\0';) {
        unsigned char lead = (unsigned char)*at;
        size_t n = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
        size_t n_there = 1;
        while (n_there < n && ((unsigned char)at[n_there] & 0xc0) == 0x80) {
            n_there++;
        }
        if (n_there == n) {
            memmove(to, at, n);
            to += n;
        }
        at += n_there;
    }
    *to = '\0';
}

void spec_report(spec_report_t *report, spec_place_t place, const char *format, ...)
{
    spec_problems_t *problems = report->problems;
    if (problems->n_items >= MAX_COLLECTED) {
        return;
    }
    int n = problems->n_items;
    if (n == 0 || (n & (n - 1)) == 0) { /* the list doubles whenever it is full */
        size_t capacity = n == 0 ? 1 : 2 * (size_t)n;
        spec_problem_t *items = mem_realloc(problems->items, capacity * sizeof(*items));
        if (items == NULL) {
            report->is_out_of_memory = true;
            return;
        }
        problems->items = items;
    }
    strbuf_t text = {0};
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    cut_characters_drop(line);
    strbuf_append(&text, line);
    spec_problem_t problem = {.file = mem_strdup(place.file != NULL ? place.file : report->main_file),
                              .line = place.line,
                              .column = place.column,
                              .message = strbuf_detach(&text)};
    if (problem.file == NULL || problem.message == NULL) {
        mem_free(problem.file);
        mem_free(problem.message);
        report->is_out_of_memory = true;
        return;
    }
    problems->items[problems->n_items++] = problem;
}

typedef struct ranked {
    spec_problem_t problem;
    int file_rank, index;
} ranked_t;

static int ranked_compare(const void *a, const void *b)
{
    const ranked_t *x = a;
    const ranked_t *y = b;
    if (x->file_rank != y->file_rank) {
        return x->file_rank < y->file_rank ? -1 : 1;
    }
    if (x->problem.line != y->problem.line) {
        return x->problem.line < y->problem.line ? -1 : 1;
    }
    if (x->problem.column != y->problem.column) {
        return x->problem.column < y->problem.column ? -1 : 1;
    }
    return x->index < y->index ? -1 : 1;
}

/* The job's file comes first, then the others in the order in which they were first named. */
static int ranked_file(const spec_report_t *report, const spec_problem_t *items, int index)
{
    if (strcmp(items[index].file, report->main_file) == 0) {
        return -1;
    }
    for (int i = 0; i < index; i++) {
        if (strcmp(items[i].file, items[index].file) == 0) {
            return i;
        }
    }
    return index;
}

void spec_report_finish(spec_report_t *report)
{
    spec_problems_t *problems = report->problems;
    if (problems->n_items == 0) {
        return;
    }
    ranked_t *ranked = mem_calloc((size_t)problems->n_items, sizeof(*ranked));
    if (ranked == NULL) {
        report->is_out_of_memory = true;
        return;
    }
    for (int i = 0; i < problems->n_items; i++) {
        ranked[i] = (ranked_t){problems->items[i], ranked_file(report, problems->items, i), i};
    }
    qsort(ranked, (size_t)problems->n_items, sizeof(*ranked), ranked_compare);
    for (int i = 0; i < problems->n_items; i++) {
        problems->items[i] = ranked[i].problem;
        if (i >= SPEC_MAX_PROBLEMS) {
            mem_free(problems->items[i].file);
            mem_free(problems->items[i].message);
        }
    }
    if (problems->n_items > SPEC_MAX_PROBLEMS) {
        problems->n_items = SPEC_MAX_PROBLEMS;
    }
    mem_free(ranked);
}

/* Optimal string alignment: insert, delete, replace, swap of neighbours. */
static int word_distance(const char *a, const char *b)
{
    int rows[3][MAX_WORD + 1];
    int length_a = (int)strlen(a);
    int length_b = (int)strlen(b);
    if (length_a > MAX_WORD || length_b > MAX_WORD) {
        return MAX_WORD;
    }
    for (int j = 0; j <= length_b; j++) {
        rows[0][j] = j;
    }
    for (int i = 1; i <= length_a; i++) {
        int *row = rows[i % 3];
        const int *above = rows[(i + 2) % 3];
        const int *above2 = rows[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= length_b; j++) {
            int best = above[j - 1] + (a[i - 1] != b[j - 1]);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && above2[j - 2] + 1 < best) {
                best = above2[j - 2] + 1;
            }
            row[j] = best;
        }
    }
    return rows[length_a % 3][length_b];
}

/* Whether one goes on where the other ends: kernel, kernel_size; valid, validation. */
static bool word_continues(const char *a, const char *b)
{
    static const size_t N_LEAST = 4;
    const size_t n_a = strlen(a);
    const size_t n_b = strlen(b);
    const size_t n = n_a < n_b ? n_a : n_b;
    return n >= N_LEAST && strncmp(a, b, n) == 0;
}

const char *spec_nearest(const char *text, const char *const *candidates, int n_candidates)
{
    const char *nearest = NULL;
    int limit = (int)strlen(text) / 3 + 1; /* a third of the letters may be wrong */
    int best = (limit < 4 ? limit : 4) + 1;
    for (int i = 0; i < n_candidates; i++) {
        int distance = word_distance(text, candidates[i]);
        if (distance < best && distance < (int)strlen(candidates[i])) {
            best = distance;
            nearest = candidates[i];
        }
    }
    for (int i = 0; i < n_candidates && nearest == NULL; i++) {
        nearest = word_continues(text, candidates[i]) ? candidates[i] : NULL;
    }
    return nearest;
}

const char *spec_suggest(const char *text, const char *const *candidates, int n_candidates, char buffer[128])
{
    const char *nearest = spec_nearest(text, candidates, n_candidates);
    buffer[0] = '\0';
    if (nearest != NULL) {
        (void)snprintf(buffer, 128, "; did you mean \"%s\"?", nearest);
    }
    return buffer;
}
